"""Boxes of patches that share pixels across the sides of a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.model import BoxArray

__all__ = ["overlaps"]

_CHUNK = 2048
"""Boxes that are asked for at once: dense grids have hundreds of neighbours each."""


def overlaps(boxes: BoxArray, sides: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of boxes that share area and are on different sides, some at a time.

    Parameters
    ----------
    boxes : array, shape (N, 4), int, pixels
        x, y, width, height, all on one plane.
    sides : array, shape (N,), int

    Yields
    ------
    array, shape (M, 2), int
        Positions, the smaller one first; each pair once. Boxes that only touch are none.
    """
    if len(np.unique(sides)) < 2:
        return
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    shapes = shapely.box(left, top, right, bottom)
    tree = shapely.STRtree(shapes)
    for start in range(0, len(boxes), _CHUNK):
        found, b = tree.query(shapes[start : start + _CHUNK])
        a = found + start
        apart = (a < b) & (sides[a] != sides[b])
        a, b = a[apart], b[apart]
        across = np.minimum(right[a], right[b]) > np.maximum(left[a], left[b])
        down = np.minimum(bottom[a], bottom[b]) > np.maximum(top[a], top[b])
        pairs = np.stack([a, b], axis=1)[across & down]
        if len(pairs):
            yield pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
