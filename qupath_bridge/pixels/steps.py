"""What QuPath does to the values of pixels after it has read them, as a value.

Every step is a function of the channels of one pixel, so steps are applied to pixels of any
shape, after resampling, as QuPath does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.frozen import OneLine

__all__ = ["NO_STEPS", "PixelStep", "PixelSteps"]


class PixelStep(Protocol):
    """One step: output channels from input channels, pixel by pixel."""

    def inputs(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Return the input channels that some output channels are made of."""
        ...

    def restricted(self, wanted: Sequence[int], inputs: Sequence[int]) -> PixelStep:
        """Return the step that makes just these output channels, from just these inputs."""
        ...

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the output channels, shape (..., C'), of input channels (..., C)."""
        ...

    def dtype(self, dtype: str) -> str:
        """Return the type of the values that are made of values of a type."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the step as plain JSON values, with its ``kind``."""
        ...


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

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
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
    def from_json(cls, values: Sequence[dict[str, Any]]) -> PixelSteps:
        """Return the steps of :meth:`as_json`."""
        return cls(tuple(_KINDS[each["kind"]](each) for each in values))


NO_STEPS = PixelSteps()
_KINDS: dict[str, Any] = {}
