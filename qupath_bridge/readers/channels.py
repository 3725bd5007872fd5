"""Types of pixel values that are read, and names of channels that a file does not name."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import RGB_CHANNELS

__all__ = ["PIXEL_TYPES", "channel_names", "default_names"]

PIXEL_TYPES = frozenset(
    np.dtype(name)
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
)
"""The types that QuPath has, in the byte order of the machine."""


def channel_names(count: int) -> tuple[str, ...]:
    """Return the names that QuPath gives to channels without any.

    >>> channel_names(2)
    ('Channel 1', 'Channel 2')
    """
    return tuple(f"Channel {number}" for number in range(1, count + 1))


def default_names(count: int, dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Return the names of the channels of pixels that say nothing: three of uint8 are RGB."""
    return RGB_CHANNELS if count == 3 and dtype == np.uint8 else channel_names(count)
