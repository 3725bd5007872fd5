"""Projects made of values, without any file: for tests, and for annotations from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import (
    ClassInfo,
    ImageData,
    ObjectType,
    PathObject,
    PixelSize,
    ProjectInfo,
    ServerBuilder,
    Slide,
)

from .base import Project

__all__ = ["MemoryEngine", "memory_project", "memory_slide"]

_LISTED = {ObjectType.ANNOTATION, ObjectType.TMA_CORE}
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
        What :meth:`~qupath_bridge.model.Slide.read` returns: an image without objects when not
        given.
    path : Path, optional
        The slide file.
    size : (int, int), optional
        Width and height as QuPath would have recorded them, pixels.
    builder : ServerBuilder, optional
        How the image is opened: the file as it is when not given.
    """
    width, height = size or (None, None)
    uri = None if path is None else path.absolute().as_uri()
    return Slide(
        entry_id=entry_id,
        name=name,
        project=_NOWHERE,
        builder=builder
        or ServerBuilder(MappingProxyType({"builderType": "uri", "uri": uri, "args": ()})),
        uri=uri,
        path=path,
        path_origin=None if path is None else "as stored",
        width=width,
        height=height,
        pixel_size=pixel_size,
        load=partial(_load, data or ImageData()),
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

    >>> with memory_project([memory_slide("1", "A.svs")]) as project:
    ...     [slide.name for slide in project.slides], project.slides[0].read().annotations
    (['A.svs'], ())
    """
    info = ProjectInfo(Path(path), name, version, tuple(classes))
    return Project(info, tuple(replace(s, project=info) for s in slides), MemoryEngine.name)


@dataclass(frozen=True, slots=True)
class MemoryEngine:
    """Opens the projects that it was given, by their path."""

    projects: Sequence[Project]
    name = "memory"

    def open(
        self,
        path: Path,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path] = (),
    ) -> Project:
        """Return the project of this path, or of this folder; its slides stay where they are."""
        for project in self.projects:
            if path in {project.info.path, project.info.folder}:
                return project
        raise ProjectError("there is no project in memory under this path", path=path)


def _load(data: ImageData, detections: bool) -> ImageData:
    return data if detections else _without_detections(data)


def _without_detections(data: ImageData) -> ImageData:
    """Keep annotations and TMA cores; parents become the nearest ancestor that is kept."""
    kept: list[PathObject] = []
    place = {-1: -1}  # index of each object, or of its nearest kept ancestor, among the kept
    for index, each in enumerate(data.objects):
        place[index] = parent = place[each.parent]
        if each.object_type in _LISTED:
            place[index] = len(kept)
            parent_id = None if parent < 0 else kept[parent].id
            kept.append(replace(each, parent=parent, parent_id=parent_id))
    skipped = Counter(o.object_type for o in data.objects if o.object_type not in _LISTED)
    return replace(data, objects=tuple(kept), skipped=MappingProxyType(dict(skipped)))
