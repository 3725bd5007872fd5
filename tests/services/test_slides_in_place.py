"""Slides that are read in place, on a real server that speaks S3."""

import json

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.stores import open_store, staging
from qupath_bridge.stores.cloud import CloudStore
from qupath_bridge.testing.slides import write_slide
from tests.support.buckets import replace_alike, when_pixels_are_read
from tests.support.run_content import index_rows, patch_files

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad"]
CONFIG = qb.ExportConfig(size=64, labels=False)


def content(place):
    digest = load_finished(open_output(place))["run_digest"]
    return patch_files(place), index_rows(place, "project"), digest


def test_processes_make_of_urls_what_is_made_of_files(
    study, slides, bucket, cache_folder, tmp_path, monkeypatch
):
    disk = tmp_path / "disk"
    assert main(["export", str(study.slides[0].parent), "--out", str(disk), *OPTIONS]) == 0
    words = [*OPTIONS, "--runner", "processes", "--workers", "2", "--fetch", "ranges"]
    assert main(["export", slides, "--out", f"{bucket}/out", *words]) == 0
    assert content(f"{bucket}/out") == content(disk)
    report = json.loads(open_store(f"{bucket}/out").get("report.json"))
    assert {slide["fetched"] for slide in report["slides"]} == {"ranges"}
    monkeypatch.setenv(staging.FETCH, "ranges")
    assert main(["verify", f"{bucket}/out"]) == 0
    assert not cache_folder.exists()


def test_few_patches_of_a_large_slide_need_few_bytes(bucket, tmp_path, capsys):
    """As the profile says it."""
    pixels = np.random.default_rng(2).integers(0, 256, (4096, 4096, 3), dtype=np.uint8)
    path = write_slide(tmp_path / "large.tiff", pixels, mpp=0.25, tile=256, compression=None)
    open_store(bucket).put("large.tiff", path.read_bytes())
    out = str(tmp_path / "out")
    words = ["--size", "256", "--max-per-slide", "4", "--fetch", "ranges", "--profile", "--json"]
    assert main(["export", f"{bucket}/large.tiff", "--out", out, *words]) == 0
    profile = json.loads(capsys.readouterr().out)["profile"]
    amounts = profile["object_storage"]
    assert profile["patches"] == 4
    assert amounts["pixel_bytes_needed"] == 4 * 256 * 256 * 3
    assert amounts["pixel_bytes"] <= amounts["pixel_bytes_needed"] + 3 * (256 << 10)
    assert amounts["pixel_bytes"] + amounts["header_bytes"] < 0.12 * path.stat().st_size
    assert amounts["pixel_requests"] <= 4


@pytest.mark.parametrize(
    ("act", "error", "hint"),
    [
        (replace_alike, "was replaced while it was read", "Export again"),
        (CloudStore.delete, "it does not exist", "Is the slide still there"),
    ],
)
def test_a_slide_that_changes_while_it_is_read(
    study, slides, tmp_path, monkeypatch, act, error, hint
):
    """The service refuses its parts; the other slide is exported."""
    first = study.slides[0].name
    when_pixels_are_read(monkeypatch, lambda: act(open_store(slides), first), first)
    run = qb.export(slides, tmp_path / "out", CONFIG, fetch="ranges")
    (failure,) = run.failures
    assert failure.slide_name == first
    assert error in failure.error
    assert f"{slides}/{first}" in failure.error
    assert hint in failure.hint
    assert run.written > 0
