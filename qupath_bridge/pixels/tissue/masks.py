"""Masks of pixels: their pieces, small pieces and holes, smoothing, growing and shrinking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import IntArray, MaskArray

__all__ = ["close_mask", "drop_specks", "fill_holes", "grow", "label_pieces", "open_mask", "smooth"]


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """The runs of set pixels of a mask, row by row, and the piece that each belongs to.

    Places are those of the rows one behind the other, each with an empty pixel at both ends.
    """

    shape: tuple[int, int]
    starts: IntArray
    ends: IntArray
    pieces: IntArray

    @classmethod
    def of(cls, mask: MaskArray, *, diagonal: bool) -> _Runs:
        """Find the runs, and join those that touch; ``diagonal`` counts corners as touching."""
        height, width = mask.shape
        padded = np.zeros((height, width + 2), np.bool_)
        padded[:, 1:-1] = mask
        flat = padded.ravel()
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts, ends = edges[0::2], edges[1::2]
        reach = int(diagonal)
        below = starts + width + 2
        first = np.searchsorted(ends, below - reach, side="right")
        last = np.searchsorted(starts, ends + width + 2 + reach, side="left")
        counts = np.maximum(last - first, 0)
        upper = np.repeat(np.arange(len(starts)), counts)
        lower = np.arange(len(upper)) - np.repeat(counts.cumsum() - counts - first, counts)
        return cls((height, width), starts, ends, _join(len(starts), upper, lower))

    @property
    def lengths(self) -> IntArray:
        return self.ends - self.starts

    @property
    def touch_edge(self) -> MaskArray:
        """True for each piece that reaches the edge of the mask."""
        height, width = self.shape
        row, column = np.divmod(self.starts, width + 2)
        at_edge = (row == 0) | (row == height - 1) | (column == 1)
        at_edge |= self.ends % (width + 2) == width + 1
        found = np.zeros(int(self.pieces.max(initial=-1)) + 1, np.bool_)
        found[self.pieces[at_edge]] = True
        return found

    def paint(self, values: IntArray) -> IntArray:
        """Return an array of the mask's shape in which each run has its value, 0 elsewhere."""
        height, width = self.shape
        steps = np.zeros(height * (width + 2), np.int32)
        steps[self.starts] = values
        steps[self.ends] = -values
        return np.asarray(steps.cumsum(dtype=np.int32).reshape(height, width + 2)[:, 1:-1])


def _join(count: int, upper: IntArray, lower: IntArray) -> IntArray:
    """Return the number of the piece of each run, from the pairs of runs that touch."""
    parent = np.arange(count)
    while True:
        one, other = parent[upper], parent[lower]
        if (one == other).all():
            break
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while (parent[parent] != parent).any():
            parent = parent[parent]
    return np.unique(parent, return_inverse=True)[1].reshape(-1)


def label_pieces(mask: MaskArray) -> IntArray:
    """Return the number of the piece of each pixel, from 1; 0 for pixels that are not set.

    Pixels of a piece touch at their sides.

    Parameters
    ----------
    mask : array, shape (h, w), bool

    Returns
    -------
    array, shape (h, w), int32
        Pieces in the order of their first pixels.

    Examples
    --------
    >>> label_pieces(np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0]], bool)).tolist()
    [[1, 0, 2], [1, 0, 0], [0, 3, 0]]
    """
    runs = _Runs.of(mask, diagonal=False)
    return runs.paint(runs.pieces + 1)


def drop_specks(mask: MaskArray, pixels: float) -> MaskArray:
    """Return a mask without its pieces of fewer than ``pixels`` pixels.

    Pixels of a piece touch at a side or a corner.
    """
    runs = _Runs.of(mask, diagonal=True)
    areas = np.bincount(runs.pieces, runs.lengths)
    return runs.paint((areas >= pixels)[runs.pieces].astype(np.int32)).astype(np.bool_)


def fill_holes(mask: MaskArray, pixels: float) -> MaskArray:
    """Return a mask in which holes of fewer than ``pixels`` pixels are set.

    A hole does not reach the edge of the mask; its pixels touch at their sides.
    """
    runs = _Runs.of(~mask, diagonal=False)
    areas = np.bincount(runs.pieces, runs.lengths)
    open_ = (areas >= pixels) | runs.touch_edge
    return ~runs.paint(open_[runs.pieces].astype(np.int32)).astype(np.bool_)


def smooth(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Return the mean of the square around each pixel, of its part inside the array.

    Parameters
    ----------
    values : array, shape (h, w), float32
    radius : int
        Pixels on each side of the middle one; 0 changes nothing.

    Returns
    -------
    array, shape (h, w), float32
    """
    for axis in (0, 1):
        length = values.shape[axis]
        sums = np.zeros(np.add(values.shape, (axis == 0, axis == 1)), np.float64)
        inner: list[slice] = [slice(None), slice(None)]
        inner[axis] = slice(1, None)
        np.cumsum(values, axis=axis, dtype=np.float64, out=sums[tuple(inner)])
        low = np.maximum(np.arange(length) - radius, 0)
        high = np.minimum(np.arange(length) + radius + 1, length)
        counts = (high - low).reshape((-1, 1) if axis == 0 else (1, -1))
        means = (sums.take(high, axis) - sums.take(low, axis)) / counts
        values = means.astype(np.float32)
    return values


def grow(mask: MaskArray, radius: int) -> MaskArray:
    """Return a mask that also has every pixel within a square around a set one."""
    for axis in (0, 1):
        grown = mask.copy()
        ahead, behind = (slice(1, None), slice(None)), (slice(None, -1), slice(None))
        if axis:
            ahead, behind = ahead[::-1], behind[::-1]
        for _ in range(radius):
            before = grown.copy()
            grown[ahead] |= before[behind]
            grown[behind] |= before[ahead]
        mask = grown
    return mask


def close_mask(mask: MaskArray, radius: int) -> MaskArray:
    """Return a mask whose gaps that a square does not fit into are set."""
    framed = np.pad(mask, radius)
    closed = ~grow(~grow(framed, radius), radius)
    return np.asarray(closed[radius : -radius or None, radius : -radius or None])


def open_mask(mask: MaskArray, radius: int) -> MaskArray:
    """Return a mask without the parts that a square does not fit into; the edge continues."""
    return grow(~grow(~mask, radius), radius)
