"""Exports of fewer patches, of patches around objects, and of one picture per region."""

import io
import json
import shutil
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import shapely
from PIL import Image as Picture
from shapely.geometry import mapping

import qupath_bridge as qb
from qupath_bridge.model import ClassInfo, ObjectType
from qupath_bridge.outputs.base import Location
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.integration.test_corrected_runs import collected, said


def export(source, out, config, **options):
    return qb.export(source, out, config, provenance=False, command=["test"], **options)


def values(table):
    """The rows of a run, without what is the run's own."""
    return sorted(table.drop_columns(["run_id"]).to_pylist(), key=lambda row: row["patch_id"])


def test_a_sample_is_the_same_in_every_run(study, tmp_path):
    config = qb.ExportConfig(
        size=50, edge="pad", min_share=0.1, max_per_label=3, max_per_slide=5, seed=7
    )
    one = export(study.project, tmp_path / "one", config, workers=1)
    other = export(study.project, tmp_path / "other", config, workers=3)
    rows = values(one.table())
    assert rows == values(other.table())
    with qb.open_project(study.project) as project:
        last = export(qb.plan([*project][-1:], config), tmp_path / "last", config)
        whole = qb.plan(project, config.replace(max_per_label=None, max_per_slide=None, seed=0))
    assert values(last.table()) == [r for r in rows if r["slide_id"] == rows[-1]["slide_id"]]

    report = json.loads((tmp_path / "one" / "report.json").read_text())
    for slide, plan in zip(report["slides"], whole, strict=True):
        kept = [row for row in rows if row["slide_id"] == slide["slide_id"]]
        assert len(kept) == min(5, sum(min(3, n) for n in plan.label_counts().values()))
        assert slide["dropped"]["not_sampled"] == len(plan) - len(kept) > 0
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["config"]["max_per_label"] == 3
    assert (record["config"]["sample"], record["config"]["seed"]) == ("random", 7)


@pytest.mark.slow
def test_a_sample_is_the_same_in_processes(study, tmp_path):
    config = qb.ExportConfig(size=50, edge="pad", min_share=0.1, max_per_label=3, sample="grid")
    threads = export(study.project, tmp_path / "threads", config)
    processes = export(study.project, tmp_path / "processes", config, runner="processes", workers=2)
    assert values(threads.table()) == values(processes.table())


# --- around objects ---

CELLS = qb.ExportConfig(size=32, around=["cells"])
CLASSES = (ClassInfo("Tumor"), ClassInfo("Immune"))


def cell(class_path, x, y, name):
    shape = shapely.box(x - 4, y - 4, x + 4, y + 4)
    uuid = f"00000000-0000-4000-8000-{ord(name):012d}"
    return Region(class_path, shape, object_type=ObjectType.CELL, id=uuid)


def build(folder, cells, more=(), slides=("a",)):
    """A project of slides of 200 x 160 px with cells in all of them; ``more`` are regions."""
    images = []
    for number, name in enumerate(slides):
        path = folder / f"{name}.tif"
        if not path.exists():
            write_slide(path, marker_image(200, 160), mpp=0.25)
        regions = [cell(path, x + number, y, n) for path, x, y, n in cells]
        images.append(Image(path, [*regions, *more], pixel_size=0.25, name=f"{name}{number}"))
    return build_project(folder / "p", images, classes=CLASSES)


FOUR = [
    ("Tumor", 40, 40, "a"),
    ("Tumor", 90, 50, "b"),
    ("Immune", 140, 90, "c"),
    ("New", 60, 99, "d"),
]
TRUTH = marker_image(200, 160)


def rows_of(run):
    return {row["patch_id"]: row for row in run.table().to_pylist()}


def pixels_of(run, row):
    location = Location(row["path"], row["offset"], row["length"])
    return np.asarray(Picture.open(io.BytesIO(run.open().read(location))).convert("RGB"))


