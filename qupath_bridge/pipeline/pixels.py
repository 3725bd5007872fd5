"""Pixels as QuPath shows them, from a file that may be turned, mirrored or cropped."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import FIRST_PLANE, Box, BoxArray, MaskArray, PixelArray, Plane
from qupath_bridge.pixels.orient import orient, warp
from qupath_bridge.readers.base import Pixels, Reader

from .channels import ChannelView, file_view

__all__ = ["passing", "read_patch", "read_patches", "read_thumbnail", "read_whole"]


def read_patch(
    reader: Reader,
    coordinates: CoordinateMap,
    box: Box,
    size: tuple[int, int],
    plane: Plane = FIRST_PLANE,
    view: ChannelView | None = None,
) -> Pixels:
    """Read a box of the image as QuPath shows it.

    Parameters
    ----------
    reader : Reader
        Of the slide's file.
    coordinates : CoordinateMap
        Of the same file.
    box : Box
        QuPath's pixels; may pass the edges of the image.
    size : (width, height)
        Output pixels.
    plane : Plane
    view : ChannelView or None
        The channels that are wanted; None for those of the file, as they are in it.

    Returns
    -------
    pixels : array, shape (height, width, C), of the view's type
        What QuPath shows of the slide's background (white for RGB that names none, else 0)
        outside QuPath's image, also where the file continues: around a crop, or outside the
        slide's bounds.
    mask : array, shape (height, width), or None
        False there and where the file has no pixels; None if nothing is False.

    Raises
    ------
    ReadError
        If the file cannot be read there.
    """
    pixels, mask = read_patches(reader, coordinates, np.array([box]), size, plane, view)
    return pixels[0], None if mask is None else mask[0]


def read_patches(
    reader: Reader,
    coordinates: CoordinateMap,
    boxes: BoxArray,
    size: tuple[int, int],
    plane: Plane = FIRST_PLANE,
    view: ChannelView | None = None,
) -> Pixels:
    """Read a batch of boxes of one plane, in order; see :func:`read_patch`.

    Where the view projects the z slices, those of the plane's time point become one; a pixel
    counts as valid if it is so in any of them.

    Parameters
    ----------
    reader, coordinates, size, plane, view
    boxes : array of int, shape (N, 4)
        x, y, width, height: QuPath's pixels. N may be 0.

    Returns
    -------
    pixels : array, shape (N, height, width, C), of the view's type
    mask : array, shape (N, height, width), or None
        None if nothing is False in any of them.
    """
    view = view or file_view(reader)
    if view.projection is None:
        return _read_plane(reader, coordinates, boxes, size, plane, view)
    pixels, mask = _read_plane(reader, coordinates, boxes, size, Plane(0, plane.t), view)
    for z in range(1, reader.planes[0]):
        more, valid = _read_plane(reader, coordinates, boxes, size, Plane(z, plane.t), view)
        # A NaN says nothing: the values of other slices count.
        np.fmax(pixels, more, out=pixels)
        mask = None if mask is None or valid is None else mask | valid
    return pixels, mask


def read_thumbnail(
    reader: Reader,
    coordinates: CoordinateMap,
    longest_side: int = 1024,
    plane: Plane = FIRST_PLANE,
    view: ChannelView | None = None,
) -> tuple[PixelArray, tuple[float, float]]:
    """Read the whole image as QuPath shows it, small.

    Parameters
    ----------
    reader : Reader
    coordinates : CoordinateMap
    longest_side : int
        Of the thumbnail, pixels; smaller images keep their size.
    plane, view
        As in :func:`read_patch`.

    Returns
    -------
    pixels : array, shape (h, w, C), of the view's type
    scale : (x, y)
        Thumbnail pixels per pixel of QuPath's image, along each axis.
    """
    width, height = coordinates.size
    factor = min(1.0, longest_side / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    pixels = read_whole(reader, coordinates, size, plane, view)
    return pixels, (size[0] / width, size[1] / height)


def read_whole(
    reader: Reader,
    coordinates: CoordinateMap,
    size: tuple[int, int],
    plane: Plane = FIRST_PLANE,
    view: ChannelView | None = None,
) -> PixelArray:
    """Read the whole image as QuPath shows it.

    Parameters
    ----------
    reader : Reader
    coordinates : CoordinateMap
    size : (width, height)
        Of the result, pixels. The level of the file that is read is the coarsest that is at
        least as fine.
    plane, view
        As in :func:`read_patch`.

    Returns
    -------
    array, shape (height, width, C), of the view's type
    """
    whole = Box(0, 0, *coordinates.size)
    pixels, _ = read_patch(reader, coordinates, whole, size, plane, view)
    return pixels


def passing(boxes: BoxArray, visible: Box) -> MaskArray:
    """Return which boxes are not wholly inside another box, shape (N,)."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = (low >= visible[:2]) & (high <= np.add(visible[:2], visible[2:]))
    return np.asarray(~inside.all(axis=1))


