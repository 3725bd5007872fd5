"""The order in which patches are read: block by block, as the tiles of slide files lie."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import IntArray

__all__ = ["reading_batches"]

BATCH_BYTES = 16 << 20
"""Pixels of the patches that are made at once: enough to hide the cost of a batch, few enough to
stop soon and to stay in a cache."""

MAX_SIDE = 16
"""Grid cells along a side of a block."""


def reading_batches(
    col: NDArray[np.integer],
    row: NDArray[np.integer],
    z: NDArray[np.integer],
    t: NDArray[np.integer],
    patch_bytes: int,
) -> Iterator[IntArray]:
    """Yield the numbers of patches that are read together, each patch once.

    A batch has the patches of a square block of the grid, or of blocks next to each other along a
    row where they are sparse. Patches that do not lie on the tiles of the slide file share those
    tiles with their neighbours on all sides: in a block of 9 x 9 patches, each of the size of a
    tile, a tile is decoded 1.23 times, where it is 2 times along a row. Memory does not grow with
    the width of a slide.

    Parameters
    ----------
    col, row : arrays, shape (N,)
        Places in the patch grid, or near which cell of it a patch is; may be negative.
    z, t : arrays, shape (N,)
        Planes. A batch has patches of one plane.
    patch_bytes : int
        Bytes of the pixels of one patch.

    Yields
    ------
    array, shape (M,), int64
        Numbers of patches, row by row inside a block. The order depends on the arguments alone.
    """
    side = min(max(math.isqrt(BATCH_BYTES // max(patch_bytes, 1)), 1), MAX_SIDE)
    down, across = row // side, col // side
    order = np.lexsort((col, row, across, down, t, z))
    if not len(order):
        return
    keys = np.stack([values[order] for values in (z, t, down, across)])
    changed = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    starts = np.concatenate([[0], np.flatnonzero(changed) + 1]).tolist()
    most = side * side
    # A batch stays in one row of blocks of one plane.
    bands = keys[:3, starts].T.tolist()
    begin = 0
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(order)], strict=True)):
        full = end - begin > most
        if start > begin and (full or bands[number] != bands[number - 1]):
            yield from _parts(order[begin:start], most)
            begin = start
    yield from _parts(order[begin:], most)


def _parts(batch: IntArray, most: int) -> Iterator[IntArray]:
    """Yield a batch in parts: patches around objects can be many in one place."""
    for start in range(0, len(batch), most):
        yield batch[start : start + most]
