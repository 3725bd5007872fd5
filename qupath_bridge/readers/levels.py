"""The base class of readers: boxes past the edge, choice of level, scaling.

A concrete reader only says which levels it has and reads a rectangle inside one of them.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from qupath_bridge.errors import ReadError
from qupath_bridge.model import (
    FIRST_PLANE,
    Box,
    BoxArray,
    FloatArray,
    IntArray,
    MaskArray,
    PixelArray,
    Plane,
)
from qupath_bridge.pixels.resample import (
    area_means,
    choose_level,
    pixel_edges,
)
from qupath_bridge.timing import step

from .background import WHITE
from .base import RGB_CHANNELS, Fingerprint, Level, Pixels
from .level_sizes import level_factors, make_levels
from .padding import fills_tiles, find_downsample, is_doubtful, said_downsample

__all__ = ["LevelReader"]

log = logging.getLogger("qupath_bridge")

BLOCK_PIXELS = 2 << 20
"""Source pixels held at once when a large box is scaled down."""


class LevelReader(ABC):
    """A reader of RGB slides that is built of rectangles of levels; the base of concrete ones.

    A subclass has ``_read_rectangle`` and ``fingerprint``, and ``_close`` where it holds a file.

    Parameters
    ----------
    label : str
        What messages call the slide: its path.
    sizes : sequence of (int, int)
        Width and height of each level, finest first.
    bounds, pixel_size, objective_power, planes, background
        What the reader reports, see :class:`~qupath_bridge.readers.base.Reader`.
    """

    def __init__(
        self,
        label: str,
        sizes: Sequence[tuple[int, int]],
        *,
        bounds: Box | None = None,
        pixel_size: tuple[float, float] | None = None,
        objective_power: float | None = None,
        planes: tuple[int, int] = (1, 1),
        background: tuple[int, int, int] = WHITE,
    ) -> None:
        self._label = label
        self._set_levels(tuple(enumerate(make_levels(sizes))))
        self._bounds = bounds
        self._pixel_size = pixel_size
        self._objective_power = objective_power
        self._planes = planes
        self._background = background
        self._closed = False

    def _set_levels(self, levels: Sequence[tuple[int, Level]]) -> None:
        """Set the levels that are used, with their numbers in the file; level 0 first."""
        self._numbers = tuple(number for number, _ in levels)
        self._levels = tuple(level for _, level in levels)
        self._factors = tuple(level_factors(self.size, level) for level in self._levels)
        self._finest = tuple(min(factors) for factors in self._factors)

    def _settle_padded_levels(
        self, tiles: Sequence[tuple[int, int]], said: Sequence[float | None]
    ) -> None:
        """Find the true downsample of levels that were filled to whole tiles.

        For readers of such formats, called when rectangles can be read. The number in the file
        counts if it fits, else the content is compared; a level for which neither tells is not
        used.

        Parameters
        ----------
        tiles : sequence of (int, int)
            Width and height of the file tiles of each level; (0, 0) if they are not known.
        said : sequence of float or None
            Downsample of each level as the file states it.
        """
        given = tuple(zip(self._levels, self._factors, strict=True))
        settled = [(0, self._levels[0])]
        for number, (level, factors) in enumerate(given[1:], 1):
            tile = tiles[number]
            found: float | None = level.downsample
            if fills_tiles(level, tile):
                found = said_downsample(self.size, level, said[number], tile)
                if found is None and is_doubtful(self.size, level, factors):
                    self._set_levels(settled)  # finer levels are read, never this one
                    found = self._compare(number, level, tile)
                elif found is None:
                    found = level.downsample
            if found is None:
                log.info("%s: level %d is not used: its downsample is unknown.", self, number)
            else:
                settled.append((number, Level(level.width, level.height, found)))
        self._set_levels(settled)

    def _compare(self, number: int, level: Level, tile: tuple[int, int]) -> float | None:
        """Return the downsample of a level whose content tells it, else None."""
        finer = max(max(pair) for pair in self._factors)
        try:
            return find_downsample(
                self.size,
                level,
                finer,
                tile,
                lambda box: self._read_rectangle(number, box, FIRST_PLANE)[0],
                lambda box, size: self.read(box, size)[0],
            )
        except ReadError:
            return None

    @abstractmethod
    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        """Read a rectangle inside the level, in the level's pixels.

        Returns
        -------
        pixels : array, shape (h, w, 3), uint8
            The background's colour where there are no pixels. It is not changed afterwards.
        mask : array, shape (h, w), bool, or None
            False where there are no pixels; None if that is nowhere so.
        """

    def _read_rectangles(
        self, level: int, corners: IntArray, size: tuple[int, int], plane: Plane
    ) -> Pixels:
        """Read rectangles of one size inside the level, in the level's pixels.

        A subclass may read them faster than one by one.

        Parameters
        ----------
        level : int
        corners : array of int, shape (N, 2)
            x, y of the upper left corners; N is at least 1.
        size : (width, height)

        Returns
        -------
        pixels : array, shape (N, height, width, 3), uint8
            The caller's own.
        mask : array, shape (N, height, width), bool, or None
        """
        width, height = size
        pixels: PixelArray = np.empty((len(corners), height, width, 3), np.uint8)
        mask: MaskArray | None = None
        for number, (x, y) in enumerate(corners.tolist()):
            pixels[number], valid = self._read_rectangle(level, Box(x, y, width, height), plane)
            if valid is not None:
                if mask is None:
                    mask = np.ones(pixels.shape[:3], np.bool_)
                mask[number] = valid
        return pixels, mask

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files of the slide as they are now; read again each time."""

    def _close(self) -> None:  # noqa: B027 - most hold a file, not all
        """Close the file; called once."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        return self._levels[0].width, self._levels[0].height

    @property
    def levels(self) -> tuple[Level, ...]:
        """The resolutions, finest first."""
        return self._levels

    @property
    def bounds(self) -> Box | None:
        """The non-empty part of the slide, None if the file names none."""
        return self._bounds

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """µm per level-0 pixel along x and y; None if the file does not say."""
        return self._pixel_size

    @property
    def objective_power(self) -> float | None:
        """Nominal magnification; None if the file does not say."""
        return self._objective_power

    @property
    def planes(self) -> tuple[int, int]:
        """Number of z slices and time points."""
        return self._planes

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: red, green and blue."""
        return RGB_CHANNELS

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Type of the pixel values: uint8."""
        return np.dtype(np.uint8)

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour of what is outside, transparent or missing."""
        return self._background

    def read(self, box: Box, size: tuple[int, int], plane: Plane = FIRST_PLANE) -> Pixels:
        """Read a box and scale it to a size.

        The coarsest level that is not coarser than the output is read, at the box's place in it to
        a fraction of a pixel, and scaled by :func:`~qupath_bridge.pixels.resample.area_resize`.
        Large boxes go block by block, so the memory does not depend on the box.

        Parameters
        ----------
        box : Box
            Level-0 pixels of the file; may pass the edges.
        size : (width, height)
            Output pixels.
        plane : Plane

        Returns
        -------
        pixels : array, shape (height, width, 3), uint8
        mask : array, shape (height, width), or None
            False where at least half of a pixel is outside, transparent or missing; None if
            that is nowhere so.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane.
        """
        self._check(box, size, plane)
        width, height = size
        index = self._choose_level(box, size)
        x_factor, y_factor = self._factors[index]
        x, x_edges = _relative_edges(box.x, box.w, x_factor, width)
        y, y_edges = _relative_edges(box.y, box.h, y_factor, height)
        rows, columns = _block_shape(x_edges, y_edges)
        if rows >= height and columns >= width:
            return self._scaled(index, (x, y), x_edges, y_edges, plane)
        pixels = np.empty((height, width, 3), np.uint8)
        mask = np.ones((height, width), np.bool_)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                place = np.s_[top : top + rows, left : left + columns]
                across = x_edges[left : left + columns + 1]
                down = y_edges[top : top + rows + 1]
                part, valid = self._scaled(index, (x, y), across, down, plane)
                pixels[place] = part
                if valid is not None:
                    mask[place] = valid
        return pixels, None if mask.all() else mask

    def read_many(
        self, boxes: BoxArray, size: tuple[int, int], plane: Plane = FIRST_PLANE
    ) -> Pixels:
        """Read a batch of boxes, as :meth:`read` reads each.

        Boxes of one size that begin at whole pixels of a level are read together; others, and
        those that pass the edges, one by one.

        Parameters
        ----------
        boxes : array of int, shape (N, 4)
            x, y, width, height: level-0 pixels of the file.
        size : (width, height)
            Output pixels of each box.
        plane : Plane

        Returns
        -------
        pixels : array, shape (N, height, width, 3), uint8
        mask : array, shape (N, height, width), or None
            None if no pixel of any box is outside, transparent or missing.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane.
        """
        boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
        width, height = size
        for box in boxes[:1].tolist():
            self._check(Box(*box), size, plane)
        together, index = self._find_alike(boxes, size)
        if together.all() and len(boxes):
            alike, valid = self._read_alike(index, boxes, size, plane)
            return alike, None if valid is None or valid.all() else valid
        pixels: PixelArray = np.empty((len(boxes), height, width, 3), np.uint8)
        mask: MaskArray = np.ones(pixels.shape[:3], np.bool_)
        if together.any():
            pixels[together], valid = self._read_alike(index, boxes[together], size, plane)
            if valid is not None:
                mask[together] = valid
        for number in np.flatnonzero(~together).tolist():
            pixels[number], valid = self.read(Box(*boxes[number].tolist()), size, plane)
            if valid is not None:
                mask[number] = valid
        return pixels, None if mask.all() else mask

    def close(self) -> None:
        """Close the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._label!r})"

    def _check(self, box: Box, size: tuple[int, int], plane: Plane) -> None:
        if self._closed:
            raise ReadError(f"{self._label} is closed.", hint="Open the slide again to read it.")
        if min(*box[2:], *size) <= 0:
            raise ReadError(
                f"{self._label}: cannot read the box {tuple(box)} as {size[0]} x {size[1]} pixels.",
                hint="Width and height must be at least 1.",
            )
        z_count, t_count = self._planes
        if not (0 <= plane.z < z_count and 0 <= plane.t < t_count):
            raise ReadError(
                f"{self._label} has no plane z={plane.z}, t={plane.t}.",
                hint=f"This reader sees {z_count} z slices and {t_count} time points.",
            )

    def _choose_level(self, box: Box, size: tuple[int, int]) -> int:
        return choose_level(self._finest, min(box.w / size[0], box.h / size[1]))

    def _find_alike(self, boxes: BoxArray, size: tuple[int, int]) -> tuple[MaskArray, int]:
        """Return which boxes are scaled alike, inside a level, and the level's index.

        They have one size, begin at whole pixels of the level, and are read in one block.
        """
        none: MaskArray = np.zeros(len(boxes), np.bool_)
        if not len(boxes) or (boxes[:, 2:] != boxes[0, 2:]).any():
            return none, 0
        index = self._choose_level(Box(*boxes[0].tolist()), size)
        x_factor, y_factor = self._factors[index]
        if not (x_factor.is_integer() and y_factor.is_integer()):
            return none, index
        factors = np.array([x_factor, y_factor], np.int64)
        if np.prod(-(-boxes[0, 2:] // factors)) > BLOCK_PIXELS:
            return none, index  # `read` goes block by block
        low, high = boxes[:, :2] // factors, -(-(boxes[:, :2] + boxes[:, 2:]) // factors)
        inside = (low >= 0).all(axis=1) & (high <= self._limits(index)).all(axis=1)
        return inside & (boxes[:, :2] % factors == 0).all(axis=1), index

    def _read_alike(
        self, index: int, boxes: BoxArray, size: tuple[int, int], plane: Plane
    ) -> Pixels:
        """Read boxes that are scaled alike, see :meth:`_find_alike`."""
        factors = np.array(self._factors[index], np.int64)
        corners = boxes[:, :2] // factors
        width, height = (-(-boxes[0, 2:] // factors)).tolist()
        number = self._numbers[index]
        if (boxes[0, 2:] == factors * size).all():
            return self._read_rectangles(number, corners, size, plane)
        pixels: PixelArray = np.empty((len(boxes), size[1], size[0], 3), np.uint8)
        masks: MaskArray = np.ones(pixels.shape[:3], np.bool_)
        _, x_edges = _relative_edges(0, int(boxes[0, 2]), int(factors[0]), size[0])
        _, y_edges = _relative_edges(0, int(boxes[0, 3]), int(factors[1]), size[1])
        count = max(BLOCK_PIXELS // (width * height), 1)
        for start in range(0, len(boxes), count):
            block = slice(start, start + count)
            source, mask = self._read_rectangles(number, corners[block], (width, height), plane)
            pixels[block], valid = _averaged(source, mask, x_edges, y_edges)
            if valid is not None:
                masks[block] = valid
        return pixels, masks

    def _ends(self, index: int) -> tuple[int, int]:
        """Return where the slide ends in a level, in the level's pixels.

        That is a fraction of a pixel after a level that was cut to whole pixels, and inside one
        that was filled to whole tiles.
        """
        ends = zip(self.size, self._factors[index], strict=True)
        right, bottom = (math.ceil(round(full / factor, 6)) for full, factor in ends)
        return right, bottom

    def _limits(self, index: int) -> tuple[int, int]:
        """Return where whole pixels of the slide end in a level, in the level's pixels."""
        right, bottom = self._ends(index)
        level = self._levels[index]
        return min(right, level.width), min(bottom, level.height)

    def _scaled(
        self,
        index: int,
        start: tuple[int, int],
        x_edges: FloatArray,
        y_edges: FloatArray,
        plane: Plane,
    ) -> Pixels:
        """Read and scale what is between edges, which count from a pixel of the level."""
        left, right = int(np.floor(x_edges[0])), int(np.ceil(x_edges[-1]))
        top, bottom = int(np.floor(y_edges[0])), int(np.ceil(y_edges[-1]))
        box = Box(start[0] + left, start[1] + top, right - left, bottom - top)
        pixels, mask = self._padded(index, box, plane)
        batch = _averaged(
            pixels[None], None if mask is None else mask[None], x_edges - left, y_edges - top
        )
        return batch[0][0], None if batch[1] is None or batch[1].all() else batch[1][0]

    def _padded(self, index: int, box: Box, plane: Plane) -> Pixels:
        """Read a box of a level that may pass the slide's edges."""
        level = self._levels[index]
        right, bottom = self._ends(index)
        x0, x1 = max(box.x, 0), min(box.x + box.w, right)
        y0, y1 = max(box.y, 0), min(box.y + box.h, bottom)
        inside = Box(x0, y0, x1 - x0, y1 - y0)
        if inside == box and x1 <= level.width and y1 <= level.height:
            return self._read_rectangle(self._numbers[index], box, plane)
        pixels: PixelArray = np.empty((box.h, box.w, 3), np.uint8)
        pixels[:] = self._background
        mask: MaskArray = np.zeros((box.h, box.w), np.bool_)
        if inside.w > 0 and inside.h > 0:
            left, top = min(x0, level.width - 1), min(y0, level.height - 1)
            there = Box(left, top, min(x1, level.width) - left, min(y1, level.height) - top)
            part, valid = self._read_rectangle(self._numbers[index], there, plane)
            place = np.s_[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x]
            # Where the level was cut, its last pixel stands for the rest.
            rest = ((0, inside.h - there.h), (0, inside.w - there.w))
            pixels[place] = np.pad(part, (*rest, (0, 0)), mode="edge")
            mask[place] = True if valid is None else np.pad(valid, rest, mode="edge")
        return pixels, mask


