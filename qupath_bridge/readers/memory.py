"""Slides that are arrays: for images made in Python, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.model import Box, MaskArray, Plane

from .background import WHITE
from .base import Fingerprint, Pixels
from .levels import LevelReader

__all__ = ["MemoryReader"]


class MemoryReader(LevelReader):
    """Reads arrays as if they were a slide. Pickles with its arrays.

    Parameters
    ----------
    pixels : array, shape (H, W, 3) or (T, Z, H, W, 3), uint8
        Level 0, RGB.
    levels : sequence of arrays
        Further levels, finest first, with the same planes.
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
        pixels: NDArray[np.uint8],
        *,
        levels: Sequence[NDArray[np.uint8]] = (),
        mask: MaskArray | None = None,
        bounds: Box | None = None,
        pixel_size: tuple[float, float] | None = None,
        objective_power: float | None = None,
        background: tuple[int, int, int] = WHITE,
        name: str = "memory",
    ) -> None:
        self._arrays = tuple(_stack(array, name) for array in (pixels, *levels))
        first = self._arrays[0]
        if any(array.shape[:2] != first.shape[:2] for array in self._arrays):
            raise UsageError(f"{name}: the levels have different numbers of planes.")
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
        return np.where(mask[..., None], pixels, np.array(self._background, np.uint8)), mask

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all pixels of all levels."""
        digest = xxhash.xxh3_128()
        for array in self._arrays:
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return Fingerprint(sum(a.nbytes for a in self._arrays), digest.hexdigest(), 0)


def _stack(array: NDArray[np.uint8], name: str) -> NDArray[Any]:
    if (
        array.dtype != np.uint8
        or array.ndim not in (3, 5)
        or array.shape[-1] != 3
        or not array.size
    ):
        raise UsageError(
            f"{name}: {array.dtype} pixels of shape {array.shape} are not an RGB image.",
            hint="Give uint8 arrays of shape (H, W, 3) or (T, Z, H, W, 3).",
        )
    return array if array.ndim == 5 else array[None, None]
