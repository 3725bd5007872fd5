"""Patch boxes: a regular grid of whole pixels over an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qupath_bridge.errors import PlanError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import BoxArray, FloatArray, GridSpec, IntArray, PixelSize, Plane

__all__ = ["Grid", "resolve_grid", "round_half_up", "written_sizes"]


BAND = 1 << 18
"""Boxes that are planned at once: what planning needs beside its result grows up to here."""

LARGEST_BOX = 1 << 30
"""Pixels; boxes are stored with 32 bits."""


def round_half_up(value: float) -> int:
    """Round halves up: floor(value + 0.5).

    Examples
    --------
    >>> round_half_up(0.5), round_half_up(2.5), round_half_up(-0.5)
    (1, 3, 0)
    """
    return math.floor(value + 0.5)


@dataclass(frozen=True, slots=True, repr=False)
class Grid(OneLine):
    """Boxes that start at ``origin + k * step`` for whole k, also negative.

    Attributes
    ----------
    box_width, box_height, step_x, step_y : int, QuPath pixels
        All at least 1.
    origin_x, origin_y : int, QuPath pixels
    width, height : int, QuPath pixels
        Size of the image.
    edge : "drop" or "pad"
        ``drop`` keeps boxes that lie wholly inside the image, ``pad`` those that share area
        with it.
    size : int or None
        Side of a written patch in pixels; None means the size of the box.
    mpp_x, mpp_y : float or None
        Effective µm per *written* pixel; None if the pixel size is unknown.
    band : (int, int) or None
        The first row and the one after the last of a part of a grid; None for the whole.

    Examples
    --------
    >>> grid = Grid(100, 100, 100, 100, 250, 100, edge="pad")
    >>> grid.boxes().tolist()
    [[0, 0, 100, 100], [100, 0, 100, 100], [200, 0, 100, 100]]
    >>> grid.valid_share().tolist()
    [1.0, 1.0, 0.5]
    """

    box_width: int
    box_height: int
    step_x: int
    step_y: int
    width: int
    height: int
    origin_x: int = 0
    origin_y: int = 0
    edge: Literal["drop", "pad"] = "drop"
    size: int | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    band: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        lengths = (self.box_width, self.box_height, self.step_x, self.step_y)
        if min(lengths) < 1:
            raise PlanError(
                f"A box of {self.box_width} x {self.box_height} px every {self.step_x} x "
                f"{self.step_y} px is invalid: each must be 1 px at least."
            )

    @property
    def mpp(self) -> float | None:
        """Effective µm per written pixel, mean of both axes."""
        if self.mpp_x is None or self.mpp_y is None:
            return None
        return (self.mpp_x + self.mpp_y) / 2

    @property
    def downsample(self) -> float:
        """Full-resolution pixels per written pixel, mean of both axes."""
        return 1.0 if self.size is None else (self.box_width + self.box_height) / 2 / self.size

    @property
    def cols(self) -> IntArray:
        """Column numbers k of the boxes that the edge policy keeps, ascending."""
        return _box_numbers(self.origin_x, self.step_x, self.box_width, self.width, self.edge)

    @property
    def rows(self) -> IntArray:
        """Row numbers k of the boxes that the edge policy keeps, ascending."""
        rows = _box_numbers(self.origin_y, self.step_y, self.box_height, self.height, self.edge)
        return rows if self.band is None else rows[slice(*self.band)]

    @property
    def xs(self) -> IntArray:
        """Left edges of the columns."""
        return self.origin_x + self.cols * self.step_x

    @property
    def ys(self) -> IntArray:
        """Upper edges of the rows."""
        return self.origin_y + self.rows * self.step_y

    def __len__(self) -> int:
        return len(self.cols) * len(self.rows)

    def on(self, plane: Plane) -> Grid:
        """Return the grid itself, which is the same on each plane."""
        return self

    @property
    def edge_dropped(self) -> int:
        """Number of boxes that overlap the image but are dropped at its edge."""
        touching = len(
            _box_numbers(self.origin_x, self.step_x, self.box_width, self.width, "pad")
        ) * len(_box_numbers(self.origin_y, self.step_y, self.box_height, self.height, "pad"))
        return touching - len(self)

    def bands(self) -> Iterator[Grid]:
        """Yield the grid in parts of whole rows, from the top, of about ``BAND`` boxes each."""
        rows, height = len(self.rows), max(1, BAND // max(len(self.cols), 1))
        if rows <= height:
            yield self
            return
        for start in range(0, rows, height):
            yield replace(self, band=(start, min(start + height, rows)))

    def boxes(self) -> BoxArray:
        """Return all boxes, row by row, shape (N, 4)."""
        xs, ys = self.xs, self.ys
        boxes = np.empty((len(ys), len(xs), 4), np.int64)
        boxes[..., 0], boxes[..., 1] = xs, ys[:, None]
        boxes[..., 2:] = self.box_width, self.box_height
        return boxes.reshape(-1, 4)

    def find(self, boxes: BoxArray) -> IntArray:
        """Return the number of each box in :meth:`boxes`, -1 where the grid has no such box.

        >>> Grid(8, 8, 4, 4, 20, 20).find([[4, 8, 8, 8], [5, 8, 8, 8], [16, 8, 8, 8]]).tolist()
        [9, -1, -1]
        """
        cols, rows = self.cols, self.rows
        x, y, w, h = np.asarray(boxes, np.int64).reshape(-1, 4).T
        if not len(self):
            return np.full(len(x), -1)
        col, beside = np.divmod(x - self.origin_x, self.step_x)
        row, below = np.divmod(y - self.origin_y, self.step_y)
        col, row = col - cols[0], row - rows[0]
        there = (beside == 0) & (below == 0) & (w == self.box_width) & (h == self.box_height)
        there &= (col >= 0) & (col < len(cols)) & (row >= 0) & (row < len(rows))
        return np.where(there, row * len(cols) + col, -1)

    def crossing(self) -> BoxArray:
        """Return the boxes that cross the image's edge, kept or dropped there, shape (N, 4).

        >>> Grid(100, 100, 100, 100, 250, 100).crossing().tolist()
        [[200, 0, 100, 100]]
        """
        padded = replace(self, edge="pad")
        return padded.boxes()[padded.valid_share() < 1]

    def places(self, boxes: IntArray) -> tuple[IntArray, IntArray]:
        """Return column and row of some boxes, by their numbers in :meth:`boxes`."""
        row, col = np.divmod(boxes, max(len(self.cols), 1))
        return self.cols[col], self.rows[row]

    def centres(self) -> FloatArray:
        """Return the centre of each box, shape (N, 2)."""
        boxes = self.boxes()
        return boxes[:, :2] + boxes[:, 2:] / 2

    def valid_share(self) -> FloatArray:
        """Return the share of each box that is inside the image, shape (N,)."""
        inside_x = _overlap(self.xs, self.box_width, self.width)
        inside_y = _overlap(self.ys, self.box_height, self.height)
        share = np.outer(inside_y, inside_x) / (self.box_width * self.box_height)
        return share.reshape(-1)


def written_sizes(boxes: BoxArray, grid: Grid) -> IntArray:
    """Return width and height of boxes as they are written at the scale of a grid, shape (N, 2).

    >>> grid = Grid(100, 100, 100, 100, 900, 900, size=50)
    >>> written_sizes(np.array([[0, 0, 100, 100], [5, 5, 31, 200]]), grid).tolist()
    [[50, 50], [16, 100]]
    """
    box = (grid.box_width, grid.box_height)
    size = box if grid.size is None else (grid.size, grid.size)
    sides = np.floor(boxes[:, 2:] * np.array(size) / np.array(box) + 0.5)
    return np.asarray(np.maximum(sides, 1), np.int64)


def _box_numbers(origin: int, step: int, length: int, size: int, edge: str) -> IntArray:
    if edge == "drop":
        # start >= 0 and start + length <= size
        first, last = -(origin // step), (size - length - origin) // step
    else:
        # The last box that starts at or before 0, as in QuPath, unless it ends before it; and all
        # that start inside.
        first = max((-origin) // step, (-length - origin) // step + 1)
        last = (size - 1 - origin) // step
    return np.arange(first, max(first, last + 1), dtype=np.int64)


def _overlap(starts: IntArray, length: int, size: int) -> IntArray:
    return np.minimum(starts + length, size) - np.maximum(starts, 0)


def resolve_grid(
    spec: GridSpec,
    *,
    image_size: tuple[int, int],
    pixel_size: PixelSize | None = None,
    magnification: float | None = None,
    native: Sequence[int] = (),
    offset: tuple[int, int] = (0, 0),
) -> Grid:
    """Convert a grid specification into boxes of whole pixels on one image.

    Parameters
    ----------
    spec : GridSpec
        ``spec.pixel_size``, if set, replaces ``pixel_size``.
    image_size : (int, int), QuPath pixels
        Width and height.
    pixel_size : PixelSize or None
        µm per QuPath pixel.
    magnification : float or None
        The slide's own objective power.
    native : sequence of int
        Downsamples of the levels whose own pixels may become patches. One within
        ``spec.mpp_tolerance`` of the wanted downsample decides the boxes, so that nothing is
        resampled.
    offset : (int, int)
        Where QuPath's image begins in the slide file, level-0 pixels. A box on ``offset`` and
        ``spec.origin`` must begin at a pixel of the level.

    Returns
    -------
    Grid
        With the effective ``mpp`` of its boxes, which differs from the requested one by the
        rounding to whole pixels.

    Raises
    ------
    PlanError
        If a pixel size or an objective power is needed and unknown, if patches would be
        finer than the slide and that is not allowed, or if a box would be smaller than 1 px.

    Examples
    --------
    >>> grid = resolve_grid(
    ...     GridSpec(size=256, mpp=0.5),
    ...     image_size=(5000, 4000),
    ...     pixel_size=PixelSize(0.2527, 0.2527, "project"),
    ... )
    >>> grid.box_width, round(grid.mpp, 5)
    (507, 0.50046)
    """
    if spec.pixel_size is not None:
        pixel_size = PixelSize(spec.pixel_size, spec.pixel_size, "user")
    if spec.box is not None:
        scale_x, scale_y = (side / spec.size for side in spec.box)
    else:
        scale_x, scale_y = _scales(spec, pixel_size, magnification)
        whole = _native_downsample(spec, (scale_x, scale_y), native, offset)
        if whole is not None:
            scale_x = scale_y = whole
    stride = spec.size if spec.stride is None else spec.stride
    box_width, box_height = round_half_up(spec.size * scale_x), round_half_up(spec.size * scale_y)
    step_x, step_y = round_half_up(stride * scale_x), round_half_up(stride * scale_y)
    if min(box_width, box_height, step_x, step_y) < 1:
        raise PlanError(
            f"A patch of {spec.size} px every {stride} px would be a box of {box_width} x "
            f"{box_height} px every {step_x} x {step_y} px of the slide, which is empty.",
            hint="Use a larger mpp, a smaller magnification, or larger patches.",
        )
    if max(box_width, box_height, step_x, step_y) > LARGEST_BOX:
        raise PlanError(
            f"A patch of {spec.size} px would be a box of {box_width} x {box_height} px of the "
            "slide, far larger than any slide.",
            hint="Use a smaller mpp or stride, or correct the pixel size.",
        )
    if min(box_width, box_height) < spec.size and not spec.allow_upsampling:
        raise PlanError(
            f"A patch of {spec.size} px would be made from {box_width} x {box_height} px of the "
            f"slide{_resolution(pixel_size, magnification)}, finer than the slide itself.",
            hint="Use a coarser resolution, or allow it with allow_upsampling.",
        )
    return Grid(
        box_width,
        box_height,
        step_x,
        step_y,
        *image_size,
        *spec.origin,
        edge=spec.edge,
        size=spec.size,
        mpp_x=None if pixel_size is None else box_width * pixel_size.x / spec.size,
        mpp_y=None if pixel_size is None else box_height * pixel_size.y / spec.size,
    )


def _native_downsample(
    spec: GridSpec,
    scales: tuple[float, float],
    native: Sequence[int],
    offset: tuple[int, int],
) -> int | None:
    """Return the downsample of the level whose own pixels are taken, None to resample."""

    def distance(downsample: int) -> float:
        return max(abs(downsample / scale - 1) for scale in scales)

    limit = spec.mpp_tolerance * (1 + 1e-9)  # 0.49 of 0.5 is within 0.02
    fitting = [
        downsample
        for downsample in native
        if distance(downsample) <= limit
        and not any(start % downsample for start in (*spec.origin, *offset))
    ]
    return min(fitting, key=distance, default=None)


def _scales(
    spec: GridSpec, pixel_size: PixelSize | None, magnification: float | None
) -> tuple[float, float]:
    """Return full-resolution pixels per written pixel along x and y."""
    if spec.mpp is not None:
        if pixel_size is None:
            raise PlanError(
                f"{spec.mpp:g} µm per pixel is requested, but the slide has no pixel size.",
                hint="Set it in QuPath (Image tab, double-click on pixel width), give it with "
                "pixel_size, or use full-resolution pixels with level_zero.",
            )
        return spec.mpp / pixel_size.x, spec.mpp / pixel_size.y
    if spec.magnification is not None:
        if magnification is None:
            raise PlanError(
                f"Magnification {spec.magnification:g} is requested, but the slide does not state "
                "its own.",
                hint="Use mpp, which is also more exact, or level_zero.",
            )
        return magnification / spec.magnification, magnification / spec.magnification
    return 1.0, 1.0


def _resolution(pixel_size: PixelSize | None, magnification: float | None) -> str:
    known = [f"{pixel_size.mean:.4g} µm per pixel"] if pixel_size else []
    known += [f"objective {magnification:g}"] if magnification else []
    return f" ({', '.join(known)})" if known else ""
