"""JPEG by libjpeg-turbo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import imagecodecs
import numpy as np

from qupath_bridge.model import PixelArray

from .base import EncoderOptions, check_contents

__all__ = ["JpegEncoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegEncoder(EncoderOptions):
    """8-bit JPEG files, grey or in colour, as YCbCr. No size is kept."""

    extension: ClassVar[str] = ".jpg"
    media_type: ClassVar[str] = "image/jpeg"
    lossless: ClassVar[bool] = False
    portable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_contents("JPEG", self.contents)

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a JPEG file of pixels, shape (H, W, 1 or 3), uint8."""
        if pixels.shape[-1] == 1:
            grey = np.ascontiguousarray(pixels[..., 0])
            return bytes(imagecodecs.jpeg8_encode(grey, level=self.quality))
        return bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(pixels),
                level=self.quality,
                colorspace="RGB",
                subsampling=self.subsampling,
            )
        )
