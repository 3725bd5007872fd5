import json
import shutil

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.pipeline.verify import verify


@pytest.fixture(params=["png", "jpeg", "tiff"])
def out(request, study, tmp_path):
    config = qb.ExportConfig(size=50, edge="pad", min_share=0.4, format=request.param)
    with qb.open_project(study.project) as project:
        plans = [qb.plan(slide, config) for slide in project.slides]
    qb.export(plans, tmp_path / "out", workers=2)
    return tmp_path / "out"


def patches(out):
    return sorted(path for path in (out / "patches").rglob("*") if path.is_file())


def kinds(result):
    return {(finding.kind, finding.path.rpartition("/")[2]) for finding in result.findings}


def test_a_good_run(out):
    seen = []
    result = verify(out, on_progress=lambda done, total: seen.append((done, total)))
    assert result.ok
    assert result.files == result.pixels == len(patches(out)) == seen[-1][0] == seen[-1][1]
    assert verify(out, pixels=0).pixels == 0
    assert 0 < verify(out, pixels=7).pixels <= 14


def test_what_is_wrong_is_found(out):
    files = patches(out)
    missing, cut, left, right, again = files[0], files[5], files[10], files[20], files[30]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:-40])
    held = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(held)
    with Picture.open(again) as picture:
        picture.load()
    picture.convert("RGB").save(again)  # the same picture, encoded once more
    stray = again.with_name(again.name.replace("_x", "_x9"))
    shutil.copy(again, stray)
    result = verify(out)
    assert kinds(result) == {
        ("missing", missing.name), ("changed", cut.name), ("changed", left.name),
        ("changed", right.name), ("changed", again.name), ("unlisted", stray.name),
    }  # fmt: skip
    problems = {f.path.rpartition("/")[2]: f.problem for f in result.findings}
    assert "damaged" in problems[cut.name]
    assert "swapped" in problems[left.name]


def test_a_digest_that_was_edited_along_is_found_in_the_pixels(out, study):
    """Somebody swaps two patches and mends the index: only the slide itself tells."""
    from qupath_bridge.outputs import index
    from qupath_bridge.stores.local import LocalStore

    store = LocalStore(out)
    slide_id = index.list_partitions(store)[0]
    table = index.read_partition(store, slide_id)
    digests = table.column("digest").to_pylist()
    paths = table.column("path").to_pylist()
    left, right = out / paths[0], out / paths[-1]
    held = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(held)
    digests[0], digests[-1] = digests[-1], digests[0]
    place = table.schema.get_field_index("digest")
    table = table.set_column(place, table.schema.field("digest"), [digests])
    index.write_partition(store, slide_id, table)
    assert kinds(verify(out)) == {("pixels", left.name), ("pixels", right.name)}


def test_slides_that_moved_or_changed(out, study, tmp_path):
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    moved = tmp_path / "moved.tiff"
    shutil.copy(study.slides[0], moved)
    record["slides"][0]["path"] = str(tmp_path / "gone.tiff")
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert {kind for kind, _ in kinds(verify(out))} == {"slide"}
    places = {record["slides"][0]["path"]: moved}
    assert verify(out, find_slide=lambda slide: places.get(slide["path"])).ok
    data = bytearray(moved.read_bytes())
    data[len(data) // 2] ^= 255
    moved.write_bytes(data)
    result = verify(out, find_slide=lambda slide: places.get(slide["path"]))
    (finding,) = result.findings
    assert "not the one that was exported" in finding.problem


def test_only_finished_runs(out):
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    (out / "run.json").write_text(json.dumps({**record, "state": "running"}), encoding="utf-8")
    with pytest.raises(OutputError, match="interrupted"):
        verify(out)
    (out / "run.json").unlink()
    with pytest.raises(OutputError, match="holds no run"):
        verify(out)


def test_another_size(out):
    path = patches(out)[0]
    Picture.fromarray(np.zeros((9, 7, 3), np.uint8)).save(path)
    (finding,) = verify(out, pixels=0).findings
    assert "7 x 9" in finding.problem
