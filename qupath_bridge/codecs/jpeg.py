"""JPEG by libjpeg-turbo."""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs
import numpy as np

from qupath_bridge.model import PixelArray

__all__ = ["JpegEncoder"]


@dataclass(frozen=True, slots=True)
class JpegEncoder:
    """JPEG files, YCbCr 4:2:0."""

    quality: int = 90
    extension: str = ".jpg"
    lossless: bool = False

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a JPEG file of pixels, shape (H, W, 3), uint8."""
        return bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(pixels),
                level=self.quality,
                colorspace="RGB",
                subsampling="420",
            )
        )
