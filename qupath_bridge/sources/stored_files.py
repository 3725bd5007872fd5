"""The files of a project in object storage: those that are used are copied, and read as on a disk.

Nothing is written there. A copy is in the cache of slides, and belongs to one version of the files
by their ETags: each reading asks for the version of now, so that what is saved meanwhile is seen as
on a disk, and never a mix of two versions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.model import ImageData
from qupath_bridge.parallel import ordered_map
from qupath_bridge.qupath.files.qpproj import ProjectFile, project_name, read_project
from qupath_bridge.qupath.qpdata.reading import read_image_data
from qupath_bridge.schemas import parse_json
from qupath_bridge.stores.base import Store
from qupath_bridge.stores.files import ListedFiles, store_of
from qupath_bridge.stores.staging import Lease, StagedObject, cache_of_process
from qupath_bridge.urls import place_text

from .base import missing_data, project_errors
from .entries import BACKUP, DATA, PAUSES, SUMMARY, ReadFile, read_entry

__all__ = ["StoredFiles"]

_BESIDE = ("classifiers/classes.json", "data/metadata.json")
"""Files that are read with the project file, where they exist."""


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The files of a project in object storage; see :class:`~.project_files.ProjectFiles`."""

    path: Path
    store: Store
    _listed: ListedFiles = field(default_factory=ListedFiles, repr=False, compare=False)

    @classmethod
    def at(cls, path: Path) -> StoredFiles:
        """Return the files of the project file at a URL, written as a path."""
        place = store_of(path)
        if place is None:  # not of a URL
            raise AssertionError(path)
        return cls(path, place[0])

    def read(self) -> ProjectFile:
        """Return what the project file says, and the small files beside it."""

        def objects() -> list[StagedObject]:
            names = (self.path.name, *filter(self.store.exists, _BESIDE))
            return [_object(self.store, name) for name in names]

        with project_errors(self.path), _copied(objects, self.path.parent, self.path) as folder:
            file = read_project(folder / self.path.name)
            problems = tuple(_renamed(text, folder, self.path.parent) for text in file.problems)
        info = replace(file.info, path=self.path, name=project_name(self.path))
        slides = tuple(replace(slide, project=info) for slide in file.slides)
        return ProjectFile(info, slides, problems)

    def content(self) -> bytes:
        """Return the bytes of the project file."""
        return self.store.get(self.path.name)

    def summaries(self, entry_ids: Sequence[str]) -> Mapping[str, Any]:
        """Return the JSON of QuPath's summaries; None of entries that have none."""
        found = ordered_map(self._summary, entry_ids, workers=self.store.at_once)
        return dict(zip(entry_ids, found, strict=True))

    def _summary(self, entry_id: str) -> Any:
        try:
            return parse_json(self.store.get(f"data/{entry_id}/{SUMMARY}"))
        except (OutputError, ValueError):
            return None  # reading the slide will say so

    def has_data(self) -> bool:
        """Return whether the project has its folder ``data``."""
        return _has_data(self.store)

    def exists(self, path: PurePath) -> bool:
        """Return whether there is a file, of this machine or in object storage."""
        return self._listed(path)

    def reading(
        self, entry_id: str, read_file: ReadFile = read_image_data
    ) -> Callable[[bool], ImageData]:
        """Return the function that reads an entry."""
        return partial(_read_entry, self.store, self.path.parent, entry_id, read_file=read_file)


def _read_entry(
    store: Store, project: Path, entry_id: str, detections: bool = False, *, read_file: ReadFile
) -> ImageData:
    """Read what is stored for an entry now; see :func:`~.entries.read_entry`.

    The folder of an entry is the beginning of names: an empty one does not exist.
    """
    data = f"data/{entry_id}/"
    folder = project / "data" / entry_id

    def objects() -> list[StagedObject]:
        names = list(store.children(data))
        if not names:
            raise missing_data(folder, whole=not _has_data(store))
        wanted = [f"{data}{name}" for name in (DATA, BACKUP, SUMMARY)]
        return [_object(store, name) for name in wanted if name in names]

    with project_errors(folder), _copied(objects, project, folder) as copy:
        place = copy / "data" / entry_id
        if not place.is_dir():
            return ImageData()  # nothing of this slide was ever saved
        image = read_entry(place, entry_id, detections, read_file=read_file)
    problems = tuple(_renamed(text, copy, project) for text in image.problems)
    return replace(image, problems=problems)


def _has_data(store: Store) -> bool:
    return any(True for _ in store.list("data/"))


def _object(store: Store, name: str) -> StagedObject:
    return StagedObject(store, name, name, store.state(name))


@contextmanager
def _copied(
    objects: Callable[[], list[StagedObject]], project: Path, shown: Path
) -> Iterator[Path]:
    """Give a folder with copies of some files of a project; errors name the files themselves."""
    lease = _lease(objects, place_text(shown))
    try:
        yield lease.folder
    except ProjectError as error:
        renamed = partial(_renamed, copy=lease.folder, project=project)
        raise ProjectError(
            renamed(error.problem),
            path=error.path and renamed(str(error.path)),
            offset=error.offset,
            expected=error.expected,
            hint=error.hint and renamed(error.hint),
        ) from error
    finally:
        lease.release()


def _renamed(text: str, copy: Path, project: Path) -> str:
    """Return a text about files with their places in the project, in place of those of copies."""
    return text.replace(str(copy), place_text(project))


def _lease(objects: Callable[[], list[StagedObject]], shown: str) -> Lease:
    """Copy files that somebody may be writing: as on a disk, we look again a few times."""
    pauses = iter(PAUSES)
    while True:
        found = objects()
        try:
            return cache_of_process().lease(found, shown)
        except OutputError:
            pause = next(pauses, None)
            if pause is None or objects() == found:
                raise
        time.sleep(pause)