@pytest.mark.parametrize("container", ["folder", "tar", "zarr"])
def test_patches_around_cells_live_as_any_other(tmp_path, container):
    """Export, verify, resume, a moved cell, a pathologist's word about a patch, update, tiles."""
    project, out = build(tmp_path, FOUR), tmp_path / "out"
    config = CELLS.replace(container=container)
    options = {"command": ["test"], "engine": "embedded"}
    first = qb.export(project, out, config, **options)
    rows = rows_of(first)
    assert {key: (row["label"], row["label_source"]) for key, row in rows.items()} == {
        "1_a0_x24_y24": ("Tumor", "object"), "1_a0_x74_y34": ("Tumor", "object"),
        "1_a0_x124_y74": ("Immune", "object"), "1_a0_x44_y83": ("New", "object"),
    }  # fmt: skip
    for row in rows.values():
        assert (row["col"], row["row"], row["label_share"]) == (None, None, None)
        x, y = row["x_qupath"], row["y_qupath"]
        if container != "zarr":
            assert (pixels_of(first, row) == TRUTH[y : y + 32, x : x + 32]).all()
    assert [row["object_ids"][0][-3:] for row in rows.values()] == ["097", "098", "099", "100"]
    assert qb.verify(first).ok
    assert qb.export(project, out, config, resume=True, **options).record["rows"]
    assert qb.status(project)[-1].state == "current"

    with qb.open_project(project) as opened:
        (before,) = qb.plan(opened, config)
    build_again = [("Tumor", 44, 40, "a"), *FOUR[1:]]
    (tmp_path / "moved").mkdir()
    moved = build(tmp_path / "moved", build_again)
    shutil.copy(moved.parent / "data/1/data.qpdata", project.parent / "data/1/data.qpdata")
    with qb.open_project(project) as opened:
        assert qb.plan(opened, config)[0].digest != before.digest
    collected(project, [said(rows["1_a0_x74_y34"], "Immune")])
    (stale,) = qb.status(project)[-1].entries
    assert (stale.added, stale.removed) == (("1_a0_x28_y24",), ("1_a0_x24_y24",))
    second = qb.export(project, out, config, update=True, **options)
    labels = {key: (row["label"], row["label_source"]) for key, row in rows_of(second).items()}
    assert labels["1_a0_x74_y34"] == ("Immune", "corrected")
    assert labels["1_a0_x28_y24"] == ("Tumor", "object")
    assert len(labels) == 4
    assert rows_of(second)["1_a0_x74_y34"]["digest"] == rows["1_a0_x74_y34"]["digest"]
    assert qb.verify(second).ok

    # Our tiles come into the data; no patch is made around them.
    assert not qb.write_back(project, second, engine="embedded", force=True).failed
    with qb.open_project(project) as opened:
        kinds = Counter(each.object_type for each in opened.slides[0].read(detections=True).objects)
        assert kinds == {ObjectType.CELL: 4, ObjectType.TILE: 4}
        (plan,) = qb.plan(opened, CELLS.replace(around=["detections", "annotations"]))
    assert len(plan) == 4


def test_classes_that_only_cells_have_are_known_before_the_run(tmp_path):
    project = build(tmp_path, FOUR, slides=("a", "b"))
    run = export(project, tmp_path / "out", CELLS.replace(map={"New": "Old"}))
    assert not run.failures
    assert {row["label"] for row in rows_of(run).values()} == {"Tumor", "Immune", "Old"}
    with pytest.raises(qb.errors.ConfigError, match="around: no class 'Imune'; did you mean 'Imm"):
        export(project, tmp_path / "other", CELLS.replace(around=["cells:Imune"]))


def test_a_slide_without_such_objects_says_so(study):
    around = qb.ExportConfig(size=50, around=["cells", "detections:Tumor"])
    plans = qb.plan(study.project, around)
    assert [len(plan) for plan in plans] == [0] * len(plans)
    for plan in plans:
        assert (
            "There are no cells and no detections:Tumor that could have patches." in plan.warnings
        )


def test_cells_of_geojson_files(tmp_path):
    project = build(tmp_path, FOUR[:1])
    features = [
        {
            "type": "Feature", "id": f"00000000-0000-4000-8000-00000000000{n}",
            "geometry": mapping(shapely.box(x, 50, x + 8, 58)),
            "properties": {"objectType": kind, "classification": {"name": "Immune"}},
        }
        for n, (x, kind) in enumerate([(50, "cell"), (80, "detection"), (110, "annotation")])
    ]  # fmt: skip
    file = tmp_path / "cells.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    run = export(project, tmp_path / "out", CELLS.replace(around=["detections"]), annotations=file)
    assert sorted(rows_of(run)) == ["1_a0_x38_y38", "1_a0_x68_y38"]


def test_unsaved_annotations_leave_the_saved_cells(tmp_path):
    project = build(tmp_path, FOUR[:2])
    live = tmp_path / "live"
    live.mkdir()
    ignored = {
        "type": "Feature", "id": "00000000-0000-4000-8000-000000000009",
        "geometry": mapping(shapely.box(80, 40, 99, 60)),
        "properties": {"objectType": "annotation", "classification": {"name": "Ignore*"}},
    }  # fmt: skip
    content = {"type": "FeatureCollection", "features": [ignored]}
    (live / "1.geojson").write_text(json.dumps(content))
    run = export(project, tmp_path / "out", CELLS, live_annotations=live)
    assert sorted(rows_of(run)) == ["1_a0_x24_y24"]


@pytest.mark.slow
def test_patches_that_share_pixels_are_on_one_side_of_a_split(tmp_path):
    """Patches around neighbouring cells overlap, within a slide and between entries of a file."""
    build(tmp_path, FOUR, slides=("a", "b", "c", "a"))
    write_slide(tmp_path / "b.tif", marker_image(200, 160)[::-1], mpp=0.25)
    write_slide(tmp_path / "c.tif", marker_image(200, 160)[:, ::-1], mpp=0.25)
    config = CELLS.replace(size=60, edge="pad")
    run = export(tmp_path / "p", tmp_path / "out", config)
    boxes = [shapely.box(r["x_qupath"], r["y_qupath"], r["x_qupath"] + 60, r["y_qupath"] + 60)
             for r in rows_of(run).values() if r["slide_id"] == "1_a0"]  # fmt: skip
    assert any(a.intersection(b).area for a, b in combinations(boxes, 2))
    made = qb.split(run, folds=3, by="slide_id")
    fold = made.folds
    assert fold["1_a0"] == fold["4_a3"]
    assert len(set(fold.values())) == 3
    assert qb.check_leakage(run).ok


