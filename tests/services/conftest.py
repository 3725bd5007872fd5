"""Real servers, one of each per process of pytest; skipped by name where not installed.

All tests here belong to the group ``services``: one process runs them, and starts each server once.
"""

import tempfile
import urllib.request
import uuid
from pathlib import Path

import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.service.database import Database
from qupath_bridge.service.database.migrating import migrate
from qupath_bridge.stores import open_store
from qupath_bridge.testing.services import Moto, PostgreSQL, RabbitMQ
from tests.support.relay import Relay


def running(kind):
    """Yield a server of a kind for the whole session."""
    # Not in the folder of pytest: another run of pytest closes that for the users of servers.
    with tempfile.TemporaryDirectory(prefix="qupath-bridge-") as folder:
        try:
            server = kind(Path(folder) / kind.__name__.lower())
        except MissingDependencyError as error:
            pytest.skip(f"{error} {error.hint}")
        with server:
            yield server


@pytest.fixture(scope="session")
def postgresql():
    """Start PostgreSQL; ``database_url`` gives a test a database of its own."""
    yield from running(PostgreSQL)


@pytest.fixture(scope="session")
def rabbitmq():
    """Start RabbitMQ; tests give their queues names of their own."""
    yield from running(RabbitMQ)


@pytest.fixture(scope="session")
def moto():
    """Start an object store that speaks S3; ``moto.variables`` is what clients read."""
    yield from running(Moto)


@pytest.fixture
def bucket(moto, cache_folder, monkeypatch):
    """URL of a new bucket; the environment has what its clients need."""
    for name, value in moto.variables.items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{moto.url}/{name}", method="PUT")).close()
    return f"s3://{name}"


@pytest.fixture
def secret(bucket, monkeypatch):
    """The secret key with which clients sign from now on; no record may have it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-1")
    return "very-secret-1"


@pytest.fixture
def slides(bucket, study):
    """URL of a folder with the slides of the study; their names have a space."""
    store = open_store(f"{bucket}/in")
    for path in study.slides:
        store.put(path.name, path.read_bytes())
    return f"{bucket}/in"


@pytest.fixture
def relay(moto):
    """What can be killed in the place of the object store, and does what networks do."""
    with Relay(moto.port) as relay:
        yield relay


@pytest.fixture
def database_url(postgresql):
    """Address of a new empty database on PostgreSQL, as SQLAlchemy reads it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgresql.create_database(name)
    yield postgresql.database_url(name, driver="psycopg")
    postgresql.drop_database(name)


@pytest.fixture(scope="session")
def migrated(postgresql):
    """Name of a database with the tables of the service, to be copied."""
    postgresql.create_database("migrated")
    database = Database(postgresql.database_url("migrated"))
    migrate(database)
    database.close()
    return "migrated"


@pytest.fixture
def service_url(postgresql, migrated):
    """Address of a new database with the tables of the service."""
    name = f"service_{uuid.uuid4().hex[:12]}"
    postgresql.create_database(name, like=migrated)
    yield postgresql.database_url(name)
    postgresql.drop_database(name)
