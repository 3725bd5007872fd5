"""QuPath's ``serverBuilder``: the chain of steps that opens an image, as plain JSON.

Values read from project files are read-only; the functions that end in ``_builder`` make new
ones, with the metadata that QuPath itself writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from qupath_bridge.errors import ProjectError, UsageError
from qupath_bridge.frozen import thaw

from .classes import pack_rgb

__all__ = [
    "OPENSLIDE",
    "RGB",
    "affine_builder",
    "builder_uris",
    "check_depth",
    "cropped_builder",
    "flipped_builder",
    "image_metadata",
    "rotated_builder",
    "uri_builder",
]

OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
"""Java class with which QuPath opens slides through OpenSlide."""

MAX_DEPTH = 64
"""Largest number of JSON levels in a builder; QuPath's own chains have fewer than ten."""

RGB = (("Red", (255, 0, 0)), ("Green", (0, 255, 0)), ("Blue", (0, 0, 255)))
"""Names and colours of the channels of an RGB image."""


def check_depth(value: Any, *, path: Path | None = None, place: str = "", depth: int = 0) -> None:
    """Refuse JSON that is nested deeper than any builder of QuPath.

    Raises
    ------
    ProjectError
        With the file and the place in it.
    """
    if depth > MAX_DEPTH:
        raise ProjectError(f"{place}: nested more than {MAX_DEPTH} levels deep", path=path)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        check_depth(item, path=path, place=place, depth=depth + 1)


def builder_uris(builder: Any) -> Iterator[str]:
    """Yield the URI of every file that a builder reads, including wrapped builders."""
    if isinstance(builder, Mapping):
        if isinstance(builder.get("uri"), str):
            yield builder["uri"]
        for key in ("builder", "builders", "channels", "regions", "resolutions", "serverBuilder"):
            yield from builder_uris(builder.get(key))
    elif isinstance(builder, list | tuple):
        for each in builder:
            yield from builder_uris(each)


def image_metadata(
    name: str,
    width: int,
    height: int,
    *,
    pixel_size: tuple[float, float] | float | None = None,
    levels: Sequence[tuple[float, int, int]] = (),
    magnification: float | None = None,
    size_z: int = 1,
    size_t: int = 1,
    channels: Sequence[tuple[str, tuple[int, int, int]]] = RGB,
    pixel_type: str = "UINT8",
    is_rgb: bool = True,
    tile: tuple[int, int] = (256, 256),
) -> dict[str, Any]:
    """Return the metadata of an image as QuPath writes it; of RGB of 8 bit unless it is told.

    Parameters
    ----------
    width, height : int
        Full resolution, pixels.
    pixel_size : float or (float, float), optional
        µm per pixel, along x and y; uncalibrated when not given.
    levels : sequence of (downsample, width, height)
        Finest first; only the full resolution when not given.
    channels : sequence of (name, (red, green, blue))
    pixel_type : str
        QuPath's word for the type of the values.
    is_rgb : bool
    tile : (int, int)
        Width and height in which QuPath reads, pixels.
    """
    unit = "px" if pixel_size is None else "µm"
    size = 1.0 if pixel_size is None else pixel_size
    size_x, size_y = size if isinstance(size, tuple) else (size, size)
    metadata: dict[str, Any] = {
        "name": name,
        "width": width,
        "height": height,
        "sizeZ": size_z,
        "sizeT": size_t,
        "channelType": "DEFAULT",
        "isRGB": is_rgb,
        "pixelType": pixel_type,
        "levels": [
            {"downsample": float(d), "width": w, "height": h}
            for d, w, h in levels or ((1.0, width, height),)
        ],
        "channels": [{"name": name, "color": pack_rgb(*color)} for name, color in channels],
        "pixelCalibration": {
            "pixelWidth": {"value": float(size_x), "unit": unit},
            "pixelHeight": {"value": float(size_y), "unit": unit},
            "zSpacing": {"value": 1.0, "unit": "z-slice"},
            "timeUnit": "SECONDS",
            "timepoints": [],
        },
    }
    if magnification is not None:
        metadata["magnification"] = float(magnification)
    return {**metadata, "preferredTileWidth": tile[0], "preferredTileHeight": tile[1]}


def uri_builder(
    uri: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    provider: str | None = OPENSLIDE,
    args: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the builder of a slide file; ``provider`` None lets QuPath choose the reader."""
    named = {} if provider is None else {"providerClassName": provider}
    return _finish({"builderType": "uri", **named, "uri": uri, "args": list(args)}, metadata)


def rotated_builder(builder: Mapping[str, Any], degrees: Literal[90, 180, 270]) -> dict[str, Any]:
    """Return a builder that turns an image clockwise."""
    metadata = _inner(builder)
    if degrees % 180:
        calibration = metadata["pixelCalibration"]
        metadata = {
            **metadata,
            "width": metadata["height"],
            "height": metadata["width"],
            "levels": [
                {"downsample": lv["downsample"], "width": lv["height"], "height": lv["width"]}
                for lv in metadata["levels"]
            ],
            "pixelCalibration": {
                **calibration,
                "pixelWidth": calibration["pixelHeight"],
                "pixelHeight": calibration["pixelWidth"],
            },
        }
    return _finish(_wrap("rotated", builder, rotation=f"ROTATE_{degrees}"), metadata)


def flipped_builder(
    builder: Mapping[str, Any], flip: Literal["HORIZONTAL", "VERTICAL", "BOTH"]
) -> dict[str, Any]:
    """Return a builder that mirrors an image (QuPath >= 0.7)."""
    return _finish(_wrap("flipped", builder, flip=flip), _inner(builder))


def cropped_builder(
    builder: Mapping[str, Any], x: int, y: int, width: int, height: int
) -> dict[str, Any]:
    """Return a builder that shows a part of an image; the box is in the inner image's pixels."""
    metadata = _inner(builder)
    region = {"x": x, "y": y, "width": width, "height": height, "z": 0, "t": 0}
    return _finish(
        _wrap("cropped", builder, region=region), _resize_metadata(metadata, width, height)
    )


def affine_builder(
    builder: Mapping[str, Any],
    matrix: Sequence[float],
    width: int,
    height: int,
) -> dict[str, Any]:
    """Return a builder that moves an image: ``x' = m00 x + m01 y + m02``.

    ``matrix`` is (m00, m10, m01, m11, m02, m12), the order of ``java.awt``.
    """
    names = ("m00", "m10", "m01", "m11", "m02", "m12")
    transform = dict(zip(names, map(float, matrix), strict=True))
    return _finish(
        _wrap("affine", builder, transform=transform),
        _resize_metadata(_inner(builder), width, height),
    )


def _resize_metadata(metadata: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    levels = [lv["downsample"] for lv in metadata["levels"]]
    return {
        **metadata,
        "width": width,
        "height": height,
        "levels": [
            {"downsample": d, "width": int(width / d), "height": int(height / d)} for d in levels
        ],
    }


def _wrap(kind: str, builder: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
    return {"builderType": kind, "builder": thaw(builder), **keys}


def _inner(builder: Mapping[str, Any]) -> dict[str, Any]:
    metadata = builder.get("metadata")
    if metadata is None:
        raise UsageError(
            "A builder without metadata cannot be wrapped: the size of the image is not known.",
            hint="Give uri_builder the metadata of the image.",
        )
    return dict(thaw(metadata))


def _finish(builder: dict[str, Any], metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return builder if metadata is None else {**builder, "metadata": thaw(metadata)}
