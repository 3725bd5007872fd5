"""Boxes that may become patches, as planning sees them: a grid, or boxes anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np

from qupath_bridge.geometry.coverage import box_entries, grid_entries
from qupath_bridge.geometry.edges import Outlines
from qupath_bridge.geometry.lattice import BoxEntries
from qupath_bridge.geometry.points import points_inside, scattered_points_inside
from qupath_bridge.model import BoxArray, FloatArray, IntArray

from .grid import Grid

__all__ = ["PatchBoxes", "centres_inside", "shares_of"]


class PatchBoxes(Protocol):
    """Boxes of one plane of an image. Those of a grid are measured in a quicker way."""

    @property
    def width(self) -> int:
        """Width of the image, QuPath pixels."""
        ...

    @property
    def height(self) -> int:
        """Height of the image, QuPath pixels."""
        ...

    def __len__(self) -> int: ...

    def bands(self) -> Iterator[Self]:
        """Yield the boxes in parts, in order, so that planning needs bounded memory."""
        ...

    def boxes(self) -> BoxArray:
        """Return all boxes, shape (N, 4), QuPath pixels."""
        ...

    def places(self, boxes: IntArray) -> tuple[IntArray, IntArray]:
        """Return what says which boxes are near each other: column and row of some boxes."""
        ...

    def find(self, boxes: BoxArray) -> IntArray:
        """Return the number of each box in :meth:`boxes`, -1 where there is no such box."""
        ...

    def valid_share(self) -> FloatArray:
        """Return the share of each box that is inside the image, shape (N,)."""
        ...

    def centres(self) -> FloatArray:
        """Return the centre of each box, shape (N, 2)."""
        ...


def shares_of(boxes: PatchBoxes, outlines: Outlines) -> BoxEntries:
    """Return the share of each box that each region covers, where there is any."""
    if isinstance(boxes, Grid):
        entries = grid_entries(boxes.xs, boxes.ys, boxes.box_width, boxes.box_height, outlines)
        return entries.by_box(len(boxes.cols))
    return box_entries(boxes.boxes(), outlines)


def centres_inside(boxes: PatchBoxes, outlines: Outlines) -> BoxEntries:
    """Return an entry for each box whose centre is in a region; none of them subtracts."""
    if isinstance(boxes, Grid):
        xs = boxes.xs.astype(np.float64) + boxes.box_width / 2
        ys = boxes.ys.astype(np.float64) + boxes.box_height / 2
        return points_inside(xs, ys, outlines).by_box(len(boxes.cols))
    return scattered_points_inside(boxes.centres(), outlines)
