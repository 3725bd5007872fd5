"""Shares of boxes that regions cover, and boxes whose centres they hold; quicker for a grid."""

from __future__ import annotations

import numpy as np

from qupath_bridge.geometry.coverage import box_entries, grid_entries
from qupath_bridge.geometry.edges import Outlines
from qupath_bridge.geometry.lattice import BoxEntries
from qupath_bridge.geometry.points import points_inside, scattered_points_inside

from .boxes import PatchBoxes
from .grid import Grid

__all__ = ["centres_inside", "covered_shares"]


def covered_shares(boxes: PatchBoxes, outlines: Outlines) -> BoxEntries:
    """Return the share of each box that each region covers, where there is any."""
    if not isinstance(boxes, Grid):
        return box_entries(boxes.boxes(), outlines)
    entries = grid_entries(boxes.xs, boxes.ys, boxes.box_width, boxes.box_height, outlines)
    return entries.by_box(len(boxes.cols))


def centres_inside(boxes: PatchBoxes, outlines: Outlines) -> BoxEntries:
    """Return an entry for each box whose centre is in a region; none of them subtracts."""
    if not isinstance(boxes, Grid):
        return scattered_points_inside(boxes.centres(), outlines)
    xs = boxes.xs.astype(np.float64) + boxes.box_width / 2
    ys = boxes.ys.astype(np.float64) + boxes.box_height / 2
    return points_inside(xs, ys, outlines).by_box(len(boxes.cols))
