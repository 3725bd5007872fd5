"""Layouts of masks: COCO read by pycocotools, YOLO and semantic TIFF by Pillow."""

import contextlib
import io
import json

import numpy as np
import pytest
import shapely
from PIL import Image as Picture
from PIL import ImageDraw
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.testing.projects import Region
from tests.support.masked_runs import CONTAINERS, REGIONS, export, save, stored

# pycocotools 2.0 has arrays of before NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PARTS = [shapely.box(150, 150, 160, 190), shapely.box(190, 150, 200, 170)]
TWO = Region("Tumor", shapely.MultiPolygon(PARTS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with masks in every container."""
    place = tmp_path_factory.mktemp("runs")
    save(place, (*REGIONS, TWO))
    for container in CONTAINERS:
        export(place / "p", place / container, container)
    return place


def rows_of(out):
    return {row["patch_id"]: row for row in qb.read_index(out).to_pylist()}


def coco_of(file):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


@pytest.mark.parametrize("container", CONTAINERS)
def test_pycocotools_reads_the_objects_of_the_masks(runs, tmp_path, container):
    made = qb.convert(runs / container, tmp_path / "coco", "coco")
    rows = rows_of(runs / container)
    assert made.patches == len(rows)
    data = coco_of(tmp_path / "coco" / "annotations" / "instances.json")
    names = {each["id"]: each["name"] for each in data.loadCats(data.getCatIds())}
    assert names == {1: "Stroma", 2: "Tumor"}
    kinds = set()
    for picture in data.loadImgs(data.getImgIds()):
        row = rows.pop(picture["patch_id"])
        with Picture.open(tmp_path / "coco" / "images" / picture["file_name"]) as file:
            assert file.size == (picture["width"], picture["height"]) == (50, 50)
        numbers = stored(runs / container, row, "mask_instance", np.uint16)
        found = data.loadAnns(data.getAnnIds(picture["id"]))
        assert [each["object_id"] for each in found] == row["instances"]
        assert [names[each["category_id"]] for each in found] == row["instance_classes"]
        for number, each in enumerate(found, 1):
            np.testing.assert_array_equal(data.annToMask(each).astype(bool), numbers == number)
            packed = coco_masks.encode(np.asfortranarray((numbers == number).astype(np.uint8)))
            assert each["area"] == coco_masks.area(packed)
            assert each["bbox"] == coco_masks.toBbox(packed).tolist()
            kinds.add((type(each["segmentation"]), len(each["segmentation"])))
    assert not rows
    assert {(dict, 2), (list, 1), (list, 2)} <= kinds  # with a hole, of one part, of two


def filled(line, size, scale=8):
    """Class and pixels of a line, as Pillow fills it at several times the size."""
    number, *values = line.split()
    points = np.array(values, float).reshape(-1, 2) * size * scale - 0.5
    picture = Picture.new("L", (size * scale, size * scale))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points.tolist()], fill=1)
    return int(number), np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale].astype(bool)


def test_yolo_has_the_pixels_of_every_object_holes_left_out(runs, tmp_path):
    made = qb.convert(runs / "folder", tmp_path / "yolo", "yolo")
    assert len(made.warnings) == 2
    assert "joined to the outline by bridges" in made.warnings[0]
    assert "in several parts: each part is a polygon" in made.warnings[1]
    names = ["Stroma", "Tumor"]
    for patch_id, row in rows_of(runs / "folder").items():
        text = (tmp_path / "yolo" / "labels" / f"{patch_id}.txt").read_text()
        assert (tmp_path / "yolo" / "images" / f"{patch_id}.png").exists()
        numbers = stored(runs / "folder", row, "mask_instance", np.uint16)
        values = {k: names.index(name) for k, name in enumerate(row["instance_classes"], 1)}
        found = np.full((50, 50), -1)
        for line in text.splitlines():
            number, inside = filled(line, 50)
            found[inside] = number
        expected = np.full((50, 50), -1)
        for k, value in values.items():
            expected[numbers == k] = value
        np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "yolo" / "data.yaml").read_text() == (
        'train: ["images"]\nval: ["images"]\nnames:\n  0: "Stroma"\n  1: "Tumor"\n'
    )


@pytest.mark.parametrize("container", CONTAINERS)
def test_semantic_tiff_has_the_values_of_the_masks(runs, tmp_path, container):
    qb.convert(runs / container, tmp_path / "tiff", "semantic")
    for patch_id, row in rows_of(runs / container).items():
        with Picture.open(tmp_path / "tiff" / "masks" / f"{patch_id}.tif") as file:
            assert file.mode == "L"
            found = np.asarray(file)
        np.testing.assert_array_equal(found, stored(runs / container, row, "mask", np.uint8))
        assert (tmp_path / "tiff" / "images" / f"{patch_id}.png").exists()
    classes = json.loads((tmp_path / "tiff" / "classes.json").read_bytes())
    assert classes["classes"] == {"Stroma": 1, "Tumor": 2}


@pytest.mark.parametrize("to", ["coco", "yolo", "semantic"])
def test_folds_are_folders(runs, tmp_path, to):
    out = tmp_path / "out"
    export(runs / "p", out)
    slide = next(iter(rows_of(out).values()))["slide_id"]
    qb.open_output(out).put("splits/own.csv", f"slide_id,group,fold\n{slide},a,0\n".encode())
    made = qb.convert(out, tmp_path / "new", to, split="own", val="0")
    assert made.patches == len(rows_of(out))
    assert list((tmp_path / "new" / "images" / "val").iterdir())
    expected = {"coco": "annotations/val.json", "yolo": "labels/val", "semantic": "masks/val"}[to]
    assert (tmp_path / "new" / expected).exists()


@pytest.mark.parametrize(("to", "has"), [("coco", "class"), ("yolo", "none"), ("semantic", "none")])
def test_a_run_without_the_masks_is_refused(runs, tmp_path, to, has):
    export(runs / "p", tmp_path / "out", masks=has)
    with pytest.raises(UsageError, match=f"The layout {to} needs masks, and this run has none"):
        qb.convert(tmp_path / "out", tmp_path / "new", to)
    assert not (tmp_path / "new").exists()


def test_a_mask_that_changed_is_refused(runs, tmp_path, capsys):
    out = tmp_path / "out"
    export(runs / "p", out)
    row = next(row for row in rows_of(out).values() if row["instances"])
    (out / row["mask_instance"]).write_bytes(b"")
    with pytest.raises(OutputError, match=f"The mask of {row['patch_id']} cannot be read"):
        qb.convert(out, tmp_path / "new", "coco")
    assert main(["convert", str(out), "--to", "semantic", "--out", str(tmp_path / "tiff")]) == 0
    assert "patches of 1 slide written" in capsys.readouterr().out
