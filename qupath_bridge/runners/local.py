"""Threads of this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["ThreadRunner"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class ThreadRunner:
    """Runs tasks on threads; decoders and encoders release the interpreter lock.

    Parameters
    ----------
    workers : int, optional
        Number of threads; the number of cores this process may use when not given.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()

    def run(
        self, task: Callable[[Item], Result], items: Iterable[Item], *, stop: Event
    ) -> Generator[Result, None, None]:
        """Yield ``task(item)`` for each item, in order.

        A few tasks more than there are threads are handed out, so that results of long runs
        never pile up.
        """
        pending: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="qupath-bridge")
        try:
            for item in items:
                pending.append(pool.submit(task, item))
                if len(pending) >= self.workers + 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
