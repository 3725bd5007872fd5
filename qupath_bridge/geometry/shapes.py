"""Shapes from plain coordinates: pure functions on arrays, many shapes at once.

All resulting coordinates are on the 0.01 px grid. Rings are kept as drawn: closed and without
repeated points, but neither repaired nor reoriented; self-intersections are handled where shapes
are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from qupath_bridge.model import FloatArray, IntArray

from .canonical import round_coordinates

__all__ = ["ELLIPSE_POINTS", "area_by_winding", "box_corners", "ellipse_points", "ring_polygons"]

ELLIPSE_POINTS = 100
"""Number of points of the polygon that QuPath makes from an ellipse."""


def ring_polygons(points: FloatArray, counts: IntArray) -> NDArray[np.object_]:
    """Make one polygon without holes from each ring.

    Parameters
    ----------
    points : array, shape (N, 2), float64, pixels
        The points of all rings, one ring after the other; rings may be closed or not.
    counts : array, shape (K,), int
        Number of points of each ring; sums to N.

    Returns
    -------
    array, shape (K,), of shapely Polygon
        Empty where a ring has fewer than three different points.

    Examples
    --------
    >>> ring_polygons(np.array([[0, 0], [2, 0], [2, 0.001], [0, 2], [9, 9]]), np.array([4, 1]))
    array([<POLYGON ((0 0, 2 0, 0 2, 0 0))>, <POLYGON EMPTY>], dtype=object)
    """
    polygons = np.full(len(counts), shapely.Polygon(), dtype=object)
    points = round_coordinates(points).reshape(-1, 2)
    ring = np.repeat(np.arange(len(counts)), counts)
    same = (points[1:, 0] == points[:-1, 0]) & (points[1:, 1] == points[:-1, 1])
    repeated = np.flatnonzero(same & (ring[1:] == ring[:-1])) + 1
    points, ring, counts = _remove_points(repeated, points, ring, counts)

    last = np.cumsum(counts) - 1
    first = last - counts + 1
    long = np.flatnonzero(counts > 1)
    closed = last[long][(points[last[long]] == points[first[long]]).all(axis=1)]
    points, ring, counts = _remove_points(closed, points, ring, counts)

    first = np.cumsum(counts) - counts
    good = counts > 2
    # The third point differs from the second; if it equals the first one, check all points.
    long = np.flatnonzero(good)
    doubtful = long[(points[first[long] + 2] == points[first[long]]).all(axis=1)]
    for i in doubtful:
        good[i] = len(np.unique(points[first[i] : first[i] + counts[i]], axis=0)) > 2

    if not good.all():
        points, counts = points[good[ring]], counts[good]
    if len(counts):
        ends = np.cumsum(counts)
        points = np.insert(points, ends, points[ends - counts], axis=0)
        number = np.repeat(np.arange(len(counts)), counts + 1)
        polygons[good] = shapely.polygons(shapely.linearrings(points, indices=number))
    return polygons


def _remove_points(
    places: IntArray, points: FloatArray, ring: IntArray, counts: IntArray
) -> tuple[FloatArray, IntArray, IntArray]:
    """Remove points from their rings."""
    if not len(places):
        return points, ring, counts
    ring = np.delete(ring, places)
    return np.delete(points, places, axis=0), ring, np.bincount(ring, minlength=len(counts))


def box_corners(boxes: FloatArray) -> FloatArray:
    """Return all corners of boxes given by two opposite corners, shape (K, 4) to (K, 4, 2)."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    corners = [low, np.stack([low[:, 0], high[:, 1]], axis=1), high]
    corners.append(np.stack([high[:, 0], low[:, 1]], axis=1))
    return np.stack(corners, axis=1)


def ellipse_points(boxes: FloatArray) -> FloatArray:
    """Return QuPath's polygons for ellipses in boxes, shape (K, 4) to (K, 100, 2).

    The points are at equal angles, the first one in the direction of +x.
    """
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    half = (high - low) / 2
    angles = np.arange(ELLIPSE_POINTS) * (2 * math.pi / ELLIPSE_POINTS)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points: FloatArray = circle * half[:, np.newaxis] + (low + half)[:, np.newaxis]
    return points


def area_by_winding(rings: Sequence[FloatArray]) -> BaseGeometry:
    """Assemble a shape from rings by the non-zero rule, as in the old form of QuPath's areas.

    Parameters
    ----------
    rings : sequence of arrays, shape (N, 2), float64, pixels
        Outer rings turn one way, holes the other way; none crosses another.

    Returns
    -------
    shapely Polygon or MultiPolygon

    Examples
    --------
    >>> outer = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    >>> hole = np.array([[3, 3], [3, 6], [6, 6], [6, 3]])
    >>> area_by_winding([outer, hole]).area
    72.0
    """
    if not rings:
        return shapely.Polygon()
    counts = np.array([len(ring) for ring in rings])
    parts = [
        (polygon if polygon.is_valid else shapely.make_valid(polygon), polygon.exterior.is_ccw)
        for polygon in ring_polygons(np.concatenate(rings), counts)
        if not polygon.is_empty
    ]
    parts.sort(key=lambda part: part[0].area, reverse=True)
    shape: BaseGeometry = shapely.Polygon()
    for part, is_ccw in parts:  # the largest first: islands come after the holes that contain them
        shape = shape.union(part) if is_ccw == parts[0][1] else shape.difference(part)
    return shape
