"""Predictions on the tiles of a run: nothing else changes, and what people said stays."""

import csv
import dataclasses
import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, ProjectError, UsageError
from qupath_bridge.qupath.editing import is_ours, tile_of
from qupath_bridge.qupath.geojson import Tile, read_tiles
from qupath_bridge.roundtrip.prediction_files import load_all
from qupath_bridge.sources.embedded import EmbeddedSource

from .test_corrections import collect, say, stored
from .test_write_back import (
    CONFIG,
    assert_only,
    bytes_of,
    change_in_qupath,
    data_file,
    export,
    inventory,
    tiles_of,
    undo,
    write,
)
from .test_write_back_history import pointers

DIRECT = {"direct": True, "engine": "embedded", "force": True}


def table_of(study, out="out1", **columns):
    """A table with a number for each patch of a run: 0, 1/8, 2/8 … in the order of the index."""
    ids = qb.read_index(study.folder / out)["patch_id"].to_pylist()
    numbers = columns or {"score": [number / 8 for number in range(len(ids))]}
    return pa.table({"patch_id": ids, **numbers})


def objects(study, entry_id="1"):
    image = EmbeddedSource().read_file(data_file(study, entry_id))
    return {o.id: o for o in image.objects if is_ours(o.id)}


def predicted(study, name="cnn", entry_id="1"):
    """The predictions of each tile in QuPath's data."""
    beginning = f"qb pred {name}: "
    return {
        i: {
            key.removeprefix(beginning): value
            for key, value in o.measurements.items()
            if key.startswith(beginning)
        }
        for i, o in objects(study, entry_id).items()
    }


def index_of(study, out="out1", entry_id="1"):
    rows = qb.read_index(study.folder / out).to_pylist()
    return {row["tile_uuid"]: row for row in rows if row["entry_id"] == entry_id}


def scores(study, out="out1"):
    """What :func:`table_of` says of each tile of the first slide."""
    rows = qb.read_index(study.folder / out).to_pylist()
    return {
        row["tile_uuid"]: number / 8 for number, row in enumerate(rows) if row["entry_id"] == "1"
    }


# --- on the tiles --------------------------------------------------------------------------------


def test_tiles_get_their_numbers_and_nothing_else_changes(study):
    run_id = export(study)
    write(study, run_id)
    before, rows, tiles = inventory(study), index_of(study), objects(study)
    done = qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    assert predicted(study) == {i: {"score": score} for i, score in scores(study).items()}
    assert len(rows) > 10
    for i, item in objects(study).items():
        old = tiles[i]
        kept = {k: v for k, v in item.measurements.items() if not k.startswith("qb pred ")}
        assert kept == dict(old.measurements)
        assert item.class_path == rows[i]["label"]
        assert (item.name, item.metadata, item.roi) == (old.name, old.metadata, old.roi)
    again = [
        tile._replace(
            measurements={**tile.measurements, "qb pred cnn: score": scores(study)[tile.id]}
        )
        for tile in tiles_of(study, run_id)
    ]
    assert_only(before, inventory(study), removed=rows.keys(), added=again)
    (written,) = done.written
    first = written.entries[0]
    assert (first.state, first.added, first.removed) == ("written", 0, 0)
    assert first.measured == len(rows)
    now = bytes_of(study)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    assert bytes_of(study) == now  # twice changes nothing


def test_a_run_that_is_not_shown_yet_comes_with_its_predictions(study):
    export(study)
    qb.predictions(study.folder / "out1", table_of(study), "cnn", **DIRECT)
    assert predicted(study) == {i: {"score": score} for i, score in scores(study).items()}


def test_names_stand_side_by_side_and_the_same_name_is_replaced(study):
    export(study)
    rows = len(qb.read_index(study.folder / "out1"))
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    other = table_of(study, kind=["x"] * rows)
    qb.predictions(study.project, other, "mil", **DIRECT)
    assert {frozenset(v) for v in predicted(study, "mil").values()} == {frozenset({"kind = x"})}
    assert predicted(study)[next(iter(scores(study)))].keys() == {"score"}
    qb.predictions(study.project, other, "cnn", **DIRECT)
    assert {frozenset(v) for v in predicted(study, "cnn").values()} == {frozenset({"kind = x"})}
    assert {frozenset(v) for v in predicted(study, "mil").values()} == {frozenset({"kind = x"})}
    (run,) = qb.status(study.project, engine="embedded")
    assert run.predictions == ("cnn", "mil")


