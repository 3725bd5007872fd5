"""Saturation of pixels, and the pixels whose saturation says nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["BRIGHT", "DARK", "saturation", "stain_saturation"]

DARK = 50
"""A pixel whose red, green and blue are all below it is not stained tissue.

Its saturation says nothing: of nearly black pixels, as around a scanned area, it is noise.
"""

BRIGHT = 235
"""A pixel whose red, green and blue are all at least this is glass, whatever its tint."""

_STRIP = 1 << 20


def saturation(pixels: PixelArray) -> FloatArray:
    """Return the HSV saturation, (max - min) / max, 0 for black.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8

    Returns
    -------
    array, shape (...), float64, 0 to 1
    """
    high = pixels.max(axis=-1).astype(np.float64)
    low = pixels.min(axis=-1)
    return np.asarray((high - low) / np.maximum(high, 1), dtype=np.float64)


def stain_saturation(pixels: PixelArray) -> NDArray[np.float32]:
    """Return the HSV saturation, 0 where a pixel is too dark or too bright to be stained tissue.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8

    Returns
    -------
    array, shape (...), float32, 0 to 1
    """
    flat = pixels.reshape(-1, 3)
    found = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), _STRIP):
        part = flat[start : start + _STRIP]
        red, green, blue = part[:, 0], part[:, 1], part[:, 2]
        high = np.maximum(np.maximum(red, green), blue)
        low = np.minimum(np.minimum(red, green), blue)
        values = (high - low).astype(np.float32) / np.maximum(high, 1).astype(np.float32)
        values[(high < DARK) | (low >= BRIGHT)] = 0
        found[start : start + _STRIP] = values
    return found.reshape(pixels.shape[:-1])
