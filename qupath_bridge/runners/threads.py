"""One slide at a time, with several threads in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.parallel import available_cores
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask, process_slide

__all__ = ["ThreadRunner"]


class ThreadRunner:
    """Carries out tasks in this process; decoders and encoders release the interpreter lock.

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
        for task in tasks:
            options = task.options.replace(workers=self.workers)
            yield process_slide(
                dataclasses.replace(task, options=options), progress=progress, cancel=cancel
            )
