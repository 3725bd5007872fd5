"""A store in memory: for tests, and for results that are handed on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from qupath_bridge.errors import OutputError

from .base import Data, checked_name, chunks_of

__all__ = ["MemoryStore"]


class MemoryStore:
    """Bytes by name, gone with the process."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Keep ``data`` under ``name``."""
        whole = b"".join(chunks_of(data))
        with self._lock:
            self._data[checked_name(name)] = whole

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``."""
        try:
            return self._data[checked_name(name)]
        except KeyError:
            raise OutputError(f"There is nothing under {name}.") from None

    def exists(self, name: str) -> bool:
        """Return whether there is something under ``name``."""
        return checked_name(name) in self._data

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted."""
        with self._lock:
            names = sorted(name for name in self._data if name.startswith(prefix))
        yield from names

    def delete(self, name: str) -> None:
        """Remove ``name``."""
        with self._lock:
            self._data.pop(checked_name(name), None)

    def sweep(self) -> int:
        """Find nothing: a write in memory cannot be cut off."""
        return 0
