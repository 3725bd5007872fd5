"""Masks beside patches: whole exports, in every container, resumed, updated, corrected."""

import dataclasses
import json
import shutil
import tarfile

import h5py
import numpy as np
import pytest
import shapely
import zarr
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import ConfigError, PlanError, UsageError
from qupath_bridge.outputs import lock, open_output
from qupath_bridge.outputs.index import read_index
from qupath_bridge.outputs.stored import StoredOutput
from qupath_bridge.patches.mask_classes import MaskClass
from qupath_bridge.pipeline.masks import MaskMaker
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.masked_runs import (
    COLORS,
    CONTAINERS,
    OPTIONS,
    REGIONS,
    by_points,
    export,
    save,
    stored,
)

from .faults import deaths, steps_of
from .test_corrected_runs import collected, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide that is turned by 90 degrees, of 240 x 200 pixels in QuPath."""
    place = tmp_path_factory.mktemp("masks")
    save(place)
    return place


@pytest.mark.parametrize("container", CONTAINERS)
def test_masks_of_a_turned_and_resampled_slide(folder, tmp_path, container):
    out = tmp_path / "out"
    rows = export(folder / "p", out, container).table().to_pylist()
    assert len(rows) > 10
    values = set()
    for row in rows:
        expected = by_points(row)
        np.testing.assert_array_equal(stored(out, row, "mask", np.uint8), expected)
        values |= set(np.unique(expected).tolist())
        # Of the objects, annotations that label; those that are seen, and no others.
        classes = dict(enumerate(row["instance_classes"], 1))
        assert len(row["instances"]) == len(classes)
        numbers = stored(out, row, "mask_instance", np.uint16)
        assert set(np.unique(numbers).tolist()) - {0} == set(classes)
        labels = np.vectorize({0: 0, **{k: 1 + (c == "Tumor") for k, c in classes.items()}}.get)
        np.testing.assert_array_equal(np.where(expected == 255, 255, labels(numbers)),
                                      np.where(expected == 255, 255, expected))  # fmt: skip
    assert values == {0, 1, 2, 255}
    assert json.loads((out / "classes.json").read_bytes()) == {
        "classes": {"Stroma": 1, "Tumor": 2},
        "colors": {"Stroma": list(COLORS["Stroma"]), "Tumor": list(COLORS["Tumor"])},
        "background": 0,
        "ignored": 255,
    }
    assert qb.verify(out).ok


@pytest.mark.parametrize(
    "placed", [{"per_region": "picture", "size": None}, {"around": ("annotations",)}]
)
def test_masks_have_the_size_of_their_patch_wherever_it_is(folder, tmp_path, placed):
    options = {"stride": None, "edge": "pad", "rule": "majority", "background": "drop"}
    rows = export(folder / "p", tmp_path, **options, **placed).table().to_pylist()
    assert len(rows) >= 2
    for row in rows:
        np.testing.assert_array_equal(stored(tmp_path, row, "mask", np.uint8), by_points(row))
        numbers = stored(tmp_path, row, "mask_instance", np.uint16)
        assert numbers.shape == (row["height"], row["width"])
        assert numbers.max() == len(row["instances"])


def test_mask_files_have_names_and_colours_of_their_own(folder, tmp_path):
    rows = export(folder / "p", tmp_path / "out", format="jpeg").table().to_pylist()
    for row in rows:
        stem = row["path"].removeprefix("patches/").removesuffix(".jpg")
        assert (row["mask"], row["mask_instance"]) == (f"masks/{stem}.png", f"instances/{stem}.png")
        assert row["mask_offset"] is row["mask_length"] is None
        with Picture.open(tmp_path / "out" / row["mask"]) as picture:
            assert picture.mode == "P"
            palette = np.array(picture.getpalette()).reshape(-1, 3).tolist()
        assert palette[1:3] == [list(COLORS["Stroma"]), list(COLORS["Tumor"])]
        assert (palette[0], palette[255]) == ([0, 0, 0], [255, 255, 255])
        with Picture.open(tmp_path / "out" / row["mask_instance"]) as picture:
            assert picture.mode == "I;16"


def test_foreign_readers_find_masks_beside_patches(folder, tmp_path):
    """WebDataset's samples in tar files, and arrays in h5 and zarr."""
    runs = {name: export(folder / "p", tmp_path / name, name) for name in CONTAINERS[1:]}
    rows = runs["tar"].table().to_pylist()
    slide = rows[0]["slide_id"]
    masks = np.stack([by_points(row) for row in runs["h5"].table().to_pylist()])
    with h5py.File(tmp_path / "h5" / "patches" / f"{slide}.h5") as file:
        at = np.argsort(file["index_row"][:])
        np.testing.assert_array_equal(file["mask"][:][at], masks)
        assert file["mask_instance"].shape == masks.shape
        assert file["mask_instance"].dtype == np.uint16
    group = zarr.open_group(tmp_path / "zarr" / "patches" / f"{slide}.zarr", mode="r")
    at = np.argsort(group["index_row"][:])
    np.testing.assert_array_equal(group["mask"][:][at], masks)
    assert group["mask_instance"].shape == masks.shape
    with tarfile.open(next((tmp_path / "tar" / "patches").glob("*.tar"))) as file:
        names = file.getnames()
    keys = [name.partition(".")[0] for name in names]
    kinds = [name.partition(".")[2] for name in names]
    assert kinds == ["png", "json", "mask.png", "mask_instance.png"] * len(rows)
    assert [keys[k] for k in range(0, len(keys), 4)] == list(dict.fromkeys(keys))


