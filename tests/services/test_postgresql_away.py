"""A database that is away, slow or fully used: a clear answer, and all is well when it is back."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
import sqlalchemy as sa

from qupath_bridge.service.database import Database, engine
from qupath_bridge.service.database.engine import DatabaseDownError
from qupath_bridge.service.database.models import Job
from qupath_bridge.service.opened import open_service
from tests.service.conftest import project  # noqa: F401  # fixture
from tests.service.conftest import settings as sqlite_settings  # noqa: F401
from tests.support.service import serving
from tests.support.statements import before_statements, cut_connections

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

CLIENTS = 100


@pytest.fixture
def service(sqlite_settings, service_url, monkeypatch):  # noqa: F811
    """A service on PostgreSQL that is not patient."""
    monkeypatch.setattr(engine, "LIMIT_SECONDS", 1)
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.5)
    settings = sqlite_settings.replace(database=service_url, requests_per_minute=1_000_000)
    with open_service(settings) as opened:
        yield opened


@pytest.fixture
def http(service):
    with serving(service) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture
def job(service, project, tmp_path):  # noqa: F811
    return service.jobs.submit([str(project)], str(tmp_path / "out" / "job"), {"size": 32})


def check_wait(answer):
    """The answer says that, and when, to ask again, and nothing about the server."""
    assert answer.status_code == 503, answer.text
    assert answer.json() == {
        "error": "The database is away, has no time, or fails.",
        "hint": "Ask again in a moment; the log of the service says why.",
    }
    assert int(answer.headers["retry-after"]) >= 1


def test_while_the_server_is_down(http, job, postgresql, project, tmp_path):  # noqa: F811
    assert http.get(f"/jobs/{job}").status_code == 200
    new = {"sources": [str(project)], "output": str(tmp_path / "out" / "new"), "key": "mine"}
    with postgresql.down():
        for path in ("/jobs", f"/jobs/{job}", f"/jobs/{job}/patches", "/metrics", "/health"):
            check_wait(http.get(path))
        check_wait(http.post("/jobs", json=new))
        check_wait(http.post(f"/jobs/{job}/cancel"))
    assert http.get(f"/jobs/{job}").json()["state"] == "queued"
    assert http.post("/jobs", json=new).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "statement"),
    [
        ("GET", "", "SELECT job_slides"),
        ("GET", "/patches", "SELECT jobs"),
        ("POST", "/cancel", "UPDATE jobs"),
    ],
)
def test_in_the_middle_of_a_request(http, service, job, method, path, statement):
    """The connection is cut before a statement, once."""
    cuts = [statement]

    def cut(cursor, text, values):
        if cuts and text.startswith(statement):
            cuts.clear()
            cut_connections(service.database)

    with before_statements(service.database, cut):
        check_wait(http.request(method, f"/jobs/{job}{path}"))
    assert not cuts
    assert http.get(f"/jobs/{job}").json()["state"] == "queued"  # nothing of it was done
    assert http.request(method, f"/jobs/{job}{path}").status_code == 200


def test_a_lock_that_nobody_gives_back(http, service, job):
    locked = sa.select(Job.job_id).where(Job.job_id == job).with_for_update()
    with service.database.write() as connection:
        connection.execute(locked)
        began = time.monotonic()
        check_wait(http.post(f"/jobs/{job}/cancel"))
        assert time.monotonic() - began < 10
        assert http.get(f"/jobs/{job}").status_code == 200  # readers do not wait
    assert http.post(f"/jobs/{job}/cancel").status_code == 200


def test_the_address_may_have_other_limits(service_url):
    given = {}
    database = Database(f"{service_url}?connect_timeout=3")
    sa.event.listen(database.engine, "do_connect", lambda *parts: given.update(parts[-1]))
    with database.read():
        assert (given["connect_timeout"], given["tcp_user_timeout"]) == ("3", 30_000)
    database.close()


def test_a_statement_that_takes_too_long(service):
    with pytest.raises(DatabaseDownError, match="statement timeout"), service.database.read() as c:
        c.exec_driver_sql("SELECT pg_sleep(5)")
    with service.database.write(is_long=True) as c:
        c.exec_driver_sql("SELECT pg_sleep(1.2)")


def test_a_table_that_is_not_there(service):
    with pytest.raises(DatabaseDownError) as caught, service.database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM nothing")
    assert str(caught.value) == (
        'The database failed: relation "nothing" does not exist. '
        "Run `qupath-bridge service migrate`."
    )


def test_a_server_that_is_down_is_looked_for(service, postgresql):
    with postgresql.down():
        with pytest.raises(DatabaseDownError) as caught, service.database.read():
            pass
        assert "Does its server run" in caught.value.hint
        assert "\n" not in str(caught.value)


def test_more_clients_than_connections(http, service, job):
    def ask(number):
        return http.get("/jobs" if number % 2 else f"/jobs/{job}").status_code

    with ThreadPoolExecutor(CLIENTS) as threads:
        assert set(threads.map(ask, range(2 * CLIENTS))) == {200}
    with service.database.read() as connection:
        used = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).scalar()
    assert used <= 15


def test_all_connections_are_in_use(http, service):
    with ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(service.database.read())
        check_wait(http.get("/jobs"))
        with pytest.raises(DatabaseDownError, match="All connections"), service.database.read():
            pass
    assert http.get("/jobs").status_code == 200