def test_patches_without_a_number_have_no_measurement(study):
    run_id = export(study)
    full = table_of(study).slice(0, 4)
    holes = full.set_column(1, "score", pa.array([0.5, None, float("nan"), -2.0]))
    done = qb.predictions(study.project, holes, "cnn", **DIRECT)
    values = list(predicted(study).values())
    assert values[:4] == [{"score": 0.5}, {}, {}, {"score": -2.0}]
    assert not any(values[4:])
    everything = len(tiles_of(study, run_id)) + len(tiles_of(study, run_id, "2"))
    assert (done.tiles, done.without) == (2, everything - 2)
    (legend,) = done.measurements
    assert (legend.patches, legend.minimum, legend.maximum) == (2, -2.0, 0.5)


def test_both_keys_are_checked_and_a_tile_can_be_the_key(study):
    export(study)
    index = qb.read_index(study.folder / "out1")
    by_tile = index.select(["tile_uuid"]).append_column("p", pa.array(np.arange(len(index)) / 8))
    both = by_tile.append_column("patch_id", index["patch_id"])
    for name, table in (("tile", by_tile), ("both", both)):
        entry_2 = {row["tile_uuid"] for row in index_of(study, entry_id="2").values()}
        assert entry_2.isdisjoint(index_of(study))
        qb.predictions(study.project, table, name)
    write(study, qb.Run.load(study.folder / "out1").run_id)
    for name in ("tile", "both"):
        assert predicted(study, name) == {i: {"p": score} for i, score in scores(study).items()}
    ids = both["tile_uuid"].to_pylist()
    wrong = both.set_column(0, "tile_uuid", pa.array([ids[1], ids[0], *ids[2:]]))
    with pytest.raises(UsageError) as error:
        qb.predictions(study.project, wrong, "both")
    assert f"row 1: the tile of {index['patch_id'][0]} is {ids[0]}, not {ids[1]}" in str(
        error.value
    )
    assert "row 2" in str(error.value)
    assert "row 3" not in str(error.value)


def test_unknown_patches_are_all_listed_and_nothing_is_written(study):
    run_id = export(study)
    known = table_of(study)
    more = pa.table({"patch_id": [f"9_other_x{n}_y0" for n in range(30)], "score": [0.0] * 30})
    with pytest.raises(UsageError, match="and 10 more") as error:
        qb.predictions(study.project, pa.concat_tables([known, more]), "cnn")
    assert f"row {len(known) + 1}: 9_other_x0_y0 is not a patch of the run" in str(error.value)
    folder = study.project.parent / "qupath_bridge" / "runs" / run_id
    assert not (folder / "predictions").exists()


def test_the_run_is_the_newest_or_the_one_that_is_named(study):
    first = export(study)
    second = export(study, 2, CONFIG.replace(size=60))
    table = table_of(study)
    with pytest.raises(UsageError, match=second):
        qb.predictions(study.project, table, "cnn")
    for run in (first, study.folder / "out1"):
        assert qb.predictions(study.project, table, "cnn", run=run).run_id == first
    with pytest.raises(UsageError, match="named twice"):
        qb.predictions(study.folder / "out1", table, "cnn", run=first)


def test_softmax_and_rank_are_of_the_patches_of_a_slide(study):
    export(study)
    qb.predictions(study.project, table_of(study), "cnn", add=["softmax", "rank"], **DIRECT)
    for entry_id in ("1", "2"):
        found = list(predicted(study, entry_id=entry_id).values())
        raw = np.array([each["score"] for each in found])
        powers = np.exp(raw - raw.max())
        np.testing.assert_allclose(
            [each["score softmax"] for each in found], powers / powers.sum(), rtol=1e-6
        )
        ranks = [each["score rank"] for each in found]
        np.testing.assert_allclose(ranks, np.linspace(0, 1, len(ranks)), atol=1e-6)


