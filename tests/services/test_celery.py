"""The queue on RabbitMQ keeps the contract, also while the broker dies."""

import threading
import time
import uuid

import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.queues import DONE, Again, Dead, DeadLetter, Message, Queue, open_queue
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.contracts.queue import QueueContract

pytestmark = pytest.mark.xdist_group("services")


def settings_of(rabbitmq, **changes):
    name = f"test-{uuid.uuid4().hex[:12]}"
    return ServiceSettings(
        queue="celery", broker=rabbitmq.url, broker_queue=name, retry_seconds=0.1, **changes
    )


class TestCelery(QueueContract):
    @pytest.fixture(autouse=True)
    def broker(self, rabbitmq):
        self.settings = settings_of(rabbitmq)

    def open(self) -> Queue:
        return open_queue(self.settings, None)


@pytest.fixture
def queue(rabbitmq):
    found = open_queue(settings_of(rabbitmq), None)
    yield found
    found.close()


def consuming(queue, handle, happened, seconds=60.0):
    """Consume in a thread until something has happened."""
    stop = CancelToken()
    thread = threading.Thread(target=queue.consume, args=(handle, stop))
    thread.start()
    deadline = time.monotonic() + seconds
    try:
        while not happened() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert happened(), "it did not happen"
    finally:
        stop.cancel()
        thread.join(30)
    assert not thread.is_alive()


def test_messages_are_those_of_celery(queue):
    """Whoever watches the broker with Celery's tools sees its tasks."""
    queue.publish(Message("job", "slide", "1_a"))
    with queue._app.connection_for_read() as connection:
        delivery = queue._queue(connection.channel()).get()
        assert delivery.headers["task"] == "qupath_bridge.step"
        assert delivery.payload[0] == ["job", "slide", "1_a"]
        assert delivery.properties["delivery_mode"] == 2  # on disk
        delivery.ack()


def test_nothing_is_lost_when_the_broker_is_killed(rabbitmq, queue):
    """What waits, what has to wait longer, what is dead, and what is at work."""
    for number in range(20):
        queue.publish(Message("job", "slide", str(number)))
    queue.publish(Message("job", "slide", "later"), delay=3.0)
    done, began, told = [], threading.Event(), threading.Event()

    def handle(message, lost):
        if message.slide_id == "3" and not began.is_set():
            began.set()
            deadline = time.monotonic() + 60
            while not lost.is_set() and time.monotonic() < deadline:
                time.sleep(0.05)
            if lost.is_set():
                told.set()
            return DONE  # nobody hears it: another worker has the message by now
        done.append(message.slide_id)
        return Dead("poison") if message.slide_id == "2" else DONE

    def kill():
        assert began.wait(30)
        with rabbitmq.down():
            time.sleep(1)

    killer = threading.Thread(target=kill)
    killer.start()
    expected = {*map(str, range(20)), "later"}
    consuming(queue, handle, lambda: set(done) == expected, seconds=90)
    killer.join()
    assert told.is_set()  # a worker that lost its broker gives its message up
    assert list(queue.dead_letters()) == [DeadLetter(Message("job", "slide", "2"), "poison")]


def test_a_message_outlives_the_connection_of_its_worker(queue):
    """As when the worker is killed: the broker gives it to the next one."""
    queue.publish(Message("job", "slide", "1"))
    with queue._app.connection_for_read() as connection:
        taken = queue._queue(connection.channel()).get(no_ack=False)
        assert taken is not None and queue.waiting() == 0
    got = []
    consuming(queue, lambda message, lost: got.append(message) or DONE, lambda: got)
    assert got == [Message("job", "slide", "1")]


def test_different_waits_do_not_hold_one_another_up(queue):
    order = []

    def handle(message, lost):
        order.append(message.slide_id)
        return DONE

    for name, wait in (("long", 3.0), ("short", 0.5)):
        queue.publish(Message("job", "slide", name), delay=wait)
    consuming(queue, handle, lambda: len(order) == 2)
    assert order == ["short", "long"]


def test_work_longer_than_the_heartbeat_keeps_the_connection(queue, monkeypatch):
    monkeypatch.setattr("qupath_bridge.service.queues.celery.HEARTBEAT", 1.0)
    calls = []

    def slow(message, lost):
        calls.append(message)
        time.sleep(5)
        assert not lost.is_set()
        return DONE

    queue.publish(Message("job", "slide", "1"))
    consuming(queue, slow, lambda: queue.waiting() == 0 and len(calls) == 1 and settled(queue))
    assert len(calls) == 1


def settled(queue):
    """Return whether no worker holds a message."""
    time.sleep(6)
    return queue.waiting() == 0


def test_again_without_a_wait_comes_at_once(queue):
    calls = []

    def handle(message, lost):
        calls.append(time.monotonic())
        return Again(0.0, "once more") if len(calls) < 3 else DONE

    queue.publish(Message("job", "slide", "1"))
    consuming(queue, handle, lambda: len(calls) == 3)


def test_without_a_broker_the_error_names_the_setting():
    with pytest.raises(UsageError, match="needs a broker"):
        open_queue(ServiceSettings(queue="celery"), None)
