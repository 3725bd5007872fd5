"""The pages of a TIFF file that are the levels, planes and channels of its image.

The order is that in which QuPath shows them: Bio-Formats' for OME-TIFF, QPTIFF and plain files,
ImageJ's for files that ImageJ wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import tifffile

from qupath_bridge.errors import ReadError

from .ome_xml import OmeImage
from .tiff_calibration import page_element
from .tile_table import PagePart, is_raw, row_bytes

__all__ = ["Stack", "find_stack"]

MAX_PAGES = 1 << 20
"""The most pages of further images: a damaged number could ask for more than any memory."""

_SEVERAL_FILES = "Images spread over several files cannot be read; join them into one OME-TIFF."
_CUT_SHORT = "Is the copy complete?"
_IMAGEJ_INFO = ("Software", "DateTime", "Artist", "HostComputer")


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The pages of an image.

    Attributes
    ----------
    levels : tuple of tuples of PagePart
        Finest first; of each level all planes one after the other, time points slowest, then z
        slices, then the pages of one plane in the order of its channels.
    planes : (int, int)
        Number of z slices and time points.
    names : tuple of (str or None), or None
        What the file calls its channels, None for one without a name; None if it names none.
    """

    levels: tuple[tuple[PagePart, ...], ...]
    planes: tuple[int, int]
    names: tuple[str | None, ...] | None = None

    @property
    def pages_per_plane(self) -> int:
        """Number of pages of one plane of a level."""
        z, t = self.planes
        return len(self.levels[0]) // (z * t)


def find_stack(file: tifffile.TiffFile, ome: OmeImage | None, label: str) -> Stack:
    """Return the pages of the image of an open TIFF file.

    Of an OME-TIFF it is the first image, with its SubIFDs as lower levels; of a QPTIFF the pages
    of level 0, each a channel, and those of lower levels. Of other files all pages like the first
    are time points; lower levels are their SubIFDs, or pages that are marked as reduced (for
    Aperio files: all tiled pages). What ImageJ wrote says itself what its pages are.

    Parameters
    ----------
    file : tifffile.TiffFile
    ome : OmeImage or None
        What its OME-XML says, None if it has none.
    label : str
        What messages call the slide.

    Raises
    ------
    ReadError
        If pages are missing, or they are arranged in another way.
    """
    if ome is not None:
        return _ome_stack(file, ome, label)
    if file.is_imagej:
        return _imagej_stack(file, label)
    return _qptiff_stack(file) if file.is_qpi else _plain_stack(file)


def _ome_stack(file: tifffile.TiffFile, ome: OmeImage, label: str) -> Stack:
    wanted, there = ome.page_count, len(file.pages)
    if wanted <= there < MAX_PAGES < ome.pages_of_all:
        wanted = ome.pages_of_all
    if wanted > there:
        raise ReadError(
            f"{label}: the OME-TIFF names {wanted} planes, the file has {there}.",
            hint=_SEVERAL_FILES,
        )
    series = file.series[0]
    if series.kind.lower() != "ome":
        raise ReadError(
            f"{label}: the planes of the OME-TIFF are not in this file.", hint=_SEVERAL_FILES
        )
    lengths = dict(zip(series.axes, series.shape, strict=True))
    axes = [axis for axis in series.axes if axis not in "YXS"]
    if not set(axes) <= set("TZC") or not series.axes.endswith(("YX", "YXS", "SYX")):
        found = ", ".join(f"{axis} = {n}" for axis, n in lengths.items())
        raise ReadError(
            f"{label}: the OME-TIFF image has the axes {found}.",
            hint="Channels C, slices Z and times T of an image (Y, X) can be read, no other axes.",
        )
    numbers = np.arange(np.prod([lengths[axis] for axis in axes], dtype=int))
    numbers = numbers.reshape([lengths[axis] for axis in axes])
    numbers = numbers.transpose([axes.index(axis) for axis in "TZC" if axis in axes])
    levels = []
    for level in series.levels:
        pages = list(level.pages)
        if len(pages) != numbers.size or any(page is None for page in pages):
            raise ReadError(
                f"{label}: the OME-TIFF names {numbers.size} planes, the file has "
                f"{sum(page is not None for page in pages)}.",
                hint=_SEVERAL_FILES,
            )
        levels.append(tuple(PagePart(pages[number]) for number in numbers.ravel().tolist()))
    return Stack(tuple(levels), (lengths.get("Z", 1), lengths.get("T", 1)), _ome_names(ome))


def _ome_names(ome: OmeImage) -> tuple[str | None, ...]:
    """Return the names of channels as QuPath makes them of those in the OME-XML."""
    if all(channel.samples == 1 for channel in ome.channels):
        return tuple(channel.name for channel in ome.channels)
    names: list[str | None] = []
    for channel in ome.channels:
        name = (channel.name or "").strip()
        numbers = range(1, channel.samples + 1)
        names += [f"{name} {number}" if name else None for number in numbers]
    return tuple(names)


