"""The engine that reads and edits data files through QuPath's own classes."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from qupath_bridge.errors import MissingDependencyError, OutputError, ProjectError
from qupath_bridge.frozen import thaw
from qupath_bridge.model import ImageData, ObjectType, Slide, TmaGrid
from qupath_bridge.qupath.files.classes import default_rgb, pack_rgb
from qupath_bridge.qupath.files.qpproj import ProjectFile
from qupath_bridge.qupath.gc_pause import gc_paused
from qupath_bridge.qupath.geojson.tiles import Tile
from qupath_bridge.qupath.jvm.installation import Installation, find_installations, find_qupath
from qupath_bridge.qupath.jvm.messages import pack
from qupath_bridge.qupath.jvm.objects import objects_from_messages
from qupath_bridge.qupath.jvm.process import (
    HEAP,
    TIMEOUT,
    Child,
    ChildGoneError,
    EngineDiedError,
    RefusedError,
    start,
)
from qupath_bridge.qupath.qpdata.history import stain_numbers
from qupath_bridge.qupath.qpdata.reading import file_digest
from qupath_bridge.urls import url_of

from .base import Project, file_ref, project_errors
from .project_files import ProjectFiles, project_files, resolved_slides

__all__ = ["HEAP_VARIABLE", "PaquoSource"]

HEAP_VARIABLE = "QUPATH_BRIDGE_JAVA_MEMORY"
"""Environment variable for the memory that Java gets, as ``2g``."""


class PaquoSource:
    """Reads projects through QuPath's own classes, in a child process that has Java.

    Parameters
    ----------
    installation : Installation, optional
        The QuPath to use; the one that is found when not given.
    qupath : path, optional
        Its folder, in place of it.
    max_heap : str
        Most memory for Java's objects, in the words of ``-Xmx``; what the environment variable
        QUPATH_BRIDGE_JAVA_MEMORY says, else 1 GiB, when not given.
    timeout : float
        Seconds that one answer of QuPath may take; a child that is silent for longer is ended.

    Raises
    ------
    MissingDependencyError
        If there is no QuPath that can be used.

    Notes
    -----
    Each opened project has a child of its own, for QuPath keeps classes by name in each Java.
    The child ends with :meth:`~qupath_bridge.sources.base.Project.close`, or when nobody has
    the project's slides any more. The engine's own :meth:`edit` and :meth:`read_file` share one.
    """

    name = "paquo"

    def __init__(
        self,
        installation: Installation | None = None,
        *,
        qupath: Path | str | None = None,
        max_heap: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.installation = installation or _installation(qupath)
        self._max_heap = max_heap or os.environ.get(HEAP_VARIABLE) or HEAP
        self._timeout = timeout
        self._own = self._session()

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a project file, or the folder that holds exactly one.

        The list of slides is read from the project's JSON, as by the engine ``embedded``; QuPath
        opens the project too, and what it sees differently is in ``problems``.

        Raises
        ------
        ProjectError
            If the project cannot be read, by us or by QuPath.
        MissingDependencyError
            If QuPath cannot be started.
        """
        files = project_files(Path(location))
        file = files.read()
        session = self._session()
        try:
            with project_errors(files.path), _openable(files) as shown:
                seen = session.open(shown, file.info.path)
            slides, problems = resolved_slides(
                files, file, slide_map=slide_map, search=search, read_file=session.read
            )
        except BaseException:
            session.close()
            raise
        return Project(
            file.info,
            slides,
            file_ref(
                file.info.path,
                self.name,
                qupath=self.installation.folder,
                slide_map=slide_map,
                search=search,
            ),
            (*problems, *_disagreements(file, seen)),
            qupath_version=session.qupath_version,
            _close=session.close,
        )

    def read_file(self, path: Path, *, entry_id: str = "", detections: bool = True) -> ImageData:
        """Read one data file, in any folder.

        Raises
        ------
        ProjectError
            If it cannot be read, or changes while it is.
        EngineDiedError
            If the child process ended.
        """
        return self._own.read(path, entry_id=entry_id, detections=detections)

    def edit(
        self,
        source: Path | None,
        target: Path,
        *,
        slide: Slide,
        remove: Collection[str] = (),
        add: Iterable[Tile] = (),
    ) -> None:
        """Write a data file that is equal to ``source`` apart from its tiles.

        QuPath's classes read the objects and write them again. The children of a tile that is
        removed take its place; the new tiles come last, below the root. The slide is not opened.

        Parameters
        ----------
        source : Path or None
            The data file to start from; None for a slide that was never saved, whose image type
            is then not set.
        target : Path
            The new file; must not exist.
        slide : Slide
            The slide: its entry ID, and how its file is opened.
        remove : collection of str
            Ids of the tiles to remove; others are skipped.
        add : iterable of Tile

        Raises
        ------
        ProjectError
            If ``source`` cannot be read.
        OutputError
            If ``target`` cannot be written.
        EngineDiedError
            If the child process ended.
        """
        ids: list[str] | None = None
        if source is not None:
            # QuPath < 0.4 stored no ids: QuPath has to use the ones that we derive.
            ids = self._derived_ids(source, slide.entry_id)
        try:
            target.open("xb").close()
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error
        try:
            self._own.edit(source, target, slide=slide, ids=ids, remove=remove, add=tuple(add))
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _derived_ids(self, source: Path, entry_id: str) -> list[str] | None:
        few = self.read_file(source, entry_id=entry_id, detections=False)
        if few.objects and few.objects[0].id_origin == "qupath":
            return None
        objects = self.read_file(source, entry_id=entry_id).objects
        return [o.id for o in objects] if any(o.id_origin == "derived" for o in objects) else None

    def start(self) -> None:
        """Start Java now, rather than when something is first read or edited.

        Raises
        ------
        MissingDependencyError
            If it cannot be started.
        """
        self._own.start()

    def close(self) -> None:
        """End the child of :meth:`edit` and :meth:`read_file`, if there is one."""
        self._own.close()
        self._own = self._session()

    def _session(self) -> _Session:
        return _Session(self.installation, self._max_heap, self._timeout)


