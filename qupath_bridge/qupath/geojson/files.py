"""Files that hold GeoJSON: plain, packed by gzip, or several in a zip archive."""

from __future__ import annotations

import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol

from qupath_bridge.regular_files import open_regular

__all__ = ["ENDINGS", "MAX_BYTES", "UNREADABLE", "Entry", "open_entries"]

MAX_BYTES = 1 << 30
"""Largest text that is read, after decompression, bytes: about two million cells."""

MAX_RATIO = 100
"""Text per packed byte beyond :data:`FREE_BYTES`. An indented grid of equal boxes reaches 50; a
file that is made to fill the memory reaches 1,000."""

FREE_BYTES = 1 << 26
"""Text that any packed file may hold, bytes."""

MAX_ENTRIES = 10_000
"""Most files in an archive."""

ENDINGS = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")
"""Endings of the files that may hold GeoJSON, in lower case."""

UNREADABLE = (
    OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
"""Exceptions of reading an entry that is damaged, encrypted or too large."""

_CHUNK = 1 << 20


class Entry(NamedTuple):
    """One text: its name in the archive, empty for a file of its own, and how it is read."""

    name: str
    read: Callable[[], bytes]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def open_entries(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[list[Entry]]:
    """Open a file, and give the texts in it; of an archive those that end like GeoJSON.

    What macOS adds to an archive (``__MACOSX/``, ``._name``) is left out.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Largest text, after decompression; a packed file may hold less, see :data:`MAX_RATIO`.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        If it cannot be opened, is not a regular file, or has too many entries.
    """
    name = path.name.lower()
    with open_regular(path) as file:
        if name.endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                yield [
                    Entry(info.filename, partial(_archived, archive, info, max_bytes))
                    for info in _wanted(archive)
                ]
        else:
            packed = name.endswith(".gz")
            limit = _limit(os.fstat(file.fileno()).st_size, max_bytes, packed)
            yield [Entry("", partial(_file, file, packed, limit))]


def _limit(size: int, max_bytes: int, packed: bool) -> int:
    return min(max_bytes, max(FREE_BYTES, size * MAX_RATIO)) if packed else max_bytes


def _wanted(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise ValueError(f"it has {len(infos)} entries, more than {MAX_ENTRIES}")
    found = sorted((i for i in infos if _is_geojson(i.filename)), key=lambda i: i.filename)
    if not found:
        raise ValueError("no file in it ends in .geojson or .json")
    return found


def _is_geojson(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
        return False
    return name.lower().endswith(ENDINGS[:-1])


def _file(file: BinaryIO, packed: bool, limit: int) -> bytes:
    if not packed:
        return _read(file, limit)
    with gzip.open(file) as stream:
        return _read(stream, limit)


def _archived(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> bytes:
    limit = _limit(info.compress_size, max_bytes, packed=True)
    with archive.open(info) as stream:
        if not info.filename.lower().endswith(".gz"):
            return _read(stream, limit)
        with gzip.open(stream) as unpacked:
            return _read(unpacked, limit)


def _read(stream: _Readable, limit: int) -> bytes:
    """Read to the end; a text that is too long is refused before it fills the memory."""
    chunks, length = [], 0
    while chunk := stream.read(min(_CHUNK, limit + 1 - length)):
        chunks.append(chunk)
        length += len(chunk)
        if length > limit:
            raise ValueError(f"it contains more than {limit} bytes of text")
    return b"".join(chunks)
