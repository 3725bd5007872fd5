"""Map between QuPath's pixel coordinates of an image and the level-0 pixels of its slide file.

QuPath shows an image through a chain of servers: the file, possibly cropped to the slide's
bounds, then rotated, flipped, cropped or transformed. Objects are stored in pixels of the
outermost server. Each step is an affine map and a size, so the whole chain is one too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qupath_bridge.errors import CoordinateError
from qupath_bridge.frozen import count, one_line
from qupath_bridge.model import Box, BoxArray, FloatArray, ServerBuilder

from .chain import AFFINE_KEYS, FLIPS, ROTATIONS, BuilderStep, read_chain, to_builder
from .pixel_builders import PIXEL_BUILDERS

__all__ = ["CoordinateMap", "Matrix", "Orientation", "coordinate_map"]

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
"""An affine map: ``x' = m[0][0] x + m[0][1] y + m[0][2]``, and likewise for y."""

Size = tuple[int, int]


class Orientation(NamedTuple):
    """Steps that turn a block of the file into QuPath's view: first mirror, then turn.

    ``turns`` is the number of clockwise quarter turns (0 to 3); with ``mirror``, left and right
    are exchanged before.
    """

    turns: int
    mirror: bool


_TURNS = {(1, 0): 0, (0, 1): 1, (-1, 0): 2, (0, -1): 3}  # cosine and sine of the angle
_NOISE = 1e-9  # a matrix entry this near to a whole number is meant as one
_DIGITS = 6  # of a pixel: takes the float noise off before boxes are rounded outwards


