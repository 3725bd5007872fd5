"""A queue on RabbitMQ, whose messages are those of Celery.

Messages are published through Celery and delivered by kombu, its library of messages. Celery's own
worker is not used: it holds messages that have to wait, and brings process pools, time limits and
retries of its own, where the worker of the service has those already, the same for each queue.

One queue holds what can be delivered. What has to wait stands in a queue per length of the wait,
from which the broker itself moves it. Dead letters stand in a queue that nobody consumes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import UsageError

from .base import Again, Dead, DeadLetter, Message, Outcome

if TYPE_CHECKING:
    from qupath_bridge.pipeline.cancel import Cancel
    from qupath_bridge.service.database import Database
    from qupath_bridge.service.settings import ServiceSettings

    from .base import Handler

__all__ = ["CeleryQueue"]

log = logging.getLogger("qupath_bridge.service")

TASK = "qupath_bridge.step"
"""Name of the task; its arguments are job, step and slide."""

LOOK = 0.1
"""Seconds between looks at a stop, and at the handler at work."""

HEARTBEAT = 10.0
"""Seconds; a broker that is silent for two of them counts as gone."""

PAUSE = 1.0
"""Seconds between tries to reach a broker that is down."""

KEPT_MS = 60_000
"""Time after which a queue of waits that nobody uses is removed."""

RETRIES = {"max_retries": 3, "interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}


class CeleryQueue:
    """Messages on a broker that speaks AMQP.

    Parameters
    ----------
    settings : ServiceSettings
        ``broker``, ``broker_queue`` and ``retry_seconds`` count.
    database : Database
        Not used.

    Raises
    ------
    UsageError
        If there is no broker in the settings.
    """

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        import celery
        import kombu

        if settings.broker is None:
            raise UsageError(
                "The queue 'celery' needs a broker.",
                hint="Set broker, as amqp://user:password@host:5672//.",
            )
        self._retry = settings.retry_seconds
        self._name = settings.broker_queue
        self._app = celery.Celery("qupath_bridge", broker=settings.broker.get_secret_value())
        self._app.conf.update(
            task_default_queue=self._name,
            task_ignore_result=True,
            broker_connection_timeout=4,
            # Without it, a broker that is killed loses messages that it has said it has.
            broker_transport_options={"confirm_publish": True},
        )
        self._queue = kombu.Queue(self._name, durable=True)
        self._dead = kombu.Queue(f"{self._name}.dead", durable=True)

    def publish(self, message: Message, *, delay: float = 0.0) -> None:
        """Send a message; return when the broker has it on its disk."""
        self._send(message, self._queue if delay <= 0 else self._waiting_queue(delay))

    def consume(self, handle: Handler, stop: Cancel) -> None:
        """Take one message after the other, and hand them to the handler."""
        while not stop.is_set():
            try:
                self._consume(handle, stop)
            except self._errors as error:
                log.warning("The broker cannot be reached: %s", error)
                _sleep(PAUSE, stop)

    def cancel(self, job_id: str) -> None:
        """Do nothing: a broker cannot find the messages of a job."""

    def waiting(self) -> int:
        """Count the messages that the broker could deliver now."""
        with self._app.connection_for_read() as connection, connection.channel() as channel:
            return int(self._queue(channel).queue_declare().message_count)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Look at the queue of dead letters; all of them go back when the channel is closed."""
        found = []
        with self._app.connection_for_read() as connection, connection.channel() as channel:
            dead = self._dead(channel)
            dead.queue_declare()
            while (message := dead.get(no_ack=False)) is not None:
                reason = message.headers.get("reason", "")
                found.append(DeadLetter(_decoded(message), str(reason)))
        # One that the broker forgot to be dealt with, as it was killed, comes twice.
        yield from dict.fromkeys(found)

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        """Errors of a broker that is away."""
        connection = self._app.connection_for_read()
        return (*connection.connection_errors, *connection.channel_errors)

    def _waiting_queue(self, seconds: float) -> Any:
        """Return the queue in which messages wait so long, before the broker moves them."""
        import kombu

        wait = max(1, math.ceil(seconds * 1000))
        return kombu.Queue(
            f"{self._name}.wait.{wait}",
            durable=True,
            queue_arguments={
                "x-message-ttl": wait,
                "x-expires": wait + KEPT_MS,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self._name,
            },
        )

    def _send(self, message: Message, queue: Any, **headers: str) -> None:
        # The broker moves messages that waited to this queue, which has to be there.
        declared = [self._queue, queue]
        self._app.send_task(
            TASK,
            args=[message.job_id, message.step, message.slide_id],
            queue=queue,
            declare=declared,
            headers=headers,
            ignore_result=True,
            retry=True,
            retry_policy=RETRIES,
        )

    def _consume(self, handle: Handler, stop: Cancel) -> None:
        """Consume over one connection, until it breaks or ``stop`` is set."""
        arrived: list[Any] = []
        with (
            self._app.connection_for_read(heartbeat=HEARTBEAT) as connection,
            connection.channel() as channel,
        ):
            channel.basic_qos(0, 1, False)  # one message at a time; the others stay free
            consumer = connection.Consumer(
                [self._queue(channel)],
                channel=channel,
                on_message=arrived.append,
                accept=["json"],
            )
            consumer.consume()
            while not stop.is_set():
                _drain(connection)
                while arrived:
                    self._deal_with(arrived.pop(0), connection, handle, stop)

    def _deal_with(self, delivery: Any, connection: Any, handle: Handler, stop: Cancel) -> None:
        """Hand a message to the handler in a thread of its own, and keep the connection alive."""
        work = _Work(handle, _decoded(delivery), self._retry, stop)
        try:
            while not work.ended.wait(0):
                _drain(connection)
        except BaseException:
            work.lost.set()  # the broker gives the message to somebody else
            work.ended.wait()
            raise
        self._settle(delivery, work.message, work.outcome, stop)

    def _settle(self, delivery: Any, message: Message, outcome: Outcome, stop: Cancel) -> None:
        """Tell the broker; what comes of a message is there before the message goes."""
        if isinstance(outcome, Again):
            if stop.is_set() or outcome.seconds <= 0:
                delivery.requeue()
                return
            self.publish(message, delay=outcome.seconds)
        elif isinstance(outcome, Dead):
            self._send(message, self._dead, reason=outcome.reason)
        delivery.ack()


