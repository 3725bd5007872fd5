"""Types of pixel values that are read, and names of channels that a file does not name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import RGB_CHANNELS

__all__ = ["PIXEL_TYPES", "default_names", "name_channels"]

PIXEL_TYPES = frozenset(
    np.dtype(name)
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
)
"""The types that QuPath has, in the byte order of the machine."""


def name_channels(said: Sequence[str | None] | None, count: int) -> tuple[str, ...]:
    """Return the names of channels; one without a name is called as in QuPath.

    Parameters
    ----------
    said : sequence of (str or None), or None
        What the file calls its channels, as far as it does.
    count : int
        Number of channels.

    Examples
    --------
    >>> name_channels(["DAPI", None], 3)
    ('DAPI', 'Channel 2', 'Channel 3')
    """
    names = [*(said or ()), *[None] * count][:count]
    return tuple(
        name if name and name.strip() else f"Channel {number}"
        for number, name in enumerate(names, 1)
    )


def default_names(count: int, dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Return the names of the channels of pixels that say nothing: three of uint8 are RGB."""
    return RGB_CHANNELS if count == 3 and dtype == np.uint8 else name_channels(None, count)
