"""Queues: they bring each message to one worker at a time, until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qupath_bridge import registry

from .base import (
    DONE,
    Again,
    Dead,
    DeadLetter,
    Done,
    Handler,
    Message,
    Outcome,
    Queue,
    QueueDownError,
)

if TYPE_CHECKING:
    from qupath_bridge.service.database import Database
    from qupath_bridge.service.settings import ServiceSettings

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
    "open_queue",
]


def open_queue(settings: ServiceSettings, database: Database) -> Queue:
    """Open the queue that the settings name.

    Raises
    ------
    UsageError
        If no queue has this name, or it lacks a setting.
    MissingDependencyError
        If it cannot be imported.
    """
    return cast(Queue, registry.load("queue", settings.queue)(settings, database))