def _inside(boxes: BoxArray, size: tuple[int, int], visible: Box) -> MaskArray:
    """Return which output pixels of each box have their centre in a box, shape (N, h, w)."""
    x, y, w, h = boxes.T[..., None]
    x = x + (np.arange(size[0]) + 0.5) * (w / size[0])
    y = y + (np.arange(size[1]) + 0.5) * (h / size[1])
    columns = (x > visible.x) & (x < visible.x + visible.w)
    rows = (y > visible.y) & (y < visible.y + visible.h)
    return np.asarray(rows[:, :, None] & columns[:, None, :])


def _read_plane(
    reader: Reader,
    coordinates: CoordinateMap,
    boxes: BoxArray,
    size: tuple[int, int],
    plane: Plane,
    view: ChannelView,
) -> Pixels:
    channels, steps = view.reading()
    if coordinates.is_right_angle:
        visible = coordinates.visible
        pixels, mask = _read_turned(reader, coordinates, boxes, size, plane, channels)
    else:
        visible = Box(0, 0, *coordinates.size)
        pixels, mask = _read_warped_batch(reader, coordinates, boxes, size, plane, channels)
    outside = passing(boxes, visible)
    if outside.any():
        mask = np.ones(pixels.shape[:3], np.bool_) if mask is None else mask
        mask[outside] &= _inside(boxes[outside], size, visible)
    if mask is not None and mask.all():
        mask = None
    if mask is not None:
        background = np.asarray(reader.background)
        pixels[~mask] = background if channels is None else background[list(channels)]
    return steps.apply(pixels), mask


def _read_turned(
    reader: Reader,
    coordinates: CoordinateMap,
    boxes: BoxArray,
    size: tuple[int, int],
    plane: Plane,
    channels: Sequence[int] | None,
) -> Pixels:
    orientation = coordinates.orientation
    file_size = size[::-1] if orientation.turns % 2 else size
    pixels, mask = reader.read_many(coordinates.slide_boxes(boxes), file_size, plane, channels)
    return orient(pixels, orientation), None if mask is None else orient(mask, orientation)


def _read_warped_batch(
    reader: Reader,
    coordinates: CoordinateMap,
    boxes: BoxArray,
    size: tuple[int, int],
    plane: Plane,
    channels: Sequence[int] | None,
) -> Pixels:
    count = len(reader.channels if channels is None else channels)
    pixels = np.empty((len(boxes), size[1], size[0], count), reader.dtype)
    mask: MaskArray = np.ones(pixels.shape[:3], np.bool_)
    for number, box in enumerate(boxes.tolist()):
        pixels[number], mask[number] = _read_warped(
            reader, coordinates, Box(*box), size, plane, channels
        )
    return pixels, mask


def _read_warped(
    reader: Reader,
    coordinates: CoordinateMap,
    box: Box,
    size: tuple[int, int],
    plane: Plane,
    channels: Sequence[int] | None,
) -> tuple[PixelArray, MaskArray]:
    (a, b, tx), (c, d, ty) = coordinates.matrix
    to_x, to_y = box.w / size[0], box.h / size[1]
    # Level-0 pixels of the file from one output pixel to the next: the block is read no finer than
    # that, because averaging comes before interpolation, and no finer than the file.
    step = max(1.0, min(to_x * math.hypot(a, c), to_y * math.hypot(b, d)))
    part = _around(coordinates.slide_box(box), math.ceil(step), coordinates.source)
    if part.w == 0 or part.h == 0:
        count = len(reader.channels if channels is None else channels)
        block, mask = np.zeros((0, 0, count), reader.dtype), None
        x_scale = y_scale = 1.0
    else:
        block_size = max(1, math.ceil(part.w / step)), max(1, math.ceil(part.h / step))
        block, mask = reader.read(part, block_size, plane, channels)
        x_scale, y_scale = block_size[0] / part.w, block_size[1] / part.h
    tx, ty = a * box.x + b * box.y + tx - part.x, c * box.x + d * box.y + ty - part.y
    return warp(
        block,
        mask,
        (
            (a * to_x * x_scale, b * to_y * x_scale, tx * x_scale),
            (c * to_x * y_scale, d * to_y * y_scale, ty * y_scale),
        ),
        size,
    )


def _around(box: Box, margin: int, limit: Box) -> Box:
    """Grow a box by what interpolation reaches, and clip it."""
    x, y = max(box.x - margin, limit.x), max(box.y - margin, limit.y)
    right = min(box.x + box.w + margin, limit.x + limit.w)
    bottom = min(box.y + box.h + margin, limit.y + limit.h)
    return Box(x, y, max(right - x, 0), max(bottom - y, 0))
