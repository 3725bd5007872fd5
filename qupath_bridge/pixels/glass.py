"""The colour of glass, and taking away the cast that a scanner gives it."""

from __future__ import annotations

import numpy as np

from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["glass_cast", "glass_colour", "has_cast", "white_balanced"]

BRIGHT = 170
"""Gray level of every channel of glass at least."""
COLOURED = 0.22
"""Saturation of glass at most. The paler part of a slide that is all tissue has 0.3."""
LEAST = 0.005
"""Share of a slide that has to have nearly the same colour: glass is even, tissue is not."""

CAST = 0.05
"""Saturation of glass from which on it has a cast."""
DIM = 215
"""Gray level of the darkest channel of glass below which it is dim."""
WHITE = 240
"""Gray level that glass has without a cast, at least."""

_STEP = 8  # gray levels
_BRIGHTER = 10  # gray levels: nothing but a few pixels is so much brighter than glass
_FEW = 0.1  # parts of the pixels of glass
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
    bright = flat[(low >= BRIGHT) & (low < _FILL) & (high - low <= COLOURED * high)]
    if not len(bright):
        return None
    steps = bright.astype(np.int64) // _STEP
    counts = np.bincount(steps @ np.array([1 << 10, 1 << 5, 1]), minlength=1 << 15)
    best = int(counts.argmax())
    near = np.abs(steps - np.array([best >> 10, best >> 5 & 31, best & 31])).max(axis=1) <= 1
    if near.sum() < LEAST * len(flat):
        return None
    glass = np.asarray(np.median(bright[near], axis=0), dtype=np.float64)
    brighter = (bright >= glass + _BRIGHTER).all(axis=1).sum()
    return None if brighter > _FEW * near.sum() else glass


def glass_cast(pixels: PixelArray) -> FloatArray | None:
    """Return the colour of the glass of a slide if it has a cast or is dim; None for usual glass.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8
        The whole slide, small.
    """
    glass = glass_colour(pixels)
    if glass is None or (glass.min() >= DIM and not has_cast(glass)):
        return None
    return glass


def has_cast(glass: FloatArray) -> bool:
    """Return whether the colour of glass, shape (3,), is more than a shade of grey."""
    return bool(1 - glass.min() / glass.max() >= CAST)


def white_balanced(pixels: PixelArray, glass: FloatArray) -> PixelArray:
    """Return pixels in which glass is white.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8
    glass : array, shape (3,)
        The colour of the glass.
    """
    made = np.empty_like(pixels)
    for channel, level in enumerate(glass):
        raised = np.arange(256) * (max(glass.max(), WHITE) / level)
        made[..., channel] = np.rint(raised).clip(0, 255).astype(np.uint8)[pixels[..., channel]]
    return made
