"""The programs of the service: API, worker, or both in one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from qupath_bridge.pipeline.cancel import CancelToken

from .database import Database
from .database.indexing import index_run
from .database.migrating import check_version, migrate
from .opened import Service, open_service
from .settings import ServiceSettings
from .worker import Worker

__all__ = ["migrate_database", "reindex", "run_all", "run_api", "run_worker"]


LOOK = 0.5
"""Seconds between looks at a worker, in which an interrupt is noticed on every system."""


def run_worker(settings: ServiceSettings) -> None:
    """Work on jobs until the program is interrupted."""
    with (
        open_service(settings) as service,
        _worker(service) as thread,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while thread.is_alive():
            thread.join(LOOK)


def run_api(settings: ServiceSettings) -> None:
    """Answer requests until the program is interrupted."""
    from .http.serving import serve

    with open_service(settings) as service:
        serve(service)


def run_all(settings: ServiceSettings) -> None:
    """Bring the database up to date, answer requests, and work on jobs, in one process."""
    from .http.serving import serve

    with open_service(settings, migrates=True) as service, _worker(service):
        serve(service)


@contextlib.contextmanager
def _worker(service: Service) -> Iterator[threading.Thread]:
    """Work in a thread while the block runs: an interrupt then cuts no transaction off."""
    stop = CancelToken()
    worker = Worker(service.settings, service.database, service.queue)
    thread = threading.Thread(target=worker.run, args=(stop,), name="qupath-bridge-worker")
    thread.start()
    try:
        yield thread
    finally:
        stop.cancel()
        thread.join()


def migrate_database(settings: ServiceSettings) -> str:
    """Make or change the tables; return their version."""
    with _database(settings) as database:
        return migrate(database)


def reindex(settings: ServiceSettings, outputs: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Index the runs in some outputs anew; yield each output and the number of its patches.

    Parameters
    ----------
    settings : ServiceSettings
    outputs : iterable of str
        Outputs, or folders with outputs in them.

    Raises
    ------
    OutputError
        If an output is damaged; those before it are indexed.
    """
    with _database(settings) as database:
        check_version(database)
        for place in outputs:
            for output in _outputs_in(place):
                yield output, index_run(database, output)


@contextlib.contextmanager
def _database(settings: ServiceSettings) -> Iterator[Database]:
    database = Database(settings.database.get_secret_value())
    try:
        yield database
    finally:
        database.close()


def _outputs_in(place: str) -> list[str]:
    """Return the outputs in a folder, or the place itself."""
    folder = Path(place)
    if not folder.is_dir() or (folder / "run.json").is_file():
        return [place]
    return [str(each.parent) for each in sorted(folder.glob("*/run.json"))] or [place]
