import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.csv_file import write_csv
from qupath_bridge.outputs.index import facts_of, with_facts, write_partition
from qupath_bridge.pipeline.rows import rows_digest
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.testing.projects import build_project


@pytest.fixture(params=["png", "jpeg", "tiff", "webp"])
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
    mend_records(output, slide_id)
    assert kinds(qb.verify(out)) == {("pixels", left.name), ("pixels", right.name)}


def mend_records(output, slide_id):
    """Make everything that the run wrote about the rows of a slide fit them."""
    table = output.table(slide_id)
    write_csv(output)
    record = json.loads(output.get("run.json"))
    record["rows"][slide_id] = rows_digest(table, facts_of(table))
    output.put("run.json", json.dumps(record).encode())


def put_column(table, name, values, kind=None):
    place = table.schema.get_field_index(name)
    field = table.schema.field(name) if kind is None else pa.field(name, kind)
    return table.set_column(place, field, pa.array(values, field.type))


def with_facts_changed(table, **changes):
    return with_facts(table, {**facts_of(table), **changes})


EDITS = {
    "label": lambda t: put_column(t, "label", ["WRONG"] * t.num_rows),
    "label swapped": lambda t: put_column(t, "label", t["label"].to_pylist()[::-1]),
    "box": lambda t: put_column(t, "x_qupath", [0] * t.num_rows),
    "width": lambda t: put_column(t, "width", [2**31 - 1] * t.num_rows),
    "patch id": lambda t: put_column(t, "patch_id", t["patch_id"].to_pylist()[::-1]),
    "tile id": lambda t: put_column(t, "tile_uuid", t["tile_uuid"].to_pylist()[::-1]),
    "share": lambda t: put_column(t, "label_share", [1.0] * t.num_rows),
    "run": lambda t: put_column(t, "run_id", ["another"] * t.num_rows),
    "null path": lambda t: put_column(t, "path", [None] * t.num_rows),
    "path outside": lambda t: put_column(t, "path", ["patches/../run.json"] * t.num_rows),
    "rows cut off": lambda t: t.slice(0, 20),
    "rows twice": lambda t: pa.concat_tables([t, t]),
    "order": lambda t: t.take(list(range(t.num_rows))[::-1]),
    "column missing": lambda t: t.drop_columns(["digest"]),
    "column of another type": lambda t: put_column(t, "col", t["col"].to_pylist(), pa.int64()),
    "column of text": lambda t: put_column(t, "w_qupath", ["50"] * t.num_rows, pa.string()),
    "column more": lambda t: t.append_column("mine", t["label"]),
    "facts": lambda t: with_facts_changed(t, plan_digest="another"),
    "facts of wrong types": lambda t: with_facts_changed(t, counts=[]),
    "facts of another slide": lambda t: with_facts_changed(t, slide_id="another"),
    "no facts": lambda t: t.replace_schema_metadata({b"qupath_bridge.schema_version": b"1"}),
}


@pytest.fixture(scope="module")
def finished(draw, two_slides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    project = build_project(folder / "study", draw.images(two_slides))
    qb.export(project, folder / "out", qb.ExportConfig(size=50, min_share=0.4), workers=2)
    return folder / "out"


def edit_rows(out, change):
    output = open_output(out)
    slide_id = output.slides()[0]
    table = output.table(slide_id)
    path = out / "index" / f"slide_id={slide_id}" / "part-0.parquet"
    edited = change(table)
    if edited.schema.metadata == table.schema.metadata or not edited.schema.metadata:
        edited = edited.replace_schema_metadata(table.schema.metadata)
    pq.write_table(edited, path)
    return slide_id


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_rows_that_somebody_edited_are_found_and_never_written_back(finished, tmp_path, edit):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    slide_id = edit_rows(out, edit)
    found = kinds(qb.verify(out, pixels=3))
    assert ("index", f"slide {slide_id}") in found
    project = Path(json.loads((out / "run.json").read_text())["projects"][0]["path"]).parent
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="not as it was written") as caught:
        qb.write_back(project, out, engine="embedded")
    assert "verify" in caught.value.hint
    assert "resume" in caught.value.hint
    with pytest.raises(OutputError, match="not as it was written"):
        qb.write_provenance(project, out)
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


DAMAGES = {
    **EDITS,
    "column of the tiles": lambda t: t.drop_columns(["tile_uuid"]),
    "a file that is cut": None,
}