# --- regions ---

GLANDS = [
    ("Gland", "POLYGON ((10 20, 70 20, 70 80, 10 80, 10 20))"),
    ("Gland", "POLYGON ((90 33, 150 33, 150 93, 90 93, 90 33))"),
    ("Fold", "POLYGON ((7 100, 31 100, 31 117, 7 117, 7 100))"),
]


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_one_picture_of_each_region(tmp_path, container):
    project = build(tmp_path, [], GLANDS)
    config = qb.ExportConfig(per_region="picture", container=container)
    run = qb.export(project, tmp_path / "out", config, engine="embedded")
    assert [
        (key, row["width"], row["height"], row["label"]) for key, row in rows_of(run).items()
    ] == [
        ("1_a0_x10_y20_w60_h60", 60, 60, "Gland"),
        ("1_a0_x90_y33_w60_h60", 60, 60, "Gland"),
        ("1_a0_x7_y100_w24_h17", 24, 17, "Fold"),
    ]
    for row in rows_of(run).values():
        x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
        assert (pixels_of(run, row) == TRUTH[y : y + h, x : x + w]).all()
    assert qb.verify(run).ok
    assert not qb.write_back(project, run, engine="embedded", force=True).failed
    collected(project, [said(rows_of(run)["1_a0_x7_y100_w24_h17"], "Gland")])
    (slide,) = qb.corrections(project).slides
    assert [(each.patch, each.in_grid) for each in slide.patches] == [
        ("1_a0_x7_y100_w24_h17", True)
    ]
    again = qb.export(project, tmp_path / "out", config, engine="embedded", update=True)
    assert rows_of(again)["1_a0_x7_y100_w24_h17"]["label_source"] == "corrected"
    assert qb.status(project)[-1].state == "current"


def test_pictures_at_another_scale_with_a_margin(tmp_path):
    """0.25 µm to 0.5 µm: two pixels are one, and a margin of 3 written pixels is 6 pixels wide."""
    project = build(tmp_path, [], [*GLANDS[1:]])
    config = qb.ExportConfig(per_region="picture", mpp=0.5, margin=3, edge="pad", qc=["blank"])
    rows = rows_of(export(project, tmp_path / "out", config))
    assert [(r["x_qupath"], r["w_qupath"], r["width"], r["height"]) for r in rows.values()] == [
        (84, 72, 36, 36), (1, 36, 18, 15),
    ]  # fmt: skip
    assert {row["mpp"] for row in rows.values()} == {0.5}


@pytest.mark.parametrize("container", ["h5", "zarr"])
def test_containers_of_arrays_refuse_patches_of_several_sizes(container):
    for values in ({"per_region": "picture"}, {"around": ["cells"], "margin": 2}):
        with pytest.raises(qb.errors.ConfigError, match=f"container {container} holds patches of"):
            qb.ExportConfig(container=container, **values)


def test_a_grid_from_the_corner_of_each_region(tmp_path):
    project = build(tmp_path, [], GLANDS)
    run = export(
        project, tmp_path / "out", qb.ExportConfig(size=30, min_share=1, per_region="grid")
    )
    assert sorted(rows_of(run)) == sorted(
        f"1_a0_x{x}_y{y}" for left, top in ((10, 20), (90, 33))
        for x in (left, left + 30) for y in (top, top + 30)
    )  # fmt: skip
    assert {(row["label_source"], len(row["object_ids"])) for row in rows_of(run).values()} == {
        ("rule", 1)
    }
    (slide,) = run
    assert slide["regions"]["objects"] == {"used": 3}


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_masks_have_the_size_of_their_patches(tmp_path, container):
    """A gland in the corner of another: each picture has a mask of what owns its pixels."""
    island = ("Fold", "POLYGON ((10 20, 30 20, 30 50, 10 50, 10 20))")
    project = build(tmp_path, [], [GLANDS[0], island])
    config = qb.ExportConfig(per_region="picture", masks="class", container=container)
    run = export(project, tmp_path / "out", config)
    values = json.loads(run.open().get("classes.json"))["classes"]
    expected = np.full((60, 60), values["Gland"])
    expected[:30, :20] = values["Fold"]
    for row in rows_of(run).values():
        w, h = row["width"], row["height"]
        place = Location(*(row[name] for name in ("mask", "mask_offset", "mask_length")))
        mask = np.asarray(Picture.open(io.BytesIO(run.open().read(place))))
        assert (mask == expected[:h, :w]).all()
    assert qb.verify(run).ok
