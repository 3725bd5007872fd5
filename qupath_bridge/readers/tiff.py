"""TIFF slides through tifffile: plain pyramids, OME-TIFF with SubIFDs, BigTIFF, Aperio SVS."""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, PixelArray, Plane

from .base import Fingerprint, Pixels
from .fingerprints import file_fingerprint
from .levels import LevelReader, composite, plausible_pixel_size

__all__ = ["TiffReader"]

CACHE_BYTES = 32 << 20
"""Decoded tiles that are kept: neighbouring boxes share them."""

MAX_SEGMENT_BYTES = 512 << 20
"""The largest strip or tile that is decoded; a file of one compressed strip needs a whole level."""

MAX_GROWTH = 4
"""A JPEG or JPEG 2000 tile with more pixels than this many tiles is refused.

It has a size of its own, and is decoded at that size: 700 bytes can take gigabytes.
"""

_MICROMETRES = {
    "µm": 1.0,  # micro sign, as in OME-XML
    "\u03bcm": 1.0,  # Greek mu, as some writers have it
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}
_MICROMETRE_NAMES = ("um", "µm", "\u03bcm", r"\u00b5m", "micron", "microns")
_IMAGEJ_MICROMETRES = {**dict.fromkeys(_MICROMETRE_NAMES, 1.0), "nm": 1e-3, "mm": 1e3}
_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch and cm, in µm
_JPEG = 7
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # markers of the header with the size
_JPEG_2000 = frozenset((33003, 33004, 33005, 34712))
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_APERIO_YCBCR = 33003
_RGB, _YCBCR = 2, 6
_MULTIPLIED = 1  # of ExtraSamples: alpha, and the colours are multiplied by it
_ALPHA = (_MULTIPLIED, 2)
_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
_VENDORS = ("bif", "ndpi", "philips", "scn", "vista")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


