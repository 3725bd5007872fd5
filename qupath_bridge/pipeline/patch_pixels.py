"""The one producer of patch pixels: export, verify, estimate, preview and datasets use it.

Read, fill what is outside, turn, judge the quality, normalise the stain; always in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import Box, PixelArray, Plane, Reason
from qupath_bridge.readers.base import Reader

from .pixels import read_patches, read_thumbnail

__all__ = ["PatchPixels", "PixelResult"]

SAMPLE_SIDE = 1024
"""Pixels of the longer side of the thumbnail from which a stain profile is fitted."""


@dataclass(frozen=True, slots=True)
class PixelResult:
    """Pixels of one patch, or the reason why reading dropped it.

    Attributes
    ----------
    pixels : array, shape (size, size, C), or None
        None if the patch was dropped.
    reason : Reason or None
    measures : mapping of str to float
        The quality measures that were asked for.
    """

    pixels: PixelArray | None
    reason: Reason | None = None
    measures: Mapping[str, float] = field(default_factory=dict)


class PatchPixels:
    """Makes the pixels of patches of one slide, as they are written.

    Parameters
    ----------
    coordinates : CoordinateMap
        Of the slide.
    config : ExportConfig
        Its size, quality limits and stain normalisation.
    mpp : float or None
        Effective µm per written pixel.
    reader : Reader
        Of the slide; read once for the sample of a stain profile, where one is fitted.
    """

    def __init__(
        self, coordinates: CoordinateMap, config: ExportConfig, mpp: float | None, reader: Reader
    ) -> None:
        self._coordinates = coordinates
        self._size = (config.size, config.size)
        self._mpp = mpp
        self._limits = dict(config.qc_min)
        self._measures = {name: registry.load("quality", name) for name in self._limits}
        self._stain: tuple[Any, Any] | None = None
        if self._limits or config.stain != "none":
            _require_rgb(reader, "quality measures and stain normalisation")
        if config.stain != "none":
            method = registry.create("stain", config.stain)
            sample, _ = read_thumbnail(reader, coordinates, SAMPLE_SIDE)
            self._stain = (method, method.fit(sample))

    def read(self, reader: Reader, patches: Sequence[tuple[Box, Plane]]) -> Iterator[PixelResult]:
        """Yield the pixels of a batch of patches, in order.

        Parameters
        ----------
        reader : Reader
            Of the same slide; each thread brings its own.
        patches : sequence of (Box, Plane)
            Boxes in QuPath pixels.

        Raises
        ------
        ReadError
            If the file cannot be read.
        """
        for plane, group in groupby(patches, key=lambda patch: patch[1]):
            boxes = np.array([box for box, _ in group])
            pixels, _ = read_patches(reader, self._coordinates, boxes, self._size, plane)
            if self._measures or self._stain:
                yield from self._judged(pixels)
            else:
                yield from map(PixelResult, pixels)

    def _judged(self, batch: PixelArray) -> Iterator[PixelResult]:
        values = {name: measure(batch, self._mpp) for name, measure in self._measures.items()}
        if self._stain:
            method, profile = self._stain
            batch = method.apply(batch, profile)
        for number, pixels in enumerate(batch):
            measures = {name: float(column[number]) for name, column in values.items()}
            low = any(not value >= self._limits[name] for name, value in measures.items())
            if low:
                yield PixelResult(None, Reason.QUALITY, measures)
            else:
                yield PixelResult(pixels, None, measures)


def _require_rgb(reader: Reader, what: str) -> None:
    if len(reader.channels) != 3 or reader.dtype != np.uint8:
        raise PlanError(
            f"{what} need RGB pixels of 8 bit; this slide has {len(reader.channels)} channels of "
            f"{reader.dtype}.",
            hint="Leave qc_min and stain out for this slide.",
        )
