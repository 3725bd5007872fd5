"""White point and optical density: how much light a pixel lets through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray

__all__ = ["FAINT", "FULL", "PALE", "Mixture", "densities", "planes_of", "stained", "white_point"]

FAINT = 0.25
"""Optical density, the sum of three channels, below which a pixel is background."""
FULL = 0.45
"""The same from which on a pixel is wholly normalised; in between it is a mixture."""
PALE = 0.02
"""Share of stained pixels that a patch needs; with less it stays as it is."""

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
        Median of bright pixels without colour, pure white left out where there are others. Where
        there is no glass, the brightest hundredth of each channel, 235 at least.
    """
    pixels = thumbnail.reshape(-1, 3)
    high, low = pixels.max(axis=1), pixels.min(axis=1)
    glass = (low >= _BRIGHT) & (high - low <= _COLOURLESS)
    scanned = glass & (low < _FILL)
    if scanned.mean() >= _ENOUGH:
        glass = scanned
    if glass.mean() >= _ENOUGH:
        return np.asarray(np.median(pixels[glass], axis=0), dtype=np.float64)
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


def planes_of(patch: PixelArray) -> NDArray[np.uint8]:
    """Return a patch (H, W, 3) as three planes (3, H, W), with which arithmetic is quick."""
    return np.ascontiguousarray(patch.transpose(2, 0, 1))


@dataclass(frozen=True, slots=True)
class Mixture:
    """Pixels that stay wholly or partly as they are, as background does.

    Attributes
    ----------
    where : array, shape (H, W), bool
    part : array, shape (n,), float32, 0 to 1
        How much of each of these pixels is normalised, 0 for background.
    """

    where: MaskArray
    part: NDArray[np.float32]

    @classmethod
    def of(cls, passed: NDArray[np.float32], white: Any) -> Mixture:
        """Return the mixture of a patch.

        Parameters
        ----------
        passed : array, shape (H, W), float32
            Product of the light of the three channels, each one more than the gray level.
        white : array, shape (3,)
        """
        clear = float(np.prod(np.asarray(white, np.float64) + 1))
        where = passed > np.float32(clear * np.exp(-FULL))
        total = np.float32(np.log(clear)) - np.log(passed[where])
        part = (total - np.float32(FAINT)) * np.float32(1 / (FULL - FAINT))
        return cls(where, np.clip(part, 0, 1))

    @property
    def is_pale(self) -> bool:
        """True if a patch has too little stain to be normalised."""
        return bool(len(self.part) > (1 - PALE) * self.where.size)

    def blend(self, plane: NDArray[np.float32], before: NDArray[np.uint8]) -> None:
        """Take the pixels of a plane back, as far as they stay what they were before.

        ``plane`` is half a level higher than what is meant, so that cutting off rounds.
        """
        if len(self.part):
            old = before[self.where].astype(np.float32) + np.float32(0.5)
            plane[self.where] = old + self.part * (plane[self.where] - old)
