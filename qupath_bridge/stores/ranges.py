"""Parts of an object, asked for in few requests: neighbours in one, several requests at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

__all__ = ["AT_ONCE", "GAP", "LARGEST", "Fetched", "Part", "coalesced", "fetch"]

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


class Fetched(NamedTuple):
    """Parts of an object, and what they took: requests, and bytes that came."""

    parts: dict[Part, bytes]
    requests: int
    nbytes: int


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


def fetch(read: Callable[[int, int], bytes], parts: Iterable[Part]) -> Fetched:
    """Fetch parts of an object.

    Parameters
    ----------
    read : callable
        Returns the bytes of an offset and a count, all of them; called from several threads.
    parts : iterable of Part
    """
    wanted = sorted(set(parts))
    asked = coalesced(wanted)
    if len(asked) > 1:
        with ThreadPoolExecutor(min(AT_ONCE, len(asked))) as pool:
            came = list(pool.map(read, *zip(*asked, strict=True)))
    else:
        came = [read(*part) for part in asked]
    found: dict[Part, bytes] = {}
    place = 0
    for offset, count in wanted:
        while not asked[place][0] <= offset <= offset + count <= sum(asked[place]):
            place += 1
        begin = offset - asked[place][0]
        found[offset, count] = came[place][begin : begin + count]
    return Fetched(found, len(asked), sum(map(len, came)))
