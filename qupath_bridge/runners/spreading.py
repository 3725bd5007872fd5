"""Spread tasks over an engine that has machines of its own: in, out, and again after a death."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol, TypeAlias

from qupath_bridge.errors import InterruptedRunError
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask

from .elsewhere import check_portable, died, sent

__all__ = ["Died", "Done", "Engine", "Inbox", "Report", "spread"]

LOOK = 0.2
"""Seconds between looks at the cancel token while nothing comes."""


class Report(NamedTuple):
    """Patches done and planned of a slide at work."""

    slide_id: str
    done: int
    planned: int


class Died(NamedTuple):
    """The outcome of a slide whose process died."""


class Done(NamedTuple):
    """The outcome of an order: a result, an error that ends the run, or a death."""

    number: int
    outcome: SlideResult | BaseException | Died


Inbox: TypeAlias = "SimpleQueue[Report | Done]"
"""Messages of an engine, from any thread; the thread that asked for the run reads them."""


class Engine(Protocol):
    """Carries out orders on other machines, and puts the outcome of each into an inbox."""

    def room(self) -> int:
        """Return how many orders may be at work or wait there at once, at least one."""
        ...

    def start(self, number: int, order: str) -> None:
        """Send an order; ``Done`` with its number comes into the inbox, after its reports."""
        ...

    def look(self) -> None:
        """Say what else than slides the run waits for, if anything; called while nothing comes."""
        ...

    def stop(self) -> None:
        """Give all orders up, and wait until none is at work."""
        ...


def spread(
    engine: Engine,
    inbox: Inbox,
    tasks: Iterable[SlideTask],
    progress: SlideProgress | None,
    cancel: Cancel | None,
) -> Iterator[SlideResult]:
    """Yield the result of each task, as they come.

    A slide whose process died may be the reason, or only have been beside it. It is carried out
    again when all others are done, alone: one that ends its process then fails.
    """
    run = _Spread(engine, inbox, progress, cancel)
    try:
        for task in tasks:
            check_portable(task)
            run.begin(task)
            while len(run.at_work) >= engine.room():
                yield from run.came()
        while run.at_work:
            yield from run.came()
        for task in tuple(run.suspects):
            run.begin(task)
            while run.at_work:
                yield from run.came(alone=True)
    finally:
        if run.at_work:
            engine.stop()


class _Spread:
    def __init__(
        self, engine: Engine, inbox: Inbox, progress: SlideProgress | None, cancel: Cancel | None
    ) -> None:
        self.at_work: dict[int, SlideTask] = {}
        self.suspects: list[SlideTask] = []
        self._engine = engine
        self._inbox = inbox
        self._progress = progress
        self._cancel = cancel
        self._numbers = count()

    def begin(self, task: SlideTask) -> None:
        number = next(self._numbers)
        self.at_work[number] = task  # first: an interrupt from here on has something to stop
        self._engine.start(number, sent(task))

    def came(self, alone: bool = False) -> Iterator[SlideResult]:
        """Wait a little for what comes next, and yield it if it is a result."""
        if self._cancel is not None and self._cancel.is_set():
            raise InterruptedRunError("Stopped.", hint="Resume the run to finish it.")
        try:
            message = self._inbox.get(timeout=LOOK)
        except Empty:
            self._engine.look()
            return
        if isinstance(message, Report):
            if self._progress is not None:
                self._progress(*message)
            return
        task, outcome = self.at_work.pop(message.number), message.outcome
        if isinstance(outcome, Died):
            if alone:
                yield died(task)
            else:
                self.suspects.append(task)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield outcome
