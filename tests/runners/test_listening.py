"""The line from a slide at work to its run."""

import contextlib
from queue import SimpleQueue

import pytest

from qupath_bridge.runners.listening import Listener, line_to
from qupath_bridge.runners.spreading import Report
from tests.support.waiting import wait_until


@pytest.fixture
def listener():
    with contextlib.closing(Listener(SimpleQueue(), "127.0.0.1", "127.0.0.1")) as listener:
        yield listener


def begin(listener, line, done):
    """Report, and wait until the run has heard it."""
    line.report("slide", done, 9)
    assert listener._inbox.get(timeout=5) == Report("slide", done, 9)


def test_all_reports_are_heard_before_the_end(listener):
    with line_to(listener.place, 1) as line:
        for done in range(3):
            line.report("slide", done, 3)
    heard = [listener._inbox.get_nowait() for _ in range(3)]
    assert heard == [Report("slide", done, 3) for done in range(3)]
    assert not listener.broke_off(1)


def test_a_slide_that_was_lost_stops_where_it_still_works(listener):
    """An engine can lose a machine that goes on; the slide is done again elsewhere."""
    with line_to(listener.place, 1) as lost, line_to(listener.place, 2) as other:
        begin(listener, lost, 1)
        begin(listener, other, 2)
        listener.give_up(1)
        wait_until(lost.is_set, seconds=5)
        assert not other.is_set()
        with line_to(listener.place, 1) as late:  # it began when nobody waited for it any more
            wait_until(late.is_set, seconds=5)
    assert listener.broke_off(1)


def test_of_two_that_do_one_slide_the_first_stops(listener):
    """An engine can do an order again by itself, without word to the run."""
    with line_to(listener.place, 1) as first:
        begin(listener, first, 1)
        with line_to(listener.place, 1) as second:
            begin(listener, second, 2)
            wait_until(first.is_set, seconds=5)
            assert not second.is_set()
            listener.stop()  # the end of the first did not take the second off the list
            wait_until(second.is_set, seconds=5)


def test_who_does_not_know_the_word_is_not_heard(listener):
    with line_to(listener.place._replace(token="guess"), 1) as line:
        line.report("slide", 1, 9)
        wait_until(line.is_set, seconds=5)
    assert listener._inbox.empty()
