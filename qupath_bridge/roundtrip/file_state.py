"""Detection of files that somebody else wrote to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.qupath.qpdata.reading import MAX_BYTES
from qupath_bridge.regular_files import read_regular

from .backups import content_digest

__all__ = ["FileState", "check_same_file", "check_unchanged", "contains"]

_SETTLED_NS = 3_000_000_000
"""Age of a file from which a write shows in its time of change, also on FAT (2 s)."""


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file at one moment.

    Attributes
    ----------
    identity : tuple or None
        Device, inode, size and time of change; None if there is no file.
    digest : str or None
        Of its bytes.
    seen : int
        When it was looked at, ns since 1970.
    """

    identity: tuple[int, int, int, int] | None
    digest: str | None
    seen: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a file: first at its facts, then at its bytes.

        Raises
        ------
        ProjectError
            If it cannot be read.
        """
        seen = time.time_ns()
        try:
            identity = _identity(path)
            digest = content_digest(read_regular(path, MAX_BYTES)) if identity else None
        except FileNotFoundError:
            identity = digest = None
        except OSError as error:
            raise ProjectError(f"cannot be read, {error.strerror or error}", path=path) from error
        return cls(identity, digest, seen)

    @property
    def settled(self) -> bool:
        """True if a write after the look shows in the facts: the file was old enough then."""
        return self.identity is not None and self.identity[3] + _SETTLED_NS < self.seen


def check_unchanged(path: Path, before: FileState, *, hint: str, reread: bool = True) -> FileState:
    """Return the state of a file now; refuse if its bytes are others than before.

    Without ``reread`` a file is not read again if its facts are the same and it is old enough.

    Raises
    ------
    OutputError
        If somebody wrote to it.
    """
    if not reread and before.settled and _identity(path) == before.identity:
        return before
    now = FileState.of(path)
    if now.digest != before.digest:
        raise _changed(path, hint)
    return now


def check_same_file(path: Path, before: FileState, *, hint: str) -> None:
    """Refuse a file whose facts are others than before: for the moment right before a rename.

    Raises
    ------
    OutputError
        If somebody wrote to it.
    """
    if _identity(path) != before.identity:
        raise _changed(path, hint)


def contains(path: Path, wanted: bytes) -> bool:
    """Return whether a file has these bytes somewhere; False if it cannot be read."""
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                if wanted in rest + block:
                    return True
                rest = block[-len(wanted) :]
    except OSError:
        pass  # said where the slide is read, if it has to be
    return False


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _changed(path: Path, hint: str) -> OutputError:
    return OutputError(f"{path} was changed by somebody else since it was read.", hint=hint)
