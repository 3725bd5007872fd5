"""Work on threads, with results in the order of the items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from typing import TypeVar

__all__ = ["available_cores", "ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    task: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    stop: Event | None = None,
) -> Generator[Result, None, None]:
    """Yield ``task(item)`` for each item, in order, computed by several threads.

    Only a few more tasks than threads are submitted, so that results of long runs never pile up.
    The first exception of a task is raised in the place of its result; tasks that have not started
    by then never do. If the generator ends early (by an exception, an interrupt, or because the
    caller closes it), ``stop`` is set first, so that running tasks can see it, and then they are
    waited for: no task runs any more once the generator is closed.

    Parameters
    ----------
    task : callable
        Called from the threads; from the calling thread where there is one worker.
    items : iterable
    workers : int
        Number of threads.
    stop : Event, optional
        Set when the work ends early.
    """
    if workers == 1:
        yield from map(task, items)
        return
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="qupath-bridge")
    try:
        for item in items:
            # What holds in the caller's context, such as a timer, holds in the threads too.
            pending.append(pool.submit(copy_context().run, task, item))
            if len(pending) >= workers + 2:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
