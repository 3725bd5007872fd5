"""What is said of a database that fails: the cause, and the next step."""

import sqlite3

import pytest
import sqlalchemy as sa

from qupath_bridge.service.database import Database, engine
from qupath_bridge.service.database.engine import DatabaseDownError
from qupath_bridge.service.database.models import Job


@pytest.fixture
def file(tmp_path):
    return tmp_path / "test.sqlite"


@pytest.fixture
def database(file):
    opened = Database(f"sqlite:///{file}")
    with opened.write() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text VARCHAR)")
    yield opened
    opened.close()


def failing(database, statement, *, reads=False):
    """Return what is said of a statement that fails."""
    opened = database.read() if reads else database.write()
    with pytest.raises(DatabaseDownError) as caught, opened as connection:
        connection.exec_driver_sql(statement)
    return str(caught.value)


def test_a_missing_table_is_made_by_a_migration(database):
    assert failing(database, str(sa.select(Job.job_id)), reads=True) == (
        "The database failed: no such table: jobs. Run `qupath-bridge service migrate`."
    )


def test_a_full_disk(database, file):
    def fill(connection):
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    sa.event.listen(database.engine, "begin", fill)
    assert failing(database, "INSERT INTO notes VALUES (hex(randomblob(100000)))") == (
        f"The database failed: database or disk is full. Is the disk full? May this user write "
        f"{file}? Does another program hold it?"
    )


def test_a_file_that_another_program_holds(file, monkeypatch):
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    other = sqlite3.connect(file, isolation_level=None)
    database = Database(f"sqlite:///{file}")
    database.check_connection()
    other.execute("BEGIN IMMEDIATE")
    said = failing(database, "SELECT 1")
    assert said.startswith("The database failed: database is locked. ")
    assert said.endswith("Does another program hold it?")
    other.close()
    database.close()


def test_a_file_that_is_damaged(database, file):
    database.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    said = failing(database, "SELECT * FROM notes", reads=True)
    assert said.startswith("The database failed: database disk image is malformed. ")


def test_a_fault_of_the_program_is_none_of_the_database(database):
    """It is shown as it is, and not tried again."""
    with database.write() as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX once ON notes (text)")
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES ('a'), ('a')")
