"""Patches that show the same: averages of few parts find candidates, those of more confirm them.

Averages are compared by their correlation, which brightness and contrast do not change. That finds
copies that were encoded, scaled, brightened or stained anew. It does not find a copy that was
turned, mirrored, or scanned again at another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qupath_bridge.model import PixelArray

__all__ = ["Look", "Looks", "look_of", "similar_pairs"]

Look: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32], bool]
"""Coarse and fine averages of a patch, and whether it shows nothing."""

_COARSE, _FINE = 8, 16
"""Parts on each side of a patch."""
_CANDIDATE = 0.95
SIMILAR = 0.98
"""Correlation of the fine averages of two similar patches; other tissue hardly comes to 0.97."""
FLAT = 0.03
"""Deviation of the averages from their mean, as a share of it, below which a patch shows nothing.

Glass has up to 0.03, with dust on it; tissue has more than 0.05.
"""
_BLOCK = 4096
"""Patches that are compared with as many others at once."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks of N patches.

    Attributes
    ----------
    coarse : array, shape (N, 64), float32
        Averages of 8 x 8 parts, of mean 0 and length 1.
    fine : array, shape (N, 256), float32
        Averages of 16 x 16 parts, of mean 0 and length 1.
    flat : array, shape (N,), bool
        Whether the patch shows nothing, as glass does.
    """

    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    flat: NDArray[np.bool_]

    @classmethod
    def of(cls, looks: Sequence[Look]) -> Looks:
        """Return the looks of single patches as one value."""
        return cls(
            np.array([coarse for coarse, _, _ in looks], np.float32).reshape(-1, _COARSE**2),
            np.array([fine for _, fine, _ in looks], np.float32).reshape(-1, _FINE**2),
            np.array([flat for _, _, flat in looks], np.bool_),
        )


def look_of(pixels: PixelArray) -> Look:
    """Return the averages of a patch (H, W, C), and whether it shows nothing."""
    grey = Image.fromarray(pixels.mean(axis=2, dtype=np.float32))
    coarse, fine = (
        np.asarray(grey.resize((side, side), Image.Resampling.BOX)).ravel()
        for side in (_COARSE, _FINE)
    )
    flat = bool(fine.std() <= FLAT * max(float(fine.mean()), 1.0))
    return _normal(coarse), _normal(fine), flat


def _normal(averages: NDArray[np.float32]) -> NDArray[np.float32]:
    apart = averages - averages.mean()
    made: NDArray[np.float32] = (apart / max(float(np.linalg.norm(apart)), 1e-6)).astype(np.float32)
    return made


def similar_pairs(
    looks: Looks, sides: NDArray[np.integer], files: NDArray[np.integer]
) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of similar patches on different sides and of different files, some at a time.

    The work grows with the square of the number of patches: 100,000 take a minute.

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
        for other in bounds[start // _BLOCK :]:
            columns = kept[other : other + _BLOCK]
            a, b = np.nonzero(looks.coarse[rows] @ looks.coarse[columns].T >= _CANDIDATE)
            a, b = rows[a], columns[b]
            apart = (a < b) & (sides[a] != sides[b]) & (files[a] != files[b])
            a, b = a[apart], b[apart]
            close = np.einsum("ij,ij->i", looks.fine[a], looks.fine[b]) >= SIMILAR
            if close.any():
                yield np.stack([a[close], b[close]], axis=1)
