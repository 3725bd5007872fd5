"""Slides in object storage; a store in memory stands for a bucket."""

import gc
from pathlib import Path

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.errors import ProjectError, ReadError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.readers import open_reader, slide_version
from qupath_bridge.readers.fingerprints import file_fingerprint, slide_files
from qupath_bridge.stores import staging
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.buckets import upload
from tests.support.run_content import facts_of, index_rows

CONFIG = qb.ExportConfig(size=64, labels=False)


@pytest.fixture
def slides(tmp_path, bucket):
    folder = tmp_path / "slides"
    folder.mkdir()
    for number, name in enumerate(("a.tiff", "b.tif")):
        pixels = np.roll(marker_image(256, 192), number, axis=0)
        write_slide(folder / name, pixels, mpp=0.5, tile=64)
    upload(folder, bucket.url)
    return folder


def test_a_slide_is_the_same_as_on_disk(tmp_path, slides, bucket):
    """Identity, plan, pixels and index."""
    url = f"{bucket.url}/a.tiff"
    here = qb.export(slides / "a.tiff", tmp_path / "disk", CONFIG)
    there = qb.export(url, tmp_path / "url", CONFIG, workers=2)
    assert there.written == here.written > 0
    assert index_rows(tmp_path / "url", "project") == index_rows(tmp_path / "disk", "project")
    digests = {load_finished(open_output(tmp_path / p))["run_digest"] for p in ("url", "disk")}
    assert len(digests) == 1
    assert qb.verify(tmp_path / "url").ok


def test_a_folder_and_a_table(tmp_path, slides, bucket):
    bucket.put("notes.txt", b"")
    bucket.put("deeper/c.tiff", b"")
    bucket.put("table.csv", f"path,patient\na.tiff,P1\n{bucket.url}/b.tif,P2\n".encode())
    with qb.open_project(bucket.url) as folder, qb.open_project(slides) as local:
        assert [s.name for s in folder] == ["a.tiff", "b.tif"]
        assert [s.entry_id for s in folder] == [s.entry_id for s in local]
        assert [s.builder.json["providerClassName"] for s in folder] == [
            s.builder.json["providerClassName"] for s in local
        ]
    with qb.open_project(f"{bucket.url}/table.csv") as table:
        assert [s.metadata["patient"] for s in table] == ["P1", "P2"]
        assert [s.uri for s in table] == [f"{bucket.url}/a.tiff", f"{bucket.url}/b.tif"]
    run = qb.export(f"{bucket.url}/table.csv", tmp_path / "out", CONFIG)
    assert run.written == qb.export(slides, tmp_path / "disk", CONFIG).written > 0


def test_slides_of_a_project_that_moved_to_a_bucket(tmp_path, study, bucket):
    for path in study.slides:
        bucket.put(path.name, path.read_bytes())
    expected = qb.export(study.project, tmp_path / "disk", CONFIG)
    old = str(study.slides[0].parent)
    run = qb.export(
        study.project, tmp_path / "out", CONFIG, slide_map={old: bucket.url}, provenance=False
    )
    assert run.failures == ()
    assert run.written == expected.written > 0
    assert qb.verify(tmp_path / "out").ok


def test_records_name_the_url(tmp_path, slides, bucket):
    qb.export(f"{bucket.url}/a.tiff", tmp_path / "out", CONFIG)
    output = open_output(tmp_path / "out", "folder")
    texts = b"".join(output.store.get(n) for n in output.store.list() if n.endswith(".json"))
    assert f"{bucket.url}/a.tiff".encode() in texts
    assert str(tmp_path / "cache").encode() not in texts
    assert b"memory:/" not in texts.replace(b"memory://", b"")
    (facts,) = facts_of(tmp_path / "out")
    assert facts["path"] == facts["uri"] == facts["project"] == f"{bucket.url}/a.tiff"


def states(study, moved):
    (run,) = qb.status(study.project, slide_map=moved)
    return [slide.state for slide in run.entries]


def test_a_slide_that_is_replaced_is_exported_again_with_update(tmp_path, study, bucket, draw):
    for path in study.slides:
        bucket.put(path.name, path.read_bytes())
    moved = {str(study.slides[0].parent): bucket.url}

    def export(**options):
        return qb.export(study.project, tmp_path / "out", CONFIG, slide_map=moved, **options)

    first = export()
    assert states(study, moved) == ["current", "current"]
    other = write_slide(tmp_path / "other.tiff", draw.texture(7), mpp=0.5, tile=64)
    bucket.put(study.slides[0].name, other.read_bytes())
    found = qb.verify(tmp_path / "out").findings
    assert [each.kind for each in found] == ["slide"]
    assert found[0].path == f"{bucket.url}/{study.slides[0].name}"
    assert states(study, moved) == ["stale", "current"]
    again = export(update=True)
    assert again.written == first.written
    assert qb.verify(tmp_path / "out").ok


