"""The protocol of a queue.

A queue promises one thing: a message that was published is delivered until a worker says that it
is done or dead, whatever dies meanwhile. It may be delivered more than once, also to two workers
at a time (a broker that loses a connection does that), and in any order. What follows from a
message is decided by the handler alone, which counts attempts in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from qupath_bridge.errors import BridgeError
from qupath_bridge.pipeline.cancel import Cancel

__all__ = [
    "DONE",
    "Again",
    "Dead",
    "DeadLetter",
    "Done",
    "Handler",
    "Message",
    "Outcome",
    "Queue",
    "QueueDownError",
    "Step",
]

Step = Literal["prepare", "slide", "finish"]


@dataclass(frozen=True, slots=True)
class Message:
    """A piece of work: small, whatever the size of the job.

    Attributes
    ----------
    job_id : str
    step : str
        ``prepare``, ``slide`` or ``finish``.
    slide_id : str or None
        For the step ``slide``.
    """

    job_id: str
    step: Step
    slide_id: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The message has been dealt with, and is never delivered again."""


@dataclass(frozen=True, slots=True)
class Again:
    """The message could not be dealt with now: deliver it again after some seconds."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """The message can never be dealt with: put it among the dead letters."""

    reason: str


class QueueDownError(BridgeError):
    """The broker of a queue cannot be reached; what was asked for can be asked for again."""

    def __init__(self, message: str, *, hint: str | None = None, may_heal: bool = True) -> None:
        super().__init__(message, hint=hint, may_heal=may_heal)


DONE = Done()
Outcome = Done | Again | Dead
Handler = Callable[[Message, Cancel], Outcome]
"""Function that deals with a message, in the thread that called :meth:`Queue.consume` or another.

The second argument is set when the worker should give the message up: the worker is stopped, or
the queue has lost its hold on the message and delivers it to somebody else. The handler then ends
what it began and returns ``Again``. A handler limits its own time.
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could never be dealt with, and why."""

    message: Message
    reason: str


@runtime_checkable
class Queue(Protocol):
    """Brings messages to workers.

    A factory of the registry's kind ``queue`` is called with the settings of the service and its
    database. All methods but :meth:`consume`, which outlives that, raise `QueueDownError` when the
    broker is away; a queue that is in the database raises what the database does.
    """

    def publish(self, message: Message, *, delay: float = 0.0) -> None:
        """Accept a message: once this returns, a crash of anything does not lose it.

        It is delivered after ``delay`` seconds, or soon after that.
        """
        ...

    def consume(self, handle: Handler, stop: Cancel) -> None:
        """Deliver messages one after the other until ``stop`` is set.

        - A message is taken off the queue only when the handler has returned ``Done`` or
          ``Dead``. Before that, the death of this process gives it to another worker.
        - At most one message is held at a time; the others stay free for other workers.
        - ``Again`` delivers it again after the wait, to any worker.
        - An exception of the handler counts as ``Again``, after the ``retry_seconds`` of the
          settings, and is logged. It never ends the worker.
        - A broker that is down is tried again until it is back or ``stop`` is set.
        - When ``stop`` is set, the handler at work is told, and its message goes back.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Drop the messages of a job that wait, as far as the queue can find them.

        Those that it cannot find are delivered all the same, and the handler answers ``Done``.
        """
        ...

    def waiting(self) -> int:
        """Return how many messages wait for a worker, as far as the queue knows."""
        ...

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Yield the dead letters, oldest first; they stay where they are."""
        ...

    def close(self) -> None:
        """Close connections. Idempotent."""
        ...