# --- people ---------------------------------------------------------------------------------------


def test_corrected_tiles_keep_their_class_and_get_predictions(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis", 5: "Ignore*"}, missing=[6])
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    now = objects(study)
    assert (now[tiles[3].id].class_path, now[tiles[5].id].class_path) == ("Necrosis", "Ignore*")
    assert tiles[6].id not in now
    wanted = {i: {"score": score} for i, score in scores(study).items() if i != tiles[6].id}
    assert predicted(study) == wanted
    found = stored(study)
    assert [(c.kind, c.after) for c in found] == [
        ("corrected", "Necrosis"), ("rejected", "Ignore*"), ("rejected", None),
    ]  # fmt: skip
    collect(study)
    assert stored(study) == found  # no person said what is predicted


def test_predictions_alone_say_nothing_about_a_patch(study):
    run_id = export(study)
    write(study, run_id)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    (found,) = qb.corrections(study.project, collect=True).slides or [None]
    assert found is None or (found.collected, found.unsure, found.messages) == (0, (), ())
    assert stored(study) == ()
    (run,) = qb.status(study.project, engine="embedded")
    assert run.state == "current"


def test_what_is_unsure_stays_unsure(study):
    run_id = export(study, config=CONFIG.replace(size=40))
    write(study, run_id)
    changed = dict.fromkeys(range(60), "Fat")
    tiles = say(study, run_id, changed)
    (before,) = collect(study)
    assert len(before.unsure) == 60
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    (after,) = collect(study)
    assert {each.patch for each in after.unsure} == {each.patch for each in before.unsure}
    assert {objects(study)[tiles[n].id].class_path for n in changed} == {"Fat"}
    assert len(predicted(study)[tiles[0].id]) == 1
    (accepted,) = qb.corrections(study.project, accept=["1"]).slides
    assert accepted.number("corrected") == 60


def test_marks_of_people_and_their_measurements_stay(study):
    run_id = export(study)
    write(study, run_id)
    written = tiles_of(study, run_id)[2:4]
    classes = ("Stroma" if written[0].class_path != "Stroma" else "Tumor", written[1].class_path)
    marked = [
        tile._replace(
            measurements={**tile.measurements, "qb: reviewed": 1.0, "mine": 5.0},
            metadata={**tile.metadata, "qb.said Ann": class_path},
            class_path=class_path,
        )
        for tile, class_path in zip(written, classes, strict=True)
    ]
    change_in_qupath(study, remove={tile.id for tile in written}, add=marked)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    for tile in marked:
        now = objects(study)[tile.id]
        assert now.metadata == tile.metadata
        kept = {k: v for k, v in now.measurements.items() if not k.startswith("qb pred ")}
        assert kept == pytest.approx(tile.measurements)
        assert now.measurements["qb pred cnn: score"] == scores(study)[tile.id]
    assert [(said.reviewer, said.kind, said.after) for said in stored(study)] == [
        ("Ann", "corrected", classes[0]), ("Ann", "confirmed", classes[1]),
    ]  # fmt: skip


def test_tiles_without_metadata_are_known_by_the_shares_of_their_run(study):
    """QuPath 0.4 and 0.5 drop the metadata of tiles."""
    run_id = export(study)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    bare = [tile_of(item)._replace(metadata={}) for item in objects(study).values()]
    change_in_qupath(study, remove={tile.id for tile in bare}, add=bare)
    shutil.rmtree(study.project.parent / "qupath_bridge" / "shown")
    collect(study)
    assert stored(study) == ()
    other = table_of(study, kind=["x"] * len(table_of(study)))
    qb.predictions(study.project, other, "cnn", run=run_id, **DIRECT)
    assert {frozenset(each) for each in predicted(study).values()} == {frozenset({"kind = x"})}
    assert stored(study) == ()


def test_a_tile_that_cannot_be_carried_whole_is_left_and_said(study):
    from qupath_bridge.roundtrip.edits import TileEdit, measured_edit

    run_id = export(study)
    write(study, run_id)
    items = list(objects(study).values())[:4]
    changed = {
        items[0].id: dataclasses.replace(items[0], locked=True),
        items[1].id: dataclasses.replace(items[1], color=255),
        items[2].id: dataclasses.replace(items[2], description="look"),
        items[3].id: items[3],
    }
    edit = measured_edit(TileEdit(), changed, {i: {"qb pred cnn: p": 1.0} for i in changed})
    assert edit.unmeasured == {item.id for item in items[:3]}
    assert edit.measured == edit.remove == {items[3].id}


# --- taking them away -----------------------------------------------------------------------------


def test_undo_gives_the_old_bytes(study):
    run_id, first = export(study), bytes_of(study)
    write(study, run_id)
    before = bytes_of(study)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    qb.undo_predictions(study.project, "cnn", **DIRECT)
    assert bytes_of(study) == before
    assert qb.status(study.project, engine="embedded")[0].predictions == ()
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    undo(study, run_id)
    assert bytes_of(study) == first


def test_undo_takes_one_name_and_leaves_the_others(study):
    export(study)
    for name in ("cnn", "cnn 2"):
        qb.predictions(study.project, table_of(study), name, **DIRECT)
    qb.undo_predictions(study.project, "cnn", **DIRECT)
    assert not any(predicted(study).values())
    assert all(predicted(study, "cnn 2").values())
    with pytest.raises(UsageError, match="no predictions 'cnn'"):
        qb.undo_predictions(study.project, "cnn")


def test_undo_does_not_bring_a_run_back(study):
    run_id, first = export(study), bytes_of(study)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    undo(study, run_id)
    qb.undo_predictions(study.project, "cnn", **DIRECT)
    assert bytes_of(study) == first


def test_undo_lets_images_name_the_run_that_they_showed(study):
    first = export(study)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    second = export(study, 2, CONFIG.replace(size=60))
    qb.predictions(study.project, table_of(study, "out2"), "cnn", **DIRECT)
    qb.undo_predictions(study.project, "cnn", run=first, **DIRECT)
    assert pointers(study) == [second, second]
    runs = {(o.metadata["qb.run"], bool(predicted(study)[i])) for i, o in objects(study).items()}
    assert runs == {(first, False), (second, True)}


def test_without_direct_writing_again_brings_them_and_takes_them(study):
    run_id = export(study)
    write(study, run_id)
    before = bytes_of(study)
    qb.predictions(study.project, table_of(study), "cnn")
    assert bytes_of(study) == before
    write(study, run_id)
    assert all(predicted(study).values())
    qb.undo_predictions(study.project, "cnn")
    write(study, run_id)
    assert bytes_of(study) == before


def test_a_run_that_was_replaced_comes_back_after_predictions_on_the_newer_one(study):
    first = export(study)
    write(study, first)
    before = bytes_of(study)
    second = export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    write(study, second)
    qb.predictions(study.project, table_of(study, "out2"), "cnn", **DIRECT)
    undo(study, second)
    assert bytes_of(study) == before


# --- the next run ---------------------------------------------------------------------------------


def update(study):
    with qb.open_project(study.project, engine="embedded") as project:
        return qb.export(project, study.folder / "out1", CONFIG, update=True, workers=1)


def test_an_update_keeps_predictions_of_patches_that_are_the_same(study):
    run_id = export(study)
    write(study, run_id)
    qb.predictions(study.project, table_of(study), "cnn", **DIRECT)
    before = predicted(study)
    tiles = say(study, run_id, {3: "Necrosis", 5: "Ignore*"})
    collect(study)
    run = update(study)
    assert run.run_id != run_id
    write(study, run.run_id)
    now = index_of(study)
    assert tiles[5].id not in now
    assert now[tiles[3].id]["label"] == "Necrosis"
    kept = {i: numbers for i, numbers in before.items() if i in now}
    assert {i: numbers for i, numbers in predicted(study).items() if i in now} == kept
    (old, new) = qb.status(study.project, engine="embedded")
    assert (old.predictions, new.predictions) == (("cnn",), ("cnn",))
    folder = study.project.parent / "qupath_bridge" / "runs" / run.run_id
    (record,) = load_all(folder)
    assert record["carried_from"] == run_id
    both = len(qb.read_index(study.folder / "out1"))
    assert [m["patches"] for m in record["measurements"]] == [both]


@pytest.mark.parametrize("change", [{"format": "jpeg"}, {"size": 99}])
def test_a_new_version_has_no_predictions_of_other_patches(study, change):
    """The same boxes with other bytes, and other boxes."""
    export(study)
    qb.predictions(study.project, table_of(study), "cnn")
    shutil.rmtree(study.folder / "out1")
    second = export(study, config=CONFIG.replace(**change))
    runs = study.project.parent / "qupath_bridge" / "runs"
    assert load_all(runs / second) == ()
    assert not list(runs.glob(f"{second}/predictions/*"))
    assert [run.predictions for run in qb.status(study.project, engine="embedded")] == [
        ("cnn",), (),
    ]  # fmt: skip


# --- files ----------------------------------------------------------------------------------------


def test_what_is_kept_in_the_project(study):
    run_id = export(study)
    table = study.folder / "p.csv"
    ids = table_of(study)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("patch_id", "score"),
                *zip(*(ids[c].to_pylist() for c in ids.column_names), strict=True),
            ]
        )
    done = qb.predictions(study.project, table, "Modell ä/1")
    (folder,) = done.folders
    assert folder.parent == study.project.parent / "qupath_bridge/runs" / run_id / "predictions"
    record = json.loads((folder / "record.json").read_bytes())
    assert (record["name"], record["run_id"], record["table"]) == ("Modell ä/1", run_id, str(table))
    assert record["table_digest"].startswith("sha256:")
    assert record["measurements"][0]["name"] == "qb pred Modell ä/1: score"
    # A file of tiles, as that of the run: QuPath can read it as it is.
    path = folder / f"1-{record['tiles']['1'][:16]}.geojson.gz"
    wanted = scores(study)
    for tile, of_run in zip(read_tiles(path), tiles_of(study, run_id), strict=True):
        numbers = {**of_run.measurements, "qb pred Modell ä/1: score": wanted[tile.id]}
        assert tile == of_run._replace(measurements=numbers)
    assert len(list(folder.iterdir())) == 3
    qb.predictions(study.project, table_of(study).slice(0, 5), "Modell ä/1")
    assert len(list(folder.iterdir())) == 2  # of the second slide nothing is left


