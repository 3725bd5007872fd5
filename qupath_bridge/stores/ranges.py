"""Parts of an object, asked for in few requests: neighbours in one, several requests at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

__all__ = ["AT_ONCE", "GAP", "LARGEST", "Part", "Parts", "coalesced", "fetch"]

Part = tuple[int, int]
"""Offset and number of bytes."""

GAP = 256 << 10
"""Bytes between two parts that are fetched with them. One stream of a bucket carries them in some
3 ms (80 MB/s); another request waits 10 ms and more for its first byte."""

LARGEST = 4 << 20
"""Bytes of a request after which another one begins: some 50 ms of one stream, so that waiting for
the first byte counts little, and what many tiles need is fetched by several streams."""

AT_ONCE = 8
"""Requests of one caller that are under way at the same time: with ``LARGEST``, 32 MiB."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an object that are under way.

    Attributes
    ----------
    asked : tuple of Part
        What was asked for, by offset.
    answers : tuple of Future
        Of each request its bytes, all of them.
    """

    asked: tuple[Part, ...]
    answers: tuple[Future[bytes], ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes of all requests."""
        return sum(count for _, count in self.asked)

    def get(self, part: Part) -> bytes:
        """Return the bytes of a part that was fetched, as soon as its request is answered."""
        offset, count = part
        number = bisect_right(self.asked, offset, key=lambda each: each[0]) - 1
        begin = offset - self.asked[number][0]
        return self.answers[number].result()[begin : begin + count]


def coalesced(parts: Iterable[Part], *, gap: int = GAP, largest: int = LARGEST) -> list[Part]:
    """Return the parts to ask for, so that all of some parts come.

    Parameters
    ----------
    parts : iterable of Part
        In any order, also one several times.
    gap : int
        Most bytes between neighbours that come in one request.
    largest : int
        Most bytes of a request for several parts. A part is never cut.

    Examples
    --------
    >>> coalesced([(0, 10), (15, 5), (90, 10)], gap=8)
    [(0, 20), (90, 10)]
    """
    found: list[Part] = []
    for offset, count in sorted(set(parts)):
        start, length = found[-1] if found else (offset, 0)
        end = max(start + length, offset + count)
        if found and offset - (start + length) <= gap and end - start <= largest:
            found[-1] = start, end - start
        else:
            found.append((offset, count))
    return found


def fetch(read: Callable[[int, int], bytes], parts: Iterable[Part], pool: Executor) -> Parts:
    """Ask for parts of an object, and do not wait for them.

    Parameters
    ----------
    read : callable
        Returns the bytes of an offset and a count, all of them; called by the pool.
    parts : iterable of Part
    pool : Executor
        Of at most ``AT_ONCE`` threads.
    """
    asked = coalesced(parts)
    return Parts(tuple(asked), tuple(pool.submit(read, *part) for part in asked))
