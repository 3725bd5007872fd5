"""Files that are read wherever they are: on this machine, or in a store, by ranges of bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from qupath_bridge.timing import tally
from qupath_bridge.urls import BUCKET_PARTS, url_of

from . import open_store
from .base import Store

__all__ = [
    "ListedFiles",
    "RangeFile",
    "file_state",
    "files_in",
    "is_object",
    "open_binary",
    "store_of",
]


class RangeFile(io.RawIOBase):
    """Ranges of bytes as a file for reading.

    Parameters
    ----------
    size : int
        Bytes of all.
    read : callable
        Returns the bytes of an offset and a count, all of them; called once per read of the file.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read = size, read
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the place of the next read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes."""
        left = max(self._size - self._at, 0)
        count = left if size is None or size < 0 else min(size, left)
        data = self._read(self._at, count) if count else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def store_of(path: Path) -> tuple[Store, str] | None:
    """Return the store of the folder of a URL, and the name in it; None for files of this machine.

    Raises
    ------
    OutputError
        If the URL is not complete.
    """
    url = url_of(path)
    if url is None:
        return None
    folder, _, name = url.rpartition("/")
    return open_store(folder), name


def is_object(path: Path) -> bool:
    """Return whether there is an object at a URL, and not only a folder or bucket."""
    place = store_of(path) if len(path.parts) > BUCKET_PARTS else None
    return place is not None and place[0].exists(place[1])


def open_binary(path: Path) -> BinaryIO:
    """Open a file or an object for reading. Of an object each read is a request.

    That is for headers and small files: what comes is counted as such.
    """
    place = store_of(path)
    if place is None:
        return path.open("rb")
    store, name = place

    def read(offset: int, count: int) -> bytes:
        tally({"header_requests": 1, "header_bytes": count})
        return store.get_range(name, offset, count)

    return cast(BinaryIO, RangeFile(store.size(name), read))


def file_state(path: Path) -> tuple[int, int]:
    """Return the size of a file or object, bytes, and when it was changed, ns."""
    place = store_of(path)
    if place is None:
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    found = place[0].state(place[1])
    return found.size, found.modified_ns


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files or objects that are directly in a folder; those of a store are sorted.

    A folder of a store that does not exist has none.
    """
    url = url_of(folder)
    if url is None:
        yield from (path for path in folder.iterdir() if path.is_file())
        return
    # What is in its folders may be very much: the patches of a run, the data of a project.
    found = open_store(url).children()
    yield from (folder / name for name in found if not name.endswith("/"))


class ListedFiles:
    """Says which files there are: of a store each folder is listed once, when it is first needed.

    Objects that appear later are not seen. May be called from several threads.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def __call__(self, path: PurePath) -> bool:
        """Return whether there is a file or an object.

        Raises
        ------
        OutputError
            If a store cannot be listed.
        """
        folder = url_of(path.parent)
        if folder is None:
            return Path(path).exists()
        if folder not in self._names:
            self._names[folder] = frozenset(open_store(folder).children())
        return path.name in self._names[folder]
