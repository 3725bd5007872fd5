"""Turning blocks of a slide into QuPath's view of it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import MaskArray, PixelArray

__all__ = ["orient", "warp"]

T = TypeVar("T", bound=np.generic)

_ROWS = 256  # warped at once, so the memory does not grow with the output
_DIGITS = 6  # of a pixel: takes the float noise off a point on the block's edge


def orient(array: NDArray[T], orientation: tuple[int, bool]) -> NDArray[T]:
    """Mirror and turn a batch of arrays by quarter turns.

    Parameters
    ----------
    array : shape (N, H, W, C) or (N, H, W)
    orientation : (turns, mirror)
        Clockwise quarter turns, after left and right changed places if ``mirror``.

    Returns
    -------
    array
        Contiguous; shape (N, W, H, ...) for an odd number of turns.

    Examples
    --------
    >>> orient(np.array([[[1, 2], [3, 4]]]), (1, False)).tolist()
    [[[3, 1], [4, 2]]]
    """
    turns, mirror = orientation
    if mirror:
        array = array[:, :, ::-1]
    return np.ascontiguousarray(np.rot90(array, -turns, axes=(1, 2)))


def warp(
    block: PixelArray,
    mask: MaskArray | None,
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]],
    size: tuple[int, int],
) -> tuple[PixelArray, MaskArray]:
    """Sample a block through an affine map, bilinearly.

    Parameters
    ----------
    block : array, shape (H, W, C), of integers or floats
    mask : array, shape (H, W), or None
        False where the block has no pixels.
    matrix : 2 x 3
        From output coordinates to the block's; both count from the upper left *edge*, so the
        centre of the first pixel is (0.5, 0.5).
    size : (width, height)
        Of the output, pixels.

    Returns
    -------
    pixels : array, shape (height, width, C), of the type of the block
        Integers are rounded half up; a NaN takes part only where its weight is above 0.
        Undefined where the mask is False.
    valid : array, shape (height, width), bool
        Where the centre of an output pixel falls on a valid pixel of the block.
    """
    width, height = size
    pixels: PixelArray = np.zeros((height, width, block.shape[2]), block.dtype)
    valid = np.zeros((height, width), np.bool_)
    if not block.size:
        return pixels, valid
    (a, b, tx), (c, d, ty) = matrix
    x = np.arange(width) + 0.5
    for top in range(0, height, _ROWS):
        y = np.arange(top, min(top + _ROWS, height))[:, None] + 0.5
        across = np.round(a * x + b * y + tx, _DIGITS)
        down = np.round(c * x + d * y + ty, _DIGITS)
        rows = slice(top, top + y.size)
        pixels[rows] = _bilinear(block, across, down)
        valid[rows] = _valid(mask, block.shape[:2], across, down)
    return pixels, valid


def _bilinear(
    block: PixelArray, across: NDArray[np.float64], down: NDArray[np.float64]
) -> PixelArray:
    height, width = block.shape[:2]
    # Centres of the block's pixels are at halves; past the outermost ones the edge is repeated.
    u = np.clip(across - 0.5, 0, width - 1)
    v = np.clip(down - 0.5, 0, height - 1)
    left, top = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (u - left)[..., None], (v - top)[..., None]
    upper = _between(block[top, left], block[top, right], fx)
    lower = _between(block[bottom, left], block[bottom, right], fx)
    found = _between(upper, lower, fy)
    if block.dtype.kind != "f":
        found = np.floor(found + 0.5)
    return np.asarray(found.astype(block.dtype))


def _between(first: PixelArray, second: PixelArray, part: NDArray[np.float64]) -> PixelArray:
    """Return the first value where ``part`` is 0, the second where it is 1, and between them."""
    with np.errstate(invalid="ignore"):  # infinities of both signs are a NaN
        found = first * (1 - part) + second * part
    if np.isfinite(found).all():
        return np.asarray(found)
    return np.asarray(np.where(part == 0, first, found))  # a NaN with weight 0 does not count


def _valid(
    mask: MaskArray | None,
    shape: tuple[int, ...],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
) -> MaskArray:
    height, width = shape
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    if mask is None:
        return np.asarray(inside)
    columns = np.clip(np.floor(across), 0, width - 1).astype(np.intp)
    rows = np.clip(np.floor(down), 0, height - 1).astype(np.intp)
    return np.asarray(inside & mask[rows, columns])
