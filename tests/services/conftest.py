"""Real servers, one of each per process of pytest; skipped by name where not installed.

All tests here belong to the group ``services``: one process runs them, and starts each server once.
"""

import uuid

import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.testing.services import Moto, PostgreSQL, RabbitMQ


def running(kind, factory):
    """Yield a server of a kind for the whole session."""
    try:
        server = kind(factory.mktemp(kind.__name__.lower()))
    except MissingDependencyError as error:
        pytest.skip(f"{error} {error.hint}")
    with server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """Start PostgreSQL; ``database_url`` gives a test a database of its own."""
    yield from running(PostgreSQL, tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory):
    """Start RabbitMQ; tests give their queues names of their own."""
    yield from running(RabbitMQ, tmp_path_factory)


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """Start an object store that speaks S3; ``moto.variables`` is what clients read."""
    yield from running(Moto, tmp_path_factory)


@pytest.fixture
def database_url(postgresql):
    """Address of a new empty database on PostgreSQL, as SQLAlchemy reads it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgresql.create_database(name)
    yield postgresql.database_url(name, driver="psycopg")
    postgresql.drop_database(name)
