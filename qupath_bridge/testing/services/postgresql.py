"""PostgreSQL, as Debian installs it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from qupath_bridge.errors import MissingDependencyError

from .server import HOST, Server

__all__ = ["PostgreSQL"]

_DEBIAN = Path("/usr/lib/postgresql")


class PostgreSQL(Server):
    """A PostgreSQL server; see `Server`. Whoever is on this machine may log in as ``postgres``."""

    name: ClassVar[str] = "PostgreSQL"
    user: ClassVar[str | None] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": it does not wait for clients

    def __init__(self, folder: Path) -> None:
        self._programs = _find_programs()
        super().__init__(folder)
        self._data = folder / "data"

    @property
    def url(self) -> str:
        """Address of the database ``postgres``, as libpq and psycopg read it."""
        return self.database_url("postgres")

    def database_url(self, database: str, *, driver: str = "") -> str:
        """Return the address of a database; SQLAlchemy wants a ``driver``, such as ``psycopg``."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://postgres@{HOST}:{self.port}/{database}"

    def create_database(self, database: str, *, like: str = "template1") -> None:
        """Make a new database: empty, or a copy of one that nobody is connected to."""
        self._sql(f'CREATE DATABASE "{database}" TEMPLATE "{like}"')

    def drop_database(self, database: str) -> None:
        """Remove a database, also while somebody is connected to it."""
        self._sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def prepare(self) -> None:
        """Make the data folder."""
        self._data.mkdir()
        self.give_to(self._data)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        self.run([str(self._programs / "initdb"), *options, "--no-sync", f"--pgdata={self._data}"])

    def command(self) -> Sequence[str]:
        """Return the server in the foreground."""
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",  # their paths may have 107 bytes, temporary folders more
            # What a killed server wrote is in the memory of the system all the same. Only a machine
            # that loses its power needs the disk.
            "fsync": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def is_ready(self) -> bool:
        """Return whether it takes queries, which is later than when it listens."""
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


def _find_programs() -> Path:
    """Return the folder that has ``initdb`` and ``postgres``; Debian keeps it out of the path."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres", path=str(Path(found).parent)):
        return Path(found).parent
    folders = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if not folders:
        raise MissingDependencyError(
            "PostgreSQL is not installed.", hint="Install Debian's package postgresql."
        )
    return max(folders, key=lambda folder: int(folder.parent.name))
