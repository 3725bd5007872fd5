"""Layout of a TIFF slide: which tiles are its levels, planes and channels, and its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.urls import shown

from .base import RGB_CHANNELS
from .channels import PIXEL_TYPES, name_channels
from .ome_xml import read_ome_xml
from .other_formats import CONVERT
from .tiff_calibration import calibration, stated_downsample
from .tiff_stacks import Stack, find_stack
from .tile_table import PagePart, segment_size

__all__ = ["TIFF_HEADERS", "TiffLayout", "has_tiff_header", "open_tiff", "read_layout", "vendor_of"]

MAX_SEGMENT_BYTES = 512 << 20
"""The largest strip or tile that is decoded; a file of one compressed strip needs a whole level."""

MAX_CHANNELS = 1024
"""The most channels of an image: a damaged number could ask for more than any memory."""

_JPEG = 7
_APERIO_YCBCR = 33003
_INVERTED, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = (1, 2)  # of ExtraSamples: alpha, and whether the colours are multiplied by it
TIFF_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
_VENDORS = ("bif", "ndpi", "philips", "scn", "vista")
_OTHER_STACKS = (
    "avs", "eer", "fluoview", "indica", "lsm", "mdgel", "micromanager", "nih", "scanimage", "stk",
)  # fmt: skip
"""Layouts of tifffile whose pages have an order of their own: not read unless they are RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class TiffLayout:
    """The image of a TIFF file.

    Attributes
    ----------
    levels : tuple of tuples of PagePart
        Finest first; of each level all planes one after the other, time points slowest, then z
        slices, then the parts of one plane.
    parts : int
        Number of parts of a plane. All parts have the same number of channels, side by side in
        their pixels.
    planes : (int, int)
        Number of z slices and time points.
    channels : tuple of str
        Names.
    dtype : dtype
        Of the pixels, in the byte order of this machine.
    pixel_size : (x, y) or None
        µm per level-0 pixel.
    objective_power : float or None
    """

    levels: tuple[tuple[PagePart, ...], ...]
    parts: int
    planes: tuple[int, int]
    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    pixel_size: tuple[float, float] | None
    objective_power: float | None

    @property
    def is_rgb(self) -> bool:
        """True where a part has red, green and blue, perhaps with alpha."""
        return self.channels == RGB_CHANNELS and self.parts == 1 and self.dtype == np.uint8

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each level, pixels."""
        keys = [parts[0].page.keyframe for parts in self.levels]
        return [(key.imagewidth, key.imagelength) for key in keys]

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Width and height of the tiles of each level; (0, 0) for strips."""
        pages = [parts[0].page for parts in self.levels]
        return [segment_size(page) if page.keyframe.is_tiled else (0, 0) for page in pages]

    @property
    def stated_downsamples(self) -> list[float | None]:
        """Downsample of each level from its resolution and that of the first, where both say it."""
        keys = [parts[0].page.keyframe for parts in self.levels]
        return [stated_downsample(keys[0], key) for key in keys]


