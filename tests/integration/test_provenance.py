import gzip
import json
import os
import shutil
import uuid
from dataclasses import replace

import pytest
import shapely

import qupath_bridge as qb
from qupath_bridge.api import ensure_provenance
from qupath_bridge.errors import OutputError
from qupath_bridge.model import ClassInfo, ObjectType
from qupath_bridge.outputs.index import facts_of
from qupath_bridge.patches.ids import TILE_UUID_HIGH
from qupath_bridge.qupath.files.classes import pack_rgb
from qupath_bridge.roundtrip import provenance as module
from qupath_bridge.roundtrip.status import status
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.testing.projects import Image, Region, build_project, tree_hashes
from qupath_bridge.testing.projects import build_memory_project as memory
from qupath_bridge.testing.slides import write_slide

CONFIG = qb.ExportConfig(size=50, edge="pad", min_share=0.4)


def export(study, out, config=CONFIG, **options):
    with qb.open_project(study.project) as project:
        run = qb.export(project, out, config, workers=2, **options)
        return run, qb.write_provenance(project, run)


def state(study):
    with qb.open_project(study.project) as project:
        return status(project)


def features(path):
    return json.loads(gzip.decompress(path.read_bytes()))["features"]


def test_every_patch_becomes_a_tile(study, tmp_path):
    run, provenance = export(study, tmp_path / "out")
    assert provenance.warning is None
    assert provenance.folder == study.project.parent / "qupath_bridge" / "runs" / run.run_id
    record = json.loads((provenance.folder / "run.json").read_text(encoding="utf-8"))
    assert record["out"] == str((tmp_path / "out").resolve())
    assert record["state"] == "complete"
    assert record["project"] == str(study.project)
    assert record["failures"] == []
    colors = {"Tumor", "Stroma", "Necrosis"}
    for entry_id in ("1", "2"):
        rows = [row for row in run.table().to_pylist() if row["entry_id"] == entry_id]
        tiles = features(provenance.folder / f"{entry_id}.geojson.gz")
        assert [tile["id"] for tile in tiles] == [row["tile_uuid"] for row in rows]
        for tile, row in zip(tiles, rows, strict=True):
            assert uuid.UUID(tile["id"]).int >> 64 == TILE_UUID_HIGH
            ring = tile["geometry"]["coordinates"][0]
            x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
            assert ring == [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]
            properties = tile["properties"]
            assert properties["objectType"] == "tile"
            assert properties["name"] == row["patch_id"]
            assert properties["classification"]["name"] == row["label"] in colors
            assert properties["measurements"]["qb: label share"] == row["label_share"]
            assert properties["measurements"]["qb: margin"] == row["margin"]
            for label, share in row["shares"]:
                assert properties["measurements"][f"qb: {label}"] == share
            assert properties["metadata"] == {
                "qb.run": run.run_id, "qb.path": row["path"], "qb.digest": row["digest"],
            }  # fmt: skip


def test_tiles_have_the_colour_of_their_class_in_the_data_unless_the_project_lists_it(
    tmp_path, two_slides
):
    """Tumor is (200, 0, 0) in new data of QuPath; a list without it changes nothing."""
    boxes = [shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)]
    image = Image(two_slides[0], list(zip(("Tumor", "Stroma"), boxes, strict=True)))
    path = build_project(tmp_path / "p", [image], [ClassInfo("Stroma", pack_rgb(1, 2, 3))])
    run = qb.export(path, tmp_path / "out", CONFIG, workers=1)
    (folder,) = run.provenance
    colors = {
        tile["properties"]["classification"]["name"]: tile["properties"]["classification"]["color"]
        for tile in features(folder / "1.geojson.gz")
    }
    assert colors == {"Tumor": [200, 0, 0], "Stroma": [1, 2, 3]}


def test_the_facts_of_each_slide_lie_beside_its_tiles(study, tmp_path):
    """What the partition says of its slide, as JSON for scripts."""
    run, provenance = export(study, tmp_path / "out")
    names = {path.name for path in provenance.folder.iterdir()}
    assert names == {"run.json", "1.json", "2.json", "1.geojson.gz", "2.geojson.gz"}
    output = run.open()
    for slide_id, path in zip(output.slides(), study.slides, strict=True):
        facts = facts_of(output.table(slide_id))
        written = json.loads((provenance.folder / f"{facts['entry_id']}.json").read_bytes())
        assert written == facts
        assert (facts["slide_id"], facts["path"], facts["project"]) == (
            slide_id, str(path), str(study.project),
        )  # fmt: skip
    assert [slide.keys() for slide in run.record["slides"]] == [
        {"slide_id", "entry_id", "slide_name", "project", "annotations_origin"}
    ] * 2