class TiffReader(LevelReader):
    """Reads TIFF slides with 8-bit RGB pixels, or RGB and alpha, interleaved or planar.

    Level 0 is the first image. Lower levels are its SubIFDs, or further pages of the same shape
    that are marked as reduced (for Aperio files: all tiled pages). Only the tiles or strips that a
    box touches are read and decoded. JPEG is decoded as libjpeg does by default, which gives the
    same pixels as OpenSlide. Of an OME-TIFF it is the first image, with its z slices and times.
    Transparent pixels show the background.

    Parameters
    ----------
    path : path

    Raises
    ------
    ReadError
        If it is not a TIFF file, or its pixels are of another type; the message says which.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._cache: OrderedDict[tuple[int, int, int], PixelArray | None] = OrderedDict()
        self._cached_bytes = 0
        self._file = _open(self._path)
        try:
            self._pages, planes = _find_levels(self._file, str(path))
            pixel_size, power = _calibration(self._file)
            super().__init__(
                str(path),
                [(pages[0].imagewidth, pages[0].imagelength) for pages in self._pages],
                pixel_size=pixel_size,
                objective_power=power,
                planes=planes,
            )
            keys = [pages[0].keyframe for pages in self._pages]
            self._settle_padded_levels(
                [_segment_size(key) if key.is_tiled else (0, 0) for key in keys],
                [_stated_downsample(keys[0], key) for key in keys],
            )
        except ReadError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise ReadError(
                f"{path}: its TIFF directory cannot be read: {error}.", hint="Is the copy complete?"
            ) from error

    @staticmethod
    def can_open(path: Path) -> int:
        """Return 2 for TIFF without a vendor's layout, 1 for Aperio's, 0 for other vendors'.

        1 also for a TIFF file whose first directory cannot be read, so that opening it says why.
        """
        if not _has_tiff_header(path):
            return 0
        try:
            with tifffile.TiffFile(path, _multifile=False) as file:
                if _vendor(file) is not None:
                    return 0
                return 1 if file.is_svs else 2
        except Exception:  # noqa: BLE001  # damaged files raise whatever they raise
            return 1

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file as it is now; read again each time."""
        return file_fingerprint(self._path)

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self._path,)

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        x, y, w, h = rectangle
        pages = self._pages[level]
        number = plane.t * self.planes[0] + plane.z
        page = pages[number]
        key = page.keyframe
        tile_w, tile_h = _segment_size(key)
        across = -(-key.imagewidth // tile_w)
        pixels = np.empty((h, w, key.samplesperpixel), np.uint8)
        mask = None
        for row in range(y // tile_h, -(-(y + h) // tile_h)):
            for column in range(x // tile_w, -(-(x + w) // tile_w)):
                tile = self._segment(level, number, row * across + column)
                left, top = column * tile_w, row * tile_h
                x0, x1 = max(x, left), min(x + w, left + tile_w)
                y0, y1 = max(y, top), min(y + h, top + tile_h)
                place = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
                if tile is None:
                    pixels[place] = (*self.background, 0)[: pixels.shape[-1]]
                    mask = np.ones((h, w), np.bool_) if mask is None else mask
                    mask[place] = False
                else:
                    pixels[place] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        if pixels.shape[-1] == 3:
            return pixels, mask
        multiplied = int(key.extrasamples[0]) == _MULTIPLIED
        pixels, visible = composite(pixels, self.background, multiplied=multiplied)
        if mask is None or visible is None:
            return pixels, visible if mask is None else mask
        pixels[~mask] = self.background
        return pixels, mask & visible

    def _segment(self, level: int, number: int, index: int) -> PixelArray | None:
        """Return a decoded tile or strip, None if the file has none."""
        place = (level, number, index)
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place]
        page = self._pages[level][number]
        try:
            tile = self._decode(page, index)
        except Exception as error:  # damaged data raises whatever its codec raises
            kind = "tile" if page.keyframe.is_tiled else "strip"
            raise ReadError(
                f"{self._path}: {kind} {index} of level {level} cannot be decoded: {error}.",
                hint="The file is damaged there, or not copied completely.",
            ) from error
        self._cache[place] = tile
        self._cached_bytes += 0 if tile is None else tile.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._cached_bytes -= 0 if old is None else old.nbytes
        return tile

    def _decode(self, page: Any, index: int) -> PixelArray | None:
        if page.keyframe.planarconfig == 1:
            return self._decode_segment(page, index)
        samples = page.keyframe.samplesperpixel
        count = len(page.dataoffsets) // samples
        planes = [self._decode_segment(page, plane * count + index) for plane in range(samples)]
        found = [plane for plane in planes if plane is not None]
        return np.concatenate(found, axis=-1) if len(found) == samples else None

    def _decode_segment(self, page: Any, index: int) -> PixelArray | None:
        if index >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise ValueError("the file's directory does not list it")
        count = page.databytecounts[index]
        if not count:
            return None
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(count)
        if len(data) < count:
            raise ValueError(f"the file ends {count - len(data)} bytes too early")
        width, height = _segment_size(page.keyframe)
        own_width, own_height = _encoded_size(data, int(page.keyframe.compression))
        if own_width * own_height > MAX_GROWTH * width * height:
            raise ValueError(f"it says that it has {own_width} x {own_height} pixels")
        decoded, _, shape = page.keyframe.decode(data, index, jpegtables=page.jpegtables)
        tile = np.asarray(decoded[0], dtype=np.uint8)
        if tile.shape != tuple(shape[1:]):
            raise ValueError(f"it has {tile.shape} values, not {tuple(shape[1:])}")
        return tile

    def _close(self) -> None:
        self._cache.clear()
        self._file.close()


def _has_tiff_header(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _HEADERS
    except OSError:
        return False


def _vendor(file: tifffile.TiffFile) -> str | None:
    """Return the vendor whose layout the file has, None for one that this reader reads."""
    return next((name for name in _VENDORS if getattr(file, f"is_{name}", False)), None)


def _open(path: Path) -> tifffile.TiffFile:
    try:
        return tifffile.TiffFile(path, _multifile=False)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror or error}.", hint="Is it a file?") from error
    except Exception as error:
        raise ReadError(
            f"{path}: not a TIFF file that can be read: {error}.", hint="Is the copy complete?"
        ) from error


def _segment_size(page: Any) -> tuple[int, int]:
    """Return width and height of a tile, or of a strip as a tile of full width."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip or page.imagelength, page.imagelength)


def _encoded_size(data: bytes, compression: int) -> tuple[int, int]:
    """Return the size that encoded pixels say they have; (0, 0) if they do not say."""
    if compression in _JPEG_2000:
        start = data.find(_JPEG_2000_START)
        if 0 <= start <= len(data) - 24:
            x, y, left, top = struct.unpack_from(">4I", data, start + 8)
            return max(x - left, 0), max(y - top, 0)
    elif compression == _JPEG:
        place = 2
        while place + 9 <= len(data) and data[place] == 0xFF:
            if data[place + 1] in _JPEG_SIZES:
                height, width = struct.unpack_from(">2H", data, place + 5)
                return width, height
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return 0, 0


def _find_levels(
    file: tifffile.TiffFile, label: str
) -> tuple[tuple[Sequence[Any], ...], tuple[int, int]]:
    """Return the pages of each level, one per plane with z running fastest, and the counts."""
    vendor = _vendor(file)
    if vendor is not None:
        raise ReadError(
            f"{label}: a TIFF file of the vendor format {vendor!r}.",
            hint="Its layout is the vendor's own; use the reader 'openslide'.",
        )
    if file.is_ome:
        pages, planes = _ome_levels(file, label)
    else:
        pages, planes = [[page] for page in _plain_levels(file)], (1, 1)
    for level in pages:
        for page in level:
            _check_pixels(page, label)
    return tuple(pages), planes


def _ome_levels(file: tifffile.TiffFile, label: str) -> tuple[list[Sequence[Any]], tuple[int, int]]:
    series = file.series[0]
    lengths = dict(zip(series.axes, series.shape, strict=True))
    others = {axis: n for axis, n in lengths.items() if axis not in "TZYXS" and n > 1}
    if others or not series.axes.endswith(("YXS", "SYX")):
        found = ", ".join(f"{axis} = {n}" for axis, n in lengths.items())
        raise ReadError(
            f"{label}: the OME-TIFF image has the axes {found}.",
            hint="This reader wants one RGB image (Y, X, S), with slices Z and times T at most.",
        )
    z_count, t_count = lengths.get("Z", 1), lengths.get("T", 1)
    z_fastest = (
        "T" not in lengths or "Z" not in lengths or series.axes.index("T") < series.axes.index("Z")
    )
    levels: list[Sequence[Any]] = []
    for level in series.levels:
        pages = list(level.pages)
        if len(pages) != z_count * t_count or any(page is None for page in pages):
            raise ReadError(
                f"{label}: the OME-TIFF names {z_count * t_count} planes, the file has "
                f"{sum(page is not None for page in pages)}.",
                hint="Images spread over several files cannot be read; join them into one.",
            )
        if not z_fastest:
            pages = [pages[z * t_count + t] for t in range(t_count) for z in range(z_count)]
        levels.append(pages)
    return levels, (z_count, t_count)


def _plain_levels(file: tifffile.TiffFile) -> Iterator[Any]:
    pages: list[Any] = list(file.pages)
    first = last = pages[0]
    yield first
    below = list(first.pages) if first.subifds else []
    for page in (*below, *pages[1:]):
        marked = page in below or page.subfiletype & 1 or file.is_svs
        if marked and page.is_tiled == first.is_tiled and _is_reduced(page, first, last):
            last = page
            yield page


def _is_reduced(page: Any, first: Any, last: Any) -> bool:
    """Return whether a page shows the whole first page, smaller than the last level found."""
    if page.imagewidth >= last.imagewidth or page.imagelength >= last.imagelength:
        return False
    across, down = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
    # Each side may have been cut or filled to whole pixels, at each halving.
    slack = 1 + 2 / min(page.imagewidth, page.imagelength)
    return bool(max(across, down) <= min(across, down) * slack)


def _check_pixels(page: Any, label: str) -> None:
    page = page.keyframe
    samples = page.samplesperpixel
    alpha = samples == 4 and page.extrasamples and int(page.extrasamples[0]) in _ALPHA
    plain = page.bitspersample == 8 and page.dtype == np.uint8 and (samples == 3 or alpha)
    color = page.photometric == _RGB or (
        page.photometric == _YCBCR
        and page.compression == _JPEG
        and samples == 3
        and page.planarconfig == 1
    )
    if not plain or not color or page.compression == _APERIO_YCBCR:
        raise ReadError(
            f"{label}: pixels of type {_described(page)} found; this reader reads 8-bit RGB, "
            "with or without alpha.",
            hint="Convert the image, or export patches from within QuPath.",
        )
    width, height = _segment_size(page)
    if min(page.imagewidth, page.imagelength, width, height) < 1:
        raise ReadError(f"{label}: an image or tile without size.", hint="Is the copy complete?")
    if width * height * samples > MAX_SEGMENT_BYTES:
        raise ReadError(
            f"{label}: one tile or strip has {width} x {height} pixels.",
            hint="Write it again in tiles, for example with `vips tiffsave --tile --pyramid`.",
        )


def _described(page: Any) -> str:
    names = [getattr(value, "name", str(value)) for value in (page.photometric, page.compression)]
    layout = "interleaved" if page.planarconfig == 1 else "planar"
    return f"{page.bitspersample}-bit x {page.samplesperpixel} {names[0]}, {layout}, {names[1]}"


def _calibration(file: tifffile.TiffFile) -> tuple[tuple[float, float] | None, float | None]:
    """Return µm per pixel and the objective power, where the file says them."""
    if file.is_ome:
        return _ome_calibration(tifffile.xml2dict(file.ome_metadata or "<OME/>"))
    page: Any = file.pages[0]
    if file.is_svs:
        said = [part.partition("=") for part in page.description.split("|")]
        fields = {key.strip(): _positive(value) for key, _, value in said}
        mpp = fields.get("MPP")
        return None if mpp is None else (mpp, mpp), fields.get("AppMag")
    if file.is_imagej:
        return _imagej_pixel_size(file.imagej_metadata or {}, page) or _resolution(page), None
    return _resolution(page), None


def _imagej_pixel_size(metadata: Mapping[str, Any], page: Any) -> tuple[float, float] | None:
    """Return µm per pixel in the unit of ImageJ's own description; TIFF has no unit for that."""
    units = metadata.get("unit"), metadata.get("yunit", metadata.get("unit"))
    scales = [_IMAGEJ_MICROMETRES.get(str(unit).lower()) for unit in units]
    values = [page.tags.valueof(f"{axis}Resolution") for axis in "XY"]
    if None in scales or any(value is None or 0 in value for value in values):
        return None
    x, y = (scale * below / above for scale, (above, below) in zip(scales, values, strict=True))
    return x, y


def _resolution(page: Any) -> tuple[float, float] | None:
    unit = _RESOLUTION_UNIT.get(int(page.tags.valueof("ResolutionUnit", 2)))
    values = [page.tags.valueof(f"{axis}Resolution") for axis in "XY"]
    if unit is None or any(value is None or 0 in value for value in values):
        return None
    x, y = (unit * below / above for above, below in values)
    return plausible_pixel_size(x, y)


def _stated_downsample(first: Any, page: Any) -> float | None:
    """Return the downsample of a page from its resolution and that of the first."""
    tags = [
        (each.tags.valueof("XResolution"), each.tags.valueof("YResolution"))
        for each in (first, page)
    ]
    values = [above / below for pair in tags for above, below in filter(None, pair) if below]
    if len(values) < 4 or not all(values):
        return None
    return float(values[0] / values[2] + values[1] / values[3]) / 2


def _ome_calibration(
    document: Mapping[str, Any],
) -> tuple[tuple[float, float] | None, float | None]:
    root = document.get("OME") or {}
    image = _first(root.get("Image"))
    pixels = _first(image.get("Pixels"))
    sizes = []
    for axis in "XY":
        number = _positive(pixels.get(f"PhysicalSize{axis}"))
        unit = _MICROMETRES.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        sizes.append(None if number is None or unit is None else number * unit)
    x, y = sizes
    power = None
    wanted = _first(image.get("ObjectiveSettings")).get("ID")
    instruments = root.get("Instrument") or []
    for instrument in instruments if isinstance(instruments, list) else [instruments]:
        objectives = instrument.get("Objective") or []
        for objective in objectives if isinstance(objectives, list) else [objectives]:
            if wanted is not None and objective.get("ID") == wanted:
                power = _positive(objective.get("NominalMagnification"))
    return None if x is None or y is None else (x, y), power


def _first(node: Any) -> Mapping[str, Any]:
    """Return an XML element as a mapping, the first of several, empty for none."""
    found = node[0] if isinstance(node, list) and node else node
    return found if isinstance(found, dict) else {}


def _positive(value: Any) -> float | None:
    text = str(value).strip()
    number = float(text) if _NUMBER.fullmatch(text) else 0.0
    return number if 0 < number < float("inf") else None
