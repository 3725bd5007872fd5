"""One slide at a time, with several threads in it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import NamedTuple

from qupath_bridge.errors import UsageError
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask, process_slide

__all__ = ["ThreadRunner"]

LOOK = 0.05
"""Seconds between looks at whether somebody stopped the run: on Windows, Ctrl-C ends no wait."""


class ThreadRunner:
    """Carries out tasks in this process; decoders and encoders release the interpreter lock.

    The calling thread only waits and reports, so that Ctrl-C never cuts a write off: the slide at
    work stops by itself and removes its patches.

    Parameters
    ----------
    workers : int, optional
        Number of threads; the number of cores when not given.
    """

    def __init__(self, workers: int | None = None, argument: str | None = None) -> None:
        if argument is not None:
            raise UsageError(f"The runner threads takes no argument; {argument!r} was given.")
        self.workers = workers or available_cores()

    def run(
        self,
        tasks: Iterable[SlideTask],
        *,
        progress: SlideProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[SlideResult]:
        """Yield a result for each task, in their order."""
        stop = _Stop(cancel)
        reports: SimpleQueue[_Report | None] = SimpleQueue()

        def report(slide_id: str, done: int, planned: int) -> None:
            """Hand a report over and wait until the listener has seen it, as if called here."""
            sent = _Report((slide_id, done, planned), threading.Event())
            reports.put(sent)
            while not sent.seen.wait(LOOK) and not stop.is_set():
                pass

        with ThreadPoolExecutor(1, thread_name_prefix="qupath-bridge-slide") as thread:
            for task in tasks:
                options = task.options.replace(workers=self.workers)
                future = thread.submit(
                    process_slide,
                    dataclasses.replace(task, options=options),
                    progress=report if progress else None,
                    cancel=stop,
                )
                future.add_done_callback(lambda _: reports.put(None))
                try:
                    result = _wait(future, reports, progress)
                except BaseException:
                    # By an interrupt, or because a listener failed; the thread is waited for.
                    stop.cancel()
                    raise
                yield result


def _wait(
    future: Future[SlideResult],
    reports: SimpleQueue[_Report | None],
    progress: Callable[[str, int, int], None] | None,
) -> SlideResult:
    """Pass reports on, from this thread, until None says that the slide is done."""
    while True:
        try:
            report = reports.get(timeout=LOOK)
        except Empty:
            continue
        if report is None:
            return future.result()
        if progress:
            progress(*report.values)
        report.seen.set()


class _Report(NamedTuple):
    """A report on its way to the calling thread."""

    values: tuple[str, int, int]
    seen: threading.Event


class _Stop:
    """Cancel token of the slide at work: the caller's, or an end of the run."""

    def __init__(self, cancel: Cancel | None) -> None:
        self._cancel = cancel
        self._stopped = threading.Event()

    def cancel(self) -> None:
        self._stopped.set()

    def is_set(self) -> bool:
        return self._stopped.is_set() or (self._cancel is not None and self._cancel.is_set())
