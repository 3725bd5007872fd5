"""Inspection of a project: its contents and its problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import shapely

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import count, freeze, one_line
from qupath_bridge.geometry.calibration import check_pixel_size, resolve_pixel_size
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import PathObject, Slide
from qupath_bridge.readers import open_reader
from qupath_bridge.sources.base import Project

from .plan import slide_path

__all__ = ["Inspection", "inspect_project"]

UNCLASSIFIED = "(unclassified)"


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """A project as it was found.

    Attributes
    ----------
    project : mapping
        Path, name, the QuPath version that wrote it, and the engine that read it.
    classes : tuple of mapping
        Name, colour, number of annotations and their area in px² of each class.
    slides : tuple of mapping
        Facts of each slide, from project and slide file.
    problems : tuple of str
        Contradictions, and files that cannot be read.
    """

    project: Mapping[str, Any]
    classes: tuple[Mapping[str, Any], ...]
    slides: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("project", "classes", "slides"):
            object.__setattr__(self, name, freeze(getattr(self, name)))

    def __repr__(self) -> str:
        return one_line(
            "Inspection",
            count(len(self.slides), "slide"),
            count(len(self.classes), "class", "classes"),
            count(len(self.problems), "problem"),
            name=self.project["name"],
            path=self.project["path"],
        )


def inspect_project(project: Project, *, reader: str = "auto") -> Inspection:
    """Look at every slide of a project; problems are part of the result, not errors.

    ``reader`` reads the slide files.
    """
    slides, problems = [], list(project.problems)
    for slide in project.slides:
        facts, found = _inspect_slide(slide, reader)
        slides.append(facts)
        named = f"{slide.name} (entry {slide.entry_id}): "
        problems += [text if text.startswith(named) else named + text for text in found]
    counts: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    for facts in slides:
        for name, value in facts["classes"].items():
            counts[name] += value["count"]
            areas[name] += value["area_px2"]
    colors = {info.path: info.color for info in project.info.classes}
    return Inspection(
        project={
            "path": str(project.info.path),
            "name": project.info.name,
            "version": project.info.version,
            "engine": project.engine,
            "engine_reason": project.reason,
            "qupath_version": project.qupath_version,
        },
        classes=tuple(
            {
                "name": name,
                "color": _hex(colors.get(name)),
                "count": counts[name],
                "area_px2": round(areas[name], 2),
            }
            for name in sorted({*counts, *colors})
        ),
        slides=tuple(slides),
        problems=tuple(problems),
    )


def _inspect_slide(slide: Slide, reader_name: str) -> tuple[dict[str, Any], list[str]]:
    """Return what project and file say of one slide, and what does not fit."""
    problems: list[str] = []
    facts: dict[str, Any] = {
        "entry_id": slide.entry_id,
        "name": slide.name,
        "uri": slide.uri,
        "path": None if slide.path is None else str(slide.path),
        "path_origin": slide.path_origin,
        "size": None if slide.width is None else [slide.width, slide.height],
        "planes": [slide.size_z, slide.size_t],
        "magnification": slide.magnification,
        "pixel_size": None,
        "coordinates": None,
        "metadata": dict(slide.metadata),
        "tags": list(slide.tags),
        "objects": {},
        "classes": {},
    }
    size = slide.pixel_size
    try:
        with open_reader(slide_path(slide), name=reader_name) as reader:
            coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
            facts["coordinates"] = coordinates.describe()
            facts["magnification"] = slide.magnification or reader.objective_power
            size, notes = resolve_pixel_size(
                None, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
            )
            problems += [*coordinates.notes, *notes]
            if slide.width is not None and slide.height is not None:
                coordinates.check_size((slide.width, slide.height))
            check_pixel_size(size)
    except BridgeError as error:
        problems.append(str(error))
    if size is not None:
        facts["pixel_size"] = {"x": size.x, "y": size.y, "origin": size.origin}
    try:
        data = slide.read(detections=True)
    except BridgeError as error:
        problems.append(str(error))
    else:
        problems += data.problems
        facts["objects"] = dict(Counter(str(o.object_type) for o in data.objects))
        facts["classes"] = _classes(data.annotations)
    return facts, problems


def _classes(annotations: Sequence[PathObject]) -> dict[str, dict[str, float]]:
    """Count annotations and add up areas by class."""
    counts: dict[str, dict[str, float]] = {}
    for annotation in annotations:
        name = annotation.class_path or UNCLASSIFIED
        total = counts.setdefault(name, {"count": 0, "area_px2": 0.0})
        total["count"] += 1
        if annotation.roi is not None and annotation.roi.has_area:
            total["area_px2"] += float(shapely.area(repair(annotation.roi.geometry)[0]))
    return {name: counts[name] for name in sorted(counts)}


def _hex(color: int | None) -> str | None:
    return None if color is None else f"#{color & 0xFFFFFF:06x}"
