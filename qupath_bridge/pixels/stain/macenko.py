"""Stain vectors from the plane of optical densities (Macenko et al. 2009)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qupath_bridge.model import FloatArray
from qupath_bridge.pixels.base import StainSample

from .separation import SeparationMethod

__all__ = ["MacenkoStain", "plane_vectors"]

STRONG = 0.1
"""Optical density that each channel of a pixel has at least from which vectors are found.

Others take 0.15. That leaves out much eosin, which hardly takes red: tissue that was normalised
before, and has become paler by it, would show other vectors.
"""
EDGE = 1.0
"""Percentile of the angles in the plane at which a stain is taken."""

_FEWEST = 100


def plane_vectors(density: FloatArray) -> FloatArray | None:
    """Return the outermost directions of densities (N, 3) in their plane, shape (2, 3).

    Haematoxylin, which takes more red, comes first. None if there are too few, or all are one
    colour.
    """
    density = density[(density >= STRONG).all(axis=1)]
    if len(density) < _FEWEST:
        return None
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, 1:]
    # The sign of an axis is open: along the densities the angles do not wrap around.
    plane = plane * np.where(density.mean(axis=0) @ plane < 0, -1, 1)
    angles = np.arctan2(density @ plane[:, 0], density @ plane[:, 1])
    edges = np.percentile(angles, [EDGE, 100 - EDGE])
    if not np.isfinite(edges).all():
        return None
    vectors: FloatArray = np.column_stack([np.sin(edges), np.cos(edges)]) @ plane.T
    return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1]


@dataclass(frozen=True, slots=True)
class MacenkoStain(SeparationMethod):
    """The two outermost directions of optical density, at 1 % of the pixels. No argument."""

    name = "macenko"

    def find(self, density: FloatArray, sample: StainSample) -> FloatArray | None:
        """Return two vectors."""
        return plane_vectors(density)