@dataclass(frozen=True, slots=True, repr=False)
class CoordinateMap:
    """Map between QuPath's pixels of one image and the pixels of its slide file.

    Made by :func:`coordinate_map`. Coordinates are those of edges: pixel 3 spans from 3 to 4.

    Attributes
    ----------
    size : (width, height)
        Of the image as QuPath shows it, pixels.
    matrix : 2 x 3
        From QuPath's pixels to the file's level-0 pixels.
    source : Box
        The part of the file that QuPath reads, level-0 pixels; it can extend past the file.
    notes : tuple of str
        Reasons why QuPath's pixels differ from those read here.
    """

    size: Size
    matrix: Matrix
    source: Box
    notes: tuple[str, ...] = ()
    _steps: tuple[BuilderStep, ...] = field(default=(), repr=False)
    _sizes: tuple[Size, ...] = field(default=(), repr=False)
    _other_sizes: tuple[Size, ...] | None = field(default=None, repr=False)
    _bounds_offset: tuple[int, int] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        rows = ("(" + ", ".join(f"{value:.10g}" for value in row) + ")" for row in self.matrix)
        return one_line(
            "CoordinateMap",
            f"{self.size[0]} x {self.size[1]} px",
            f"matrix=({', '.join(rows)}), source={self.source}",
            count(len(self.notes), "note") if self.notes else None,
        )

    def to_slide(self, points: FloatArray) -> FloatArray:
        """Map points, shape (N, 2), from QuPath's pixels to the file's level-0 pixels."""
        return _apply(self.matrix, points)

    def to_qupath(self, points: FloatArray) -> FloatArray:
        """Map points, shape (N, 2), from the file's level-0 pixels to QuPath's pixels."""
        return _apply(_inverse(self.matrix), points)

    def slide_box(self, box: Box) -> Box:
        """Return the file's level-0 pixels of one box; see :meth:`slide_boxes`."""
        return _map_box(self.matrix, box)

    def slide_boxes(self, boxes: BoxArray) -> BoxArray:
        """Return the file's level-0 pixels of boxes in QuPath's pixels.

        Parameters
        ----------
        boxes : array of int, shape (N, 4)
            x, y, width, height.

        Returns
        -------
        array of int, shape (N, 4)
            Exact where :attr:`is_right_angle`, else the smallest whole boxes around the result.
        """
        return _map_boxes(self.matrix, boxes)

    def qupath_boxes(self, boxes: BoxArray) -> BoxArray:
        """Return QuPath's pixels of boxes in the file's level-0 pixels, as :meth:`slide_boxes`."""
        return _map_boxes(_inverse(self.matrix), boxes)

    @property
    def visible(self) -> Box:
        """The part of QuPath's image that is inside :attr:`source`, in QuPath's pixels.

        The smallest box around it where the map is not at a right angle; its width or height is
        0 where no part is inside.
        """
        return _intersection(_map_box(_inverse(self.matrix), self.source), Box(0, 0, *self.size))

    @property
    def is_right_angle(self) -> bool:
        """True if each of QuPath's pixels is exactly one pixel of the file."""
        return _is_right_angle(self.matrix)

    @property
    def orientation(self) -> Orientation:
        """Mirror and turns that bring a block of the file into QuPath's view.

        Raises
        ------
        CoordinateError
            If the map is not at a right angle.
        """
        if not self.is_right_angle:
            raise CoordinateError("A map that is not at a right angle has no orientation.")
        cosine, sine, mirror = _direction(self.matrix)
        return Orientation(_TURNS[round(cosine), round(sine)], mirror)

    def check_size(self, recorded: Size) -> None:
        """Check that the file gives the size that QuPath recorded.

        Parameters
        ----------
        recorded : (width, height)
            Size of the image, as stored in the project. The sizes stored for the inner steps
            are compared too: a crop has the same size over any file.

        Raises
        ------
        CoordinateError
            If the sizes differ; the message has both.
        """
        width, height = recorded
        wanted = (*(step.recorded for step in self._steps[:-1]), (width, height))
        wrong = _first_difference(wanted, self._sizes)
        if wrong is None:
            return
        (width, height), expected = self._sizes[wrong], wanted[wrong]
        what = "the image" if wrong == len(wanted) - 1 else f"the step {self._steps[wrong].kind!r}"
        hint = "The file is another one, or QuPath reads it with another reader."
        if self._other_sizes and _first_difference(wanted, self._other_sizes) is None:
            place = "without the crop" if self._bounds_offset is not None else "with the crop"
            hint = (
                f"It fits {place} to the slide's bounds: the entry's reader or its --no-crop "
                "argument is not the one with which the annotations were drawn. "
                "Add the slide to the project again."
            )
        raise CoordinateError(
            f"QuPath recorded {expected[0]} x {expected[1]} pixels for {what}, "  # type: ignore[index]  # a difference is never None
            f"but the file gives {width} x {height}.",
            hint=hint,
        )

    def pixel_size(self, slide: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return the slide file's own pixel size in QuPath's view of the image.

        Parameters
        ----------
        slide : (x, y) or None
            µm per level-0 pixel of the file.

        Returns
        -------
        (x, y) or None
            µm per pixel of QuPath's image: the length of one step along each axis.
        """
        if slide is None:
            return None
        (a, b, _), (c, d, _) = self.matrix
        return math.hypot(a * slide[0], c * slide[1]), math.hypot(b * slide[0], d * slide[1])

    def describe(self) -> dict[str, Any]:
        """Return the map as JSON values, for the run's record.

        ``builder`` alone is enough to make the map again; ``rotation`` (degrees, clockwise) and
        ``flip`` (mirrored left-right before it is turned) sum the chain up, ``crop`` is the part
        of the file that a cropped image shows, level-0 pixels.
        """
        cosine, sine, mirror = _direction(self.matrix)
        angle = math.degrees(math.atan2(sine, cosine)) % 360
        cropped = any(step.kind == "cropped" for step in self._steps)
        return {
            "builder": to_builder(self._steps),
            "size": list(self.size),
            "bounds_offset": None if self._bounds_offset is None else list(self._bounds_offset),
            "rotation": int(angle) if angle % 1 == 0 else angle,
            "flip": mirror,
            "crop": list(self.slide_box(Box(0, 0, *self.size))) if cropped else None,
            "matrix": [list(row) for row in self.matrix],
        }

    def digest_values(self) -> dict[str, Any]:
        """Return the values that determine the pixels, for digests: no names, no paths."""
        return {
            "size": list(self.size),
            "matrix": [list(row) for row in self.matrix],
            "source": list(self.source),
            "icc": bool(self._steps) and self._steps[0].has_icc,
        }


def coordinate_map(builder: ServerBuilder, *, file_size: Size, bounds: Box | None) -> CoordinateMap:
    """Make the coordinate map of an image from QuPath's builder chain and its slide file.

    Parameters
    ----------
    spec : ServerBuilder
        As stored in the project.
    file_size : (width, height)
        Level 0 of the file, pixels.
    bounds : Box or None
        The slide's bounds (``openslide.bounds-*``), unchanged, even if negative or past the edge.
        QuPath's OpenSlide reader crops to them unless the entry has the argument ``--no-crop``;
        its other readers never do.

    Raises
    ------
    CoordinateError
        If the chain has a step that cannot be followed, or is malformed.

    Examples
    --------
    >>> chain = {"builderType": "rotated", "rotation": "ROTATE_90",
    ...          "builder": {"builderType": "uri", "uri": "file:/a.svs", "args": []}}
    >>> coordinates = coordinate_map(ServerBuilder(chain), file_size=(300, 200), bounds=None)
    >>> coordinates.size
    (200, 300)
    >>> coordinates.slide_box(Box(0, 0, 10, 20))
    Box(x=0, y=190, w=20, h=10)
    """
    steps = read_chain(builder.json)
    whole = Box(0, 0, *file_size)
    cropped = bounds is not None and _is_cropped(steps[0], file_size, bounds)
    layout = _chain_map(steps, bounds if bounds is not None and cropped else whole)
    other = None
    if bounds is not None:
        other = _chain_map(steps, whole if cropped else bounds).sizes
    return CoordinateMap(
        size=layout.sizes[-1],
        matrix=layout.matrix,
        source=layout.source,
        notes=tuple(_notes(steps, layout.matrix, cropped)),
        _steps=steps,
        _sizes=layout.sizes,
        _other_sizes=other,
        _bounds_offset=(bounds.x, bounds.y) if bounds is not None and cropped else None,
    )


def _is_cropped(first: BuilderStep, file_size: Size, bounds: Box) -> bool:
    choice = first.crops_to_bounds
    if choice is None:  # no reader named: QuPath takes the first that can; its size tells which
        return first.recorded == (bounds.w, bounds.h) != file_size
    return choice


def _notes(steps: Sequence[BuilderStep], matrix: Matrix, cropped: bool) -> list[str]:
    notes = []
    if cropped and steps[0].crops_to_bounds is None:
        notes.append(
            "The project names no reader for this image; its recorded size is that of the slide's "
            "bounds, so it counts as cropped to them."
        )
    if steps[0].has_icc:
        notes.append(
            "QuPath applies the slide's ICC colour profile to this image (--icc-profile); "
            "patches have the file's own colours."
        )
    if not _is_right_angle(matrix):
        notes.append(
            "QuPath shows this image through an affine transformation; patches are interpolated "
            "between the file's pixels, where QuPath takes the nearest one."
        )
    return notes


class _ChainMap(NamedTuple):
    matrix: Matrix  # from the outermost pixels to the file's
    sizes: tuple[Size, ...]  # after each step
    source: Box


def _chain_map(steps: Sequence[BuilderStep], base: Box) -> _ChainMap:
    """Compose the steps outwards, from the part of the file that the innermost server shows."""
    matrix: Matrix = ((1.0, 0.0, float(base.x)), (0.0, 1.0, float(base.y)))
    size, source = (base.w, base.h), base
    sizes = [size]
    for step in steps[1:]:
        if step.kind == "affine":
            # QuPath's affine server reads no pixel outside the inner image; the others do.
            if not _is_right_angle(matrix):
                raise CoordinateError(
                    "QuPath opens this image with one affine transformation over another.",
                    hint="Add the slide to the project with one transformation, or without.",
                )
            source = _intersection(source, _map_box(matrix, Box(0, 0, *size)))
        inward, size = _MAPS[step.kind](step.values, size)
        matrix = _remove_noise(_compose(matrix, inward))
        sizes.append(size)
    return _ChainMap(matrix, tuple(sizes), source)


# One function per kind of step: (values, inner size) -> (map from outer to inner, outer size).


def _map_rotated(values: Mapping[str, Any], size: Size) -> tuple[Matrix, Size]:
    width, height = size
    turns = ROTATIONS[values["rotation"]]
    maps: tuple[Matrix, ...] = (
        _IDENTITY,
        ((0.0, 1.0, 0.0), (-1.0, 0.0, float(height))),
        ((-1.0, 0.0, float(width)), (0.0, -1.0, float(height))),
        ((0.0, -1.0, float(width)), (1.0, 0.0, 0.0)),
    )
    return maps[turns], (height, width) if turns % 2 else size


def _map_flipped(values: Mapping[str, Any], size: Size) -> tuple[Matrix, Size]:
    across, down = FLIPS[values["flip"]]
    return (
        (-1.0 if across else 1.0, 0.0, float(size[0]) if across else 0.0),
        (0.0, -1.0 if down else 1.0, float(size[1]) if down else 0.0),
    ), size


def _map_cropped(values: Mapping[str, Any], _: Size) -> tuple[Matrix, Size]:
    region = values["region"]
    return (
        ((1.0, 0.0, float(region["x"])), (0.0, 1.0, float(region["y"]))),
        (region["width"], region["height"]),
    )


def _map_transformed(values: Mapping[str, Any], size: Size) -> tuple[Matrix, Size]:
    # The origin does not move: a pixel of the result is the transformed inner pixel, and only
    # the size is that of the bounding box.
    m00, m10, m01, m11, m02, m12 = (values["transform"][key] for key in AFFINE_KEYS)
    corners = [(x, y) for x in (0, size[0]) for y in (0, size[1])]
    xs = [m00 * x + m01 * y + m02 for x, y in corners]
    ys = [m10 * x + m11 * y + m12 for x, y in corners]
    bounding = math.ceil(max(xs) - min(xs)), math.ceil(max(ys) - min(ys))
    return _inverse(((m00, m01, m02), (m10, m11, m12))), bounding


def _map_unchanged(_: Mapping[str, Any], size: Size) -> tuple[Matrix, Size]:
    return _IDENTITY, size


_IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
_MAPS = {
    "rotated": _map_rotated,
    "flipped": _map_flipped,
    "cropped": _map_cropped,
    "affine": _map_transformed,
    "pyramidize": _map_unchanged,
    **dict.fromkeys(PIXEL_BUILDERS, _map_unchanged),
}


def _first_difference(wanted: Sequence[Size | None], sizes: Sequence[Size]) -> int | None:
    pairs = enumerate(zip(wanted, sizes, strict=True))
    return next((place for place, (want, size) in pairs if want not in (None, size)), None)


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the map that applies ``inner`` first, then ``outer``."""
    (a, b, tx), (c, d, ty) = outer
    (e, f, ux), (g, h, uy) = inner
    return (
        (a * e + b * g, a * f + b * h, a * ux + b * uy + tx),
        (c * e + d * g, c * f + d * h, c * ux + d * uy + ty),
    )


def _determinant(matrix: Matrix) -> float:
    (a, b, _), (c, d, _) = matrix
    return a * d - b * c


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, tx), (c, d, ty) = matrix
    det = _determinant(matrix)
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return (a, b, -(a * tx + b * ty)), (c, d, -(c * tx + d * ty))