def test_a_shard_does_not_end_between_a_patch_and_its_masks(folder, tmp_path):
    export(folder / "p", tmp_path / "out", "tar:20kB")
    shards = list((tmp_path / "out" / "patches").glob("*.tar"))
    assert len(shards) > 3
    for shard in shards:
        with tarfile.open(shard) as file:
            assert len(file.getnames()) % 4 == 0
    assert qb.verify(tmp_path / "out").ok


def files(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_verify_names_masks_that_changed(folder, tmp_path):
    out = tmp_path / "out"
    first, second = export(folder / "p", out).table().to_pylist()[:2]
    (out / first["mask"]).write_bytes(b"x")
    (out / second["mask_instance"]).unlink()
    (out / "masks" / "more.png").write_bytes(b"x")
    (out / "classes.json").write_text("{}")
    found = {(each.kind, each.path) for each in qb.verify(out).findings}
    assert found == {
        ("changed", first["mask"]), ("missing", second["mask_instance"]),
        ("unlisted", "masks/more.png"), ("changed", "classes.json"),
    }  # fmt: skip


def test_resume_makes_lost_masks_again(folder, tmp_path):
    out = tmp_path / "out"
    rows = export(folder / "p", out).table().to_pylist()
    before = files(out)
    (out / rows[0]["mask"]).unlink()
    (out / rows[1]["mask_instance"]).write_bytes(b"")
    export(folder / "p", out, resume=True)
    after = files(out)
    assert before.keys() == after.keys()
    assert [name for name in before if name.startswith(("masks/", "instances/", "patches/"))
            and before[name] != after[name]] == []  # fmt: skip
    assert qb.verify(out).ok


@pytest.mark.parametrize("container", CONTAINERS)
def test_update_keeps_the_values_of_classes(tmp_path, container):
    save(tmp_path)
    out = tmp_path / "out"
    export(tmp_path / "p", out, container)
    mucus = Region("Mucus", shapely.box(200.2, 100.3, 230.6, 180.4))
    save(tmp_path, (*REGIONS, mucus))
    rows = export(tmp_path / "p", out, container, update=True).table().to_pylist()
    classes = json.loads((out / "classes.json").read_bytes())["classes"]
    assert classes == {"Stroma": 1, "Tumor": 2, "Mucus": 3}
    seen = set()
    for row in rows:
        pixels = stored(out, row, "mask", np.uint8)
        kept = pixels != 3
        np.testing.assert_array_equal(pixels[kept], by_points(row)[kept])
        seen |= set(np.unique(pixels).tolist())
    assert seen == {0, 1, 2, 3, 255}
    assert qb.verify(out).ok


@pytest.mark.parametrize(
    ("word", "kept"), [("Stroma", {1, 255}), ("Other", {0, 255}), ("Necrosis", {255})]
)
def test_a_corrected_patch_keeps_only_what_the_pathologist_agrees_with(tmp_path, word, kept):
    save(tmp_path)
    out = tmp_path / "out"
    options = {"rule": "majority", "min_share": 0.2}
    rows = export(tmp_path / "p", out, **options).table().to_pylist()
    row = next(row for row in rows if row["label"] == "Tumor" and row["shares"])
    full = {0, 1, 2}
    row = next(r for r in rows if r["label"] == "Tumor" and full <= set(by_points(r).ravel()))
    other = next(r for r in rows if r["label"] == "Tumor" and r is not row)
    collected(tmp_path / "p" / "project.qpproj", [said(row, word), said(other, kind="confirmed")])
    after = {
        each["patch_id"]: each
        for each in export(tmp_path / "p", out, update=True, **options).table().to_pylist()
    }
    changed, same = after[row["patch_id"]], after[other["patch_id"]]
    assert (changed["label"], same["label"]) == (word, "Tumor")
    expected = by_points(row)
    expected[~np.isin(expected, list(kept))] = 255
    np.testing.assert_array_equal(stored(out, changed, "mask", np.uint8), expected)
    np.testing.assert_array_equal(stored(out, same, "mask", np.uint8), by_points(other))
    np.testing.assert_array_equal(
        stored(out, changed, "mask_instance", np.uint16) > 0, np.isin(by_points(row), [1, 2])
        | (stored(out, changed, "mask_instance", np.uint16) > 0) & (by_points(row) == 255)
    )  # fmt: skip


@pytest.mark.parametrize(("wanted", "shape"), [("cells", 0), ("nuclei", 1), ("detections", 0)])
def test_cells_and_nuclei_of_a_project(folder, tmp_path, wanted, shape):
    rows = export(folder / "p", tmp_path, masks="instance", instances=wanted).table().to_pylist()
    assert "mask" not in rows[0]
    assert not (tmp_path / "classes.json").exists()
    cell = REGIONS[-1]
    drawn = (cell.shape, cell.nucleus)[shape]
    seen = 0
    for row in rows:
        x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
        centres = (np.arange(50) + 0.5) / 50
        expected = shapely.contains_xy(drawn, *np.meshgrid(x + centres * w, y + centres * h))
        numbers = stored(tmp_path, row, "mask_instance", np.uint16)
        np.testing.assert_array_equal(numbers == 1, expected)
        assert row["instance_classes"] == ["Tumor"] * bool(expected.any())
        seen += bool(expected.any())
    assert seen


def test_a_change_of_a_detection_is_a_change_of_its_masks_alone(tmp_path):
    save(tmp_path)
    plan = qb.plan(tmp_path / "p", qb.ExportConfig(size=50))
    cells = qb.ExportConfig(size=50, masks="instance", instances="cells", background="Other")
    before = qb.plan(tmp_path / "p", cells)[0].digest
    save(tmp_path, REGIONS[:-1])
    assert qb.plan(tmp_path / "p", qb.ExportConfig(size=50))[0].digest == plan[0].digest
    assert qb.plan(tmp_path / "p", cells)[0].digest != before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"masks": "class", "overlap": "independent"}, "one class for each pixel"),
        ({"masks": "class", "instances": "cells"}, "instances needs masks"),
        ({"instances": "nuclei"}, "instances needs masks"),
        ({"masks": "all"}, "should be 'none', 'class', 'instance' or 'both'"),
    ],
)
def test_options_that_masks_cannot_follow_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        qb.ExportConfig(**options)


