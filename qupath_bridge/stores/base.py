"""The protocol of a store: a place for bytes under names, each written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from qupath_bridge.errors import OutputError

__all__ = [
    "BufferedDraft",
    "Data",
    "Draft",
    "State",
    "Store",
    "check_same",
    "checked_name",
    "chunks_of",
    "replaced",
]

Data = bytes | memoryview | Iterable[bytes]
"""Content of a file: bytes, or pieces of them one after the other."""


@dataclass(frozen=True, slots=True)
class State:
    """Marks of the content of a name, others than those of earlier content.

    Attributes
    ----------
    size : int
        Bytes.
    tag : str
        Another one for other content: the ETag of an object.
    modified_ns : int
        When it was written, ns since 1970; 0 where the store does not know.
    """

    size: int
    tag: str
    modified_ns: int = 0


class Draft(Protocol):
    """A file that is being written and gets its name only when it is whole."""

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def publish(self, name: str, *, durable: bool = False) -> None:
        """Put the file under ``name``, as :meth:`Store.put` does. It cannot be written after."""
        ...

    def discard(self) -> None:
        """Forget the file. Idempotent, and without effect on one that was published."""
        ...


@runtime_checkable
class Store(Protocol):
    """Bytes under relative names with ``/`` separators. May be used from several threads.

    ``put`` is all or nothing: whatever happens, a name shows its old bytes, its new bytes or
    nothing, never a part. Errors of the place (full, read-only, gone) come as OutputError.

    A store can be pickled, and opens its place again; one in the memory of a process refuses that
    with UsageError.
    """

    @property
    def url(self) -> str:
        """The place, as ``open_store`` takes it."""
        ...

    @property
    def at_once(self) -> int:
        """Number of requests that are best made at the same time: 1 if each is answered at once."""
        ...

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write ``data`` under ``name``, replacing earlier content.

        A killed process loses nothing that was put. ``durable`` also protects it against a power
        cut, which costs a wait for the disk: for records that say what is finished.
        """
        ...

    def create(self, name: str, data: Data) -> bool:
        """Write ``data`` under ``name`` unless it exists; return False if it does.

        Of several that create one name at the same time exactly one gets True.
        """
        ...

    def draft(self, folder: str) -> Draft:
        """Begin a file that will get a name in ``folder`` (``""`` for the top)."""
        ...

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``; OutputError when there are none."""
        ...

    def get_range(self, name: str, offset: int, length: int, state: State | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` on; OutputError when there are fewer.

        With a ``state``, bytes of that content only; OutputError if it was replaced.
        """
        ...

    def size(self, name: str) -> int:
        """Return the number of bytes under ``name``; OutputError when there is nothing."""
        ...

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Return the number of bytes under each of some thousand names; None without anything."""
        ...

    def state(self, name: str) -> State:
        """Return what tells the bytes under ``name`` from others; OutputError without any."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is something under ``name``."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted, without unfinished files.

        Names may be deleted while they are listed.
        """
        ...

    def children(self, folder: str = "") -> Iterator[str]:
        """Yield the names of what is in a folder itself, sorted; those of folders end with ``/``.

        What is in these folders is not walked, however much it is. ``folder`` is ``""`` for the
        top, or ends with ``/``; one that is not there has nothing in it. A folder without files
        may be among them.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove ``name``; nothing happens where it does not exist."""
        ...

    def free_bytes(self) -> int | None:
        """Return how many bytes fit in, None if that is not known."""
        ...

    def sweep(self) -> int:
        """Remove files of killed writers; return their number.

        Unfinished files of running writers would be removed too: call it while nobody else writes.
        """
        ...


class BufferedDraft:
    """A draft in memory, for stores that cannot write a file without its name.

    Parameters
    ----------
    store : Store
        Where it is put when it is published.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = io.BytesIO()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._buffer.write(data)

    def publish(self, name: str, *, durable: bool = False) -> None:
        """Put the file under ``name``."""
        self._store.put(name, self._buffer.getvalue(), durable=durable)
        self._buffer.close()

    def discard(self) -> None:
        """Forget the file."""
        self._buffer.close()


def replaced(shown: str) -> OutputError:
    """Return the error for content that is not the one that was looked at before."""
    return OutputError(
        f"{shown} was replaced while it was read.",
        hint="Export again when nobody writes the slide.",
    )


def check_same(store: Store, name: str, state: State | None) -> None:
    """Raise OutputError if what is under a name has another state than was seen before."""
    if state is not None and store.state(name).tag != state.tag:
        raise replaced(f"{store.url}/{name}")


def chunks_of(data: Data) -> Iterable[bytes | memoryview]:
    """Return the pieces of some content."""
    return (data,) if isinstance(data, (bytes, memoryview)) else data


def checked_name(name: str) -> str:
    """Return a name that stays inside its store, or raise OutputError.

    >>> checked_name("index/part-0.parquet")
    'index/part-0.parquet'
    """
    outside = ".." in name and ".." in name.split("/")
    if outside or name[:1] == "/" or "\\" in name or ":" in name or not name.strip("./"):
        raise OutputError(f"Invalid path {name!r}: must stay inside the output.")
    return name
