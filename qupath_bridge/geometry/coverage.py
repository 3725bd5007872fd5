"""Exact shares of patch boxes that regions cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import ArrayLike
from shapely.geometry import MultiPolygon, Polygon

from qupath_bridge.errors import GeometryError
from qupath_bridge.model import BoxArray, FloatArray, IntArray

from .accumulate import box_shares, tidy
from .edges import GeometryArray, Outlines, as_array
from .lattice import BoxEntries, Entries, Lattice

__all__ = ["box_entries", "coverage", "grid_coverage", "grid_entries"]

SPARSE = 4
"""A grid is used for boxes that fill at least one in this many of its cells."""


def coverage(boxes: ArrayLike, regions: Sequence[Polygon | MultiPolygon]) -> FloatArray:
    """Return the share of each patch box that each region covers.

    Parameters
    ----------
    boxes : array, shape (N, 4), int, QuPath pixels
        x, y, width, height. N may be 0.
    regions : sequence of K valid Polygon or MultiPolygon, QuPath pixels
        One dissolved region per class, all on the plane of the boxes.

    Returns
    -------
    array, shape (N, K), float64, unitless, in [0, 1]
        To 12 decimals.

    Raises
    ------
    GeometryError
        If a box has no area or a region is invalid; `.index` says which one.

    Notes
    -----
    Boxes of one size that fill a regular grid, or a good part of one: exact area accumulation
    over grid cells, as in anti-aliased font rasterisers; cost grows with boundary length, not
    with N × area. Other boxes: a tree finds those that intersect a region; those inside have
    share 1, and only those on its border are clipped.

    Examples
    --------
    >>> coverage([[0, 0, 20, 20], [30, 0, 20, 20]], [shapely.box(0, 0, 40, 20)]).tolist()
    [[1.0], [0.5]]
    """
    checked = _check_boxes(boxes)
    polygons = _check_regions(regions)
    if not len(checked) or not len(polygons):
        return np.zeros((len(checked), len(polygons)))
    (w, h), sizes = checked[0, 2:], checked[:, 2:]
    if (sizes == (w, h)).all():
        xs, col = np.unique(checked[:, 0], return_inverse=True)
        ys, row = np.unique(checked[:, 1], return_inverse=True)
        if len(xs) * len(ys) <= SPARSE * len(checked):
            dense = _grid_coverage(xs, ys, int(w), int(h), polygons)
            return np.ascontiguousarray(dense[:, row, col].T)
    return box_coverage(checked, polygons)


def grid_coverage(
    xs: ArrayLike, ys: ArrayLike, w: int, h: int, regions: Sequence[Polygon | MultiPolygon]
) -> FloatArray:
    """Return the share of each box of a grid that each region covers.

    Parameters
    ----------
    xs, ys : array, shape (C,) and (R,), int, QuPath pixels
        Left and upper edges of the columns and rows, ascending.
    w, h : int, QuPath pixels
        Size of the boxes. They may overlap, or leave gaps.
    regions : sequence of K valid Polygon or MultiPolygon, QuPath pixels

    Returns
    -------
    array, shape (K, R, C), float64, unitless, in [0, 1]
        To 12 decimals.

    Raises
    ------
    GeometryError
        If a box has no area, starts do not ascend, or a region is invalid.

    Examples
    --------
    >>> grid_coverage([0, 10, 20], [0], 10, 10, [shapely.box(5, 0, 20, 10)]).tolist()
    [[[0.5, 1.0, 0.0]]]
    """
    return _grid_coverage(_check_starts(xs), _check_starts(ys), w, h, _check_regions(regions))


def _grid_coverage(
    xs: IntArray, ys: IntArray, w: int, h: int, polygons: GeometryArray
) -> FloatArray:
    shares = np.zeros((len(polygons), len(ys), len(xs)))
    if not shares.size:
        return shares
    outlines = Outlines.of(polygons, np.arange(len(polygons)))
    for windows, values in box_shares(outlines, _lattice(xs, ys, w, h)):
        for region, row, col, height, width, stride, base in zip(
            windows.region.tolist(),
            windows.row.tolist(),
            windows.col.tolist(),
            windows.height.tolist(),
            windows.width.tolist(),
            windows.stride.tolist(),
            windows.base.tolist(),
            strict=True,
        ):
            block = values[base : base + height * stride].reshape(height, stride)
            shares[region, row : row + height, col : col + width] = block[:, :width]
    return shares


def grid_entries(xs: IntArray, ys: IntArray, w: int, h: int, outlines: Outlines) -> Entries:
    """Return the non-zero shares of many regions in the boxes of a grid.

    As :func:`grid_coverage`, for more regions than a dense array could hold, made of polygons
    that add and subtract. The polygons are not checked.
    """
    if not len(xs) or not len(ys):
        return Entries.concatenate([])
    lattice = _lattice(xs, ys, w, h)
    return Entries.concatenate([Entries.of(*batch) for batch in box_shares(outlines, lattice)])


def _lattice(xs: IntArray, ys: IntArray, w: int, h: int) -> Lattice:
    if w <= 0 or h <= 0:
        raise GeometryError(f"A box of {w} x {h} px has no area.", index=0)
    return Lattice.of(xs.astype(np.float64), ys.astype(np.float64), float(w), float(h))


def box_coverage(boxes: BoxArray, polygons: GeometryArray) -> FloatArray:
    """Return the shares of arbitrary boxes, dense; see :func:`box_entries`.

    Parameters
    ----------
    boxes : array, shape (N, 4), each with an area
    polygons : array of K valid Polygon or MultiPolygon

    Returns
    -------
    array, shape (N, K)
    """
    entries = box_entries(boxes, Outlines.of(polygons, np.arange(len(polygons))))
    shares = np.zeros((len(boxes), len(polygons)))
    shares[entries.box, entries.region] = entries.value
    return shares


def box_entries(boxes: BoxArray, outlines: Outlines) -> BoxEntries:
    """Return the non-zero shares of regions in arbitrary boxes.

    A tree finds the boxes that a polygon meets; those inside have share 1, and only those on its
    border are clipped. The polygons are not checked.

    Parameters
    ----------
    boxes : array, shape (N, 4), each with an area
    outlines : Outlines
        Polygons that add and subtract.
    """
    if not len(boxes) or not len(outlines.polygons):
        return BoxEntries.concatenate([])
    # Coordinates are not shifted: a shift rounds them, which can make a valid polygon invalid.
    x, y, w, h = boxes.T
    rectangles = shapely.box(x, y, x + w, y + h)
    # Parts of a multipolygon share no area, so that their shares add up.
    parts, polygon = shapely.get_parts(outlines.polygons, return_index=True)
    sign = np.where(shapely.is_ccw(shapely.get_exterior_ring(parts)), 1.0, -1.0)
    shapely.prepare(parts)
    part, box = shapely.STRtree(rectangles).query(parts, predicate="intersects")
    inside = shapely.covers(parts[part], rectangles[box])
    share = np.ones(len(part))
    try:
        cut = shapely.intersection(parts[part[~inside]], rectangles[box[~inside]])
    except shapely.errors.GEOSException as error:
        raise GeometryError(
            f"The geometry library cannot clip a region: {error}.",
            hint="Measure it on a regular grid of boxes, where nothing is clipped.",
        ) from error
    share[~inside] = shapely.area(cut) / (w * h)[box[~inside]]
    keys = outlines.region[polygon[part]] * len(boxes) + box
    found, place = np.unique(keys, return_inverse=True)
    shares = tidy(np.bincount(place, share * sign[part], minlength=len(found)).astype(np.float64))
    real = shares > 0
    return BoxEntries(*np.divmod(found[real], len(boxes)), shares[real])


def _check_boxes(boxes: ArrayLike) -> BoxArray:
    array = np.asarray(boxes)
    if array.size == 0:
        return np.zeros((0, 4), np.int64)
    if array.ndim != 2 or array.shape[1] != 4 or not np.issubdtype(array.dtype, np.integer):
        raise GeometryError(
            f"Boxes are whole numbers of shape (N, 4), not {array.dtype} of shape {array.shape}."
        )
    empty = np.flatnonzero((array[:, 2:] <= 0).any(axis=1))
    if len(empty):
        index = int(empty[0])
        raise GeometryError(
            f"Box {index} has no area: {array[index].tolist()} (x, y, width, height).", index=index
        )
    return array.astype(np.int64)


def _check_regions(regions: Sequence[Polygon | MultiPolygon]) -> GeometryArray:
    polygons = as_array(list(regions))
    kinds = shapely.get_type_id(polygons)
    other = np.flatnonzero(~np.isin(kinds, (3, 6)))
    if len(other):
        index = int(other[0])
        raise GeometryError(f"Region {index} is not a Polygon or MultiPolygon.", index=index)
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    if len(invalid):
        index = int(invalid[0])
        raise GeometryError(
            f"Region {index} is not valid: {shapely.is_valid_reason(polygons[index])}.",
            index=index,
            hint="Repair it first, with qupath_bridge.geometry.validity.repair.",
        )
    return polygons


def _check_starts(values: ArrayLike) -> IntArray:
    starts = np.asarray(values, np.int64).reshape(-1)
    if (np.diff(starts) <= 0).any():
        raise GeometryError("The starts of a grid's columns and rows ascend, none twice.")
    return starts
