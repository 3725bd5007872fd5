"""Pixel size and magnification that a TIFF file states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import tifffile

from .level_sizes import plausible_pixel_size, positive_number
from .ome_xml import OmeImage

__all__ = ["Calibration", "calibration", "page_element", "stated_downsample"]

Calibration = tuple[tuple[float, float] | None, float | None]
"""µm per pixel along x and y, and the objective power; None if the file does not say."""

_MICROMETRE_NAMES = ("um", "µm", "\u03bcm", r"\u00b5m", "micron", "microns")
_IMAGEJ_MICROMETRES = {**dict.fromkeys(_MICROMETRE_NAMES, 1.0), "nm": 1e-3, "mm": 1e3}
_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch and cm, in µm


def calibration(file: tifffile.TiffFile, ome: OmeImage | None) -> Calibration:
    """Return µm per pixel and the objective power, where the file says them."""
    if ome is not None:
        return ome.pixel_size, ome.objective_power
    page: Any = file.pages[0]
    if file.is_svs:
        said = [part.partition("=") for part in page.description.split("|")]
        fields = {key.strip(): positive_number(value) for key, _, value in said}
        mpp = fields.get("MPP")
        return None if mpp is None else (mpp, mpp), fields.get("AppMag")
    if file.is_imagej:
        return _imagej_pixel_size(file.imagej_metadata or {}, page) or _resolution(page), None
    if file.is_qpi:
        objective = page_element(page, "Objective") or ""
        return _resolution(page), positive_number(objective.lower().replace("x", ""))
    return _resolution(page), None


def page_element(page: Any, tag: str) -> str | None:
    """Return the text of an element of the XML that a page of a QPTIFF file has, if it has it."""
    try:
        # The files say UTF-16 and have UTF-8.
        root = ElementTree.fromstring(page.description.strip().replace("utf-16", "utf-8"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return None
    return root.findtext(tag)


def stated_downsample(first: Any, page: Any) -> float | None:
    """Return the downsample of a page from its resolution and that of the first."""
    tags = [
        (each.tags.valueof("XResolution"), each.tags.valueof("YResolution"))
        for each in (first, page)
    ]
    values = [above / below for pair in tags for above, below in filter(None, pair) if below]
    if len(values) < 4 or not all(values):
        return None
    return float(values[0] / values[2] + values[1] / values[3]) / 2


def _imagej_pixel_size(metadata: Mapping[str, Any], page: Any) -> tuple[float, float] | None:
    """Return µm per pixel in the unit of ImageJ's own description; TIFF has no unit for that."""
    units = metadata.get("unit"), metadata.get("yunit", metadata.get("unit"))
    return _pixel_size(page, [_IMAGEJ_MICROMETRES.get(str(unit).lower()) for unit in units])


def _resolution(page: Any) -> tuple[float, float] | None:
    """Return µm per pixel in TIFF's own unit, if it is plausible."""
    unit = _RESOLUTION_UNIT.get(int(page.tags.valueof("ResolutionUnit", 2)))
    size = _pixel_size(page, [unit, unit])
    return None if size is None else plausible_pixel_size(*size)


def _pixel_size(page: Any, units: Sequence[float | None]) -> tuple[float, float] | None:
    """Return µm per pixel from the resolution tags, whose units along x and y are given in µm."""
    values = [page.tags.valueof(f"{axis}Resolution") for axis in "XY"]
    if None in units or any(value is None or 0 in value for value in values):
        return None
    x, y = (unit * below / above for unit, (above, below) in zip(units, values, strict=True))
    return x, y
