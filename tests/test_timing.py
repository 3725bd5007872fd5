"""Where the time goes."""

import threading
from contextvars import copy_context

import pytest

from qupath_bridge import timing


@pytest.fixture
def clock(monkeypatch):
    """Give a clock that moves when it is told to."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def test_a_step_inside_another_counts_once(clock):
    """The outer one has what is left."""
    with timing.collect() as timer, timing.step("read"):
        clock.now += 1
        for _ in range(2):
            with timing.step("decode"):
                clock.now += 2
                with timing.step("resample"):
                    clock.now += 8
        clock.now += 16
    assert timer.seconds == {"read": 17, "decode": 4, "resample": 16}


def test_a_step_that_fails_counts(clock):
    """And those after it are not inside it."""
    with timing.collect() as timer:
        with pytest.raises(ValueError, match="no"), timing.step("read"):
            clock.now += 1
            raise ValueError("no")
        with timing.step("write"):
            clock.now += 2
    assert timer.seconds == {"read": 1, "write": 2}


def test_threads_in_a_copy_of_the_context_count(clock):
    """Each has steps of its own; another thread counts nothing."""

    def work():
        with timing.step("encode"):
            clock.now += 1

    with timing.collect() as timer:
        for target in (copy_context().run, lambda task: task()):
            thread = threading.Thread(target=target, args=(work,))
            thread.start()
            thread.join()
    assert timer.seconds == {"encode": 1}


def test_nothing_is_collected_when_nobody_asks(clock):
    """Neither outside of a collection nor in one that is not wanted."""
    with timing.step("read"):
        clock.now += 1
    with timing.collect(wanted=False) as timer, timing.step("read"):
        clock.now += 1
    timing.add({"read": 1})
    assert timer.seconds == {}


def test_seconds_of_another_process_are_added(clock):
    """To those of this one."""
    with timing.collect() as timer:
        with timing.step("read"):
            clock.now += 1
        timing.add({"read": 2, "write": 4})
    assert timer.seconds == {"read": 3, "write": 4}
