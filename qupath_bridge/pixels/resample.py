"""Choosing a resolution, and area averaging down to the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["NATIVE_TOLERANCE", "area_means", "area_resize", "choose_level", "pixel_edges"]

NATIVE_TOLERANCE = 1e-3
"""Two resolutions that differ by less than this are the same one.

Levels are cut to whole pixels, so a level meant as 4 has a downsample of 4.00012. Asked for 4, its
pixels are wanted as they are: no finer level scaled down, and no blur from a 0.003 % change.
"""

_DIGITS = 6  # of a pixel: takes the float noise off edges that are meant as whole numbers


def choose_level(downsamples: Sequence[float], wanted: float) -> int:
    """Choose the level to read: the coarsest that is not coarser than the target.

    Parameters
    ----------
    downsamples : sequence of float
        Level-0 pixels per pixel of each level; level 0 first.
    wanted : float
        Level-0 pixels per output pixel.

    Returns
    -------
    int
        Index of the level; 0 where the target is finer than level 0.
    """
    limit = wanted * (1 + NATIVE_TOLERANCE)
    fitting = [index for index, own in enumerate(downsamples) if own <= limit]
    return max(fitting, key=lambda index: downsamples[index], default=0)


def pixel_edges(start: float, stop: float, count: int) -> FloatArray:
    """Return the ``count + 1`` edges of equal output pixels between two source coordinates."""
    edges = start + np.arange(count + 1) * ((stop - start) / count)
    return np.asarray(np.round(edges, _DIGITS), dtype=np.float64)


def area_resize(
    pixels: PixelArray, box: tuple[float, float, float, float], size: tuple[int, int]
) -> PixelArray:
    """Scale a part of an image by area averaging.

    Each output pixel is the mean of the source area that it covers, pixels on its edges counted by
    the part that is inside, rounded half up. Whole factors are plain box means. Along an axis
    with a factor of at most 1.001 (the same resolution, or enlarging) it is the source pixel under
    the output pixel's centre, so the factor 1 returns the pixels as they are.

    Parameters
    ----------
    pixels : array, shape (H, W, 3), uint8
    box : (x0, y0, x1, y1)
        The part to scale, in pixels of ``pixels``, fractions allowed; must lie within it.
    size : (width, height)
        Of the output, pixels.

    Returns
    -------
    array, shape (height, width, 3), uint8
    """
    x0, y0, x1, y1 = box
    return area_means(pixels, pixel_edges(x0, x1, size[0]), pixel_edges(y0, y1, size[1]))


def area_means(
    values: NDArray[np.uint8], x_edges: FloatArray, y_edges: FloatArray
) -> NDArray[np.uint8]:
    """Return the means of the boxes between edges, as :func:`area_resize` does.

    A part of the edges gives the same part of the output, so large images can be scaled block by
    block.

    Parameters
    ----------
    values : array, shape (H, W, ...), uint8
    x_edges, y_edges : arrays, shapes (w + 1,) and (h + 1,)
        Ascending and equally spaced, within ``[0, W]`` and ``[0, H]``.

    Returns
    -------
    array, shape (h, w, ...), uint8
    """
    rows = _sum_rows(values, y_edges)
    if len(x_edges) == values.shape[1] + 1 and _is_native(x_edges):
        sums = rows
    else:
        # Columns are summed as rows of the transposed image: whole runs of memory at a time.
        sums = _sum_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), x_edges).swapaxes(0, 1)
    if sums.dtype == np.uint8:
        return np.ascontiguousarray(sums)
    areas = np.multiply.outer(_weights(y_edges), _weights(x_edges))
    means = sums / areas.reshape(*areas.shape, *[1] * (values.ndim - 2))
    means += 0.5
    return np.ascontiguousarray(means.astype(np.uint8))  # the cast cuts: rounded half up


def _is_native(edges: FloatArray) -> bool:
    return bool(edges[-1] - edges[0] <= (len(edges) - 1) * (1 + NATIVE_TOLERANCE))


def _weights(edges: FloatArray) -> FloatArray:
    return np.ones(len(edges) - 1) if _is_native(edges) else np.diff(edges)


def _sum_rows(values: NDArray[Any], edges: FloatArray) -> NDArray[Any]:
    """Return the sums of rows between edges, weighted by the part between them."""
    count = len(edges) - 1
    if _is_native(edges):
        picked = np.floor((edges[:-1] + edges[1:]) / 2).astype(np.intp)
        return values.take(np.minimum(picked, len(values) - 1), axis=0)
    first = np.floor(edges[:-1]).astype(np.intp)
    factor = int(edges[1] - edges[0])
    if np.array_equal(edges, first[0] + factor * np.arange(count + 1)):
        rows = values[first[0] : first[0] + factor * count].reshape(
            count, factor, *values.shape[1:]
        )
        kind = np.float64 if values.dtype == np.float64 else np.uint64
        return np.asarray(rows.sum(axis=1, dtype=kind))
    sums = np.zeros((count, *values.shape[1:]))
    low, high = edges[:-1], edges[1:]
    for step in range(int(np.max(np.ceil(high) - first))):
        row = first + step
        weight = np.maximum(np.minimum(high, row + 1) - np.maximum(low, row), 0)
        weight = weight.reshape(-1, *[1] * (values.ndim - 1))
        sums += values[np.minimum(row, len(values) - 1)] * weight
    return sums
