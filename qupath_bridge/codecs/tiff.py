"""TIFF with its resolution, compressed without loss."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import tifffile

from qupath_bridge.model import PixelArray

__all__ = ["TiffEncoder"]

UM_PER_CM = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffEncoder:
    """8-bit RGB TIFF files, deflate with horizontal prediction.

    ``mpp``, where it is known, goes into the resolution tags. There is no loss to choose.
    """

    extension: ClassVar[str] = ".tif"
    media_type: ClassVar[str] = "image/tiff"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    quality: int = 90
    subsampling: str = "420"
    mpp: float | None = None

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a TIFF file of pixels, shape (H, W, 3), uint8."""
        resolution = None if self.mpp is None else (UM_PER_CM / self.mpp, UM_PER_CM / self.mpp)
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            pixels,
            photometric="rgb",
            compression="deflate",
            compressionargs={"level": 1},
            predictor=True,
            resolution=resolution,
            resolutionunit=None if resolution is None else "CENTIMETER",
            metadata=None,
            software=False,
        )
        return buffer.getvalue()
