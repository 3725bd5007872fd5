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

from .light import Mixture, planes_of, stained

__all__ = ["CAP", "H_DAB", "H_E", "SeparationMethod", "amounts", "profile_of"]

CAP = 2.5
"""Ratio of amounts of stain between target and slide, at most; its inverse at least."""

H_E: Mapping[str, Any] = {
    "vectors": [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
    "most": [1.9705, 1.0308],
    "white": [240.0, 240.0, 240.0],
}
"""Target where none is given: the usual reference of haematoxylin and eosin."""

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
    ``most`` (99 % of the amounts of each stain) and ``white``.
    """

    argument: str | None = field(default=None, repr=False)
    name = ""
    version = "1"

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
        made: PixelArray = np.empty(batch.shape, np.uint8)
        kept: MaskArray = np.zeros(len(batch), np.bool_)
        change = _Change.between(profile, target)
        for number, patch in enumerate(batch):
            draw = None if draws is None else draws[number]
            kept[number] = not change.apply(patch, made[number], draw)
        return made, kept


def profile_of(vectors: Any, density: FloatArray, white: Any) -> dict[str, Any] | None:
    """Return the profile of two vectors and the densities of stained pixels.

    None if the vectors are those of one stain.
    """
    found = np.maximum(np.asarray(vectors, np.float64), 0)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(found).all() or found[0] @ found[1] > _ALIKE:
        return None
    most = np.percentile(amounts(density, found), 99, axis=0)
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
    """Numbers that turn the light of one slide into that of another.

    The arithmetic goes plane by plane, without matrix routines: those may round otherwise where
    a patch is part of a larger block, or on another number of threads.
    """

    unmix: NDArray[np.float32]  # (3, 2): logarithms of light to amounts
    start: NDArray[np.float32]  # (2,): amounts of white light
    clear: tuple[float, ...]  # white of the slide
    mix: NDArray[np.float32]  # (2, 3): amounts to logarithms, in the colours of the target
    white: NDArray[np.float32]  # (3,): logarithms of the target's white
    spread: NDArray[np.float32]  # (2,): amount by which an offset of 1 changes a stain

    @classmethod
    def between(cls, profile: Mapping[str, Any], target: Mapping[str, Any]) -> _Change:
        unmix = np.linalg.pinv(np.array(profile["vectors"]))
        light = np.log(np.array(profile["white"]) + 1)
        ratio = np.clip(np.divide(target["most"], profile["most"]), 1 / CAP, CAP)
        return cls(
            unmix=unmix.astype(np.float32),
            start=(light @ unmix).astype(np.float32),
            clear=tuple(profile["white"]),
            mix=(np.array(target["vectors"]) * ratio[:, None]).astype(np.float32),
            white=np.log(np.array(target["white"]) + 1).astype(np.float32),
            spread=np.array(profile["most"], np.float32),
        )

    def apply(self, patch: PixelArray, out: PixelArray, draw: FloatArray | None) -> bool:
        """Write a normalised patch; the patch itself, and False, if there is too little stain."""
        planes = planes_of(patch)
        light = planes.astype(np.float32)
        light += np.float32(1)
        mixture = Mixture.of(light[0] * light[1] * light[2], self.clear)
        if mixture.is_pale:
            out[:] = patch
            return False
        logs = np.log(light, out=light)
        stains = [self._amount(logs, number, draw) for number in range(2)]
        for channel in range(3):
            value = stains[0] * self.mix[0, channel]
            value += stains[1] * self.mix[1, channel]
            np.subtract(self.white[channel], value, out=value)
            np.exp(value, out=value)
            value -= np.float32(0.5)  # 1 less, and half a level more: cutting off rounds
            mixture.blend(value, planes[channel])
            # From 0 to 255.5, as no amount is negative.
            out[..., channel] = value.astype(np.uint8)
        return True

    def _amount(
        self, logs: NDArray[np.float32], number: int, draw: FloatArray | None
    ) -> NDArray[np.float32]:
        """Return the amount of a stain in each pixel, 0 at least."""
        amount: NDArray[np.float32] = logs[0] * -self.unmix[0, number]
        for channel in (1, 2):
            amount -= logs[channel] * self.unmix[channel, number]
        amount += self.start[number]
        if draw is not None:
            amount *= np.float32(1 + draw[number])
            amount += np.float32(draw[2 + number] * self.spread[number] / 4)
        np.maximum(amount, 0, out=amount)
        return amount