class _Work:
    """A message at work in a thread. ``outcome`` is there once ``ended`` is set."""

    def __init__(self, handle: Handler, message: Message, retry: float, stop: Cancel) -> None:
        self.message = message
        self.lost, self.ended = threading.Event(), threading.Event()
        self.outcome: Outcome = Again(retry, "it was not begun")
        self._handle, self._retry, self._stop = handle, retry, stop
        threading.Thread(target=self._run, name="qupath-bridge-step", daemon=True).start()

    def is_set(self) -> bool:
        """Return whether the handler should give up: it is what the handler looks at."""
        return self.lost.is_set() or self._stop.is_set()

    def _run(self) -> None:
        try:
            self.outcome = self._handle(self.message, self)
        except Exception as error:  # nothing may end the worker or lose a message
            message = self.message
            log.exception("%s of job %s failed", message.step, message.job_id)
            self.outcome = Again(self._retry, f"{type(error).__name__}: {error}")
        finally:
            self.ended.set()


def _drain(connection: Any) -> None:
    """Take what the broker sends, for a moment, and show it that this end is alive."""
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=LOOK)
    connection.heartbeat_check()


def _decoded(delivery: Any) -> Message:
    """Return the message in a delivery of Celery's."""
    (job_id, step, slide_id), *_ = json.loads(delivery.body)
    return Message(job_id, step, slide_id)


def _sleep(seconds: float, stop: Cancel) -> None:
    """Wait, in short naps that a stop ends."""
    event = threading.Event()
    for _ in range(max(1, round(seconds / LOOK))):
        if stop.is_set():
            return
        event.wait(LOOK)
