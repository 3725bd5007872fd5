import json
import shutil

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import facts_of, write_partition


@pytest.fixture(params=["png", "jpeg", "tiff"])
def out(request, study, tmp_path):
    config = qb.ExportConfig(size=50, edge="pad", min_share=0.4, format=request.param)
    qb.export(study.project, tmp_path / "out", config, workers=2)
    return tmp_path / "out"


def patches(out):
    return sorted(path for path in (out / "patches").rglob("*") if path.is_file())


def kinds(result):
    return {(finding.kind, finding.path.rpartition("/")[2]) for finding in result.findings}


def test_a_good_run(out):
    seen = []
    result = qb.verify(out, on_progress=lambda done, total: seen.append((done, total)))
    assert result.ok
    assert result.files == result.pixels == len(patches(out)) == seen[-1][0] == seen[-1][1]
    assert qb.verify(out, pixels=0).pixels == 0
    assert 0 < qb.verify(out, pixels=7).pixels <= 14


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
    result = qb.verify(out)
    assert kinds(result) == {
        ("missing", missing.name), ("changed", cut.name), ("changed", left.name),
        ("changed", right.name), ("changed", again.name), ("unlisted", stray.name),
    }  # fmt: skip
    problems = {f.path.rpartition("/")[2]: f.problem for f in result.findings}
    assert "damaged" in problems[cut.name]
    assert "swapped" in problems[left.name]


def test_a_digest_that_was_edited_along_is_found_in_the_pixels(out, study):
    """Somebody swaps two patches and mends the index: only the slide itself tells."""
    output = open_output(out)
    slide_id = output.slides()[0]
    table = output.table(slide_id)
    digests = table.column("digest").to_pylist()
    paths = table.column("path").to_pylist()
    left, right = out / paths[0], out / paths[-1]
    held = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(held)
    digests[0], digests[-1] = digests[-1], digests[0]
    place = table.schema.get_field_index("digest")
    table = table.set_column(place, table.schema.field("digest"), [digests])
    write_partition(output.store, slide_id, table)
    assert kinds(qb.verify(out)) == {("pixels", left.name), ("pixels", right.name)}


def test_slides_that_moved_or_changed(out, study, tmp_path):
    """The place of each slide is told by its own partition; slide_map says where it is now."""
    first = str(study.slides[0])
    output = open_output(out)
    assert [facts_of(output.table(name))["path"] for name in output.slides()] == [
        str(path) for path in study.slides
    ]
    moved = tmp_path / "moved.tiff"
    shutil.copy(first, moved)
    assert kinds(qb.verify(out, slide_map={first: str(tmp_path / "gone.tiff")})) == {
        ("slide", "gone.tiff")
    }
    assert qb.verify(out, slide_map={first: str(moved)}).ok
    assert qb.verify(out, slide_map={first.removesuffix(".tiff"): str(moved)}).ok  # not a folder
    folder = tmp_path / "elsewhere"
    shutil.copytree(study.slides[0].parent, folder)
    result = qb.verify(out, slide_map={str(study.slides[0].parent): str(folder)})
    assert (result.ok, result.pixels) == (True, result.files)
    data = bytearray(moved.read_bytes())
    data[len(data) // 2] ^= 255
    moved.write_bytes(data)
    (finding,) = qb.verify(out, slide_map={first: str(moved)}).findings
    assert (finding.kind, finding.path) == ("slide", str(moved))
    assert "not the one that was exported" in finding.problem


def test_a_run_is_named_by_itself_its_output_path_or_url(out):
    whole = qb.verify(out)
    for name in (qb.Run.load(out), open_output(out), str(out), out.as_uri()):
        assert qb.verify(name) == whole


def test_verify_reads_with_the_reader_that_is_asked_for(out):
    assert qb.verify(out, reader="tiff").ok
    with pytest.raises(UsageError, match="nothing"):
        qb.verify(out, reader="nothing")


def test_only_finished_runs(out):
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    (out / "run.json").write_text(json.dumps({**record, "state": "running"}), encoding="utf-8")
    with pytest.raises(OutputError, match="interrupted"):
        qb.verify(out)
    (out / "run.json").unlink()
    with pytest.raises(OutputError, match="contains no run"):
        qb.verify(out)


def test_another_size(out):
    path = patches(out)[0]
    Picture.fromarray(np.zeros((9, 7, 3), np.uint8)).save(path)
    (finding,) = qb.verify(out, pixels=0).findings
    assert "7 x 9" in finding.problem
