"""Rules for ``.qpdata`` files that QuPath can read and edit.

If QuPath cannot read one object, it drops all objects of the image. So every rule is checked
before a byte is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import shapely

from qupath_bridge.errors import OutputError
from qupath_bridge.model import ImageData, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.qupath.files.classes import class_problem
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.rois import is_uuid

from .records import OBJECT_ID
from .wkb import MAX_COORDINATE

__all__ = ["IMAGE_TYPES", "check_image_data", "tile_problem"]

IMAGE_TYPES = (
    "BRIGHTFIELD_H_DAB",
    "BRIGHTFIELD_H_E",
    "BRIGHTFIELD_OTHER",
    "FLUORESCENCE",
    "OTHER",
    "UNSET",
)
"""QuPath's types of images."""

_INT = 1 << 31
_class_problem = lru_cache(maxsize=4096)(class_problem)
_GEOMETRIES = {
    RoiKind.RECTANGLE: {"Polygon"},
    RoiKind.ELLIPSE: {"Polygon"},
    RoiKind.LINE: {"LineString"},
    RoiKind.POLYLINE: {"LineString"},
    RoiKind.POLYGON: {"Polygon"},
    RoiKind.POINTS: {"Point", "MultiPoint"},
    RoiKind.GEOMETRY: {"Polygon", "MultiPolygon", "LineString", "MultiLineString"},
}


def check_image_data(data: ImageData) -> None:
    """Check all rules whose violation makes QuPath refuse the file, or fail later.

    Raises
    ------
    OutputError
        At the first problem; it names the object.
    """
    if data.image_type not in (None, *IMAGE_TYPES):
        raise OutputError(
            f"image type {data.image_type!r} is not one of QuPath's.",
            hint=f"Use one of {', '.join(IMAGE_TYPES)}.",
        )
    if data.stains is not None and not isinstance(data.stains.get("text"), str):
        raise OutputError("The stains have no text, which QuPath stores.")
    indices: dict[str, int] = {}
    for i, each in enumerate(data.objects):
        problem = next(_object_problems(i, each), None) or _grid_problem(i, each, data)
        if problem is None and (first := indices.setdefault(each.id, i)) != i:
            problem = f"id {each.id} is that of object {first} too"
        if problem is not None:
            name = f" {each.name!r}" if each.name else ""
            raise OutputError(f"object {i} ({each.object_type}{name}): {problem}.")
    grid = data.tma_grid
    if grid is not None:
        n = len(data.objects)
        are_cores = all(
            0 <= core < n and data.objects[core].object_type is ObjectType.TMA_CORE
            for core in grid.cores
        )
        if grid.width * grid.height != len(set(grid.cores)) or not are_cores:
            raise OutputError(
                f"A TMA grid of {grid.width} × {grid.height} has {len(grid.cores)} entries, but "
                "needs one TMA core for each place."
            )


def _grid_problem(i: int, each: PathObject, data: ImageData) -> str | None:
    if each.object_type is not ObjectType.TMA_CORE:
        return None
    if data.tma_grid is None or i not in data.tma_grid.cores:
        return "a TMA core outside the TMA grid"
    return None if each.parent < 0 else "a TMA core below another object"


def tile_problem(tile: Tile) -> str | None:
    """Return why QuPath could not use a tile; None if there is no problem."""
    (x, y, w, h), plane = tile.box, tile.plane
    if not is_uuid(tile.id):
        return "its id is not a UUID in lower case"
    if tile.class_path is not None and (problem := _class_problem(tile.class_path)):
        return problem
    if min(w, h) < 1 or max(abs(x), abs(y), x + w, y + h) > MAX_COORDINATE:
        return f"its box {tuple(tile.box)} has no area, or invalid pixel coordinates"
    if not (0 <= plane.z < _INT and 0 <= plane.t < _INT):
        return f"it is on an invalid plane, {tuple(plane)}"
    if OBJECT_ID in tile.metadata:
        return f"metadata key {OBJECT_ID!r} is reserved by QuPath"
    return None


def _object_problems(i: int, each: PathObject) -> Iterator[str]:
    if each.object_type is ObjectType.ROOT:
        yield "the root must not be listed"
    if not -1 <= each.parent < i:
        yield f"its parent {each.parent} is not listed before it"
    if not is_uuid(each.id):
        yield f"id {each.id!r} is not a UUID in lower case"
    if each.class_path is not None and (problem := class_problem(each.class_path)):
        yield problem
    for color in (each.color, each.class_color):
        if color is not None and not -_INT <= color < _INT:
            yield f"colour {color} is not a packed ARGB number of 32 bits with sign"
    if OBJECT_ID in each.metadata:
        yield f"metadata key {OBJECT_ID!r} is reserved by QuPath"
    if each.roi is None:
        yield "it has no ROI"
    if each.nucleus is not None and each.object_type is not ObjectType.CELL:
        yield "only cells have a nucleus"
    if each.missing is not None and each.object_type is not ObjectType.TMA_CORE:
        yield "only TMA cores can be missing"
    for what, roi in (("ROI", each.roi), ("nucleus", each.nucleus)):
        if roi is not None and (problem := _roi_problem(roi)):
            yield f"its {what} {problem}"


def _roi_problem(roi: Roi) -> str | None:
    geometry, kind = roi.geometry, roi.kind
    if not (-1 <= roi.channel < _INT and 0 <= roi.plane.z < _INT and 0 <= roi.plane.t < _INT):
        return f"is on an invalid plane, {roi.plane}, channel {roi.channel}"
    if geometry.geom_type not in _GEOMETRIES[kind]:
        return f"of kind {kind} is a {geometry.geom_type}"
    if geometry.is_empty:
        return "is empty"
    points = shapely.get_coordinates(geometry)
    if not (np.abs(points) <= MAX_COORDINATE).all():
        return "has invalid pixel coordinates"
    if kind is RoiKind.GEOMETRY:
        return None if geometry.is_valid else f"is not valid: {shapely.is_valid_reason(geometry)}"
    if geometry.geom_type == "Polygon":
        if len(geometry.interiors):
            return f"of kind {kind} has a hole"
        if geometry.area == 0 and len(np.unique(points, axis=0)) < 3:
            return "has fewer than three different points"
        if kind is not RoiKind.POLYGON and not _fills_box(roi):
            return f"of kind {kind} does not fill its bounding box"
    elif kind is RoiKind.LINE and len(points) != 2:
        return f"of kind {kind} has {len(points)} points"
    return None


def _fills_box(roi: Roi) -> bool:
    """Return whether a shape is determined by its bounding box, up to the 0.01 px grid."""
    x, y, x2, y2 = roi.geometry.bounds
    full = (x2 - x) * (y2 - y) * (1.0 if roi.kind is RoiKind.RECTANGLE else math.pi / 4)
    difference = abs(float(roi.geometry.area) - full)
    return bool(difference <= 0.01 * (x2 - x + y2 - y) + 0.002 * full)
