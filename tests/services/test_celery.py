"""The queue on RabbitMQ keeps the contract, also when the broker or a worker is killed."""

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.database import Database
from qupath_bridge.service.queues import (
    DONE,
    Dead,
    DeadLetter,
    Message,
    Queue,
    QueueDownError,
    open_queue,
)
from qupath_bridge.service.queues.celery import CeleryQueue, _round_up
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.contracts.queue import QueueContract

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

SETTLED = 2.5
"""Seconds after which RabbitMQ has on its disk that there is a queue. One that was made just before
the broker is killed may be gone with its messages, although the broker had confirmed both."""


class TestCelery(QueueContract):
    seconds = 40.0

    @pytest.fixture(autouse=True)
    def broker(self, rabbitmq, tmp_path: Path):
        self.rabbitmq = rabbitmq
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.settings = ServiceSettings(
            database=f"sqlite:///{tmp_path / 'unused.sqlite'}",
            queue="celery",
            broker=rabbitmq.url,
            retry_seconds=0.1,
        )

    def open(self) -> Queue:
        return CeleryQueue(self.settings, None, self.name)

    def test_messages_outlive_a_broker_that_is_killed(self, queue: Queue) -> None:
        """Those that wait for a worker, those that wait for their time, and dead letters."""
        queue.publish(Message("job", "slide", "poison"))
        self.consume(queue, lambda message, lost: Dead("why"), 1, linger=0.3)
        queue.publish(Message("job", "slide", "1"))
        queue.publish(Message("job", "slide", "2"), delay=2 * SETTLED)
        time.sleep(SETTLED)
        with self.rabbitmq.down():
            with pytest.raises(QueueDownError, match="cannot be reached"):
                queue.publish(Message("job", "slide", "3"))
            with pytest.raises(QueueDownError):
                queue.waiting()
        got = self.consume(queue, lambda message, lost: DONE, 2, linger=0.5)
        assert sorted(message.slide_id for message in got) == ["1", "2"]
        poison = Message("job", "slide", "poison")
        assert list(queue.dead_letters()) == [DeadLetter(poison, "why")]

    def test_work_goes_on_while_the_broker_is_away(self, queue: Queue) -> None:
        """The handler is not told; its message comes again, and the worker connects again."""
        began, go_on = threading.Event(), threading.Event()
        told: list[bool] = []

        def handle(message, lost):
            began.set()
            assert go_on.wait(self.seconds)
            told.append(lost.is_set())
            return DONE

        queue.publish(Message("job", "slide", "1"))
        with self.consumer(queue, handle):
            assert began.wait(self.seconds)
            time.sleep(SETTLED)
            with self.rabbitmq.down():
                time.sleep(0.5)
            go_on.set()
            self.wait_for(lambda: len(told) == 2)
            self.wait_for(lambda: queue.waiting() == 0)
        assert told == [False, False]

    def test_the_message_of_a_worker_that_is_killed_comes_again(self, queue: Queue) -> None:
        queue.publish(Message("job", "slide", "1"))
        code = (
            "import sys, time\n"
            "from qupath_bridge.pipeline.cancel import CancelToken\n"
            "from qupath_bridge.service.queues.celery import CeleryQueue\n"
            "from qupath_bridge.service.settings import ServiceSettings\n"
            "settings = ServiceSettings(broker=sys.argv[1], database='sqlite:///none.sqlite')\n"
            "def handle(message, lost):\n"
            "    print(message.slide_id, flush=True); time.sleep(600)\n"
            "CeleryQueue(settings, None, sys.argv[2]).consume(handle, CancelToken())\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, self.rabbitmq.url, self.name],
            stdout=subprocess.PIPE, text=True, env={**os.environ},
        ) as worker:  # fmt: skip
            assert worker.stdout.readline() == "1\n"
            worker.kill()
        assert self.consume(queue, lambda message, lost: DONE, 1) == [Message("job", "slide", "1")]

    def test_a_task_of_another_program_is_dropped(self, queue: Queue) -> None:
        """It holds nobody up, and is given to nobody."""
        queue._app.send_task("tasks.add", args=(1, 2), queue=queue._main)
        queue.publish(Message("job", "slide", "1"))
        got = self.consume(queue, lambda message, lost: DONE, 1, linger=0.3)
        assert got == [Message("job", "slide", "1")]
        assert queue.waiting() == 0

    def test_a_broker_that_is_down_at_the_start_is_waited_for(self, queue: Queue) -> None:
        got: list[Message] = []

        def handle(message, lost):
            got.append(message)
            return DONE

        with ExitStack() as stack:
            with self.rabbitmq.down():
                stack.enter_context(self.consumer(queue, handle))
                time.sleep(1.5)
            queue.publish(Message("job", "slide", "1"))
            self.wait_for(lambda: got == [Message("job", "slide", "1")])

    def test_the_settings_open_it(self) -> None:
        queue = open_queue(self.settings, None)
        assert isinstance(queue, CeleryQueue)
        queue.close()
        queue.close()


def test_it_needs_a_broker(tmp_path):
    settings = ServiceSettings(queue="celery", database=f"sqlite:///{tmp_path / 'a.sqlite'}")
    with pytest.raises(UsageError, match="has no broker") as caught:
        open_queue(settings, Database(settings.database.get_secret_value()))
    assert "QUPATH_BRIDGE_BROKER" in caught.value.hint


@pytest.mark.parametrize(
    ("wait", "rounded"), [(1, 100), (500, 500), (1000, 1000), (37_420, 38_000), (113_000, 120_000)]
)
def test_waits_are_rounded_up(wait, rounded):
    assert _round_up(wait) == rounded


def test_a_broker_that_says_nothing_keeps_nobody_waiting(monkeypatch, tmp_path):
    """It takes the connection and is silent, as one that is killed at that moment."""
    monkeypatch.setattr("qupath_bridge.service.queues.celery.CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr("qupath_bridge.service.queues.celery.RECONNECT", 0.1)
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        port = silent.getsockname()[1]
        settings = ServiceSettings(
            database=f"sqlite:///{tmp_path / 'a.sqlite'}", broker=f"amqp://127.0.0.1:{port}//"
        )
        queue, stop = CeleryQueue(settings, None), CancelToken()
        thread = threading.Thread(target=queue.consume, args=(lambda *_: DONE, stop))
        thread.start()
        try:
            while len(seen) < 3:  # it tries again and again
                seen.append(silent.accept())
        finally:
            stop.cancel()
            thread.join(20)
            for connection, _ in seen:
                connection.close()
    assert not thread.is_alive()