@pytest.mark.parametrize("name", ["", " a", "a: b", "a\n", "a" * 41])
def test_names_that_are_refused(study, name):
    export(study)
    with pytest.raises(UsageError, match="The name"):
        qb.predictions(study.project, table_of(study), name)


def test_a_write_that_fails_leaves_the_former_predictions(study, monkeypatch):
    run_id = export(study)
    qb.predictions(study.project, table_of(study), "cnn")
    from qupath_bridge.stores.local import LocalStore

    put = LocalStore.put

    def fail(self, name, data, **how):
        if name == "record.json":
            raise OutputError("full")
        put(self, name, data, **how)

    rows = len(qb.read_index(study.folder / "out1"))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", fail)
        with pytest.raises(OutputError, match="full"):
            qb.predictions(study.project, table_of(study, kind=["x"] * rows), "cnn")
    write(study, run_id)
    assert predicted(study) == {i: {"score": score} for i, score in scores(study).items()}


def test_a_changed_file_of_predictions_is_refused(study):
    run_id = export(study)
    (folder,) = qb.predictions(study.project, table_of(study), "cnn").folders
    (path,) = folder.glob("1-*.gz")
    text = gzip.decompress(path.read_bytes()).replace(b": score", b": scorf")
    path.write_bytes(gzip.compress(text))
    done = write(study, run_id)
    assert "was changed after the predictions were written" in done.entries[0].problem
    assert done.entries[1].state == "written"
    shutil.rmtree(folder)
    assert write(study, run_id).entries[0].state == "written"
    with pytest.raises(ProjectError):
        list(read_tiles(path))