def test_a_slide_that_is_replaced_while_it_is_read_is_refused(
    tmp_path, slides, bucket, monkeypatch
):
    """Where neither its size nor what its fingerprint looks at changes, too."""
    from qupath_bridge.pipeline import task

    make = task.make_plan

    def plan(*args, **kwargs):
        made = make(*args, **kwargs)
        data = bytearray(bucket.get("a.tiff"))
        data[-1] ^= 1
        bucket.put("a.tiff", bytes(data))
        return made

    monkeypatch.setattr(task, "make_plan", plan)
    run = qb.export(f"{bucket.url}/a.tiff", tmp_path / "out", CONFIG)
    assert run.written == 0
    assert "was replaced while it was read" in run.failures[0].error


def test_a_reader_keeps_its_copy_until_it_is_gone(slides, bucket, monkeypatch):
    size = len(bucket.get("a.tiff"))
    monkeypatch.setenv(staging.CACHE_SIZE, str(size + 10))
    monkeypatch.setattr(staging, "WAIT_SECONDS", 0.0)
    reader = open_reader(f"{bucket.url}/a.tiff")
    with pytest.raises(ReadError, match="full of slides that are in use"):
        open_reader(f"{bucket.url}/b.tif")
    reader.close()
    del reader
    gc.collect()
    with open_reader(f"{bucket.url}/b.tif") as other:
        assert other.size == (256, 192)


def test_many_slides_go_through_a_small_cache(tmp_path, slides, bucket, cache_folder, monkeypatch):
    limit = max(len(bucket.get(name)) for name in ("a.tiff", "b.tif")) + 10
    run = qb.export(bucket.url, tmp_path / "out", CONFIG, cache=cache_folder, cache_size=str(limit))
    assert run.failures == ()
    assert len(open_output(tmp_path / "out", "folder").slides()) == 2
    left = [path for path in cache_folder.rglob("*.tif*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) <= limit


def test_each_slide_is_copied_once(tmp_path, slides, bucket, monkeypatch):
    """Whatever looks at all slides before the first pixel, and however small the cache is."""
    monkeypatch.setenv(staging.CACHE_SIZE, str(len(bucket.get("a.tiff")) + 10))
    copy_objects, copied = staging._copy, []

    def count(objects, folder):
        copied.extend(each.name for each in objects)
        copy_objects(objects, folder)

    monkeypatch.setattr(staging, "_copy", count)
    qb.export(bucket.url, tmp_path / "out", CONFIG)
    assert sorted(copied) == ["a.tiff", "b.tif"]


def test_a_slide_larger_than_the_cache_fails_alone(tmp_path, slides, bucket, monkeypatch):
    write_slide(slides / "a.tiff", marker_image(512, 512), mpp=0.5, tile=64)
    bucket.put("a.tiff", (slides / "a.tiff").read_bytes())
    monkeypatch.setenv(staging.CACHE_SIZE, str(len(bucket.get("b.tif")) + 10))
    run = qb.export(bucket.url, tmp_path / "out", CONFIG)
    (failure,) = run.failures
    assert failure.slide_name == "a.tiff"
    assert "and the cache" in failure.error
    assert "cache_size" in failure.hint
    assert run.written > 0


def test_no_such_object_or_folder(tmp_path, slides, bucket):
    bucket.put("table.csv", b"path\na.tiff\ngone.tiff\n")
    run = qb.export(f"{bucket.url}/table.csv", tmp_path / "out", CONFIG)
    assert [f.slide_name for f in run.failures] == ["gone.tiff"]
    assert "gone.tiff" in run.failures[0].error
    with pytest.raises(ProjectError, match=f"{bucket.url}/nothing: no QuPath project and no slide"):
        qb.open_project(f"{bucket.url}/nothing")
    with pytest.raises(ReadError):
        open_reader(f"{bucket.url}/gone.tiff")


def test_a_slide_of_a_folder_is_staged_whole(tmp_path, bucket):
    """MIRAX: the file that is named, and the folder of its name."""
    folder = tmp_path / "mirax"
    (folder / "a").mkdir(parents=True)
    for name in ("a.mrxs", "a/Slidedat.ini", "a/Data0000.dat", "other.dat"):
        (folder / name).write_bytes(name.encode() * 9)
    local = file_fingerprint(folder / "a.mrxs")
    upload(folder, bucket.url)
    path = Path(f"{bucket.url}/a.mrxs")
    assert [file.name for file in slide_files(path)] == ["Data0000.dat", "Slidedat.ini", "a.mrxs"]
    there = file_fingerprint(path)
    assert (there.size, there.digest) == (local.size, local.digest)
    before = slide_version(path)
    from qupath_bridge.readers.staged import stage_slide

    staged = stage_slide(path)
    assert staged.path.read_bytes() == (folder / "a.mrxs").read_bytes()
    inside = staged.path.with_suffix("")
    assert {each.name for each in inside.iterdir()} == {"Data0000.dat", "Slidedat.ini"}
    bucket.put("a/Data0000.dat", b"x" * len(bucket.get("a/Data0000.dat")))
    assert slide_version(path) != before


def test_a_local_slide_has_no_version(slides):
    assert slide_version(slides / "a.tiff") is None
