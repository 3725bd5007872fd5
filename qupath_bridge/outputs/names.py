"""Names of very many files, kept in little memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import xxhash

__all__ = ["NameLog", "NameSet"]

_CHUNK = 4096


class NameSet:
    """A set of names of which only the digests are kept: about 70 bytes a name.

    Two of a million names have the same digest once in 37 million times.
    """

    __slots__ = ("_digests",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._digests: set[int] = set()
        self.update(names)

    def update(self, names: Iterable[str]) -> None:
        """Add names."""
        self._digests.update(map(_digest, names))

    def __contains__(self, name: str) -> bool:
        return _digest(name) in self._digests

    def __bool__(self) -> bool:
        return bool(self._digests)


class NameLog:
    """Names in the order in which they were added, compressed: some 20 bytes a name.

    Names have no NUL.
    """

    __slots__ = ("_chunks", "_last")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._chunks: list[bytes] = []
        self._last: list[str] = []
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name."""
        self._last.append(name)
        if len(self._last) == _CHUNK:
            self._chunks.append(zlib.compress("\0".join(self._last).encode(*_CODEC), 1))
            self._last.clear()

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            yield from zlib.decompress(chunk).decode(*_CODEC).split("\0")
        yield from self._last


_CODEC = ("utf-8", "surrogatepass")


def _digest(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode(*_CODEC))
