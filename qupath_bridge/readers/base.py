"""The protocol of a reader: pixels of one slide file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from qupath_bridge.model import (
    FIRST_PLANE,
    RGB_CHANNELS,
    Box,
    BoxArray,
    MaskArray,
    PixelArray,
    Plane,
)

__all__ = ["RGB_CHANNELS", "BadTile", "Fingerprint", "Level", "Pixels", "Reader"]

Pixels = tuple[PixelArray, MaskArray | None]
"""Pixels (H, W, C) in the file's type, and the mask of valid pixels (H, W), bool.

C is the number of channels that were asked for; RGB has C = 3 and the type uint8. The mask is
None when all pixels are valid. Of a batch of N boxes, pixels are (N, H, W, C) and the mask is
(N, H, W).
"""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide: its size in pixels and its downsample against level 0."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Size and digest that identify the files of a slide, whatever their names and places.

    ``size`` in bytes over all files, ``digest`` an xxh3_128 over samples of their content (see
    :func:`~qupath_bridge.readers.fingerprints.file_fingerprint`); ``mtime_ns`` is the latest
    time of change, a hint only, and takes no part in comparisons of content.
    """

    size: int
    digest: str
    mtime_ns: int


class BadTile(NamedTuple):
    """A file tile (or strip) that cannot be decoded, and was read as background.

    Its level, its column and row in tiles, its plane, and the place of its data in the file,
    bytes.
    """

    level: int
    column: int
    row: int
    z: int
    t: int
    offset: int


@runtime_checkable
class Reader(Protocol):
    """Reads the pixels of one slide. Not for sharing between threads.

    All boxes are in the *file's* level-0 pixels, before QuPath's crop or rotation. A box may
    pass the edges: what is outside, transparent or missing in the file comes back as the
    slide's background and False in the mask.

    Pixels have the type of the file, and are never scaled to another one. A slide has
    :attr:`channels`: three of the type uint8 for RGB, any number of any type for others.

    The factory of a reader is called with the path, and raises
    :class:`~qupath_bridge.errors.ReadError` for a file that it cannot read, with a hint that
    says what to do. It may have a static method ``can_open(path) -> int``, which must be cheap
    (the first bytes of the file): 0 for "no", 1 for "perhaps", 2 for "this is a format that I
    know", 3 and more for a reader that was made for this very format. The reader ``auto`` tries
    the highest number first. A factory without ``can_open`` counts as 1 and is tried last.

    A reader may have the method ``read_encoded(boxes, size, plane) -> list[bytes | None]``. It
    returns for each box a whole JPEG file whose decoded pixels equal those of :meth:`read`, where
    the box is exactly one JPEG file tile of the level that is read, and not scaled; else None.

    A reader that can go on after a damaged file tile has the attributes ``on_bad_tile`` and
    ``bad_tiles``. The first is "fail", or is set to "background": such a tile is then read as
    missing, and stands in the second, a set of :class:`BadTile`.

    A reader whose pixels depend on the machine may have the attribute ``variant``, a short text
    such as its device and decoder. Records and digests take it up with the reader's name.

    A reader can be pickled: the copy opens the file again.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The resolutions, finest first."""
        ...

    @property
    def bounds(self) -> Box | None:
        """The non-empty part of the slide (OpenSlide's ``openslide.bounds-*``), else None."""
        ...

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """µm per level-0 pixel along x and y; None if the file does not say."""
        ...

    @property
    def objective_power(self) -> float | None:
        """Nominal magnification; None if the file does not say."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the pixels; RGB is :data:`RGB_CHANNELS`.

        The names that the file gives; ``"Channel 1"``, ``"Channel 2"``, ... where it gives none.
        """
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixel values: integers of 8, 16 or 32 bits, float32 or float64."""
        ...

    @property
    def background(self) -> tuple[float, ...]:
        """The value of each channel where pixels are outside, transparent or missing.

        White for RGB if the file names no colour; zeros for other slides, as in QuPath.
        """
        ...

    @property
    def planes(self) -> tuple[int, int]:
        """Number of z slices and time points that this reader can read."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files of the slide as they are now.

        It is read again each time, so that a slide that is replaced after it was opened is
        noticed.
        """
        ...

    def read(
        self,
        box: Box,
        size: tuple[int, int],
        plane: Plane = FIRST_PLANE,
        channels: Sequence[int] | None = None,
    ) -> Pixels:
        """Read a box and scale it to ``size`` (width, height) output pixels.

        Parameters
        ----------
        box, size, plane
        channels : sequence of int, optional
            Indices into :attr:`channels`, in any order, also one several times; all without it.

        Returns
        -------
        pixels : array, shape (height, width, C), of type ``dtype``
            The channels that were asked for, in that order. The caller's own: changing it changes
            nothing that is read later.
        mask : array, shape (height, width), bool, or None

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane or channel.
        """
        ...

    def read_many(
        self,
        boxes: BoxArray,
        size: tuple[int, int],
        plane: Plane = FIRST_PLANE,
        channels: Sequence[int] | None = None,
    ) -> Pixels:
        """Read a batch of boxes of one plane, each scaled to ``size`` (width, height).

        Parameters
        ----------
        boxes : array of int, shape (N, 4)
            x, y, width, height. N may be 0.
        size, plane, channels
            As in :meth:`read`.

        Returns
        -------
        pixels : array, shape (N, height, width, C), of type ``dtype``
            In the order of the boxes, and for each what :meth:`read` returns. The caller's own.
        mask : array, shape (N, height, width), bool, or None
            None if all pixels of all boxes are valid.

        Raises
        ------
        ReadError
            As :meth:`read`.
        """
        ...

    def close(self) -> None:
        """Close the file. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
