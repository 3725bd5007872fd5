import pytest

from qupath_bridge.pipeline.runner import InlineRunner
from qupath_bridge.runners.local import ThreadRunner, available_cores
from qupath_bridge.testing.contracts.runner import RunnerContract


class TestInline(RunnerContract):
    def make(self):
        return InlineRunner()


class TestOneThread(RunnerContract):
    def make(self):
        return ThreadRunner(1)


class TestEightThreads(RunnerContract):
    def make(self):
        return ThreadRunner(8)


def test_all_cores_are_used_when_nothing_is_said():
    assert ThreadRunner().workers == available_cores() >= 1


def test_a_machine_without_affinity_counts_cores(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert available_cores() >= 1
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_stop_is_set_before_tasks_are_waited_for(workers):
    import threading

    stop = threading.Event()
    seen = []

    def task(number):
        if number == 0:
            return number
        seen.append(stop.wait(5))
        return number

    results = ThreadRunner(workers).run(task, range(4), stop=stop)
    next(results)
    results.close()
    assert all(seen)