def test_too_many_measurements_are_refused(study):
    export(study)
    rows = len(qb.read_index(study.folder / "out1"))
    wide = {f"f{n}": [0.5] * rows for n in range(60)}
    qb.predictions(study.project, table_of(study, **wide), "one")
    with pytest.raises(UsageError, match="120 measurements of predictions, with those of one"):
        qb.predictions(study.project, table_of(study, **wide), "two")
    qb.predictions(study.project, table_of(study, **wide), "one")


# --- hard patches ---------------------------------------------------------------------------------


def test_hard_patches_are_numbered_and_listed(study):
    export(study)
    rows = qb.read_index(study.folder / "out1").to_pylist()
    labels = sorted({row["label"] for row in rows})
    sure = np.linspace(0.34, 1, len(rows))  # the first ones are the least certain
    table = table_of(
        study,
        **{each: sure if each == labels[0] else (1 - sure) / (len(labels) - 1) for each in labels},
    )
    done = qb.predictions(study.project, table, "cnn", hard=5, **DIRECT)
    found = {row["tile_uuid"]: None for row in rows[:5]}
    hard = {i: numbers["hard"] for i, numbers in predicted(study).items() if "hard" in numbers}
    assert hard == {i: place for place, i in enumerate(found, 1)}
    (path,) = done.hard
    with path.open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [(row["place"], row["patch_id"]) for row in listed] == [
        (str(place), row["patch_id"]) for place, row in enumerate(rows[:5], 1)
    ]
    assert [float(row["entropy"]) for row in listed] == sorted(
        (float(row["entropy"]) for row in listed), reverse=True
    )


