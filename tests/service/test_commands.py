"""The commands ``service`` and ``jobs``, as programs and in this process."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest
import sqlalchemy as sa

import qupath_bridge as qb
from qupath_bridge.cli.app import run
from qupath_bridge.model import Box
from qupath_bridge.patches.corrections import Correction, to_lines
from qupath_bridge.service.client import Client
from qupath_bridge.service.database import Database
from qupath_bridge.service.database.models import Base, Job
from qupath_bridge.testing.services.server import free_port
from tests.support.service import ended, serving, wait_for, working

TOKEN = "a-long-random-token"


@pytest.fixture
def settings(settings):
    return settings.replace(token=TOKEN)


@pytest.fixture
def environment(settings, monkeypatch):
    """What an operator sets."""
    values = {
        "QUPATH_BRIDGE_DATABASE": settings.database.get_secret_value(),
        "QUPATH_BRIDGE_SOURCES": settings.sources[0],
        "QUPATH_BRIDGE_OUTPUTS": settings.outputs[0],
        "QUPATH_BRIDGE_TOKEN": TOKEN,
        "QUPATH_BRIDGE_LEASE_SECONDS": "2",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def call(capsys, *words):
    status = run(list(map(str, words)))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_jobs_from_the_command_line(service, environment, project, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "job"
    with serving(service) as url, working(service):
        monkeypatch.setenv("QUPATH_BRIDGE_URL", url)
        assert call(capsys, "jobs", "list")[:2] == (0, "No jobs.\n")
        words = ["jobs", "submit", project, "--out", out, "--size", 32, "--key", "mine"]
        status, printed, _ = call(capsys, *words)
        job = printed.strip()
        assert status == 0
        status, printed, _ = call(capsys, *words, "--wait", "--json")
        assert (status, json.loads(printed)["job_id"]) == (0, job)
        status, printed, _ = call(capsys, "jobs", "show", job)
        assert status == 0
        assert "complete" in printed
        assert "Tumor" in printed
        status, printed, _ = call(capsys, "jobs", "list", "--json")
        assert [each["written"] for each in json.loads(printed)["jobs"]] == [36]
        assert "3 of 3" in call(capsys, "jobs", "list")[1]
        status, _, errors = call(capsys, "jobs", "cancel", job)
        assert status == 1
        assert "complete, and cannot be cancelled" in errors
        status, _, errors = call(capsys, "jobs", "submit", "/etc", "--out", out)
        assert status == 1
        assert "No source" in errors
    assert qb.verify(out).ok


def test_a_job_with_failures_exits_with_1(
    service, environment, project, tmp_path, monkeypatch, capsys
):
    (tmp_path / "study" / "1.tiff").write_bytes(b"no slide")
    with serving(service) as url, working(service):
        monkeypatch.setenv("QUPATH_BRIDGE_URL", url)
        words = ("jobs", "submit", project, "-o", tmp_path / "out" / "job", "--wait")
        status, printed, errors = call(capsys, *words)
    assert status == 1
    assert "1 failed" in printed
    assert "failed: 1.tiff:" in errors


@pytest.fixture
def corrections(project, tmp_path):
    """A file: somebody said that the first patch of the first slide is fat."""
    with qb.open_project(project) as opened:
        plan = qb.plan(opened["1"], qb.ExportConfig(size=32))
    box, digest = Box(*plan.table.boxes[0].tolist()), plan.fingerprint.digest
    said = Correction("corrected", box, "Tumor", "Fat", "r", "Tumor", digest, "t")
    path = tmp_path / "study" / "said.jsonl"
    path.write_bytes(to_lines([("1", said)]))
    return path


@pytest.fixture
def lose_database(tmp_path):
    """A function that gives the address of an empty database, in place of the one before."""
    return lambda: f"sqlite:///{tmp_path / 'new.sqlite'}"


def test_the_index_is_made_again_from_outputs(
    service, environment, project, corrections, lose_database, tmp_path, monkeypatch, capsys
):
    """Losing the database loses nothing."""
    out = tmp_path / "out" / "job"
    configuration = {"size": 32, "corrections": str(corrections)}
    job = service.jobs.submit([str(project)], str(out), configuration)
    with working(service):
        ended(service, job)
    before = index_of(service.database)
    assert [len(before[table]) for table in INDEX] == [1, 3, 36, 1, 3, 3]
    (corrected,) = before["corrections"]
    assert (corrected["labels"], corrected["rule_labels"]) == (["Fat"], ["Tumor"])
    service.database.close()
    monkeypatch.setenv("QUPATH_BRIDGE_DATABASE", lose_database())
    status, _, errors = call(capsys, "service", "reindex", tmp_path / "out")
    assert status == 2
    assert "service migrate" in errors
    assert call(capsys, "service", "migrate")[:2] == (0, "The database has version 0002.\n")
    for _ in range(2):  # a second time changes nothing
        status, printed, _ = call(capsys, "service", "reindex", tmp_path / "out")
        assert (status, printed) == (0, f"36 patches of {out}\n")
        database = Database(os.environ["QUPATH_BRIDGE_DATABASE"])
        assert index_of(database) == before
        database.close()


INDEX = ("runs", "slides", "patches", "corrections", "provenance", "artifacts")


def index_of(database):
    """Return all rows of the index, by table, without the numbers that the database gives."""
    found = {}
    with database.read() as connection:
        for name in INDEX:
            columns = [c for c in Base.metadata.tables[name].columns if c.name not in NUMBERS]
            rows = connection.execute(sa.select(*columns)).mappings().all()
            found[name] = sorted(map(dict, rows), key=repr)
    return found


NUMBERS = ("number", "run")


def start(environment, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "qupath_bridge", "service", *map(str, words)],
        env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_one_command_is_a_service_and_a_worker_that_is_killed_loses_nothing(
    service, environment, project, tmp_path
):
    """The first worker dies with its slide; the whole service takes over, and stops when asked."""
    job = service.jobs.submit([str(project)], str(tmp_path / "out" / "job"), {"size": 32})
    worker = start(environment, "worker")
    try:
        wait_for(lambda: service.jobs.get(job).state in ("preparing", "running"))
    finally:
        worker.kill()
        worker.communicate()
    with service.database.read() as connection:
        assert connection.scalar(sa.select(Job.state)) in ("preparing", "running", "finishing")
    with serving(service) as url:  # finds a free port
        port = url.rpartition(":")[2]
    program = start(environment, "run", "--port", port)
    try:
        with Client(f"http://127.0.0.1:{port}", token=TOKEN) as client:
            wait_for(lambda: _answers(client))
            state = client.wait(job, timeout=60, interval=0.2)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=30)
    finally:
        program.kill()
    assert (state["state"], state["slides"], state["written"]) == ("complete", {"done": 3}, 36)
    assert program.returncode == 0
    assert f"listens on http://127.0.0.1:{port}" in errors
    assert "Traceback" not in errors
    assert qb.verify(tmp_path / "out" / "job").ok


def _answers(client):
    try:
        return client._http.get("/health").is_success
    except httpx.TransportError:
        return False


def test_a_wrong_setting_names_the_variable(monkeypatch, capsys):
    monkeypatch.setenv("QUPATH_BRIDGE_TOKEN", "short")
    status, _, errors = call(capsys, "service", "migrate")
    assert status == 3
    assert "token" in errors
    assert "short" not in errors.replace("shorter", "")


@pytest.mark.parametrize("words", [("migrate",), ("api",), ("worker",), ("reindex", "runs")])
@pytest.mark.parametrize("kind", ["server", "folder", "text", "in a file"])
def test_a_database_that_is_away_is_no_fault_of_the_program(
    environment, words, kind, tmp_path, monkeypatch, capsys
):
    """A pod that starts before its database says so, and not its password."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("This is not a database. " * 100)
    place = tmp_path / "text" / "new" if kind == "in a file" else tmp_path / kind
    url, next_step = f"sqlite:///{place}", f"{place} has to be an SQLite database"
    if kind == "server":
        url = f"postgresql://bridge:very-secret@127.0.0.1:{free_port()}/bridge"
        next_step = "Start it, or correct"
    monkeypatch.setenv("QUPATH_BRIDGE_DATABASE", url)
    status, _, errors = call(capsys, "service", *words)
    assert status == 2
    assert "The database cannot be opened:" in errors and "QUPATH_BRIDGE_DATABASE" in errors
    assert next_step in " ".join(errors.split())
    assert "very-secret" not in errors
