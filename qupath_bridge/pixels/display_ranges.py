"""Display ranges of channels by QuPath's own rule for images that nobody has adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .composite import Range

__all__ = ["auto_range", "histogram_level"]

SATURATED = 0.001
"""Part of the values that may be black, and that may have the whole colour: QuPath's default."""
BINS = 1024
MOST_VALUES = 10_000_000
"""Of a histogram; of more values, every n-th is taken."""
MOST_PIXELS = 1 << 20
"""Of a finer level than the coarsest, from which QuPath takes the histogram."""
NO_RANGE = (0.0, 1.0)


def histogram_level(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the level of which QuPath takes histograms.

    It is the coarsest, or the finest that has no more than 1,048,576 pixels.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Of the levels, finest first.

    Examples
    --------
    >>> histogram_level([(4000, 4000), (2000, 2000), (1000, 1000), (500, 500)])
    2
    >>> histogram_level([(8000, 8000), (4000, 4000)])
    1
    """
    small = [number for number, (w, h) in enumerate(sizes) if w * h <= MOST_PIXELS]
    return min([*small, len(sizes) - 1])


def auto_range(values: NDArray[Any]) -> Range:
    """Return the display range that QuPath gives a channel.

    Parameters
    ----------
    values : array of any shape and type
        Of one channel: a whole image at a coarse level, row after row.

    Returns
    -------
    (low, high)
        The range of the values for uint8. For other types, what is left when a thousandth of the
        values is cut off at both ends; the first and the last bin of the histogram do not count if
        they are higher than their neighbours. (0, 1) if there is no finite value.

    Notes
    -----
    The arithmetic is that of QuPath 0.7: ``HistogramManager``, ``Histogram`` and
    ``ImageDisplay.autoSetDisplayRange``.
    """
    numbers = values.astype(np.float32).ravel()
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return NO_RANGE
    low, high = float(finite.min()), float(finite.max())
    if values.dtype == np.uint8:
        return low, high
    stride = max(1, -(-numbers.size // MOST_VALUES))
    counts, width = _histogram(numbers[: numbers.size // stride * stride : stride], low, high)
    edges = [low + number * width for number in range(len(counts) + 1)]
    cut, first = _cut_off(counts)
    begin, end = _place(counts[first:], cut), _place(counts[::-1], cut)
    if begin is not None:
        number, part = begin[0] + first, begin[1]
        low = edges[number] + part * (edges[number + 1] - edges[number])
    if end is not None:
        number, part = len(counts) - 1 - end[0], end[1]
        high = edges[number + 1] - part * (edges[number + 1] - edges[number])
    return float(np.float32(low)), float(np.float32(high))


def _histogram(values: NDArray[np.float32], low: float, high: float) -> tuple[list[int], float]:
    """Return the counts of the bins, and their width: 1 or more for whole numbers."""
    width, bins = (high - low) / BINS, BINS
    if width < 1 and bool(((values == np.trunc(values)) & (np.abs(values) < 1 << 31)).all()):
        width, bins = 1.0, int(high - low + 1)
    finite = values[np.isfinite(values)].astype(np.float64)
    steps = np.zeros(finite.size) if width == 0 else (finite - low) / width
    numbers = np.minimum(steps.astype(np.int64), bins - 1)
    return np.bincount(numbers, minlength=bins).tolist(), width


def _cut_off(counts: Sequence[int]) -> tuple[float, int]:
    """Return how many values are cut off at each end, and the first bin that counts."""
    total, first = sum(counts), 0
    if len(counts) > 2:
        if counts[0] > counts[1]:
            total, first = total - counts[0], 1
        if counts[-1] > counts[-2]:
            total -= counts[-1]
    return total * SATURATED, first


def _place(counts: Sequence[int], cut: float) -> tuple[int, float] | None:
    """Return the bin in which so many values are cut off, and the part of it; None for more."""
    for number, count in enumerate(counts):
        if cut < count:
            return number, cut / count
        cut -= count
    return None
