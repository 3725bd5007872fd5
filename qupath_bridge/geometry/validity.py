"""Repair of polygons by their structure, and the change of area that it causes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeAlias

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import GeometryError
from qupath_bridge.model import FloatArray, IntArray

from .edges import GeometryArray

__all__ = ["Polygonal", "area_change", "clip", "polygons_only", "repair", "split", "unite"]

Polygonal: TypeAlias = Polygon | MultiPolygon

FINE = 1e-9
"""Grid to which coordinates are rounded if GEOS fails without one, pixels."""

FARTHEST = float(1 << 53)
"""Pixels from the image's corner; beyond, numbers are more than a pixel apart, and areas overflow
in the end."""

MAX_CROSSINGS = 20_000
"""Crossings of an outline with itself that are repaired; each costs time."""

BLOCK = 100
"""Segments that are compared with all others at once."""

LOST, LOST_SHARE = 1e-6, 1e-12
"""Area in px², and as a share, by which the sum of parts may differ from the whole."""


def repair(geometry: BaseGeometry) -> tuple[Polygonal, float, float]:
    """Return a valid polygon in place of a possibly invalid one, and both areas.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon, QuPath pixels

    Returns
    -------
    polygonal : Polygon or MultiPolygon
        The same object if it is valid; may be empty.
    area_before : float, px²
        Area that QuPath shows: filled by the non-zero rule, so that area wound twice counts
        once, whichever way lobes turn.
    area_after : float, px²

    Raises
    ------
    GeometryError
        If it is not a polygon, a coordinate is not a number or beyond :data:`FARTHEST`, or the
        outline crosses itself more than :data:`MAX_CROSSINGS` times.

    Notes
    -----
    ``make_valid(method="structure")``: rings are made valid, shells united, holes subtracted.
    Remaining lines and points are dropped. Never ``buffer(0)``, which loses lobes.

    Examples
    --------
    >>> bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    >>> shape, before, after = repair(bow_tie)
    >>> shape.is_valid, before, after, area_change(before, after)
    (True, 5000.0, 5000.0, 0.0)
    """
    if not isinstance(geometry, Polygon | MultiPolygon):
        raise GeometryError(f"A {geometry.geom_type} is not a polygon and has no area.")
    # NaN is not below anything.
    if not (np.abs(shapely.get_coordinates(geometry)) <= FARTHEST).all():
        raise GeometryError(
            "A polygon has a coordinate that is not a number, or farther away than any image ends.",
            hint="Delete the annotation in QuPath and draw it again.",
        )
    if geometry.is_valid:
        area = float(geometry.area)
        return geometry, area, area
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(geometry)]
    if _crosses_often(rings):
        raise GeometryError(
            f"The outline crosses itself more than {MAX_CROSSINGS:,} times.",
            hint="Simplify or redraw the annotation in QuPath.",
        )
    before = _filled_area(geometry)
    shape = _make_valid(geometry)
    if not shape.is_valid:
        # GEOS returns parts that share an edge; united they are one valid part.
        parts = [_make_valid(part) for part in shapely.get_parts(shape)]
        shape = polygons_only(reduce(shapely.union, parts))
    return shape, before, float(shape.area)


def _make_valid(geometry: BaseGeometry) -> Polygonal:
    return polygons_only(shapely.make_valid(geometry, method="structure", keep_collapsed=False))


def _crosses_often(rings: Sequence[FloatArray]) -> bool:
    """Return whether segments of the rings meet in more than :data:`MAX_CROSSINGS` places."""
    if not rings:
        return False
    starts = np.concatenate([ring[:-1] for ring in rings])
    ends = np.concatenate([ring[1:] for ring in rings])
    lines = shapely.linestrings(np.stack([starts, ends], axis=1))
    tree = shapely.STRtree(lines)
    found = 0
    # In blocks, and stopped early: of n segments up to n² / 2 pairs can meet.
    for start in range(0, len(lines), BLOCK):
        first, second = tree.query(lines[start : start + BLOCK])
        first = first + start
        first, second = first[first < second], second[first < second]
        sides = [
            np.sign(_side(starts[one], ends[one], points[other]))
            for one, other in ((first, second), (second, first))
            for points in (starts, ends)
        ]
        found += int(((sides[0] * sides[1] < 0) & (sides[2] * sides[3] < 0)).sum())
        if found > MAX_CROSSINGS:
            return True
    return False


def _side(start: FloatArray, end: FloatArray, point: FloatArray) -> FloatArray:
    """Return on which side of lines points are: positive, negative, or 0 on the line."""
    (ax, ay), (bx, by), (x, y) = start.T, end.T, point.T
    return np.asarray((bx - ax) * (y - ay) - (x - ax) * (by - ay), dtype=np.float64)


def _filled_area(geometry: Polygonal) -> float:
    """Return the area that polygons fill by the non-zero rule, each face once.

    A hole takes out what is inside its shell. Outside it is filled: it winds around there, too.
    """
    polygons = shapely.get_parts(geometry)
    outlines = shapely.get_parts(shapely.union_all(shapely.boundary(polygons)))
    faces = shapely.get_parts(shapely.polygonize(outlines))
    points = shapely.get_coordinates(shapely.point_on_surface(faces))
    filled = np.zeros(len(faces), np.bool_)
    for polygon in polygons:
        shell, *holes = shapely.get_rings(polygon)
        in_shell = _winding(shapely.get_coordinates(shell), points) != 0
        in_hole = np.zeros(len(faces), np.bool_)
        for hole in holes:
            in_hole |= _winding(shapely.get_coordinates(hole), points) != 0
        filled |= in_shell != in_hole
    return float(shapely.area(faces[filled]).sum())


def _winding(ring: FloatArray, points: FloatArray) -> IntArray:
    """Return how often a closed ring goes around each point, counted with its direction."""
    (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
    total = np.zeros(len(points), np.int64)
    rows = max(1, 1_000_000 // max(1, len(x0)))
    for start in range(0, len(points), rows):
        x, y = (points[start : start + rows, axis, None] for axis in (0, 1))
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        up = (y0 <= y) & (y1 > y) & (side > 0)
        down = (y0 > y) & (y1 <= y) & (side < 0)
        total[start : start + rows] = up.sum(axis=1) - down.sum(axis=1)
    return total


def area_change(before: float, after: float) -> float:
    """Return the change of area by a repair, as a share of the larger area, in [0, 1].

    Examples
    --------
    >>> area_change(100.0, 99.0), area_change(0.0, 0.0)
    (0.01, 0.0)
    """
    largest = max(abs(before), abs(after))
    return abs(after - before) / largest if largest else 0.0


def polygons_only(geometry: BaseGeometry) -> Polygonal:
    """Return the polygons of any geometry; lines and points are dropped.

    Examples
    --------
    >>> polygons_only(shapely.LineString([(0, 0), (1, 1)])).is_empty
    True
    """
    if isinstance(geometry, Polygon | MultiPolygon):
        return geometry
    # A multipolygon is one part of a collection: split twice.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return parts[0] if len(parts) == 1 else MultiPolygon(list(parts))


def split(polygon: Polygonal, other: Polygonal) -> tuple[Polygonal, Polygonal]:
    """Return the parts of a polygon inside and outside another one.

    Parameters
    ----------
    polygon, other : valid Polygon or MultiPolygon

    Raises
    ------
    GeometryError
        If both parts together are not the polygon, as happens in GEOS if points nearly coincide.

    Examples
    --------
    >>> inside, outside = split(shapely.box(0, 0, 4, 4), shapely.box(1, 0, 9, 9))
    >>> inside.area, outside.area
    (12.0, 4.0)
    """
    area = polygon.area
    for grid_size in (None, FINE):
        inside = polygons_only(shapely.intersection(polygon, other, grid_size=grid_size))
        outside = polygons_only(shapely.difference(polygon, other, grid_size=grid_size))
        if abs(inside.area + outside.area - area) <= LOST + LOST_SHARE * area:
            return inside, outside
    raise GeometryError(
        f"Two regions cannot be separated: of {area:.2f} px² there are "
        f"{inside.area:.2f} inside and {outside.area:.2f} outside the other.",
        hint="Simplify or redraw the regions that cross one another in QuPath.",
    )


def unite(polygons: GeometryArray) -> Polygonal:
    """Return the union of polygons.

    Parameters
    ----------
    polygons : array of K valid Polygon and MultiPolygon, K ≥ 1

    Raises
    ------
    GeometryError
        If a part of a polygon is not in the union, as happens in GEOS if points nearly coincide.

    Examples
    --------
    >>> unite(np.array([shapely.box(0, 0, 4, 4), shapely.box(2, 0, 6, 4)])).area
    24.0
    """
    if len(polygons) == 1:
        only: Polygonal = polygons[0]
        return only
    areas = shapely.area(polygons)
    for grid_size in (None, FINE):
        union = polygons_only(shapely.union_all(polygons, grid_size=grid_size))
        missing = shapely.area(shapely.difference(polygons, union, grid_size=grid_size)).sum()
        lost = LOST + LOST_SHARE * areas.sum()
        if missing <= lost and union.area <= areas.sum() + lost:
            return union
    raise GeometryError(
        f"{len(polygons)} regions that cross one another cannot be united: {missing:.2f} px² "
        "are missing.",
        hint="Simplify or redraw the regions that cross one another in QuPath.",
    )


def clip(polygons: GeometryArray, width: float, height: float) -> GeometryArray:
    """Clip polygons to an image, ``[0, width] x [0, height]``.

    Parameters
    ----------
    polygons : array of valid Polygon and MultiPolygon, shape (K,)

    Returns
    -------
    array, shape (K,)
        The same objects where nothing is cut; empty where no part is inside.
    """
    limits = shapely.bounds(polygons)
    outside = (limits < 0).any(axis=1) | (limits[:, 2] > width) | (limits[:, 3] > height)
    clipped = polygons.copy()
    for k in np.flatnonzero(outside):
        clipped[k], _ = split(polygons[k], shapely.box(0, 0, width, height))
    return clipped
