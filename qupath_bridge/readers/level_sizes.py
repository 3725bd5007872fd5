"""Sizes of levels and pixels: which downsample a level has, which pixel size is believed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from qupath_bridge.pixels.resample import NATIVE_TOLERANCE

from .base import Level, Reader

__all__ = [
    "PLAUSIBLE_MPP",
    "axis_factor",
    "level_downsamples",
    "level_factors",
    "make_levels",
    "plausible_pixel_size",
    "positive_number",
    "whole_downsamples",
]

PLAUSIBLE_MPP = (0.05, 10.0)
"""µm per pixel that a TIFF resolution tag is believed: many files say 72 dpi and mean nothing."""

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def make_levels(
    sizes: Sequence[tuple[int, int]], full: tuple[int, int] | None = None
) -> tuple[Level, ...]:
    """Return levels of these sizes; the downsample is the mean of both axes, as in OpenSlide.

    ``full`` is the size of level 0, the first of the sizes when not given.
    """
    width, height = full or sizes[0]
    return tuple(Level(w, h, (width / w + height / h) / 2) for w, h in sizes)


def axis_factor(full: int, reduced: int) -> float:
    """Return how many level-0 pixels one pixel of a level covers along an axis.

    Parameters
    ----------
    full, reduced : int
        Pixels of level 0 and of the level.

    Returns
    -------
    float
        A whole number where the level is level 0 over that number, cut or filled to whole pixels,
        as nearly all writers do: 4443 pixels halved to 2221 have a factor of 2, and 2.00045 would
        be off by a pixel at the far end. Else the ratio.
    """
    whole = round(full / reduced)
    return float(whole) if reduced in (full // whole, -(-full // whole)) else full / reduced


def plausible_pixel_size(x: float, y: float) -> tuple[float, float] | None:
    """Return µm per pixel from the resolution of a file, None if it is a screen's or printer's."""
    low, high = PLAUSIBLE_MPP
    return (x, y) if low <= x <= high and low <= y <= high else None


def positive_number(text: str | None) -> float | None:
    """Return the positive number that a text is, None for other texts."""
    text = (text or "").strip()
    number = float(text) if _NUMBER.fullmatch(text) else 0.0
    return number if 0 < number < math.inf else None


def level_factors(size: tuple[int, int], level: Level) -> tuple[float, float]:
    """Return how many level-0 pixels one pixel of a level covers, along x and y.

    Parameters
    ----------
    size : (int, int)
        Width and height of level 0, pixels.
    level : Level
        Where its downsample is that of the sizes, each axis follows from the sizes
        (:func:`axis_factor`). Another downsample is the true one of a level that is larger than
        what it shows, because it was filled to whole tiles.
    """
    (by_size,) = make_levels([(level.width, level.height)], size)
    if not math.isclose(level.downsample, by_size.downsample, rel_tol=1e-6):
        whole = round(level.downsample)
        near = abs(level.downsample - whole) <= NATIVE_TOLERANCE
        return (float(whole),) * 2 if near else (level.downsample,) * 2
    return axis_factor(size[0], level.width), axis_factor(size[1], level.height)


def level_downsamples(reader: Reader) -> tuple[float, ...]:
    """Return how many level-0 pixels one pixel of each level covers, on the finer axis."""
    return tuple(min(level_factors(reader.size, level)) for level in reader.levels)


def whole_downsamples(reader: Reader) -> tuple[int, ...]:
    """Return the downsamples of the levels that are a whole number, and the same on both axes.

    A number that differs from a whole one by 1e-3 at most counts as whole.
    """
    found = []
    for level in reader.levels:
        factors = level_factors(reader.size, level)
        whole = round(factors[0])
        if all(abs(factor - whole) <= NATIVE_TOLERANCE for factor in factors):
            found.append(whole)
    return tuple(found)
