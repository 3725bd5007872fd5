"""Names and colours of channels: QuPath's defaults, and which channel a text means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qupath_bridge.errors import UsageError

__all__ = ["RGB", "default_colors", "find_channel"]

RGB = tuple[int, int, int]
"""A colour: red, green and blue from 0 to 255."""

_FIRST: tuple[RGB, ...] = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 224, 0), (0, 224, 224), (255, 0, 224),
)  # fmt: skip


def default_colors(count: int) -> tuple[RGB, ...]:
    """Return the colours that QuPath gives to channels without colours.

    >>> default_colors(1), default_colors(4)[3]
    (((255, 255, 255),), (255, 224, 0))
    """
    return ((255, 255, 255),) if count == 1 else tuple(_default_color(n) for n in range(count))


def _default_color(number: int) -> RGB:
    number %= 360
    if number < len(_FIRST):
        return _FIRST[number]
    # Of single precision, as Java's Color.HSBtoRGB.
    single = np.float32
    hue = single(number * 128 % 360) / single(360)
    strength = single(1) - single(number // 10) / single(20)
    sector = hue * single(6)
    part = sector - np.floor(sector)
    low = strength * (single(1) - strength)
    falling = strength * (single(1) - strength * part)
    rising = strength * (single(1) - strength * (single(1) - part))
    red, green, blue = (
        (strength, rising, low),
        (falling, strength, low),
        (low, strength, rising),
        (low, falling, strength),
        (rising, low, strength),
        (strength, low, falling),
    )[int(sector)]
    packed = (_byte(red) << 16) | (_byte(green) << 8) | _byte(blue)
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255


def _byte(value: np.float32) -> int:
    return int(value * np.float32(255) + np.float32(0.5))


def find_channel(names: Sequence[str], wanted: str) -> int:
    """Return the index, from 0, of the channel that a text means.

    Parameters
    ----------
    names : sequence of str
        Of all channels, in their order.
    wanted : str
        A name, exactly or else ignoring case; or the number of a channel, counted from 1 as
        QuPath does (``Channel 1``).

    Raises
    ------
    UsageError
        If no channel is meant, or several of one name; with all names.

    Examples
    --------
    >>> find_channel(("DAPI", "CD3"), "cd3"), find_channel(("DAPI", "CD3"), "1")
    (1, 0)
    """
    folded = wanted.casefold()
    for found in (
        [n for n, name in enumerate(names) if name == wanted],
        [n for n, name in enumerate(names) if name.casefold() == folded],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(str(n + 1) for n in found)
            raise UsageError(
                f"{len(found)} channels are called {wanted!r}: {numbers} of {_listed(names)}.",
                hint="Give the number of the channel, counted from 1.",
            )
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise UsageError(
        f"No channel is called {wanted!r}; this slide has {_listed(names)}.",
        hint="Give a name, or the number of a channel, counted from 1.",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names, 1))
