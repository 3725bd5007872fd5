"""Layout of a TIFF slide as tifffile finds it: which pages are levels, and their calibration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from qupath_bridge.errors import ReadError

from .level_sizes import plausible_pixel_size
from .tile_table import segment_size

__all__ = ["TiffLayout", "has_tiff_header", "open_tiff", "read_layout", "vendor_of"]

MAX_SEGMENT_BYTES = 512 << 20
"""The largest strip or tile that is decoded; a file of one compressed strip needs a whole level."""

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
_APERIO_YCBCR = 33003
_RGB, _YCBCR = 2, 6
_ALPHA = (1, 2)  # of ExtraSamples: alpha, and whether the colours are multiplied by it
_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
_VENDORS = ("bif", "ndpi", "philips", "scn", "vista")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class TiffLayout:
    """Levels of a TIFF slide.

    Attributes
    ----------
    levels : tuple of sequences of tifffile pages
        Finest first; of each level one page per plane, z running fastest.
    planes : (int, int)
        Number of z slices and time points.
    pixel_size : (x, y) or None
        µm per level-0 pixel.
    objective_power : float or None
    """

    levels: tuple[Sequence[Any], ...]
    planes: tuple[int, int]
    pixel_size: tuple[float, float] | None
    objective_power: float | None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each level, pixels."""
        return [(pages[0].imagewidth, pages[0].imagelength) for pages in self.levels]

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Width and height of the tiles of each level; (0, 0) for strips."""
        keys = [pages[0].keyframe for pages in self.levels]
        return [segment_size(key) if key.is_tiled else (0, 0) for key in keys]

    @property
    def stated_downsamples(self) -> list[float | None]:
        """Downsample of each level from its resolution and that of the first, where both say it."""
        keys = [pages[0].keyframe for pages in self.levels]
        return [_stated_downsample(keys[0], key) for key in keys]


def has_tiff_header(path: Path) -> bool:
    """Return whether a file begins as TIFF and BigTIFF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) in _HEADERS
    except OSError:
        return False


def vendor_of(file: tifffile.TiffFile) -> str | None:
    """Return the vendor whose layout the file has, None for one that is read here."""
    return next((name for name in _VENDORS if getattr(file, f"is_{name}", False)), None)


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF file.

    Raises
    ------
    ReadError
        If its header or first directory cannot be read.
    """
    try:
        return tifffile.TiffFile(path, _multifile=False)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror or error}.", hint="Is it a file?") from error
    except Exception as error:
        raise ReadError(
            f"{path}: not a TIFF file that can be read: {error}.", hint="Is the copy complete?"
        ) from error


def read_layout(file: tifffile.TiffFile, label: str) -> TiffLayout:
    """Return the levels and the calibration of an open TIFF file.

    Level 0 is the first image. Lower levels are its SubIFDs, or further pages of the same shape
    that are marked as reduced (for Aperio files: all tiled pages).

    Parameters
    ----------
    file : tifffile.TiffFile
    label : str
        What messages call the slide: its path.

    Raises
    ------
    ReadError
        If its layout is a vendor's own, or its pixels are of another type than 8-bit RGB.
    """
    vendor = vendor_of(file)
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
    pixel_size, power = _calibration(file)
    return TiffLayout(tuple(pages), planes, pixel_size, power)


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
    width, height = segment_size(page)
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
