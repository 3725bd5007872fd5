"""Stain vectors as QuPath has them for the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qupath_bridge.model import FloatArray
from qupath_bridge.pixels.base import StainSample

from .light import stained
from .macenko import plane_vectors
from .separation import H_DAB, H_E, SeparationMethod, profile_of

__all__ = ["QuPathStain"]

_BROWN = 0.6  # part of blue in a vector: DAB has 0.78, eosin 0.1 to 0.56


@dataclass(frozen=True, slots=True)
class QuPathStain(SeparationMethod):
    """The stain vectors and the background of the image in QuPath. No argument.

    A reference has none; its vectors are found as by Macenko's method.
    """

    name = "qupath"

    def fit(self, sample: StainSample) -> dict[str, Any] | None:
        """Return the profile of a sample; None without vectors, or with too little tissue."""
        if sample.reference:
            return SeparationMethod.fit(self, sample)
        if sample.vectors is None:
            return None
        white = sample.white if sample.background is None else sample.background
        _, density = stained(sample.pixels, white)
        return profile_of(sample.vectors, density, white) if len(density) else None

    def find(self, density: FloatArray, sample: StainSample) -> FloatArray | None:
        """Return the vectors of a reference."""
        return plane_vectors(density)

    def standard(self, profile: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return QuPath's H-DAB where the second stain is brown, else H&E."""
        vector = np.array(profile["vectors"][1])
        return H_DAB if vector[2] >= max(_BROWN, float(vector[1])) else H_E
