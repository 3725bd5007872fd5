"""Pictures of slides for people: RGB as it is, other channels in QuPath's colours and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from qupath_bridge.config import ExportConfig
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import PixelArray, Plane
from qupath_bridge.pixels.composite import Composite, Range
from qupath_bridge.pixels.display_ranges import auto_range, histogram_level
from qupath_bridge.qupath.display import qupath_composite
from qupath_bridge.readers.base import Reader

from .channels import ChannelView
from .pixels import read_thumbnail, read_whole

__all__ = ["find_ranges", "read_picture", "slide_composite"]

MOST_PIXELS = 1 << 24
"""Of the level in which ranges are found; a larger one is read smaller."""
READ_BYTES = 64 << 20
"""Bytes of the pixels of a whole slide that are read at once, if it has several channels."""


def slide_composite(
    config: ExportConfig, view: ChannelView, properties: Mapping[str, Any]
) -> Composite | None:
    """Return how the exported channels are shown; None for RGB, which is shown as it is.

    Channels that the options name are all shown, others as they are in QuPath. Ranges that QuPath
    has not saved are open: see :func:`find_ranges`.

    Parameters
    ----------
    config : ExportConfig
    view : ChannelView
    properties : mapping
        Those of QuPath's image data.
    """
    if view.is_rgb:
        return None
    channels = {i: (view.all_names[i], view.all_colors[i]) for i in view.indices}
    shown = qupath_composite(channels, properties)
    if config.channels:
        shown = Composite(tuple(each._replace(shown=True) for each in shown.channels))
    return shown


def find_ranges(
    composite: Composite, view: ChannelView, reader: Reader, coordinates: CoordinateMap
) -> Composite:
    """Return a composite without open ranges: QuPath's rule finds those of a slide.

    They come from the whole image at a coarse level, of the z slice and time point in the middle.

    Raises
    ------
    ReadError
        If the file cannot be read.
    """
    if not composite.open_channels:
        return composite
    size = _histogram_size(reader, coordinates)
    plane = Plane(*(count // 2 for count in reader.planes))
    each = size[0] * size[1] * np.dtype(view.dtype).itemsize
    step = max(1, READ_BYTES // each)
    found: dict[int, Range] = {}
    for start in range(0, len(composite.open_channels), step):
        numbers = composite.open_channels[start : start + step]
        pixels = read_whole(reader, coordinates, size, plane, view.part(numbers))
        found.update((number, auto_range(pixels[..., at])) for at, number in enumerate(numbers))
    return composite.with_ranges(found)


def _histogram_size(reader: Reader, coordinates: CoordinateMap) -> tuple[int, int]:
    """Return width and height of the level from which QuPath takes histograms."""
    width, height = coordinates.size
    sizes = [
        (max(1, round(width / level.downsample)), max(1, round(height / level.downsample)))
        for level in reader.levels
    ]
    width, height = sizes[histogram_level(sizes)]
    factor = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
    return max(1, round(width * factor)), max(1, round(height * factor))


def read_picture(
    reader: Reader,
    coordinates: CoordinateMap,
    view: ChannelView,
    composite: Composite | None,
    longest_side: int,
    plane: Plane,
) -> tuple[PixelArray, tuple[float, float]]:
    """Read the whole image as a small picture.

    Parameters
    ----------
    reader, coordinates, view, composite
        Of the slide.
    longest_side : int
        Pixels; smaller images keep their size.
    plane : Plane

    Returns
    -------
    rgb : array, shape (h, w, 3), uint8
    scale : (x, y)
        Pixels of the picture per pixel of QuPath's image, along each axis.

    Raises
    ------
    ReadError
        If the file cannot be read.
    """
    if composite is None:
        return read_thumbnail(reader, coordinates, longest_side, plane, view)
    display = find_ranges(composite, view, reader, coordinates).shown
    part = view.part(composite.shown_channels)
    pixels, scale = read_thumbnail(reader, coordinates, longest_side, plane, part)
    return display.apply(pixels), scale
