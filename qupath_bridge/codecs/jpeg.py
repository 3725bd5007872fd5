"""JPEG by libjpeg-turbo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import imagecodecs
import numpy as np

from qupath_bridge.model import PixelArray

__all__ = ["JpegEncoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegEncoder:
    """8-bit RGB JPEG files, as YCbCr. ``mpp`` is not kept."""

    extension: ClassVar[str] = ".jpg"
    media_type: ClassVar[str] = "image/jpeg"
    lossless: ClassVar[bool] = False
    portable: ClassVar[bool] = True

    quality: int = 90
    subsampling: str = "420"
    mpp: float | None = None

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a JPEG file of pixels, shape (H, W, 3), uint8."""
        return bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(pixels),
                level=self.quality,
                colorspace="RGB",
                subsampling=self.subsampling,
            )
        )