def has_tiff_header(path: Path) -> bool:
    """Return whether a file begins as TIFF and BigTIFF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF_HEADERS
    except OSError:
        return False


def vendor_of(file: tifffile.TiffFile) -> str | None:
    """Return the vendor whose layout the file has, None for one that is read here."""
    return next((name for name in _VENDORS if getattr(file, f"is_{name}", False)), None)


def open_tiff(path: Path, file: BinaryIO | None = None) -> tifffile.TiffFile:
    """Open a TIFF file.

    Parameters
    ----------
    path : Path
    file : file for reading, optional
        What gives its bytes, if it is not on this machine.

    Raises
    ------
    ReadError
        If its header or first directory cannot be read.
    """
    try:
        if file is None:
            return tifffile.TiffFile(path, _multifile=False)
        return tifffile.TiffFile(file, name=path.name, _multifile=False)
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror or error}.", hint="Is it a file?") from error
    except Exception as error:
        raise ReadError(
            f"{shown(path)}: not a TIFF file that can be read: {error}.",
            hint="Is the copy complete?",
        ) from error


def read_layout(file: tifffile.TiffFile, label: str) -> TiffLayout:
    """Return the levels, planes, channels and calibration of an open TIFF file.

    Parameters
    ----------
    file : tifffile.TiffFile
    label : str
        What messages call the slide: its path.

    Raises
    ------
    ReadError
        If its layout is a vendor's own, or its pixels are of a type that cannot be read.
    """
    vendor = vendor_of(file)
    if vendor is not None:
        raise ReadError(
            f"{label}: a TIFF file of the vendor format {vendor!r}.",
            hint="Its layout is the vendor's own; use the reader 'openslide'.",
        )
    ome = read_ome_xml(file.ome_metadata or "", label) if file.is_ome else None
    stack = find_stack(file, ome, label)
    for level in stack.levels:
        for part in level:
            _check_pixels(part.page, file.is_imagej, label)
    _check_alike(stack, label)
    key = stack.levels[0][0].page.keyframe
    dtype, samples = np.dtype(key.dtype).newbyteorder("="), key.samplesperpixel
    pixel_size, power = calibration(file, ome)
    levels, parts, names = stack.levels, stack.pages_per_plane, stack.names
    if parts == 1 and dtype == np.uint8 and (samples == 3 or _has_alpha(key)):
        channels: tuple[str, ...] = RGB_CHANNELS
    else:
        _refuse_other_stacks(file, label)
        channels = name_channels(names, _channel_count(stack, samples, label))
        if key.planarconfig != 1 and samples > 1:  # each sample has tiles of its own
            levels, parts = _apart(levels, samples), parts * samples
    return TiffLayout(levels, parts, stack.planes, channels, dtype, pixel_size, power)


def _channel_count(stack: Stack, samples: int, label: str) -> int:
    """Return the number of channels; refuse one that a damaged file may say."""
    count = stack.pages_per_plane * samples
    if count > MAX_CHANNELS:
        raise ReadError(
            f"{label}: an image of {count} channels; at most {MAX_CHANNELS} are read.",
            hint="Is the copy complete?",
        )
    return count


def _apart(
    levels: tuple[tuple[PagePart, ...], ...], samples: int
) -> tuple[tuple[PagePart, ...], ...]:
    """Return each sample of pages as a part of its own."""
    return tuple(
        tuple(part._replace(sample=sample) for part in parts for sample in range(samples))
        for parts in levels
    )


def _has_alpha(key: Any) -> bool:
    extra, rgb = key.extrasamples, int(key.photometric) == _RGB
    return key.samplesperpixel == 4 and rgb and bool(extra) and int(extra[0]) in _ALPHA


def _check_pixels(page: Any, imagej: bool, label: str) -> None:
    """Refuse values of other types, and colours that are not values of channels."""
    key = page.keyframe
    color, code = int(key.photometric), int(key.compression)
    known = color in (_GREY, _RGB) or (imagej and color in (_INVERTED, _PALETTE))
    known |= (
        color == _YCBCR and code == _JPEG and key.samplesperpixel == 3 and key.planarconfig == 1
    )
    typed = key.dtype is not None and np.dtype(key.dtype).newbyteorder("=") in PIXEL_TYPES
    if not known or not typed or code == _APERIO_YCBCR:
        raise ReadError(
            f"{label}: pixels of type {_described(key)} found; this reader reads RGB, and grey "
            "values of 8, 16 or 32 bits, float32 and float64.",
            hint=CONVERT,
        )
    width, height = segment_size(page)
    if min(key.imagewidth, key.imagelength, width, height) < 1:
        raise ReadError(f"{label}: an image or tile without size.", hint="Is the copy complete?")
    samples = key.samplesperpixel if key.planarconfig == 1 else 1
    if width * height * samples * np.dtype(key.dtype).itemsize > MAX_SEGMENT_BYTES:
        raise ReadError(
            f"{label}: one tile or strip has {width} x {height} pixels.",
            hint="Write it again in tiles, for example with `vips tiffsave --tile --pyramid`.",
        )


def _check_alike(stack: Stack, label: str) -> None:
    """Refuse a level whose planes differ in size, or levels of different types."""
    keys = [[part.page.keyframe for part in parts] for parts in stack.levels]
    kinds = {
        (key.samplesperpixel, key.planarconfig, np.dtype(key.dtype))
        for level in keys
        for key in level
    }
    sizes = [{(key.imagewidth, key.imagelength) for key in level} for level in keys]
    if len(kinds) > 1 or any(len(level) > 1 for level in sizes):
        raise ReadError(
            f"{label}: its channels, planes or levels have different sizes or types.",
            hint="Write it again as one OME-TIFF image.",
        )


def _refuse_other_stacks(file: tifffile.TiffFile, label: str) -> None:
    """Refuse files whose pages are channels and planes in an order that is not known here."""
    other = next((name for name in _OTHER_STACKS if getattr(file, f"is_{name}", False)), None)
    if other is not None and not (file.is_ome or file.is_imagej or file.is_qpi):
        raise ReadError(
            f"{label}: a TIFF file of the format {other!r}, which has its own order of pages.",
            hint=CONVERT,
        )


def _described(key: Any) -> str:
    names = [getattr(value, "name", str(value)) for value in (key.photometric, key.compression)]
    layout = "interleaved" if key.planarconfig == 1 else "planar"
    form = {1: "", 2: " signed", 3: " float", 5: " complex", 6: " complex"}
    kind = f"{key.bitspersample}-bit{form.get(int(key.sampleformat or 1), '')}"
    return f"{kind} x {key.samplesperpixel} {names[0]}, {layout}, {names[1]}"
