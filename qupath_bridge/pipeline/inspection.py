"""Inspection of a project: its contents and its problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import shapely

from qupath_bridge.errors import BridgeError, GeometryError, MissingDataError
from qupath_bridge.frozen import count, freeze, one_line
from qupath_bridge.geometry.calibration import check_pixel_size, resolve_pixel_size
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import PathObject, Slide
from qupath_bridge.readers import open_reader
from qupath_bridge.sources.base import Project
from qupath_bridge.urls import shown

from .channels import ChannelView, shown_view
from .plan import Failure
from .slide_files import failure_lines, pixel_words, recorded_pixels, slide_path

__all__ = ["Inspection", "inspect_project"]

UNCLASSIFIED = "(unclassified)"


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """A project as it was found.

    Attributes
    ----------
    project : mapping
        Path, name, the QuPath version that wrote it, and the engine that read it; ``plain`` is
        True for slides without a project.
    classes : tuple of mapping
        Name, colour, number of annotations and their area in px² of each class.
    slides : tuple of mapping
        Facts of each slide, from project and slide file; ``readable`` says if it can be exported:
        its pixels and what was drawn. ``objects`` and ``classes`` are None if nobody knows
        what was drawn, and ``channels`` if the slide file cannot be read.
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

    @property
    def readable(self) -> bool:
        """False if the project has slides, and not one of them can be exported."""
        return not self.slides or any(slide["readable"] for slide in self.slides)

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
    slides, problems, failures = [], list(project.problems), []
    for slide in project.slides:
        facts, notes, failed = _inspect_slide(slide, reader)
        slides.append(facts)
        failures += failed
        problems += [f"{slide.name} (entry {slide.entry_id}): {text}" for text in notes]
    problems += failure_lines(failures)
    counts: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    for facts in slides:
        for name, value in (facts["classes"] or {}).items():
            counts[name] += value["count"]
            areas[name] += value["area_px2"]
    colors = {info.path: info.color for info in project.info.classes}
    return Inspection(
        project={
            "path": project.info.shown,
            "name": project.info.name,
            "plain": project.info.plain,
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


def _inspect_slide(
    slide: Slide, reader_name: str
) -> tuple[dict[str, Any], list[str], list[Failure]]:
    """Return what project and file say of one slide, notes, and why it cannot be exported."""
    notes: list[str] = []
    failures: list[Failure] = []
    facts: dict[str, Any] = {
        "entry_id": slide.entry_id,
        "name": slide.name,
        "uri": slide.uri,
        "path": None if slide.path is None else shown(slide.path),
        "path_origin": slide.path_origin,
        "size": None if slide.width is None else [slide.width, slide.height],
        "pixels": recorded_pixels(slide),
        "channels": None,
        "readable": False,
        "planes": [slide.size_z, slide.size_t],
        "magnification": slide.magnification,
        "pixel_size": None,
        "coordinates": None,
        "metadata": dict(slide.metadata),
        "tags": list(slide.tags),
        "objects": None,
        "classes": None,
    }
    size = slide.pixel_size
    try:
        with open_reader(slide_path(slide), name=reader_name) as reader:
            coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
            facts["coordinates"] = coordinates.describe()
            facts["magnification"] = slide.magnification or reader.objective_power
            size, differing = resolve_pixel_size(
                None, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
            )
            notes += [*coordinates.notes, *differing]
            if slide.width is not None and slide.height is not None:
                coordinates.check_size((slide.width, slide.height))
            check_pixel_size(size)
            facts["size"] = facts["size"] or list(coordinates.size)
            view = shown_view(slide, reader)
            facts["pixels"] = facts["pixels"] or pixel_words(
                len(view.all_names), view.dtype, view.color
            )
            facts["channels"] = _channels(view)
    except BridgeError as error:
        failures.append(Failure.of(slide, error))
    if size is not None:
        facts["pixel_size"] = {"x": size.x, "y": size.y, "origin": size.origin}
    try:
        data = slide.read(detections=True)
    except BridgeError as error:
        # A folder that all slides lack is a problem of the project, told once.
        if not (isinstance(error, MissingDataError) and error.whole_project):
            failures.append(Failure.of(slide, error))
    else:
        notes += data.problems
        facts["objects"] = dict(Counter(str(o.object_type) for o in data.objects))
        facts["classes"], broken = _classes(data.annotations)
        if broken:
            all_of_them = f"{count(len(broken), 'annotation')} cannot be used. "
            notes.append(f"{all_of_them if broken[1:] else ''}{broken[0]}")
        facts["readable"] = not failures
    return facts, notes, failures


def _channels(view: ChannelView) -> dict[str, Any]:
    """Return names as QuPath and as the file has them, QuPath's colours, and the type of values."""
    return {
        "names": list(view.all_names),
        "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in view.all_colors],
        "file_names": list(view.file_names),
        "dtype": view.dtype,
        "is_rgb": view.is_rgb,
    }


def _classes(
    annotations: Sequence[PathObject],
) -> tuple[dict[str, dict[str, float]], list[GeometryError]]:
    """Count annotations and add up areas by class; say which of them cannot be used."""
    counts: dict[str, dict[str, float]] = {}
    broken = []
    for annotation in annotations:
        name = annotation.class_path or UNCLASSIFIED
        total = counts.setdefault(name, {"count": 0, "area_px2": 0.0})
        total["count"] += 1
        if annotation.roi is not None and annotation.roi.has_area:
            try:
                total["area_px2"] += float(shapely.area(repair(annotation.roi.geometry)[0]))
            except GeometryError as error:
                text = f"Annotation {annotation.id}: {error.message}"
                broken.append(GeometryError(text, hint=error.hint))
    return {name: counts[name] for name in sorted(counts)}, broken


def _hex(color: int | None) -> str | None:
    return None if color is None else f"#{color & 0xFFFFFF:06x}"