def test_a_slide_without_patches_has_facts_and_no_tiles(study, tmp_path, two_slides, draw):
    first, second = draw.images(two_slides)
    study.redraw(first, replace(second, regions=[]))
    run, provenance = export(study, tmp_path / "out")
    names = {path.name for path in provenance.folder.iterdir()}
    assert names == {"run.json", "1.json", "2.json", "1.geojson.gz"}
    assert state(study)[0].state == "current"
    assert run["2"]["written"] == 0


def test_the_project_keeps_its_colours(study, tmp_path):
    _run, provenance = export(study, tmp_path / "out")
    with qb.open_project(study.project) as project:
        wanted = {c.path: c.color & 0xFFFFFF for c in project.info.classes}
    for tile in features(provenance.folder / "1.geojson.gz"):
        red, green, blue = tile["properties"]["classification"]["color"]
        assert red << 16 | green << 8 | blue == wanted[tile["properties"]["classification"]["name"]]


def test_labels_without_a_class_have_a_colour_of_their_own(study, tmp_path):
    config = CONFIG.replace(map={"Tumor": "Cancer: Invasive"}, background="Rest")
    _, provenance = export(study, tmp_path / "out", config)
    classes = [
        tile["properties"]["classification"]
        for tile in features(provenance.folder / "1.geojson.gz")
    ]
    paths = {": ".join(c.get("names", [c.get("name")])) for c in classes}
    assert {"Cancer: Invasive", "Rest", "Stroma"} <= paths
    assert all(len(c["color"]) == 3 for c in classes)


def test_multi_label_and_unlabelled_tiles(study, tmp_path):
    _, provenance = export(study, tmp_path / "any", CONFIG.replace(rule="any"))
    tiles = qb.geojson.load(provenance.folder / "1.geojson.gz")
    assert any(tile.class_path == "Necrosis: Tumor" for tile in tiles)
    _, provenance = export(study, tmp_path / "none", CONFIG.replace(labels=False))
    for tile in qb.geojson.load(provenance.folder / "1.geojson.gz"):
        assert tile.object_type is ObjectType.TILE
        assert tile.class_path is None


def test_only_our_folder_is_new(study, tmp_path):
    before = tree_hashes(study.project.parent)
    export(study, tmp_path / "out")
    after = tree_hashes(study.project.parent)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"qupath_bridge"}


def test_our_own_tiles_never_label(study, tmp_path, two_slides, draw):
    """A project that holds the tiles of a run gives the same plan as before."""
    _, provenance = export(study, tmp_path / "out")
    first, second = draw.images(two_slides)
    before = qb.plan(memory([first, second]).slides[0], CONFIG)
    tiles = [
        Region(tile.class_path, tile.roi.geometry, id=tile.id, object_type=ObjectType.TILE)
        for tile in qb.geojson.load(provenance.folder / "1.geojson.gz")
    ]
    assert len(tiles) == len(before) > 50
    study.redraw(replace(first, regions=[*first.regions, *tiles]), second)
    with qb.open_project(study.project) as project:
        after = qb.plan(project.slides[0], CONFIG)
    assert after.slide.read().skipped[ObjectType.TILE] == len(tiles)
    assert after.label_counts() == before.label_counts()
    assert after.annotation_digest == before.annotation_digest


def test_a_run_is_current_until_something_changes(study, tmp_path, redrawn):
    run, _ = export(study, tmp_path / "out")
    (found,) = state(study)
    assert (found.run_id, found.state, found.out_found) == (run.run_id, "current", True)
    assert [entry.changed for entry in found.entries] == [0, 0]
    redrawn()
    (found,) = state(study)
    assert [entry.state for entry in found.entries] == ["current", "stale"]
    entry = found.entries[1]
    assert len(entry.reasons) == 1
    assert "(Tumor 'first') was moved or reshaped" in entry.reasons[0]
    # What status names is what an update changes, and nothing else.
    before = {row["patch_id"]: row for row in run.table().to_pylist()}
    again, _ = export(study, tmp_path / "out", update=True)
    after = {row["patch_id"]: row for row in again.table().to_pylist()}
    assert set(entry.added) == after.keys() - before.keys()
    assert set(entry.removed) == before.keys() - after.keys()
    changed = {
        name
        for name in before.keys() & after.keys()
        if (before[name]["label"], before[name]["shares"])
        != (after[name]["label"], after[name]["shares"])
    }
    assert set(entry.label_changed) == changed
    assert entry.changed > 0
    assert [run.state for run in state(study)] == ["superseded", "current"]
    assert state(study)[0].superseded_by == again.run_id


