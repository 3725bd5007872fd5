"""Regular grids of boxes, and the windows of them that regions meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from qupath_bridge.model import FloatArray, IntArray

__all__ = ["Axis", "Entries", "Lattice", "Windows"]

CELLS = 1 << 20
"""Cells worked on at once: what bounds the memory, and near what a processor's cache holds."""


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
        First cell of each box, and the one behind its last.
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
        """Whether each box is one cell, and each cell a box."""
        return len(self.lines) == len(self.starts) + 1

    def touched(self, low: FloatArray, high: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the range of boxes that share length with each interval."""
        return self.ends.searchsorted(low, "right"), self.starts.searchsorted(high, "left")


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A grid of boxes, in coordinates relative to its own origin.

    Attributes
    ----------
    x, y : Axis
    origin : (float, float)
        What is taken from coordinates first, so that small numbers keep their digits.
    area : float
        Of a box.
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
    """Rectangular parts of a grid, one region each, that lie one behind the other in flat arrays.

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
        """Elements a row, spare ones included."""
        return self.width + self.pad

    @property
    def sizes(self) -> IntArray:
        """Elements a window."""
        return self.height * self.stride

    @property
    def base(self) -> IntArray:
        """Where each window begins."""
        return np.cumsum(self.sizes) - self.sizes

    @property
    def size(self) -> int:
        """Elements of all windows."""
        return int(self.sizes.sum())

    @property
    def row_starts(self) -> IntArray:
        """Where each row of each window begins."""
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
        """Yield runs of windows of about ``CELLS`` elements in all, of each region one at most."""
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
    """Values other than 0 of regions in boxes, sorted by region, row and column.

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
        """Pick what is not 0 from the flat array of some windows."""
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
        """Put the entries of several batches together."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return cls(nothing, nothing, nothing, np.zeros(0))
        return cls(
            np.concatenate([part.region for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.col for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.region)


def ragged(counts: IntArray) -> tuple[IntArray, IntArray]:
    """Count within groups: for ``counts`` [2, 3] return [0, 0, 1, 1, 1] and [0, 1, 0, 1, 2]."""
    group = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(group)) - np.repeat(ends - counts, counts)
    return group, within
