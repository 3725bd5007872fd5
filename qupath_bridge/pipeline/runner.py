"""What a runner is: how tasks are spread over a machine, and how they are stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from threading import Event
from typing import Protocol, TypeVar

__all__ = ["InlineRunner", "Runner"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs a task on each of several items; results come in the order of the items.

    The first exception of a task is raised where its result would have come; tasks that have
    not started by then never do. When a run ends early, by that, by an interrupt or because the
    caller closes the iterator, ``stop`` is set first, so that tasks at work can see it, and then
    they are waited for: no task runs any more once the iterator is closed.
    """

    @property
    def workers(self) -> int:
        """How many tasks run at the same time."""
        ...

    def run(
        self, task: Callable[[Item], Result], items: Iterable[Item], *, stop: Event
    ) -> Generator[Result, None, None]:
        """Yield ``task(item)`` for each item, in order."""
        ...


class InlineRunner:
    """Runs everything in the calling thread, one after the other."""

    workers = 1

    def run(
        self, task: Callable[[Item], Result], items: Iterable[Item], *, stop: Event
    ) -> Generator[Result, None, None]:
        """Yield ``task(item)`` for each item, in order."""
        for item in items:
            yield task(item)
