"""Slides through OpenSlide: Aperio, Hamamatsu, Leica, MIRAX, Ventana, DICOM, generic TIFF, ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import openslide

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane
from qupath_bridge.timing import step

from .background import WHITE, blend_alpha
from .base import Fingerprint, Pixels
from .dicom import level_spacings
from .fingerprints import file_fingerprint
from .level_sizes import plausible_pixel_size
from .levels import LevelReader

__all__ = ["OpenSlideReader"]

_PLAIN_TIFF = "generic-tiff"
_DICOM = "dicom"
_HINT = "Is it a complete copy, in a format that OpenSlide reads?"


class OpenSlideReader(LevelReader):
    """Reads a slide with OpenSlide.

    The pixels are OpenSlide's own, with no colour profile applied, on the slide's background
    colour where they are transparent. OpenSlide interpolates between the pixels of a level whose
    downsample is not a whole number, by a quarter of a pixel at most.

    Parameters
    ----------
    path : path

    Raises
    ------
    ReadError
        If OpenSlide cannot open it; the message has OpenSlide's own words.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        try:
            self._slide = openslide.OpenSlide(self._path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise ReadError(f"{path}: not a slide that OpenSlide knows.", hint=_HINT) from error
        except (openslide.OpenSlideError, OSError) as error:
            raise ReadError(f"{path}: OpenSlide cannot open it: {error}.", hint=_HINT) from error
        properties = self._slide.properties
        super().__init__(
            str(path),
            self._slide.level_dimensions,
            bounds=_bounds(properties),
            pixel_size=_pixel_size(properties),
            objective_power=_number(properties, openslide.PROPERTY_NAME_OBJECTIVE_POWER),
            background=_background(properties),
        )
        # OpenSlide takes places in level 0 and divides them by its own number.
        self._downsamples = tuple(self._slide.level_downsamples)
        try:
            self._settle_padded_levels(
                [_tile(properties, level) for level in range(len(self._downsamples))],
                self._stated_downsamples(),
            )
        except BaseException:
            self._slide.close()
            raise

    @staticmethod
    def can_open(path: Path) -> int:
        """Return 2 for a vendor's format, 0 for others and for TIFF without a vendor's layout.

        OpenSlide opens plain TIFF files too, but turns other pixels into 8-bit RGB without a
        word: of 16 bits it keeps the upper eight, of fluorescence the first channel. Of OME-TIFF
        it sees neither lower levels nor planes.
        """
        vendor = openslide.OpenSlide.detect_format(path)
        return 0 if vendor in (None, _PLAIN_TIFF) else 2

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all files of the slide as they are now; read again each time."""
        return file_fingerprint(self._path)

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self._path,)

    def _stated_downsamples(self) -> list[float | None]:
        """Return the downsamples that a DICOM file states, where OpenSlide takes the sizes.

        OpenSlide itself reads those of Philips files.
        """
        if self._slide.properties.get(openslide.PROPERTY_NAME_VENDOR) != _DICOM:
            return [None] * len(self._downsamples)
        try:
            spacings = level_spacings(self._path)
        except OSError:
            spacings = {}
        first = spacings.get(self._slide.level_dimensions[0])
        said: list[float | None] = []
        for size in self._slide.level_dimensions:
            own = spacings.get(size)
            ratio = None if first is None or own is None else sum(own) / sum(first)
            said.append(ratio)
        return said

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        x, y, w, h = rectangle
        downsample = self._downsamples[level]
        location = (round(x * downsample), round(y * downsample))
        try:
            with step("decode"):  # OpenSlide reads and decodes in one call
                image = self._slide.read_region(location, level, (w, h))
        except openslide.OpenSlideError as error:
            raise ReadError(
                f"{self._path}: OpenSlide cannot read {w} x {h} pixels at ({x}, {y}) of level "
                f"{level}: {error}.",
                hint="The file is damaged there; OpenSlide reads nothing more from it until it is "
                "opened again.",
            ) from error
        return blend_alpha(np.asarray(image), self._background)

    def _close(self) -> None:
        self._slide.close()


def _tile(properties: Mapping[str, str], level: int) -> tuple[int, int]:
    """Return width and height of the file tiles of a level, (0, 0) if OpenSlide does not say."""
    width, height = (
        int(properties.get(f"openslide.level[{level}].tile-{side}", 0))
        for side in ("width", "height")
    )
    return width, height


def _bounds(properties: Mapping[str, str]) -> Box | None:
    names = ("X", "Y", "WIDTH", "HEIGHT")
    keys = [getattr(openslide, f"PROPERTY_NAME_BOUNDS_{name}") for name in names]
    if not all(key in properties for key in keys):
        return None
    return Box(*(int(properties[key]) for key in keys))


def _pixel_size(properties: Mapping[str, str]) -> tuple[float, float] | None:
    x = _number(properties, openslide.PROPERTY_NAME_MPP_X)
    y = _number(properties, openslide.PROPERTY_NAME_MPP_Y)
    if x is None or y is None:
        return None
    if properties.get(openslide.PROPERTY_NAME_VENDOR) == _PLAIN_TIFF:
        return plausible_pixel_size(x, y)
    return x, y


def _number(properties: Mapping[str, str], key: str) -> float | None:
    """Return a positive number, None if there is none."""
    try:
        number = float(properties[key])
    except (KeyError, ValueError):
        return None
    return number if 0 < number < float("inf") else None


def _background(properties: Mapping[str, str]) -> tuple[int, int, int]:
    text = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        return WHITE
    return red, green, blue
