"""The limits of a child process."""

from pathlib import Path

import pytest

from qupath_bridge.service import children
from qupath_bridge.service.children import Child, ChildHungError


@pytest.fixture
def child(monkeypatch):
    """A child that has one second for a step, and needs two to start."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "support")
    child = Child(1.0, steps="slow_steps")
    yield child
    child.kill()


def test_the_time_of_a_step_begins_when_its_process_is_ready(child):
    assert child.call("quick", {"value": 3}) == {"value": 3}
    with pytest.raises(ChildHungError, match="It took longer than 1 seconds"):
        child.call("slow", {})
    assert child.call("quick", {"value": 4}) == {"value": 4}


def test_a_process_that_never_becomes_ready_is_ended(child, monkeypatch):
    monkeypatch.setattr(children, "START_SECONDS", 1.0)
    with pytest.raises(ChildHungError, match="The start of its process took longer than 1 seconds"):
        child.call("quick", {"value": 3})
