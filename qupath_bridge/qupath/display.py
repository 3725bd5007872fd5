"""Display settings that QuPath saves with the data of an image (*Brightness & contrast*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qupath_bridge.pixels.channels import RGB
from qupath_bridge.pixels.composite import ChannelDisplay, Composite, Range
from qupath_bridge.schemas import parse_json

__all__ = ["qupath_composite"]

PROPERTY = "qupath.lib.display.ImageDisplay"
_MOST = float(np.finfo(np.float32).max)


class _Saved(NamedTuple):
    """Settings of one channel that are saved; None for those that are not, or cannot be used."""

    color: RGB | None
    range: Range | None
    shown: bool


def qupath_composite(
    channels: Mapping[int, tuple[str, RGB]], properties: Mapping[str, Any]
) -> Composite:
    """Return how QuPath shows some channels of an image.

    What is saved goes before the project's colours, as when QuPath opens the image. Ranges that
    are not saved are None.

    Parameters
    ----------
    channels : mapping of int to (str, RGB)
        Name and colour by the index of the channel in the image, from 0; in the order that is
        wanted.
    properties : mapping
        Those of QuPath's image data.

    Examples
    --------
    >>> saved = '[{"name": "CD3 (C2)", "minDisplay": 5, "maxDisplay": 90, "selected": true}]'
    >>> shown = qupath_composite({1: ("CD3", (255, 0, 0))}, {PROPERTY: saved})
    >>> shown.channels[0].range, shown.channels[0].color
    ((5.0, 90.0), (255, 0, 0))
    """
    saved = _saved(properties.get(PROPERTY))
    shown = []
    for index, (name, color) in channels.items():
        found = saved.get(_listed_name(name, index), _Saved(None, None, not saved))
        shown.append(ChannelDisplay(name, found.color or color, found.range, found.shown))
    return Composite(tuple(shown))


def _listed_name(name: str, index: int) -> str:
    """Return what QuPath calls a channel in its lists.

    >>> _listed_name("DAPI", 0), _listed_name("Channel 2", 1)
    ('DAPI (C1)', 'Channel 2')
    """
    ending = f" (C{index + 1})"
    return name if f"Channel {index + 1}" in name or name.endswith(ending) else name + ending


def _saved(text: Any) -> dict[str, _Saved]:
    """Return what is saved, by the name in QuPath's lists; nothing for what cannot be read.

    QuPath, too, takes its defaults then.
    """
    try:
        found = parse_json(text) if isinstance(text, str) else []
    except ValueError:
        return {}
    entries = found if isinstance(found, list) else []
    return {
        each["name"]: _Saved(_color(each), _range(each), each.get("selected") is True)
        for each in entries
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    }


def _range(entry: Mapping[str, Any]) -> Range | None:
    low, high = _number(entry.get("minDisplay")), _number(entry.get("maxDisplay"))
    return None if low is None or high is None else (low, high)


def _number(value: Any) -> float | None:
    """Return a number in single precision, as QuPath reads it; None for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(np.float32(value)) if -_MOST <= value <= _MOST else None


def _color(entry: Mapping[str, Any]) -> RGB | None:
    packed = entry.get("color")
    if not isinstance(packed, int) or isinstance(packed, bool):
        return None
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255
