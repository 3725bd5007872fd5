"""JPEG XL without loss, by libjxl, and how to read it: Pillow does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import imagecodecs
import numpy as np

from qupath_bridge.model import PixelArray

from .base import EncoderOptions, check_contents

__all__ = ["SIGNATURE", "JxlEncoder", "decode_jxl", "size_of_jxl"]

if not imagecodecs.JPEGXL.available:
    raise ImportError("imagecodecs was built without JPEG XL")

SIGNATURE = b"\xff\x0a"
"""Beginning of a codestream, which is what the encoder writes."""

EFFORT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JxlEncoder(EncoderOptions):
    """8-bit JPEG XL files, grey or in colour, without loss, in the quickest way.

    There is no loss to choose, and no size is kept. Their size is nine tenths of PNG's.
    """

    extension: ClassVar[str] = ".jxl"
    media_type: ClassVar[str] = "image/jxl"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_contents("JPEG XL", self.contents)

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a JPEG XL file of pixels, shape (H, W, 1 or 3), uint8."""
        data = imagecodecs.jpegxl_encode(
            np.ascontiguousarray(pixels), lossless=True, effort=EFFORT, numthreads=1
        )
        return bytes(data)


def size_of_jxl(data: bytes) -> tuple[int, int]:
    """Return width and height that the header of a codestream says.

    Raises
    ------
    ValueError
        If the data are not a codestream.

    Examples
    --------
    >>> size_of_jxl(JxlEncoder().encode(np.zeros((300, 17, 3), np.uint8)))
    (17, 300)
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("not a JPEG XL codestream")
    bits = _Bits(int.from_bytes(data[2:16], "little"))
    eighths = bits.take(1)
    height = 8 * (bits.take(5) + 1) if eighths else bits.take(_WIDTHS[bits.take(2)]) + 1
    ratio = _RATIOS[bits.take(3)]
    if ratio is not None:
        return height * ratio[0] // ratio[1], height
    return 8 * (bits.take(5) + 1) if eighths else bits.take(_WIDTHS[bits.take(2)]) + 1, height


_WIDTHS = (9, 13, 18, 30)  # bits of a side, by the two bits before it
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(slots=True)
class _Bits:
    """Numbers of some bits each, the lowest bit first."""

    rest: int

    def take(self, count: int) -> int:
        value = self.rest & ((1 << count) - 1)
        self.rest >>= count
        return value


def decode_jxl(data: bytes, channels: int = 3) -> PixelArray:
    """Return the first picture of a codestream, shape (H, W, channels), uint8.

    Raises
    ------
    ValueError, RuntimeError
        If it is not whole, or has another number of channels, or other bits than 8.
    """
    width, height = size_of_jxl(data)
    pixels = np.empty((height, width, channels), np.uint8)
    imagecodecs.jpegxl_decode(data, 0, numthreads=1, out=pixels)
    return pixels
