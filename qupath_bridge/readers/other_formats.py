"""Formats that QuPath reads with Bio-Formats and no reader here does: named in the refusal."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CONVERT", "other_format"]

CONVERT = (
    "Convert it to OME-TIFF, with QuPath's *Export as OME-TIFF* or `bfconvert` of Bio-Formats, "
    "and use that file in QuPath."
)

_STARTS = {
    b"ZISRAWFILE": "CZI of Zeiss",
    b"\xda\xce\xbe\x0a": "ND2 of Nikon",
    b"OLYMPUSRAWFORMAT": "OIR of Olympus",
}
_ENDINGS = {
    ".czi": "CZI of Zeiss",
    ".ims": "IMS of Imaris",
    ".lif": "LIF of Leica",
    ".lsm": "LSM of Zeiss",
    ".nd2": "ND2 of Nikon",
    ".oib": "OIB of Olympus",
    ".oif": "OIF of Olympus",
    ".vsi": "VSI of Olympus",
    ".zarr": "OME-Zarr",
}


def other_format(path: Path) -> str | None:
    """Return the name of a format that no reader here reads, None for others."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:  # a folder
        head = b""
    named = (name for start, name in _STARTS.items() if head.startswith(start))
    return next(named, _ENDINGS.get(path.suffix.lower()))
