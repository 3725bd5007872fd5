"""WebP without loss, by libwebp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import imagecodecs
import numpy as np

from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray

from .base import EncoderOptions, check_contents

__all__ = ["WebpEncoder"]

if not imagecodecs.WEBP.available:
    raise ImportError("imagecodecs was built without WebP")

MAX_SIDE = 16_382
"""Pixels; imagecodecs takes one less than the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebpEncoder(EncoderOptions):
    """8-bit RGB WebP files without loss, in the quickest way.

    There is no loss to choose, and no size is kept. Their size is nine tenths of PNG's.
    """

    extension: ClassVar[str] = ".webp"
    media_type: ClassVar[str] = "image/webp"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_contents("WebP", self.contents, (3,))

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a WebP file of pixels, shape (H, W, 3), uint8.

        Raises
        ------
        UsageError
            If a side has more than 16,382 pixels.
        """
        height, width, _ = pixels.shape
        if max(height, width) > MAX_SIDE:
            raise UsageError(
                f"A WebP file has no room for {width} x {height} pixels.",
                hint=f"Use a size of at most {MAX_SIDE}, or another format.",
            )
        data = imagecodecs.webp_encode(
            np.ascontiguousarray(pixels), level=0, method=0, lossless=True, numthreads=1
        )
        return bytes(data)
