"""Normalisation of two stains: separate them, change their amounts, and put them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.base import StainSample, refuse_argument

from .light import stained
from .recolour import STRIP, Planes, Recolour, change_colours

__all__ = ["CAP", "H_DAB", "H_E", "MOST", "SeparationMethod", "amounts", "profile_of"]

CAP = 2.5
"""Ratio of amounts of stain between target and slide at most: what is pale is not made noise."""

MOST = 97
"""Percentile of the amounts that stands for the stain of a slide.

More is left to what no camera measures: of the darkest pixels, in keratin, pigment, ink and folds,
only the noise is recorded, and they are up to 3 % of the stained ones.
"""

H_E: Mapping[str, Any] = {
    "vectors": [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
    "most": [1.6, 0.91],
    "white": [240.0, 240.0, 240.0],
}
"""Target where none is given: the usual reference of haematoxylin and eosin.

Its amounts are known at 99 %: 1.9705 and 1.0308. Those at 97 % are as much less as in the tumour of
the tests.
"""

H_DAB: Mapping[str, Any] = {
    "vectors": [[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]],
    "most": [1.5, 1.5],
    "white": [240.0, 240.0, 240.0],
}
"""The same for haematoxylin and DAB: QuPath's own vectors."""

_FEWEST = 500  # stained pixels of a sample
_ALIKE = np.cos(np.radians(5))  # vectors closer than this are one stain
_DIGITS = 5  # so that the last bits of another processor do not count
_LEAST = 0.05  # amount of a stain that is hardly there


@dataclass(frozen=True, slots=True)
class SeparationMethod(ABC):
    """Base of the methods with two stain vectors; they differ in how these are found.

    A profile has ``vectors`` (two, unit length, optical densities of red, green and blue),
    ``most`` (:data:`MOST` percent of the pixels have less of each stain) and ``white``.
    """

    argument: str | None = field(default=None, repr=False)
    name = ""
    version = "2"

    def __post_init__(self) -> None:
        refuse_argument("stain", self.name, self.argument)

    @abstractmethod
    def find(self, density: FloatArray, sample: StainSample) -> FloatArray | None:
        """Return two vectors from the densities (N, 3) of stained pixels; None if it cannot."""

    def fit(self, sample: StainSample) -> dict[str, Any] | None:
        """Return the profile of a sample; None if it has too little tissue."""
        _, density = stained(sample.pixels, sample.white)
        if len(density) < _FEWEST:
            return None
        vectors = self.find(density, sample)
        return None if vectors is None else profile_of(vectors, density, sample.white)

    def standard(self, profile: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the target where none is given."""
        return H_E

    def apply(
        self,
        batch: PixelArray,
        profile: Mapping[str, Any],
        target: Mapping[str, Any],
        draws: FloatArray | None = None,
    ) -> tuple[PixelArray, MaskArray]:
        """Return normalised patches, and which of them were kept as they are."""
        change = _Change.between(profile, target)
        same = (change.split.tobytes(), change.join.tobytes()) if draws is None else None
        return change_colours(batch, change.recolour(draws), same)


def profile_of(vectors: Any, density: FloatArray, white: Any) -> dict[str, Any] | None:
    """Return the profile of two vectors and the densities of stained pixels.

    None if the vectors are those of one stain.
    """
    found = np.maximum(np.asarray(vectors, np.float64), 0)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(found).all() or found[0] @ found[1] > _ALIKE:
        return None
    most = np.percentile(amounts(density, found), MOST, axis=0)
    return {
        "vectors": found.round(_DIGITS).tolist(),
        "most": np.maximum(most, _LEAST).round(_DIGITS).tolist(),
        "white": np.asarray(white, np.float64).round(_DIGITS).tolist(),
    }


def amounts(density: FloatArray, vectors: Any) -> FloatArray:
    """Return how much of each of two stains there is, least squares, shape (N, 2)."""
    return np.asarray(density @ np.linalg.pinv(np.asarray(vectors, np.float64)))


@dataclass(frozen=True, slots=True)
class _Change:
    """Matrices that turn the light of one slide into that of another."""

    split: NDArray[np.float32]
    """(3, 4): logarithms of light and 1 to amounts of two stains and the optical density."""
    join: NDArray[np.float32]
    """(3, 3): amounts of two stains and 1 to logarithms of light, in the colours of the target."""
    spread: FloatArray
    """(2,): amount by which an offset of 1 changes a stain."""

    @classmethod
    def between(cls, profile: Mapping[str, Any], target: Mapping[str, Any]) -> _Change:
        unmix = np.column_stack([np.linalg.pinv(np.array(profile["vectors"])), np.ones(3)])
        clear = np.log(np.array(profile["white"]) + 1)
        ratio = np.minimum(np.divide(target["most"], profile["most"]), CAP)
        mix = np.array(target["vectors"]) * ratio[:, None]
        white = np.log(np.array(target["white"]) + 1)
        return cls(
            split=np.vstack([-unmix, clear @ unmix]).T.astype(np.float32),
            join=np.vstack([-mix, white]).T.astype(np.float32),
            spread=np.array(profile["most"], np.float64),
        )

    def drawn(self, draw: FloatArray) -> NDArray[np.float32]:
        """Return the first matrix, with amounts that are stretched and shifted by four numbers."""
        split = self.split.copy()
        split[:2] *= (1 + draw[:2, None]).astype(np.float32)
        split[:2, 3] += (draw[2:] * self.spread / 4).astype(np.float32)
        return split

    def recolour(self, draws: FloatArray | None) -> Recolour:
        """Return what changes strips of patches; ``draws`` has a row per patch."""
        logs, stains = np.ones((4, STRIP), np.float32), np.ones((3, STRIP), np.float32)

        def recolour(number: int, _: Any, light: Planes, out: Planes) -> Planes:
            pixels = light.shape[1]
            split = self.split if draws is None else self.drawn(draws[number])
            np.log(light, out=logs[:3, :pixels])
            density, found = np.empty(pixels, np.float32), stains[:, :pixels]
            np.matmul(split, logs[:, :pixels], out=found)
            density[:] = found[2]
            np.maximum(found[:2], 0, out=found[:2])
            found[2] = 1
            np.matmul(self.join, found, out=out)
            np.exp(out, out=out)
            return density

        return recolour
