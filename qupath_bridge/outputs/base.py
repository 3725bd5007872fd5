"""What a sink is: where patches go."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["PatchFile", "Sink"]


class PatchFile(NamedTuple):
    """Where one patch goes: its id, and its place relative to the output."""

    patch_id: str
    path: str


@runtime_checkable
class Sink(Protocol):
    """Takes the encoded patches of one slide after the other.

    Between ``begin`` and ``commit`` nothing counts as written; ``abort`` takes back what was
    written since ``begin``. ``write`` may be called from several threads.
    """

    def begin(self, slide_id: str) -> None:
        """Get ready for a slide."""
        ...

    def write(self, patch: PatchFile, payload: bytes) -> None:
        """Write one encoded patch, all or nothing."""
        ...

    def commit(self, slide_id: str) -> None:
        """Make the patches of the slide last: all of them are written."""
        ...

    def abort(self, slide_id: str) -> None:
        """Leave nothing of a failed slide that could be taken for its result."""
        ...
