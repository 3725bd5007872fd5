"""Changes that QuPath makes to the values of pixels after it has read them, as a value.

Every step is a function of the channels of one pixel, so steps are applied to pixels of any
shape, after resampling, as QuPath does. The arithmetic is QuPath's, rounding included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.frozen import OneLine

__all__ = ["NO_STEPS", "Convert", "PixelStep", "PixelSteps", "Transform", "Transforms"]

Pixels = NDArray[Any]


class PixelStep(Protocol):
    """One step: output channels from input channels, pixel by pixel."""

    def inputs(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Return the input channels that some output channels are made of."""
        ...

    def restricted(self, wanted: Sequence[int], inputs: Sequence[int]) -> PixelStep:
        """Return the step that makes just these output channels, from just these inputs."""
        ...

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the output channels, shape (..., C'), of input channels (..., C)."""
        ...

    def dtype(self, dtype: str) -> str:
        """Return the type of the values that are made of values of a type."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the step as plain JSON values, with its ``kind``."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Transform(OneLine):
    """The way in which one output channel is made.

    Attributes
    ----------
    kind : str
        ``channel`` (one input as it is), ``linear`` (sum of inputs times ``numbers``), ``mean``,
        ``max`` or ``min`` of the inputs, ``stain`` (colour deconvolution of red, green and blue of
        8 bit; ``numbers`` are the three factors of the optical densities, and the three values
        that are white).
    inputs : tuple of int
        Input channels.
    numbers : tuple of float
    """

    kind: Literal["channel", "linear", "mean", "max", "min", "stain"]
    inputs: tuple[int, ...]
    numbers: tuple[float, ...] = ()

    def apply(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the channel, shape (...), of input channels (..., C)."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = [pixels[..., index] for index in self.inputs]
            return np.asarray(_FUNCTIONS[self.kind](values, self.numbers)).astype(np.float32)


@dataclass(frozen=True, slots=True, repr=False)
class Transforms(OneLine):
    """New channels, of the type float32: QuPath's ``color`` and ``color_deconvolved``."""

    transforms: tuple[Transform, ...]

    def inputs(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Return the input channels that some output channels are made of."""
        return tuple(sorted({i for number in wanted for i in self.transforms[number].inputs}))

    def restricted(self, wanted: Sequence[int], inputs: Sequence[int]) -> Transforms:
        """Return the step that makes just these output channels, from just these inputs."""
        places = {index: place for place, index in enumerate(inputs)}
        chosen = (self.transforms[number] for number in wanted)
        return Transforms(
            tuple(replace(one, inputs=tuple(places[i] for i in one.inputs)) for one in chosen)
        )

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the output channels, shape (..., C'), of input channels (..., C)."""
        made = np.empty((*pixels.shape[:-1], len(self.transforms)), np.float32)
        for number, one in enumerate(self.transforms):
            made[..., number] = one.apply(pixels)
        return made

    def dtype(self, _: str) -> str:
        """Return float32."""
        return "float32"

    def as_json(self) -> dict[str, Any]:
        """Return the step as plain JSON values."""
        items = [
            {"kind": one.kind, "inputs": list(one.inputs), "numbers": list(one.numbers)}
            for one in self.transforms
        ]
        return {"kind": "transforms", "transforms": items}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Transforms:
        """Return the step of :meth:`as_json`."""
        return cls(
            tuple(
                Transform(one["kind"], tuple(one["inputs"]), tuple(one["numbers"]))
                for one in values["transforms"]
            )
        )


@dataclass(frozen=True, slots=True, repr=False)
class Convert(OneLine):
    """Values of another type: QuPath's ``typeConvert``.

    Integers are rounded half up and cut off at the limits of the type; NaN becomes 0.
    """

    target: str

    def inputs(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Return the same channels."""
        return tuple(wanted)

    def restricted(self, _: Sequence[int], __: Sequence[int]) -> Convert:
        """Return the step itself: it treats all channels alike."""
        return self

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the values in the target type, shape (..., C)."""
        target = np.dtype(self.target)
        if pixels.dtype == target:
            return pixels
        if target.kind == "f":
            with np.errstate(over="ignore"):
                return pixels.astype(target)
        limits = np.iinfo(target)
        if pixels.dtype.kind in "iu":
            own = np.iinfo(pixels.dtype)
            low, high = max(limits.min, own.min), min(limits.max, own.max)
            return pixels.clip(low, high).astype(target)
        whole = np.floor(pixels)
        with np.errstate(invalid="ignore"):  # of infinities
            whole += pixels - whole >= 0.5
        whole[np.isnan(whole)] = 0
        if target.itemsize > 2:  # single precision has not all integers of 32 bits
            whole = whole.astype(np.float64)
        return whole.clip(limits.min, limits.max).astype(target)

    def dtype(self, _: str) -> str:
        """Return the target type."""
        return self.target

    def as_json(self) -> dict[str, Any]:
        """Return the step as plain JSON values."""
        return {"kind": "convert", "target": self.target}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Convert:
        """Return the step of :meth:`as_json`."""
        return cls(values["target"])


@dataclass(frozen=True, slots=True, repr=False)
class PixelSteps(OneLine):
    """Steps one after the other; none leaves pixels as the file has them."""

    steps: tuple[PixelStep, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def restricted(self, wanted: Sequence[int]) -> tuple[tuple[int, ...], PixelSteps]:
        """Return the channels of the file that are needed, and the steps that make only ``wanted``.

        Parameters
        ----------
        wanted : sequence of int
            Indices of channels of the image that QuPath shows; any order, repeats allowed.

        Returns
        -------
        needed : tuple of int
            Indices of channels of the file.
        steps : PixelSteps
            Its :meth:`apply` takes just these channels, and returns just those that are wanted.
        """
        needed, made = tuple(wanted), []
        for step in reversed(self.steps):
            inputs = step.inputs(needed)
            made.append(step.restricted(needed, inputs))
            needed = inputs
        return needed, PixelSteps(tuple(reversed(made)))

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the pixels that QuPath shows, shape (..., C'), of those of the file (..., C)."""
        for step in self.steps:
            pixels = step.apply(pixels)
        return pixels

    def dtype(self, dtype: str) -> str:
        """Return the type of the values that QuPath shows, from that of the file."""
        for step in self.steps:
            dtype = step.dtype(dtype)
        return str(np.dtype(dtype))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the steps as plain JSON values."""
        return [step.as_json() for step in self.steps]

    @classmethod
    def from_json(cls, values: Sequence[Mapping[str, Any]]) -> PixelSteps:
        """Return the steps of :meth:`as_json`."""
        return cls(tuple(_KINDS[each["kind"]].from_json(each) for each in values))


NO_STEPS = PixelSteps()
_KINDS: dict[str, type[Transforms | Convert]] = {"transforms": Transforms, "convert": Convert}


def _channel(values: Sequence[Pixels], _: Sequence[float]) -> Pixels:
    return values[0]


def _linear(values: Sequence[Pixels], factors: Sequence[float]) -> Pixels:
    total = np.zeros(values[0].shape)
    for value, factor in zip(values, factors, strict=True):
        total += value.astype(np.float64) * factor
    return total


def _mean(values: Sequence[Pixels], _: Sequence[float]) -> Pixels:
    if values[0].dtype.kind in "iu":
        plain = np.zeros(values[0].shape)  # exact
        for value in values:
            plain += value
        return plain / len(values)
    # The compensated sum of Java's DoubleStream.average, which some floats show.
    total, lost, plain = (np.zeros(values[0].shape) for _ in range(3))
    for value in values:
        part = value.astype(np.float64) - lost
        more = total + part
        lost, total = (more - total) - part, more
        plain += value
    result = total - lost
    return np.where(np.isnan(result) & np.isinf(plain), plain, result) / len(values)


def _most(values: Sequence[Pixels], _: Sequence[float]) -> Pixels:
    return np.asarray(np.maximum.reduce(values))


def _least(values: Sequence[Pixels], _: Sequence[float]) -> Pixels:
    return np.asarray(np.minimum.reduce(values))


def _stain(values: Sequence[Pixels], numbers: Sequence[float]) -> Pixels:
    red, green, blue = (
        (_densities(white) * factor)[value]
        for value, factor, white in zip(values, numbers[:3], numbers[3:], strict=True)
    )
    return np.asarray(red + green + blue)


@lru_cache(maxsize=16)
def _densities(white: float) -> NDArray[np.float64]:
    """Return the optical density of each value of 8 bit."""
    return np.array([max(0.0, -math.log10(max(value, 1) / white)) for value in range(256)])


_FUNCTIONS = {
    "channel": _channel,
    "linear": _linear,
    "mean": _mean,
    "max": _most,
    "min": _least,
    "stain": _stain,
}
