"""Pixels as they are, without a header: what containers of arrays hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qupath_bridge.model import PixelArray

from .base import RGB_PIXELS, Contents, EncoderOptions

__all__ = ["RawEncoder", "decode_raw", "little_endian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEncoder(EncoderOptions):
    """Pixels of every type, row after row, as they are in memory; nothing else is kept."""

    extension: ClassVar[str] = ".raw"
    media_type: ClassVar[str] = "application/octet-stream"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    def encode(self, pixels: PixelArray) -> bytes:
        """Return the bytes of pixels, shape (H, W, C), of any type."""
        return little_endian(pixels).tobytes()


def little_endian(pixels: PixelArray) -> PixelArray:
    """Return pixels one after the other, in little-endian order."""
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))


def decode_raw(data: bytes, size: tuple[int, int], contents: Contents = RGB_PIXELS) -> PixelArray:
    """Return the pixels of a patch of a width and height, shape (H, W, C), as the contents say.

    Raises
    ------
    ValueError
        If there are more bytes or fewer.
    """
    dtype = np.dtype(contents.dtype).newbyteorder("<")
    return np.frombuffer(data, dtype).reshape(size[1], size[0], len(contents.channels))
