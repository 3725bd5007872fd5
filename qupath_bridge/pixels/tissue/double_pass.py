"""Tissue without annotations, in two passes: ``double-pass``.

The idea is that of Double-Pass (Ceachi et al., Cancers 2025, 17, 2918): what has a colour, and what
a clustering of all colours into two takes for the darker one, are tissue together. Two guards are
ours: black surrounds take part in neither pass, and two clusters that are nearly alike are both
glass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.base import SlideView, TissueMap, refuse_argument

from .color import DARK
from .finding import STATED
from .masks import close_mask, drop_specks, grow, open_mask

__all__ = ["DoublePassTissue"]

COLORED = 15
"""Difference between the channels of a pixel above which it has a colour."""

LEAST_COLORED = 500_000.0
"""µm². A smaller area of colour counts only where the second pass finds it, too."""

REACH = 20.0
"""µm by which masks are grown, closed and opened."""

REDUCTION = 4
"""Pixels along each axis that are one for the clustering."""

ALIKE = 12.0
"""Levels of brightness between two clusters that are both glass."""

_ROUNDS = 100
_SETTLED = 0.2


@dataclass(frozen=True, slots=True)
class DoublePassTissue:
    """Pixels that have a colour, and the darker of two clusters of colours. Takes no argument."""

    threshold: ClassVar[None] = None
    argument: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_argument("tissue", "double-pass", self.argument)

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the mask."""
        pixels, mpp = view.read_rgb("double-pass"), view.mpp or STATED
        radius = max(1, round(REACH / mpp))
        mask = _colored(pixels, mpp, radius) | _darker(pixels, radius)
        return TissueMap(open_mask(close_mask(mask, radius), radius))


def _colored(pixels: PixelArray, mpp: float, radius: int) -> MaskArray:
    """Return large areas of pixels whose channels differ, in the sharpened picture."""
    sharp = [_sharpened(pixels[..., channel]) for channel in range(3)]
    low, high = np.minimum.reduce(sharp), np.maximum.reduce(sharp)
    mask = (high - low > COLORED) & (pixels.max(axis=-1) >= DARK)
    mask = close_mask(grow(mask, radius), radius)
    return drop_specks(mask, LEAST_COLORED / mpp**2)


def _sharpened(channel: PixelArray) -> NDArray[np.int16]:
    framed = np.pad(channel, 1, mode="edge").astype(np.int16)
    around = framed[:-2, 1:-1] + framed[2:, 1:-1] + framed[1:-1, :-2] + framed[1:-1, 2:]
    return np.clip(5 * framed[1:-1, 1:-1] - around, 0, 255).astype(np.int16)


def _darker(pixels: PixelArray, radius: int) -> MaskArray:
    """Return the pixels of the darker of two clusters of colours, found on a smaller picture."""
    small = _reduced(pixels)
    values = small.reshape(-1, 3)
    lit = values.max(axis=1) >= DARK
    chosen = np.zeros(len(values), np.bool_)
    if lit.any():
        chosen[lit] = _darker_cluster(values[lit])
    mask = chosen.reshape(small.shape[:2])
    mask = mask.repeat(REDUCTION, axis=0).repeat(REDUCTION, axis=1)
    mask = mask[: pixels.shape[0], : pixels.shape[1]]
    return open_mask(close_mask(mask, radius), radius)


def _reduced(pixels: PixelArray) -> FloatArray:
    """Return the means of blocks; those at the right and lower edge are filled by repetition."""
    height, width = pixels.shape[:2]
    more = [(0, -height % REDUCTION), (0, -width % REDUCTION), (0, 0)]
    whole = np.pad(pixels, more, mode="edge")
    rows, columns = whole.shape[0] // REDUCTION, whole.shape[1] // REDUCTION
    blocks = whole.reshape(rows, REDUCTION, columns, REDUCTION, 3)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32), np.float64)


def _darker_cluster(values: FloatArray) -> MaskArray:
    """Return which colours (N, 3) are nearer to the darker one of two centres."""
    brightness = values.mean(axis=1)
    order = np.argsort(brightness, kind="stable")
    centres = values[order[[len(order) // 20, len(order) - 1 - len(order) // 20]]]
    nearer = np.zeros(len(values), np.bool_)
    for _ in range(_ROUNDS):
        distances = ((values[:, None] - centres) ** 2).sum(axis=2)
        nearer = distances[:, 0] < distances[:, 1]
        if not nearer.any() or nearer.all():
            break
        moved = np.array([values[nearer].mean(axis=0), values[~nearer].mean(axis=0)])
        settled = np.abs(moved - centres).max() < _SETTLED
        centres = moved
        if settled:
            break
    dark, bright = centres.mean(axis=1)
    return nearer if bright - dark > ALIKE else np.zeros(len(values), np.bool_)
