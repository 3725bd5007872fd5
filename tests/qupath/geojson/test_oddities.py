"""Our reading of odd GeoJSON against that of QuPath 0.7.0, which is recorded in tests/data."""

import json
from pathlib import Path

import pytest
import shapely

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ObjectType
from qupath_bridge.qupath.geojson import load
from tests.support.geojson_oddities import cases

TRUTH = json.loads(
    (Path(__file__).parents[2] / "data" / "geojson" / "qupath-0.7.0.json").read_text("utf-8")
)
FILES = cases()

REFUSED = {
    # QuPath says nothing, and gives no objects: who asked for annotations gets none.
    "empty object", "null", "tool", "name null", "no features", "features null", "topology",
    "type a number", "feature lower", "nothing",
    # QuPath leaves out what is not a feature, and does not say so.
    "array mixed",
    # QuPath puts another sign, or another plane, in its place.
    "latin 1", "plane large",
}  # fmt: skip
"""Files that QuPath reads and that are an error here."""

READ = {
    # GeoJSON allows null, and geometry may be missing.
    "properties None", "shape null", "shape nothing", "id None", "plane null", "type None",
    "ellipse null",
    # Colours never lose a file.
    *(name for name in FILES if name.startswith(("color ", "class color ", "class colorRGB "))),
    "class no color",
    # What labels.md repairs, and rings whose last point is left out.
    "ring bow-tie", "shape parts overlap", "ring not closed",
    # QuPath up to 0.5 reads collections, later versions only some.
    "collection alone", "shape collection",
    "shape collection of many", "shape collection of lines",
    # Foreign members may be anywhere; null is a measurement that is missing.
    "plane unknown", "measurements listed null", "ring some z",
}  # fmt: skip
"""Files that are read here even if QuPath refuses them."""

OTHER_SHAPE = {
    "ellipse text", "ellipse TEXT",  # QuPath's area is that of the curve, ours of its 100 corners
    "shape collection of many", "shape parts overlap", "ring bow-tie",
    *(name for name in FILES if name.startswith("missing ")),  # cores are circles in QuPath
}  # fmt: skip


@pytest.fixture(params=sorted(FILES))
def case(request, tmp_path):
    path = tmp_path / f"{request.param}.geojson"
    path.write_bytes(FILES[request.param])
    return request.param, path


def test_odd_geojson_is_read_as_qupath_reads_it(case):
    name, path = case
    truth = TRUTH[name]
    refused = isinstance(truth, str)
    if name in REFUSED or (refused and name not in READ):
        assert refused or name in REFUSED
        with pytest.raises(ProjectError):
            load(path)
        return
    objects = load(path)
    if refused:
        assert objects  # what they are is tested by hand below
        return
    top = [each for each in objects if each.parent < 0]
    assert len(top) == len(truth)
    for mine, other in zip(top, truth, strict=True):
        assert facts(mine) == {key: other[key] for key in facts(mine)}
        children = [each for each in objects if each.parent_id == mine.id]
        assert len(children) == other["children"]
        if name not in OTHER_SHAPE:
            assert shape(mine.roi) == shape_of(other["shape"])


TYPES = {
    ObjectType.ANNOTATION: "PathAnnotationObject",
    ObjectType.TMA_CORE: "TMACoreObject",
}


def facts(mine):
    return {
        "type": TYPES[mine.object_type],
        "class": mine.class_path,
        "name": mine.name,
        "color": mine.color,
        "locked": mine.locked,
        "missing": mine.missing,
        "measurements": {key: java(value) for key, value in mine.measurements.items()},
        "metadata": dict(mine.metadata),
    }


def java(number):
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(number), repr(number))


def shape(roi):
    plane = [roi.channel, *roi.plane]
    if roi.geometry.is_empty or (roi.geometry.area == 0 and "Polygon" in roi.geometry.geom_type):
        return plane, None
    x0, y0, x1, y1 = shapely.bounds(roi.geometry)
    return plane, (round(roi.geometry.area, 6), [x0, y0, x1 - x0, y1 - y0])


def shape_of(other):
    return other["plane"], None if other["empty"] else (other["area"], other["box"])


COLOURS = {
    "null": (None, None), "hex": (0xFF0000, 0xFF0000), "word": (None, None),
    "floats": (0xFF0000, 0xFF0000), "packed": (0xFF0000, 0xFF0000), "nulls": (None, None),
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), COLOURS.items(), ids=COLOURS)
def test_odd_colours_are_read_or_left_out(tmp_path, name, expected):
    found = []
    for member in ("color", "colorRGB"):
        path = tmp_path / f"{member}.geojson"
        path.write_bytes(FILES[f"class {member} {name}"])
        (only,) = load(path)
        assert only.class_path == f"{member} {name}"
        found.append(None if only.class_color is None else only.class_color & 0xFFFFFF)
    assert tuple(found) == expected


@pytest.mark.parametrize(
    "name", [n for n in FILES if n.startswith("class color") and not isinstance(TRUTH[n], str)]
)
def test_odd_class_colours_are_those_of_qupath(tmp_path, name):
    path = tmp_path / "a.geojson"
    path.write_bytes(FILES[name])
    (only,), (other,) = load(path), TRUTH[name]
    if only.class_color is not None:  # QuPath makes a colour up where there is none
        assert only.class_color == other["class_color"]


COLLECTIONS = {
    "collection alone": 100.0,
    "shape collection": 100.0,
    "shape collection of many": 100.0 + 45.0 + 45.0,
    "shape collection of lines": 0.0,
}
"""Areas by hand: lines and points beside areas are left out, and points beside lines."""


@pytest.mark.parametrize(("name", "area"), COLLECTIONS.items(), ids=COLLECTIONS)
def test_geometry_collections_are_taken_apart(tmp_path, name, area):
    path = tmp_path / "a.geojson"
    path.write_bytes(FILES[name])
    (only,) = load(path)
    assert only.roi.geometry.area == area
    assert only.roi.geometry.geom_type == ("Polygon", "MultiPolygon", "LineString")[
        (area == 190) + 2 * (area == 0)
    ]  # fmt: skip


@pytest.mark.qupath
def test_odd_geojson_of_this_qupath(installation, tmp_path):
    """The recorded answers are those of a real QuPath 0.7.0; its class colours are made up."""
    folder, answer = tmp_path / "files", tmp_path / "answer.json"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / f"{name}.geojson").write_bytes(data)
    script = Path(__file__).parents[1] / "read_geojson.groovy"
    installation.groovy(script, [answer, folder], timeout=200)
    if installation.version != "0.7.0":
        pytest.skip("the answers are recorded of QuPath 0.7.0")
    assert json.loads(answer.read_text("utf-8")) == TRUTH
