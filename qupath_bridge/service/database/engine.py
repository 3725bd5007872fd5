"""A database by its URL: an SQLite file, or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from qupath_bridge.errors import UsageError

__all__ = ["Database", "DatabaseDownError"]

BUSY_SECONDS = 30.0
"""Longest wait for another writer of an SQLite file."""

KNOWN = ("sqlite", "postgresql")

DatabaseDownError = OperationalError
"""Raised while the database cannot be reached; what was asked for can be asked for again."""


class Database:
    """Transactions on one database. May be used from several threads.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    UsageError
        If it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise UsageError("The database is not named by a URL.", hint=_HINT) from None
        if parsed.get_backend_name() not in KNOWN:
            raise UsageError(f"No database is called {parsed.drivername}.", hint=_HINT)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {}
        if self.is_sqlite:
            if parsed.database in (None, "", ":memory:"):
                raise UsageError("The database has to be a file: workers share it.", hint=_HINT)
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        else:
            options["pool_pre_ping"] = True
        try:
            self.engine = sa.create_engine(parsed, **options)
        except NoSuchModuleError:
            raise UsageError(f"No driver is called {parsed.drivername}.", hint=_HINT) from None
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    def check_connection(self) -> None:
        """Find out whether the database answers, before a program counts on it.

        Raises
        ------
        UsageError
            If it does not, or refuses this user.
        """
        try:
            self.engine.connect().close()
        except DatabaseDownError as error:
            cause = str(error.orig).splitlines()[0].rstrip(". ")
            raise UsageError(f"The database cannot be opened: {cause}.", hint=_DOWN_HINT) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state, as far as the database keeps several."""
        with self.engine.connect().execution_options(reads_only=True) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection whose changes count together at the end of the block, or not at all.

        On SQLite one block runs at a time; on PostgreSQL rows have to be locked
        (``with_for_update``) before a decision depends on them.
        """
        with self.engine.begin() as connection:
            yield connection

    def now(self, connection: sa.Connection) -> float:
        """Return the time in seconds since 1970, by one clock for all workers."""
        if self.is_sqlite:
            return time.time()
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self.engine.dispose()

    def __repr__(self) -> str:
        return f"Database({self.engine.url.render_as_string(hide_password=True)!r})"


_HINT = "Use sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME."
_DOWN_HINT = "Start it, or correct QUPATH_BRIDGE_DATABASE; then run the command again."


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Let SQLAlchemy begin transactions, and readers go on beside a writer."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the lock of writers at once: a reader that turns into one would fail, not wait."""
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
