"""The protocol of a runner: how the slides of a run are spread over a machine or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from .cancel import Cancel
from .task import SlideProgress, SlideResult, SlideTask

__all__ = ["Runner"]


class Runner(Protocol):
    """Carries out tasks with :func:`~qupath_bridge.pipeline.task.process_slide`.

    A factory of the registry's kind ``runner`` is called with ``workers`` (int or None for the
    number of cores) and ``argument`` (text after the colon, or None).
    """

    def run(
        self,
        tasks: Iterable[SlideTask],
        *,
        progress: SlideProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[SlideResult]:
        """Yield a result for each task, as they come.

        A task whose process died is carried out again. Tasks are taken from the iterable when
        there is room for them, and results do not pile up. When the iterator ends early, no task
        runs any more once it is closed.

        Raises
        ------
        UsageError
            If a task cannot be carried out by this runner: something of it exists in this process
            only.
        OutputError
            If the output cannot be written.
        InterruptedRunError
            If the run was cancelled.
        """
        ...
