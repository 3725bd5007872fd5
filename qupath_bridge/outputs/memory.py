"""Patches kept in memory: for tests, and for results that are used at once."""

from __future__ import annotations

import threading

from .base import PatchFile

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps committed patches by path in ``patches``."""

    def __init__(self) -> None:
        self.patches: dict[str, bytes] = {}
        self._open: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def begin(self, slide_id: str) -> None:
        """Get ready for a slide."""
        self._open = {}

    def write(self, patch: PatchFile, payload: bytes) -> None:
        """Keep one patch until the slide is committed."""
        with self._lock:
            self._open[patch.path] = payload

    def commit(self, slide_id: str) -> None:
        """Count the patches of the slide as written."""
        self.patches.update(self._open)
        self._open = {}

    def abort(self, slide_id: str) -> None:
        """Forget the patches of this slide."""
        self._open = {}