def test_classes_images_and_slides_that_change(study, tmp_path, two_slides):
    export(study, tmp_path / "out")
    shape = "POLYGON ((20 20, 330 25, 300 240, 40 250, 20 20))"
    study.redraw(
        Image(two_slides[0], [Region("Stroma", shape, name="first"),
                              Region("Tumor", "POLYGON ((0 0, 9 0, 9 9, 0 0))",
                                     id="11111111-2222-4333-8444-555555555555")],
              pixel_size=0.5),
    )  # fmt: skip
    (found,) = state(study)
    reasons = " | ".join(found.entries[0].reasons)
    assert "changed its class from Tumor to Stroma" in reasons
    assert "11111111-2222-4333-8444-555555555555 (Tumor) was added" in reasons
    assert "was deleted" in reasons
    assert found.entries[1].reasons == ("the slide is no longer in the project",)
    assert len(found.entries[1].removed) > 50
    assert replace(found, entries=()).state == "current"


def test_pixel_size_and_slide_replaced(study, tmp_path, two_slides, draw):
    export(study, tmp_path / "out")
    other = tmp_path / two_slides[0].name
    write_slide(other, draw.texture(9), mpp=0.5, tile=64)
    first, second = draw.images((other, two_slides[1]))
    study.redraw(first, replace(second, pixel_size=0.25))
    (found,) = state(study)
    assert "replaced" in found.entries[0].reasons[0]
    assert len(found.entries[0].pixels_changed) > 50
    assert "the pixel size was changed" in found.entries[1].reasons


def test_a_slide_that_is_gone_leaves_the_state_unknown(study, tmp_path):
    export(study, tmp_path / "out")
    study.redraw(*[Image(tmp_path / f"gone {n}.tiff", size=(700, 500)) for n in (1, 2)])
    (found,) = state(study)
    assert found.state == "unknown"
    assert "was not found" in found.entries[0].reasons[0]


def test_the_run_folder_is_complete_or_not_there(study, tmp_path, monkeypatch):
    """The record comes last: a folder without one is not a run."""
    real = LocalStore.put

    def full(self, name, data, *, durable=False):
        if name == "run.json" and "runs" in self.root.parts:
            raise OutputError("disk full")
        return real(self, name, data, durable=durable)

    monkeypatch.setattr(LocalStore, "put", full)
    _, provenance = export(study, tmp_path / "out")
    assert provenance.folder == tmp_path / "out" / "provenance"
    assert "disk full" in provenance.warning
    assert state(study) == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 9}'])
def test_a_damaged_run_record_does_not_hide_the_others(study, tmp_path, text):
    _, damaged = export(study, tmp_path / "one")
    run, _ = export(study, tmp_path / "two")
    (damaged.folder / "run.json").write_text(text)
    first, second = state(study)
    assert first.state == "unreadable"
    assert str(damaged.folder) in first.problem
    assert (second.run_id, second.state) == (run.run_id, "current")


@pytest.mark.parametrize("key", ["project", "projects"])
def test_a_run_record_names_its_project_among_all(study, tmp_path, key):
    """What a damaged one has beside its patches is not looked for under another project."""
    _, damaged = export(study, tmp_path / "one")
    run, _ = export(study, tmp_path / "two")
    path = damaged.folder / "run.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, key: "elsewhere" if key == "project" else []}))
    first, second = state(study)
    assert "the project is not one of the run's projects" in first.problem
    assert (second.run_id, second.state) == (run.run_id, "current")


# --- slides that failed, runs that were replaced -------------------------------------------------


def reasons(run_status):
    return {entry.entry_id: (entry.state, entry.reasons) for entry in run_status.entries}


