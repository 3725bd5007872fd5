"""A copy of a lake has every row of its runs once, and is whole or not there."""

import json
import shutil
from collections import Counter

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import app
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.lake import partitions, writing
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Location
from qupath_bridge.stores.local import LocalStore


def record_of(copy):
    return json.loads((copy / "lake.json").read_bytes())


def data_of(copy):
    return copy / "data" / record_of(copy)["version"]


def table_of(copy):
    return ds.dataset(data_of(copy), partitioning="hive").to_table()


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(lake):
    return [
        {"place": str(out), **row}
        for out in (lake.first, lake.second)
        for row in qb.read_index(out).to_pylist()
    ]


def test_every_row_is_there_once(lake):
    before = bytes_of(lake.root)
    made = qb.compact(lake.root, lake.root / "copy")
    expected = rows_of(lake)
    found = table_of(lake.root / "copy").to_pylist()
    key = ("place", "patch_id")
    by_key = {tuple(row[name] for name in key): row for row in found}
    assert len(found) == len(by_key) == len(expected) == made.rows
    for row in expected:
        other = by_key[tuple(row[name] for name in key)]
        assert {name: other[name] for name in row} == row
    after = bytes_of(lake.root)
    assert {name: after[name] for name in before} == before


def test_folders_are_projects_and_labels_sorted_by_slide(lake):
    qb.compact(lake.root, lake.root / "copy")
    record = record_of(lake.root / "copy")
    projects = {run.place: run.slides[0].project for run in qb.catalog(lake.root).runs}
    assert len({key.split("-")[0] for key in record["projects"]}) == 1
    assert len(record["projects"]) == 2  # of one folder name
    for file in record["files"]:
        project, label, _ = file["name"].split("/")
        rows = pq.ParquetFile(data_of(lake.root / "copy") / file["name"]).read().to_pylist()
        assert {row["place"] for row in rows} == {
            out
            for out, place in projects.items()
            if place == record["projects"][project.removeprefix("project_key=")]
        }
        assert {row["label"] for row in rows} == {
            record["labels"][label.removeprefix("label_key=")]
        }
        slides = [row["slide_id"] for row in rows]
        assert slides == sorted(slides)
        assert len(rows) == file["rows"]


@pytest.mark.parametrize("by", [(), ("project",), ("label",)])
def test_other_partitions_have_the_same_rows(lake, by):
    qb.compact(lake.root, lake.root / "copy", by=by)
    found = Counter(table_of(lake.root / "copy")["patch_id"].to_pylist())
    assert found == Counter(row["patch_id"] for row in rows_of(lake))
    depth = {name["name"].count("/") for name in record_of(lake.root / "copy")["files"]}
    assert depth == {len(by)}
    for file in record_of(lake.root / "copy")["files"]:
        rows = pq.ParquetFile(data_of(lake.root / "copy") / file["name"]).read(["slide_id"])
        slides = rows["slide_id"].to_pylist()
        assert slides == sorted(slides)


def test_images_are_the_bytes_of_the_run(lake):
    qb.compact(lake.root, lake.root / "copy", images=True)
    for row in table_of(lake.root / "copy").to_pylist():
        place = Location(row["path"], row["offset"], row["length"])
        assert row["image"]["bytes"] == open_output(row["place"]).read(place)


def test_a_file_ends_at_its_size_with_a_row_group(lake, monkeypatch):
    monkeypatch.setattr(writing, "GROUP_ROWS", 20)
    assert qb.compact(lake.root, lake.root / "one", by=()).files == 1
    made = qb.compact(lake.root, lake.root / "copy", by=(), file_size="1kB")
    sizes = [file["size"] for file in record_of(lake.root / "copy")["files"]]
    assert len(sizes) == 4  # slides of two runs, more than 20 patches each
    assert min(sizes) > 1000
    assert table_of(lake.root / "copy").num_rows == made.rows == len(rows_of(lake))


def test_the_same_lake_makes_the_same_bytes(lake):
    for name in ("one", "two"):
        qb.compact(lake.root, lake.root / name, images=True)
    assert bytes_of(data_of(lake.root / "one")) == bytes_of(data_of(lake.root / "two"))


def test_a_whole_copy_is_left_as_it_is(lake):
    first = qb.compact(lake.root, lake.root / "copy")
    before = {path: path.stat().st_mtime_ns for path in (lake.root / "copy").rglob("*")}
    again = qb.compact(lake.root, lake.root / "copy")
    assert (again.version, again.reused) == (first.version, first.files)
    assert {path: path.stat().st_mtime_ns for path in (lake.root / "copy").rglob("*")} == before


def change_rows(out):
    """Let a run have other rows, as an update after a correction has."""
    for name, label in (("run.json", "0" * 32),):
        record = json.loads((out / name).read_bytes())
        record["rows"] = dict.fromkeys(record["rows"], label)
        (out / name).write_text(json.dumps(record), encoding="utf-8")


def test_a_copy_is_stale_when_rows_change(lake):
    qb.compact(lake.root, lake.root / "copy")
    (copy,) = qb.catalog(lake.root).copies
    assert (copy.place, copy.stale) == (str(lake.root / "copy"), ())
    change_rows(lake.first)
    (copy,) = qb.catalog(lake.root).copies
    run_id = qb.catalog(lake.root).runs[0].run_id
    assert copy.stale == (f"rows of run {run_id} changed",)


def test_a_copy_is_stale_when_runs_come_and_go(lake, tmp_path):
    shutil.move(lake.first, tmp_path / "kept")
    qb.compact(lake.root, lake.root / "copy")
    shutil.move(tmp_path / "kept", lake.first)
    (copy,) = qb.catalog(lake.root).copies
    assert [text.endswith("is not in it") for text in copy.stale] == [True]
    shutil.rmtree(lake.second)
    assert any("is not there" in text for text in qb.catalog(lake.root).copies[0].stale)