def _qptiff_stack(file: tifffile.TiffFile) -> Stack:
    pages: list[Any] = list(file.pages)
    first, count = pages[0], 1
    if first.samplesperpixel == 1:
        count = _run_length(pages)
    levels = [pages[:count]]
    for start in range(count + 1, len(pages) - count + 1, count):  # after a thumbnail
        group = pages[start : start + count]
        if not all(page.subfiletype & 1 for page in group) or not _is_level(group, levels):
            break
        levels.append(group)
    names = tuple(page_element(page, "Name") for page in levels[0])
    return Stack(_parts(levels), (1, 1), names)


def _imagej_stack(file: tifffile.TiffFile, label: str) -> Stack:
    said: Mapping[str, Any] = file.imagej_metadata or {}
    pages: list[Any] = list(file.pages)
    c, z, t = (_count(said.get(name)) for name in ("channels", "slices", "frames"))
    images = _count(said.get("images"))
    if len(pages) == 1 and images > 1:
        parts = _imagej_raw(file, pages[0], images, label)
    else:
        alike = _run_length(pages)
        parts = [PagePart(page) for page in pages[: alike if alike == len(pages) else 1]]
    if c * z * t != len(parts):
        c, z, t = 1, len(parts), 1
    names = _imagej_names(said, pages[0], c, file.filename) if z == t == 1 else None
    return Stack((tuple(parts),), (z, t), names)


def _imagej_raw(file: tifffile.TiffFile, page: Any, images: int, label: str) -> list[PagePart]:
    """Return the planes of a stack with one directory: plain values, one behind the other."""
    length = row_bytes(page) * page.imagelength
    length *= 1 if page.planarconfig == 1 else page.samplesperpixel
    if not is_raw(page):
        raise ReadError(
            f"{label}: ImageJ names {images} images, the file has one.", hint=_CUT_SHORT
        )
    end = page.dataoffsets[0] + images * length
    if end > file.filehandle.size:
        raise ReadError(
            f"{label}: the {images} images that ImageJ names take {end} bytes, the file has "
            f"{file.filehandle.size}.",
            hint=_CUT_SHORT,
        )
    return [PagePart(page, shift=number * length) for number in range(images)]


def _imagej_names(
    said: Mapping[str, Any], page: Any, count: int, title: str
) -> tuple[str | None, ...] | None:
    """Return the names that QuPath gives to the channels of one plane, by ImageJ's labels.

    The first lines of the labels, if each channel has one of its own. A single image without a
    label has the name of the file, if the file says anything of itself.
    """
    labels = said.get("Labels")
    labels = [labels] if isinstance(labels, str) else list(labels or ())
    if count == 1 and not labels:
        tells = said.get("Info") or any(page.tags.valueof(tag) for tag in _IMAGEJ_INFO)
        return (title,) if tells else None
    names = [(str(label).splitlines() or [""])[0] for label in labels]
    distinct = {name for name in names if name.strip()}
    return tuple(names) if len(names) == len(distinct) == count else None


def _plain_stack(file: tifffile.TiffFile) -> Stack:
    pages: list[Any] = list(file.pages)
    first = pages[0]
    if file.is_svs:
        planes, lower = [first], [[page] for page in pages[1:]]
    else:
        reduced = [page for page in pages[1:] if page.subfiletype & 1]
        others = [page for page in pages[1:] if not page.subfiletype & 1]
        planes = [first, *(page for page in others if _kind(page) == _kind(first))]
        below = [list(page.pages) if page.subifds else [] for page in planes]
        lower = [list(group) for group in zip(*below, strict=False)]
        lower += _groups(reduced, len(planes))
    levels = [planes]
    for group in lower:
        if len(group) == len(planes) and _is_level(group, levels):
            levels.append(group)
    return Stack(_parts(levels), (1, len(planes)))


def _groups(pages: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Yield pages as the levels of ``count`` planes: those of one kind that follow each other."""
    group: list[Any] = []
    for page in pages:
        if group and (len(group) == count or _kind(page) != _kind(group[0])):
            yield group
            group = []
        group.append(page)
    yield group


def _is_level(group: Sequence[Any], levels: Sequence[Sequence[Any]]) -> bool:
    """Return whether pages show what the first level shows, smaller than the last level."""
    first, last, page = levels[0][0], levels[-1][0], group[0]
    if any(_kind(a) != _kind(b) for a, b in pairwise(group)) or page.is_tiled != first.is_tiled:
        return False
    if page.imagewidth >= last.imagewidth or page.imagelength >= last.imagelength:
        return False
    across, down = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
    # Each side may have been cut or filled to whole pixels, at each halving.
    slack = 1 + 2 / min(page.imagewidth, page.imagelength)
    return bool(max(across, down) <= min(across, down) * slack)


def _kind(page: Any) -> tuple[Any, ...]:
    """Return what pages have in common that are planes of one level."""
    key = page.keyframe
    return key.imagewidth, key.imagelength, key.samplesperpixel, key.planarconfig, key.dtype


def _run_length(pages: Sequence[Any]) -> int:
    """Return how many pages from the first on are of one kind."""
    kind = _kind(pages[0])
    return next((n for n, page in enumerate(pages) if _kind(page) != kind), len(pages))


def _parts(levels: Iterable[Iterable[Any]]) -> tuple[tuple[PagePart, ...], ...]:
    return tuple(tuple(PagePart(page) for page in pages) for pages in levels)


def _count(value: Any) -> int:
    """Return a number of ImageJ's description, at least 1."""
    return max(value, 1) if isinstance(value, int) else 1
