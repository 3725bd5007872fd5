"""The parts of a service that belong together, opened and closed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .database import Database
from .database.migrating import check_version, migrate
from .jobs import Jobs
from .queues import Queue, open_queue
from .settings import ServiceSettings

__all__ = ["Service", "open_service"]


@dataclass(frozen=True, slots=True)
class Service:
    """Parts that the API, a worker and the command line share."""

    settings: ServiceSettings
    database: Database
    queue: Queue
    jobs: Jobs


@contextmanager
def open_service(settings: ServiceSettings, *, migrates: bool = False) -> Iterator[Service]:
    """Open database and queue while the block runs.

    Parameters
    ----------
    settings : ServiceSettings
    migrates : bool
        Whether the tables are brought up to date; else other tables are refused.

    Raises
    ------
    UsageError
        If the database has other tables than this version, or a setting is wrong.
    MissingDependencyError
        If the queue cannot be imported.
    """
    database = Database(settings.database.get_secret_value())
    try:
        if migrates:
            migrate(database)
        else:
            check_version(database)
        queue = open_queue(settings, database)
        try:
            yield Service(settings, database, queue, Jobs(settings, database, queue))
        finally:
            queue.close()
    finally:
        database.close()
