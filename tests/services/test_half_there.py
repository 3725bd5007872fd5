"""A broker that is half there: it takes connections, and answers some of what it is asked.

What RabbitMQ does while it starts, while its disk is slow, and while it is killed, a relay in front
of it does at a chosen moment.
"""

import logging
import threading
import time
import uuid
from contextlib import contextmanager

import pytest

from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.queues import DONE, Message, QueueDownError, celery
from qupath_bridge.service.queues.celery import CeleryQueue
from qupath_bridge.service.settings import ServiceSettings
from tests.support.relay import Relay
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

ANSWER = 1.5
MESSAGE = Message("job", "slide", "1")
SAID = {
    "Connection.Open": b"\x00\x0a\x00\x28",
    "Channel.Open": b"\x00\x14\x00\x0a",
    "Queue.Declare": b"\x00\x32\x00\x0a",
    "Basic.Consume": b"\x00\x3c\x00\x14",
}
"""Class and method of what a client says first on each connection, one after the other."""

NO_CHANNEL = b"\x01\x00\x4d\x00\x00\x00\x04\x00\x14\x00\x0b\xce"
"""A message on channel 77, which nobody has opened: py-amqp raises KeyError."""

CUT_METHOD = b"\x01\x00\x01\x00\x00\x00\x02\x00\x3c\xce"
"""A method of two bytes: py-amqp raises struct.error."""


@pytest.fixture
def relay(rabbitmq):
    with Relay(rabbitmq.port) as relay:
        yield relay


@pytest.fixture
def queues(rabbitmq, relay, tmp_path, monkeypatch):
    """The same queue, directly and through the relay."""
    monkeypatch.setattr(celery, "ANSWER", ANSWER)
    monkeypatch.setattr(celery, "CONNECT_TIMEOUT", ANSWER)
    monkeypatch.setattr(celery, "RECONNECT", 0.1)
    name = f"test-{uuid.uuid4().hex[:8]}"
    opened = []
    for port in (rabbitmq.port, relay.port):
        settings = ServiceSettings(
            database=f"sqlite:///{tmp_path / 'unused.sqlite'}",
            broker=f"amqp://guest:guest@127.0.0.1:{port}//",
        )
        opened.append(CeleryQueue(settings, None, name))
    yield opened
    for queue in opened:
        queue.close()


@contextmanager
def worker(queue):
    """A worker on a queue, and what it has got."""
    got, stop = [], CancelToken()

    def handle(message, lost):
        got.append(message)
        return DONE

    thread = threading.Thread(target=queue.consume, args=(handle, stop))
    thread.start()
    try:
        yield got
    finally:
        stop.cancel()
        thread.join(30)
    assert not thread.is_alive()


def wait_for(happened):
    """Wait until something is true; return the seconds that it took."""
    began = time.monotonic()
    wait_until(happened, seconds=20)
    return time.monotonic() - began


@pytest.mark.parametrize("half", [0, 3], ids=["silent", "silent in the middle of an answer"])
@pytest.mark.parametrize("said", SAID)
def test_what_is_not_answered_costs_one_wait(queues, relay, said, half):
    """Not another one for each goodbye, and no wait without an end."""
    direct, relayed = queues
    direct.publish(MESSAGE)
    relay.swallows, relay.lets_through = SAID[said], half
    with worker(relayed) as got:
        wait_for(lambda: relay.swallowed)
        relay.swallows = None
        taken = wait_for(lambda: got)
    assert got == [MESSAGE]
    assert taken < 2 * ANSWER  # one wait, and the pause behind it


@pytest.mark.parametrize("noise", [NO_CHANNEL, CUT_METHOD], ids=["no channel", "cut method"])
def test_nothing_that_a_broken_connection_says_ends_a_worker(queues, relay, noise, caplog):
    direct, relayed = queues
    with worker(relayed) as got, caplog.at_level(logging.ERROR, "qupath_bridge.service"):
        direct.publish(MESSAGE)
        wait_for(lambda: got)
        relay.say(noise)
        wait_for(lambda: "a new one is made" in caplog.text)
        direct.publish(Message("job", "slide", "2"))
        wait_for(lambda: len(got) == 2)
    assert [message.slide_id for message in got] == ["1", "2"]


def test_a_message_that_is_not_confirmed_in_time_is_not_sent_again(queues, relay):
    """The broker may have it, and be busy with its disk: the message would be there five times."""
    direct, relayed = queues
    assert relayed.waiting() == 0
    relay.swallows = b'"job_id"'  # the body of a message
    relay.lets_through = 3  # so it arrives, and its confirmation does not
    began = time.monotonic()
    with pytest.raises(QueueDownError, match="cannot be reached"):
        relayed.publish(MESSAGE)
    assert time.monotonic() - began < 2 * ANSWER
    assert (relay.swallowed, direct.waiting()) == (1, 1)
    relay.swallows = None
    relayed.publish(MESSAGE)  # through a new connection
    assert direct.waiting() == 2


def test_a_message_that_did_not_leave_is_sent_again(queues, relay):
    """A connection that waited in the pool was cut, as by a broker that was started again."""
    direct, relayed = queues
    relayed.publish(MESSAGE)
    with relay.down():
        pass
    relayed.publish(MESSAGE)
    assert direct.waiting() == 2


@pytest.mark.usefixtures("queues")  # their limits
def test_a_virtual_host_that_is_not_there_yet_is_waited_for(rabbitmq, caplog):
    name = f"later-{uuid.uuid4().hex[:8]}"
    url = f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/{name}"
    queue = CeleryQueue(ServiceSettings(database="sqlite:///unused.sqlite", broker=url), None)
    with worker(queue) as got:
        wait_for(lambda: "The broker cannot be reached" in caplog.text)
        rabbitmq.add_virtual_host(name)
        queue.publish(MESSAGE)
        wait_for(lambda: got)
    queue.close()
    assert got == [MESSAGE]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[[], {}, {}]"),
        ("application/x-python-serialize", b"\x80\x04N."),
        ("application/octet-stream", b"x"),
    ],
    ids=["cut", "of another shape", "pickled", "bytes"],
)
def test_a_message_that_cannot_be_read_is_dropped(queues, content_type, body):
    """It would end each worker, one after the other."""
    direct, _ = queues
    with direct._producers.acquire(block=True) as producer:
        producer.publish(
            body, routing_key=direct._main.name, declare=[direct._main],
            content_type=content_type, content_encoding="binary",
            headers={"task": "qupath_bridge.slide"},
        )  # fmt: skip
    direct.publish(MESSAGE)
    with worker(direct) as got:
        wait_for(lambda: got)
        wait_for(lambda: direct.waiting() == 0)
    assert got == [MESSAGE]
