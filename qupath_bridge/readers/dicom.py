"""Pixel spacing of the levels of a DICOM slide, which OpenSlide states for level 0 only."""

from __future__ import annotations

import struct
from pathlib import Path

from .fingerprints import slide_files

__all__ = ["level_spacings"]

_HEADER_BYTES = 4 << 20
"""The spacing stands behind a colour profile, which may have a megabyte."""
# Explicit little-endian, as all compressed DICOM files are: tag, type, length.
_COLUMNS = b"\x48\x00\x06\x00UL\x04\x00"
_ROWS = b"\x48\x00\x07\x00UL\x04\x00"
_SPACING = b"\x28\x00\x30\x00DS"


def level_spacings(path: Path) -> dict[tuple[int, int], tuple[float, float]]:
    """Return mm per pixel along x and y of each file of a DICOM slide, by its size in pixels.

    Sizes that two files of different spacing have are left out, as are files that do not say.
    """
    found: dict[tuple[int, int], tuple[float, float]] = {}
    twice = set()
    for file in slide_files(path):
        with file.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
        columns, rows, spacing = _number(head, _COLUMNS), _number(head, _ROWS), _spacing(head)
        if not (columns and rows and spacing):
            continue
        if found.setdefault((columns, rows), spacing) != spacing:
            twice.add((columns, rows))
    return {size: spacing for size, spacing in found.items() if size not in twice}


def _number(head: bytes, tag: bytes) -> int | None:
    place = head.find(tag)
    if place < 0 or place + len(tag) + 4 > len(head):
        return None
    return int(struct.unpack_from("<I", head, place + len(tag))[0])


def _spacing(head: bytes) -> tuple[float, float] | None:
    place = head.find(_SPACING) + len(_SPACING)
    if place < len(_SPACING):
        return None
    length = int.from_bytes(head[place : place + 2], "little")
    try:
        # DICOM has the distance of rows first.
        y, x = (float(part) for part in head[place + 2 : place + 2 + length].split(b"\\"))
    except ValueError:
        return None
    return (x, y) if x > 0 and y > 0 else None
