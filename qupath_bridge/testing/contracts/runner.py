"""What every runner must do."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

import pytest

from qupath_bridge.pipeline.runner import Runner

__all__ = ["RunnerContract"]


class RunnerContract(ABC):
    """Subclass it, and say how the runner is made."""

    @abstractmethod
    def make(self) -> Runner:
        """Return a new runner."""

    def test_results_come_in_order(self) -> None:
        """However long each task takes."""

        def task(number: int) -> int:
            time.sleep(0.002 * (number % 3))
            return number * number

        results = self.make().run(task, range(40), stop=threading.Event())
        assert list(results) == [number * number for number in range(40)]

    def test_nothing_to_do(self) -> None:
        """Gives nothing."""
        assert list(self.make().run(lambda item: item, [], stop=threading.Event())) == []

    def test_the_first_error_comes_out(self) -> None:
        """Where its result would have come; what was not started never is."""
        started = []

        def task(number: int) -> int:
            started.append(number)
            if number == 3:
                raise ValueError("three")
            return number

        seen = []
        stop = threading.Event()
        with pytest.raises(ValueError, match="three"):
            for result in self.make().run(task, range(1000), stop=stop):
                seen.append(result)  # noqa: PERF402  # what came before the error is looked at
        assert seen == [0, 1, 2]
        assert len(started) < 1000

    def test_no_task_runs_once_the_iterator_is_closed(self) -> None:
        """Tasks at work see ``stop`` and are waited for."""
        running = []

        def task(number: int) -> int:
            running.append(number)
            if number:
                stop.wait(0.2)
            running.remove(number)
            return number

        stop = threading.Event()
        results = self.make().run(task, range(100), stop=stop)
        assert next(results) == 0
        results.close()
        assert running == []

    def test_results_do_not_pile_up(self) -> None:
        """A long run hands out only a few tasks more than it has workers."""
        started: list[int] = []
        runner = self.make()
        results = runner.run(started.append, range(1000), stop=threading.Event())
        next(results)
        time.sleep(0.05)
        assert len(started) <= 2 * runner.workers + 4
        results.close()
