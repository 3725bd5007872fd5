"""Check that a feature encoder was made for patches as a run has them."""

from __future__ import annotations

import math
from typing import Any

from qupath_bridge.codecs import Contents
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count
from qupath_bridge.sources.table_files import listed

from .encoders import EncoderDescription
from .layouts.base import RunRows, SlideRows, no_patches

__all__ = ["check_fit"]


def check_fit(run: RunRows, about: EncoderDescription) -> tuple[float, float]:
    """Check the patches of all slides; return the least and the greatest µm per pixel.

    Resolutions may differ by the part ``mpp_tolerance``: that of the run, or its default if that
    is more.

    Raises
    ------
    UsageError
        If patches are not RGB, have another size or resolution, or none is known; all slides with
        such patches are listed.
    """
    tolerance = max(run.config.mpp_tolerance, ExportConfig().mpp_tolerance)
    faults: list[str] = []
    found: list[float] = []
    for slide in run.slides():
        found += [mpp for mpp in _values(slide, "mpp") if mpp is not None]
        if fault := _fault(slide, about, tolerance):
            faults.append(f"{slide.slide_id}: {fault}")
    if faults:
        raise UsageError(
            listed(
                f"The encoder {about.name} takes {about.size} x {about.size} pixels of "
                f"{about.mpp:g} µm, RGB; {count(len(faults), 'slide')} with others",
                faults,
            ),
            hint=f"\nExport into another folder with the options size: {about.size} and mpp: "
            f"{about.mpp:g}, or use an encoder that fits.",
        )
    if not found:
        raise no_patches("a file of features", {})
    return min(found), max(found)


def _fault(slide: SlideRows, about: EncoderDescription, tolerance: float) -> str | None:
    """Return what does not fit."""
    kinds = [Contents(names) for names in _values(slide, "channels")]
    kinds += [Contents(dtype=dtype) for dtype in _values(slide, "dtype")]
    if any(not kind.is_rgb for kind in kinds):
        return "its pixels are not RGB of 8 bit; the option composite makes pictures of channels"
    sides = {*_values(slide, "width"), *_values(slide, "height")}
    if sides != {about.size}:
        return f"sides of {' and '.join(map(str, sorted(sides)))} pixels"
    resolutions = _values(slide, "mpp")
    if None in resolutions:
        return "its pixel size is not known; the option pixel_size gives it"
    wrong = [mpp for mpp in resolutions if not _is_near(mpp, about.mpp, tolerance)]
    return f"{' and '.join(f'{mpp:.4g}' for mpp in sorted(wrong)[:3])} µm" if wrong else None


def _is_near(mpp: float, wanted: float, tolerance: float) -> bool:
    """Return whether two resolutions differ by a part at most, rounding aside.

    >>> _is_near(0.51, 0.5, 0.02), _is_near(0.511, 0.5, 0.02), _is_near(0.25, 0.5, 0.02)
    (True, False, False)
    """
    return math.isclose(mpp, wanted, rel_tol=0, abs_tol=wanted * tolerance * (1 + 1e-9))


def _values(slide: SlideRows, name: str) -> list[Any]:
    """Return the values that a column has."""
    column = slide.table.column(name)
    if name == "channels":  # Arrow finds no unique lists
        return list({tuple(value) for value in column.to_pylist()})
    return list(column.unique().to_pylist())
