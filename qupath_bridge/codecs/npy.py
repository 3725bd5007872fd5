"""NumPy's own files: pixels of every type, as they are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib import format as npy

from qupath_bridge.model import PixelArray

from .base import EncoderOptions
from .raw import little_endian

__all__ = ["SIGNATURE", "NpyEncoder", "decode_npy"]

SIGNATURE = npy.MAGIC_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyEncoder(EncoderOptions):
    """NPY files of an array (H, W, C), not compressed. Names of channels are not kept."""

    extension: ClassVar[str] = ".npy"
    media_type: ClassVar[str] = "application/octet-stream"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    def encode(self, pixels: PixelArray) -> bytes:
        """Return an NPY file of pixels, shape (H, W, C), of any type."""
        buffer = io.BytesIO()
        npy.write_array(buffer, little_endian(pixels), version=(1, 0), allow_pickle=False)
        return buffer.getvalue()


def decode_npy(data: bytes) -> PixelArray:
    """Return the array of an NPY file without copying it.

    Raises
    ------
    ValueError
        If it is damaged, or not an array of numbers.
    """
    buffer = io.BytesIO(data)
    try:
        if npy.read_magic(buffer) != (1, 0):
            raise ValueError("not an NPY file of version 1.0")
        shape, by_columns, dtype = npy.read_array_header_1_0(buffer)
        if by_columns or dtype.hasobject or len(shape) != 3:
            raise ValueError("not an array (H, W, C) of numbers, row after row")
        found = np.frombuffer(data, dtype, offset=buffer.tell()).reshape(shape)
    except ValueError:
        raise
    except Exception as error:
        # Of a damaged header, numpy also passes on what its parser raises: SyntaxError, TypeError,
        # tokenize.TokenError ... It is the cause of this error, which decode makes a ReadError.
        raise ValueError(str(error) or type(error).__name__) from error
    return found.astype(dtype.newbyteorder("="), copy=False)
