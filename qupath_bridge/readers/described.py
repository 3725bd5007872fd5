"""Facts that a reader reports of its slide, and requests that it refuses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane

from .background import default_background
from .base import RGB_CHANNELS, Fingerprint, Level
from .level_sizes import level_factors, make_levels

__all__ = ["DescribedReader"]


class DescribedReader(ABC):
    """A reader that reports what it was made with; see :class:`.levels.LevelReader`."""

    def __init__(
        self,
        label: str,
        sizes: Sequence[tuple[int, int]],
        *,
        bounds: Box | None = None,
        pixel_size: tuple[float, float] | None = None,
        objective_power: float | None = None,
        planes: tuple[int, int] = (1, 1),
        channels: Sequence[str] = RGB_CHANNELS,
        dtype: Any = np.uint8,
        background: Sequence[float] | None = None,
    ) -> None:
        self._label = label
        self._set_levels(tuple(enumerate(make_levels(sizes))))
        self._bounds = bounds
        self._pixel_size = pixel_size
        self._objective_power = objective_power
        self._planes = planes
        self._channels = tuple(channels)
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        if background is None:
            background = default_background(self._channels, self._dtype)
        self._background = tuple(background)
        self._closed = False

    def _set_levels(self, levels: Sequence[tuple[int, Level]]) -> None:
        """Set the levels that are used, with their numbers in the file; level 0 first."""
        self._numbers = tuple(number for number, _ in levels)
        self._levels = tuple(level for _, level in levels)
        self._factors = tuple(level_factors(self.size, level) for level in self._levels)
        self._finest = tuple(min(factors) for factors in self._factors)

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files of the slide as they are now; read again each time."""

    def _close(self) -> None:  # noqa: B027 - most hold a file, not all
        """Close the file; called once."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        return self._levels[0].width, self._levels[0].height

    @property
    def levels(self) -> tuple[Level, ...]:
        """The resolutions, finest first."""
        return self._levels

    @property
    def bounds(self) -> Box | None:
        """The non-empty part of the slide, None if the file names none."""
        return self._bounds

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """µm per level-0 pixel along x and y; None if the file does not say."""
        return self._pixel_size

    @property
    def objective_power(self) -> float | None:
        """Nominal magnification; None if the file does not say."""
        return self._objective_power

    @property
    def planes(self) -> tuple[int, int]:
        """Number of z slices and time points."""
        return self._planes

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the pixels."""
        return self._channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixel values."""
        return self._dtype

    @property
    def background(self) -> tuple[float, ...]:
        """The value of each channel where pixels are outside, transparent or missing."""
        return self._background

    def close(self) -> None:
        """Close the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._label!r})"

    def _check(self, box: Box, size: tuple[int, int], plane: Plane) -> None:
        if self._closed:
            raise ReadError(f"{self._label} is closed.", hint="Open the slide again to read it.")
        if min(*box[2:], *size) <= 0:
            raise ReadError(
                f"{self._label}: cannot read the box {tuple(box)} as {size[0]} x {size[1]} pixels.",
                hint="Width and height must be at least 1.",
            )
        z_count, t_count = self._planes
        if not (0 <= plane.z < z_count and 0 <= plane.t < t_count):
            raise ReadError(
                f"{self._label} has no plane z={plane.z}, t={plane.t}.",
                hint=f"This reader sees {z_count} z slices and {t_count} time points.",
            )

    def _choose_channels(self, channels: Sequence[int] | None) -> tuple[int, ...] | None:
        """Return the channels as a tuple, None for all in the order of the file."""
        if channels is None:
            return None
        chosen, count = tuple(int(index) for index in channels), len(self._channels)
        wrong = [index for index in chosen if not 0 <= index < count]
        if chosen and not wrong:
            return None if chosen == tuple(range(count)) else chosen
        text = f" has no channel with index {wrong[0]}." if wrong else ": no channel was asked for."
        raise ReadError(
            self._label + text,
            hint=f"Its channels are {', '.join(self._channels)}, with the indices from 0.",
        )
