"""Metadata that QuPath stores about a slide file when it is added to a project."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qupath_bridge.qupath.files.builders import OPENSLIDE, image_metadata, uri_builder

__all__ = ["estimated_downsample", "server_builder"]

_BOUNDS = tuple(f"openslide.bounds-{side}" for side in ("x", "y", "width", "height"))


def server_builder(path: Path, uri: str) -> dict[str, Any]:
    """Return the ``serverBuilder`` of a slide file in a new project.

    A file that OpenSlide reads gets what QuPath's import writes: its class, and size, levels and
    pixel size as QuPath computes them. For other files, and OME-TIFF, which QuPath reads with
    Bio-Formats, no reader is named: QuPath takes the first that can, and stores the rest when
    the image is saved.
    """
    import openslide

    path = Path(path)
    if openslide.OpenSlide.detect_format(str(path)) is None or _is_ome(path):
        return uri_builder(uri, provider=None)
    with openslide.OpenSlide(path) as slide:
        metadata = _metadata(path.name, slide.level_dimensions, slide.properties)
    return uri_builder(uri, metadata, provider=OPENSLIDE)


def _is_ome(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return bool(file.is_ome)
    except (tifffile.TiffFileError, OSError, ValueError):
        return False


def _metadata(
    name: str, sizes: Sequence[tuple[int, int]], properties: Mapping[str, str]
) -> dict[str, Any]:
    width, height = sizes[0]
    downsamples = list(_ascending(estimated_downsample(sizes[0], size) for size in sizes))
    levels = [(d, *size) for d, size in zip(downsamples, sizes, strict=False)]
    if all(key in properties for key in _BOUNDS):
        shown = int(properties[_BOUNDS[2]]), int(properties[_BOUNDS[3]])
        if shown[0] != width and shown[1] != height:
            levels = [(d, int(shown[0] / d), int(shown[1] / d)) for d in downsamples]
        width, height = shown
    tile = tuple(
        int(_number(properties, f"openslide.level[0].tile-{side}") or 256)
        for side in ("width", "height")
    )
    sides = [_number(properties, f"openslide.mpp-{axis}") for axis in "xy"]
    x, y = (side if side is not None and side > 0 else None for side in sides)
    return image_metadata(
        name,
        width,
        height,
        pixel_size=None if x is None or y is None else (x, y),
        levels=levels,
        magnification=_number(properties, "openslide.objective-power"),
        tile=(tile[0], tile[1]),
    )


def _number(properties: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(properties[key])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _ascending(downsamples: Iterator[float]) -> Iterator[float]:
    """Yield downsamples up to the first that is not larger than the one before, as QuPath does."""
    last = -1.0
    for downsample in downsamples:
        if downsample <= last:
            return
        yield downsample
        last = downsample


def estimated_downsample(whole: tuple[int, int], level: tuple[int, int]) -> float:
    """Return the downsample that QuPath computes from the sizes of a level, pixels.

    >>> estimated_downsample((4443, 3567), (2221, 1783))
    2.0
    >>> estimated_downsample((300, 250), (100, 83))
    3.0
    """
    (width, height), (w, h) = whole, level
    x, y = width / w, height / h
    power = 2.0 ** math.floor(math.log10((x + y) / 2) / math.log10(2) + 0.5)
    if abs(height / power - h) < 2 and abs(width / power - w) < 2:
        return power
    if abs(width / math.floor(x + 0.5) - w) <= 1:
        x = float(math.floor(x + 0.5))
    if abs(height / math.floor(y + 0.5) - h) <= 1:
        y = float(math.floor(y + 0.5))
    if x != y and power in (x, y):
        return power
    return (x + y) / 2
