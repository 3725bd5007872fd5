"""A queue in the database of the service: no broker is needed.

A worker leases a message and renews the lease while it works. The lease of a worker that died
runs out, and the message is free again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from qupath_bridge.patches.ids import run_id
from qupath_bridge.service.database.engine import DatabaseDownError
from qupath_bridge.service.database.models import QueuedMessage

from .base import Again, Dead, DeadLetter, Message, Outcome
from .handling import hand_over, nap

if TYPE_CHECKING:
    from qupath_bridge.pipeline.cancel import Cancel
    from qupath_bridge.service.database import Database
    from qupath_bridge.service.settings import ServiceSettings

    from .base import Handler

__all__ = ["EmbeddedQueue"]

log = logging.getLogger("qupath_bridge.service")

POLL = 0.25
"""Seconds between looks at an empty queue."""

RENEWALS = 3
"""Times that a lease is renewed before it would run out."""


class EmbeddedQueue:
    """Messages as rows of a table.

    Parameters
    ----------
    settings : ServiceSettings
        ``lease_seconds`` and ``retry_seconds`` count.
    database : Database
    """

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        self._lease = settings.lease_seconds
        self._retry = settings.retry_seconds
        self._database = database

    def publish(self, message: Message, *, delay: float = 0.0) -> None:
        """Put a row into the table."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(QueuedMessage).values(
                    job_id=message.job_id,
                    step=message.step,
                    slide_id=message.slide_id,
                    due=self._database.now(connection) + delay,
                    leased_until=0.0,
                )
            )

    def consume(self, handle: Handler, stop: Cancel) -> None:
        """Lease messages and hand them to the handler."""
        while not stop.is_set():
            try:
                leased = self._take()
            except DatabaseDownError as error:
                log.warning("No message can be taken now: %s", error.message)
                leased = None
            if leased is None:
                nap(POLL, stop)
                continue
            number, owner, message = leased
            with self._held(number, owner, stop) as lost:
                outcome = hand_over(handle, message, lost, self._retry)
            self._settle(number, owner, outcome, stop)

    def cancel(self, job_id: str) -> None:
        """Delete the messages of a job that no worker holds."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(
                sa.delete(QueuedMessage).where(
                    QueuedMessage.job_id == job_id,
                    QueuedMessage.reason.is_(None),
                    QueuedMessage.leased_until <= now,
                )
            )

    def waiting(self) -> int:
        """Count the messages that no worker holds."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            found = connection.scalar(
                sa.select(sa.func.count())
                .select_from(QueuedMessage)
                .where(QueuedMessage.reason.is_(None), QueuedMessage.leased_until <= now)
            )
        return int(found or 0)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Yield the rows that have a reason."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(QueuedMessage.__table__)
                .where(QueuedMessage.reason.is_not(None))
                .order_by(QueuedMessage.number)
            ).all()
        for row in rows:
            yield DeadLetter(Message(row.job_id, row.step, row.slide_id), row.reason)

    def close(self) -> None:
        """Do nothing: the database belongs to the caller."""

    def _take(self) -> tuple[int, str, Message] | None:
        """Lease the message that waits longest."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            row = connection.execute(
                sa.select(QueuedMessage.__table__)
                .where(
                    QueuedMessage.reason.is_(None),
                    QueuedMessage.due <= now,
                    QueuedMessage.leased_until <= now,
                )
                .order_by(QueuedMessage.due, QueuedMessage.number)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            owner = run_id()
            connection.execute(
                sa.update(QueuedMessage)
                .where(QueuedMessage.number == row.number)
                .values(owner=owner, leased_until=now + self._lease)
            )
        return row.number, owner, Message(row.job_id, row.step, row.slide_id)

    @contextmanager
    def _held(self, number: int, owner: str, stop: Cancel) -> Iterator[Cancel]:
        """Renew a lease while the block runs; give what says that it is lost, or work stops."""
        ended, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not ended.wait(self._lease / RENEWALS):
                if not self._renew(number, owner):
                    lost.set()
                    return

        thread = threading.Thread(target=renew, name="qupath-bridge-lease", daemon=True)
        thread.start()
        try:
            yield _Either(lost, stop)
        finally:
            ended.set()
            thread.join()

    def _renew(self, number: int, owner: str) -> bool:
        """Lease a message for longer; return False if it is somebody else's by now."""
        try:
            with self._database.write() as connection:
                until = self._database.now(connection) + self._lease
                renewed = connection.execute(
                    sa.update(QueuedMessage)
                    .where(QueuedMessage.number == number, QueuedMessage.owner == owner)
                    .values(leased_until=until)
                )
        except DatabaseDownError as error:
            # The lease may run out; whoever takes the message finds the slide leased, too.
            log.warning("A lease could not be renewed: %s", error.message)
            return True
        return renewed.rowcount == 1

    def _settle(self, number: int, owner: str, outcome: Outcome, stop: Cancel) -> None:
        """Note what became of a message. Without the database its lease runs out, and it stays."""
        mine = (QueuedMessage.number == number, QueuedMessage.owner == owner)
        try:
            with self._database.write() as connection:
                if isinstance(outcome, Again):
                    wait = 0.0 if stop.is_set() else outcome.seconds
                    due = self._database.now(connection) + wait
                    values = {"due": due, "leased_until": 0.0, "owner": None}
                    connection.execute(sa.update(QueuedMessage).where(*mine).values(**values))
                elif isinstance(outcome, Dead):
                    connection.execute(
                        sa.update(QueuedMessage).where(*mine).values(reason=outcome.reason)
                    )
                else:
                    connection.execute(sa.delete(QueuedMessage).where(*mine))
        except DatabaseDownError as error:
            log.warning("A message could not be settled: %s", error.message)


class _Either:
    """Cancel token that is set when one of two is."""

    def __init__(self, first: Cancel, second: Cancel) -> None:
        self._both = (first, second)

    def is_set(self) -> bool:
        return any(each.is_set() for each in self._both)
