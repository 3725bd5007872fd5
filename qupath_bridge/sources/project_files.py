"""The files of a project wherever they are, and the slides that they list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Protocol

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.files.finding import find_project_file
from qupath_bridge.qupath.files.qpproj import ProjectFile, read_json, read_project
from qupath_bridge.qupath.files.uris import (
    FileSearch,
    Resolution,
    check_search_folder,
    resolve,
)
from qupath_bridge.qupath.qpdata.reading import read_image_data
from qupath_bridge.urls import absolute, url_of

from .base import project_errors
from .entries import SUMMARY, ReadFile, missing_everything, read_entry
from .stored_files import StoredFiles

__all__ = ["ProjectFiles", "project_files", "resolved_slides"]


class ProjectFiles(Protocol):
    """The files of one project. Of an entry nothing is read before it is asked for."""

    @property
    def path(self) -> Path:
        """The project file: a path, or a URL as :mod:`qupath_bridge.urls` writes it."""
        ...

    def read(self) -> ProjectFile:
        """Return what the project file says, and the small files beside it.

        Raises
        ------
        ProjectError
            If they cannot be read.
        """
        ...

    def content(self) -> bytes:
        """Return the bytes of the project file."""
        ...

    def summaries(self, entry_ids: Sequence[str]) -> Mapping[str, Any]:
        """Return the JSON of QuPath's summaries; entries that have none are left out, or None."""
        ...

    def has_data(self) -> bool:
        """Return whether the project has its folder ``data``."""
        ...

    def exists(self, path: PurePath) -> bool:
        """Return whether there is a file, of this machine or where the project is."""
        ...

    def reading(
        self, entry_id: str, read_file: ReadFile = read_image_data
    ) -> Callable[[bool], ImageData]:
        """Return the function that reads an entry, as :func:`~.entries.read_entry` does."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The files of a project on this machine; see :class:`ProjectFiles`."""

    path: Path

    def read(self) -> ProjectFile:
        """Return what the project file says, and the small files beside it."""
        return read_project(self.path)

    def content(self) -> bytes:
        """Return the bytes of the project file."""
        return self.path.read_bytes()

    def summaries(self, entry_ids: Sequence[str]) -> Mapping[str, Any]:
        """Return the JSON of QuPath's summaries, of the entries that have one."""
        return dict(_summaries(self._data, entry_ids))

    def has_data(self) -> bool:
        """Return whether the project has its folder ``data``."""
        return self._data.is_dir()

    def exists(self, path: PurePath) -> bool:
        """Return whether there is a file."""
        return Path(path).exists()

    def reading(
        self, entry_id: str, read_file: ReadFile = read_image_data
    ) -> Callable[[bool], ImageData]:
        """Return the function that reads an entry."""
        return partial(read_entry, self._data / entry_id, entry_id, read_file=read_file)

    @property
    def _data(self) -> Path:
        return self.path.absolute().parent / "data"


def _summaries(data: Path, entry_ids: Iterable[str]) -> Iterable[tuple[str, Any]]:
    for entry_id in entry_ids:
        path = data / entry_id / SUMMARY
        if path.is_file():
            try:
                yield entry_id, read_json(path)
            except ProjectError:
                continue  # reading the slide will say so


def project_files(location: Path) -> ProjectFiles:
    """Return the files of a project, or of the only one in a folder.

    Parameters
    ----------
    location : Path
        The project file or its folder; a URL of object storage may be written as a path.

    Raises
    ------
    ProjectError
        If there is none.
    """
    with project_errors(location):
        path = find_project_file(location)
        return LocalFiles(path) if url_of(path) is None else StoredFiles.at(path)


def resolved_slides(
    files: ProjectFiles,
    file: ProjectFile,
    *,
    slide_map: Mapping[str, str] | None,
    search: Sequence[Path | str],
    read_file: ReadFile = read_image_data,
) -> tuple[tuple[Slide, ...], tuple[str, ...]]:
    """Look for the files of a project's slides.

    Returns
    -------
    tuple of Slide
        A slide whose file was not found has no ``path``; ``tried`` says where it was looked for.
    tuple of str
        The project's problems; missing slide files are none, because nobody may ask for them.

    Raises
    ------
    UsageError
        If a folder to search does not exist.
    """
    info, places = file.info, slide_map or {}
    find = FileSearch([check_search_folder(place) for place in search]) if search else None
    used: set[str] = set()
    slides = []
    with project_errors(files.path):
        summaries = files.summaries([s.entry_id for s in file.slides if s.width is None])
        for slide in file.slides:
            slide = _with_size(slide, summaries.get(slide.entry_id))
            found = Resolution()
            if slide.uri is not None:
                found = resolve(
                    slide.uri,
                    project_folder=absolute(info.folder),
                    project_uri=info.uri,
                    slide_map=places,
                    find=find,
                    exists=files.exists,
                )
            used.update(found.mapped)
            path = None if found.path is None else Path(found.path)
            slides.append(
                replace(
                    slide, path=path, path_origin=found.origin, tried=found.tried,
                    _load=files.reading(slide.entry_id, read_file),
                )
            )  # fmt: skip
        problems = list(file.problems)
        if file.slides and not files.has_data():
            problems.append(str(missing_everything(info)))
    problems += [
        f"No slide of {info.shown} fits the option slide_map {old}={new}."
        for old, new in places.items()
        if old not in used
    ]
    return tuple(slides), tuple(problems)


def _with_size(slide: Slide, summary: Any) -> Slide:
    """Add the sizes that QuPath recorded when it saved the slide, where the project lacks them.

    Without a size nothing tells one image of a file from another.
    """
    if slide.width is not None or summary is None:
        return slide
    try:
        server = summary["server"]
        sizes = [server["width"], server["height"], server.get("sizeZ", 1), server.get("sizeT", 1)]
    except (LookupError, TypeError, AttributeError):
        return slide  # reading the slide will say so
    if any(type(size) is not int or size < 1 for size in sizes):
        return slide
    width, height, size_z, size_t = sizes
    return replace(slide, width=width, height=height, size_z=size_z, size_t=size_t)
