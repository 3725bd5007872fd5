"""QuPath projects in object storage, on a real server that speaks S3."""

import os
import shutil
import subprocess
import sys
import urllib.request
import uuid

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_facts
from qupath_bridge.stores import open_store, staging
from qupath_bridge.testing.projects import build_project
from tests.support.run_processes import kill_when

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad"]


@pytest.fixture
def bucket(moto, monkeypatch, tmp_path):
    """URL of a new bucket."""
    for name, value in moto.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-3")
    monkeypatch.setenv(staging.CACHE, str(tmp_path / "cache"))
    name = f"test-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{moto.url}/{name}", method="PUT")).close()
    return f"s3://{name}"


@pytest.fixture
def disk(tmp_path, two_slides, draw, bucket):
    """An export of a project on a disk that is gone: it is in the bucket."""
    folder = tmp_path / "local"
    (folder / "slides").mkdir(parents=True)
    slides = [folder / "slides" / path.name for path in two_slides]
    for path, slide in zip(two_slides, slides, strict=True):
        shutil.copy(path, slide)
    build_project(folder / "study", draw.images(slides), stored_at="/example/study")
    store = open_store(bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())
    out = tmp_path / "disk"
    assert main(["export", str(folder / "study"), "--out", str(out), *OPTIONS]) == 0
    shutil.rmtree(folder)
    return out


def content(place):
    output = open_output(place, "folder")
    files = {name: output.store.get(name) for name in output.store.list("patches/")}
    facts = [load_facts(output.rows(slide), slide) for slide in output.slides()]
    rows = qb.read_index(place).drop_columns(["run_id"]).to_pylist()
    return files, rows, [each["plan_digest"] for each in facts]


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_runners_make_of_a_bucket_what_they_make_of_a_disk(disk, bucket, runner):
    words = [*OPTIONS, "--runner", runner, "--workers", "2"]
    assert main(["export", f"{bucket}/study/", "--out", f"{bucket}/out", *words]) == 0
    assert content(f"{bucket}/out") == content(disk)
    assert main(["verify", f"{bucket}/out"]) == 0
    store = open_store(f"{bucket}/out")
    records = b"".join(store.get(name) for name in store.list() if name.endswith(".json"))
    assert f"{bucket}/study/project.qpproj".encode() in records
    assert b"very-secret-3" not in records
    project = f"{bucket}/study/project.qpproj"
    (found,) = qb.status(project, runs=[f"{bucket}/out"])
    assert found.state == "current"


def test_a_killed_run_is_resumed(disk, bucket):
    command = ["export", f"{bucket}/study/project.qpproj", "--out", f"{bucket}/out", *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-m", "qupath_bridge", *command, "--workers", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    store = open_store(f"{bucket}/out")
    kill_when(process, lambda: len(list(store.list("patches/"))) >= 3)
    assert main([*command, "--resume"]) == 0
    assert content(f"{bucket}/out") == content(disk)


def test_no_such_bucket_or_project(bucket, capsys, tmp_path):
    words = ["--out", str(tmp_path / "out"), *OPTIONS]
    for place, said in (
        ("s3://no-such-bucket/study/project.qpproj", "does not exist"),
        (f"{bucket}/study/project.qpproj", "does not exist"),
        (f"{bucket}/study", "no QuPath project and no slide"),
    ):
        assert main(["export", place, *words]) == 4
        errors = capsys.readouterr().err
        assert place in errors
        assert said in errors
