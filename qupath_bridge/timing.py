"""Seconds of each step of a job, and amounts that it took, when somebody asks for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

__all__ = ["STEPS", "Timer", "add", "collect", "step", "tally"]

STEPS = (
    "open", "plan", "read", "decode", "resample", "quality", "stain", "masks", "encode", "write",
    "commit",
)  # fmt: skip
"""The steps of a job, in their order."""


class Timer:
    """Adds up the seconds of steps, over all threads. A step inside another counts once.

    Attributes
    ----------
    seconds : dict of str to float
    amounts : dict of str to int
        Requests and bytes, by name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.amounts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of the block as a step, less that of steps inside it."""
        inner = getattr(self._local, "inner", 0.0)
        self._local.inner = 0.0
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            own = spent - self._local.inner
            self._local.inner = inner + spent
            self.add({name: own})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds of steps that were collected elsewhere, as in another process."""
        with self._lock:
            for name, value in seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + value

    def tally(self, amounts: Mapping[str, int]) -> None:
        """Add amounts."""
        with self._lock:
            for name, value in amounts.items():
                self.amounts[name] = self.amounts.get(name, 0) + value


_timer: ContextVar[Timer | None] = ContextVar("timer", default=None)
_NOTHING = nullcontext()


def step(name: str) -> AbstractContextManager[None]:
    """Count the time of a block as one of :data:`STEPS`, if somebody collects."""
    timer = _timer.get()
    return _NOTHING if timer is None else timer.step(name)


def add(seconds: Mapping[str, float]) -> None:
    """Count seconds of steps that were collected elsewhere, if somebody collects."""
    timer = _timer.get()
    if timer is not None:
        timer.add(seconds)


def tally(amounts: Mapping[str, int]) -> None:
    """Count amounts, if somebody collects."""
    timer = _timer.get()
    if timer is not None:
        timer.tally(amounts)


@contextmanager
def collect(wanted: bool = True) -> Iterator[Timer]:
    """Collect the times of steps in the block; nothing is collected if it is not wanted.

    Threads that are started in it count too if they run in a copy of its context.
    """
    timer = Timer()
    if not wanted:
        yield timer
        return
    token = _timer.set(timer)
    try:
        yield timer
    finally:
        _timer.reset(token)