def _averaged(
    pixels: PixelArray, mask: MaskArray | None, x_edges: FloatArray, y_edges: FloatArray
) -> Pixels:
    """Return the means of a batch between edges, and where at least half of each is valid."""
    with step("resample"):
        pixels = area_means(pixels, x_edges, y_edges)
        if mask is not None:
            cover = np.where(mask, np.uint8(255), np.uint8(0))
            mask = area_means(cover[..., None], x_edges, y_edges)[..., 0] > 127
    return pixels, mask


def _relative_edges(start: int, length: int, factor: float, count: int) -> tuple[int, FloatArray]:
    """Return the pixel of a level in which a box begins, and the edges of its output from there.

    From full-resolution coordinates, so that no error grows along a slide; and relative, so that
    equal boxes at whole pixels have equal edges.
    """
    first = math.floor(start / factor)
    rest = start / factor - first
    return first, pixel_edges(rest, rest + length / factor, count)


def _block_shape(x_edges: FloatArray, y_edges: FloatArray) -> tuple[int, int]:
    """Return how many output rows and columns to make at once."""
    height, width = len(y_edges) - 1, len(x_edges) - 1
    x_step = float(x_edges[-1] - x_edges[0]) / width
    y_step = float(y_edges[-1] - y_edges[0]) / height
    row = width * x_step * y_step
    rows = min(max(int(BLOCK_PIXELS / row), 1), height)
    columns = min(max(int(BLOCK_PIXELS / (rows * x_step * y_step)), 1), width)
    return rows, columns
