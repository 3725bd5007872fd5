"""Open files of a process: the last ones, and none of another process."""

import os
import pickle

import pytest

from qupath_bridge.torch.handles import Handles


class Opened:
    def __init__(self, key):
        self.key, self.closed = key, False

    def close(self):
        self.closed = True


def close(handle):
    handle.close()


def test_the_handles_used_last_stay_open_and_others_are_closed():
    handles = Handles(2, close)
    made = {key: handles.get(key, lambda key=key: Opened(key)) for key in "ab"}
    assert handles.get("a", pytest.fail) is made["a"]
    made["c"] = handles.get("c", lambda: Opened("c"))
    assert {key: handle.closed for key, handle in made.items()} == {"a": 0, "b": 1, "c": 0}
    assert len(handles) == 2
    assert handles.get("b", lambda: Opened("b")) is not made["b"]


def test_a_copy_in_another_process_begins_with_nothing():
    handles = Handles(2, close)
    handles.get("a", lambda: Opened("a"))
    copy = pickle.loads(pickle.dumps(handles))
    assert len(copy) == 0 and len(handles) == 1
    copy.get("b", lambda: Opened("b"))
    assert copy._most == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_leaves_the_handles_of_its_parent_alone(monkeypatch):
    handles = Handles(1, close)
    inherited = handles.get("a", lambda: Opened("a"))
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a child
    own = handles.get("a", lambda: Opened("a"))
    assert own is not inherited and not inherited.closed
    handles.get("b", lambda: Opened("b"))
    assert own.closed and not inherited.closed


def test_closing_closes_what_the_process_has_open_and_so_does_the_end():
    handles = Handles(3, close)
    made = [handles.get(key, lambda key=key: Opened(key)) for key in "ab"]
    handles.close()
    assert all(handle.closed for handle in made) and len(handles) == 0
    last = handles.get("c", lambda: Opened("c"))
    del handles
    assert last.closed
