"""Smaller views of batches of patches, so that judging them costs little."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import PixelArray

from .resample import area_means, pixel_edges

__all__ = ["FINEST", "UNKNOWN", "every_other_band", "gray_at_micrometre", "lattice"]

SIDE = 64
"""Pixels per side of a patch that are looked at, at least, where it has more."""

FINEST = 1.0
"""µm per pixel at which structure is judged: what is finer is averaged."""

UNKNOWN = 0.5
"""µm per pixel of patches whose pixel size is not known."""

_WHOLE = 0.1  # part by which a whole factor may miss FINEST


def lattice(
    batch: PixelArray, widest: int | None = None
) -> tuple[tuple[NDArray[np.uint8], ...], int]:
    """Return red, green and blue of every n-th pixel of each patch, and n.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
    widest : int, optional
        n at most.

    Returns
    -------
    channels : three arrays, shape (N, h, w), uint8
        Copies; ``h`` and ``w`` are at least 64 where the patch has that many pixels.
    step : int
    """
    step = max(min(batch.shape[1:3]) // SIDE, 1)
    step = step if widest is None else min(step, max(widest, 1))
    first = step // 2
    channels = tuple(np.ascontiguousarray(batch[:, first::step, first::step, k]) for k in range(3))
    return channels, step


def gray_at_micrometre(batch: PixelArray, mpp: float | None) -> NDArray[Any]:
    """Return the green channel, in which stained tissue has most contrast, at 1 µm per pixel.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
    mpp : float or None
        µm per pixel; 0.5 where it is not known. Coarser pixels than 1 µm stay as they are.

    Returns
    -------
    array, shape (N, h, w), float32, 0 to 255
        Means of boxes; by a whole factor where that meets 1 µm within a tenth.
    """
    wanted = FINEST / (mpp or UNKNOWN)
    factor = max(round(wanted), 1)
    green = batch[..., 1]
    height, width = green.shape[1:]
    if wanted > 1 and abs(factor - wanted) > _WHOLE * wanted:
        across, down = (max(round(side / wanted), 1) for side in (width, height))
        edges = pixel_edges(0, width, across), pixel_edges(0, height, down)
        return area_means(np.ascontiguousarray(green)[..., None], *edges)[..., 0].astype(np.float32)
    factor = min(factor, height, width)
    return _box_means(green, factor)


def every_other_band(batch: PixelArray, mpp: float | None, micrometres: int) -> PixelArray:
    """Return bands of rows, every other one: half of each patch stands for the whole.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
    mpp : float or None
        µm per pixel; 0.5 where it is not known.
    micrometres : int
        Height of a band; pixels where they are coarser than 1 µm.

    Returns
    -------
    array, shape (N, k, rows, W, 3), uint8
        A view. The whole patches, with k = 1, where two bands are more than a patch.
    """
    count, height, width, channels = batch.shape
    rows = round(micrometres * max(FINEST / (mpp or UNKNOWN), 1))
    bands = height // (2 * rows)
    if not bands:
        return batch[:, None]
    whole = batch[:, : bands * 2 * rows].reshape(count, bands, 2, rows, width, channels)
    return whole[:, :, 0]


def _box_means(values: NDArray[np.uint8], factor: int) -> NDArray[np.float32]:
    height, width = (side // factor * factor for side in values.shape[1:])
    values = values[:, :height, :width]
    if factor == 1:
        return values.astype(np.float32)
    rows = np.add(values[:, ::factor], values[:, 1::factor], dtype=np.uint16)
    for step in range(2, factor):
        rows += values[:, step::factor]
    means = np.add(rows[:, :, ::factor], rows[:, :, 1::factor], dtype=np.float32)
    for step in range(2, factor):
        means += rows[:, :, step::factor]
    means *= np.float32(1 / factor**2)
    return means
