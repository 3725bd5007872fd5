"""Slides that are arrays: for images made in Python, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from qupath_bridge.errors import UsageError
from qupath_bridge.model import Box, MaskArray, PixelArray, Plane

from .base import Fingerprint, Pixels
from .channels import PIXEL_TYPES, default_names
from .levels import LevelReader

__all__ = ["MemoryReader"]


class MemoryReader(LevelReader):
    """Reads arrays as if they were a slide. Pickles with its arrays.

    Parameters
    ----------
    pixels : array, shape (H, W, C) or (T, Z, H, W, C)
        Level 0, of integers of 8, 16 or 32 bits, float32 or float64.
    levels : sequence of arrays
        Further levels, finest first, with the same planes, channels and type.
    channels : sequence of str, optional
        Names of the channels. Without it three channels of uint8 are RGB, and others are called
        ``"Channel 1"``, ``"Channel 2"``, ...
    mask : array, shape (H, W), bool, optional
        False where level 0 has no pixels.
    bounds, pixel_size, objective_power, background
        What the reader reports, see :class:`~qupath_bridge.readers.base.Reader`.
    name : str
        What messages call it.

    Raises
    ------
    UsageError
        If the arrays have other shapes or another type.
    """

    def __init__(
        self,
        pixels: PixelArray,
        *,
        levels: Sequence[PixelArray] = (),
        channels: Sequence[str] | None = None,
        mask: MaskArray | None = None,
        bounds: Box | None = None,
        pixel_size: tuple[float, float] | None = None,
        objective_power: float | None = None,
        background: Sequence[float] | None = None,
        name: str = "memory",
    ) -> None:
        self._arrays = tuple(_stack(array, name) for array in (pixels, *levels))
        first = self._arrays[0]
        if any(array.shape[:2] != first.shape[:2] for array in self._arrays):
            raise UsageError(f"{name}: the levels have different numbers of planes.")
        if any(_kind(array) != _kind(first) for array in self._arrays):
            raise UsageError(f"{name}: the levels have different channels or types.")
        if channels is None:
            channels = default_names(first.shape[4], first.dtype)
        for what, own in (("channels", channels), ("background", background)):
            if own is not None and len(own) != first.shape[4]:
                raise UsageError(
                    f"{name}: {len(own)} values of `{what}` for {first.shape[4]} channels."
                )
        if mask is not None and mask.shape != first.shape[2:4]:
            raise UsageError(f"{name}: the mask has shape {mask.shape}, not {first.shape[2:4]}.")
        self._mask = mask
        super().__init__(
            name,
            [(array.shape[3], array.shape[2]) for array in self._arrays],
            bounds=bounds,
            pixel_size=pixel_size,
            objective_power=objective_power,
            planes=(first.shape[1], first.shape[0]),
            channels=channels,
            dtype=first.dtype,
            background=background,
        )

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        x, y, w, h = rectangle
        pixels = self._arrays[level][plane.t, plane.z, y : y + h, x : x + w]
        if self._mask is None:
            return pixels, None
        # Lower levels take the mask at their pixels' centres.
        width, height = self.size
        x_factor, y_factor = self._factors[level]
        columns = np.minimum((np.arange(x, x + w) + 0.5) * x_factor, width - 1).astype(np.intp)
        rows = np.minimum((np.arange(y, y + h) + 0.5) * y_factor, height - 1).astype(np.intp)
        mask = self._mask[np.ix_(rows, columns)]
        if mask.all():
            return pixels, None
        return np.where(mask[..., None], pixels, np.array(self._background, self.dtype)), mask

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all pixels of all levels."""
        digest = xxhash.xxh3_128()
        for array in self._arrays:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return Fingerprint(sum(a.nbytes for a in self._arrays), digest.hexdigest(), 0)


def _stack(array: PixelArray, name: str) -> PixelArray:
    if array.dtype not in PIXEL_TYPES or array.ndim not in (3, 5) or not array.size:
        raise UsageError(
            f"{name}: {array.dtype} pixels of shape {array.shape} are not an image.",
            hint="Give arrays of shape (H, W, C) or (T, Z, H, W, C), of integers of 8, 16 or 32 "
            "bits, float32 or float64.",
        )
    return array if array.ndim == 5 else array[None, None]


def _kind(array: PixelArray) -> tuple[int, np.dtype[Any]]:
    return array.shape[-1], array.dtype
