"""Pixels as they are, without a header: what containers of arrays hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qupath_bridge.model import PixelArray

__all__ = ["RawEncoder", "decode_raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEncoder:
    """8-bit RGB pixels, row after row. There is no loss to choose, and ``mpp`` is not kept."""

    extension: ClassVar[str] = ".raw"
    media_type: ClassVar[str] = "application/octet-stream"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    quality: int = 90
    subsampling: str = "420"
    mpp: float | None = None

    def encode(self, pixels: PixelArray) -> bytes:
        """Return the bytes of pixels, shape (H, W, 3), uint8."""
        return pixels.tobytes()


def decode_raw(data: bytes, size: tuple[int, int]) -> PixelArray:
    """Return the pixels of a patch of a width and height, shape (H, W, 3), uint8.

    Raises
    ------
    ValueError
        If there are more bytes or fewer.
    """
    return np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)
