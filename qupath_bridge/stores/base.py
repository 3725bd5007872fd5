"""What a store is: a place for bytes under names, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

__all__ = ["Store"]


@runtime_checkable
class Store(Protocol):
    """Bytes under relative names with ``/`` separators.

    ``put`` is all or nothing: whatever happens, a name shows its old bytes, its new bytes or
    nothing, never a part. Errors of the place (full, read-only, gone) come as OutputError.
    """

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Write ``data`` under ``name``, replacing what stands there."""
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
