"""PNG, quickly: one filter for all rows, igzip, and the few bytes around.

Libraries choose a filter for each row and compress with zlib. On stained tissue that takes twenty
times as long and saves no more than a twentieth of the size. Of the filters, "up" gives the
smallest files but for "Paeth", which takes as long as everything else together. igzip's level 1
gives the size of libdeflate's level 1 in a third of the time; its levels 2 and 3 save nothing.

igzip finds repetitions by a hash that the processor computes, or by another one where the
processor has no instruction for it. So the bytes depend on the processor; the pixels never do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from qupath_bridge.model import PixelArray

from .base import EncoderOptions, check_contents

__all__ = ["PngEncoder", "encode_indexed", "encode_numbers"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}
"""Grey and colour, by the number of channels."""
INDEXED = 3
FILTER_UP = 2
LEVEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PngEncoder(EncoderOptions):
    """8-bit PNG files, grey or in colour. There is no loss to choose; no size is kept."""

    extension: ClassVar[str] = ".png"
    media_type: ClassVar[str] = "image/png"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_contents("PNG", self.contents, tuple(COLOUR_TYPES))

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a PNG file of pixels, shape (H, W, 1 or 3), uint8."""
        height, width, channels = pixels.shape
        rows = pixels.reshape(height, width * channels)
        return _png(rows, width, 8, COLOUR_TYPES[channels])


def encode_indexed(values: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Return a PNG file of numbers of colours, shape (H, W); ``palette`` is (256, 3).

    Readers give the numbers as they are; people see the colours.
    """
    return _png(values, values.shape[1], 8, INDEXED, _chunk(b"PLTE", palette.tobytes()))


def encode_numbers(values: NDArray[np.uint16]) -> bytes:
    """Return a grey PNG file of 16 bit, shape (H, W)."""
    rows = np.ascontiguousarray(values.astype(">u2")).view(np.uint8)
    return _png(rows, values.shape[1], 16, COLOUR_TYPES[1])


def _png(
    rows: NDArray[np.uint8], width: int, depth: int, colour_type: int, more: Sequence[bytes] = ()
) -> bytes:
    """Return a PNG file of the bytes of rows, shape (H, bytes per row)."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = isal_zlib.compress(_filtered(rows), LEVEL)
    return b"".join(
        [
            SIGNATURE,
            *_chunk(b"IHDR", header),
            *more,
            *_chunk(b"IDAT", data),
            *_chunk(b"IEND", b""),
        ]
    )


def _filtered(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows with the filter's number in front: each byte less the one above it."""
    height, width = rows.shape
    filtered = np.empty((height, 1 + width), np.uint8)
    filtered[:, 0] = FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)
