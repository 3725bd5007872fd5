"""Tissue by the saturation of its colours: ``saturation`` and ``otsu``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import MaskArray, PixelArray
from qupath_bridge.pixels.base import SlideView, TissueMap, refuse_argument
from qupath_bridge.pixels.glass import glass_colour, has_cast, white_balanced

from .color import stain_saturation
from .finding import STATED, lacks_glass, split_by_otsu
from .masks import drop_specks, fill_holes, smooth

__all__ = [
    "LEAST_HOLE",
    "LEAST_PIECE",
    "OtsuTissue",
    "SaturationTissue",
    "clean_pieces",
    "slide_saturation",
]

SMOOTHING = 15.0
"""µm around a pixel over which its saturation is a mean."""

LEAST_HOLE = 25_000.0
"""µm². Smaller holes are filled: fat cells, vessels, glands. A circle of 178 µm."""

LEAST_PIECE = 10_000.0
"""µm². Smaller pieces are not tissue: dust, loose cells. A square of 100 µm."""


@dataclass(frozen=True, slots=True)
class SaturationTissue:
    """The saturation as the probability of tissue, pixel by pixel. Takes no argument."""

    threshold: ClassVar[float | Literal["otsu"] | None] = "otsu"
    argument: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_argument("tissue", "saturation", self.argument)

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the saturation, 0 where a pixel is too dark or too bright to tell."""
        values, note = slide_saturation(view.read_rgb("saturation"))
        return TissueMap(values, note=note)


@dataclass(frozen=True, slots=True)
class OtsuTissue:
    """Smoothed saturation above Otsu's threshold, without specks and holes. No argument."""

    threshold: ClassVar[None] = None
    argument: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_argument("tissue", "otsu", self.argument)

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the mask."""
        mpp = view.mpp or STATED
        values, cast = slide_saturation(view.read_rgb("otsu"))
        mask, _, note = split_by_otsu(smooth(values, round(SMOOTHING / mpp)))
        notes = " ".join(filter(None, (cast, note))) or None
        return TissueMap(clean_pieces(mask, mpp), note=notes)


def slide_saturation(pixels: PixelArray) -> tuple[NDArray[np.float32], str | None]:
    """Return the saturation of a slide, and a remark if a cast of its glass is taken away.

    Parameters
    ----------
    pixels : array, shape (h, w, 3), uint8
        The whole slide, small.

    Returns
    -------
    values : array, shape (h, w), float32, 0 to 1
        As of :func:`~qupath_bridge.pixels.tissue.color.stain_saturation`.
    note : str or None
    """
    values = stain_saturation(pixels)
    glass = glass_colour(pixels) if lacks_glass(values) else None
    if glass is None or not has_cast(glass):
        return values, None
    shown = ", ".join(f"{level:.0f}" for level in glass)
    note = f"The glass of the slide has a colour cast ({shown}), which is taken away."
    return stain_saturation(white_balanced(pixels, glass)), note


def clean_pieces(mask: MaskArray, mpp: float) -> MaskArray:
    """Return a mask without small pieces, and with small holes filled.

    Parameters
    ----------
    mask : array, shape (h, w), bool
    mpp : float
        µm per pixel.
    """
    area = mpp * mpp
    return fill_holes(drop_specks(mask, LEAST_PIECE / area), LEAST_HOLE / area)
