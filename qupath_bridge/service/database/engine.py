"""A database by its URL: an SQLite file, or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from qupath_bridge.errors import BridgeError, UsageError

__all__ = ["Database", "DatabaseDownError"]

BUSY_SECONDS = 30.0
"""Longest wait for another writer of an SQLite file."""

POOL_SECONDS = 10.0
"""Longest wait for one of the connections of this process: clients wait 30 s for an answer."""

CONNECTING = {
    "connect_timeout": 10,
    # A server, or the network before it, may go without a word. On Linux that is noticed.
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 30_000,
}
"""Limits of the driver of PostgreSQL, unless the URL has others; the last one in milliseconds."""

LIMIT_SECONDS = 20
"""Longest time for one statement on PostgreSQL, unless its transaction says that it is long."""

KNOWN = ("sqlite", "postgresql")

UNDEFINED_TABLE = "42P01"
"""PostgreSQL's code of a table that is not there."""


class DatabaseDownError(BridgeError):
    """The database is away, has no time, or fails. The same can be asked for again."""

    def __init__(self, message: str, *, hint: str | None = None, may_heal: bool = True) -> None:
        super().__init__(message, hint=hint, may_heal=may_heal)


class Database:
    """Transactions on one database. May be used from several threads.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    UsageError
        If it is not such a URL, or the folder of the file cannot be made.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise UsageError("The database is not named by a URL.", hint=_HINT) from None
        if parsed.get_backend_name() not in KNOWN:
            raise UsageError(f"No database is called {parsed.drivername}.", hint=_HINT)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._file = parsed.database if self.is_sqlite else None
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {}
        if self.is_sqlite:
            if parsed.database in (None, "", ":memory:"):
                raise UsageError("The database has to be a file: workers share it.", hint=_HINT)
            folder = Path(str(self._file)).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                cause = f"its folder {folder} cannot be made: {error.strerror or error}"
                raise self._unusable(cause) from error
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        else:
            options |= {"pool_pre_ping": True, "pool_timeout": POOL_SECONDS}
            options["connect_args"] = {
                name: value for name, value in CONNECTING.items() if name not in parsed.query
            }
        try:
            self.engine = sa.create_engine(parsed, **options)
        except NoSuchModuleError:
            raise UsageError(f"No driver is called {parsed.drivername}.", hint=_HINT) from None
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(self.engine, "connect", _limit_postgresql)

    def check_connection(self) -> None:
        """Find out whether the database answers, before a program counts on it.

        Raises
        ------
        UsageError
            If it does not, refuses this user, or is none.
        """
        try:
            self.engine.connect().close()
        except DBAPIError as error:
            raise self._unusable(_said(error)) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state, as far as the database keeps several.

        Raises
        ------
        DatabaseDownError
            Also by the block.
        """
        with (
            self._saying_when_down(),
            self.engine.connect().execution_options(reads_only=True) as connection,
        ):
            yield connection

    @contextmanager
    def write(self, *, is_long: bool = False) -> Iterator[sa.Connection]:
        """Give a connection whose changes count together at the end of the block, or not at all.

        On SQLite one block runs at a time; on PostgreSQL rows have to be locked
        (``with_for_update``) before a decision depends on them.

        Parameters
        ----------
        is_long : bool
            Whether statements may take as long as they like.

        Raises
        ------
        DatabaseDownError
            Also by the block; nothing has changed then, except if the database went away while
            it noted the changes.
        """
        with self._saying_when_down(), self.engine.begin() as connection:
            if is_long and not self.is_sqlite:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
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

    @contextmanager
    def _saying_when_down(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseDownError(
                "All connections of this program to the database are in use.",
                hint="Try again in a moment.",
            ) from error
        except DBAPIError as error:
            if not _is_down(error):
                raise
            raise self._down(error) from error

    def _down(self, error: DBAPIError) -> DatabaseDownError:
        """Return what a driver says, and what to look for first."""
        if _lacks_table(error):
            hint = "Run `qupath-bridge service migrate`."
        elif self._file is not None:
            hint = (
                f"Is the disk full? May this user write {self._file}? Does another program hold it?"
            )
        else:
            hint = "Does its server run, and has it time and disk space?"
        return DatabaseDownError(f"The database failed: {_said(error)}.", hint=hint)

    def _unusable(self, cause: str) -> UsageError:
        """Return why a program cannot begin, and what to do."""
        if self._file is None:
            first = "Start it, or correct"
        else:
            first = (
                f"{self._file} has to be an SQLite database, or a new file, that this user may "
                "write, on a disk that is not full. Mend that, or correct"
            )
        return UsageError(
            f"The database cannot be opened: {cause}.",
            hint=f"{first} QUPATH_BRIDGE_DATABASE; then run the command again.",
        )


def _said(error: DBAPIError) -> str:
    """Return the first line of what a driver says: the others are its own hints."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].rstrip(". ")


def _is_down(error: DBAPIError) -> bool:
    """Return whether the database is at fault, not the one that asks it."""
    return (
        isinstance(error, OperationalError)
        or type(error) is DatabaseError  # what SQLite calls a damaged file; others are subclasses
        or error.connection_invalidated
        or _lacks_table(error)
    )


def _lacks_table(error: DBAPIError) -> bool:
    """Return whether a table is not there, as in a database that was replaced by an empty one."""
    code = getattr(error.orig, "sqlstate", None)
    return code == UNDEFINED_TABLE or str(error.orig).startswith("no such table")


_HINT = "Use sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME."


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Let SQLAlchemy begin transactions, and readers go on beside a writer."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _limit_postgresql(connection: Any, _: object) -> None:
    """Let no statement wait for ever, as for a lock of a program that hangs."""
    connection.execute(f"SET statement_timeout = '{LIMIT_SECONDS}s'")
    connection.commit()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the lock of writers at once: a reader that turns into one would fail, not wait."""
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
