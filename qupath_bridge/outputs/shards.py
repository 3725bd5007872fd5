"""Files that hold many patches each: their size, and what is known while one is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from qupath_bridge.config.values import parse_bytes
from qupath_bridge.errors import OutputError, UsageError

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft

__all__ = ["DEFAULT_SIZE", "Shard", "check_whole", "parse_size"]

DEFAULT_SIZE = 256 * 10**6
"""Bytes of a shard, when nothing else is said."""


@dataclass(slots=True)
class Shard:
    """A file with many patches that is being written; its name has the digest of its bytes."""

    draft: Draft
    placeholder: str
    size: int = 0
    digest: xxhash.xxh3_64 = field(default_factory=xxhash.xxh3_64)

    def write(self, data: bytes) -> None:
        """Add bytes to the file."""
        self.draft.write(data)
        self.digest.update(data)
        self.size += len(data)


def check_whole(slide_id: str, *, broken: bool) -> None:
    """Refuse to continue a slide of which a write failed in the middle.

    Raises
    ------
    OutputError
    """
    if broken:
        raise OutputError(
            f"A shard of {slide_id} was not written completely.", hint="Export this slide again."
        )


def parse_size(output: str, text: str) -> int:
    """Return the bytes that a size names: ``256MB``, ``1.5 GB``, ``64MiB`` or a plain number.

    Parameters
    ----------
    output : str
        Name of the output, for the message.
    text : str

    Raises
    ------
    UsageError
        If it is not a size of at least one byte.

    Examples
    --------
    >>> parse_size("tar", "256MB"), parse_size("tar", "1.5 kib"), parse_size("tar", "99")
    (256000000, 1536, 99)
    """
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not the size of a shard.",
            hint=f"Write {output}:256MB, {output}:1GB or {output}:64MiB.",
        ) from error
