"""Conversion of plain geometry to QuPath's kinds of ROI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.geometry.shapes import ellipse_points
from qupath_bridge.model import FIRST_PLANE, Plane, Roi, RoiKind

__all__ = ["canonical_roi", "ellipse_polygon", "is_uuid", "make_roi", "roi_kind"]

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_X, _Y = (True, False), (False, True)


def make_roi(
    geometry: BaseGeometry,
    plane: Plane = FIRST_PLANE,
    *,
    channel: int = -1,
    ellipse: bool = False,
) -> Roi:
    """Return the ROI that QuPath makes from a geometry, rounded to 0.01 px.

    With ``ellipse`` only the bounding box counts, as in QuPath.
    """
    return canonical_roi(
        shapely.transform(geometry, round_coordinates), plane, channel=channel, ellipse=ellipse
    )


def canonical_roi(
    geometry: BaseGeometry,
    plane: Plane = FIRST_PLANE,
    *,
    channel: int = -1,
    ellipse: bool = False,
) -> Roi:
    """Return the ROI that QuPath makes from a geometry with rounded coordinates."""
    if ellipse and not geometry.is_empty:
        return Roi(RoiKind.ELLIPSE, ellipse_polygon(*geometry.bounds), plane, channel)
    return Roi(roi_kind(geometry), geometry, plane, channel)


def roi_kind(geometry: BaseGeometry) -> RoiKind:
    """Return the kind of ROI that QuPath makes from a geometry.

    >>> roi_kind(shapely.box(0, 0, 2, 1)), roi_kind(shapely.Point(1, 2))
    (<RoiKind.RECTANGLE: 'Rectangle'>, <RoiKind.POINTS: 'Points'>)
    """
    kind = geometry.geom_type
    if kind == "Polygon":
        corners = shapely.get_coordinates(geometry)
        if len(corners) == 0 or shapely.get_num_interior_rings(geometry):
            return RoiKind.GEOMETRY
        is_box = len(corners) == 5 and is_rectangle(corners.tolist())
        return RoiKind.RECTANGLE if is_box else RoiKind.POLYGON
    if kind in {"Point", "MultiPoint"}:
        return RoiKind.POINTS
    if kind == "LineString":
        return RoiKind.LINE if len(geometry.coords) == 2 else RoiKind.POLYLINE
    return RoiKind.GEOMETRY


def is_rectangle(ring: Sequence[Sequence[float]]) -> bool:
    """Return whether a closed ring of five points is a box along the axes."""
    # Each side is along one axis, and neighbours are along different axes.
    moves = [(x1 != x0, y1 != y0) for (x0, y0), (x1, y1) in pairwise(ring)]
    return moves in ([_X, _Y, _X, _Y], [_Y, _X, _Y, _X])


def ellipse_polygon(x0: float, y0: float, x1: float, y1: float) -> shapely.Polygon:
    """Return QuPath's polygon of an ellipse: 100 points from +x on, rounded to 0.01 px."""
    (points,) = ellipse_points(np.array([[x0, y0, x1, y1]]))
    return shapely.Polygon(round_coordinates(points))


def is_uuid(text: object) -> bool:
    """Return whether a value is a UUID as this library writes it: in lower case.

    >>> is_uuid("fc346334-6401-4816-988d-7d3950b5c9dd"), is_uuid("PathTileObject")
    (True, False)
    """
    return isinstance(text, str) and _UUID.fullmatch(text) is not None
