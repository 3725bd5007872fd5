"""Exact test of grid points against polygons, boundaries included.

A point on a boundary is inside if the interior is towards +x, then +y: half-open, as pixels are,
so that a point on a border that two polygons share is in one of them. Each edge switches the
points right of it on or off, row by row, by the sign of an orientation that is exact where
rounding could change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, IntArray

from .edges import Edges, Outlines, chains, chunks
from .lattice import BoxEntries, Entries, Windows, ragged

__all__ = ["crossings", "points_inside", "scattered_points_inside"]

UNCERTAIN = 8 * np.finfo(np.float64).eps
"""Relative error that a difference of two products may have; below it, fractions are used."""


def points_inside(xs: FloatArray, ys: FloatArray, outlines: Outlines) -> Entries:
    """Return the points of a grid that are inside each region.

    Parameters
    ----------
    xs, ys : array, shape (C,) and (R,), float64, QuPath pixels
        Ascending coordinates of the columns and rows of points.
    outlines : Outlines
        Polygons of one region must not overlap.

    Returns
    -------
    Entries
        One entry of value 1 for each point in each region.

    Examples
    --------
    >>> import shapely
    >>> left, right = shapely.box(0, 0, 5, 9), shapely.box(5, 0, 9, 9)
    >>> outlines = Outlines.of(np.array([left, right]), np.arange(2))
    >>> points_inside(np.array([0.0, 5.0, 9.0]), np.array([1.0]), outlines).region.tolist()
    [0, 1]
    """
    if not len(xs) or not len(ys):
        return Entries.concatenate([])
    parts = [
        Entries.of(windows, _inside(xs, ys, outlines, windows))
        for windows in _point_windows(xs, ys, outlines).batches()
    ]
    return Entries.concatenate(parts)


def scattered_points_inside(points: FloatArray, outlines: Outlines) -> BoxEntries:
    """Return which of any points are inside each region, as :func:`points_inside`.

    Parameters
    ----------
    points : array, shape (N, 2), QuPath pixels
    outlines : Outlines
        None of them subtracts.

    Returns
    -------
    BoxEntries
        One entry of value 1 for each point in each region; ``box`` counts points.

    Examples
    --------
    >>> import shapely
    >>> outlines = Outlines.of(np.array([shapely.box(0, 0, 5, 9), shapely.box(5, 0, 9, 9)]),
    ...     np.arange(2))
    >>> scattered_points_inside(np.array([[0, 1.0], [5, 1], [9, 1]]), outlines).box.tolist()
    [0, 1]
    """
    polygons = outlines.polygons
    if not len(points) or not len(polygons):
        return BoxEntries.concatenate([])
    places = shapely.points(points)
    shapely.prepare(polygons)
    polygon, point = shapely.STRtree(places).query(polygons, predicate="intersects")
    inside = shapely.contains_properly(polygons[polygon], places[point])
    # What is on a boundary is inside by where the interior is.
    for k in np.flatnonzero(~inside).tolist():
        alone = Outlines(polygons[polygon[k : k + 1]], np.zeros(1, np.int64))
        x, y = points[point[k]]
        inside[k] = len(points_inside(np.array([x]), np.array([y]), alone)) > 0
    keys = np.unique(outlines.region[polygon[inside]] * len(points) + point[inside])
    return BoxEntries(*np.divmod(keys, len(points)), np.ones(len(keys)))


def _point_windows(xs: FloatArray, ys: FloatArray, outlines: Outlines) -> Windows:
    limits = outlines.bounds()
    col, row = xs.searchsorted(limits[:, 0]), ys.searchsorted(limits[:, 1])
    width = xs.searchsorted(limits[:, 2]) - col
    height = ys.searchsorted(limits[:, 3]) - row
    region = np.flatnonzero((width > 0) & (height > 0))
    return Windows(region, row[region], col[region], height[region], width[region], pad=1).banded()


def _inside(xs: FloatArray, ys: FloatArray, outlines: Outlines, windows: Windows) -> FloatArray:
    """Return 1.0 for each point of the windows that is in its region, flat."""
    turns = np.zeros(windows.size, np.int64)
    polygons, slots = outlines.slotted(windows.region)
    stride = windows.stride
    shift = windows.base - windows.row * stride - windows.col
    for chain in chains(polygons, slots, (0.0, 0.0)):
        for slot, row, col, sign in crossings(chain.edges(chain.real), xs, ys, windows):
            # Edges right of the window switch its spare element.
            most = windows.col[slot] + windows.width[slot]
            col = np.clip(col, windows.col[slot], most)
            index = shift[slot] + row * stride[slot] + col
            turns += np.bincount(index, sign, minlength=len(turns)).astype(np.int64)
    inside: NDArray[np.bool_] = np.cumsum(turns) != 0
    return inside.astype(np.float64)


def crossings(
    edges: Edges, xs: FloatArray, ys: FloatArray, windows: Windows
) -> Iterator[tuple[IntArray, IntArray, IntArray, FloatArray]]:
    """Yield slot, row, first column at or right of the edge, and direction, for each row.

    The slot of an edge is the number of its window; rows outside the window are left out.
    """
    edges, sign = edges.upward()
    first = np.maximum(ys.searchsorted(edges.y0), windows.row[edges.slot])
    last = np.minimum(ys.searchsorted(edges.y1), (windows.row + windows.height)[edges.slot])
    counts = np.maximum(last - first, 0)
    for piece in chunks(counts):
        edge, step = ragged(counts[piece])
        edge += piece.start
        row = first[edge] + step
        col = _first_right(
            xs, ys[row], edges.x0[edge], edges.y0[edge], edges.x1[edge], edges.y1[edge]
        )
        yield edges.slot[edge], row, col, sign[edge]


def _first_right(
    xs: FloatArray, y: FloatArray, x0: FloatArray, y0: FloatArray, x1: FloatArray, y1: FloatArray
) -> IntArray:
    """Return the first column whose point at height y is on or right of an upward edge."""
    # Interpolation may be off by one column at most: both neighbours are tested exactly.
    at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    col = xs.searchsorted(at)
    left = np.maximum(col - 1, 0)
    col -= (col > 0) & _at_or_right(xs[left], y, x0, y0, x1, y1)
    here = np.minimum(col, len(xs) - 1)
    col += (col < len(xs)) & ~_at_or_right(xs[here], y, x0, y0, x1, y1)
    return col


def _at_or_right(
    x: FloatArray, y: FloatArray, x0: FloatArray, y0: FloatArray, x1: FloatArray, y1: FloatArray
) -> NDArray[np.bool_]:
    """Return whether points lie on or right of upward edges."""
    across = (x - x0) * (y1 - y0)
    along = (x1 - x0) * (y - y0)
    right = across >= along
    close = np.abs(across - along) <= UNCERTAIN * (np.abs(across) + np.abs(along))
    close &= x0 != x1  # the sign of one product is exact
    for k in np.flatnonzero(close).tolist():
        px, py, ax, ay, bx, by = (Fraction(float(values[k])) for values in (x, y, x0, y0, x1, y1))
        right[k] = (px - ax) * (by - ay) >= (bx - ax) * (py - ay)
    return right
