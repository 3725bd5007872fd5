"""Files on their way into a store."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Store

__all__ = ["Uploads"]

MOST_BYTES = 64 << 20
"""Bytes of files that are under way, with the one that was put last."""


class Uploads:
    """Puts many small files, as many at the same time as the store takes.

    A file is there when :meth:`finish` returned; one of them that fails ends all of it. Where a
    store answers at once, each is there when :meth:`put` returns. For one thread.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0

    def put(self, name: str, data: bytes) -> None:
        """Write ``data`` under ``name``; wait while too much is under way.

        Raises
        ------
        OutputError
            If this file or an earlier one cannot be written.
        """
        if self._store.at_once == 1:
            self._store.put(name, data)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._store.at_once, "qupath-bridge-upload")
        self._bytes += len(data)
        while self._under_way and (
            self._under_way[0][0].done()
            or self._bytes > MOST_BYTES
            or len(self._under_way) >= 2 * self._store.at_once
        ):
            self._wait_for_one()
        self._under_way.append((self._pool.submit(self._store.put, name, data), len(data)))

    def finish(self) -> None:
        """Wait until all files are there.

        Raises
        ------
        OutputError
            If one of them cannot be written.
        """
        while self._under_way:
            self._wait_for_one()
        self.cancel()

    def cancel(self) -> None:
        """Leave out the files that were not begun, and wait for the others."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._bytes = None, 0
        self._under_way.clear()

    def _wait_for_one(self) -> None:
        future, size = self._under_way.popleft()
        self._bytes -= size
        future.result()
