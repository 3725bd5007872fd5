"""Mean and spread of the colours of tissue in CIELAB (Reinhard et al. 2001)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray
from qupath_bridge.pixels.base import StainSample, refuse_argument

from .light import stained
from .recolour import STRIP, Planes, change_colours
from .separation import CAP

__all__ = ["ReinhardStain", "responses"]

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
_TO_RGB = np.linalg.inv(_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True))
_TO_LAB = np.array([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]])
_BLACK = np.array([-16.0, 0, 0])
_STEPS = 8192  # of the table from linear light to gray levels
_TO_STEPS = (_TO_RGB * _STEPS).astype(np.float32)
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


_LEVELS = np.floor(_gamma((np.arange(_STEPS + 1) + 0.5) / _STEPS).clip(0, 1) * 255 + 0.5)
_LINEAR = pa.array(_linear(np.arange(256) / 255).astype(np.float32))
_LIGHT = pa.array((_LEVELS + 1).astype(np.float32))


def responses(levels: NDArray[np.uint8], out: Planes) -> None:
    """Write the cube roots of X, Y and Z, in parts of white: L, a and b are sums of them.

    Parameters
    ----------
    levels : array, shape (3, n), uint8
        Red, green and blue.
    out : array, shape (3, n), float32
    """
    np.matmul(_TO_XYZ_F, _looked_up(_LINEAR, levels), out=out)
    np.cbrt(out, out=out)


def _looked_up(table: Any, places: NDArray[Any]) -> NDArray[np.float32]:
    """Return the entries of a table; numpy would make indices of 8 bytes first."""
    found = pc.take(table, pa.array(places.ravel()))
    return np.asarray(found.to_numpy()).reshape(places.shape)


@dataclass(frozen=True, slots=True)
class ReinhardStain:
    """Shifts and stretches the colours of tissue to the mean and spread of the target.

    A profile has ``mean`` and ``deviation`` of L, a and b, and ``white``. No argument.
    """

    argument: str | None = field(default=None, repr=False)
    name = "reinhard"
    version = "2"

    def __post_init__(self) -> None:
        refuse_argument("stain", self.name, self.argument)

    def fit(self, sample: StainSample) -> dict[str, Any] | None:
        """Return the profile of a sample; None if it has too little tissue."""
        pixels, _ = stained(sample.pixels, sample.white)
        if len(pixels) < _FEWEST:
            return None
        found = np.empty((3, len(pixels)), np.float32)
        for start in range(0, len(pixels), STRIP):
            strip = slice(start, start + STRIP)
            responses(pixels[strip].T, found[:, strip])
        lab = _TO_LAB @ found + _BLACK[:, None]
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
        clear = np.float32(np.log(np.array(profile["white"], np.float64) + 1).sum())
        response = np.ones((4, STRIP), np.float32)
        changes = [
            _change_of(profile, target, draw) for draw in ([None] if draws is None else draws)
        ]

        def recolour(number: int, levels: NDArray[np.uint8], light: Planes, out: Planes) -> Planes:
            here = response[:, : light.shape[1]]
            responses(levels, here[:3])
            np.matmul(changes[0 if draws is None else number], here, out=out)
            _light_of(out, here[:3])
            return np.asarray(clear - np.log(light[0] * light[1] * light[2]))

        same = (changes[0].tobytes(), float(clear)) if draws is None else None
        return change_colours(batch, recolour, same)


def _change_of(
    profile: Mapping[str, Any], target: Mapping[str, Any], draw: FloatArray | None
) -> NDArray[np.float32]:
    """Return the matrix (3, 4) that stretches and shifts L, a and b; it is for responses and 1."""
    stretch = np.minimum(np.divide(target["deviation"], profile["deviation"]), CAP)
    mean = np.array(target["mean"])
    if draw is not None:
        stretch = stretch * (1 + draw[[0, 1, 1]])
        mean = mean + draw[[2, 3, 3]] * target["deviation"]
    back = np.linalg.inv(_TO_LAB)
    shift = stretch * (_BLACK - np.array(profile["mean"])) + mean - _BLACK
    return np.column_stack([back @ (stretch[:, None] * _TO_LAB), back @ shift]).astype(np.float32)


def _light_of(values: Planes, room: Planes) -> None:
    """Turn responses (3, n) into red, green and blue, each gray level and 1."""
    np.multiply(values, values, out=room)
    room *= values
    np.matmul(_TO_STEPS, room, out=values)
    np.clip(values, 0, _STEPS, out=values)
    values[:] = _looked_up(_LIGHT, values.astype(np.uint16))
