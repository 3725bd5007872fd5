"""A whole service whose parts are killed while its slides are exported: no slide is lost or torn.

Database, broker, API and workers are killed with SIGKILL at random moments and started again. The
object store keeps all in its memory: the network to it is cut instead.
"""

import time
from collections import Counter

import pytest

import qupath_bridge as qb
from qupath_bridge.stores import open_store
from tests.support.cluster import (
    CONFIGURATION,
    client_of,
    kill_at_random,
    make_study,
    patient,
    programs_of,
)
from tests.support.run_content import patch_files

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

SLIDES = {"folder": 200, "bucket": 50}
SLIDES_OF_SOAK = {"folder": 500, "bucket": 300}
"""So many that the last of 20 kills comes while they are exported."""

SEED = 7


@pytest.fixture(params=["folder"])
def study(request, tmp_path_factory, soak):
    slides = (SLIDES_OF_SOAK if soak else SLIDES)[request.param]
    return make_study(tmp_path_factory.mktemp("study"), slides)


@pytest.fixture
def environment(study, tmp_path, database_url, rabbitmq):
    return {
        "QUPATH_BRIDGE_DATABASE": database_url,
        "QUPATH_BRIDGE_BROKER": rabbitmq.url,
        "QUPATH_BRIDGE_SOURCES": str(study.folder),
        "QUPATH_BRIDGE_OUTPUTS": str(tmp_path),
        # Each kill of a worker costs an attempt of the slide at work.
        "QUPATH_BRIDGE_ATTEMPTS": "25",
    }


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_slide_is_done_once_whatever_is_killed(
    study, environment, tmp_path, postgresql, rabbitmq, soak, capsys
):
    with programs_of(tmp_path, environment) as programs:
        servers = {**programs, "database": postgresql, "broker": rabbitmq}
        out = tmp_path / "out"
        check_killed(servers, study, study.project, str(out), 20 if soak else 3, capsys)
    assert not (out / "lock.json").exists()


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("study", ["bucket"], indirect=True)
def test_every_slide_is_done_once_in_a_bucket(
    study, environment, bucket, relay, tmp_path, postgresql, rabbitmq, monkeypatch, soak, capsys
):
    """Slides are read from the bucket, and patches are written to it."""
    project = study.in_bucket(f"{bucket}/slides")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
    environment |= {
        "QUPATH_BRIDGE_SOURCES": f"{study.folder};{bucket}/slides",
        "QUPATH_BRIDGE_OUTPUTS": f"{bucket}/runs",
    }
    out = f"{bucket}/runs/1"
    with programs_of(tmp_path, environment) as programs:
        servers = {**programs, "database": postgresql, "broker": rabbitmq, "object store": relay}
        check_killed(servers, study, project, out, 20 if soak else 3, capsys)
    assert not list(open_store(out).list("lock"))


def check_killed(servers, study, project, out, kills, capsys):
    """Export a study while servers are killed, and compare the run with the undisturbed one."""
    count = len(study.slides)
    began = time.monotonic()
    with client_of(servers["API"]) as client:
        job = patient(lambda: client.submit([project], out, CONFIGURATION))["job_id"]

        def progress():
            return patient(lambda: client.job(job))["slides"].get("done", 0) / count

        killed = kill_at_random(servers, kills, progress, SEED)
        state = patient(lambda: client.wait(job, timeout=600, interval=0.5))
        slides = patient(lambda: list(client.slides(job)))
        listed = patient(lambda: list(client.patches(job)))
    with capsys.disabled():
        names = ", ".join(f"{name} at {share:.0%}" for name, share in killed)
        print(f"\nkilled: {names}; complete after {time.monotonic() - began:.0f} s; ", end="")
        print(f"attempts per slide: {dict(Counter(each['attempts'] for each in slides))}")
    assert (state["state"], state["slides"]) == ("complete", {"done": count})
    assert state["written"] == study.alone.written == len(listed)
    assert {each["state"] for each in slides} == {"done"}
    run = qb.Run.load(out)
    assert run.record["run_digest"] == study.alone.record["run_digest"]
    assert patch_files(out) == patch_files(study.alone.out)
    ids = [row["tile_uuid"] for row in run.table().to_pylist()]
    assert len(set(ids)) == len(ids) == state["written"]
    assert sorted(ids) == sorted(each["tile_uuid"] for each in listed)
