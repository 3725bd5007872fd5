"""A whole service whose parts are killed while 200 slides are exported: no slide is lost or torn.

Database, broker, API and workers are killed with SIGKILL at random moments and started again.
"""

import time
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.service.database import Database
from qupath_bridge.service.database.migrating import migrate
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support.cluster import TOKEN, Program, client_of, kill_at_random, patient

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

SLIDES = 200
SIDE = 64
SEED = 7
SQUARE = "POLYGON ((0 0, 64 0, 64 64, 0 64, 0 0))"
CONFIGURATION = {"size": 32}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A project of 200 slides with 4 patches each, and its run by one undisturbed call."""
    folder = tmp_path_factory.mktemp("study")
    images = []
    for number in range(SLIDES):
        pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        slide = write_slide(folder / f"{number:03}.tiff", pixels, mpp=0.5, tile=64)
        images.append(Image(slide, [Region("Tumor", SQUARE)]))
    project = build_project(folder / "project", images)
    alone = qb.export(project, folder / "alone", qb.ExportConfig(size=32))
    return folder, project, alone


@pytest.fixture
def cluster(study, tmp_path, database_url, postgresql, rabbitmq):
    """API and two workers on PostgreSQL and RabbitMQ."""
    database = Database(database_url)
    migrate(database)
    database.close()
    environment = {
        "QUPATH_BRIDGE_DATABASE": database_url,
        "QUPATH_BRIDGE_QUEUE": "celery",
        "QUPATH_BRIDGE_BROKER": rabbitmq.url,
        "QUPATH_BRIDGE_SOURCES": str(study[0]),
        "QUPATH_BRIDGE_OUTPUTS": str(tmp_path),
        "QUPATH_BRIDGE_TOKEN": TOKEN,
        "QUPATH_BRIDGE_LEASE_SECONDS": "4",
        "QUPATH_BRIDGE_RETRY_SECONDS": "0.2",
        # Each kill of a worker costs an attempt of the slide at work.
        "QUPATH_BRIDGE_ATTEMPTS": "25",
        "QUPATH_BRIDGE_REQUESTS_PER_MINUTE": "100000",
    }
    programs = {
        name: Program(tmp_path / name.replace(" ", "-"), name, environment, words)
        for name, words in (("API", "api"), ("worker 1", "worker"), ("worker 2", "worker"))
    }
    with ExitStack() as stack:
        for program in programs.values():
            program.launch()
            stack.callback(program.stop)
        for program in programs.values():
            program.wait_until_ready()
        yield {**programs, "database": postgresql, "broker": rabbitmq}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_slide_is_done_once_whatever_is_killed(cluster, study, tmp_path, soak, capsys):
    _, project, alone = study
    out = tmp_path / "out"
    began = time.monotonic()
    with client_of(cluster["API"]) as client:
        job = patient(lambda: client.submit([project], out, CONFIGURATION))["job_id"]

        def progress():
            return patient(lambda: client.job(job))["slides"].get("done", 0) / SLIDES

        killed = kill_at_random(cluster, 20 if soak else 3, progress, SEED)
        state = patient(lambda: client.wait(job, timeout=300, interval=0.5))
        slides = patient(lambda: list(client.slides(job)))
        listed = patient(lambda: list(client.patches(job)))
    with capsys.disabled():
        names = ", ".join(f"{name} at {share:.0%}" for name, share in killed)
        print(f"\nkilled: {names}; complete after {time.monotonic() - began:.0f} s; ", end="")
        print(f"attempts per slide: {dict(Counter(each['attempts'] for each in slides))}")
    assert (state["state"], state["slides"]) == ("complete", {"done": SLIDES})
    assert state["written"] == alone.written == len(listed)
    assert {each["state"] for each in slides} == {"done"}
    run = qb.Run.load(out)
    assert run.record["run_digest"] == alone.record["run_digest"]
    assert content(out) == content(alone.out)
    ids = [row["tile_uuid"] for row in run.table().to_pylist()]
    assert len(set(ids)) == len(ids) == state["written"]
    assert sorted(ids) == sorted(each["tile_uuid"] for each in listed)
    assert not (out / "lock.json").exists()


def content(out):
    """Bytes of every patch."""
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.png")}
