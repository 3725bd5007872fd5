"""Open files of one process: the ones used last, never those of another process."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Handles"]

Handle = TypeVar("Handle")


class Handles(Generic[Handle]):
    """Keeps what was opened last, and closes what was not used for the longest time.

    A copy in another process, forked or spawned, begins with nothing: handles that cross a fork
    share their place in the file with the parent. Those of the parent are left alone there.

    Parameters
    ----------
    most : int
        How many are open at once in a process.
    close : callable
        Closes one.
    """

    def __init__(self, most: int, close: Callable[[Handle], None]) -> None:
        self._most, self._close = most, close
        self._forget()

    def get(self, key: str, make: Callable[[], Handle]) -> Handle:
        """Return the handle of a key, made if it is not there."""
        if self._process != os.getpid():
            self._foreign.append(self._open)  # not closed here, nor by the end of this object
            self._forget()
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        handle = self._open[key] = make()
        while len(self._open) > self._most:
            self._close(self._open.popitem(last=False)[1])
        return handle

    def close(self) -> None:
        """Close what this process has open; it is opened again when it is asked for."""
        if self._process == os.getpid():
            while self._open:
                self._close(self._open.popitem()[1])

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # also at the end of the process, half taken down
            self.close()

    def __len__(self) -> int:
        return len(self._open)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[str, Handle] = OrderedDict()

    _foreign: list[Any] = []  # noqa: RUF012  # of the process: what it inherited stays untouched

    def __getstate__(self) -> dict[str, Any]:
        return {"most": self._most, "close": self._close}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
