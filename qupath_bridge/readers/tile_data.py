"""The encoded data of tiles, read from where the directory of a file says that they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.stores.files import RangeFile
from qupath_bridge.stores.ranges import AT_ONCE, LARGEST, Part, Parts, coalesced
from qupath_bridge.timing import step
from qupath_bridge.urls import url_of

from .base import Fingerprint
from .fingerprints import file_fingerprint
from .in_place import SlideObject, slide_object
from .tiff_layout import open_tiff
from .tile_decoders import MAX_GROWTH
from .tile_table import NOT_LISTED, TileTable

__all__ = ["TileData", "open_tile_data"]

SPARE_BYTES = 1 << 20
"""The data of a tile is longer than its pixels at most by this and :data:`MAX_GROWTH`."""

WINDOW = AT_ONCE * LARGEST
"""Bytes that are fetched together, tiles and what is between them, and kept until the next ones
are: 32 MiB. Only a tile alone can be larger."""

MOST_EXPECTED = 4096
"""Tiles that are announced at once; a picture of a whole slide may need any number."""


class Bytes(Protocol):
    """The bytes of an open slide, here or elsewhere."""

    @property
    def in_place(self) -> bool:
        """True if they are elsewhere, and come from there."""
        ...

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Marks of this slide, other ones after a change."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the slide as it is now."""
        ...

    def check(self) -> None:
        """Raise the ReadError of a read that failed, whoever caught it."""
        ...

    def close(self) -> None:
        """Let go of what is held in memory."""
        ...

    def expect(self, parts: Iterable[Part]) -> None:
        """Take note of what will be read, in the order in which it will be."""
        ...

    def read(self, part: Part) -> bytes:
        """Return bytes; fewer where the file ends."""
        ...


class LocalBytes:
    """The bytes of a file of this machine, with the handle that tifffile has of it."""

    in_place = False

    def __init__(self, path: Path, handle: Any) -> None:
        self._path, self._handle = path, handle
        self.size = int(handle.size)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Numbers of the file."""
        state = os.fstat(self._handle.fileno())
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file as it is now."""
        return file_fingerprint(self._path)

    def check(self) -> None:
        """Do nothing: whoever reads a file sees the error."""

    def close(self) -> None:
        """Do nothing: the handle is that of tifffile."""

    def expect(self, parts: Iterable[Part]) -> None:
        """Do nothing, and do not even look at what it is: a read waits for no answer."""

    def read(self, part: Part) -> bytes:
        """Return bytes; fewer where the file ends."""
        offset, count = part
        try:
            return read_at(self._handle, count, offset)
        except OSError as error:
            raise ReadError(
                f"{self._path}: {error.strerror or error}.", hint="Is the drive still connected?"
            ) from error