@pytest.mark.parametrize("planned", [False, True], ids=["from the project", "from plans"])
def test_a_slide_that_failed_in_a_run_is_unknown_with_the_reason(study, tmp_path, planned, draw):
    study.redraw(
        draw.images(study.slides)[0], Image(tmp_path / "gone.tiff", size=(700, 500))
    )  # fmt: skip
    with qb.open_project(study.project) as project:
        source = qb.plan(project, CONFIG) if planned else project
        run = qb.export(source, tmp_path / "out", None if planned else CONFIG)
    assert [failure.entry_id for failure in run.failures] == ["2"]
    assert run.failures[0].project == str(study.project)
    assert (
        "option search" in json.loads((run.out / "report.json").read_bytes())["failures"][0]["next"]
    )
    (found,) = state(study)
    assert found.state == "unknown"
    entry, (reason,) = reasons(found)["2"]
    assert entry == "unknown"
    assert reason.startswith("the slide failed in this run: ")
    assert "gone.tiff was not found" in reason
    assert reasons(found)["1"] == ("current", ())


def test_a_run_in_whose_output_another_went_is_superseded(study, tmp_path):
    first, _ = export(study, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    second, _ = export(study, tmp_path / "out")
    assert [(run.state, run.superseded_by) for run in state(study)] == [
        ("superseded", second.run_id), ("current", None),
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "out")
    assert [(run.state, run.out_found) for run in state(study)] == [("current", False)] * 2
    assert first.run_id != second.run_id


def test_a_run_is_compared_with_the_reader_that_it_used(study, tmp_path):
    """Another reader would be a difference by itself."""
    run, _ = export(study, tmp_path / "out", reader="openslide")
    auto, _ = export(study, tmp_path / "auto")
    assert run.record["run_digest"] != auto.record["run_digest"]
    assert [found.state for found in state(study)] == ["current", "current"]


def test_runs_in_other_containers_have_a_status_too(study, tmp_path):
    tar, _ = export(study, tmp_path / "tar", CONFIG.replace(container="tar:20kB"))
    memory_run, provenance = export(
        study, "memory://test-provenance", CONFIG.replace(container="memory")
    )
    assert provenance.folder.name == memory_run.run_id
    found = state(study)
    assert [(run.run_id, run.state, run.out_found) for run in found] == [
        (tar.run_id, "current", True), (memory_run.run_id, "current", True),
    ]  # fmt: skip
    assert found[1].out == "memory://test-provenance"
    tiles = features(provenance.folder / "1.geojson.gz")
    assert len(tiles) == memory_run["1"]["written"]


# --- several projects, and projects that moved ---------------------------------------------------


@pytest.fixture
def other(tmp_path, two_slides, draw):
    """Another project with the same entry IDs: the slides the other way round."""
    return build_project(tmp_path / "other", draw.images(two_slides[::-1]), classes=["Tumor"])


def test_each_of_several_projects_gets_its_own_slides(study, tmp_path, other):
    run = qb.export([study.project, other], tmp_path / "out", CONFIG)
    assert [folder.parents[2] for folder in run.provenance] == [study.project.parent, other.parent]
    rows = run.table().to_pylist()
    for folder, project in zip(run.provenance, (study.project, other), strict=True):
        record = json.loads((folder / "run.json").read_bytes())
        assert record["project"] == str(project)
        assert [p["path"] for p in record["projects"]] == [str(study.project), str(other)]
        assert {path.name for path in folder.iterdir()} == {
            "run.json", "1.json", "2.json", "1.geojson.gz", "2.geojson.gz",
        }  # fmt: skip
        for entry_id in ("1", "2"):
            names = [t["properties"]["name"] for t in features(folder / f"{entry_id}.geojson.gz")]
            assert names == [
                row["patch_id"]
                for row in rows
                if (row["project"], row["entry_id"]) == (project.parent.name, entry_id)
            ]


def test_the_status_of_one_project_leaves_the_other_out(study, tmp_path, other, redrawn):
    qb.export([study.project, other], tmp_path / "out", CONFIG)
    redrawn()
    (found,) = state(study)
    assert [(e.entry_id, e.state) for e in found.entries] == [("1", "current"), ("2", "stale")]
    (found,) = qb.status(other)
    assert [(e.entry_id, e.state) for e in found.entries] == [("1", "current"), ("2", "current")]


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_a_project_that_moved_finds_its_part_of_a_run(study, tmp_path, other, copied):
    run = qb.export([study.project, other], tmp_path / "out", CONFIG)
    (tmp_path / "new").mkdir()
    (shutil.copytree if copied else shutil.move)(other.parent, tmp_path / "new" / "place")
    moved = tmp_path / "new" / "place" / other.name
    (found,) = qb.status(moved)
    assert (found.run_id, found.state) == (run.run_id, "current")
    assert [entry.entry_id for entry in found.entries] == ["1", "2"]
    before = tree_hashes(moved.parent / "qupath_bridge")
    shutil.rmtree(moved.parent / "qupath_bridge")
    # The slides tell which part is its own: the other project has them the other way round.
    run_id, written = ensure_provenance(moved, run)
    assert (run_id, written.warning) == (run.run_id, None)
    assert tree_hashes(moved.parent / "qupath_bridge") == before


def test_a_run_of_other_projects_is_refused(study, tmp_path, two_slides, other, draw):
    run = qb.export([study.project, other], tmp_path / "out", CONFIG)
    foreign = replace(draw.images(two_slides)[0], name="foreign.svs")
    third = build_project(tmp_path / "third", [foreign, foreign])
    for call in (ensure_provenance, qb.write_provenance):
        with pytest.raises(OutputError, match="but ID . in .*third.* is foreign.svs"):
            call(third, run)
    assert not (third.parent / "qupath_bridge").exists()
    # Two copies of one project in a run, and neither is where it was: nobody can tell.
    copies = [tmp_path / name / study.project.name for name in ("a", "b", "c")]
    for copy in copies:
        shutil.copytree(study.project.parent, copy.parent)
    run = qb.export(copies[:2], tmp_path / "twins", CONFIG, provenance=False)
    with pytest.raises(OutputError, match="several projects that .*c.* could be"):
        ensure_provenance(copies[2], run)
    assert ensure_provenance(copies[0], run)[1].warning is None


def test_projects_that_cannot_be_written_have_a_folder_each(study, tmp_path, other):
    for project in (study.project, other):
        (project.parent / "qupath_bridge").write_text("in the way")
    run = qb.export([study.project, other], tmp_path / "out", CONFIG)
    assert run.provenance == tuple(tmp_path / "out" / "provenance" / n for n in ("study", "other"))
    assert len(run.warnings) == 2
    for folder, project in zip(run.provenance, (study.project, other), strict=True):
        assert json.loads((folder / "1.json").read_bytes())["project"] == str(project)


def test_a_project_that_is_named_by_a_relative_path(study, tmp_path, monkeypatch):
    """Records name the whole path, and the project's column its folder."""
    monkeypatch.chdir(study.project.parent)
    run = qb.export(study.project.name, tmp_path / "out", CONFIG)
    assert run.record["slides"][0]["project"] == str(study.project)
    assert run.record["projects"][0]["path"] == str(study.project)
    assert set(run.table().column("project").to_pylist()) == {"study"}
    os.chdir(tmp_path)
    assert [(found.state, len(found.entries)) for found in qb.status(study.project)] == [
        ("current", 2)
    ]


def test_a_project_that_was_renamed_during_the_export_gets_no_ghost(study, tmp_path):
    """The provenance goes to the output, with a warning; no empty folder takes the old name."""
    with qb.open_project(study.project) as project:
        run = qb.export(project, tmp_path / "out", CONFIG, provenance=False)
        study.project.parent.rename(tmp_path / "renamed")
        provenance = module.write_provenance(project.info, run)
    assert provenance.folder == tmp_path / "out" / "provenance"
    assert "is not there any more" in provenance.warning
    assert not study.project.parent.exists()
    assert features(provenance.folder / "1.geojson.gz")


def test_a_label_without_a_share_is_zero_in_every_tile(study, tmp_path):
    """QuPath shows a table with a number in each cell, also where a class is not in a slide."""
    run, provenance = export(study, tmp_path / "out")
    rows = {row["tile_uuid"]: dict(row["shares"]) for row in run.table().to_pylist()}
    labels = set(run.record["labels"])
    assert len(labels) == 3
    seen = 0
    for entry_id in ("1", "2"):
        for tile in features(provenance.folder / f"{entry_id}.geojson.gz"):
            for label in labels:
                share = tile["properties"]["measurements"][f"qb: {label}"]
                assert share == rows[tile["id"]].get(label, 0.0)
                seen += share == 0
    assert seen > 50
