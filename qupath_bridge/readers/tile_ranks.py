"""The choice of the tile reader for a file: how well it knows it."""

from __future__ import annotations

from pathlib import Path

import tifffile

from .other_formats import other_format
from .tiff_layout import has_tiff_header, open_tiff, read_layout, vendor_of
from .tile_decoders import means_markers

__all__ = ["rank_tiff"]


def rank_tiff(path: Path) -> int:
    """Return 3 for Aperio's TIFF, 2 for one without a vendor's layout, 0 for other vendors'.

    0 also for files whose image is elsewhere, or has its own order of pages: VSI, LSM.

    1 for an Aperio file that OpenSlide shows differently, and for a TIFF file whose first
    directory cannot be read, so that opening it says why.
    """
    if not has_tiff_header(path) or other_format(path) is not None:
        return 0
    try:
        with open_tiff(path) as file:
            if vendor_of(file) is not None:
                return 0
            return _rank_aperio(file, path) if file.is_svs else 2
    except Exception:  # noqa: BLE001  # damaged files raise whatever they raise
        return 1


def _rank_aperio(file: tifffile.TiffFile, path: Path) -> int:
    """Return 3 for an Aperio file whose pixels here are those of OpenSlide, else 1.

    OpenSlide fills missing tiles from other levels, and takes no note of JFIF markers.
    """
    pages = [parts[0].page for parts in read_layout(file, str(path)).levels]
    filled = all(min(page.databytecounts) > 0 for page in pages)
    return 3 if filled and not any(means_markers(page.keyframe) for page in pages) else 1
