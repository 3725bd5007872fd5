"""The keys of QuPath's builders that change pixels, checked; their coordinates stay the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qupath_bridge.errors import CoordinateError

__all__ = ["PIXEL_BUILDERS", "malformed"]

_TARGETS = ("UINT8", "UINT16", "INT16", "INT32", "FLOAT32", "FLOAT64")
"""Types that QuPath converts to."""
_COMBINED = ("MEAN", "MAXIMUM", "MINIMUM")


def malformed(what: str, problem: str) -> CoordinateError:
    """Return the error of a builder whose keys cannot be used."""
    return CoordinateError(
        f"The project's entry of this image cannot be used: {what} {problem}.",
        hint="Open the project in QuPath and save it again.",
    )


def _type_convert(builder: Mapping[str, Any]) -> dict[str, Any]:
    target = builder.get("pixelType")
    if target not in _TARGETS:
        raise malformed("pixelType", f"is {target!r}, not one of {', '.join(_TARGETS)}")
    return {"pixelType": target}


def _color_deconvolved(builder: Mapping[str, Any]) -> dict[str, Any]:
    numbers = builder.get("channels") or [1, 2, 3]
    if not _is_list(numbers) or not all(type(n) is int and 1 <= n <= 3 for n in numbers):
        raise malformed("channels", f"is {numbers!r}, not a list of stains from 1 to 3")
    return {"stains": _stains(builder.get("stains")), "channels": list(numbers)}


def _color(builder: Mapping[str, Any]) -> dict[str, Any]:
    transforms = builder.get("transforms")
    if not _is_list(transforms) or not transforms:
        raise malformed("transforms", "is not a list of channels")
    return {"transforms": [_transform(each) for each in transforms]}


def _transform(each: object) -> dict[str, Any]:
    """Return one transform with the keys that QuPath looks at, in QuPath's order."""
    if not isinstance(each, Mapping):
        raise malformed("transforms", "holds something that is not an object")
    if "channel" in each:
        if type(each["channel"]) is not int or each["channel"] < 0:
            raise malformed("channel", f"is {each['channel']!r}, not a number from 0")
        return {"channel": each["channel"]}
    if "channelName" in each:
        if not isinstance(each["channelName"], str):
            raise malformed("channelName", f"is {each['channelName']!r}, not a text")
        return {"channelName": each["channelName"]}
    names, numbers = (each.get(f"channel{key}ToCoefficients") for key in ("Names", "Indices"))
    if names is not None:
        if not isinstance(names, Mapping) or not all(map(_is_number, names.values())):
            raise malformed("channelNamesToCoefficients", "is not an object of numbers")
        return {"channelNamesToCoefficients": {name: float(n) for name, n in names.items()}}
    if numbers is not None:
        if not _is_list(numbers) or not all(map(_is_number, numbers)):
            raise malformed("channelIndicesToCoefficients", "is not a list of numbers")
        return {"channelIndicesToCoefficients": [float(n) for n in numbers]}
    if "stains" in each:
        if each.get("stainNumber") not in (1, 2, 3):
            raise malformed("stainNumber", f"is {each.get('stainNumber')!r}, not 1, 2 or 3")
        return {"stains": _stains(each["stains"]), "stainNumber": each["stainNumber"]}
    if each.get("combineType") in _COMBINED:
        return {"combineType": each["combineType"]}
    raise CoordinateError(
        "QuPath opens this image with the step 'color', of which one channel is made in a way that "
        f"is unknown: {', '.join(map(str, each)) or 'nothing is said'}.",
        hint="Add the slide to the project without it; an extension of QuPath may have made it.",
    )


def _stains(stains: object) -> dict[str, Any]:
    """Return stain vectors and the values that are white."""
    if not isinstance(stains, Mapping):
        raise malformed("stains", "is missing")
    vectors = {key: _vector(stains.get(key)) for key in ("stain1", "stain2", "stain3")}
    whites: dict[str, Any] = {key: stains.get(key) for key in ("maxRed", "maxGreen", "maxBlue")}
    if not all(_is_number(white) and white > 0 for white in whites.values()):
        raise malformed("stains", f"has no usable {', '.join(whites)}")
    return {**vectors, **whites}


def _vector(vector: object) -> dict[str, Any]:
    good = isinstance(vector, Mapping) and all(_is_number(vector.get(axis)) for axis in "rgb")
    if not good or not isinstance(vector, Mapping):
        raise malformed("stains", "has no three vectors of numbers")
    name = vector.get("name")
    return {"name": "" if name is None else str(name), **{axis: vector[axis] for axis in "rgb"}}


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


PIXEL_BUILDERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "color": _color,
    "color_deconvolved": _color_deconvolved,
    "typeConvert": _type_convert,
}
"""Functions that read the keys of each kind of builder that changes pixels alone."""
