"""Tissue of slides with channels: what is brighter than the background: ``signal``.

The background of a channel is the darkest value around which many others crowd; how far they
scatter is seen below it, where no tissue is. Both hold however much of the slide is tissue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.model import MaskArray
from qupath_bridge.pixels.base import SlideView, TissueMap
from qupath_bridge.pixels.channels import find_channel

from .by_color import SMOOTHING, clean_pieces
from .finding import STATED
from .masks import smooth

__all__ = ["SignalTissue", "signal_threshold"]

SCATTERS = 6.0
"""Standard deviations of the background above it at which signal begins, at least ..."""
CONTRAST = 0.02
"""... and this part of the way from the background to the brightest values."""
CROWD = 0.05
"""Part of the values that make a crowd."""
LOOSER = 3.0
"""The background is the darkest crowd that is at most so many times as wide as the closest one, and
closer than its neighbours."""
DARKEST, BRIGHTEST = 0.01, 0.999
"""Parts of the values that are below the darkest and the brightest ones."""
GAP = 0.5
"""Zeros count as not scanned if the darkest other values are above this part of the background:
then no values are between."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution per median distance from its middle."""
MOST_VALUES = 1_000_000
"""Of a channel that are looked at; of more, every n-th is."""
READ_BYTES = 256 << 20
"""Bytes of the maps of channels that are read at once."""

_NONE = "No channel has signal above its background: no tissue is found."


@dataclass(frozen=True, slots=True)
class SignalTissue:
    """Pixels above the background of a channel, without specks and holes.

    Parameters
    ----------
    argument : str or None
        Name or number of a channel; None for what is above the background in any channel.
    """

    threshold: ClassVar[None] = None
    argument: str | None = None

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the mask."""
        mpp = view.mpp or STATED
        mask = np.zeros(view.shape, np.bool_)
        for values in _planes(view, self._channels(view)):
            mask |= _above_background(values, round(SMOOTHING / mpp))
        return TissueMap(clean_pieces(mask, mpp), note=None if mask.any() else _NONE)

    def _channels(self, view: SlideView) -> list[int]:
        if self.argument is None:
            return list(range(len(view.channels)))
        try:
            return [find_channel(view.channels, self.argument)]
        except UsageError as error:
            raise PlanError(f"{view.name}: tissue: {error.message}", hint=error.hint) from error


def _planes(view: SlideView, channels: list[int]) -> Iterator[NDArray[Any]]:
    """Yield the map of each channel, shape (h, w); a few are read at once."""
    height, width = view.shape
    step = max(1, READ_BYTES // (8 * height * width))
    for start in range(0, len(channels), step):
        pixels = view.read(channels[start : start + step])
        yield from np.moveaxis(pixels, -1, 0)


def _above_background(values: NDArray[Any], radius: int) -> MaskArray:
    """Return where a channel is above its background, shape (h, w); NaN never is."""
    finite = np.where(np.isfinite(values), values, 0).astype(np.float32)
    means = smooth(finite, radius)
    whole = values.dtype.kind in "iu"
    top = float(np.iinfo(values.dtype).max) if whole else np.inf
    limit = signal_threshold(finite, means, step=float(whole), top=top)
    return np.zeros(values.shape, np.bool_) if limit is None else np.asarray(means > limit)


def signal_threshold(
    values: NDArray[np.float32],
    means: NDArray[np.float32],
    *,
    step: float = 0.0,
    top: float = np.inf,
) -> float | None:
    """Return the mean above which there is signal in a channel; None if all values are 0.

    Parameters
    ----------
    values : array, shape (h, w), finite
        Of the channel. Zeros are left out where they stand for what was not scanned.
    means : array, shape (h, w), finite
        The same, smoothed.
    step : float
        Least distance of two values: the threshold is as far above the background at least.
    top : float
        Values from it on are saturated, and no background.
    """
    bright = (values != 0) & (values < top)
    if not bright.any():
        return step if values.any() else None
    ordered = _sorted(means[bright])
    background, scatter = _background(ordered)
    if (values == 0).any() and np.quantile(_sorted(values[bright]), DARKEST) < GAP * background:
        ordered = _sorted(means[values < top])
        background, scatter = _background(ordered)
    reach = CONTRAST * (float(np.quantile(ordered, BRIGHTEST)) - background)
    return background + max(SCATTERS * scatter, reach, step)


def _sorted(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sort(values.ravel()[:: max(1, values.size // MOST_VALUES)])


def _background(ordered: NDArray[np.float32]) -> tuple[float, float]:
    """Return the middle of the background's crowd of values, and their scatter below it."""
    count = max(1, round(CROWD * len(ordered)))
    widths = ordered[count - 1 :] - ordered[: len(ordered) - count + 1]
    start = int((widths <= LOOSER * widths.min()).argmax())
    while True:  # towards closer crowds, until there is none near
        near = np.searchsorted(ordered, ordered[start] + LOOSER * widths[start], side="right")
        closer = start + int(widths[start:near].argmin())
        if closer == start:
            break
        start = closer
    middle = float(ordered[start + count // 2])
    below = middle - ordered[: np.searchsorted(ordered, middle, side="right")]
    return middle, NORMAL * float(np.median(below))
