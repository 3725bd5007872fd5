"""Slides that are read where they are, in object storage: parts of one version of an object."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, cast
from weakref import WeakValueDictionary

from qupath_bridge.errors import ReadError
from qupath_bridge.stores.base import State, Store
from qupath_bridge.stores.files import RangeFile, store_of
from qupath_bridge.stores.ranges import Part, Parts, coalesced, fetch
from qupath_bridge.timing import tally
from qupath_bridge.urls import url_of

from .base import Fingerprint
from .fingerprints import fingerprint_of
from .staged import read_errors

__all__ = ["SlideObject", "slide_object"]

BLOCK = 64 << 10
"""Bytes that are read at least of a header: a directory of a TIFF file is not longer, as a rule."""

MOST_HEADER = 64 << 20
"""Bytes that are kept of a slide besides its pixels: the tables of a million tiles have 16 MB."""


class SlideObject:
    """One version of a slide in object storage. All readers of a process share it.

    What is not pixels (header, directories, what the fingerprint looks at) is kept, in blocks, so
    that it comes once.

    Parameters
    ----------
    path : Path
        URL of the slide.
    store : Store
    name : str
    state : State
        The version: whatever is read of another one is an error.
    """

    def __init__(self, path: Path, store: Store, name: str, state: State) -> None:
        self.path = path
        self.size = state.size
        self.suits: bool | None = None
        """True if the reader for slides in place is the right one; None before it was asked."""
        self.store, self._name, self._state = store, name, state
        self._blocks: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._fingerprint: Fingerprint | None = None

    @property
    def identity(self) -> Hashable:
        """Marks of this version, others than those of all other slides."""
        return url_of(self.path), self._state

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the object as it is now.

        Raises
        ------
        ReadError
            If it was replaced or removed.
        """
        with read_errors():
            now = self.store.state(self._name)
        if now != self._state:
            return slide_object(self.path, now).fingerprint
        if self._fingerprint is None:
            file = cast(BinaryIO, RangeFile(self.size, self.header))
            self._fingerprint = fingerprint_of(file, self.size, now.modified_ns)
        return self._fingerprint

    def header(self, offset: int, length: int) -> bytes:
        """Return bytes besides the pixels: from the blocks that are kept, or fetched into them.

        Raises
        ------
        ReadError
            If they cannot be read, or are too many to be kept.
        """
        blocks = range(offset // BLOCK, -(-(offset + length) // BLOCK))
        with self._lock:
            missing = [block for block in blocks if block not in self._blocks]
            if (len(self._blocks) + len(missing)) * BLOCK > MOST_HEADER:
                raise ReadError(
                    f"{url_of(self.path)}: its directories have more than {MOST_HEADER:,} bytes.",
                    hint="Let it be copied: fetch copy.",
                )
            if missing:
                self._keep(missing)
            whole = b"".join(self._blocks[block] for block in blocks)
        begin = offset - blocks.start * BLOCK
        return whole[begin : begin + length]

    def parts(self, wanted: Sequence[Part], pool: Executor) -> Parts:
        """Ask for parts of the pixels, in few requests; nothing of them is kept here.

        Parameters
        ----------
        wanted : sequence of Part
            Each once.
        pool : Executor

        Returns
        -------
        Parts
            Its ``get`` raises ReadError if the part cannot be read, or the slide was replaced or
            removed.
        """
        parts = fetch(self._read, wanted, pool)
        tally(
            {
                "pixel_requests": len(parts.asked),
                "pixel_bytes": parts.nbytes,
                "pixel_bytes_needed": sum(length for _, length in wanted),
            }
        )
        return parts

    def write_header(self, path: Path) -> None:
        """Write what is kept to a file of the slide's size, with holes for the rest."""
        with self._lock, path.open("wb") as file:
            file.truncate(self.size)
            for block, data in self._blocks.items():
                file.seek(block * BLOCK)
                file.write(data)

    def _keep(self, blocks: Sequence[int]) -> None:
        parts = coalesced(
            (block * BLOCK, min(BLOCK, self.size - block * BLOCK)) for block in blocks
        )
        for offset, length in parts:
            data = self._read(offset, length)
            tally({"header_requests": 1, "header_bytes": length})
            for begin in range(0, length, BLOCK):
                self._blocks[(offset + begin) // BLOCK] = data[begin : begin + BLOCK]

    def _read(self, offset: int, length: int) -> bytes:
        with read_errors():
            return self.store.get_range(self._name, offset, length, self._state)


_shared: WeakValueDictionary[Hashable, SlideObject] = WeakValueDictionary()
_guard = threading.Lock()


def slide_object(path: Path, state: State | None = None) -> SlideObject:
    """Return the one object of this process for the version that a slide has now.

    Parameters
    ----------
    path : Path
        URL of the slide.
    state : State, optional
        Its state, if it was just asked for.

    Raises
    ------
    ReadError
        If there is no such object, or the store cannot be reached.
    """
    with read_errors():
        place = store_of(path)
        if place is None:
            raise AssertionError(path)
        store, name = place
        made = SlideObject(path, store, name, state or store.state(name))
    with _guard:
        shared = _shared.setdefault(made.identity, made)
    shared.store = store  # it may have newer credentials
    return shared
