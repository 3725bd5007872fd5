"""Outlines of pixels: from masks to polygons and run lengths."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from qupath_bridge.model import FloatArray, MaskArray

__all__ = ["bridged_ring", "outline_of", "run_lengths"]


def outline_of(inside: MaskArray) -> list[Polygon]:
    """Return the parts of a mask as polygons along the edges of its pixels.

    Parameters
    ----------
    inside : array, shape (H, W), bool

    Returns
    -------
    list of Polygon
        Pixels; the upper left corner of the mask is (0, 0). Largest part first, then from the top.
        Pixels that meet at a corner only are of different parts.

    Examples
    --------
    >>> (square,) = outline_of(np.ones((2, 3), bool))
    >>> square.bounds
    (0.0, 0.0, 3.0, 2.0)
    """
    steps = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, start = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    union = shapely.union_all(shapely.box(start, row, end, row + 1))
    parts = [part for part in shapely.get_parts(shapely.simplify(union, 0)) if part.area > 0]
    return sorted(parts, key=lambda part: (-part.area, part.bounds[1], part.bounds[0]))


def bridged_ring(polygon: Polygon) -> FloatArray:
    """Return one ring around a polygon: each hole is joined to the rest by a bridge without width.

    The ring goes to the hole and back by the same way, so that filling it leaves the hole out.

    Parameters
    ----------
    polygon : Polygon
        With edges along x and y, as :func:`outline_of` makes them.

    Returns
    -------
    array, shape (N, 2), float64
        The last point is not the first one.
    """
    oriented = shapely.orient_polygons(polygon)
    ring = np.asarray(oriented.exterior.coords)[:-1]
    holes = [np.asarray(hole.coords)[:-1] for hole in oriented.interiors]
    # From the left: what is left of a hole's leftmost point is joined already.
    for hole in sorted(holes, key=lambda points: (*points.min(axis=0), len(points))):
        at = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
        edge, point = _left_of(ring, hole[at])
        around = np.concatenate([hole[at:], hole[: at + 1]])
        ring = np.concatenate([ring[: edge + 1], [point], around, [point], ring[edge + 1 :]])
    return ring


def _left_of(ring: FloatArray, point: FloatArray) -> tuple[int, FloatArray]:
    """Return the upright edge of a ring that is next on the left of a point, and the place."""
    x, y = ring.T
    ends = np.roll(y, -1)
    meets = (x == np.roll(x, -1)) & (x <= point[0])
    meets &= (np.minimum(y, ends) <= point[1]) & (np.maximum(y, ends) >= point[1]) & (y != ends)
    edges = np.flatnonzero(meets)
    edge = int(edges[np.argmax(x[edges])])
    return edge, np.array([x[edge], point[1]])


def run_lengths(inside: MaskArray) -> list[int]:
    """Return the lengths of the runs of a mask, column by column, the first one of pixels outside.

    COCO calls it an uncompressed RLE.

    >>> run_lengths(np.array([[0, 1], [1, 1]], bool))
    [1, 3]
    """
    flat: NDArray[np.int8] = inside.T.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    lengths: list[int] = np.diff(changes, prepend=0).tolist()
    return lengths
