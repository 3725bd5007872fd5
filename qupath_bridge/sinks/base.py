"""What a sink is: where patches go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["PatchFile", "Sink"]


@dataclass(frozen=True, slots=True)
class PatchFile:
    """Where one patch goes: its id, its place relative to the output, and the slide it is of."""

    patch_id: str
    path: str
    slide_id: str


@runtime_checkable
class Sink(Protocol):
    """Takes encoded patches of one slide after the other.

    Between ``begin`` and ``commit`` nothing counts as written; ``abort`` takes back what can be
    taken back. ``write`` may be called from several threads.
    """

    def begin(self, slide_id: str) -> None:
        """Get ready for a slide."""
        ...

    def write(self, patch: PatchFile, payload: bytes) -> None:
        """Write one encoded patch, all or nothing."""
        ...

    def commit(self, slide_id: str) -> None:
        """All patches of the slide are written; make them last."""
        ...

    def abort(self, slide_id: str) -> None:
        """Leave nothing of a failed slide that could be taken for its result."""
        ...
