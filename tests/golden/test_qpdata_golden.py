"""Comparison of data files as read here and as read by QuPath's own classes.

``tests/data/golden`` holds what QuPath 0.7.0 says of each sample and real file.
"""

import gzip
import json
import math
from pathlib import Path

import pytest
import shapely

from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.qupath.qpdata.reading import read_image_data

DATA = Path(__file__).parents[1] / "data"
GOLDEN = sorted((DATA / "golden").glob("*.json.gz"))


def data_file(golden):
    kind, version, entry = golden.name.removesuffix(".json.gz").split("-")
    project = {
        "samples": DATA / "qupath-samples" / version / "project",
        "real": DATA / "real" / f"qupath-{version}-project",
    }[kind]
    return project / "data" / entry / "data.qpdata"


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.removesuffix(".json.gz"))
def pair(request):
    wanted = json.loads(gzip.decompress(request.param.read_bytes()))
    return read_image_data(data_file(request.param), detections=True), wanted


def number(value):
    """A number of the golden files, which hold NaN and infinities as text."""
    return None if value is None else float(value)


def test_golden_values_exist_for_all_data_files():
    assert len(GOLDEN) == 28


def test_golden_image_values(pair):
    image, wanted = pair
    assert image.image_type == wanted["imageType"]
    assert image.qupath_version == wanted.get("qupathVersion")
    assert f"Data file version {image.version}" == wanted["header"]
    assert sorted(image.properties) == wanted["properties"]
    for key, (java_class, text) in wanted["propertyValues"].items():
        value = image.properties[key]
        assert value == (text if java_class == "java.lang.String" else {"class": java_class})
    assert [step["name"] for step in image.workflow] == wanted["workflow"]
    for step, script in zip(image.workflow, wanted["workflowScripts"], strict=True):
        assert step.get("script", script) == script
    assert image.problems == ()


def test_golden_stains(pair):
    image, wanted = pair
    if wanted["stains"] is None:
        assert image.stains is None
        return
    assert image.stains["name"] == wanted["stains"]["name"]
    assert list(image.stains["background"]) == wanted["stains"]["background"]
    stored = [stain for stain in wanted["stains"]["stains"] if not stain["residual"]]
    assert len(image.stains["stains"]) == len(stored)
    for ours, theirs in zip(image.stains["stains"], stored, strict=True):
        length = math.hypot(*ours["vector"])
        assert ours["name"] == theirs["name"]
        assert [v / length for v in ours["vector"]] == pytest.approx(theirs["vector"], abs=1e-6)


def test_golden_tma_grid(pair):
    image, wanted = pair
    if wanted["tma"] is None:
        assert image.tma_grid is None
        return
    grid = image.tma_grid
    assert (grid.width, grid.height) == (wanted["tma"]["width"], wanted["tma"]["height"])
    assert list(grid.cores) == [core["index"] for core in wanted["tma"]["cores"]]


def test_golden_objects(pair):
    """Every field of every object but its shapes, ids and parents included."""
    image, wanted = pair
    for each, theirs in zip(image.objects, wanted["objects"], strict=True):
        assert each.object_type == theirs["type"]
        assert each.parent == theirs["parent"]
        assert each.parent_id == (image.objects[each.parent].id if each.parent >= 0 else None)
        assert each.id_origin == ("derived" if theirs["id"] is None else "qupath")
        assert theirs["id"] in (None, each.id)
        assert each.name == theirs["name"]
        assert (each.class_path, each.class_color) == (theirs["class"], theirs["classColor"])
        assert (each.color, each.locked) == (theirs["color"], theirs["locked"])
        assert each.description == theirs.get("description")
        assert each.missing == theirs.get("missing")
        named = [(name, number(value)) for name, value in theirs["measurements"]]
        assert list(each.measurements) == [name for name, _ in named]
        assert dict(each.measurements) == pytest.approx(dict(named), rel=0, abs=0, nan_ok=True)
        # QuPath 0.7 shows the old "Unique ID" of a core as "Case ID" too; this file has it not.
        legacy = {"Case ID"} if "Unique ID" in each.metadata else set()
        assert each.metadata == {k: v for k, v in theirs["metadata"].items() if k not in legacy}
        probability = number(theirs["classProbability"])
        assert each.probability == (None if math.isnan(probability) else probability)


def test_golden_shapes(pair):
    """Every ROI and nucleus: kind, plane, and not 0.01 px² a vertex of difference."""
    image, wanted = pair
    for each, theirs in zip(image.objects, wanted["objects"], strict=True):
        check_shape(each.roi, theirs["roi"])
        check_shape(each.nucleus, theirs.get("nucleus"))


def check_shape(roi, wanted):
    if roi is None or wanted is None:
        assert roi is wanted is None
        return
    old_names = {"Area": "Geometry"}  # QuPath's own old class, read as any other area
    assert roi.kind == old_names.get(wanted["name"], wanted["name"])
    assert (roi.channel, roi.plane.z, roi.plane.t) == (wanted["c"], wanted["z"], wanted["t"])
    # QuPath 0.7 keeps float32 coordinates; on the 0.01 px grid they are the same.
    theirs = shapely.transform(shapely.from_wkt(wanted["wkt"]), round_coordinates)
    ours = roi.geometry
    assert (ours.is_empty, ours.geom_type) == (theirs.is_empty, theirs.geom_type)
    if theirs.area > 0:
        assert ours.is_valid
        difference = ours.symmetric_difference(theirs).area
        assert difference <= 1e-9 * shapely.get_num_coordinates(theirs)
        assert ours.area == pytest.approx(theirs.area, abs=1e-6)
    else:
        assert shapely.equals(ours, theirs)
