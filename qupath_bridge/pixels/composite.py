"""Pictures of channels for people, as QuPath's viewer shows them: colours that are added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray

from .channels import RGB

__all__ = ["ChannelDisplay", "Composite", "Range", "composite"]

Range = tuple[float, float]
"""The value that is black, and the one that has the whole colour of its channel."""


class ChannelDisplay(NamedTuple):
    """The display of one channel.

    ``range`` is None as long as it is open; ``shown`` is False for a channel that is switched off.
    """

    name: str
    color: RGB
    range: Range | None
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Composite:
    """The display of all channels of some pixels, in their order.

    Attributes
    ----------
    channels : tuple of ChannelDisplay
        If none of them is shown, all are.
    """

    channels: tuple[ChannelDisplay, ...]

    @property
    def shown_channels(self) -> tuple[int, ...]:
        """Numbers of the channels that are shown, from 0."""
        every = range(len(self.channels))
        return tuple(number for number in every if self.channels[number].shown) or tuple(every)

    @property
    def open_channels(self) -> tuple[int, ...]:
        """Numbers of the channels that are shown, and whose range is open."""
        return tuple(n for n in self.shown_channels if self.channels[n].range is None)

    @property
    def shown(self) -> Composite:
        """The display of the channels that are shown alone."""
        return Composite(tuple(self.channels[number] for number in self.shown_channels))

    def with_ranges(self, ranges: Mapping[int, Range]) -> Composite:
        """Return the composite with other ranges of some channels, by their numbers."""
        return Composite(
            tuple(
                each._replace(range=ranges.get(number, each.range))
                for number, each in enumerate(self.channels)
            )
        )

    def apply(self, pixels: NDArray[Any]) -> PixelArray:
        """Return pixels as a picture.

        Parameters
        ----------
        pixels : array, shape (..., C), of any type
            One value per channel.

        Returns
        -------
        array, shape (..., 3), uint8

        Raises
        ------
        UsageError
            If the range of a channel that is shown is open.
        """
        shown, ranges = self.shown_channels, []
        for number in shown:
            found = self.channels[number].range
            if found is None:
                name = self.channels[number].name
                raise UsageError(
                    f"The display range of the channel {name} is open.",
                    hint="Give the channel a range, two values.",
                )
            ranges.append(found)
        return composite(
            pixels[..., shown],
            [self.channels[number].color for number in shown],
            ranges,
        )

    def as_json(self) -> list[dict[str, Any]]:
        """Return the display as JSON values.

        >>> shown = Composite((ChannelDisplay("DAPI", (0, 0, 255), (10.0, 900.0)),))
        >>> Composite.from_json(shown.as_json()) == shown
        True
        """
        return [
            {
                **each._asdict(),
                "color": list(each.color),
                "range": None if each.range is None else list(each.range),
            }
            for each in self.channels
        ]

    @classmethod
    def from_json(cls, values: Sequence[Mapping[str, Any]]) -> Composite:
        """Return what :meth:`as_json` gave."""
        return cls(tuple(_display(each) for each in values))


def _display(values: Mapping[str, Any]) -> ChannelDisplay:
    (red, green, blue), found = values["color"], values["range"]
    limits = None if found is None else (float(found[0]), float(found[1]))
    return ChannelDisplay(values["name"], (red, green, blue), limits, values["shown"])


def composite(pixels: NDArray[Any], colors: Sequence[RGB], ranges: Sequence[Range]) -> PixelArray:
    """Return the sum of the channels, each in its colour over its display range.

    Parameters
    ----------
    pixels : array, shape (..., C), of any type
        NaN is black.
    colors : sequence of C times (red, green, blue), 0 to 255
    ranges : sequence of C times (low, high), in the unit of the pixels
        What is at most ``low`` is black, what is at least ``high`` has the whole colour. Where
        both are the same, the channel is left out, unless it is the first.

    Returns
    -------
    array, shape (..., 3), uint8

    Raises
    ------
    ValueError
        If there are not as many colours and ranges as channels.

    Notes
    -----
    The arithmetic is that of QuPath's viewer (``DirectServerChannelInfo``, gamma 1): values become
    0 to 255 in single precision and are rounded down, a table of 256 colours is rounded down too,
    and sums end at 255.

    Examples
    --------
    >>> composite(np.array([[0, 50], [100, 100]]), [(0, 0, 255), (255, 0, 0)], [(0, 100), (0, 200)])
    array([[ 63,   0,   0],
           [127,   0, 255]], dtype=uint8)
    """
    if not pixels.shape[-1] == len(colors) == len(ranges):
        raise ValueError(
            f"{pixels.shape[-1]} channels, {len(colors)} colours and {len(ranges)} ranges"
        )
    total = np.zeros((*pixels.shape[:-1], 3), np.uint16)
    for number, (color, (low, high)) in enumerate(zip(colors, ranges, strict=True)):
        if number and low == high:
            continue
        total += _table(color)[_scaled(pixels[..., number], low, high)]
        np.minimum(total, 255, out=total)
    return total.astype(np.uint8)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return values as 0 to 255, rounded down, of the same shape."""
    with np.errstate(all="ignore"):  # a range without width scales to infinities, as in Java
        factor = np.float32(255) / (np.float32(high) - np.float32(low))
        scaled = (values.astype(np.float32) - np.float32(low)) * factor
    scaled[np.isnan(scaled)] = 0
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def _table(color: RGB) -> NDArray[np.uint16]:
    """Return the colour of each of 256 steps, shape (256, 3)."""
    return (np.array(color) / 255.0 * np.arange(256)[:, None]).astype(np.uint16)