def test_a_container_without_a_place_for_masks_is_refused(monkeypatch):
    monkeypatch.setattr("qupath_bridge.registry._registered", {})
    registry.register("output", "plain", StoredOutput)
    assert qb.ExportConfig(container="plain").masks == "none"
    with pytest.raises(ConfigError, match="the container plain holds no masks"):
        qb.ExportConfig(container="plain", masks="class")


def test_more_labels_than_values_are_refused(tmp_path):
    regions = [(f"Class {k}", shapely.box(0, 0, 9, 9)) for k in range(255)]
    save(tmp_path, regions)
    with pytest.raises(UsageError, match="254 labels, and there are 25"):
        export(tmp_path / "p", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_death_at_many_steps_leaves_no_mask_without_a_row(tmp_path, monkeypatch):
    """What is listed is there, and a resumed run gives what a whole one gives."""
    real = lock._this_process

    def ended(run_id):
        holder = real(run_id)
        return dataclasses.replace(holder, process_started=holder.process_started - 1000)

    monkeypatch.setattr(lock, "_this_process", ended)
    save(tmp_path)
    few = {"size": 250, "stride": 250, "mpp": None}

    def content(out):
        table = read_index(open_output(out)).drop_columns(["run_id"]).to_pylist()
        masks = {n: c for n, c in files(out).items() if n.startswith(("masks", "inst", "pat"))}
        return table, masks

    export(tmp_path / "p", tmp_path / "whole", **few)
    expected = content(tmp_path / "whole")
    assert len(expected[1]) == 3 * len(expected[0]) == 3
    out, count = tmp_path / "out", 0
    steps = len(steps_of(lambda: export(tmp_path / "p", tmp_path / "counted", **few)))
    for _ in deaths(lambda: export(tmp_path / "p", out, **few), range(2, steps, 3)):
        output = open_output(out, "folder")
        for slide in output.slides():
            for row in output.table(slide).to_pylist():
                assert (out / row["mask"]).exists()
                assert (out / row["mask_instance"]).exists()
        export(tmp_path / "p", out, **few, resume=(out / "run.json").exists())
        assert content(out) == expected
        shutil.rmtree(out)
        count += 1
    assert count > 12


def test_the_class_mask_needs_the_class_at_the_start(folder, tmp_path):
    """A class that comes while the run is at work has no value: that slide fails by name."""
    plan = qb.plan(folder / "p", qb.ExportConfig(**OPTIONS))[0]
    with pytest.raises(PlanError, match="Tumor came as a label after the run began"):
        MaskMaker(plan, [MaskClass("Stroma", 1, (0, 0, 0))], arrays=True)


def test_masks_of_glomeruli_add_up_to_the_drawn_area(tmp_path):
    """As somebody asked for: binary masks that fit the exported pictures."""
    ring = shapely.Point(700, 640).buffer(90).difference(shapely.Point(700, 640).buffer(40))
    drawn = [shapely.Point(300, 300).buffer(120), ring]
    write_slide(tmp_path / "a.tif", marker_image(1024, 1024), mpp=0.5)
    image = Image(tmp_path / "a.tif", [("Glomerulus", shape) for shape in drawn])
    build_project(tmp_path / "p", [image])
    config = qb.ExportConfig(size=256, rule="any", masks="class")
    rows = qb.export(tmp_path / "p", tmp_path / "out", config, provenance=False).table()
    masks = [stored(tmp_path / "out", row, "mask", np.uint8) for row in rows.to_pylist()]
    assert set(np.unique(masks)) == {0, 1}
    area = sum(shape.area for shape in drawn)
    assert np.count_nonzero(masks) == pytest.approx(area, rel=0.001)
