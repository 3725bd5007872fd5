"""Owners of the centres of grid boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from qupath_bridge.geometry.edges import GeometryArray, Outlines, as_array
from qupath_bridge.geometry.lattice import Entries
from qupath_bridge.geometry.points import points_inside
from qupath_bridge.model import FloatArray, IntArray

from .grid import Grid
from .regions import ActiveRegion
from .stack import Stack
from .table import Ragged

__all__ = ["cores_at_centres", "labels_at_centres"]


def cores_at_centres(cores: GeometryArray, grid: Grid) -> IntArray:
    """Return the first core that contains each box's centre, -1 without a core, shape (N,)."""
    found = np.full(len(grid), len(cores))
    entries = _at_centres(cores, grid)
    np.minimum.at(found, entries.boxes(len(grid.cols)), entries.region)
    return np.where(found < len(cores), found, -1)


def labels_at_centres(
    stack: Stack, labels: IntArray, regions: Sequence[ActiveRegion], grid: Grid, *, topmost: bool
) -> Ragged:
    """Return the labels that own the centre of each box.

    Parameters
    ----------
    labels : array, shape (K,), int64
        Code of each polygon's label.
    topmost : bool
        Only the label of the topmost polygon; else of all.
    """
    entries = _with_drawn_edges(_at_centres(stack.polygons, grid), stack, regions, grid)
    boxes = entries.boxes(len(grid.cols))
    if not topmost:
        count = int(labels.max(initial=0)) + 1
        rows, codes = np.divmod(np.unique(boxes * count + labels[entries.region]), count)
        return Ragged.of(rows, codes, len(grid))
    top = np.full(len(grid), -1)
    np.maximum.at(top, boxes, entries.region)
    rows = np.flatnonzero(top >= 0)
    return Ragged.of(rows, labels[top[rows]], len(grid))


def _at_centres(polygons: GeometryArray, grid: Grid) -> Entries:
    return points_inside(*_centres(grid), Outlines.of(polygons, np.arange(len(polygons))))


def _centres(grid: Grid) -> tuple[FloatArray, FloatArray]:
    xs = grid.xs.astype(np.float64) + grid.box_width / 2
    ys = grid.ys.astype(np.float64) + grid.box_height / 2
    return xs, ys


def _with_drawn_edges(
    entries: Entries, stack: Stack, regions: Sequence[ActiveRegion], grid: Grid
) -> Entries:
    """Correct the centres inside regions that the image's border cuts, by the shapes as drawn.

    The cut moves edges by a rounding error, so that a centre which is exactly on one may be on
    the wrong side.
    """
    is_cut = np.array([region.polygon is not region.drawn for region in regions], np.bool_)
    cut = np.flatnonzero(is_cut)
    if not len(cut):
        return entries
    drawn = _at_centres(as_array([regions[k].drawn for k in cut.tolist()]), grid)
    xs, ys = _centres(grid)
    # Half-open, as pixels are: x = 0 is in the image, x = width is not.
    x_inside, y_inside = (xs >= 0) & (xs < grid.width), (ys >= 0) & (ys < grid.height)
    drawn = drawn.take(x_inside[drawn.col] & y_inside[drawn.row])

    found = stack.for_each_owner(entries)
    owner = stack.owners[found.region]
    columns, count = len(grid.cols), len(grid)
    wanted = cut[drawn.region] * count + drawn.boxes(columns)
    present = owner * count + found.boxes(columns)
    kept = found.take(~is_cut[owner] | np.isin(present, wanted))
    lost = drawn.take(~np.isin(wanted, present))
    places = [
        _nearest(stack, region, x, y)
        for region, x, y in zip(
            cut[lost.region].tolist(), xs[lost.col].tolist(), ys[lost.row].tolist(), strict=True
        )
    ]
    return Entries.concatenate(
        [
            Entries(stack.place[kept.region], kept.row, kept.col, kept.value),
            Entries(np.array(places, np.int64), lost.row, lost.col, lost.value),
        ]
    )


def _nearest(stack: Stack, region: int, x: float, y: float) -> int:
    """Return the place of the region's polygon that is nearest to a point."""
    places = stack.place[stack.owners == region]
    nearest = shapely.distance(stack.polygons[places], shapely.Point(x, y)).argmin()
    return int(places[nearest])
