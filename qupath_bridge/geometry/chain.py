"""Steps by which QuPath opens an image: its server builders, checked and as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qupath_bridge.errors import CoordinateError
from qupath_bridge.frozen import OneLine, freeze, thaw

from .arguments import check_arguments
from .pixel_builders import PIXEL_BUILDERS, malformed

__all__ = ["AFFINE_KEYS", "FLIPS", "ROTATIONS", "BuilderStep", "read_chain", "to_builder"]

ROTATIONS = {"ROTATE_NONE": 0, "ROTATE_90": 1, "ROTATE_180": 2, "ROTATE_270": 3}
"""QuPath's names and their clockwise quarter turns."""

FLIPS = {
    "NONE": (False, False),
    "HORIZONTAL": (True, False),
    "VERTICAL": (False, True),
    "BOTH": (True, True),
}
"""QuPath's names, and whether each exchanges left and right, top and bottom."""

AFFINE_KEYS = ("m00", "m10", "m01", "m11", "m02", "m12")
"""In the order of ``java.awt.geom.AffineTransform``."""

_MAX_STEPS = 64
_OPENSLIDE = {"openslideserverbuilder", "openslideimageserver", "openslide"}
_REFUSED = {
    "channels": "joins channels of several images",
    "normalized": "changes the pixel values",
    "swapRedBlue": "swaps colour channels",
    "sparse": "is put together from several images",
    "sliced": "picks planes of another image",
    "z_projected": "projects a z-stack",
    "z_concatenated": "joins several images to a z-stack",
}


@dataclass(frozen=True, slots=True, repr=False)
class BuilderStep(OneLine):
    """One builder of a chain.

    Attributes
    ----------
    kind : str
        QuPath's ``builderType``.
    values : mapping
        The builder's own keys as plain JSON values, without the builder that it wraps.
    recorded : (width, height) or None
        The size that QuPath stored for the image after this step.
    channels : tuple of (name, packed colour or None)
        The channels that QuPath stored for it; empty where it stored none.
    pixel_type : str or None
        The type of their values, as ``UINT8``.
    is_rgb : bool or None
    """

    kind: str
    values: Mapping[str, Any]
    recorded: tuple[int, int] | None = None
    channels: tuple[tuple[str, int | None], ...] = ()
    pixel_type: str | None = None
    is_rgb: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", freeze(self.values))

    @property
    def crops_to_bounds(self) -> bool | None:
        """True if QuPath crops the slide of this ``uri`` step to its bounds; None if unknown."""
        provider = self.values.get("providerClassName")
        if provider is None:
            return None
        is_openslide = provider.rpartition(".")[2].lower() in _OPENSLIDE
        return is_openslide and "--no-crop" not in self.values["args"]

    @property
    def has_icc(self) -> bool:
        """True if QuPath applies a colour profile to the slide of this ``uri`` step."""
        return "--icc-profile" in self.values["args"]


def read_chain(builder: Mapping[str, Any]) -> tuple[BuilderStep, ...]:
    """Read a ``serverBuilder`` of a project.

    Parameters
    ----------
    builder : mapping
        The JSON object as stored by QuPath.

    Returns
    -------
    tuple of BuilderStep
        The slide file first (``uri``), the outermost step last; steps that change no coordinate
        (``pyramidize``, and those that change pixels alone) are included.

    Raises
    ------
    CoordinateError
        If a step is of a kind that cannot be followed, is unknown or is malformed.
    """
    steps: list[BuilderStep] = []
    while True:
        if not isinstance(builder, Mapping):
            raise malformed("the builder chain", "ends without a file")
        if len(steps) == _MAX_STEPS:
            raise malformed("the builder chain", f"has more than {_MAX_STEPS} steps")
        kind = builder.get("builderType")
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise _refusal(kind)
        steps.append(_step(str(kind), read(builder), builder))
        if kind == "uri":
            return tuple(reversed(steps))
        builder = builder.get("builder")  # type: ignore[assignment]  # checked above


def to_builder(steps: Sequence[BuilderStep]) -> dict[str, Any]:
    """Return the chain as QuPath stores it, without the keys that do not affect coordinates."""
    builder: dict[str, Any] = {}
    for step in steps:
        inner = {"builder": builder} if builder else {}
        builder = {"builderType": step.kind, **inner, **thaw(step.values)}
        if step.recorded is not None:
            builder["metadata"] = dict(zip(("width", "height"), step.recorded, strict=True))
    return builder


_IN_PLACE = {
    "z_projected": " The option projection takes the largest values over z.",
    "sliced": " The option plane names the planes that are exported.",
}
"""Ways to the same pixels without a step."""


