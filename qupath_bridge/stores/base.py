"""What a store is: a place for bytes under names, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from qupath_bridge.errors import OutputError

__all__ = ["Data", "Store", "checked_name", "chunks_of"]

Data = bytes | memoryview | Iterable[bytes]
"""What can be put: bytes, or pieces of them one after the other."""


@runtime_checkable
class Store(Protocol):
    """Bytes under relative names with ``/`` separators. May be used from several threads.

    ``put`` is all or nothing: whatever happens, a name shows its old bytes, its new bytes or
    nothing, never a part. Errors of the place (full, read-only, gone) come as OutputError.
    """

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write ``data`` under ``name``, replacing what stands there.

        A killed process loses nothing that was put. ``durable`` also holds it against a power
        cut, which costs a wait for the disk: meant for the records that say what is finished.
        """
        ...

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``; OutputError when there are none."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is something under ``name``."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted; half-written ones never."""
        ...

    def delete(self, name: str) -> None:
        """Remove ``name``; nothing happens where it does not exist."""
        ...

    def sweep(self) -> int:
        """Remove what killed writers left behind; return how many pieces that were."""
        ...


def chunks_of(data: Data) -> Iterable[bytes | memoryview]:
    """Return the pieces of what is put."""
    return (data,) if isinstance(data, bytes | memoryview) else data


def checked_name(name: str) -> str:
    """Return a name that stays inside its store, or raise OutputError.

    >>> checked_name("index/part-0.parquet")
    'index/part-0.parquet'
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise OutputError(f"{name!r} is no name inside the output.")
    return name
