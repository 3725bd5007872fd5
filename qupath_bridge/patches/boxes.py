"""Boxes that may become patches, as planning sees them: a grid, or boxes anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

from qupath_bridge.model import BoxArray, FloatArray, IntArray

__all__ = ["PatchBoxes"]


class PatchBoxes(Protocol):
    """Boxes of one plane of an image."""

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
