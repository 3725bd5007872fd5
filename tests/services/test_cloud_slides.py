"""Slides in object storage, on a real server that speaks S3."""

import gzip
import json

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.outputs import open_output
from qupath_bridge.stores import open_store, staging
from qupath_bridge.stores.cloud import CloudStore
from tests.support.buckets import count_bytes, upload
from tests.support.run_content import index_rows, patch_files
from tests.support.run_processes import kill_at_work
from tests.support.slide_folders import check_staging, dicom_folder, mirax_folder
from tests.support.two_workers import check_two_workers

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad"]


def content(place):
    return patch_files(place), index_rows(place, "project")


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_runners_make_of_urls_what_they_make_of_files(
    study, slides, bucket, secret, cache_folder, tmp_path, monkeypatch, runner
):
    largest = max(path.stat().st_size for path in study.slides)
    monkeypatch.setenv(staging.CACHE_SIZE, str(2 * largest))
    disk = tmp_path / "disk"
    assert main(["export", str(study.slides[0].parent), "--out", str(disk), *OPTIONS]) == 0
    words = [*OPTIONS, "--runner", runner, "--workers", "2"]
    assert main(["export", slides, "--out", f"{bucket}/out", *words]) == 0
    assert content(f"{bucket}/out") == content(disk)
    assert main(["verify", f"{bucket}/out"]) == 0
    assert main(["report", f"{bucket}/out"]) == 0
    store = open_store(f"{bucket}/out")
    records = b"".join(store.get(name) for name in store.list() if name.endswith(".json"))
    assert slides.encode() in records
    assert secret.encode() not in records
    names = [path.name for path in cache_folder.iterdir()]
    assert not [name for name in names if ".part" in name or ".use-" in name]


def test_one_of_the_cache_asks_for_no_bytes_again(study, slides, tmp_path, monkeypatch):
    asked = count_bytes(monkeypatch, CloudStore)
    qb.export(slides, tmp_path / "one", qb.ExportConfig(size=64, labels=False))
    first = dict(asked)
    asked.clear()
    qb.export(slides, tmp_path / "two", qb.ExportConfig(size=64, labels=False))
    for path in study.slides:
        assert first[path.name] > asked[path.name]
        # Fingerprint and header, for the identity of the slide.
        assert first[path.name] - asked[path.name] == path.stat().st_size


@pytest.mark.parametrize("make", [dicom_folder, mirax_folder])
def test_slides_of_several_files(bucket, tmp_path, monkeypatch, make):
    """Each comes whole, and nothing of its neighbours; a run of two processes is that of a disk."""
    local = make(tmp_path / "slides")
    upload(local.parent, f"{bucket}/deep/in")
    words = ["--size", "16", "--stride", "100", "--no-labels", "--level-zero"]
    disk = tmp_path / "disk"
    assert main(["export", str(local.parent), "--out", str(disk), *words]) == 0
    more = ["--runner", "processes", "--workers", "2"]
    assert main(["export", f"{bucket}/deep/in", "--out", f"{bucket}/out", *words, *more]) == 0
    assert content(f"{bucket}/out") == content(disk)
    assert main(["verify", f"{bucket}/out"]) == 0
    asked = count_bytes(monkeypatch, CloudStore)
    check_staging(local, f"{bucket}/deep/in", asked, tmp_path / "alone")


def test_a_killed_run_is_resumed(study, slides, bucket, tmp_path):
    disk = tmp_path / "disk"
    assert main(["export", str(study.slides[0].parent), "--out", str(disk), *OPTIONS]) == 0
    command = ["export", slides, "--out", f"{bucket}/out", *OPTIONS, "--workers", "1"]
    kill_at_work(command, f"{bucket}/out")
    assert main([*command, "--resume"]) == 0
    assert content(f"{bucket}/out") == content(disk)


def test_a_bucket_that_does_not_exist(bucket, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["export", "s3://no-such-bucket/in", "--out", out, *OPTIONS]) == 4
    errors = capsys.readouterr().err
    assert "bucket does not exist" in errors
    assert "Make the bucket" in errors


def test_two_processes_at_one_slide(study, bucket, tmp_path):
    config = qb.ExportConfig(size=64, edge="pad", min_share=0.3)
    qb.export(study.project, tmp_path / "once", config, provenance=False)
    check_two_workers(study.project, f"{bucket}/twice", tmp_path / "once", config)


def test_provenance_of_a_project_that_cannot_be_written(study, bucket, tmp_path, capsys):
    """It goes beside the patches, as it does on a disk."""
    (study.project.parent / "qupath_bridge").touch()  # where our folder belongs
    words = [*OPTIONS, "--json"]
    out = f"{bucket}/out"
    assert main(["export", str(study.project), "--out", out, *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["provenance"] == [f"{out}/provenance"]
    assert any(f"the provenance is in {out}/provenance." in text for text in said["warnings"])
    assert main(["export", str(study.project), "--out", str(tmp_path / "disk"), *words]) == 0
    store = open_store(f"{out}/provenance")
    local = tmp_path / "disk" / "provenance"
    assert list(store.list()) == sorted(path.name for path in local.iterdir())
    for entry_id in "12":
        theirs = gzip.decompress(store.get(f"{entry_id}.geojson.gz"))
        ours = gzip.decompress((local / f"{entry_id}.geojson.gz").read_bytes())
        assert len(theirs.splitlines()) == len(ours.splitlines()) > 2


@pytest.mark.parametrize("option", ["preview", "pseudonymise", "create-project", "annotations"])
def test_what_stays_on_this_machine_is_refused_before_the_work(
    study, bucket, tmp_path, capsys, monkeypatch, option
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    words = ["--out", f"{bucket}/out", f"--{option}", f"{bucket}/x.png"]
    assert main(["export", str(study.project), *words]) == 2
    errors = capsys.readouterr().err
    assert f"should be a path of this machine, not {bucket}/x.png" in errors
    assert sorted(tmp_path.iterdir()) == before
    assert open_output(f"{bucket}/out", "folder").is_empty()


def test_a_report_is_not_written_to_another_url(study, bucket, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", f"{bucket}/out", "--out", f"{bucket}/page.html"]) == 2
    assert f"cannot be written to {bucket}/page.html" in capsys.readouterr().err
