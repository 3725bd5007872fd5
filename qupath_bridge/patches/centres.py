"""Owners of the centres of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from qupath_bridge.geometry.edges import GeometryArray, Outlines, as_array
from qupath_bridge.geometry.lattice import BoxEntries
from qupath_bridge.model import IntArray

from .boxes import PatchBoxes
from .covering import centres_inside
from .regions import ActiveRegion
from .stack import Stack
from .table import Ragged

__all__ = ["cores_at_centres", "labels_at_centres"]


def cores_at_centres(cores: GeometryArray, boxes: PatchBoxes) -> IntArray:
    """Return the first core that contains each box's centre, -1 without a core, shape (N,)."""
    found = np.full(len(boxes), len(cores))
    entries = _at_centres(cores, boxes)
    np.minimum.at(found, entries.box, entries.region)
    return np.where(found < len(cores), found, -1)


def labels_at_centres(
    stack: Stack,
    labels: IntArray,
    regions: Sequence[ActiveRegion],
    boxes: PatchBoxes,
    *,
    topmost: bool,
) -> Ragged:
    """Return the labels that own the centre of each box.

    Parameters
    ----------
    labels : array, shape (K,), int64
        Code of each polygon's label.
    topmost : bool
        Only the label of the topmost polygon; else of all.
    """
    entries = _with_drawn_edges(_at_centres(stack.polygons, boxes), stack, regions, boxes)
    if not topmost:
        count = int(labels.max(initial=0)) + 1
        rows, codes = np.divmod(np.unique(entries.box * count + labels[entries.region]), count)
        return Ragged.of(rows, codes, len(boxes))
    top = np.full(len(boxes), -1)
    np.maximum.at(top, entries.box, entries.region)
    rows = np.flatnonzero(top >= 0)
    return Ragged.of(rows, labels[top[rows]], len(boxes))


def _at_centres(polygons: GeometryArray, boxes: PatchBoxes) -> BoxEntries:
    return centres_inside(boxes, Outlines.of(polygons, np.arange(len(polygons))))


def _with_drawn_edges(
    entries: BoxEntries, stack: Stack, regions: Sequence[ActiveRegion], boxes: PatchBoxes
) -> BoxEntries:
    """Correct the centres inside regions that the image's border cuts, by the shapes as drawn.

    The cut moves edges by a rounding error, so that a centre which is exactly on one may be on
    the wrong side.
    """
    is_cut = np.array([region.polygon is not region.drawn for region in regions], np.bool_)
    cut = np.flatnonzero(is_cut)
    if not len(cut):
        return entries
    drawn = _at_centres(as_array([regions[k].drawn for k in cut.tolist()]), boxes)
    centres = boxes.centres()
    # Half-open, as pixels are: x = 0 is in the image, x = width is not.
    x, y = centres.T
    inside = (x >= 0) & (x < boxes.width) & (y >= 0) & (y < boxes.height)
    drawn = drawn.take(inside[drawn.box])

    found = stack.for_each_owner(entries)
    owner, count = stack.owners[found.region], len(boxes)
    wanted = cut[drawn.region] * count + drawn.box
    present = owner * count + found.box
    kept = found.take(~is_cut[owner] | np.isin(present, wanted))
    lost = drawn.take(~np.isin(wanted, present))
    places = [
        _nearest(stack, region, x, y)
        for region, (x, y) in zip(
            cut[lost.region].tolist(), centres[lost.box].tolist(), strict=True
        )
    ]
    return BoxEntries.concatenate(
        [
            BoxEntries(stack.place[kept.region], kept.box, kept.value),
            BoxEntries(np.array(places, np.int64), lost.box, lost.value),
        ]
    )


def _nearest(stack: Stack, region: int, x: float, y: float) -> int:
    """Return the place of the region's polygon that is nearest to a point."""
    places = stack.place[stack.owners == region]
    nearest = shapely.distance(stack.polygons[places], shapely.Point(x, y)).argmin()
    return int(places[nearest])
