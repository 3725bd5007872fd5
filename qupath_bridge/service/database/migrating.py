"""Bring a database to the tables of this version."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from qupath_bridge.errors import UsageError

from .engine import Database

__all__ = ["check_version", "migrate"]

LOCK = 0x71757061
"""Number of the lock under which one process at a time migrates a PostgreSQL database."""


def migrate(database: Database) -> str:
    """Make or change the tables; return the version that they have then. Idempotent.

    Of several processes that migrate at once one works, and the others find it done.

    Raises
    ------
    UsageError
        If the database cannot be opened.
    """
    database.check_connection()
    config = _config()
    with database.write(is_long=True) as connection:
        if not database.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return _newest(config)


def check_version(database: Database) -> None:
    """Refuse a database with other tables than those of this version.

    Raises
    ------
    UsageError
        With the command that brings it up to date; or if the database cannot be opened.
    """
    database.check_connection()
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    wanted = _newest(_config())
    if found != wanted:
        raise UsageError(
            f"The database has version {found or 'none'}, and this program needs {wanted}.",
            hint="Run `qupath-bridge service migrate`, with the newest version of the program.",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def _newest(config: Config) -> str:
    return str(ScriptDirectory.from_config(config).get_current_head())
