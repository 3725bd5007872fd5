"""The tables and the index of what was committed, on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

import qupath_bridge as qb
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_record
from qupath_bridge.schemas import RunRecord
from qupath_bridge.service.database import Database, indexing
from qupath_bridge.service.database.engine import DatabaseDownError
from qupath_bridge.service.database.models import Patch
from tests.service.conftest import project, service
from tests.service.conftest import settings as sqlite_settings  # noqa: F401
from tests.service.test_commands import (  # noqa: F401
    corrections,
    environment,
    test_the_index_is_made_again_from_outputs,
)
from tests.service.test_jobs import (  # noqa: F401
    test_a_database_of_the_version_before_is_brought_up_to_date,
    test_migrations_make_the_tables_of_the_models,
)
from tests.support.statements import cut_connections

__all__ = ["project", "service"]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]


@pytest.fixture
def settings(sqlite_settings, database_url):  # noqa: F811
    """Settings with a database of PostgreSQL that has no tables."""
    return sqlite_settings.replace(database=database_url, token="a-long-random-token")


@pytest.fixture
def lose_database(postgresql, database_url):
    """A function that drops the database, and makes an empty one of the same name."""

    def lose():
        name = database_url.rpartition("/")[2]
        postgresql.drop_database(name)
        postgresql.create_database(name)
        return database_url

    return lose


@pytest.fixture
def out(project, tmp_path):
    """A run of three slides."""
    qb.export(project, tmp_path / "out" / "run", qb.ExportConfig(size=32))
    return str(tmp_path / "out" / "run")


def test_slides_of_a_run_are_indexed_side_by_side(service, out):
    """No worker waits until another one has written the patches of its slide."""
    first, second, third = open_output(out).slides()
    indexing.index_slide(service.database, out, "folder", first)
    with ThreadPoolExecutor(1) as threads:
        with service.database.write() as connection:
            output = open_output(out)
            record = load_record(output, "run.json", RunRecord)
            run = indexing._run_number(connection, output, record)
            indexing._index_slide(connection, run, output, second)
            other = threads.submit(indexing.index_slide, service.database, out, "folder", third)
            assert other.result(timeout=15) == 12
        assert count(service.database) == 36


def test_a_slide_that_two_index_at_once_is_there_once(service, out):
    first, slide, _ = open_output(out).slides()
    indexing.index_slide(service.database, out, "folder", first)  # the run is there

    def index(_):
        database = Database(service.database.engine.url.render_as_string(hide_password=False))
        indexing.index_slide(database, out, "folder", slide)
        database.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(index, range(6)))
    assert count(service.database) == 24


def test_a_connection_that_is_lost_while_patches_are_written(service, out, monkeypatch):
    rows_of = indexing._rows

    def cut(rows):
        yield from rows_of(rows)
        cut_connections(service.database)

    monkeypatch.setattr(indexing, "_rows", cut)
    with pytest.raises(DatabaseDownError, match="The database failed: "):
        indexing.index_run(service.database, out)
    monkeypatch.undo()
    assert count(service.database) == 0
    assert indexing.index_run(service.database, out) == 36


def count(database):
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(Patch))
