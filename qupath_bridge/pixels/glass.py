"""The colour of glass where a scanner gives it a cast."""

from __future__ import annotations

import numpy as np

from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["glass_colour"]

BRIGHT = 170
"""Gray level of every channel of glass at least."""
CAST = 0.22
"""Saturation of glass at most. The paler part of a slide that is all tissue has 0.3."""
LEAST = 0.005
"""Share of a slide that has to have nearly the same colour: glass is even, tissue is not."""

_STEP = 8  # gray levels
_FILL = 254  # pure white is put around scanned areas by programs


def glass_colour(pixels: PixelArray) -> FloatArray | None:
    """Return the commonest colour among the bright and hardly coloured pixels of a slide.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8
        The whole slide, small.

    Returns
    -------
    array, shape (3,), float64, or None
        None if no such colour is common.
    """
    flat = pixels.reshape(-1, 3)
    low, high = flat.min(axis=1), flat.max(axis=1)
    bright = flat[(low >= BRIGHT) & (low < _FILL) & (high - low <= CAST * high)]
    if not len(bright):
        return None
    steps = bright.astype(np.int64) // _STEP
    counts = np.bincount(steps @ np.array([1 << 10, 1 << 5, 1]), minlength=1 << 15)
    best = int(counts.argmax())
    near = np.abs(steps - np.array([best >> 10, best >> 5 & 31, best & 31])).max(axis=1) <= 1
    if near.sum() < LEAST * len(flat):
        return None
    return np.asarray(np.median(bright[near], axis=0), dtype=np.float64)
