"""Patches that show the same: a difference hash finds candidates, small pictures confirm them.

The hash has one bit for each pair of neighbours in 8 rows of 9 averages: which of them is brighter.
It finds copies that were encoded, scaled or brightened anew. It does not find a copy that was
turned, mirrored, or scanned again at another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qupath_bridge.model import PixelArray

__all__ = ["Looks", "look_of", "similar_pairs"]

_SIDE = 16
_BITS = 64
MOST_BITS = 6
"""Bits of the hash in which two similar patches differ at most."""
LEAST_CORRELATION = 0.98
"""Correlation that their small pictures have at least."""
FLAT = 0.01
"""Deviation of a small picture from its mean, as a share of it, below which it shows nothing."""
_BLOCK = 4096
"""Patches that are compared with as many others at once."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What N patches look like.

    Attributes
    ----------
    hashes : array, shape (N, 64), int8
        1 and -1: the bits of the difference hash.
    small : array, shape (N, 256), float32
        The patch as 16 x 16 averages, of mean 0 and length 1.
    flat : array, shape (N,), bool
        Whether the patch shows nothing, as glass does.
    """

    hashes: NDArray[np.int8]
    small: NDArray[np.float32]
    flat: NDArray[np.bool_]

    @classmethod
    def of(cls, looks: Sequence[tuple[NDArray[np.int8], NDArray[np.float32], bool]]) -> Looks:
        """Return the looks of single patches as one value."""
        return cls(
            np.array([hashed for hashed, _, _ in looks], np.int8).reshape(-1, _BITS),
            np.array([small for _, small, _ in looks], np.float32).reshape(-1, _SIDE**2),
            np.array([flat for _, _, flat in looks], np.bool_),
        )


def look_of(pixels: PixelArray) -> tuple[NDArray[np.int8], NDArray[np.float32], bool]:
    """Return hash and small picture of a patch (H, W, C), and whether it shows nothing."""
    grey = Image.fromarray(pixels.mean(axis=2, dtype=np.float32))
    averages = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    hashed = np.where(averages[:, 1:] > averages[:, :-1], 1, -1).astype(np.int8).ravel()
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX)).ravel()
    mean = float(small.mean())
    small = small - mean
    length = float(np.linalg.norm(small))
    flat = length / _SIDE <= FLAT * max(mean, 1.0)
    return hashed, (small / max(length, 1e-6)).astype(np.float32), flat


def similar_pairs(
    looks: Looks, sides: NDArray[np.integer], files: NDArray[np.integer]
) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of similar patches on different sides and of different files, some at a time.

    The work grows with the square of the number of patches: 100,000 take seconds.

    Parameters
    ----------
    looks : Looks
        Of N patches; flat ones are not compared.
    sides, files : array, shape (N,), int

    Yields
    ------
    array, shape (M, 2), int
        Positions, the smaller one first; each pair once.
    """
    kept = np.flatnonzero(~looks.flat)
    bounds = range(0, len(kept), _BLOCK)
    for start in bounds:
        rows = kept[start : start + _BLOCK]
        own = looks.hashes[rows].astype(np.float32)
        for other in bounds[start // _BLOCK :]:
            columns = kept[other : other + _BLOCK]
            alike = own @ looks.hashes[columns].astype(np.float32).T
            a, b = np.nonzero(alike >= _BITS - 2 * MOST_BITS)
            a, b = rows[a], columns[b]
            apart = (a < b) & (sides[a] != sides[b]) & (files[a] != files[b])
            a, b = a[apart], b[apart]
            close = np.einsum("ij,ij->i", looks.small[a], looks.small[b]) >= LEAST_CORRELATION
            if close.any():
                yield np.stack([a[close], b[close]], axis=1)