class RangeBytes:
    """The bytes of a slide in object storage.

    Who says before what will be read gets it in few requests: then a read asks for what comes
    next, too, up to :data:`WINDOW` bytes, which is all that is kept, and waits for its own.
    """

    in_place = True

    def __init__(self, slide: SlideObject) -> None:
        self._of: SlideObject | None = slide
        self._failure: ReadError | None = None
        self._places: dict[Part, int] = {}
        self._expected: Sequence[Part] = ()
        self._asked = 0
        self._window: frozenset[Part] = frozenset()
        self._held: Parts | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="qupath-bridge-ranges")
        self.size = slide.size

    @property
    def _slide(self) -> SlideObject:
        if self._of is None:
            raise ReadError("The slide is closed.", hint="Open it again to read it.")
        return self._of

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Place and version."""
        return (self._slide.identity,)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the object as it is now."""
        return self._slide.fingerprint

    def open(self) -> BinaryIO:
        """Return a file for reading header and directories."""
        return cast(BinaryIO, RangeFile(self.size, self._read_header))

    def check(self) -> None:
        """Raise the error of a read of the header, which tifffile may have caught."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Let go of header and tiles; tifffile's objects, which point here, may live on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._of, self._held, self._window = None, None, frozenset()
        self._expected, self._places = (), {}

    def expect(self, parts: Iterable[Part]) -> None:
        """Say what will be read, in the order in which it will be."""
        found = dict.fromkeys(parts)
        if all(p in self._window or self._places.get(p, -1) >= self._asked for p in found):
            return  # the tiles of one box of a batch that was announced whole
        self._expected = tuple(found)
        self._places = {part: number for number, part in enumerate(self._expected)}
        self._asked = 0

    def read(self, part: Part) -> bytes:
        """Return bytes that are inside the object."""
        if self._held is not None and part in self._window:
            return self._held.get(part)
        if self._places.get(part, -1) < self._asked:  # nobody said so, or it was given away
            return self._slide.parts([part], self._pool).get(part)
        begin = self._places[part]
        window = self._expected[begin : begin + MOST_EXPECTED]
        while len(window) > 1 and sum(n for _, n in coalesced(window)) > WINDOW:
            window = window[: len(window) // 2]  # with what is between its parts, too
        self._asked = begin + len(window)
        self._held = None  # before what comes next takes memory
        self._window = frozenset(window)
        self._held = self._slide.parts(window, self._pool)
        return self._held.get(part)

    def _read_header(self, offset: int, count: int) -> bytes:
        try:
            return self._slide.header(offset, count)
        except ReadError as error:
            self._failure = error
            raise


class TileData:
    """The data of the tiles of an open file.

    Parameters
    ----------
    source : Bytes
    """

    def __init__(self, source: Bytes) -> None:
        self._source = source

    @property
    def in_place(self) -> bool:
        """True for a slide that is read where it is, in object storage."""
        return self._source.in_place

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Marks of this file, other ones after a change."""
        return self._source.identity

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the slide as it is now."""
        return self._source.fingerprint

    def check(self) -> None:
        """Raise the ReadError of a read that failed, whoever caught it."""
        self._source.check()

    def close(self) -> None:
        """Let go of what is held in memory."""
        self._source.close()

    def expect(self, tiles: Iterable[tuple[TileTable, int]]) -> None:
        """Say which tiles will be read, in their order: those of object storage come together."""
        self._source.expect(
            (offset, count)
            for table, index in islice(tiles, MOST_EXPECTED)
            for offset, count in zip(
                table.offsets[:, index].tolist(), table.counts[:, index].tolist(), strict=True
            )
            if count and self._fault(table, offset, count) is None
        )

    def read(self, table: TileTable, sample: int, index: int) -> bytes:
        """Read the data of a tile.

        Raises
        ------
        ValueError
            If the directory says what cannot be, or the file ends too early.
        ReadError
            If the drive or the store fails.
        """
        offset, count = int(table.offsets[sample, index]), int(table.counts[sample, index])
        fault = self._fault(table, offset, count)
        if fault is not None:
            raise ValueError(fault)
        with step("read"):
            data = self._source.read((offset, count))
        if len(data) < count:
            raise ValueError(f"the file ends {count - len(data)} bytes too early")
        return data

    def _fault(self, table: TileTable, offset: int, count: int) -> str | None:
        """Return what is wrong with what the directory says of a tile, None if nothing is."""
        if offset == NOT_LISTED:
            return "the file's directory does not list it"
        if offset + count > self._source.size:
            return f"the file ends {offset + count - self._source.size} bytes too early"
        size = table.tile[0] * table.tile[1] * table.samples * table.dtype.itemsize
        if count > size * MAX_GROWTH + SPARE_BYTES:
            return f"the file's directory says that it has {count} bytes"
        return None


def read_at(handle: Any, count: int, offset: int) -> bytes:
    """Read bytes at a place of an open file; fewer where the file ends."""
    if sys.platform == "win32":
        handle.seek(offset)
        return bytes(handle.read(count))
    return os.pread(handle.fileno(), count, offset)


def open_tile_data(path: Path) -> tuple[tifffile.TiffFile, TileData]:
    """Open a TIFF file of this machine, or one in object storage by its URL.

    Raises
    ------
    ReadError
        If its header or first directory cannot be read.
    """
    if url_of(path) is None:
        file = open_tiff(path)
        return file, TileData(LocalBytes(path, file.filehandle))
    ranges = RangeBytes(slide_object(path))
    file = open_tiff(path, ranges.open())
    return file, TileData(ranges)
