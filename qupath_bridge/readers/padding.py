"""Levels that were filled to whole tiles: their size says nothing of their downsample.

Philips and some DICOM files have such levels. A level of 768 x 512 pixels may show the 750 x 500
pixels of half a slide of 1500 x 1000, and not a slide that is 1.95 times as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from qupath_bridge.model import Box, PixelArray

from .base import Level

__all__ = ["fills_tiles", "find_downsample", "is_doubtful", "said_downsample"]

Size = tuple[int, int]

_TEXTURE = 4.0
"""Standard deviation of grey values that a place must have to be compared."""
_CLEAR = 0.6
"""The best downsample must differ by less than this part of the next best one's difference."""
_SIDE = 48  # pixels of a place that is compared
_PARTS = (0.45, 0.6, 0.75, 0.9)
_STEPS = (2, 3, 4, 5, 6, 7, 8, 16, 32)


def fills_tiles(level: Level, tile: Size) -> bool:
    """Return whether a level has whole file tiles only; False for a tile of unknown size, 0."""
    return all(tile) and level.width % tile[0] == 0 and level.height % tile[1] == 0


def is_doubtful(full: Size, level: Level, factors: tuple[float, float]) -> bool:
    """Return whether the size of a level does not follow from level 0 by one whole number."""
    whole = factors[0] == factors[1] and factors[0].is_integer()
    return not whole and (level.width, level.height) != full


def said_downsample(full: Size, level: Level, said: float | None, tile: Size) -> float | None:
    """Return the downsample that a file states for a level of whole tiles, None if it does not fit.

    Many files state the resolution of level 0 for all levels.
    """
    if said is None:
        return None
    if math.isclose(said, level.downsample, rel_tol=1e-3):
        return level.downsample
    whole = round(said)
    number = float(whole) if abs(said - whole) <= 0.01 * whole else said
    return number if _fits(full, level, number, tile) else None


def find_downsample(
    full: Size,
    level: Level,
    finer: float,
    tile: Size,
    read_level: Callable[[Box], PixelArray],
    read_finer: Callable[[Box, Size], PixelArray],
) -> float | None:
    """Return the downsample at which a level shows what finer levels show, None if none is clear.

    Parameters
    ----------
    full : (int, int)
        Width and height of level 0, pixels.
    level : Level
    finer : float
        Downsample of the next finer level.
    tile : (int, int)
        Width and height of the level's file tiles.
    read_level : callable
        Reads a box of the level, in its own pixels.
    read_finer : callable
        Reads a box of level 0 at a size, from finer levels.
    """
    by_size = math.isclose(full[0] / level.width, full[1] / level.height, rel_tol=0.01)
    numbers = tuple(_candidates(full, level, finer, tile))
    if len(numbers) == 1:  # the size as it is, or the whole number next to it
        (only,) = numbers
        return only if by_size or only != level.downsample else None
    differences = np.zeros(len(numbers))
    compared = 0
    # All places lie inside the slide, whichever the downsample.
    width, height = (int(side / max(numbers)) for side in full)
    for across in _PARTS:
        for down in _PARTS:
            side = min(_SIDE, width, height)
            box = Box(int(across * (width - side)), int(down * (height - side)), side, side)
            shown = read_level(box).astype(np.float64).mean(axis=-1)
            if shown.std() < _TEXTURE:
                continue
            compared += 1
            for index, number in enumerate(numbers):
                place = Box(*(round(value * number) for value in box))
                wanted = read_finer(place, (side, side)).astype(np.float64).mean(axis=-1)
                differences[index] += np.abs(shown - wanted).mean()
    order = np.argsort(differences)
    if not compared:
        return None
    best = numbers[order[0]]
    clear = differences[order[0]] < _CLEAR * differences[order[1]]
    return best if clear and (best != level.downsample or by_size) else None


def _candidates(full: Size, level: Level, finer: float, tile: Size) -> Iterator[float]:
    """Yield the downsamples that a level may have: that of its size, and whole steps."""
    steps: Sequence[float] = [finer * step for step in _STEPS]
    if not any(math.isclose(step, level.downsample, rel_tol=0.005) for step in steps):
        yield level.downsample
    yield from (step for step in steps if _fits(full, level, step, tile))


def _fits(full: Size, level: Level, downsample: float, tile: Size) -> bool:
    """Return whether level 0 at a downsample, filled to whole tiles, has the size of a level."""
    sides = zip(full, (level.width, level.height), tile, strict=True)
    return all(-1 <= reduced - whole / downsample < length + 1 for whole, reduced, length in sides)