# --- several projects, and none -------------------------------------------------------------------


def test_an_output_of_several_projects(study, tmp_path, two_slides, draw):
    from qupath_bridge.testing.projects import build_project

    other = build_project(tmp_path / "other", draw.images(two_slides))
    run = qb.export([study.project, other], tmp_path / "both", CONFIG, engine="embedded", workers=1)
    table = table_of(study, "both")
    done = qb.predictions(tmp_path / "both", table, "cnn", add=["rank"])
    assert [folder.parents[4] for folder in done.folders] == [study.project.parent, other.parent]
    assert (done.tiles, done.without, done.elsewhere) == (len(table), 0, 0)
    half = qb.predictions(other, table, "cnn")
    assert (half.tiles, half.elsewhere) == (len(table) // 2, len(table) // 2)
    index = qb.read_index(run)
    by_tile = pa.table({"tile_uuid": index["tile_uuid"], "p": np.arange(len(index))})
    with pytest.raises(UsageError, match="there twice|of row 1"):
        qb.predictions(tmp_path / "both", by_tile, "cnn")
    with pytest.raises(UsageError, match="several projects; use patch_id"):
        qb.predictions(tmp_path / "both", by_tile.slice(0, len(index) // 2), "cnn")


def test_slides_without_a_project_and_projects_that_moved(study, tmp_path, two_slides):
    qb.export(two_slides[0].parent, tmp_path / "plain", qb.ExportConfig(size=100, labels=False))
    table = table_of(study, "plain")
    with pytest.raises(UsageError, match="without a QuPath project"):
        qb.predictions(tmp_path / "plain", table, "cnn")
    export(study)
    study.project.parent.rename(tmp_path / "moved")
    with pytest.raises(OutputError, match="which is not there"):
        qb.predictions(study.folder / "out1", table_of(study), "cnn")
    qb.predictions(tmp_path / "moved", table_of(study), "cnn", run=study.folder / "out1")


# --- the import in QuPath, and the command --------------------------------------------------------


def test_the_import_gives_tiles_their_predictions_and_keeps_what_people_said(study, tmp_path):
    from qupath_bridge.api.requests import carry_out
    from qupath_bridge.qupath.geojson import load

    run_id = export(study)
    qb.predictions(study.project, table_of(study), "cnn")
    add, live = tmp_path / "add.geojson.gz", tmp_path / "live.geojson"
    request = {
        "protocol": 1, "command": "tiles", "project": str(study.project), "action": "show",
        "entry": "1", "add": str(add),
    }  # fmt: skip
    value = carry_out(request)
    shown = {o.id: o for o in load(add)}
    assert {i: o.measurements["qb pred cnn: score"] for i, o in shown.items()} == scores(study)
    assert (value["run"], value["measured"]) == (run_id, 0)
    # A person says something in QuPath; then the model is run again.
    features = json.loads(gzip.decompress(add.read_bytes()))["features"]
    features[2]["properties"]["classification"] = {"name": "Fat", "color": [1, 2, 3]}
    live.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    again = table_of(study).set_column(1, "score", pa.array(np.full(len(table_of(study)), 7.0)))
    qb.predictions(study.project, again, "cnn")
    value = carry_out({**request, "live_tiles": str(live)})
    assert (value["measured"], len(value["remove"])) == (len(shown), len(shown))
    assert any("have other predictions now" in text for text in value["messages"])
    now = {o.id: o for o in load(add)}
    assert {o.measurements["qb pred cnn: score"] for o in now.values()} == {7.0}
    assert now[features[2]["id"]].class_path == "Fat"
    assert [(c.kind, c.after) for c in stored(study)] == [("corrected", "Fat")]


def test_the_command(study, capsys):
    export(study)
    path = study.folder / "p.csv"
    ids = table_of(study)["patch_id"].to_pylist()
    path.write_text("patch_id,Tumor\n" + "".join(f"{i},0.5\n" for i in ids))
    words = ["predictions", str(study.folder / "out1"), "--name", "cnn"]
    assert main([*words, "--table", str(path), "--add", "rank", "--hard", "3"]) == 0
    printed = capsys.readouterr().out
    for text in ("qb pred cnn: Tumor rank", "qb pred cnn: hard", "hard.csv", "import_provenance"):
        assert text in printed
    url = (study.folder / "out1").as_uri()
    assert main(["predictions", url, *words[2:], "--table", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in value["measurements"]] == ["qb pred cnn: Tumor"]
    assert main(["status", str(study.project)]) == 0
    assert "  predictions: cnn" in capsys.readouterr().out
    assert main([*words, "--undo"]) == 0
    assert "removed" in capsys.readouterr().out
    for wrong in (
        [], ["--undo", "--table", str(path)], ["--undo", "--hard", "3"],
        ["--table", str(path), "--force"],
        ["--table", str(path), "--hard-by", "wrong"],
    ):  # fmt: skip
        assert main([*words, *wrong]) == 2


def test_the_command_says_how_to_see_what_it_wrote(study, capsys):
    """QuPath leaves tiles empty, and draws the name of each over it, until a key is pressed."""
    export(study)
    path = study.folder / "p.csv"
    ids = table_of(study)["patch_id"].to_pylist()
    path.write_text("patch_id,Tumor\n" + "".join(f"{i},0.5\n" for i in ids))
    words = ["predictions", str(study.folder / "out1"), "--name", "cnn", "--table", str(path)]
    assert main([*words, "--direct", "--engine", "embedded", "--force"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Show measurement maps. The key F fills the tiles, and N hides their names." in printed


def test_many_measurements_fit_into_a_line():
    """A tile with a hundred predictions and as many shares can be written."""
    from qupath_bridge.qupath.geojson import tiles_geojson

    names = [f"qb pred {'n' * 40}: {number:050}" for number in range(100)]
    shares = [f"qb: {number:030}" for number in range(50)]
    tile = Tile(
        "9e0725bf-e8af-8f43-b582-f1c259b1e7f4", qb.Box(0, 0, 1, 1),
        measurements=dict.fromkeys([*names, *shares], 0.1234567890123456789),
    )  # fmt: skip
    assert tiles_geojson([tile])
