"""A runner: one slide after the other, in the process that asks."""

from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline.task import process_slide


class InlineRunner:
    """Carries out tasks one by one; a task says itself how many threads work on its slide."""

    def __init__(self, workers=None, argument=None):
        if argument is not None:
            raise UsageError(f"The runner 'inline' takes no argument, {argument!r} was given.")

    def run(self, tasks, *, progress=None, cancel=None):
        """Yield a result for each task."""
        for task in tasks:
            yield process_slide(task, progress=progress, cancel=cancel)
