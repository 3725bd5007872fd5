"""Projects made of values, without any file: for tests, and for annotations of other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

from qupath_bridge.errors import ProjectError, UsageError
from qupath_bridge.model import (
    ClassInfo,
    ImageData,
    PixelSize,
    ProjectInfo,
    ServerBuilder,
    Slide,
    SourceRef,
)
from qupath_bridge.urls import url_of

from .base import Project, without_detections

__all__ = ["MemorySource", "memory_project", "memory_slide"]

_SCHEME = "memory:"
_NOWHERE = ProjectInfo(Path("memory.qpproj"), "memory", None)


def memory_slide(
    entry_id: str,
    name: str,
    data: ImageData | None = None,
    *,
    path: Path | None = None,
    size: tuple[int, int] | None = None,
    pixel_size: PixelSize | None = None,
    builder: ServerBuilder | None = None,
) -> Slide:
    """Make a slide of values; ``dataclasses.replace`` sets what is not named here.

    Parameters
    ----------
    data : ImageData, optional
        Result of :meth:`~qupath_bridge.model.Slide.read`; without objects when not given.
    path : Path, optional
        The slide file; it need not exist.
    size : (int, int), optional
        Width and height as QuPath would have recorded them, pixels.
    builder : ServerBuilder, optional
        The way in which the file is opened; the file as it is when not given.
    """
    width, height = size or (None, None)
    uri = None if path is None else url_of(path) or path.absolute().as_uri()
    return Slide(
        entry_id=entry_id,
        name=name,
        project=_NOWHERE,
        builder=builder or ServerBuilder({"builderType": "uri", "uri": uri, "args": ()}),
        uri=uri,
        path=path,
        path_origin=None if path is None else "as stored",
        width=width,
        height=height,
        pixel_size=pixel_size,
        _load=partial(_load, data or ImageData()),
    )


def memory_project(
    slides: Iterable[Slide],
    *,
    path: Path | str = _NOWHERE.path,
    name: str = "memory",
    classes: Sequence[ClassInfo] = (),
    version: str | None = None,
) -> Project:
    """Make a project of slides; ``path`` need not exist.

    ``open_source(project.ref)`` finds it again in this process, as long as the project or one
    of its slides is in use.

    >>> with memory_project([memory_slide("1", "A.svs")]) as project:
    ...     [slide.name for slide in project.slides], project.slides[0].read().annotations
    (['A.svs'], ())
    """
    ref = SourceRef(f"{_SCHEME}{uuid4().hex}", MemorySource.name)
    info = ProjectInfo(Path(path), name, version, tuple(classes), source=ref)
    entry = _Entry()
    own = tuple(replace(s, project=info, _load=_KeptLoad(s._load, entry)) for s in slides)
    entry.project = Project(info, own, ref, _close=entry.close)
    _PROJECTS[ref.location] = entry
    return entry.project


class MemorySource:
    """Opens the projects in memory of this process, by the ``ref.location`` of each.

    ``qupath`` is taken as by every source; this one needs no QuPath.
    """

    name = "memory"

    def __init__(self, *, qupath: Path | str | None = None) -> None:
        pass

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Return the project of this location; its slides stay where they are.

        Raises
        ------
        UsageError
            If another process made it, or nothing uses it any more.
        ProjectError
            If this is not the location of a project in memory.
        """
        entry = _PROJECTS.get(str(location))
        if entry is not None:
            return entry.project
        if str(location).startswith(_SCHEME):
            raise UsageError(
                f"{location}: this project is in memory and cannot be opened by another process.",
                hint="Keep it in use, stay in one process, or write it as a QuPath project.",
            )
        raise ProjectError("no project in memory is there", path=location)


class _Entry:
    """An entry of the table of projects: it lives as long as the project or one of its slides.

    A pickled project or slide carries its data, but is not in the table where it arrives.
    """

    project: Project

    def close(self) -> None:
        """Do nothing: values need not be given back."""

    def __reduce__(self) -> tuple[type[_Entry], tuple[()]]:
        return type(self), ()


_PROJECTS: WeakValueDictionary[str, _Entry] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class _KeptLoad:
    """Reads the objects of a slide, and keeps its project in the table."""

    load: Callable[[bool], ImageData]
    entry: _Entry

    def __call__(self, detections: bool) -> ImageData:
        return self.load(detections)


def _load(data: ImageData, detections: bool) -> ImageData:
    return data if detections else without_detections(data)
