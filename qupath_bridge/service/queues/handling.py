"""Calls of handlers and short waits: the same for every queue."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from .base import Again, Message, Outcome

if TYPE_CHECKING:
    from qupath_bridge.pipeline.cancel import Cancel

    from .base import Handler

__all__ = ["hand_over", "nap"]

log = logging.getLogger("qupath_bridge.service")

STEP = 0.05
"""Seconds in which a stop is noticed."""


def hand_over(handle: Handler, message: Message, lost: Cancel, retry: float) -> Outcome:
    """Hand a message over; return what becomes of it: after an exception it comes again.

    Parameters
    ----------
    handle : callable
    message : Message
    lost : Cancel
        Set when the handler should give up.
    retry : float
        Seconds after which the message comes again.
    """
    try:
        return handle(message, lost)
    except Exception as error:  # nothing may end the worker or lose a message
        log.exception("%s of job %s failed", message.step, message.job_id)
        return Again(retry, f"{type(error).__name__}: {error}")


def nap(seconds: float, stop: Cancel) -> None:
    """Wait, unless a stop ends it."""
    event = threading.Event()
    naps = max(1, round(seconds / STEP))
    for _ in range(naps):
        if stop.is_set():
            return
        event.wait(seconds / naps)
