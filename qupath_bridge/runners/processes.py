"""Several slides at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

from qupath_bridge.errors import BridgeError, InterruptedRunError, UsageError
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask, process_slide
from qupath_bridge.quick_arrow import import_arrow

from .elsewhere import check_portable, died, of_one_thread, portable

__all__ = ["ProcessRunner"]

LOOK = 0.2
"""Seconds between checks of the cancel token while slides are running."""

GRACE = 3.0
"""Seconds that slides at work have to stop by themselves."""


class ProcessRunner:
    """Carries out tasks in a pool of new processes (``spawn``).

    Tasks are sent to the processes, never pixels. For readers that do not release the
    interpreter lock, and for many small slides.

    Parameters
    ----------
    workers : int, optional
        Number of processes, each with one thread; the number of cores when not given.
    """

    def __init__(self, workers: int | None = None, argument: str | None = None) -> None:
        if argument is not None:
            raise UsageError(f"The runner processes takes no argument; {argument!r} was given.")
        self.workers = workers or available_cores()

    def run(
        self,
        tasks: Iterable[SlideTask],
        *,
        progress: SlideProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[SlideResult]:
        """Yield a result for each task, as they come."""
        with _Pool(self.workers, progress) as pool:
            for task in tasks:
                check_portable(task)
                pool.add(of_one_thread(task))
                while pool.is_full:
                    yield from pool.finished(cancel)
            while pool.is_busy:
                yield from pool.finished(cancel)


class _Pool:
    """A pool of processes that is restarted when one of them dies."""

    def __init__(self, workers: int, progress: SlideProgress | None) -> None:
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")
        # One byte that all processes share, without a lock that one that is killed could hold.
        self._stop = self._context.RawValue("b", 0)
        self._reports: Any = None
        self._progress = progress
        self._pool = self._start(workers)
        self._running: dict[Future[SlideResult], SlideTask] = {}

    def _start(self, workers: int) -> ProcessPoolExecutor:
        # A process that is killed may hold the lock of its queue: each pool has another one.
        self._reports = self._context.SimpleQueue() if self._progress else None
        return ProcessPoolExecutor(
            workers,
            mp_context=self._context,
            initializer=_initialize,
            initargs=(self._stop, self._reports),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._running:
            self._end_early()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _end_early(self) -> None:
        """Let slides at work stop at the next batch, and end the processes of those that do not.

        One may be starting, or plan a large slide: what it leaves is what a killed one leaves.
        """
        self._stop.value = 1
        _, at_work = wait(self._running, timeout=GRACE)
        if at_work:
            for process in list((self._pool._processes or {}).values()):
                process.kill()

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    @property
    def is_full(self) -> bool:
        return len(self._running) >= 2 * self._workers

    def add(self, task: SlideTask) -> None:
        future: Future[SlideResult]
        # The first task starts the processes; and an interrupt must find the task among those at
        # work, or the pool would wait for it to its end.
        with _interrupts_held():
            try:
                future = self._pool.submit(_work, task)
            except BrokenProcessPool as error:
                # A process died since the last check; this task waits with the running ones.
                future = Future()
                future.set_exception(error)
            self._running[future] = task

    def finished(self, cancel: Cancel | None) -> Iterator[SlideResult]:
        """Wait a little for slides and yield the results that came."""
        done = self._wait(cancel)
        broken = [future for future in done if isinstance(future.exception(), BrokenProcessPool)]
        for future in done:
            if future not in broken:
                self._running.pop(future)
                yield future.result()
        if broken:
            yield from self._again(cancel)

    def _wait(self, cancel: Cancel | None) -> set[Future[SlideResult]]:
        done, _ = wait(self._running, timeout=LOOK, return_when=FIRST_COMPLETED)
        self._report()
        if cancel is not None and cancel.is_set():
            raise InterruptedRunError("Stopped.", hint="Resume the run to finish it.")
        return done

    def _again(self, cancel: Cancel | None) -> Iterator[SlideResult]:
        """Carry out the slides at work again after a process died, one at a time.

        Alone in a pool, it is clear which slide ends its process; that one fails.
        """
        waiting = list(self._running.values())
        self._running.clear()
        for task in waiting:
            self._renew(1)
            self.add(task)
            done: set[Future[SlideResult]] = set()
            while not done:
                done = self._wait(cancel)
            self._running.clear()
            future = done.pop()
            dead = isinstance(future.exception(), BrokenProcessPool)
            yield died(task) if dead else future.result()
        self._renew(self._workers)

    def _renew(self, workers: int) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._start(workers)

    def _report(self) -> None:
        if self._progress is None:
            return
        while not self._reports.empty():
            self._progress(*self._reports.get())


_stop: Any = None
_reports: Any = None


def _initialize(stop: Any, reports: Any) -> None:
    """Prepare a process of the pool: only the coordinator answers signals, and it ends the pool."""
    global _stop, _reports
    _stop, _reports = stop, reports
    import_arrow()
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """End this process when its parent has ended; committed slides stay."""
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold signals back from this thread, and from processes that are started in the block.

    A process begins with the signals blocked that its starter blocks, until it ignores them. To
    block them is not enough here: the system hands a signal to any thread that has it unblocked,
    and Python calls the handler in the main thread all the same.
    """
    held: list[int] = []
    handlers: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # only the main thread has handlers, and is interrupted
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, lambda got, _: held.append(got))
                handlers[number] = handler
    try:
        with _blocked():
            yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for each in dict.fromkeys(held):
            signal.raise_signal(each)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Stop:
    """Cancel token of the slides at work, which the coordinator sets."""

    def is_set(self) -> bool:
        return _stop is not None and bool(_stop.value)


def _work(task: SlideTask) -> SlideResult:
    def progress(*report: Any) -> None:
        if _reports is not None:
            _reports.put(report)

    try:
        return process_slide(task, progress=progress, cancel=_Stop())
    except BridgeError as error:
        problem = portable(error)
    raise problem
