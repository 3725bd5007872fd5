"""White point and optical density: how much light a pixel lets through, and changing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.glass import glass_colour

__all__ = [
    "FAINT",
    "FULL",
    "PALE",
    "STRIP",
    "Recolour",
    "change_light",
    "densities",
    "stained",
    "white_point",
]

FAINT = 0.25
"""Optical density, the sum of three channels, below which a pixel is background."""
FULL = 0.45
"""The same from which on a pixel is wholly normalised; in between it is a mixture."""
PALE = 0.02
"""Share of stained pixels that a patch needs; with less it stays as it is."""
STRIP = 1 << 14
"""Pixels at a time: their planes stay in the cache, and matrices take no second thread for them."""

Planes = NDArray[np.float32]
Recolour = Callable[[int, NDArray[np.uint8], Planes, Planes], Planes]
"""Called with the number of a patch, and of :data:`STRIP` of its pixels or fewer the gray levels of
red, green and blue, shape (3, n), the light (each level and 1), and room for the new light, which
it writes. It returns the optical densities, the sums of three channels, shape (n,)."""

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


class _Room(NamedTuple):
    """Arrays for a strip, shape (3, n), made once: making them anew takes as long as the rest."""

    levels: NDArray[np.uint8]
    light: Planes
    changed: Planes

    @classmethod
    def of(cls, pixels: int) -> _Room:
        light, changed = np.empty((2, 3, pixels), np.float32)
        return cls(np.empty((3, pixels), np.uint8), light, changed)

    def part(self, pixels: int) -> _Room:
        return _Room(self.levels[:, :pixels], self.light[:, :pixels], self.changed[:, :pixels])


def change_light(batch: PixelArray, recolour: Recolour) -> tuple[PixelArray, MaskArray]:
    """Return patches with other colours, and which of them were kept as they are.

    Pixels with an optical density below :data:`FAINT` stay; up to :data:`FULL` they are mixed. A
    patch with less than :data:`PALE` of pixels above it stays as it is. Each patch goes through
    the same strips wherever it is in a batch, so its last bits are always the same.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
    recolour : Recolour

    Returns
    -------
    patches : array, shape (N, H, W, 3), uint8
    kept : array, shape (N,), bool
    """
    made: PixelArray = np.empty(batch.shape, np.uint8)
    kept: MaskArray = np.zeros(len(batch), np.bool_)
    pixels = batch.shape[1] * batch.shape[2]
    room = _Room.of(min(STRIP, pixels))
    for number, patch in enumerate(batch):
        before, after = patch.reshape(-1, 3), made[number].reshape(-1, 3)
        faint = 0
        for start in range(0, pixels, STRIP):
            strip = slice(start, start + STRIP)
            faint += _change_strip(number, before[strip], after[strip], recolour, room)
        if faint > (1 - PALE) * pixels:
            after[:], kept[number] = before, True
    return made, kept


def _change_strip(
    number: int,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    recolour: Recolour,
    room: _Room,
) -> int:
    """Write changed pixels (n, 3), and return how many have too little stain to change wholly."""
    levels, light, changed = room.part(len(before))
    np.copyto(levels, before.T)
    np.copyto(light, levels)
    light += np.float32(1)
    kept = np.float32(FULL) - recolour(number, levels, light, changed)
    faint = int(np.count_nonzero(kept > 0))
    if faint:
        kept *= np.float32(1 / (FULL - FAINT))
        light -= changed
        light *= np.clip(kept, 0, 1, out=kept)
        changed += light
    changed -= np.float32(0.5)  # 1 less, and half a level more: cutting off rounds
    np.copyto(levels, changed, casting="unsafe")
    for channel in range(3):
        after[:, channel] = levels[channel]
    return faint
