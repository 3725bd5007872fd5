"""Runs of a lake are listed from their records, and patches are found in them."""

import json
import os
import shutil
from collections import Counter

import pyarrow.compute as pc
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import app
from qupath_bridge.errors import OutputError
from qupath_bridge.stores import local, open_store
from qupath_bridge.stores.memory import MemoryStore


def change(place, **values):
    record = json.loads(place.read_bytes())
    place.write_text(json.dumps({**record, **values}), encoding="utf-8")


def test_runs_are_listed_with_what_their_index_has(shared_lake):
    found = qb.catalog(shared_lake.root)
    assert not found.damaged
    assert [run.place for run in found.runs] == [str(shared_lake.first), str(shared_lake.second)]
    for run in found.runs:
        record = json.loads(open_store(run.place).get("run.json"))
        index = qb.read_index(run.place)
        assert (run.run_id, run.state) == (record["run_id"], "complete")
        assert run.config_digest == record["config_digest"]
        assert run.finished == record["finished"]
        assert run.patches == len(index) > 0
        assert run.labels == dict(Counter(index["label"].to_pylist()))
        assert {slide.slide_id for slide in run.slides} == set(index["slide_id"].to_pylist())


def test_a_root_that_is_a_run(shared_lake):
    assert [run.place for run in qb.catalog(shared_lake.first).runs] == [str(shared_lake.first)]


def test_nothing_but_records_is_opened(lake):
    """An index or patches that are gone change nothing."""
    wanted = qb.catalog(lake.root).runs
    for out in (lake.first, lake.second):
        for name in ("index", "patches"):
            shutil.rmtree(out / name)
    assert qb.catalog(lake.root).runs == wanted


def test_the_folders_of_a_run_are_not_walked(lake, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(
        local.os, "scandir", lambda path: listed.append(os.path.normpath(path)) or scandir(path)
    )
    qb.catalog(lake.root)
    assert sorted(listed) == sorted(
        map(str, (lake.root, lake.first, lake.root / "more", lake.second))
    )


def test_records_of_a_project_are_no_outputs(lake, tmp_path):
    folder = lake.root / "study" / "qupath_bridge" / "runs" / "R"
    folder.mkdir(parents=True)
    shutil.copy(lake.first / "run.json", folder)
    found = qb.catalog(lake.root)
    assert (len(found.runs), found.damaged) == (2, ())


def test_a_run_that_was_interrupted(lake):
    change(lake.first / "run.json", state="running", finished=None)
    (lake.first / "report.json").unlink()
    run, _ = qb.catalog(lake.root).runs
    assert (run.state, run.patches, run.labels, len(run.slides)) == ("running", None, {}, 2)
    assert {one.place for one in qb.catalog(lake.root).find().slides} == {str(lake.second)}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("run.json", b"{", "is not JSON"),
        ("run.json", b"{}", "is damaged"),
        ("report.json", b"[]", "is damaged"),
        ("report.json", None, "does not exist"),
    ],
)
def test_a_damaged_run_is_named_and_stops_nothing(lake, name, content, problem):
    if content is None:
        (lake.first / name).unlink()
    else:
        (lake.first / name).write_bytes(content)
    found = qb.catalog(lake.root)
    assert [run.place for run in found.runs] == [str(lake.second)]
    (damaged,) = found.damaged
    assert damaged.place == str(lake.first)
    assert problem in damaged.problem


def test_a_report_of_another_run_is_damage(lake):
    change(lake.first / "report.json", run_id="other")
    assert "is of the run other" in qb.catalog(lake.root).damaged[0].problem


def test_nothing_there(tmp_path):
    with pytest.raises(OutputError, match="No run found in"):
        qb.catalog(tmp_path)
    with pytest.raises(OutputError, match="No run found in"):
        qb.catalog(tmp_path / "missing")


