import gzip
import json
import uuid
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.model import ObjectType
from qupath_bridge.patches.ids import TILE_UUID_HIGH
from qupath_bridge.roundtrip.status import status
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.testing.projects import Image, Region, tree_hashes
from qupath_bridge.testing.projects import build_memory_project as memory
from qupath_bridge.testing.slides import write_slide

CONFIG = qb.ExportConfig(size=50, edge="pad", min_share=0.4)


def export(study, out, config=CONFIG, **options):
    with qb.open_project(study.project) as project:
        plans = [qb.plan(slide, config) for slide in project.slides]
        run = qb.export(plans, out, workers=2, **options)
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
    assert found.entries[1].reasons == ("the image is no longer in the project",)
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
    """The record comes last: a folder without one is no run."""
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
