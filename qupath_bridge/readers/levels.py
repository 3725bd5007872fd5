"""The base class of readers: boxes past the edge, choice of level, scaling.

A concrete reader only says which levels it has and reads a rectangle inside one of them.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence

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
from qupath_bridge.pixels.resample import choose_level

from .base import Level, Pixels
from .described import DescribedReader
from .padding import fills_tiles, find_downsample, is_doubtful, said_downsample
from .scaling import averaged, block_shape, relative_edges

__all__ = ["LevelReader"]

log = logging.getLogger("qupath_bridge")

BLOCK_BYTES = 6 << 20
"""Source pixels held at once when a large box is scaled down: two million pixels of RGB."""


class LevelReader(DescribedReader):
    """A reader that is built of rectangles of levels; the base of concrete ones.

    A subclass has ``_read_rectangle`` and ``fingerprint``, and ``_close`` where it holds a file.
    One that can read some channels without the others has ``_read_rectangles`` too.

    Parameters
    ----------
    label : str
        What messages call the slide: its path.
    sizes : sequence of (int, int)
        Width and height of each level, finest first.
    bounds, pixel_size, objective_power, planes
        What the reader reports, see :class:`~qupath_bridge.readers.base.Reader`.
    channels : sequence of str
        Names of the channels; without it the slide is RGB.
    dtype : dtype
        Of the pixels; without it uint8.
    background : sequence of numbers, optional
        The value of each channel; without it white for RGB, zeros for other slides.
    """

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
        pixels : array, shape (h, w, C), of type ``dtype``
            All channels; the background where there are no pixels. It is not changed afterwards.
        mask : array, shape (h, w), bool, or None
            False where there are no pixels; None if that is nowhere so.
        """

    def _read_rectangles(
        self,
        level: int,
        corners: IntArray,
        size: tuple[int, int],
        plane: Plane,
        channels: tuple[int, ...] | None,
    ) -> Pixels:
        """Read rectangles of one size inside the level, in the level's pixels.

        A subclass may read them faster than one by one, and single channels faster than all.

        Parameters
        ----------
        level : int
        corners : array of int, shape (N, 2)
            x, y of the upper left corners; N is at least 1.
        size : (width, height)
        plane : Plane
        channels : tuple of int, or None
            Which channels, in which order; None for all.

        Returns
        -------
        pixels : array, shape (N, height, width, C), of type ``dtype``
            The caller's own.
        mask : array, shape (N, height, width), bool, or None
        """
        width, height = size
        pixels = self._empty(len(corners), size, channels)
        mask: MaskArray | None = None
        for number, (x, y) in enumerate(corners.tolist()):
            whole, valid = self._read_rectangle(level, Box(x, y, width, height), plane)
            pixels[number] = whole if channels is None else whole[..., channels]
            if valid is not None:
                if mask is None:
                    mask = np.ones(pixels.shape[:3], np.bool_)
                mask[number] = valid
        return pixels, mask

    def _read_one(
        self, level: int, rectangle: Box, plane: Plane, channels: tuple[int, ...] | None
    ) -> Pixels:
        """Read some channels of a rectangle inside the level, see :meth:`_read_rectangle`."""
        if channels is None:
            return self._read_rectangle(level, rectangle, plane)
        return self._read_as_batch(level, rectangle, plane, channels)

    def _read_as_batch(
        self, level: int, rectangle: Box, plane: Plane, channels: tuple[int, ...] | None
    ) -> Pixels:
        """Read a rectangle as a batch of one, see :meth:`_read_rectangles`."""
        corner = np.array([rectangle[:2]])
        pixels, mask = self._read_rectangles(level, corner, rectangle[2:], plane, channels)
        return pixels[0], None if mask is None else mask[0]

    def read(
        self,
        box: Box,
        size: tuple[int, int],
        plane: Plane = FIRST_PLANE,
        channels: Sequence[int] | None = None,
    ) -> Pixels:
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
        channels : sequence of int, optional
            Indices of channels, in any order; all without it.

        Returns
        -------
        pixels : array, shape (height, width, C), of type ``dtype``
        mask : array, shape (height, width), or None
            False where at least half of a pixel is outside, transparent or missing; None if
            that is nowhere so.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane or channel.
        """
        self._check(box, size, plane)
        chosen = self._choose_channels(channels)
        width, height = size
        index = self._choose_level(box, size)
        x_factor, y_factor = self._factors[index]
        x, x_edges = relative_edges(box.x, box.w, x_factor, width)
        y, y_edges = relative_edges(box.y, box.h, y_factor, height)
        rows, columns = block_shape(x_edges, y_edges, self._block_pixels(chosen))
        if rows >= height and columns >= width:
            return self._scaled(index, (x, y), x_edges, y_edges, plane, chosen)
        (pixels,) = self._empty(1, size, chosen)
        mask = np.ones((height, width), np.bool_)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                place = np.s_[top : top + rows, left : left + columns]
                across = x_edges[left : left + columns + 1]
                down = y_edges[top : top + rows + 1]
                part, valid = self._scaled(index, (x, y), across, down, plane, chosen)
                pixels[place] = part
                if valid is not None:
                    mask[place] = valid
        return pixels, None if mask.all() else mask

    def read_many(
        self,
        boxes: BoxArray,
        size: tuple[int, int],
        plane: Plane = FIRST_PLANE,
        channels: Sequence[int] | None = None,
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
        channels : sequence of int, optional
            Indices of channels, in any order; all without it.

        Returns
        -------
        pixels : array, shape (N, height, width, C), of type ``dtype``
        mask : array, shape (N, height, width), or None
            None if no pixel of any box is outside, transparent or missing.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane or channel.
        """
        boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
        for box in boxes[:1].tolist():
            self._check(Box(*box), size, plane)
        chosen = self._choose_channels(channels)
        together, index = self._find_alike(boxes, size, chosen)
        if together.all() and len(boxes):
            alike, valid = self._read_alike(index, boxes, size, plane, chosen)
            return alike, None if valid is None or valid.all() else valid
        pixels = self._empty(len(boxes), size, chosen)
        mask: MaskArray = np.ones(pixels.shape[:3], np.bool_)
        if together.any():
            pixels[together], valid = self._read_alike(index, boxes[together], size, plane, chosen)
            if valid is not None:
                mask[together] = valid
        alone = np.flatnonzero(~together).tolist()
        self._expect_boxes(boxes[alone], size, plane, chosen)
        for number in alone:
            pixels[number], valid = self.read(Box(*boxes[number].tolist()), size, plane, chosen)
            if valid is not None:
                mask[number] = valid
        return pixels, None if mask.all() else mask

    def _expect_boxes(
        self,
        boxes: BoxArray,
        size: tuple[int, int],
        plane: Plane,
        channels: tuple[int, ...] | None,
    ) -> None:
        """Announce what boxes will be read one by one, as far as they are as large as the first."""
        boxes = boxes[(boxes[:, 2:] == boxes[:1, 2:]).all(axis=1)]
        if len(boxes) < 2:
            return
        index = self._choose_level(Box(*boxes[0].tolist()), size)
        level, factors = self._levels[index], np.array(self._factors[index])
        low = np.maximum(np.floor(boxes[:, :2] / factors), 0)
        high = np.ceil((boxes[:, :2] + boxes[:, 2:]) / factors)
        high = np.minimum(high, (level.width, level.height))
        rectangles = np.hstack([low, high - low]).astype(np.int64)
        inside = (high > low).all(axis=1)
        self._expect_rectangles(self._numbers[index], rectangles[inside], plane, channels)

    def _expect_rectangles(
        self, level: int, rectangles: IntArray, plane: Plane, channels: tuple[int, ...] | None
    ) -> None:
        """Take note of rectangles of a level that will be read next, in this order.

        For a subclass that can fetch what they need together.

        Parameters
        ----------
        level : int
        rectangles : array of int, shape (N, 4)
            x, y, width, height: pixels of the level.
        plane : Plane
        channels : tuple of int, or None
        """

    def _empty(
        self, count: int, size: tuple[int, int], channels: tuple[int, ...] | None
    ) -> PixelArray:
        """Return an array for a batch of pixels, shape (count, height, width, C)."""
        number = len(self._channels if channels is None else channels)
        return np.empty((count, size[1], size[0], number), self._dtype)

    def _block_pixels(self, channels: tuple[int, ...] | None) -> int:
        """Return how many pixels of some channels are held at once."""
        number = len(self._channels if channels is None else channels)
        return max(BLOCK_BYTES // (number * int(self._dtype.itemsize)), 1)

    def _choose_level(self, box: Box, size: tuple[int, int]) -> int:
        return choose_level(self._finest, min(box.w / size[0], box.h / size[1]))

    def _find_alike(
        self, boxes: BoxArray, size: tuple[int, int], channels: tuple[int, ...] | None
    ) -> tuple[MaskArray, int]:
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
        if np.prod(-(-boxes[0, 2:] // factors)) > self._block_pixels(channels):
            return none, index  # `read` goes block by block
        low, high = boxes[:, :2] // factors, -(-(boxes[:, :2] + boxes[:, 2:]) // factors)
        inside = (low >= 0).all(axis=1) & (high <= self._limits(index)).all(axis=1)
        return inside & (boxes[:, :2] % factors == 0).all(axis=1), index

    def _read_alike(
        self,
        index: int,
        boxes: BoxArray,
        size: tuple[int, int],
        plane: Plane,
        channels: tuple[int, ...] | None,
    ) -> Pixels:
        """Read boxes that are scaled alike, see :meth:`_find_alike`."""
        factors = np.array(self._factors[index], np.int64)
        corners = boxes[:, :2] // factors
        width, height = (-(-boxes[0, 2:] // factors)).tolist()
        number = self._numbers[index]
        if (boxes[0, 2:] == factors * size).all():
            return self._read_rectangles(number, corners, size, plane, channels)
        pixels = self._empty(len(boxes), size, channels)
        masks: MaskArray = np.ones(pixels.shape[:3], np.bool_)
        _, x_edges = relative_edges(0, int(boxes[0, 2]), int(factors[0]), size[0])
        _, y_edges = relative_edges(0, int(boxes[0, 3]), int(factors[1]), size[1])
        count = max(self._block_pixels(channels) // (width * height), 1)
        for start in range(0, len(boxes), count):
            block = slice(start, start + count)
            pixels[block], valid = averaged(
                # Without a name: the next rectangles get the memory of these.
                *self._read_rectangles(number, corners[block], (width, height), plane, channels),
                x_edges,
                y_edges,
            )
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
        channels: tuple[int, ...] | None,
    ) -> Pixels:
        """Read and scale what is between edges, which count from a pixel of the level."""
        left, right = int(np.floor(x_edges[0])), int(np.ceil(x_edges[-1]))
        top, bottom = int(np.floor(y_edges[0])), int(np.ceil(y_edges[-1]))
        box = Box(start[0] + left, start[1] + top, right - left, bottom - top)
        pixels, mask = self._padded(index, box, plane, channels)
        batch = averaged(
            pixels[None], None if mask is None else mask[None], x_edges - left, y_edges - top
        )
        return batch[0][0], None if batch[1] is None or batch[1].all() else batch[1][0]

    def _padded(
        self, index: int, box: Box, plane: Plane, channels: tuple[int, ...] | None
    ) -> Pixels:
        """Read a box of a level that may pass the slide's edges."""
        level = self._levels[index]
        right, bottom = self._ends(index)
        x0, x1 = max(box.x, 0), min(box.x + box.w, right)
        y0, y1 = max(box.y, 0), min(box.y + box.h, bottom)
        inside = Box(x0, y0, x1 - x0, y1 - y0)
        if inside == box and x1 <= level.width and y1 <= level.height:
            return self._read_one(self._numbers[index], box, plane, channels)
        (pixels,) = self._empty(1, box[2:], channels)
        own = range(len(self._channels)) if channels is None else channels
        pixels[:] = [self._background[channel] for channel in own]
        mask: MaskArray = np.zeros((box.h, box.w), np.bool_)
        if inside.w > 0 and inside.h > 0:
            left, top = min(x0, level.width - 1), min(y0, level.height - 1)
            there = Box(left, top, min(x1, level.width) - left, min(y1, level.height) - top)
            part, valid = self._read_one(self._numbers[index], there, plane, channels)
            place = np.s_[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x]
            # Where the level was cut, its last pixel stands for the rest.
            rest = ((0, inside.h - there.h), (0, inside.w - there.w))
            pixels[place] = np.pad(part, (*rest, (0, 0)), mode="edge")
            mask[place] = True if valid is None else np.pad(valid, rest, mode="edge")
        return pixels, mask
