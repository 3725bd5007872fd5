"""A queue on RabbitMQ: messages are tasks of Celery, taken one at a time by our own worker.

Celery writes the tasks: its publisher waits until the broker has confirmed each one, and connects
again by itself. Taking them is left to Kombu, on which Celery's worker is built, for three reasons.
A slide runs in a child process with limits of its own, and a process of Celery's pool may have no
children. A worker of Celery keeps the tasks that have to wait in its memory, where they count as
taken. And the pool that Celery has on Windows sends no heartbeats while it works.

A message that waits is in a queue of the broker whose messages live as long as the wait, and go
to the queue of all workers then. One that can never be dealt with is in ``NAME.dead``.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import MissingDependencyError, UsageError

from .base import Again, Dead, DeadLetter, Message, Outcome, QueueDownError
from .handling import hand_over, nap

if TYPE_CHECKING:
    from qupath_bridge.pipeline.cancel import Cancel
    from qupath_bridge.service.database import Database
    from qupath_bridge.service.settings import ServiceSettings

    from .base import Handler

__all__ = ["CeleryQueue"]

log = logging.getLogger("qupath_bridge.service")

TASK = "qupath_bridge."
"""Beginning of the names of tasks; the step follows."""

REASON = "qupath_bridge_reason"
"""Header of a dead letter."""

HEARTBEAT = 30
"""Seconds between signs of life; a broker that gives none for two of them counts as gone."""

LOOK = 0.2
"""Seconds between looks at the connection while a message is at work."""

RECONNECT = 1.0
"""Seconds between attempts to reach a broker that is down."""

CONNECT_TIMEOUT = 5.0

ANSWER = 15.0
"""Seconds that a broker may take for an answer, before it counts as gone: without a limit, one that
dies while it is asked would keep a worker waiting for ever."""

CONNECTIONS = 4
"""Most connections that send at the same time."""

RETRIES = {"max_retries": 4, "interval_start": 0.1, "interval_step": 0.5, "interval_max": 2.0}
"""Attempts to send a message before `QueueDownError`, over some four seconds."""


def _give_up_slow(error: Exception, wait: float) -> None:
    """End the attempts to send a message to a broker that took too long.

    It may have the message, and be busy writing it: sent again, the message would come twice.
    """
    if isinstance(error, TimeoutError):
        raise error


class CeleryQueue:
    """Tasks of Celery in a durable queue of RabbitMQ.

    A connection that breaks gives the message at work to another worker. The lease of its slide
    keeps that one off, so the work goes on: after a pause of the broker nothing has to be done
    twice.

    Parameters
    ----------
    settings : ServiceSettings
        ``broker`` and ``retry_seconds`` count.
    database : Database
        Not used: all is in the broker.
    name : str
        Name of the queue. Services that share a broker have a virtual host each.

    Raises
    ------
    UsageError
        If the settings name no broker.
    MissingDependencyError
        If Celery is not installed.
    """

    def __init__(
        self, settings: ServiceSettings, database: Database, name: str = "qupath-bridge"
    ) -> None:
        if settings.broker is None:
            raise UsageError(
                "The queue celery has no broker.",
                hint="Set QUPATH_BRIDGE_BROKER=amqp://USER:PASSWORD@HOST/VIRTUAL_HOST.",
            )
        try:
            import kombu.pools
            from celery import Celery
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"The queue celery needs {error.name}, which is not installed.",
                hint="Install it with: pip install 'qupath-bridge[service]'.",
            ) from error
        self._kombu: Any = kombu  # its annotations are incomplete
        self._retry = settings.retry_seconds
        self._name = name
        self._app = Celery(
            "qupath_bridge", broker=settings.broker.get_secret_value(), set_as_current=False
        )
        self._app.conf.update(
            broker_transport_options={
                "confirm_publish": True,
                "frame_handler": _limited_reading,
            },
            broker_connection_timeout=CONNECT_TIMEOUT,
            broker_heartbeat=HEARTBEAT,
            task_ignore_result=True,
            task_publish_retry_policy={**RETRIES, "errback": _give_up_slow},
        )
        # Pools of our own: Celery's belong to all who use this broker, and are closed for all.
        self._connections: Any = self._app.connection_for_write().Pool(limit=CONNECTIONS)
        self._producers = self._kombu.pools.ProducerPool(self._connections, limit=CONNECTIONS)
        self._main = self._queue(name)
        self._dead = self._queue(f"{name}.dead")
        # What Kombu raises for a connection; OperationalError stands for all when it gave up.
        with self._app.connection_for_read() as connection:
            self._down = (
                kombu.exceptions.OperationalError,
                *connection.connection_errors,
                *connection.channel_errors,
            )

    def publish(self, message: Message, *, delay: float = 0.0) -> None:
        """Send a task, and wait until the broker has it on its disk."""
        self._send(message, self._waiting_room(delay) if delay > 0 else self._main)

    def consume(self, handle: Handler, stop: Cancel) -> None:
        """Take tasks; each is worked on in a thread, beside the heartbeats of the connection."""
        with ThreadPoolExecutor(1, thread_name_prefix="qupath-bridge-task") as hands:
            while not stop.is_set():
                try:
                    self._take(hands, handle, stop)
                except (*self._down, QueueDownError) as error:
                    log.warning("The broker cannot be reached: %s", error)
                    nap(RECONNECT, stop)
                except Exception:  # of a connection that breaks, anything; nothing ends a worker
                    log.exception("The connection to the broker failed; a new one is made")
                    nap(RECONNECT, stop)

    def cancel(self, job_id: str) -> None:
        """Do nothing: a queue of RabbitMQ cannot be searched. The handler answers ``Done``."""

    def waiting(self) -> int:
        """Count the messages that no worker holds, without those that have to wait."""
        try:
            with self._connected() as connection:
                bound = self._main(connection.default_channel)
                return int(bound.queue_declare().message_count)
        except self._down as error:
            raise _down(error) from error

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Yield what is in the queue of dead letters; closing the connection puts it back."""
        try:
            with self._connected() as connection:
                bound = self._dead(connection.default_channel)
                bound.queue_declare()
                found = []
                while (letter := bound.get()) is not None:
                    found.append(DeadLetter(_message(letter), str(letter.headers.get(REASON))))
        except self._down as error:
            raise _down(error) from error
        yield from found

    def close(self) -> None:
        """Close the connections of this queue. Idempotent."""
        self._producers.force_close_all()
        self._connections.force_close_all()
        self._app.close()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Give a new connection to the broker while the block runs."""
        with self._app.connection_for_read() as connection, _dropped_if_broken(connection):
            connection.ensure_connection(max_retries=0)
            yield connection

    def _queue(self, name: str, **arguments: Any) -> Any:
        """Describe a durable queue of the default exchange."""
        return self._kombu.Queue(
            name, routing_key=name, durable=True, queue_arguments=arguments or None
        )

    def _waiting_room(self, delay: float) -> Any:
        """Describe a queue whose messages go to the workers after a wait.

        A queue for each wait: RabbitMQ looks at the first message of a queue alone. Waits are
        rounded up, so that there are few, and a queue that is not used any more goes away.
        """
        milliseconds = _round_up(delay * 1000)
        arguments = {
            "x-message-ttl": milliseconds,
            "x-expires": milliseconds + 60_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._name,
        }
        return self._queue(f"{self._name}.wait.{milliseconds}", **arguments)

    def _send(self, message: Message, queue: Any, **headers: str) -> None:
        try:
            with (
                self._producers.acquire(block=True) as producer,
                _dropped_if_broken(producer.connection),
            ):
                self._app.send_task(
                    TASK + message.step,
                    kwargs={"job_id": message.job_id, "slide_id": message.slide_id},
                    producer=producer,
                    queue=queue,
                    # Both: a message that comes out of a wait finds the queue of the workers.
                    declare=[self._main, queue],
                    delivery_mode=2,
                    confirm_timeout=ANSWER,
                    headers=headers,
                    ignore_result=True,
                )
        except self._down as error:
            raise _down(error) from error

    def _take(self, hands: ThreadPoolExecutor, handle: Handler, stop: Cancel) -> None:
        """Deal with messages of one connection until it breaks, or ``stop`` is set."""
        received: deque[Any] = deque()
        with self._connected() as connection:  # which ends channel and consumer
            self._kombu.Consumer(
                connection.channel(), [self._main], on_message=received.append, prefetch_count=1
            ).consume()
            while not stop.is_set():
                _listen(connection, LOOK)
                if received and not stop.is_set():
                    self._deal(received.popleft(), connection, hands, handle, stop)

    def _deal(
        self, task: Any, connection: Any, hands: ThreadPoolExecutor, handle: Handler, stop: Cancel
    ) -> None:
        """Have a message worked on, and take it off the queue when that is done."""
        try:
            message = _message(task)
        except Exception as error:  # noqa: BLE001  # another program may have sent anything
            log.error("A message of another program is dropped: %r", error)
            task.reject()
            return
        work = hands.submit(hand_over, handle, message, stop, self._retry)
        try:
            while not wait([work], LOOK).done:
                _listen(connection, 0.001)
        except Exception:
            self._bury(message, work.result())  # it is delivered again, and found done
            raise
        outcome = work.result()
        if isinstance(outcome, Again) and stop.is_set():
            task.requeue()
            return
        if isinstance(outcome, Again):  # first the copy: a message may come twice, never not at all
            self.publish(message, delay=outcome.seconds)
        self._bury(message, outcome)
        task.ack()

    def _bury(self, message: Message, outcome: Outcome) -> None:
        if isinstance(outcome, Dead):
            self._send(message, self._dead, **{REASON: outcome.reason})


@contextmanager
def _dropped_if_broken(connection: Any) -> Iterator[None]:
    """Let go of a connection when the block fails, without a word to the broker.

    Kombu takes leave of consumers, channels and connections, and waits for an answer to each. A
    broker that is half there would keep a worker for the better part of a minute, each time.
    """
    try:
        yield
    except BaseException:
        connection.collect()
        raise


def _limited_reading(connection: Any, callback: Callable[..., Any]) -> Any:
    """Return what reads from a new connection, all of whose waits have an end from now on.

    The options of py-amqp for this are of the socket of the system. They mean something else on
    Windows, and with them a broker that falls silent within an answer is read without an end.
    """
    from amqp.method_framing import frame_handler

    connection.transport.sock.settimeout(ANSWER)
    return frame_handler(connection, callback)


def _listen(connection: Any, seconds: float) -> None:
    """Take what the broker sends within some seconds, and give a sign of life."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=seconds)
    connection.heartbeat_check()


def _message(task: Any) -> Message:
    """Return the message that a task carries."""
    _, values, _ = task.decode()
    step = task.headers["task"].removeprefix(TASK)
    if step not in ("prepare", "slide", "finish"):
        raise ValueError(f"no step is called {step!r}")
    return Message(values["job_id"], step, values["slide_id"])


def _round_up(milliseconds: float) -> int:
    """Round a wait up to two digits, and to tenths of a second at least."""
    digits = math.floor(math.log10(max(1.0, milliseconds)))
    unit: int = max(100, int(10.0 ** (digits - 1)))
    return math.ceil(milliseconds / unit) * unit


def _down(error: Exception) -> QueueDownError:
    return QueueDownError(
        f"The broker cannot be reached: {error}",
        hint="Is RabbitMQ running? See QUPATH_BRIDGE_BROKER.",
    )
