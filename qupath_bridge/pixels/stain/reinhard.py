"""Mean and spread of the colours of tissue in CIELAB (Reinhard et al. 2001)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.base import StainSample, refuse_argument

from .light import Mixture, planes_of, stained
from .separation import CAP

__all__ = ["ReinhardStain", "lab_planes", "rgb_planes"]

STANDARD: Mapping[str, Any] = {
    "mean": [53.0, 25.0, -11.0],
    "deviation": [10.0, 5.0, 3.5],
    "white": [240.0, 240.0, 240.0],
}
"""Target where none is given: tissue with haematoxylin and eosin in the usual amounts."""

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_TO_XYZ_F = (_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_TO_RGB_F = np.linalg.inv(_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_STEPS = 8192  # of the table from linear light to gray levels
_FEWEST = 500
_DIGITS = 5


def _linear(values: FloatArray) -> FloatArray:
    """Return linear light, 0 to 1, of sRGB values."""
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


def _gamma(light: FloatArray) -> FloatArray:
    """Return sRGB values of linear light."""
    return np.where(
        light > 0.0031308, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055, light * 12.92
    )


_LINEAR = _linear(np.arange(256) / 255).astype(np.float32)
_GAMMA = np.floor(_gamma((np.arange(_STEPS + 1) + 0.5) / _STEPS).clip(0, 1) * 255 + 0.5).astype(
    np.float32
)


def lab_planes(planes: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return L, a and b of red, green and blue, shape (3, ...), uint8."""
    places = planes.astype(np.intp)
    red, green, blue = (np.take(_LINEAR, each, mode="clip") for each in places)
    x, y, z = (_mixed(row, red, green, blue) for row in _TO_XYZ_F)
    for light in (x, y, z):
        np.cbrt(light, out=light)
    x -= y
    x *= np.float32(500)
    np.subtract(y, z, out=z)
    z *= np.float32(200)
    y *= np.float32(116)
    y -= np.float32(16)
    return [y, x, z]


def rgb_planes(lab: list[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield red, green and blue of L, a and b, as whole gray levels."""
    y = (lab[0] + np.float32(16)) * np.float32(1 / 116)
    light = [lab[1] * np.float32(1 / 500) + y, y, y - lab[2] * np.float32(1 / 200)]
    light = [each * each * each for each in light]
    for row in _TO_RGB_F:
        value = _mixed(row * np.float32(_STEPS), *light)
        np.maximum(value, 0, out=value)
        yield np.take(_GAMMA, value.astype(np.intp), mode="clip")


def _mixed(row: Any, *planes: NDArray[np.float32]) -> NDArray[np.float32]:
    value: NDArray[np.float32] = planes[0] * row[0]
    value += planes[1] * row[1]
    value += planes[2] * row[2]
    return value


@dataclass(frozen=True, slots=True)
class ReinhardStain:
    """Shifts and stretches the colours of tissue to the mean and spread of the target.

    A profile has ``mean`` and ``deviation`` of L, a and b, and ``white``. No argument.
    """

    argument: str | None = field(default=None, repr=False)
    name = "reinhard"
    version = "1"

    def __post_init__(self) -> None:
        refuse_argument("stain", self.name, self.argument)

    def fit(self, sample: StainSample) -> dict[str, Any] | None:
        """Return the profile of a sample; None if it has too little tissue."""
        pixels, _ = stained(sample.pixels, sample.white)
        if len(pixels) < _FEWEST:
            return None
        lab = np.array(lab_planes(pixels.T), np.float64)
        return {
            "mean": lab.mean(axis=1).round(_DIGITS).tolist(),
            "deviation": np.maximum(lab.std(axis=1), 0.5).round(_DIGITS).tolist(),
            "white": np.asarray(sample.white, np.float64).round(_DIGITS).tolist(),
        }

    def standard(self, profile: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the target where none is given."""
        return STANDARD

    def apply(
        self,
        batch: PixelArray,
        profile: Mapping[str, Any],
        target: Mapping[str, Any],
        draws: FloatArray | None = None,
    ) -> tuple[PixelArray, MaskArray]:
        """Return normalised patches, and which of them were kept as they are."""
        ratio = np.clip(np.divide(target["deviation"], profile["deviation"]), 1 / CAP, CAP)
        made: PixelArray = np.empty(batch.shape, np.uint8)
        kept: MaskArray = np.zeros(len(batch), np.bool_)
        for number, patch in enumerate(batch):
            planes = planes_of(patch)
            red, green, blue = planes.astype(np.float32) + np.float32(1)
            mixture = Mixture.of(red * green * blue, profile["white"])
            if mixture.is_pale:
                made[number], kept[number] = patch, True
                continue
            stretch, mean = ratio, np.array(target["mean"])
            if draws is not None:
                stretch = ratio * (1 + draws[number, [0, 1, 1]])
                mean = mean + draws[number, [2, 3, 3]] * target["deviation"]
            lab = lab_planes(planes)
            for plane, old, factor, new in zip(lab, profile["mean"], stretch, mean, strict=True):
                plane -= np.float32(old)
                plane *= np.float32(factor)
                plane += np.float32(new)
            for channel, value in enumerate(rgb_planes(lab)):
                value += np.float32(0.5)
                mixture.blend(value, planes[channel])
                made[number][..., channel] = value.astype(np.uint8)
        return made, kept