def _installation(qupath: Path | str | None) -> Installation:
    if qupath is None:
        return find_qupath()
    for candidate in find_installations(configured=qupath):
        if candidate.installation is not None and candidate.problem is None:
            return candidate.installation
        raise MissingDependencyError(f"{qupath}: {candidate.problem}.")
    raise MissingDependencyError(f"{qupath} is not a QuPath installation.")


@contextmanager
def _openable(files: ProjectFiles) -> Iterator[Path]:
    """Yield a project file that QuPath can open without a change to the project.

    QuPath makes the folder ``classifiers`` where it is missing; it is shown a copy then, and of a
    project in object storage.
    """
    path = files.path
    if url_of(path) is None and (path.parent / "classifiers").is_dir():
        yield path.absolute()
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(files.content())
        yield copy


def _disagreements(file: ProjectFile, seen: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say where QuPath's list of slides differs from ours."""
    qupath = {each["id"]: each for each in seen}
    listed = {slide.entry_id: slide for slide in file.slides}
    for entry_id in listed.keys() ^ qupath.keys():
        who = "QuPath" if entry_id in qupath else "this library"
        yield f"Slide {entry_id} is in the project's list for {who} alone."
    for entry_id, each in qupath.items():
        slide = listed.get(entry_id)
        if slide is None:
            continue
        facts: dict[str, tuple[Any, Any]] = {
            "description": (slide.description, each["description"]),
            "metadata": (dict(slide.metadata), each["metadata"]),
        }
        if each["tags"] is not None:  # QuPath < 0.6 knows no tags
            facts["tags"] = (list(slide.tags), each["tags"])
        for what, (mine, other) in facts.items():
            if (mine or None) != (other or None):
                yield f"Slide {entry_id} ({slide.name}): its {what} is {other!r} for QuPath."


class _Session:
    """A child that is started when it is needed, and again when it ended.

    A copy in another process (pickle) is open, and starts a child of its own when it is asked.
    """

    def __init__(self, installation: Installation, max_heap: str, timeout: float) -> None:
        self.folder = installation.folder
        self._arguments = (installation, max_heap, timeout)
        self._start = partial(start, installation, max_heap=max_heap, timeout=timeout)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._closed = False
        self.qupath_version: str | None = None

    def __reduce__(self) -> tuple[type[_Session], tuple[Installation, str, float]]:
        return type(self), self._arguments

    def open(self, shown: Path, path: Path) -> Sequence[Mapping[str, Any]]:
        """Let QuPath open a project, and return its list of slides."""
        with self._asking(path) as child:
            entries: list[Mapping[str, Any]] = child.ask({"do": "open", "path": str(shown)}).header[
                "entries"
            ]
            return entries

    def start(self) -> None:
        """Start the child."""
        with self._lock:
            self._running(self.folder)

    def read(self, path: Path, *, entry_id: str, detections: bool) -> ImageData:
        """Read a data file, and hold that it did not change meanwhile."""
        before = file_digest(path)
        with self._asking(path, entry_id) as child:
            question = {"do": "read", "path": str(path.absolute()), "detections": detections}
            messages = child.ask_many(question)
            about, more = next(messages).header, next(messages).header
            with gc_paused():
                objects = objects_from_messages(messages, entry_id) if more["more"] else ()
        if file_digest(path) != before:
            raise ProjectError(
                "the file was changed while it was read",
                path=path,
                hint="Wait until QuPath has saved, then try again.",
            )
        return _image_data(about, more, objects, before)

    def edit(
        self,
        source: Path | None,
        target: Path,
        *,
        slide: Slide,
        ids: list[str] | None,
        remove: Collection[str],
        add: Sequence[Tile],
    ) -> None:
        """Write a data file with other tiles."""
        question = {
            "do": "edit",
            "source": None if source is None else str(source.absolute()),
            "target": str(target.absolute()),
            "builder": thaw(slide.builder.json),
            "ids": ids,
            "remove": list(remove),
        }
        question |= _tile_texts(add)
        boxes = np.array([(*tile.box, *tile.plane) for tile in add], np.int32)
        message = pack(question, {"boxes": boxes.ravel()})
        with self._asking(target, slide.entry_id) as child:
            try:
                child.ask(message.header, message.body)
            except RefusedError as error:
                raise OutputError(f"{target}: QuPath cannot write it: {error}.") from error

    def close(self) -> None:
        """End the child; there will be no other."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.close()

    @contextmanager
    def _asking(self, path: Path, entry_id: str | None = None) -> Iterator[Child]:
        """Yield the child, and say what its failures mean for the file that is read."""
        of = "" if entry_id is None else f" (slide {entry_id})"
        with self._lock:
            try:
                child = self._running(path)
                try:
                    yield child
                except BaseException as error:
                    # What was not taken of an answer must not be taken for the next one.
                    if not isinstance(error, RefusedError | OutputError):
                        child.close(kill=True)
                    raise
            except RefusedError as error:
                raise ProjectError(
                    f"QuPath cannot read it{of}: {error}",
                    path=path,
                    hint="The engine 'embedded' says at which place a file is damaged.",
                ) from error
            except ChildGoneError as error:
                raise EngineDiedError(
                    f"the process with QuPath's classes {error}, while it had this file{of}",
                    path=path,
                    hint="Try the engine embedded, which needs no QuPath.",
                ) from error

    def _running(self, path: Path) -> Child:
        if self._closed:
            raise ProjectError("the project is closed", path=path, hint="Open it again.")
        if self._child is None or not self._child.usable:
            self._child, versions = self._start()
            self.qupath_version = versions.qupath
        return self._child


def _image_data(
    about: Mapping[str, Any], more: Mapping[str, Any], objects: tuple[Any, ...], digest: str
) -> ImageData:
    grid, stains = more["grid"], about["stains"]
    return ImageData(
        objects=objects,
        skipped={ObjectType(kind): count for kind, count in more["skipped"].items()},
        image_type=about["image_type"],
        stains=None if stains is None else stain_numbers(stains),
        workflow=tuple(about["workflow"]),
        properties=about["properties"],
        tma_grid=grid and TmaGrid(grid["width"], grid["height"], tuple(grid["cores"])),
        digest=digest,
        version=about["version"],
        qupath_version=about["qupath_version"],
        problems=tuple(about["problems"]),
    )


def _tile_texts(tiles: Sequence[Tile]) -> dict[str, Any]:
    """Return what tiles have besides their boxes; classes come once, with their colours."""
    classes: dict[tuple[str, int], int] = {}
    index = []
    for tile in tiles:
        if tile.class_path is None:
            index.append(-1)
            continue
        color = pack_rgb(*(tile.color or default_rgb(tile.class_path)))
        index.append(classes.setdefault((tile.class_path, color), len(classes)))
    return {
        "id": [tile.id for tile in tiles],
        "name": [tile.name or None for tile in tiles],
        "classes": list(classes),
        "class": index,
        "measurements": [_finite(tile.measurements) for tile in tiles],
        "metadata": [dict(tile.metadata) for tile in tiles],
    }


def _finite(measurements: Mapping[str, float]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in measurements.items()}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}
