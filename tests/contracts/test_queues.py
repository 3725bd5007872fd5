"""The embedded queue keeps the contract, and its leases."""

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.database import Database
from qupath_bridge.service.database.migrating import migrate
from qupath_bridge.service.database.models import QueuedMessage
from qupath_bridge.service.queues import DONE, Message, Queue, open_queue
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.contracts.queue import QueueContract


class TestEmbedded(QueueContract):
    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.settings = ServiceSettings(
            database=f"sqlite:///{tmp_path / 'queue.sqlite'}", lease_seconds=1.0, retry_seconds=0.1
        )
        self.database = Database(self.settings.database.get_secret_value())
        migrate(self.database)
        yield
        self.database.close()

    def open(self) -> Queue:
        return open_queue(self.settings, self.database)

    def test_the_lease_of_a_dead_worker_runs_out(self, queue: Queue) -> None:
        queue.publish(Message("job", "slide", "1"))
        assert queue._take() is not None  # and its worker dies
        assert queue._take() is None
        began = time.monotonic()
        assert self.consume(queue, lambda message, lost: DONE, 1) == [Message("job", "slide", "1")]
        assert time.monotonic() - began >= 0.8

    def test_a_worker_that_lost_its_message_is_told_and_changes_nothing(self, queue: Queue) -> None:
        queue.publish(Message("job", "slide", "1"))
        told = threading.Event()

        def handle(message, lost):
            with self.database.write() as connection:
                connection.execute(sa.update(QueuedMessage).values(owner="another"))
            deadline = time.monotonic() + 10
            while not lost.is_set() and time.monotonic() < deadline:
                time.sleep(0.02)
            if lost.is_set():
                told.set()
            stop.cancel()
            return DONE

        stop = CancelToken()
        queue.consume(handle, stop)
        assert told.is_set()
        with self.database.read() as connection:
            assert connection.scalar(sa.select(QueuedMessage.owner)) == "another"

    def test_cancel_drops_what_waits(self, queue: Queue) -> None:
        queue.publish(Message("mine", "slide", "1"))
        queue.publish(Message("other", "slide", "1"))
        queue.cancel("mine")
        assert queue.waiting() == 1
