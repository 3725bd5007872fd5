"""The contract of a queue: every promise of :class:`qupath_bridge.service.queues.base.Queue`."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from qupath_bridge.pipeline.cancel import Cancel, CancelToken
from qupath_bridge.service.queues.base import (
    DONE,
    Again,
    Dead,
    DeadLetter,
    Handler,
    Message,
    Outcome,
    Queue,
)

__all__ = ["QueueContract"]


class QueueContract(ABC):
    """Subclass it, and say how a queue is opened.

    The settings of the queue should have ``retry_seconds`` below one second, and
    ``lease_seconds``, where they count, of about one.
    """

    seconds = 20.0
    """Longest wait for what has to happen."""

    @abstractmethod
    def open(self) -> Queue:
        """Open the queue of this test once more: it was empty before the test."""

    @pytest.fixture
    def queue(self) -> Iterator[Queue]:
        """Open the queue, and close it after the test."""
        queue = self.open()
        yield queue
        queue.close()

    def test_each_message_is_delivered_once(self, queue: Queue) -> None:
        """While nothing goes wrong."""
        sent = [
            Message("job", "prepare"),
            Message("job", "slide", "1_ä b"),
            Message("j2", "finish"),
        ]
        for message in sent:
            queue.publish(message)
        got = self.consume(queue, lambda message, lost: DONE, 3, linger=0.5)
        assert sorted(got, key=repr) == sorted(sent, key=repr)
        assert queue.waiting() == 0
        assert list(queue.dead_letters()) == []

    def test_what_was_published_outlives_the_publisher(self, queue: Queue) -> None:
        """Another one that is opened later delivers it."""
        queue.publish(Message("job", "slide", "1"))
        queue.close()
        again = self.open()
        assert self.consume(again, lambda message, lost: DONE, 1) == [Message("job", "slide", "1")]
        again.close()

    def test_a_delayed_message_waits(self, queue: Queue) -> None:
        """And comes then."""
        began = time.monotonic()
        queue.publish(Message("job", "slide", "late"), delay=1.0)
        self.consume(queue, lambda message, lost: DONE, 1)
        assert time.monotonic() - began >= 0.9

    def test_again_delivers_again_after_the_wait(self, queue: Queue) -> None:
        """As often as the handler asks for it."""
        times: list[float] = []

        def handle(message: Message, lost: Cancel) -> Outcome:
            times.append(time.monotonic())
            return Again(0.5, "not yet") if len(times) < 3 else DONE

        queue.publish(Message("job", "slide", "1"))
        self.consume(queue, handle, 3, linger=0.5)
        assert len(times) == 3
        assert all(after - before >= 0.45 for before, after in pairwise(times))

    def test_others_come_while_one_waits(self, queue: Queue) -> None:
        """A message that has to wait holds nobody up."""
        order: list[str | None] = []

        def handle(message: Message, lost: Cancel) -> Outcome:
            order.append(message.slide_id)
            return Again(1.0, "wait") if order == ["slow"] else DONE

        queue.publish(Message("job", "slide", "slow"))
        with self.consumer(queue, handle):
            self.wait_for(lambda: order == ["slow"])
            queue.publish(Message("job", "slide", "quick"))
            self.wait_for(lambda: len(order) == 3)
        assert order == ["slow", "quick", "slow"]

    def test_an_exception_loses_nothing(self, queue: Queue) -> None:
        """The worker goes on, and the message comes again."""
        calls: list[Message] = []

        def handle(message: Message, lost: Cancel) -> Outcome:
            calls.append(message)
            if len(calls) == 1:
                raise RuntimeError("a fault of the handler")
            return DONE

        queue.publish(Message("job", "slide", "1"))
        self.consume(queue, handle, 2, count=lambda: len(calls))
        assert calls == [Message("job", "slide", "1")] * 2

    def test_dead_letters_are_kept_and_never_delivered(self, queue: Queue) -> None:
        """With the reason."""
        queue.publish(Message("job", "slide", "poison"))
        queue.publish(Message("job", "slide", "fine"))

        def handle(message: Message, lost: Cancel) -> Outcome:
            return Dead("it kills its process") if message.slide_id == "poison" else DONE

        got = self.consume(queue, handle, 2, linger=0.5)
        assert len(got) == 2
        expected = [DeadLetter(Message("job", "slide", "poison"), "it kills its process")]
        self.wait_for(lambda: list(queue.dead_letters()) == expected)
        assert list(queue.dead_letters()) == expected  # reading them takes none away

    def test_two_workers_share_the_messages(self, queue: Queue) -> None:
        """Nobody holds more than the one at work."""
        at_work: list[str | None] = []
        both = threading.Barrier(2, timeout=self.seconds)

        def handle(message: Message, lost: Cancel) -> Outcome:
            at_work.append(message.slide_id)
            both.wait()  # passes only if two messages are at work at the same time
            return DONE

        for name in ("1", "2"):
            queue.publish(Message("job", "slide", name))
        other = self.open()
        with self.consumer(queue, handle), self.consumer(other, handle):
            self.wait_for(lambda: len(at_work) == 2)
        assert sorted(map(str, at_work)) == ["1", "2"]
        other.close()

    def test_a_message_is_not_delivered_while_it_is_worked_on(self, queue: Queue) -> None:
        """However long that takes, while the worker lives."""
        calls: list[str] = []
        other = self.open()

        def slow(message: Message, lost: Cancel) -> Outcome:
            calls.append("slow")
            time.sleep(2.5)
            return DONE

        def quick(message: Message, lost: Cancel) -> Outcome:
            calls.append("quick")
            return DONE

        with self.consumer(queue, slow):
            queue.publish(Message("job", "slide", "1"))
            self.wait_for(lambda: calls == ["slow"])
            self.consume(other, quick, 0, linger=3.0)
        assert calls == ["slow"]
        other.close()

    def test_stop_tells_the_handler_and_gives_the_message_back(self, queue: Queue) -> None:
        """Another worker gets it."""
        began = threading.Event()

        def handle(message: Message, lost: Cancel) -> Outcome:
            began.set()
            deadline = time.monotonic() + self.seconds
            while not lost.is_set() and time.monotonic() < deadline:
                time.sleep(0.02)
            return Again(30.0, "stopped")

        queue.publish(Message("job", "slide", "1"))
        with self.consumer(queue, handle):
            assert began.wait(self.seconds)
        other = self.open()
        assert self.consume(other, lambda message, lost: DONE, 1) == [Message("job", "slide", "1")]
        other.close()

    def test_cancel_takes_nothing_from_other_jobs(self, queue: Queue) -> None:
        """What is delivered of the job all the same is answered by the handler."""
        queue.publish(Message("mine", "slide", "1"))
        queue.publish(Message("other", "slide", "1"))
        queue.cancel("mine")
        got: list[Message] = []

        def handle(message: Message, lost: Cancel) -> Outcome:
            got.append(message)
            return DONE

        with self.consumer(queue, handle):
            self.wait_for(lambda: any(message.job_id == "other" for message in got))

    def test_a_stopped_worker_takes_nothing(self, queue: Queue) -> None:
        """It returns at once."""
        queue.publish(Message("job", "slide", "1"))
        stop = CancelToken()
        stop.cancel()
        queue.consume(lambda message, lost: pytest.fail("delivered"), stop)
        assert queue.waiting() == 1

    def consume(
        self,
        queue: Queue,
        handle: Handler,
        wanted: int,
        *,
        linger: float = 0.0,
        count: Callable[[], int] | None = None,
    ) -> list[Message]:
        """Work until so many messages were dealt with, and some seconds longer."""
        got: list[Message] = []

        def recorded(message: Message, lost: Cancel) -> Outcome:
            outcome = handle(message, lost)
            got.append(message)
            return outcome

        with self.consumer(queue, recorded):
            self.wait_for(lambda: (count() if count else len(got)) >= wanted)
            time.sleep(linger)
        return got

    @contextmanager
    def consumer(self, queue: Queue, handle: Handler) -> Iterator[None]:
        """Consume in a thread while the block runs."""
        stop = CancelToken()
        thread = threading.Thread(target=queue.consume, args=(handle, stop))
        thread.start()
        try:
            yield
        finally:
            stop.cancel()
            thread.join(self.seconds)
        assert not thread.is_alive(), "the worker does not stop"

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + self.seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)
