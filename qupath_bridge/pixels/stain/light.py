"""White point and optical density: how much light a pixel lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, PixelArray
from qupath_bridge.pixels.glass import glass_colour

__all__ = ["FAINT", "FULL", "densities", "stained", "white_point"]

FAINT = 0.25
"""Optical density, the sum of three channels, below which a pixel is background."""
FULL = 0.45
"""The same from which on a pixel is wholly normalised; in between it is a mixture."""

_BLACK = 15  # gray levels: where all channels are below, ink or a shadow has no colour
_BRIGHT, _COLOURLESS = 170, 30  # gray levels of glass: at least, and between channels at most
_FILL = 254  # pure white is put around scanned areas by programs
_ENOUGH = 0.002  # share of glass
_NO_GLASS = 235.0


def white_point(thumbnail: PixelArray) -> FloatArray:
    """Return the colour of light that passes through glass alone.

    Parameters
    ----------
    thumbnail : array, shape (h, w, 3), uint8
        The whole slide, small.

    Returns
    -------
    array, shape (3,), float64
        Median of bright pixels without colour, pure white left out where there are others; else
        :func:`~qupath_bridge.pixels.glass.glass_colour`. Where there is no glass, the brightest
        hundredth of each channel, 235 at least.
    """
    pixels = thumbnail.reshape(-1, 3)
    high, low = pixels.max(axis=1), pixels.min(axis=1)
    glass = (low >= _BRIGHT) & (high - low <= _COLOURLESS)
    scanned = glass & (low < _FILL)
    if scanned.mean() >= _ENOUGH:
        glass = scanned
    if glass.mean() >= _ENOUGH:
        return np.asarray(np.median(pixels[glass], axis=0), dtype=np.float64)
    if (cast := glass_colour(pixels)) is not None:
        return cast
    if not len(pixels):
        return np.full(3, _NO_GLASS)
    return np.asarray(np.maximum(np.percentile(pixels, 99, axis=0), _NO_GLASS))


def densities(pixels: NDArray[np.uint8], white: Any) -> FloatArray:
    """Return optical densities, ``-log((I + 1) / (white + 1))``, shape and order as the pixels."""
    return np.log((np.asarray(white, np.float64) + 1) / (pixels.astype(np.float64) + 1))


def stained(pixels: NDArray[np.uint8], white: Any) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return the stained pixels (N, 3) of a sample (..., 3), and their optical densities.

    Neither glass nor nearly black pixels are among them.
    """
    flat = pixels.reshape(-1, 3)
    found = densities(flat, white)
    good = (found.sum(axis=1) >= FULL) & (flat.max(axis=1) >= _BLACK)
    return flat[good], found[good]