def test_patches_are_found_by_label_slide_and_run(shared_lake):
    found = qb.catalog(shared_lake.root)
    tumor = found.find(label="Tumor")
    rows = tumor.table().to_pylist()
    expected = [
        (str(out), row["patch_id"])
        for out in (shared_lake.first, shared_lake.second)
        for row in qb.read_index(out).to_pylist()
        if row["label"] == "Tumor"
    ]
    assert [(row["place"], row["patch_id"]) for row in rows] == expected
    assert tumor.patches == len(expected) > 0
    assert {tuple(row["labels"]) for row in rows} == {("Tumor",)}

    one = found.runs[0].slides[1]
    for name in (one.slide_id, one.slide_name):
        by_slide = found.find(slide=name, run=found.runs[0].run_id)
        assert by_slide.patches == one.patches
        assert {row["slide_id"] for row in by_slide.table().to_pylist()} == {one.slide_id}
    assert found.find(label="Nothing").patches == 0
    assert found.find(run="other").table().num_rows == 0


def test_a_patch_is_found_by_the_digest_of_its_bytes(shared_lake):
    row = qb.read_index(shared_lake.second).to_pylist()[3]
    found = qb.catalog(shared_lake.root).find(digest=row["digest"])
    everywhere = [qb.read_index(out) for out in (shared_lake.first, shared_lake.second)]
    count = sum(pc.sum(pc.equal(table["digest"], row["digest"])).as_py() for table in everywhere)
    assert found.patches == count > 0
    assert row["patch_id"] in {each["patch_id"] for each in found.table().to_pylist()}


def test_an_index_that_cannot_be_searched_is_named(lake):
    row = qb.read_index(lake.second).to_pylist()[0]
    for part in (lake.first / "index").rglob("*.parquet"):
        part.write_bytes(b"PAR1 damaged")
    found = qb.catalog(lake.root).find(digest=row["digest"])
    assert {each.place for each in found.damaged} == {str(lake.first)}
    assert found.slides


def test_a_lake_in_another_store(shared_lake):
    store = MemoryStore()
    disk = open_store(shared_lake.root)
    for name in disk.list():
        store.put(name, disk.get(name))
    found = qb.catalog(store.url)
    assert [run.place for run in found.runs] == [f"{store.url}/first", f"{store.url}/more/second"]
    assert [run.patches for run in found.runs] == [
        run.patches for run in qb.catalog(shared_lake.root).runs
    ]
    store.forget()


def call(capsys, *arguments):
    status = app.run([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_the_command_lists_runs(shared_lake, capsys):
    status, out, _ = call(capsys, "catalog", shared_lake.root)
    found = qb.catalog(shared_lake.root)
    assert status == 0
    for run in found.runs:
        line = next(line for line in out.splitlines() if line.startswith(run.run_id))
        assert f"Tumor {run.labels['Tumor']}" in line
        assert line.endswith(run.place)
    status, out, _ = call(capsys, "catalog", shared_lake.root, "--json")
    assert [run["run_id"] for run in json.loads(out)["runs"]] == [r.run_id for r in found.runs]


def test_the_command_finds_patches(shared_lake, capsys):
    found = qb.catalog(shared_lake.root).find(label="Tumor")
    status, out, _ = call(capsys, "catalog", shared_lake.root, "--find", "label=Tumor")
    assert status == 0
    assert out.endswith(f"{found.patches} patches of {len(found.slides)} slides.\n")
    row = qb.read_index(shared_lake.second).to_pylist()[0]
    find = ["--find", f"digest={row['digest']}", "--find", "label=Tumor"]
    status, out, _ = call(capsys, "catalog", shared_lake.root, *find, "--json")
    assert row["patch_id"] in {each["patch_id"] for each in json.loads(out)["rows"]}


def test_the_command_names_damage(lake, capsys):
    (lake.first / "run.json").write_bytes(b"{")
    status, out, error = call(capsys, "catalog", lake.root)
    assert status == 1
    assert str(lake.second) in out
    assert f"{lake.first} was left out: first/run.json in" in error


@pytest.mark.parametrize("find", ["label", "colour=red", "label="])
def test_the_command_refuses_unknown_keys(shared_lake, capsys, find):
    status, _, error = call(capsys, "catalog", shared_lake.root, "--find", find)
    assert status == 2
    assert "Known keys: label, slide, digest, run" in error
