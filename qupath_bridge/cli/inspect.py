"""``inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely

from qupath_bridge import api
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import BridgeError
from qupath_bridge.geometry.calibration import resolve_pixel_size
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import PathObject, Slide
from qupath_bridge.pipeline.plan import slide_path
from qupath_bridge.readers import open_reader

from .output import print_json, print_table, say

__all__ = ["run_inspect"]

UNCLASSIFIED = "(unclassified)"


def run_inspect(
    path: Path,
    slide_map: Sequence[str],
    search: Sequence[str],
    *,
    engine: str,
    qupath: Path | None,
    as_json: bool,
) -> int:
    """Show a project; what is wrong with it is part of the result, not an error."""
    config = ExportConfig.parse(
        {"slide_map": list(slide_map), "search": list(search), "engine": engine, "qupath": qupath}
    )
    with api.open_project(
        path,
        engine=config.engine,
        qupath=config.qupath,
        slide_map=config.slide_map,
        search=config.search,
    ) as project:
        entries, problems = [], list(project.problems)
        for slide in project.slides:
            entry, found = _entry(slide)
            entries.append(entry)
            named = f"{slide.name} (entry {slide.entry_id}): "
            problems += [text if text.startswith(named) else named + text for text in found]
    classes: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    for entry in entries:
        for name, value in entry["classes"].items():
            classes[name] += value["count"]
            areas[name] += value["area_px2"]
    colors = {info.path: info.color for info in project.info.classes}
    result = {
        "schema_version": 1,
        "project": {
            "path": str(project.info.path),
            "name": project.info.name,
            "version": project.info.version,
            "engine": project.engine,
            "engine_reason": project.reason,
            "qupath_version": project.qupath_version,
        },
        "classes": [
            {
                "name": name,
                "color": _hex(colors.get(name)),
                "count": classes[name],
                "area_px2": round(areas[name], 2),
            }
            for name in sorted({*classes, *colors})
        ],
        "entries": entries,
        "problems": problems,
    }
    if as_json:
        print_json(result)
    else:
        _print(result)
    return 0


def _entry(slide: Slide) -> tuple[dict[str, Any], list[str]]:
    """Look at one image: what the project says, what the file says, and what does not fit."""
    problems: list[str] = []
    entry: dict[str, Any] = {
        "entry_id": slide.entry_id,
        "name": slide.name,
        "uri": slide.uri,
        "path": None if slide.path is None else str(slide.path),
        "path_origin": slide.path_origin,
        "size": None if slide.width is None else [slide.width, slide.height],
        "planes": [slide.size_z, slide.size_t],
        "pixel_size": None,
        "coordinates": None,
        "metadata": dict(slide.metadata),
        "tags": list(slide.tags),
        "objects": {},
        "classes": {},
    }
    size = slide.pixel_size
    try:
        with open_reader(slide_path(slide)) as reader:
            coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
            entry["coordinates"] = coordinates.describe()
            size, notes = resolve_pixel_size(
                None, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
            )
            problems += [*coordinates.notes, *notes]
            if slide.width is not None and slide.height is not None:
                coordinates.check_size((slide.width, slide.height))
    except BridgeError as error:
        problems.append(str(error))
    if size is not None:
        entry["pixel_size"] = {"x": size.x, "y": size.y, "origin": size.origin}
    try:
        data = slide.read(detections=True)
    except BridgeError as error:
        problems.append(str(error))
    else:
        problems += data.problems
        entry["objects"] = dict(Counter(str(o.object_type) for o in data.objects))
        entry["classes"] = _classes(data.annotations)
    return entry, problems


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


def _print(result: dict[str, Any]) -> None:
    project = result["project"]
    print(f"{project['path']}  (QuPath {project['version'] or 'unknown'})")
    reason = f": {project['engine_reason']}" if project["engine_reason"] else ""
    print(f"read by the engine {project['engine']}{reason}\n")
    print_table(
        ("entry", "image", "size", "µm/px", "from", "annotations", "slide"),
        [
            (
                entry["entry_id"],
                entry["name"],
                "?" if entry["size"] is None else "{} x {}".format(*entry["size"]),
                "-" if entry["pixel_size"] is None else f"{entry['pixel_size']['x']:.4g}",
                "-" if entry["pixel_size"] is None else entry["pixel_size"]["origin"],
                entry["objects"].get("annotation", 0),
                entry["path"] or "not found",
            )
            for entry in result["entries"]
        ],
    )
    print()
    print_table(
        ("class", "colour", "annotations", "area px²"),
        [
            (c["name"], c["color"] or "-", c["count"], round(c["area_px2"]))
            for c in result["classes"]
        ],
    )
    for problem in result["problems"]:
        say(f"problem: {problem}")
