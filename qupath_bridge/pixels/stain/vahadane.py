"""Stain vectors by sparse factorisation without negative numbers (Vahadane et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qupath_bridge.model import FloatArray
from qupath_bridge.pixels.base import StainSample

from .macenko import plane_vectors
from .separation import SeparationMethod

__all__ = ["VahadaneStain", "sparse_amounts", "sparse_vectors"]

SPARSITY = 0.1
"""Weight of the sum of amounts against half the squared error."""

_MOST = 8000  # pixels
_ROUNDS = 500
_STILL = 1e-7  # change of the vectors at which they are found


def sparse_amounts(density: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return the amounts of two stains with the least error, and few of them.

    They minimise half the squared error plus :data:`SPARSITY` times their sum, and are not
    negative. For two stains that is a formula: both are there, or one, or none.

    Parameters
    ----------
    density : array, shape (N, 3)
    vectors : array, shape (2, 3)

    Returns
    -------
    array, shape (N, 2)
    """
    products = vectors @ vectors.T
    wanted = density @ vectors.T - SPARSITY
    both = wanted @ np.linalg.inv(products)
    alone = np.maximum(wanted / products.diagonal(), 0)
    gain = alone**2 * products.diagonal()  # twice what an amount alone lowers the error by
    single = np.where((gain.argmax(axis=1) == np.arange(2)[:, None]).T, alone, 0)
    return np.where((both >= 0).all(axis=1, keepdims=True), both, single)


def sparse_vectors(density: FloatArray, start: FloatArray) -> FloatArray:
    """Return two vectors, shape (2, 3), of unit length at most, that explain densities sparsely.

    Amounts and vectors are found in turn, as in online dictionary learning (Mairal et al. 2009)
    with all pixels at once.
    """
    vectors = np.maximum(start, 1e-6)
    for _ in range(_ROUNDS):
        amounts = sparse_amounts(density, vectors)
        squares, crossed = amounts.T @ amounts, amounts.T @ density
        before = vectors.copy()
        for stain in range(2):
            step = (crossed[stain] - squares[stain] @ vectors) / max(squares[stain, stain], 1e-9)
            moved = np.maximum(vectors[stain] + step, 1e-6)
            vectors[stain] = moved / max(float(np.linalg.norm(moved)), 1.0)
        if np.abs(vectors - before).max() < _STILL:
            break
    return vectors


@dataclass(frozen=True, slots=True)
class VahadaneStain(SeparationMethod):
    """Two vectors with which most pixels have mainly one stain. No argument."""

    name = "vahadane"

    def find(self, density: FloatArray, sample: StainSample) -> FloatArray | None:
        """Return two vectors, found from those of Macenko's method on."""
        start = plane_vectors(density)
        if start is None:
            return None
        vectors = sparse_vectors(density[:: -(-len(density) // _MOST)], start)
        return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1]
