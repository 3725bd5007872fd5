"""What a reader of slide pixels is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from qupath_bridge.model import FIRST_PLANE, Box, MaskArray, PixelArray, Plane

__all__ = ["Fingerprint", "Level", "Pixels", "Reader"]

Pixels = tuple[PixelArray, MaskArray | None]
"""RGB pixels (H, W, 3) uint8, and the mask of valid pixels (H, W), None when all are valid."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide: its size in pixels and its downsample against level 0."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one slide file from another, whatever its name and place.

    ``size`` in bytes, ``digest`` an xxh3_128 over the first and the last MiB and the TIFF
    directory; ``mtime_ns`` is a hint only and takes no part in comparisons of content.
    """

    size: int
    digest: str
    mtime_ns: int


@runtime_checkable
class Reader(Protocol):
    """Reads RGB pixels of one slide file. Not for sharing between threads.

    All boxes are in the *file's* level-0 pixels, before QuPath's crop or rotation. A box may
    pass the edges: what lies outside, is transparent or missing in the file comes back as the
    slide's background colour (white where it names none) and False in the mask.
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
        """µm per level-0 pixel along x and y; None where the file does not say."""
        ...

    @property
    def objective_power(self) -> float | None:
        """Nominal magnification; None where the file does not say."""
        ...

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour of what is outside, transparent or missing."""
        ...

    @property
    def planes(self) -> tuple[int, int]:
        """Number of z slices and time points that this reader can read."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells this file from another."""
        ...

    def read(self, box: Box, size: tuple[int, int], plane: Plane = FIRST_PLANE) -> Pixels:
        """Read a box and scale it to ``size`` (width, height) output pixels.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane.
        """
        ...

    def read_many(
        self, boxes: Sequence[Box], size: tuple[int, int], plane: Plane = FIRST_PLANE
    ) -> Iterator[Pixels]:
        """Read several boxes, in order. Batches and tile order come in here."""
        ...

    def close(self) -> None:
        """Give the file back; may be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
