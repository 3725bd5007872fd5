"""What is kept of a job, in tables of this version and of the one before."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from qupath_bridge.config import RunOptions
from qupath_bridge.job_options import OF_OPERATOR, ONE_PROCESS
from qupath_bridge.service.database import Database, migrating
from qupath_bridge.service.database.models import Base
from qupath_bridge.service.jobs import Jobs
from qupath_bridge.service.patches import find_patches
from qupath_bridge.stores import open_store
from tests.support.plans import check_plans
from tests.support.service import ended, working

JOB = {
    "job_id": "1", "state": "complete", "request": "{}", "output": "/data/runs/a b", "run_id": "2",
    "result": "{}", "warnings": "[]", "attempts": 0, "created": 0.0, "changed": 0.0,
}  # fmt: skip


def test_pages_ask_indexes_of_the_database_alone(service, project, tmp_path, monkeypatch):
    job = service.jobs.submit([str(project)], str(tmp_path / "out" / "a b"), {"size": 32})
    assert service.jobs.get(job).url == (tmp_path / "out" / "a b").as_uri()
    with working(service):
        ended(service, job)
    # Pages of patches ask the database alone.
    monkeypatch.setattr("qupath_bridge.service.patches.open_output", None)
    patches = find_patches(service.database, job, limit=100)
    assert len(patches) == 36
    check_plans(service, job, patches[0]["tile_uuid"], patches[0]["slide_id"])


def test_a_database_of_the_version_before_is_brought_up_to_date(settings):
    database = Database(settings.database.get_secret_value())
    config = migrating._config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        names = ", ".join(JOB)
        values = ", ".join(f":{name}" for name in JOB)
        connection.execute(sa.text(f"INSERT INTO jobs ({names}) VALUES ({values})"), JOB)
    assert migrating.migrate(database) == "0002"
    assert Jobs(settings, database, None).get("1").url == open_store("/data/runs/a b").url
    database.close()


def test_migrations_make_the_tables_of_the_models(settings):
    database = Database(settings.database.get_secret_value())
    migrating.migrate(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


@pytest.mark.parametrize("name", [*ONE_PROCESS, *OF_OPERATOR])
def test_what_a_job_cannot_have_is_an_option(name):
    assert name in RunOptions.model_fields