def _remove_noise(matrix: Matrix) -> Matrix:
    """Remove float noise: cosines of 90 degrees become 0, and minus zero becomes zero."""

    def clean(value: float, noise: float) -> float:
        whole = float(round(value))
        return (whole if abs(value - whole) < noise else value) + 0.0

    rows = ((clean(a, _NOISE), clean(b, _NOISE), clean(t, 10**-_DIGITS)) for a, b, t in matrix)
    first, second = rows
    return first, second


def _is_right_angle(matrix: Matrix) -> bool:
    (a, b, tx), (c, d, ty) = matrix
    straight = (abs(a), abs(b), abs(c), abs(d)) in {(1, 0, 0, 1), (0, 1, 1, 0)}
    return straight and tx.is_integer() and ty.is_integer()


def _direction(matrix: Matrix) -> tuple[float, float, bool]:
    """Return cosine and sine of the clockwise turn from file to view, and whether it mirrors."""
    (a, _, _), (c, _, _) = _inverse(matrix)
    mirror = _determinant(matrix) < 0
    # Direction in the view of the file's x axis, before mirroring.
    sign, length = (-1 if mirror else 1), math.hypot(a, c)
    return sign * a / length, sign * c / length, mirror


def _apply(matrix: Matrix, points: FloatArray) -> FloatArray:
    points = np.asarray(points, dtype=np.float64)
    values = np.array(matrix, dtype=np.float64)
    return points @ values[:, :2].T + values[:, 2]


def _map_boxes(matrix: Matrix, boxes: BoxArray) -> BoxArray:
    x, y, w, h = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    corners = np.stack([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]).transpose(0, 2, 1)
    mapped = np.round(_apply(matrix, corners), _DIGITS)
    low, high = np.floor(mapped.min(axis=0)), np.ceil(mapped.max(axis=0))
    return np.concatenate([low, high - low], axis=1).astype(np.int64)


def _map_box(matrix: Matrix, box: Box) -> Box:
    return Box(*_map_boxes(matrix, np.array([box], dtype=np.int64))[0].tolist())


def _intersection(one: Box, other: Box) -> Box:
    x, y = max(one.x, other.x), max(one.y, other.y)
    right, bottom = min(one.x + one.w, other.x + other.w), min(one.y + one.h, other.y + other.h)
    return Box(x, y, max(right - x, 0), max(bottom - y, 0))


def __dir__() -> list[str]:
    return sorted(__all__)
