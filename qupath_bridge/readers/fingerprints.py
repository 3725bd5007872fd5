"""Fingerprints: what tells the files of one slide from those of another, in a few reads."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import xxhash

from qupath_bridge.errors import OutputError, ReadError
from qupath_bridge.stores.files import file_state, files_in, open_binary
from qupath_bridge.urls import url_of

from .base import Fingerprint

__all__ = ["file_fingerprint", "fingerprint_of", "slide_files"]

_MIB = 1 << 20
_DIRECTORY_BYTES = 64 << 10
_COMPANION_BYTES = 64 << 10
_DICOM_ENDINGS = (".dcm", ".dicom", "")
_DICOM_MARK = (128, b"DICM")
_SERIES_TAG = b"\x20\x00\x0e\x00UI"
"""SeriesInstanceUID in the explicit little-endian form that compressed DICOM files have."""

_HAMAMATSU = (".vms", ".vmu")
_HAMAMATSU_BYTES = 64 << 10
"""OpenSlide reads no index of a Hamamatsu slide that is larger."""
_HAMAMATSU_FILE = re.compile(
    rb"^(?:ImageFile|MapFile|OptimisationFile|MacroImage)[^=\r\n]*=[ \t]*([^\r\n]*?)[ \t]*$", re.M
)
"""``ImageFile(1,0)=name.jpg``: the keys with names of files, as OpenSlide knows them."""


def file_fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a slide from all its files, as they are now.

    Parameters
    ----------
    path : path
        The file that is opened, or its URL: then the same parts are read from the object.

    Returns
    -------
    Fingerprint
        Of one file: its size, and an xxh3_128 over the first and the last MiB and the TIFF
        directory. Of several (see :func:`slide_files`): the sum of the sizes, and an xxh3_128
        over the sorted digests of all, so that their names do not count.

    Raises
    ------
    ReadError
        If a file cannot be read.
    """
    path = Path(path)
    try:
        files = slide_files(path)
        found = [_fingerprint(path, _MIB)]
        found += [_fingerprint(file, _COMPANION_BYTES) for file in files if file != path]
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}.", hint="Is the file still there?") from error
    except OutputError as error:  # of a slide in object storage
        raise ReadError(error.message, hint=error.hint, may_heal=error.may_heal) from error
    if len(found) == 1:
        return found[0]
    digest = xxhash.xxh3_128("".join(sorted(one.digest for one in found)).encode())
    return Fingerprint(
        sum(one.size for one in found),
        digest.hexdigest(),
        max(one.mtime_ns for one in found),
    )


def slide_files(path: Path) -> tuple[Path, ...]:
    """Return all files of a slide, sorted.

    A MIRAX slide has a folder of its name, a DICOM slide the other files of its series in the
    same folder, and a Hamamatsu VMS or VMU slide the files in the same folder that it names.
    Every other slide is the one file that is named.

    Raises
    ------
    OSError, OutputError
        If a file or folder cannot be read; that of object storage is an OutputError.
    """
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and (url_of(folder) or folder.is_dir()):
        return tuple(sorted([path, *files_in(folder)]))
    if path.suffix.lower() in _HAMAMATSU:
        return tuple(sorted({path, *_named_files(path)}))
    series = _dicom_series(path)
    if series is None:
        return (path,)
    beside = (file for file in files_in(path.parent) if file != path)
    return tuple(sorted([path, *(file for file in beside if _dicom_series(file) == series)]))


def fingerprint_of(file: BinaryIO, size: int, mtime_ns: int, piece: int = _MIB) -> Fingerprint:
    """Return the fingerprint of one open file, of which only some parts are read.

    Parameters
    ----------
    file : file for reading
        At its start.
    size : int
        Bytes.
    mtime_ns : int
        When it was written, ns since 1970.
    piece : int
        Bytes at the start and at the end that count.
    """
    digest = xxhash.xxh3_128(file.read(piece))
    file.seek(max(size - piece, 0))
    digest.update(file.read(piece))
    digest.update(_first_directory(file))
    return Fingerprint(size, digest.hexdigest(), mtime_ns)


def _fingerprint(path: Path, piece: int) -> Fingerprint:
    size, mtime_ns = file_state(path)
    with open_binary(path) as file:
        return fingerprint_of(file, size, mtime_ns, piece)


def _first_directory(file: BinaryIO) -> bytes:
    """Return the bytes at a TIFF file's first directory; nothing for other files."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return b""
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        return b""
    (offset,) = struct.unpack_from(
        f"{order}{'I' if version == 42 else 'Q'}", head, 4 * (version - 41)
    )
    if offset >= file.seek(0, 2):
        return b""
    file.seek(offset)
    return file.read(_DIRECTORY_BYTES)


def _named_files(path: Path) -> Iterator[Path]:
    """Yield the files in its folder that the index of a Hamamatsu slide names."""
    with open_binary(path) as file:
        content = file.read(_HAMAMATSU_BYTES)
    known = set(files_in(path.parent)) if url_of(path) else None
    for name in _HAMAMATSU_FILE.findall(content.replace(b"\r", b"\n")):
        # What leads out of the folder does not belong to the slide.
        if not re.search(rb"[/\\\0]", name):
            named = path.parent / os.fsdecode(name)
            if named in known if known is not None else named.is_file():
                yield named


def _dicom_series(path: Path) -> bytes | None:
    """Return the series that a DICOM file belongs to, None for other files."""
    if url_of(path) and path.suffix.lower() not in _DICOM_ENDINGS:
        return None  # it costs a request for each object of the folder
    with open_binary(path) as file:
        head = file.read(_DIRECTORY_BYTES)
    place, mark = _DICOM_MARK
    tag = head.find(_SERIES_TAG)
    if head[place : place + len(mark)] != mark or tag < 0:
        return None
    start = tag + len(_SERIES_TAG) + 2
    (length,) = struct.unpack_from("<H", head, start - 2)
    return head[start : start + length].rstrip(b"\0 ")
