"""Pixels with transparency, on the background of a slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qupath_bridge.model import PixelArray

from .base import RGB_CHANNELS, Pixels

__all__ = ["WHITE", "blend_alpha", "default_background"]

WHITE = (255, 255, 255)


def default_background(channels: Sequence[str], dtype: np.dtype[Any]) -> tuple[float, ...]:
    """Return the background of a slide that names none: white for RGB, else zeros.

    QuPath, too, shows zeros where a slide with other channels has no pixels.
    """
    rgb = tuple(channels) == RGB_CHANNELS and dtype == np.uint8
    return WHITE if rgb else (0,) * len(channels)


def blend_alpha(
    rgba: PixelArray, background: Sequence[float], *, multiplied: bool = False
) -> Pixels:
    """Put pixels with transparency on the background.

    Parameters
    ----------
    rgba : array, shape (H, W, 4), uint8
    background : sequence of three numbers
    multiplied : bool
        Whether the colours are multiplied by the alpha already.

    Returns
    -------
    pixels : array, shape (H, W, 3), uint8
    mask : array, shape (H, W), or None
        False where a pixel is at least half transparent.
    """
    colors, alpha = rgba[..., :3], rgba[..., 3]
    if (alpha == 255).all():
        return np.ascontiguousarray(colors), None
    cover = alpha[..., None].astype(np.uint32)
    own = colors.astype(np.uint32) * (255 if multiplied else cover)
    mixed = own + np.array(background, np.uint32) * (255 - cover)
    return np.minimum((mixed + 127) // 255, 255).astype(np.uint8), alpha > 127