def _refusal(kind: object) -> CoordinateError:
    if isinstance(kind, str) and kind in _REFUSED:
        return CoordinateError(
            f"QuPath opens this image with the step {kind!r}, which {_REFUSED[kind]}.",
            hint=f"Add the slide itself to the project and draw there.{_IN_PLACE.get(kind, '')}",
        )
    return CoordinateError(
        f"QuPath opens this image with the step {kind!r}, which is unknown.",
        hint="Add the slide to the project without it; an extension of QuPath may have made it.",
    )


def _step(kind: str, values: dict[str, Any], builder: Mapping[str, Any]) -> BuilderStep:
    metadata = builder.get("metadata")
    known = metadata if isinstance(metadata, Mapping) else {}
    pixel_type, is_rgb = known.get("pixelType"), known.get("isRGB")
    return BuilderStep(
        kind,
        values,
        _recorded_size(builder),
        _recorded_channels(known.get("channels")),
        pixel_type if isinstance(pixel_type, str) else None,
        is_rgb if isinstance(is_rgb, bool) else None,
    )


def _recorded_channels(channels: object) -> tuple[tuple[str, int | None], ...]:
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        return ()
    known = [each if isinstance(each, Mapping) else {} for each in channels]
    return tuple(
        (str(each.get("name") or ""), each["color"] if type(each.get("color")) is int else None)
        for each in known
    )


def _recorded_size(builder: Mapping[str, Any]) -> tuple[int, int] | None:
    metadata = builder.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    size = metadata.get("width"), metadata.get("height")
    return (size[0], size[1]) if all(type(side) is int for side in size) else None  # type: ignore[return-value]


def _read_uri(builder: Mapping[str, Any]) -> dict[str, Any]:
    args = builder.get("args")
    args = [] if args is None else args
    is_list = isinstance(args, Sequence) and not isinstance(args, str)
    if not is_list or not all(isinstance(arg, str) for arg in args):
        raise malformed("args", "is not a list of texts")
    values: dict[str, Any] = {
        key: str(builder[key]) for key in ("providerClassName", "uri") if builder.get(key)
    }
    check_arguments(args, values.get("uri", ""))
    return {**values, "args": list(args)}


def _read_rotated(builder: Mapping[str, Any]) -> dict[str, Any]:
    return {"rotation": _choice(builder, "rotation", ROTATIONS, "ROTATE_NONE")}


def _read_flipped(builder: Mapping[str, Any]) -> dict[str, Any]:
    return {"flip": _choice(builder, "flip", FLIPS, "NONE")}


def _choice(builder: Mapping[str, Any], key: str, known: Mapping[str, Any], default: str) -> str:
    value = builder.get(key)
    value = default if value is None else value
    if not isinstance(value, str) or value not in known:
        raise malformed(key, f"is {value!r}, not one of {', '.join(known)}")
    return value


def _read_cropped(builder: Mapping[str, Any]) -> dict[str, Any]:
    region = builder.get("region")
    keys = ("x", "y", "width", "height")
    if not isinstance(region, Mapping) or any(type(region.get(key)) is not int for key in keys):
        raise malformed("region", "has no whole x, y, width and height")
    if region["width"] < 1 or region["height"] < 1:
        raise malformed("region", f"is {region['width']} x {region['height']} pixels large")
    return {"region": {key: region[key] for key in keys}}


def _read_affine(builder: Mapping[str, Any]) -> dict[str, Any]:
    transform = builder.get("transform")
    if not isinstance(transform, Mapping):
        raise malformed("transform", "is missing")
    numbers = [transform.get(key) for key in AFFINE_KEYS]
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):  # type: ignore[arg-type]
        raise malformed("transform", f"has no finite {', '.join(AFFINE_KEYS)}")
    m00, m10, m01, m11 = (float(n) for n in numbers[:4])  # type: ignore[arg-type]
    if abs(m00 * m11 - m01 * m10) < 1e-12:
        raise malformed("transform", "has no inverse")
    return {"transform": dict(zip(AFFINE_KEYS, map(float, numbers), strict=True))}  # type: ignore[arg-type]


def _read_nothing(_: Mapping[str, Any]) -> dict[str, Any]:
    return {}


_READERS = {
    "uri": _read_uri,
    "rotated": _read_rotated,
    "flipped": _read_flipped,
    "cropped": _read_cropped,
    "affine": _read_affine,
    "pyramidize": _read_nothing,
    **PIXEL_BUILDERS,
}
