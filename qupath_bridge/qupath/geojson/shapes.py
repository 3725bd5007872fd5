"""Shapes of features, as QuPath makes ROIs of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.model import Roi
from qupath_bridge.qupath.rois import canonical_roi

from .values import read_flag, read_object, read_plane

__all__ = ["SHAPES", "read_roi"]

_COLLECTION = "GeometryCollection"

SHAPES = {
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", _COLLECTION,
}  # fmt: skip
"""Types of geometry."""


def read_roi(raw: Any) -> Roi | None:
    """Return the ROI that QuPath makes of a geometry; None for null and ``{}``.

    Raises
    ------
    ValueError
        If QuPath has no such shape, or it cannot be made.
    """
    if not raw:
        return None
    raw = read_object(raw, "geometry")
    try:
        geometry = _geometry(raw)
    except (TypeError, LookupError, ValueError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"geometry: {str(error).removesuffix('.')}") from error
    channel, plane = read_plane(raw.get("plane"))
    return canonical_roi(geometry, plane, channel=channel, ellipse=read_flag(raw.get("isEllipse")))


def _geometry(raw: Mapping[str, Any]) -> BaseGeometry:
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in SHAPES:
        raise ValueError(f"QuPath has no shape {kind!r}")
    return _collection(raw) if kind == _COLLECTION else _simple(kind, raw["coordinates"])


def _collection(raw: Mapping[str, Any]) -> BaseGeometry:
    """Take a collection apart, as QuPath up to 0.5 does: its areas; else lines; else points.

    Raises
    ------
    ValueError
        If nothing is in it: there is no object without a shape.
    """
    parts: list[BaseGeometry] = []
    stack = [raw]
    while stack:
        member = read_object(stack.pop(), "a member of the collection")
        if member.get("type") == _COLLECTION:
            members = member.get("geometries")
            if not isinstance(members, list):
                raise ValueError("a collection has no list of geometries")
            stack.extend(reversed(members))
        else:
            parts.extend(shapely.get_parts(_geometry(member)).tolist())
    for dimension, many in (
        (2, shapely.MultiPolygon),
        (1, shapely.MultiLineString),
        (0, shapely.MultiPoint),
    ):
        chosen = [p for p in parts if not p.is_empty and shapely.get_dimensions(p) == dimension]
        if chosen:
            return chosen[0] if len(chosen) == 1 else many(chosen)
    raise ValueError("nothing is in the collection")


def _simple(kind: str, coordinates: Any) -> BaseGeometry:
    if kind == "Point":
        return shapely.Point(_positions([coordinates]))
    if kind == "MultiPoint":
        return shapely.MultiPoint(_positions(coordinates))
    if kind == "LineString":
        return shapely.LineString(_positions(coordinates))
    if kind == "MultiLineString":
        return shapely.MultiLineString([_positions(line) for line in coordinates])
    if kind == "Polygon":
        return _polygon(coordinates)
    polygons = [_polygon(part) for part in coordinates]
    return shapely.MultiPolygon([polygon for polygon in polygons if not polygon.is_empty])


def _polygon(rings: Any) -> shapely.Polygon:
    shell, *holes = [_positions(ring) for ring in rings] or [()]
    return shapely.Polygon(shell, holes)


def _positions(raw: Any) -> Any:
    """Round positions to the canonical grid; a third coordinate is ignored, as in QuPath."""
    try:
        positions = round_coordinates(raw)
    except ValueError:  # some have a third one, others have not
        positions = round_coordinates([position[:2] for position in raw])
    if not np.isfinite(positions).all():
        raise ValueError("a coordinate is not finite")
    return positions[:, :2] if positions.size else ()
