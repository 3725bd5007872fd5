"""Sizes that JPEG XL and JPEG XR pictures say they have, read from their first bytes.

Such a tile is decoded at its own size: some hundred bytes can take gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["jpeg_xl_size", "jpeg_xr_size"]

_XL_START = b"\xff\x0a"
_XL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_XL_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_XL_BITS = (9, 13, 18, 30)
_XR_START = b"WMPHOTO\0"


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG XL picture; (0, 0) if they cannot be found."""
    start = next(_xl_streams(data), b"")
    if not start.startswith(_XL_START):
        return 0, 0
    bits = _Bits(start[2:14])
    small = bits.take(1)
    height = _xl_length(bits, small)
    ratio = bits.take(3)
    if not ratio:
        return _xl_length(bits, small), height
    over, under = _XL_RATIOS[ratio - 1]
    return height * over // under, height


def _xl_streams(data: bytes) -> Iterator[bytes]:
    """Yield the beginning of each part of the picture in its boxes; of a bare one all of it."""
    if not data.startswith(_XL_BOXES):
        yield data
        return
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):  # the length is behind, in 64 bits
            (length,), head = struct.unpack_from(">Q", data, place + 8), 16
        if kind in (b"jxlc", b"jxlp"):
            yield data[place + head + (4 if kind == b"jxlp" else 0) :]
        if length < head:  # 0: up to the end of the file
            return
        place += length


def _xl_length(bits: _Bits, small: int) -> int:
    return 8 * (bits.take(5) + 1) if small else bits.take(_XL_BITS[bits.take(2)]) + 1


class _Bits:
    """Bits of little-endian bytes, the lowest first; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self.rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self.rest & ((1 << count) - 1)
        self.rest >>= count
        return value


def jpeg_xr_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG XR picture, the largest if it says several; or (0, 0)."""
    width = height = 0
    place = data.find(_XR_START)
    while 0 <= place <= len(data) - 16:
        short = data[place + 10] & 0x80
        form, length = (">2H", 4) if short else (">2I", 8)
        if place + 12 + length <= len(data):
            less = struct.unpack_from(form, data, place + 12)
            width, height = max(width, less[0] + 1), max(height, less[1] + 1)
        place = data.find(_XR_START, place + 1)
    return width, height
