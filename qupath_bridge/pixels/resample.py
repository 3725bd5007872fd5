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

_BLOCK_BYTES = 1 << 18  # scaled at once, so that what is between stays in the processor's cache
_SUMS = {"u": (np.uint16, np.uint32, np.uint64), "i": (np.int16, np.int32, np.int64)}
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
    the part that is inside. Whole factors are plain box means. Along an axis with a factor of at
    most 1.001 (the same resolution, or enlarging) it is the source pixel under the output pixel's
    centre, so the factor 1 returns the pixels as they are.

    Means of integers are rounded half up: -0.5 gives 0. Those of floats are computed in float64
    and stored in the type of the pixels; a NaN makes each mean NaN of which it is a part.

    Parameters
    ----------
    pixels : array, shape (H, W, C), of integers or floats
    box : (x0, y0, x1, y1)
        The part to scale, in pixels of ``pixels``, fractions allowed; must lie within it.
    size : (width, height)
        Of the output, pixels.

    Returns
    -------
    array, shape (height, width, C), of the type of the pixels
    """
    x0, y0, x1, y1 = box
    (means,) = area_means(pixels[None], pixel_edges(x0, x1, size[0]), pixel_edges(y0, y1, size[1]))
    return np.asarray(means)


def area_means(values: PixelArray, x_edges: FloatArray, y_edges: FloatArray) -> PixelArray:
    """Return the means of the boxes between edges, as :func:`area_resize` does, for a batch.

    A part of the edges gives the same part of the output, so large images can be scaled block by
    block.

    Parameters
    ----------
    values : array, shape (N, H, W, C), of integers or floats
    x_edges, y_edges : arrays, shapes (w + 1,) and (h + 1,)
        Ascending and equally spaced, within ``[0, W]`` and ``[0, H]``; the same for all images.

    Returns
    -------
    array, shape (N, h, w, C), of the type of the values
    """
    values = _pick_native(_pick_native(values, y_edges, 1), x_edges, 2)
    shape = (len(values), len(y_edges) - 1, len(x_edges) - 1, values.shape[3])
    means: PixelArray = np.empty(shape, values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs are a NaN
        _write_means(values, x_edges, y_edges, means)
    return means


def _write_means(
    values: PixelArray, x_edges: FloatArray, y_edges: FloatArray, means: PixelArray
) -> None:
    shape = means.shape
    x_whole, y_whole = _whole_factor(x_edges), _whole_factor(y_edges)
    if x_whole is not None and y_whole is not None:
        (left, across), (top, down) = x_whole, y_whole
        values = values[:, top : top + shape[1] * down, left : left + shape[2] * across]
        count = max(_BLOCK_BYTES // max(values[:1].nbytes, 1), 1)  # that stay in the cache
        for start in range(0, len(values), count):
            block = slice(start, start + count)
            _whole_means(values[block], down, across, means[block])
    else:
        for image, out in zip(values, means, strict=True):
            _weighted_means(image, x_edges, y_edges, out)


def _is_native(edges: FloatArray) -> bool:
    return bool(edges[-1] - edges[0] <= (len(edges) - 1) * (1 + NATIVE_TOLERANCE))


def _pick_native(values: PixelArray, edges: FloatArray, axis: int) -> PixelArray:
    """Return the values under the centres between edges, where one step is one value or less."""
    if not _is_native(edges):
        return values
    picked = np.floor((edges[:-1] + edges[1:]) / 2).astype(np.intp)
    picked = np.minimum(picked, values.shape[axis] - 1)
    if np.array_equal(picked, np.arange(picked[0], picked[0] + len(picked))):
        place = slice(picked[0], picked[0] + len(picked))
        return np.asarray(values[:, place] if axis == 1 else values[:, :, place])
    return np.asarray(values.take(picked, axis=axis))


def _whole_factor(edges: FloatArray) -> tuple[int, int] | None:
    """Return the first value and the values per step, None if a step has a fraction."""
    if _is_native(edges):
        return 0, 1
    first, factor = int(edges[0]), int(edges[1] - edges[0])
    return (
        (first, factor) if np.array_equal(edges, first + factor * np.arange(len(edges))) else None
    )


def _whole_means(values: PixelArray, down: int, across: int, out: PixelArray) -> None:
    """Write the means of boxes of ``down`` x ``across`` values."""
    area = down * across
    if area == 1:
        out[:] = values
        return
    count, height, width, channels = out.shape
    kind = _sum_type(values.dtype, area)
    rows = values.reshape(count, height, down, width * across * channels)
    sums: NDArray[Any] = rows[:, :, 0].astype(kind)
    for step in range(1, down):
        np.add(sums, rows[:, :, step], out=sums)
    if across > 1:
        wide, sums = sums, np.empty(out.shape, kind)
        for channel in range(channels):  # the inner loop runs along a row, not over the channels
            first, second, *others = (
                wide[..., channel + step * channels :: across * channels] for step in range(across)
            )
            np.add(first, second, out=sums[..., channel])
            for other in others:
                np.add(sums[..., channel], other, out=sums[..., channel])
    if kind is np.float64:
        np.divide(sums, area, out=sums)
    else:  # rounded half up
        np.add(sums, kind(area // 2), out=sums)
        np.floor_divide(sums, kind(area), out=sums)
    out[:] = sums.reshape(out.shape)


def _sum_type(dtype: np.dtype[Any], area: int) -> Any:
    """Return the smallest type that holds the sum of so many values, and half of ``area`` more."""
    if dtype.kind == "f":
        return np.float64
    most = (int(np.iinfo(dtype).max) + 1) * area
    return next(kind for kind in _SUMS[dtype.kind] if np.iinfo(kind).max >= most)


def _weighted_means(
    image: PixelArray, x_edges: FloatArray, y_edges: FloatArray, out: PixelArray
) -> None:
    """Write the means of an image (H, W, C) between edges at fractions of a pixel."""
    height, width, channels = image.shape
    down, across = _taps(y_edges, height, 1), _taps(x_edges, width, channels)
    areas = np.multiply.outer(_weights(y_edges), np.repeat(_weights(x_edges), channels))
    lines = image.reshape(height, width * channels)
    count = max(_BLOCK_BYTES // (8 * lines.shape[1]), 1)
    weighted = _multiplied_parts if image.dtype.kind == "f" else _multiplied
    for start in range(0, len(out), count):
        block = slice(start, start + count)
        # Rows, then columns: each the sum of a few values, times the part of each that counts.
        sums: NDArray[Any] = np.zeros((len(areas[block]), lines.shape[1]))
        for index, weights in down:
            part = lines.take(index[block], axis=0).astype(np.float64)
            sums += weighted(part, weights[block, None])
        wide, sums = sums, np.zeros(areas[block].shape)
        for index, weights in across:
            part = wide.take(index, axis=1, mode="clip")
            sums += weighted(part, weights)
        sums /= areas[block]
        if out.dtype.kind != "f":
            sums += 0.5  # rounded half up
        if out.dtype.kind == "i":
            np.floor(sums, out=sums)
        out[block] = sums.astype(out.dtype).reshape(out[block].shape)  # unsigned: cut


def _multiplied(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return values times weights, written over the values."""
    values *= weights
    return values


