"""Memory for the pixels of one batch after the other."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import DTypeLike

from qupath_bridge.model import PixelArray

__all__ = ["Recycler"]

MOST_BYTES = 64 << 20
"""Of a block that is kept: batches are smaller, and a picture of a whole slide need not stay."""


class Recycler:
    """Gives arrays, in the memory of the last one where nobody holds that any more.

    Decoding JPEG to new memory takes up to a quarter longer than to memory that was just used. For
    one thread; arrays may go to others, and may be held for any time.
    """

    __slots__ = ("_alone", "_block")

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._alone = sys.getrefcount(self._block)  # which differs among Pythons

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> PixelArray:
        """Return an array whose values are not set, as ``numpy.empty`` does."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > MOST_BYTES:
            return np.empty(shape, dtype)
        # Each array that was given, and each part of it, holds the block.
        if size > len(self._block) or sys.getrefcount(self._block) > self._alone:
            self._block = np.empty(size, np.uint8)
        return self._block[:size].view(dtype).reshape(shape)
