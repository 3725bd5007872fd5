"""Regular box grids and the index ranges that intersect a region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, IntArray

__all__ = ["Axis", "BoxEntries", "Entries", "Lattice", "Windows"]

CELLS = 1 << 20
"""Cells that are processed at once: bounds the memory, and nearly fits a processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Boxes along one axis, cut into cells at each start and each end.

    Attributes
    ----------
    starts, ends : array, shape (n,)
        Ascending, no start twice.
    lines : array, shape (m + 1,)
        The limits of m cells. Some lie in gaps between boxes.
    first, last : array, shape (n,), int64
        First cell of each box, and the one after its last.
    """

    starts: FloatArray
    ends: FloatArray
    lines: FloatArray
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, starts: FloatArray, length: float) -> Self:
        """Make an axis of boxes of one length."""
        ends = starts + length
        lines = np.unique(np.concatenate([starts, ends]))
        return cls(starts, ends, lines, lines.searchsorted(starts), lines.searchsorted(ends))

    @property
    def seamless(self) -> bool:
        """True if each box is one cell, and each cell a box."""
        return len(self.lines) == len(self.starts) + 1

    def touched(self, low: FloatArray, high: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the range of boxes that overlap each interval."""
        return self.ends.searchsorted(low, "right"), self.starts.searchsorted(high, "left")


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A grid of boxes, in coordinates relative to its own origin.

    Attributes
    ----------
    x, y : Axis
    origin : (float, float)
        Subtracted from coordinates first, so that they are small and keep their digits.
    area : float
        Area of a box.
    """

    x: Axis
    y: Axis
    origin: tuple[float, float]
    area: float

    @classmethod
    def of(cls, xs: FloatArray, ys: FloatArray, w: float, h: float) -> Self:
        """Make a lattice from ascending box starts along x and y, at least one of each."""
        origin = (float(xs[0]), float(ys[0]))
        return cls(Axis.of(xs - origin[0], w), Axis.of(ys - origin[1], h), origin, w * h)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Rectangular parts of a grid, one region each, stored one after the other in flat arrays.

    Window k covers rows ``row[k] : row[k] + height[k]`` and columns
    ``col[k] : col[k] + width[k]``. Its element at (r, c) is at
    ``base[k] + (r - row[k]) * stride[k] + (c - col[k])``; ``stride`` is ``width`` plus
    ``pad`` spare elements at the end of each row.
    """

    region: IntArray
    row: IntArray
    col: IntArray
    height: IntArray
    width: IntArray
    pad: int = 0

    @property
    def stride(self) -> IntArray:
        """Elements per row, spare ones included."""
        return self.width + self.pad

    @property
    def sizes(self) -> IntArray:
        """Elements per window."""
        return self.height * self.stride

    @property
    def base(self) -> IntArray:
        """Offset of each window."""
        return np.cumsum(self.sizes) - self.sizes

    @property
    def size(self) -> int:
        """Number of elements of all windows."""
        return int(self.sizes.sum())

    @property
    def row_starts(self) -> IntArray:
        """Offset of each row of each window."""
        window, row = ragged(self.height)
        return self.base[window] + row * self.stride[window]

    def __len__(self) -> int:
        return len(self.region)

    def take(self, windows: slice | IntArray) -> Self:
        """Return some of the windows."""
        return replace(
            self,
            region=self.region[windows],
            row=self.row[windows],
            col=self.col[windows],
            height=self.height[windows],
            width=self.width[windows],
        )

    def banded(self) -> Self:
        """Cut windows of more than ``CELLS`` elements into bands of rows."""
        rows = np.maximum(1, CELLS // np.maximum(self.stride, 1))
        window, band = ragged(-(-self.height // rows))
        start = band * rows[window]
        height = np.minimum(rows[window], self.height[window] - start)
        return replace(self.take(window), row=self.row[window] + start, height=height)

    def batches(self) -> Iterator[Self]:
        """Yield runs of windows of about ``CELLS`` elements in all, with one per region at most."""
        sizes, regions = self.sizes.tolist(), self.region.tolist()
        start, total = 0, 0
        for k, size in enumerate(sizes):
            if k > start and (total + size > CELLS or regions[k] == regions[k - 1]):
                yield self.take(slice(start, k))
                start, total = k, 0
            total += size
        if start < len(sizes):
            yield self.take(slice(start, None))


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Non-zero values of regions in boxes, sorted by region, row and column.

    Attributes
    ----------
    region, row, col : array, shape (M,), int64
        ``row`` and ``col`` count the boxes of the grid from 0.
    value : array, shape (M,), float64
    """

    region: IntArray
    row: IntArray
    col: IntArray
    value: FloatArray

    @classmethod
    def of(cls, windows: Windows, values: FloatArray) -> Self:
        """Select the non-zero values of the flat array of some windows."""
        where = np.flatnonzero(values)
        window = windows.base.searchsorted(where, "right") - 1
        row, col = np.divmod(where - windows.base[window], windows.stride[window])
        return cls(
            windows.region[window],
            windows.row[window] + row,
            windows.col[window] + col,
            values[where],
        )

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Concatenate the entries of several batches."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return cls(nothing, nothing, nothing, np.zeros(0))
        return cls(
            np.concatenate([part.region for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.col for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def by_box(self, columns: int) -> BoxEntries:
        """Return the entries with the number of each box, counted row by row."""
        return BoxEntries(self.region, self.row * columns + self.col, self.value)

    def __len__(self) -> int:
        return len(self.region)


@dataclass(frozen=True, slots=True, eq=False)
class BoxEntries:
    """Non-zero values of regions in boxes that need not be a grid.

    Attributes
    ----------
    region, box : array, shape (M,), int64
        Numbers of regions and boxes, from 0.
    value : array, shape (M,), float64
    """

    region: IntArray
    box: IntArray
    value: FloatArray

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Concatenate the entries of several."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return cls(nothing, nothing, np.zeros(0))
        return cls(
            np.concatenate([part.region for part in parts]),
            np.concatenate([part.box for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def take(self, which: IntArray | NDArray[np.bool_]) -> Self:
        """Return some of the entries."""
        return type(self)(self.region[which], self.box[which], self.value[which])

    def __len__(self) -> int:
        return len(self.region)


def ragged(counts: IntArray) -> tuple[IntArray, IntArray]:
    """Count within groups: for ``counts`` [2, 3] return [0, 0, 1, 1, 1] and [0, 1, 0, 1, 2]."""
    group = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(group)) - np.repeat(ends - counts, counts)
    return group, within
