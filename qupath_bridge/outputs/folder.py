"""One file a patch, through a store."""

from __future__ import annotations

from qupath_bridge.stores.base import Store

from .base import PatchFile

__all__ = ["FolderSink"]


class FolderSink:
    """Writes each patch as a file of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: list[str] = []

    def begin(self, slide_id: str) -> None:
        """Get ready for a slide."""
        self._written = []

    def write(self, patch: PatchFile, payload: bytes) -> None:
        """Write one patch."""
        # Noted first: a write that fails half-way is taken back with the others.
        self._written.append(patch.path)
        self._store.put(patch.path, payload)

    def commit(self, slide_id: str) -> None:
        """Let the written files stand."""
        self._written = []

    def abort(self, slide_id: str) -> None:
        """Remove the files of this slide."""
        for path in self._written:
            self._store.delete(path)
        self._written = []
