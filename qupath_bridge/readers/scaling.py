"""Scaling what a reader read of a level: in blocks, with the mask of valid pixels."""

from __future__ import annotations

import math

import numpy as np

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.resample import area_means, pixel_edges
from qupath_bridge.timing import step

from .base import Pixels

__all__ = ["averaged", "block_shape", "relative_edges"]


def averaged(
    pixels: PixelArray, mask: MaskArray | None, x_edges: FloatArray, y_edges: FloatArray
) -> Pixels:
    """Return the means of a batch between edges, and where at least half of each is valid."""
    with step("resample"):
        pixels = area_means(pixels, x_edges, y_edges)
        if mask is not None:
            cover = np.where(mask, np.uint8(255), np.uint8(0))
            mask = area_means(cover[..., None], x_edges, y_edges)[..., 0] > 127
    return pixels, mask


def relative_edges(start: int, length: int, factor: float, count: int) -> tuple[int, FloatArray]:
    """Return the pixel of a level in which a box begins, and the edges of its output from there.

    From full-resolution coordinates, so that no error grows along a slide; and relative, so that
    equal boxes at whole pixels have equal edges.
    """
    first = math.floor(start / factor)
    rest = start / factor - first
    return first, pixel_edges(rest, rest + length / factor, count)


def block_shape(x_edges: FloatArray, y_edges: FloatArray, limit: int) -> tuple[int, int]:
    """Return how many output rows and columns to make at once, of ``limit`` source pixels."""
    height, width = len(y_edges) - 1, len(x_edges) - 1
    x_step = float(x_edges[-1] - x_edges[0]) / width
    y_step = float(y_edges[-1] - y_edges[0]) / height
    row = width * x_step * y_step
    rows = min(max(int(limit / row), 1), height)
    columns = min(max(int(limit / (rows * x_step * y_step)), 1), width)
    return rows, columns
