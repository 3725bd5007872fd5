"""The worker of the service with PostgreSQL and RabbitMQ: the same tests as with SQLite alone."""

import pytest

from qupath_bridge.service.queues.celery import CeleryQueue
from qupath_bridge.service.settings import ServiceSettings
from tests.service.conftest import project, service, tokens
from tests.service.test_worker import *  # noqa: F403
from tests.service.test_worker import alone, job, out

__all__ = ["alone", "job", "out", "project", "service", "tokens"]

pytestmark = pytest.mark.xdist_group("services")


@pytest.fixture
def settings(tmp_path, database_url, rabbitmq):
    """Roots ``study`` and ``out``; short leases. Nothing is left of the test before."""
    found = ServiceSettings(
        database=database_url,
        queue="celery",
        broker=rabbitmq.url,
        sources=[str(tmp_path / "study")],
        outputs=[str(tmp_path / "out")],
        lease_seconds=6.0,
        retry_seconds=0.1,
        task_seconds=60.0,
    )
    queue = CeleryQueue(found, None)
    with queue._app.connection_for_read() as connection:
        for each in (queue._main, queue._dead):
            each(connection.default_channel).delete()
    queue.close()
    return found


@pytest.fixture
def lose(service):
    """A function that loses every message: a broker cannot find those of one job."""

    def purge():
        with service.queue._app.connection_for_read() as connection:
            service.queue._main(connection.default_channel).purge()

    return purge
