"""What a database is asked for, and how its connections end."""

from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def before_statements(database, act):
    """Call ``act(cursor, statement, values)`` before each statement of the block."""

    def listen(connection, cursor, statement, values, context, many):
        act(cursor, statement, values)

    sa.event.listen(database.engine, "before_cursor_execute", listen)
    try:
        yield
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", listen)


def cut_connections(database):
    """Let PostgreSQL end all connections to this database but the one that asks for it."""
    with database.engine.connect() as own:
        own.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
