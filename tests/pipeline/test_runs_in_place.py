"""Runs whose slides are read in place; a store in memory stands for a bucket."""

import json

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import InterruptedRunError, OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.stores import staging
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.buckets import replace_alike, when_pixels_are_read
from tests.support.run_content import facts_of, index_rows, patch_files

CONFIG = qb.ExportConfig(size=64, labels=False)
ENCODED = qb.ExportConfig(size=64, labels=False, format="jpeg", passthrough="auto")
SCALED = qb.ExportConfig(size=50, mpp=0.73, labels=False, edge="pad")


@pytest.fixture
def slides(tmp_path, bucket):
    """A folder with two slides, which are in the bucket, too."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number, name in enumerate(("a.tiff", "b.tif")):
        pixels = np.roll(marker_image(320, 256), number, axis=0)
        write_slide(folder / name, pixels, mpp=0.5, tile=64, compression="jpeg", levels=2)
        bucket.put(name, (folder / name).read_bytes())
    return folder


def content(place):
    """Files and rows of a run, and its digest."""
    digest = load_finished(open_output(place))["run_digest"]
    return patch_files(place), index_rows(place, "project"), digest


def fetched(place):
    """How each slide that is committed came, as its facts and the report say it."""
    found = {facts["slide_name"]: facts["fetched"] for facts in facts_of(place)}
    report = json.loads((place / "report.json").read_bytes())
    assert {each["slide_name"]: each["fetched"] for each in report["slides"]} == found
    return found


@pytest.mark.parametrize("config", [CONFIG, ENCODED, SCALED], ids=["plain", "encoded", "scaled"])
def test_a_run_is_the_same_however_slides_come(tmp_path, slides, bucket, cache_folder, config):
    """Patches, index and digest: the identity of a slide needs no copy."""
    qb.export(slides, tmp_path / "disk", config)
    qb.export(bucket.url, tmp_path / "ranges", config, fetch="ranges", workers=2)
    assert not cache_folder.exists()
    qb.export(bucket.url, tmp_path / "copy", config, fetch="copy")
    assert cache_folder.exists()
    files, rows, digest = content(tmp_path / "disk")
    assert files
    for place in ("ranges", "copy"):
        assert content(tmp_path / place) == (files, rows, digest)
        assert fetched(tmp_path / place) == {"a.tiff": place, "b.tif": place}
    assert fetched(tmp_path / "disk") == {"a.tiff": None, "b.tif": None}


def test_a_run_goes_on_the_other_way(tmp_path, slides, bucket, monkeypatch):
    """And is verified either way."""

    def stop():
        raise KeyboardInterrupt

    when_pixels_are_read(monkeypatch, stop, "b.tif")
    with pytest.raises(InterruptedRunError):
        qb.export(bucket.url, tmp_path / "out", CONFIG, fetch="ranges", workers=1)
    qb.export(bucket.url, tmp_path / "out", CONFIG, fetch="copy", resume=True)
    assert fetched(tmp_path / "out") == {"a.tiff": "ranges", "b.tif": "copy"}
    qb.export(slides, tmp_path / "disk", CONFIG)
    assert content(tmp_path / "out") == content(tmp_path / "disk")
    for fetch in ("ranges", "copy"):
        monkeypatch.setenv(staging.FETCH, fetch)
        assert qb.verify(tmp_path / "out").ok


def test_slides_that_were_copied_are_named(tmp_path, slides, bucket):
    picture = slides / "c.png"
    from PIL import Image

    Image.fromarray(marker_image(128, 128)).save(picture)
    bucket.put("c.png", picture.read_bytes())
    run = qb.export(bucket.url, tmp_path / "out", CONFIG, fetch="ranges")
    assert fetched(tmp_path / "out") == {"a.tiff": "ranges", "b.tif": "ranges", "c.png": "copy"}
    (text,) = [text for text in run.warnings if "in place" in text]
    assert text.startswith("c.png: copied to the cache")
    run = qb.export(bucket.url, tmp_path / "copies", CONFIG)
    assert not [text for text in run.warnings if "in place" in text]


def test_the_profile_says_what_came(tmp_path, slides, bucket, capsys):
    words = ["export", bucket.url, "--size", "64", "--profile", "--workers", "2"]
    assert main([*words, "--fetch", "ranges", "--out", str(tmp_path / "a"), "--json"]) == 0
    amounts = json.loads(capsys.readouterr().out)["profile"]["object_storage"]
    sizes = sum(len(bucket.get(name)) for name in ("a.tiff", "b.tif"))
    assert amounts["pixel_bytes"] >= amounts["pixel_bytes_needed"] > 0
    assert amounts["pixel_bytes"] < sizes
    assert amounts["pixel_requests"] > 0
    assert "copy_bytes" not in amounts
    assert main([*words, "--out", str(tmp_path / "b"), "--json"]) == 0
    amounts = json.loads(capsys.readouterr().out)["profile"]["object_storage"]
    assert amounts["copy_bytes"] == sizes
    assert "pixel_bytes" not in amounts
    assert main([*words, "--fetch", "ranges", "--out", str(tmp_path / "c")]) == 0
    said = capsys.readouterr()
    assert "times what was needed" in said.out + said.err
    assert main(["export", str(slides), "--profile", "--out", str(tmp_path / "d"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"]["object_storage"] == {}


def test_a_plan_fetches_headers_only(tmp_path, slides, bucket, cache_folder):
    """Also the estimate of their size."""
    found = qb.plan(bucket.url, CONFIG, options=qb.RunOptions(fetch="ranges"))
    assert found.patches > 0
    assert qb.inspect(bucket.url, options=qb.RunOptions(fetch="ranges"))
    assert not cache_folder.exists()


# ---- faults: of one slide, by its name


def check_failure(run, place, words, hint):
    (failure,) = run.failures
    assert failure.slide_name == "a.tiff"
    assert words in failure.error
    assert hint in failure.hint
    assert set(fetched(place)) == {"b.tif"}


def test_a_slide_that_is_replaced_while_it_is_read(tmp_path, slides, bucket, monkeypatch):
    """By one of the same size that looks the same at its start and end."""
    when_pixels_are_read(monkeypatch, lambda: replace_alike(bucket, "a.tiff"), "a.tiff")
    run = qb.export(bucket.url, tmp_path / "out", CONFIG, fetch="ranges")
    check_failure(run, tmp_path / "out", "a.tiff was replaced while it was read", "Export again")


def test_a_slide_that_is_deleted_while_it_is_read(tmp_path, slides, bucket, monkeypatch):
    when_pixels_are_read(monkeypatch, lambda: bucket.delete("a.tiff"), "a.tiff")
    run = qb.export(bucket.url, tmp_path / "out", CONFIG, fetch="ranges")
    check_failure(run, tmp_path / "out", "a.tiff", "still there")


def test_a_store_that_refuses_from_now_on(tmp_path, slides, bucket, monkeypatch):
    def expire():
        def refuse(self, name, *args):
            if name == "a.tiff":
                raise OutputError(f"{name}: the credentials have expired.", hint="Get new ones.")
            return read(self, name, *args)

        read = MemoryStore.get_range
        monkeypatch.setattr(MemoryStore, "get_range", refuse)

    when_pixels_are_read(monkeypatch, expire, "a.tiff")
    config = CONFIG.replace(on_bad_tile="background")  # the slide is not damaged
    run = qb.export(bucket.url, tmp_path / "out", config, fetch="ranges")
    check_failure(run, tmp_path / "out", "credentials have expired", "Get new ones")
