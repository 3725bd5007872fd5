"""Stopping a run on request."""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable

__all__ = ["Cancel", "CancelToken"]


@runtime_checkable
class Cancel(Protocol):
    """A request to stop a run, which is checked between batches of patches."""

    def is_set(self) -> bool:
        """Return whether the run should stop."""
        ...


class CancelToken:
    """A request to stop that any thread can make.

    >>> token = CancelToken()
    >>> token.cancel()
    >>> token.is_set()
    True
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop. Committed slides stay, and the run can be resumed."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether somebody asked to stop."""
        return self._event.is_set()
