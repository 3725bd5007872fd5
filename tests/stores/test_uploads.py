"""Files on their way into a store: as many at the same time as it takes, few in memory."""

import threading

import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.stores import uploads
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.stores.uploads import Uploads
from tests.support.waiting import wait_until

AT_ONCE = 4


class FarStore(MemoryStore):
    """Answers when it is let; counts what is under way."""

    at_once = AT_ONCE

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.under_way = self.most = 0

    def put(self, name, data, *, durable=False):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        assert self.open.wait(20)
        with self.lock:
            self.under_way -= 1
        if name == "bad":
            raise OutputError("no room")
        super().put(name, data, durable=durable)


@pytest.fixture
def store():
    store = FarStore()
    yield store
    store.open.set()
    store.forget()


def put_all(sending, names, size=1):
    for name in names:
        sending.put(name, bytes(size))


def started(target, *arguments):
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    return thread


def test_as_many_are_under_way_as_the_store_takes(store):
    sending = Uploads(store)
    names = [f"{number:02}" for number in range(20)]
    thread = started(put_all, sending, names)
    wait_until(lambda: store.under_way == AT_ONCE)
    thread.join(0.2)
    assert thread.is_alive()  # it waits: 2 x AT_ONCE are taken
    assert store.under_way == AT_ONCE
    store.open.set()
    thread.join()
    sending.finish()
    assert list(store.list()) == names
    assert store.most == AT_ONCE


def test_few_bytes_are_held(store, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    sending = Uploads(store)
    thread = started(put_all, sending, "abc", 60)
    wait_until(lambda: store.under_way == 1)
    thread.join(0.2)
    assert thread.is_alive()
    assert store.under_way == 1
    store.open.set()
    thread.join()
    sending.put("large", bytes(1000))
    sending.finish()
    assert store.sizes(["a", "c", "large"]) == [60, 60, 1000]


@pytest.mark.parametrize("after", [0, 50])
def test_a_file_that_fails_ends_all(store, after):
    store.open.set()
    sending = Uploads(store)
    with pytest.raises(OutputError, match="no room"):
        put_all(sending, ["good", "bad", *(f"{number:02}" for number in range(after))])
        sending.finish()
    sending.cancel()
    assert "bad" not in store.list()


def test_what_is_cancelled_is_not_begun(store):
    sending = Uploads(store)
    put_all(sending, [f"{number}" for number in range(2 * AT_ONCE)])
    wait_until(lambda: store.under_way == AT_ONCE)
    last, _ = sending._under_way[-1]
    thread = started(sending.cancel)
    wait_until(last.cancelled)
    assert thread.is_alive()  # it waits for those that were begun
    store.open.set()
    thread.join()
    assert store.under_way == 0
    assert len(list(store.list())) == AT_ONCE
    sending.put("again", b"1")
    sending.finish()
    assert store.exists("again")


def test_a_store_that_answers_at_once_needs_no_threads():
    store = MemoryStore()
    before = threading.active_count()
    sending = Uploads(store)
    sending.put("a", b"1")
    assert store.exists("a")
    assert threading.active_count() == before
    sending.finish()
    store.forget()