def _multiplied_parts(values: FloatArray, weights: FloatArray) -> FloatArray:
    """As :func:`_multiplied`, but 0 where the weight is 0, also for a NaN or infinity."""
    values *= weights
    if not np.isfinite(values).all():
        values[np.broadcast_to(weights == 0, values.shape)] = 0
    return values


def _weights(edges: FloatArray) -> FloatArray:
    return np.ones(len(edges) - 1) if _is_native(edges) else np.diff(edges)


def _taps(
    edges: FloatArray, length: int, channels: int
) -> list[tuple[NDArray[np.intp], FloatArray]]:
    """Return which values make up each mean along an axis: the first ones, the second ones, ...

    ``channels`` values of one pixel stand side by side along the axis; ``length`` is in pixels.
    """
    if _is_native(edges):  # picked already
        first = np.arange(len(edges) - 1)
        parts = [(first, np.ones(len(first)))]
    else:
        first = np.floor(edges[:-1]).astype(np.intp)
        low, high = edges[:-1], edges[1:]
        parts = []
        for place in (first + step for step in range(int(np.max(np.ceil(high) - first)))):
            weight = np.maximum(np.minimum(high, place + 1) - np.maximum(low, place), 0)
            parts.append((np.minimum(place, length - 1), weight))
    channel = np.arange(channels)
    return [
        ((index[:, None] * channels + channel).ravel(), np.repeat(weight, channels))
        for index, weight in parts
    ]