def test_a_new_version_replaces_the_old_one(lake):
    first = qb.compact(lake.root, lake.root / "copy")
    shutil.rmtree(lake.first)
    second = qb.compact(lake.root, lake.root / "copy")
    assert first.version != second.version
    assert [path.name for path in (lake.root / "copy" / "data").iterdir()] == [second.version]
    assert table_of(lake.root / "copy").num_rows == second.rows == len(qb.read_index(lake.second))
    assert qb.catalog(lake.root).copies[0].stale == ()


class Killed(BaseException):
    """Ends a copy, and is caught by nothing."""


class Kill:
    """Ends the process at one of the writes to a store, as far as a test can."""

    def __init__(self, monkeypatch, at):
        self.left = at
        for name in ("put", "draft", "delete"):
            real = getattr(LocalStore, name)
            monkeypatch.setattr(LocalStore, name, self.counted(real))

    def counted(self, real):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise Killed
            return real(*arguments, **options)

        return call


def test_a_copy_that_is_killed_goes_on_and_readers_see_a_whole_one(lake, tmp_path):
    out = lake.root / "copy"
    whole = qb.compact(lake.root, tmp_path / "whole")
    wanted = bytes_of(data_of(tmp_path / "whole"))
    old = qb.compact(lake.first, out)
    for at in range(1, 200):
        with pytest.MonkeyPatch.context() as patch:
            killer = Kill(patch, at)
            try:
                made = qb.compact(lake.root, out)
            except Killed:
                made = None
        if made is None:
            assert record_of(out)["version"] in (old.version, whole.version)
            assert table_of(out).num_rows == record_of(out)["rows"]
        else:
            if killer.left > 0:
                break
    assert bytes_of(data_of(out)) == wanted
    assert not (out / "parts").exists()


def test_partitions_that_were_finished_are_kept(lake):
    out = lake.root / "copy"
    with pytest.MonkeyPatch.context() as patch:
        Kill(patch, 5)
        with pytest.raises(Killed):
            qb.compact(lake.root, out)
    assert not (out / "lake.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.parquet")}
    made = qb.compact(lake.root, out)
    assert 0 < made.reused == len(kept) < made.files
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_rows_that_are_not_those_of_the_record_are_refused(lake):
    change_rows(lake.second)
    with pytest.raises(OutputError, match=r"are not those that its run\.json lists"):
        qb.compact(lake.root, lake.root / "copy")
    assert not (lake.root / "copy" / "lake.json").exists()


def test_a_damaged_patch_is_named(lake):
    next((lake.first / "patches").rglob("*.png")).write_bytes(b"other")
    with pytest.raises(OutputError, match="The patch .* is damaged"):
        qb.compact(lake.root, lake.root / "copy", images=True)


def test_a_damaged_run_is_named(lake):
    (lake.first / "run.json").write_bytes(b"{")
    with pytest.raises(OutputError, match="first cannot be copied: .*is not JSON"):
        qb.compact(lake.root, lake.root / "copy")


def test_a_run_in_two_places_is_refused(lake):
    shutil.copytree(lake.first, lake.root / "again")
    with pytest.raises(OutputError, match="is in several places: .*again, .*first"):
        qb.compact(lake.root, lake.root / "copy")


def test_several_labels_cannot_be_partitions(study, tmp_path):
    root = tmp_path / "lake"
    config = qb.ExportConfig(size=64, mpp=0.5, rule="any")
    qb.export(study.project, root / "run", config, provenance=False)
    with pytest.raises(UsageError, match="cannot be partitioned by label"):
        qb.compact(root, root / "copy")
    made = qb.compact(root, root / "copy", by=["project"])
    assert made.rows == len(qb.read_index(root / "run"))


@pytest.mark.parametrize("name", ["project.qpproj", "data/1/data.qpdata", "run.json"])
def test_a_place_of_something_else_is_refused_and_stays(lake, tmp_path, name):
    """A project of QuPath has a folder ``data``, too."""
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(b"kept")
    with pytest.raises(OutputError, match="holds something else than a copy of a lake"):
        qb.compact(lake.root, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == {name: b"kept"}


def test_files_of_others_in_a_copy_stay(lake):
    out = lake.root / "copy"
    qb.compact(lake.first, out)
    (out / "data" / "notes.txt").write_bytes(b"kept")
    qb.compact(lake.root, out)
    assert (out / "data" / "notes.txt").read_bytes() == b"kept"


def test_unknown_partitions_and_sizes(lake):
    with pytest.raises(UsageError, match="cannot be partitioned by colour"):
        qb.compact(lake.root, lake.root / "copy", by=["colour"])
    with pytest.raises(UsageError, match="is not the size"):
        qb.compact(lake.root, lake.root / "copy", file_size="large")


def test_the_key_of_a_project_is_that_of_its_path():
    keys = [partitions.project_key(f"{place}/study/project.qpproj") for place in ("/a", "/b")]
    assert len(set(keys)) == 2
    assert {key.split("-")[0] for key in keys} == {"study"}


def test_the_command(lake, capsys):
    out = lake.root / "copy"
    assert app.run(["compact", str(lake.root), str(out), "--images"]) == 0
    made = record_of(out)
    assert f"{made['rows']} rows of 2 runs in {len(made['files'])} files: " in (
        capsys.readouterr().out
    )
    assert app.run(["compact", str(lake.root), str(out), "--images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reused"] == len(made["files"])
    change_rows(lake.first)
    assert app.run(["catalog", str(lake.root)]) == 0
    shown = capsys.readouterr()
    assert f"copy {made['version']}, stale" in shown.out
    assert f"The copy {out} is stale: rows of run" in shown.err