@pytest.mark.parametrize("how", ["resume", "update"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_was_done_to_rows_the_same_export_makes_them_again(
    finished, tmp_path, damage, how
):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    if damage is None:
        path = next((out / "index").rglob("*.parquet"))
        path.write_bytes(path.read_bytes()[:-9])
    else:
        edit_rows(out, damage)
    assert not qb.verify(out, pixels=0).ok
    config = qb.ExportConfig(size=50, min_share=0.4)
    run = qb.export(finished.parent / "study", out, config, workers=1, **{how: True})
    assert not run.failures
    assert qb.verify(out).ok
    assert {p.relative_to(out): p.read_bytes() for p in patches(out)} == {
        p.relative_to(finished): p.read_bytes() for p in patches(finished)
    }
    assert run.record["run_digest"] == qb.Run.load(finished).record["run_digest"]
    assert run.record["rows"] == qb.Run.load(finished).record["rows"]


@pytest.mark.parametrize("edit", [EDITS["column missing"], EDITS["null path"]])
def test_damaged_rows_of_a_slide_that_is_gone_end_no_run(finished, tmp_path, edit):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    slide_id = edit_rows(out, edit)
    config = qb.ExportConfig(size=50, min_share=0.4)
    study = finished.parent / "study"
    data = study / "data" / slide_id.partition("_")[0]
    data.rename(tmp_path / "data")
    try:
        run = qb.export(study, out, config, resume=True, workers=1)
    finally:
        (tmp_path / "data").rename(data)
    assert [failure.slide_id for failure in run.failures] == [slide_id]
    assert slide_id not in open_output(out).slides()
    assert qb.verify(out, pixels=0).ok
    qb.export(study, out, config, resume=True, workers=1)
    assert qb.Run.load(out).record["rows"] == qb.Run.load(finished).record["rows"]


def test_index_csv_is_never_read_as_a_whole(finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    get, read = LocalStore.get, []
    monkeypatch.setattr(LocalStore, "get", lambda self, name: read.append(name) or get(self, name))
    text = (out / "index.csv").read_bytes()
    for content, problems in ((text, 0), (text + b"x\n", 1), (text[:-9], 1), (text[:50], 1)):
        (out / "index.csv").write_bytes(content)
        assert len(qb.verify(out, pixels=0).findings) == problems
    assert "run.json" in read
    assert "index.csv" not in read


def test_index_csv_report_and_partitions_belong_together(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    text = (out / "index.csv").read_bytes()
    lines = text.split(b"\n")
    for edited, line in (
        (text.replace(b",Tumor,", b",Stroma,", 1), None),
        (b"\n".join([*lines[:7], b"x", *lines[8:]]), 8),
        (b"\n".join(lines[:-2]) + b"\n", len(lines) - 1),
        (text + lines[1] + b"\n", None),
        (b"", 1),
    ):
        (out / "index.csv").write_bytes(edited)
        (finding,) = qb.verify(out, pixels=0).findings
        assert (finding.kind, finding.path) == ("index", "index.csv")
        assert line is None or f"line {line} " in finding.problem
    (out / "index.csv").unlink()
    assert kinds(qb.verify(out, pixels=0)) == {("index", "index.csv")}
    (out / "index.csv").write_bytes(text)
    report = json.loads((out / "report.json").read_text())
    report["slides"][0]["by_label"] = {"Tumor": 1}
    (out / "report.json").write_text(json.dumps(report))
    assert kinds(qb.verify(out, pixels=0)) == {("index", "report.json")}


def test_partitions_that_are_gone_or_too_many_are_found(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    first, second = sorted((out / "index").iterdir())
    more = second / "part-1.parquet"
    shutil.copy(second / "part-0.parquet", more)
    stray = out / "patches" / "notes.txt"
    stray.write_text("mine")
    assert kinds(qb.verify(out, pixels=0)) == {
        ("unlisted", "part-1.parquet"), ("unlisted", "notes.txt"),
    }  # fmt: skip
    more.unlink()
    stray.unlink()
    second.rename(out / "index" / "slide_id=9_other")
    found = kinds(qb.verify(out, pixels=0))
    assert ("index", f"slide {second.name.removeprefix('slide_id=')}") in found
    assert ("index", "slide 9_other") in found
    assert first.is_dir()


def test_slides_that_moved_or_changed(out, study, tmp_path):
    """The place of each slide is told by its own partition; slide_map says where it is now."""
    first = str(study.slides[0])
    output = open_output(out)
    assert [facts_of(output.table(name))["path"] for name in output.slides()] == [
        str(path) for path in study.slides
    ]
    moved = tmp_path / "moved.tiff"
    shutil.copy(first, moved)
    gone = str(tmp_path / "gone.tiff")
    assert qb.verify(out, slide_map={first: gone}).findings == (
        qb.Finding("slide", gone, "no such file."),
    )
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
    assert qb.verify(out, reader="tiles").ok
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
