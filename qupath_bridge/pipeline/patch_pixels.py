"""The one producer of patch pixels: export, verify, estimate, preview and datasets use it.

Read, fill what is outside, turn, judge the quality, normalise the stain; always in this order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.config.quality import KEPT_RAW, QC_PREFIX
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import (
    FIRST_PLANE,
    BoxArray,
    FloatArray,
    IntArray,
    MaskArray,
    PixelArray,
    Plane,
)
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.pixels.glass import glass_cast, white_balanced
from qupath_bridge.readers.base import Reader
from qupath_bridge.timing import step

from .channels import ChannelView
from .pixels import passing, read_patches, read_thumbnail

if TYPE_CHECKING:
    from .stain import StainPlan

__all__ = ["PatchPixels", "PixelBatch"]

THUMBNAIL = 256
"""Pixels of the longer side of the picture in which the colour of the glass is looked for."""


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """A batch of patches as they were made.

    Attributes
    ----------
    patches : sequence of N
        The pixels of each patch, shape (height, width, C); or the bytes of its file, where the file
        tile of the slide is passed through; or None if a quality limit dropped it.
    measured : mapping of str to array, shape (N,)
        What was found out about each patch, by the column of the index.
    """

    patches: Sequence[PixelArray | bytes | None]
    measured: Mapping[str, FloatArray]

    def measured_of(self, number: int) -> dict[str, float]:
        """Return what was found out about one patch."""
        return {name: float(values[number]) for name, values in self.measured.items()}


class PatchPixels:
    """Makes the pixels of patches of one slide, as they are written.

    Parameters
    ----------
    coordinates : CoordinateMap
        Of the slide.
    view : ChannelView
        The channels that are exported.
    config : ExportConfig
        Its size and quality limits.
    mpp : float or None
        Effective µm per written pixel.
    reader : Reader
        Of the slide.
    stain : StainPlan or None
        What normalises the stains of the slide.
    composite : Composite or None
        What makes pictures of the channels; None for the channels themselves.
    """

    def __init__(
        self,
        coordinates: CoordinateMap,
        view: ChannelView,
        config: ExportConfig,
        mpp: float | None,
        reader: Reader,
        stain: StainPlan | None = None,
        composite: Composite | None = None,
    ) -> None:
        self._coordinates = coordinates
        # Of a picture, only the channels that are shown are read.
        self._view = view if composite is None else view.part(composite.shown_channels)
        self._size = (config.size, config.size)
        self._mpp = mpp
        self._rules = config.quality_rules()
        self._measures = {name: registry.load("quality", name) for name in self._rules.measures}
        self._glass = (
            _glass_cast(reader, coordinates, view, Plane(*config.plane[0]))
            if self._measures and composite is None and view.is_rgb
            else None
        )
        self._stain = stain
        self._composite = None if composite is None else composite.shown
        self._normalise = None if stain is None else stain.normaliser()
        self._slide = reader.fingerprint.digest if stain is not None else ""
        # A file tile is a patch as it stands where nothing changes or judges its pixels.
        self._passes_tiles = (
            config.passthrough == "auto"
            and config.format == "jpeg"
            and coordinates.is_right_angle
            and coordinates.orientation == (0, False)
            and not self._measures
            and stain is None
            and view.is_rgb
            and view.is_stored
        )

    def read(
        self,
        reader: Reader,
        boxes: BoxArray,
        plane: Plane = FIRST_PLANE,
        sizes: IntArray | None = None,
    ) -> PixelBatch:
        """Make a batch of patches.

        Parameters
        ----------
        reader : Reader
            Of the same slide; each thread brings its own.
        boxes : array of int, shape (N, 4)
            QuPath pixels.
        plane : Plane
        sizes : array of int, shape (N, 2), optional
            Width and height of each patch, pixels; SIZE for all when not given.

        Raises
        ------
        ReadError
            If the file cannot be read.
        """
        if sizes is None or (sizes == self._size).all():
            return self._read(reader, boxes, plane, self._size)
        distinct, number = np.unique(sizes, axis=0, return_inverse=True)
        groups = [np.flatnonzero(number.reshape(-1) == k) for k in range(len(distinct))]
        made = [
            self._read(reader, boxes[rows], plane, (width, height))
            for rows, (width, height) in zip(groups, distinct.tolist(), strict=True)
        ]
        return _merged(made, groups)

    def _read(
        self, reader: Reader, boxes: BoxArray, plane: Plane, size: tuple[int, int]
    ) -> PixelBatch:
        """Make patches of one size."""
        if self._passes_tiles:
            with step("read"):
                return PixelBatch(self._passed(reader, boxes, plane, size), {})
        with step("read"):
            pixels = self._pixels(reader, boxes, plane, size)
        with step("quality"):
            judged = pixels if self._glass is None else white_balanced(pixels, self._glass)
            measures = {
                name: np.asarray(measure(judged, self._mpp), np.float64)
                for name, measure in self._measures.items()
            }
        bad = self._outside_limits(measures, len(boxes))
        measured = {f"{QC_PREFIX}{name}": values for name, values in measures.items()}
        if self._stain is not None:
            with step("stain"):
                pixels, kept = self._normalised(pixels, ~bad, boxes, plane)
            measured[KEPT_RAW] = kept.astype(np.float64)
        patches: list[PixelArray | bytes | None] = [*pixels]
        for number in np.flatnonzero(bad).tolist():
            patches[number] = None
        return PixelBatch(patches, measured)

    def _pixels(
        self, reader: Reader, boxes: BoxArray, plane: Plane, size: tuple[int, int]
    ) -> PixelArray:
        found, _ = read_patches(reader, self._coordinates, boxes, size, plane, self._view)
        return found if self._composite is None else self._composite.apply(found)

    def _normalised(
        self, pixels: PixelArray, wanted: MaskArray, boxes: BoxArray, plane: Plane
    ) -> tuple[PixelArray, MaskArray]:
        """Return the batch with normalised colours where wanted, and which were kept as they are.

        What is not wanted is dropped: it counts as kept.
        """
        if self._stain is None or self._normalise is None:
            return pixels, ~wanted
        draws = self._stain.draws(self._slide, boxes[wanted], plane)
        made, raw = self._normalise(pixels[wanted], draws)
        if wanted.all():
            return made, raw
        kept = np.ones(len(pixels), np.bool_)
        kept[wanted] = raw
        pixels = pixels.copy()
        pixels[wanted] = made
        return pixels, kept

    def _outside_limits(self, measures: Mapping[str, FloatArray], count: int) -> MaskArray:
        """Return which patches a quality limit drops, shape (N,); no number is outside."""
        bad = np.zeros(count, np.bool_)
        for name, values in measures.items():
            if name in self._rules.least:
                bad |= ~(values >= self._rules.least[name])
            if name in self._rules.most:
                bad |= ~(values <= self._rules.most[name])
        return bad

    def _passed(
        self, reader: Reader, boxes: BoxArray, plane: Plane, size: tuple[int, int]
    ) -> list[PixelArray | bytes | None]:
        """Return the file tiles that are just patches as they are, and the pixels of the others."""
        read_encoded = getattr(reader, "read_encoded", None)
        made: list[PixelArray | bytes | None] = [None] * len(boxes)
        if read_encoded:
            inside = np.flatnonzero(~passing(boxes, self._coordinates.visible))
            places = self._coordinates.slide_boxes(boxes[inside])
            encoded = read_encoded(places, size, plane)
            for number, patch in zip(inside.tolist(), encoded, strict=True):
                made[number] = patch
        rest = [number for number, patch in enumerate(made) if patch is None]
        if rest:
            pixels = self._pixels(reader, boxes[rest], plane, size)
            for number, patch in zip(rest, [*pixels], strict=True):
                made[number] = patch
        return made


def _merged(made: Sequence[PixelBatch], groups: Sequence[IntArray]) -> PixelBatch:
    """Return the patches of several batches in their order; ``groups`` has the places of each."""
    places = np.argsort(np.concatenate(groups), kind="stable")
    patches = [patch for batch in made for patch in batch.patches]
    measured = {
        name: np.concatenate([batch.measured[name] for batch in made])[places]
        for name in made[0].measured
    }
    return PixelBatch([patches[place] for place in places.tolist()], measured)


def _glass_cast(
    reader: Reader, coordinates: CoordinateMap, view: ChannelView, plane: Plane
) -> FloatArray | None:
    """Return the colour of the glass of a slide if it has a cast, so that measures see it white."""
    return glass_cast(read_thumbnail(reader, coordinates, THUMBNAIL, plane, view)[0])
