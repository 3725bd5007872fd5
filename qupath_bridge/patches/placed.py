"""Boxes anywhere on a slide: around objects, from the corner of each region, or as listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
import xxhash

from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import BoxArray, FloatArray, IntArray, Plane

from .grid import BAND, Grid
from .lookup import BoxLookup
from .table import Ragged

__all__ = ["PlacedBoxes", "Placement", "inside_share"]

_NONE: BoxArray = np.zeros((0, 4), np.int64)


def inside_share(boxes: BoxArray, size: tuple[int, int]) -> FloatArray:
    """Return the share of each box that is inside an image, shape (N,).

    >>> inside_share(np.array([[-5, 0, 10, 10], [20, 0, 10, 10]]), (20, 20)).tolist()
    [0.5, 0.0]
    """
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], size)
    inside = np.clip(high - low, 0, None).prod(axis=1) / boxes[:, 2:].prod(axis=1)
    return np.asarray(inside, np.float64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PlacedBoxes(OneLine):
    """Boxes of one plane, in the order y, x, height, width; no two are equal.

    Attributes
    ----------
    array : array, shape (N, 4), int64, QuPath pixels
    objects : Ragged
        The objects of each box: codes into ``Placement.object_names``.
    labels : Ragged
        Their labels, each once: codes into ``Placement.label_names``.
    grid : Grid
        The grid of the slide, whose size and edge policy hold.
    at_edge : array, shape (M, 4)
        Boxes that cross the image's edge, or are beyond it, and are dropped.
    """

    array: BoxArray
    objects: Ragged
    labels: Ragged
    grid: Grid
    at_edge: BoxArray = field(default_factory=lambda: _NONE)

    @property
    def width(self) -> int:
        """Width of the image, QuPath pixels."""
        return self.grid.width

    @property
    def height(self) -> int:
        """Height of the image, QuPath pixels."""
        return self.grid.height

    @property
    def edge_dropped(self) -> int:
        """Number of boxes that are dropped at the image's edge."""
        return len(self.at_edge)

    def __len__(self) -> int:
        return len(self.array)

    def bands(self) -> Iterator[Self]:
        """Yield the boxes in parts of ``BAND`` at most; at least one."""
        for start in range(0, max(len(self), 1), BAND):
            part = np.arange(start, min(start + BAND, len(self)))
            yield replace(
                self,
                array=self.array[part],
                objects=self.objects.take(part),
                labels=self.labels.take(part),
            )

    def boxes(self) -> BoxArray:
        """Return all boxes, shape (N, 4)."""
        return self.array

    def places(self, boxes: IntArray) -> tuple[IntArray, IntArray]:
        """Return column and row of the slide's grid near which some boxes are."""
        x, y = self.array[boxes, :2].T
        return x // self.grid.box_width, y // self.grid.box_height

    def find(self, boxes: BoxArray) -> IntArray:
        """Return the number of each box, -1 where there is no such box."""
        nothing = np.zeros(len(self), np.int64)
        zeros = np.zeros(len(boxes), np.int64)
        return BoxLookup(self.array, nothing, nothing).rows(boxes, zeros, zeros)

    def crossing(self) -> BoxArray:
        """Return the boxes that are dropped at the image's edge, shape (M, 4)."""
        return self.at_edge

    def valid_share(self) -> FloatArray:
        """Return the share of each box that is inside the image, shape (N,)."""
        return inside_share(self.array, (self.width, self.height))

    def centres(self) -> FloatArray:
        """Return the centre of each box, shape (N, 2)."""
        return self.array[:, :2] + self.array[:, 2:] / 2


@dataclass(frozen=True, eq=False, repr=False)
class Placement(OneLine):
    """The boxes of all planes of an image.

    Attributes
    ----------
    kind : "regions", "objects" or "coordinates"
        Boxes from the corner of each region, or around objects, which label them, or boxes that
        somebody listed.
    planes : mapping of Plane to PlacedBoxes
    label_names, object_names : tuple of str
        Sorted by code point.
    counts : mapping of str to int
        What became of the objects: ``used``, or why they have no box.
    sized : bool
        Whether the boxes have sizes of their own.
    classes : tuple of str
        Classes of the objects that have boxes, sorted.
    """

    kind: Literal["regions", "objects", "coordinates"]
    grid: Grid
    planes: Mapping[Plane, PlacedBoxes]
    label_names: tuple[str, ...] = ()
    object_names: tuple[str, ...] = ()
    counts: Mapping[str, int] = FrozenDict()
    sized: bool = False
    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Width of the image, QuPath pixels."""
        return self.grid.width

    @property
    def height(self) -> int:
        """Height of the image, QuPath pixels."""
        return self.grid.height

    def on(self, plane: Plane) -> PlacedBoxes:
        """Return the boxes of a plane."""
        found = self.planes.get(plane)
        if found is not None:
            return found
        empty = Ragged.empty(0)
        return PlacedBoxes(_NONE, empty, empty, self.grid)

    @cached_property
    def digest(self) -> str:
        """Digest of all boxes, with their objects and labels."""
        total = xxhash.xxh3_128()
        for plane, boxes in sorted(self.planes.items()):
            total.update(repr([*plane]).encode())
            for lists in (boxes.objects, boxes.labels):
                total.update(lists.offsets.tobytes())
                total.update(lists.codes.tobytes())
            total.update(boxes.array.tobytes())
        total.update(repr((self.label_names, self.object_names)).encode("utf-8", "surrogatepass"))
        return f"xxh3_128:{total.hexdigest()}"
