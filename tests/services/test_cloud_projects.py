"""QuPath projects in object storage, on a real server that speaks S3."""

import shutil

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.stores import open_store
from tests.support.buckets import upload
from tests.support.run_content import facts_of, index_rows, patch_files
from tests.support.run_processes import kill_at_work

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad"]


@pytest.fixture
def disk(local, bucket, tmp_path):
    """An export of a project on a disk that is gone: it is in the bucket."""
    upload(local, bucket)
    out = tmp_path / "disk"
    assert main(["export", str(local / "study"), "--out", str(out), *OPTIONS]) == 0
    shutil.rmtree(local)
    return out


def content(place):
    digests = [facts["plan_digest"] for facts in facts_of(place)]
    return patch_files(place), index_rows(place), digests


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_runners_make_of_a_bucket_what_they_make_of_a_disk(disk, bucket, secret, runner):
    words = [*OPTIONS, "--runner", runner, "--workers", "2"]
    assert main(["export", f"{bucket}/study/", "--out", f"{bucket}/out", *words]) == 0
    assert content(f"{bucket}/out") == content(disk)
    assert main(["verify", f"{bucket}/out"]) == 0
    store = open_store(f"{bucket}/out")
    records = b"".join(store.get(name) for name in store.list() if name.endswith(".json"))
    assert f"{bucket}/study/project.qpproj".encode() in records
    assert secret.encode() not in records
    project = f"{bucket}/study/project.qpproj"
    (found,) = qb.status(project, runs=[f"{bucket}/out"])
    assert found.state == "current"


def test_a_killed_run_is_resumed(disk, bucket):
    command = ["export", f"{bucket}/study/project.qpproj", "--out", f"{bucket}/out", *OPTIONS]
    kill_at_work([*command, "--workers", "1"], f"{bucket}/out")
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
