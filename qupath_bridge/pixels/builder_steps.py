"""From the steps of QuPath's builders to functions of pixels, and the channels that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qupath_bridge.errors import CoordinateError

from .channels import RGB, default_colors
from .steps import Convert, PixelStep, Transform, Transforms

__all__ = ["PIXEL_TYPES", "Shown", "step_of"]

PIXEL_TYPES = {
    "UINT8": "uint8",
    "INT8": "int8",
    "UINT16": "uint16",
    "INT16": "int16",
    "UINT32": "uint32",
    "INT32": "int32",
    "FLOAT32": "float32",
    "FLOAT64": "float64",
}
"""QuPath's words for types of values, and numpy's."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The channels of an image: names, colours, type, and whether it is RGB of 8 bit."""

    names: tuple[str, ...]
    colors: tuple[RGB, ...]
    dtype: str
    color: bool = False


def step_of(kind: str, values: Mapping[str, Any], before: Shown) -> tuple[PixelStep, Shown] | None:
    """Return the step of a builder, and the channels that it makes.

    Parameters
    ----------
    kind : str
        QuPath's ``builderType``.
    values : mapping
        As :func:`~qupath_bridge.geometry.chain.read_chain` returns them.
    before : Shown
        The channels that the step gets.

    Returns
    -------
    (PixelStep, Shown) or None
        None for a step that changes no pixel.

    Raises
    ------
    CoordinateError
        If the step names a channel that is not there, or is not for such pixels.
    """
    make = _MAKERS.get(kind)
    return None if make is None else make(values, before)


def _convert(values: Mapping[str, Any], before: Shown) -> tuple[PixelStep, Shown]:
    target = PIXEL_TYPES[values["pixelType"]]
    return Convert(target), Shown(before.names, before.colors, target, _stays_rgb(target, before))


def _stays_rgb(target: str, before: Shown) -> bool:
    return target == "uint8" and before.names == ("Red", "Green", "Blue")


def _deconvolve(values: Mapping[str, Any], before: Shown) -> tuple[PixelStep, Shown]:
    _check_rgb("color_deconvolved", before)
    stains, numbers = values["stains"], values["channels"]
    made = Transforms(tuple(_stain_transform(stains, number) for number in numbers))
    vectors = [stains[f"stain{number}"] for number in numbers]
    return made, Shown(
        tuple(vector["name"] for vector in vectors),
        tuple(_stain_color(vector) for vector in vectors),
        "float32",
    )


def _color(values: Mapping[str, Any], before: Shown) -> tuple[PixelStep, Shown]:
    transforms, names, colors = [], [], []
    defaults = default_colors(max(2, len(values["transforms"])))
    for number, each in enumerate(values["transforms"]):
        transform, name = _transform(each, before)
        source = transform.inputs[0] if transform.kind == "channel" else None
        transforms.append(transform)
        names.append(name if source is None else before.names[source])
        colors.append(defaults[number] if source is None else before.colors[source])
    return Transforms(tuple(transforms)), Shown(tuple(names), tuple(colors), "float32")


def _transform(each: Mapping[str, Any], before: Shown) -> tuple[Transform, str]:
    """Return one transform of the step ``color``, and the name of the channel that it makes."""
    everything = tuple(range(len(before.names)))
    if "channel" in each:
        index = each["channel"]
        if index >= len(before.names):
            raise _missing(f"the channel {index + 1}", before)
        return Transform("channel", (index,)), before.names[index]
    if "channelName" in each:
        return Transform("channel", (_index(each["channelName"], before),)), each["channelName"]
    if "stains" in each:
        _check_rgb("color", before)
        number = each["stainNumber"]
        return _stain_transform(each["stains"], number), each["stains"][f"stain{number}"]["name"]
    if "combineType" in each:
        kind, name = _COMBINED[each["combineType"]]
        return Transform(kind, everything), name  # type: ignore[arg-type]  # one of its words
    by_name = each.get("channelNamesToCoefficients")
    if by_name is not None:
        for name in by_name:
            _index(name, before)
        factors = [by_name.get(name, 0.0) for name in before.names]
        name = " + ".join(f"{_java(factor)}*{key}" for key, factor in by_name.items())
    else:
        given = each["channelIndicesToCoefficients"]
        if len(given) > len(before.names):
            raise _missing(f"the channel {len(given)}", before)
        factors = [*given, *[0.0] * (len(before.names) - len(given))]
        name = " + ".join(f"{_java(factor)}*channel{n}" for n, factor in enumerate(given))
    return Transform("linear", everything, tuple(map(float, factors))), name


def _java(number: float) -> str:
    return repr(float(number))


def _index(name: str, before: Shown) -> int:
    if name not in before.names:
        raise _missing(f"the channel {name!r}", before)
    return before.names.index(name)


def _stain_transform(stains: Mapping[str, Any], number: int) -> Transform:
    vectors = [[stains[f"stain{n}"][axis] for axis in "rgb"] for n in (1, 2, 3)]
    inverse = _inverse(vectors)
    factors = tuple(row[number - 1] for row in inverse)
    whites = tuple(float(stains[key]) for key in ("maxRed", "maxGreen", "maxBlue"))
    return Transform("stain", (0, 1, 2), (*factors, *whites))


def _inverse(m: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a 3 x 3 matrix, rounded as QuPath's is: products, then one factor."""
    following = ((1, 2), (2, 0), (0, 1))
    adjugate = [[m[r][c] * m[s][d] - m[r][d] * m[s][c] for r, s in following] for c, d in following]
    determinant = sum(m[0][n] * adjugate[n][0] for n in range(3))
    if abs(determinant) < 1e-9:  # noise, of vectors in one plane
        raise CoordinateError(
            "QuPath opens this image with stains that cannot be separated: two of them are the "
            "same, or all are in one plane.",
            hint="Set the stain vectors again, in QuPath.",
        )
    return [[1 / determinant * value for value in row] for row in adjugate]


def _stain_color(vector: Mapping[str, Any]) -> RGB:
    red, green, blue = (
        int(np.clip(255.0 - vector[axis] * 255, 0, 255)) for axis in ("r", "g", "b")
    )
    return red, green, blue


def _check_rgb(kind: str, before: Shown) -> None:
    if not before.color:
        raise CoordinateError(
            f"QuPath opens this image with the step {kind!r}, which separates stains, over pixels "
            f"that are not RGB of 8 bit: {', '.join(before.names)} of {before.dtype}.",
            hint="Add the slide itself to the project and draw there.",
        )


def _missing(what: str, before: Shown) -> CoordinateError:
    return CoordinateError(
        f"QuPath opens this image with a step that needs {what}; there are "
        f"{', '.join(before.names)}.",
        hint="Was a channel renamed after the step was made? Make the image again, in QuPath.",
    )


_COMBINED = {
    "MEAN": ("mean", "Average channels"),
    "MAXIMUM": ("max", "Max channels"),
    "MINIMUM": ("min", "Min channels"),
}
_MAKERS = {"color": _color, "color_deconvolved": _deconvolve, "typeConvert": _convert}
