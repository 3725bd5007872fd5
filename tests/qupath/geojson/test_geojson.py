"""QuPath's GeoJSON: what is read, what is written, and the gate between."""

import copy
import gzip
import io
import json
import math
import os
import uuid
import zipfile

import geojson
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.model import Box, ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.qupath.files.classes import default_rgb, pack_rgb
from qupath_bridge.qupath.geojson import (
    Tile,
    check_feature,
    dumps,
    feature_problems,
    load,
    loads,
    read_geojson,
    tiles_geojson,
    to_feature,
    write_tiles,
)
from qupath_bridge.qupath.rois import make_roi

ID = "fc346334-6401-4816-988d-7d3950b5c9dd"
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}


def feature(properties=None, **members):
    return {"type": "Feature", "geometry": SQUARE, "properties": properties or {}, **members}


def one(value) -> PathObject:
    (only,) = loads(json.dumps(value))
    return only


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ("Tumor", ("Tumor", None)),
        ("Tumor:Positive", ("Tumor: Positive", None)),
        ({"name": "Tumor", "color": [200, 0, 0]}, ("Tumor", pack_rgb(200, 0, 0))),
        ({"name": "Tumor", "color": [200, 0, 0, 128]}, ("Tumor", pack_rgb(200, 0, 0))),
        ({"name": "Tumor", "colorRGB": -3670016}, ("Tumor", -3670016)),
        ({"name": "Tumor", "colorRGB": 4291297280}, ("Tumor", -3670016)),
        ({"name": "Tumor"}, ("Tumor", None)),
        ({"name": "Tumor: Positive", "color": [1, 2, 3]}, ("Tumor: Positive", pack_rgb(1, 2, 3))),
        ({"names": ["a b", "c-1", "D"], "color": [1, 2, 3]}, ("a b: c-1: D", pack_rgb(1, 2, 3))),
        (
            {
                "parentClass": {"parentClass": {"name": "a b", "colorRGB": 1}, "name": "c-1"},
                "name": "D",
                "colorRGB": 7,
            },
            ("a b: c-1: D", 7),
        ),
    ],
)
def test_geojson_classification_in_every_form(raw, expected):
    read = one(feature({"classification": raw}))
    assert (read.class_path, read.class_color) == expected


@pytest.mark.parametrize(
    ("members", "properties", "expected"),
    [
        ({}, {}, ObjectType.ANNOTATION),
        ({}, {"objectType": "tile"}, ObjectType.TILE),
        ({}, {"objectType": "tmaCore"}, ObjectType.TMA_CORE),
        ({}, {"object_type": "tma_core"}, ObjectType.TMA_CORE),
        ({}, {"object_type": "detection"}, ObjectType.DETECTION),
        ({}, {"type": "cell"}, ObjectType.CELL),
        ({}, {"objectType": "tile", "type": "cell"}, ObjectType.TILE),
        ({}, {"objectType": "no type of QuPath"}, ObjectType.ANNOTATION),
        ({"id": "PathTileObject"}, {}, ObjectType.TILE),
        ({"id": "PathCellObject"}, {}, ObjectType.CELL),
        ({"id": "PathAnnotationObject"}, {}, ObjectType.ANNOTATION),
        ({"id": "PathTileObject"}, {"objectType": "cell"}, ObjectType.CELL),
    ],
)
def test_geojson_object_type_by_every_name(members, properties, expected):
    assert one(feature(properties, **members)).object_type is expected


def test_geojson_ids_are_read_or_derived():
    assert one(feature(id=ID.upper())).id == ID
    assert one(feature(id=ID)).id_origin == "qupath"
    first, second, other = loads(
        json.dumps([feature(), feature(), feature({"objectType": "tile"})])
    )
    assert first.id_origin == "derived"
    assert len({first.id, second.id, other.id}) == 3
    again = loads(json.dumps([feature(), feature()]))
    assert [each.id for each in again] == [first.id, second.id]
    assert loads(json.dumps(feature()), entry_id="2")[0].id != first.id


def test_geojson_measurements_in_both_forms():
    values = {"a": 0.5, "nan": "NaN", "inf": "Infinity", "minus": "-Infinity", "none": None}
    expected = {"a": 0.5, "nan": math.nan, "inf": math.inf, "minus": -math.inf}
    pairs = [{"name": name, "value": value} for name, value in values.items()]
    for raw in (values, pairs):
        assert one(feature({"measurements": raw})).measurements == pytest.approx(
            expected, nan_ok=True
        )
    bare = json.dumps(feature({"measurements": {"x": math.nan, "y": math.inf}}))
    assert "NaN" in bare
    (read,) = loads(bare)
    assert math.isnan(read.measurements["x"]) and read.measurements["y"] == math.inf


def test_geojson_other_properties():
    read = one(
        feature(
            {
                "name": "é 中 😀",
                "color": [0, 255, 128],
                "isLocked": True,
                "metadata": {"ANNOTATION_DESCRIPTION": "said", "n": 5, "nested": {"a": 1}},
                "unknown": [1],
            }
        )
    )
    assert read.name == "é 中 😀"
    assert read.color == pack_rgb(0, 255, 128)
    assert read.locked
    assert read.metadata == {"ANNOTATION_DESCRIPTION": "said", "n": "5"}
    assert read.description == "said"
    assert read.missing is None


def test_geojson_repeated_key_takes_the_last_value():
    text = json.dumps(feature({"metadata": {"a": "1"}}))
    twice = text.replace('"metadata"', '"metadata": {"a": "0"}, "metadata"')
    assert twice.count("metadata") == 2
    assert loads(twice)[0].metadata == {"a": "1"}


def test_geojson_cells_and_cores():
    nucleus = {"type": "Polygon", "coordinates": [[[2, 2], [4, 2], [4, 4], [2, 2]]]}
    cell = one(feature({"objectType": "cell"}, nucleusGeometry=nucleus))
    assert cell.nucleus is not None and cell.nucleus.geometry.area == 2
    assert one(feature({"objectType": "tmaCore", "isMissing": True})).missing is True
    assert one(feature({"objectType": "tmaCore"})).missing is False


def test_geojson_children_are_read_depth_first():
    tree = feature(
        {
            "name": "a",
            "childObjects": [
                feature({"name": "b", "children": [feature({"name": "c"})]}),
                feature({"name": "d"}),
            ],
        },
        id=ID,
    )
    objects = loads(json.dumps([tree, feature({"name": "e"})]))
    assert [(each.name, each.parent) for each in objects] == [
        ("a", -1), ("b", 0), ("c", 1), ("d", 0), ("e", -1),
    ]  # fmt: skip
    assert objects[1].parent_id == ID
    assert objects[2].parent_id == objects[1].id


SHAPES = [
    ("Point", [1, 2], RoiKind.POINTS, "POINT (1 2)"),
    ("MultiPoint", [[1, 2], [3, 4]], RoiKind.POINTS, "MULTIPOINT (1 2, 3 4)"),
    ("MultiPoint", [], RoiKind.POINTS, "MULTIPOINT EMPTY"),
    ("LineString", [[0, 0], [3, 4]], RoiKind.LINE, "LINESTRING (0 0, 3 4)"),
    ("LineString", [[0, 0], [3, 4], [5, 5]], RoiKind.POLYLINE, "LINESTRING (0 0, 3 4, 5 5)"),
    (
        "MultiLineString",
        [[[0, 0], [3, 4]], [[1, 1], [2, 2]]],
        RoiKind.GEOMETRY,
        "MULTILINESTRING ((0 0, 3 4), (1 1, 2 2))",
    ),
    (
        "Polygon",
        SQUARE["coordinates"],
        RoiKind.RECTANGLE,
        "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))",
    ),
    (
        "Polygon",
        [[[0, 0], [0, 10], [10, 10], [10, 0], [0, 0]]],
        RoiKind.RECTANGLE,
        "POLYGON ((0 0, 0 10, 10 10, 10 0, 0 0))",
    ),
    (
        "Polygon",
        [[[0, 0], [10, 1], [11, 11], [1, 10], [0, 0]]],
        RoiKind.POLYGON,
        "POLYGON ((0 0, 10 1, 11 11, 1 10, 0 0))",
    ),
    (
        "Polygon",
        [[[0, 0], [9, 0], [9, 9], [0, 0]], [[8, 2], [8, 3], [7, 2], [8, 2]]],
        RoiKind.GEOMETRY,
        "POLYGON ((0 0, 9 0, 9 9, 0 0), (8 2, 8 3, 7 2, 8 2))",
    ),
    (
        "MultiPolygon",
        [SQUARE["coordinates"], [[[20, 0], [30, 0], [30, 10], [20, 0]]]],
        RoiKind.GEOMETRY,
        "MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0)), ((20 0, 30 0, 30 10, 20 0)))",
    ),
    ("Polygon", [], RoiKind.GEOMETRY, "POLYGON EMPTY"),
]


@pytest.mark.parametrize(("parts", "kind"), [(1, "Polygon"), (2, "MultiPolygon")])
def test_a_multipolygon_of_one_polygon_is_written_as_that(parts, kind):
    """QuPath 0.5 cannot import the other: a null pointer in RoiTools.getShapeROI."""
    polygons = [shapely.box(20 * n, 0, 20 * n + 10, 10) for n in range(parts)]
    whole = shapely.MultiPolygon(polygons)
    geometry = to_feature(item(whole.wkt))["geometry"]
    assert geometry["type"] == kind
    assert shapely.geometry.shape(geometry).equals(whole)


@pytest.mark.parametrize(("kind", "coordinates", "roi_kind", "wkt"), SHAPES)
def test_geojson_shapes_of_every_kind(kind, coordinates, roi_kind, wkt):
    geometry = {"type": kind, "coordinates": coordinates, "plane": {"c": 1, "z": 2, "t": 3}}
    roi = one(feature(geometry=geometry)).roi
    assert roi.kind is roi_kind
    assert roi.geometry == shapely.from_wkt(wkt)
    assert (roi.plane, roi.channel) == (Plane(2, 3), 1)
    # A bare geometry is an annotation.
    assert one({"type": kind, "coordinates": coordinates}).roi.geometry == roi.geometry


def test_geojson_shapes_are_canonical_and_flat():
    ring = [[0.004, 0.006, 9], [10.126, 0, 9], [10, 10, 9], [0.004, 0.006, 9]]
    roi = one(feature(geometry={"type": "Polygon", "coordinates": [ring]})).roi
    assert roi.geometry == shapely.Polygon([(0, 0.01), (10.13, 0), (10, 10), (0, 0.01)])


def test_geojson_ellipse_is_the_one_in_its_box():
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [40, 0], [40, 20], [0, 20], [0, 0]]]}
    roi = one(feature(geometry={**geometry, "isEllipse": True})).roi
    assert roi.kind is RoiKind.ELLIPSE
    assert shapely.get_num_coordinates(roi.geometry) == 101
    assert roi.geometry.bounds == (0, 0, 40, 20)
    hundred_corners = 50 * 20 * 10 * math.sin(2 * math.pi / 100)
    assert roi.geometry.area == pytest.approx(hundred_corners, rel=1e-3)


@pytest.mark.parametrize("geometry", [None, {}])
def test_geojson_objects_without_a_shape(geometry):
    assert one(feature(geometry=geometry)).roi is None
    without = feature()
    del without["geometry"]
    assert one(without).roi is None


REFUSED_TEXTS = {
    "no JSON": ("{", "it is not JSON"),
    "lines": ('{"type": "Feature"}\n' * 2, "lines of JSON are not GeoJSON"),
    "deep": ("[" * 100_000, "it is not JSON: it is nested too deeply"),
    "a number": ("5", "it is not GeoJSON"),
    "a list of numbers": ("[5]", "it is not GeoJSON"),
    "another program's": ('{"tile_size": 256}', "it is not GeoJSON"),
    "no list of features": ('{"type": "FeatureCollection"}', "no list of features"),
    "a number beside a feature": (
        json.dumps([feature(), 5]),
        r"\[1\]: a feature: expected an object",
    ),
    "empty feature": (
        json.dumps({"type": "FeatureCollection", "features": [{}]}),
        r"features\[0\]: this is not a feature",
    ),
    "properties a list": (json.dumps(feature([1])), "properties: expected an object"),
    "name null": (json.dumps(feature({"name": None})), "properties.name: expected text, not null"),
    "name a list": (json.dumps(feature({"name": [1, 2]})), "properties.name: expected text"),
    "class without name": (
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [feature(), feature({"classification": {"color": [1, 2, 3]}})],
            }
        ),
        r"features\[1\]: classification",
    ),
    "class a number": (json.dumps(feature({"classification": 5})), "classification"),
    "measurement": (json.dumps(feature({"measurements": {"a": "x"}})), "measurements"),
    "measurement list": (json.dumps(feature({"measurements": [5]})), "measurement: expected"),
    "shape": (json.dumps(feature(geometry={"type": "Square"})), "no shape 'Square'"),
    "collection": (
        json.dumps(feature(geometry={"type": "GeometryCollection", "geometries": []})),
        "nothing is in the collection",
    ),
    "no coordinates": (json.dumps(feature(geometry={"type": "Polygon"})), "geometry"),
    "flat": (
        json.dumps(feature(geometry={"type": "Polygon", "coordinates": [[1, 2]]})),
        "geometry",
    ),
    "short ring": (
        json.dumps(feature(geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]})),
        "geometry",
    ),
    "text": (
        json.dumps(feature(geometry={"type": "Point", "coordinates": ["a", "b"]})),
        "geometry",
    ),
    "not finite": (
        json.dumps(feature(geometry={"type": "Point", "coordinates": [math.inf, 0]})),
        "not finite",
    ),
    "plane": (json.dumps(feature(geometry={**SQUARE, "plane": {"z": -1}})), "plane"),
    "plane a text": (json.dumps(feature(geometry={**SQUARE, "plane": "z1"})), "plane"),
    "child": (
        json.dumps(feature({"childObjects": [feature(), feature({"name": None})]})),
        r"properties\.childObjects\[1\]: properties\.name",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED_TEXTS.values(), ids=REFUSED_TEXTS)
def test_geojson_errors_name_the_place(tmp_path, text, message):
    with pytest.raises(ProjectError, match=message):
        loads(text)
    path = tmp_path / "a.geojson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProjectError, match=message) as caught:
        load(path)
    assert caught.value.path == path


def test_geojson_files_plain_gzip_and_zip(tmp_path):
    text = json.dumps({"type": "FeatureCollection", "features": [feature({"name": "ä"})]})
    plain = tmp_path / "a.geojson"
    plain.write_text(text, encoding="utf-8")
    packed = tmp_path / "a.geojson.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b.geojson", text)
        file.writestr("../../c.json", text)
        file.writestr("readme.txt", "no JSON")
    assert [each.name for each in load(plain)] == ["ä"]
    assert load(packed) == load(str(plain))
    assert [each.name for each in load(archive)] == ["ä", "ä"]
    for path in (plain, packed, archive):
        with pytest.raises(ProjectError, match="more than 10 bytes"):
            load(path, max_bytes=10)
    for path in (plain, packed, archive):
        assert load(path, max_bytes=200) == load(path)
    for path in (packed, archive):
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ProjectError, match="cannot be read"):
            load(path)
    with pytest.raises(ProjectError, match="cannot be read"):
        load(tmp_path / "none.geojson")


def zipped(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def test_geojson_archives_of_a_mac_and_packed_files_in_them(tmp_path):
    text = json.dumps(feature({"name": "a"}))
    path = zipped(
        tmp_path / "a.zip",
        **{
            "a.geojson": text,
            "b/b.geojson.gz": gzip.compress(text.encode()),
            "c/c.json": text,
            "__MACOSX/._a.geojson": b"\0\5\26\7 no JSON",
            "b/._b.geojson": b"\0\5\26\7 no JSON",
            "readme.txt": "no JSON",
        },
    )
    found = read_geojson(path)
    assert [each.name for each in found.objects] == ["a", "a", "a"]
    assert found.problems == ()


BAD_ENTRIES = {
    "b.geojson": "{",
    "c.json": '{"tile_size": 256}',
    "d.geojson": b"\xe9\xe9",
    "e.geojson.gz": gzip.compress(b"[]")[:-9],
}


def test_geojson_bad_file_beside_good_ones_is_named(tmp_path):
    text = json.dumps(feature({"name": "a"}))
    path = zipped(tmp_path / "a.zip", **{"a.geojson": text}, **BAD_ENTRIES)
    found = read_geojson(path)
    assert [each.name for each in found.objects] == ["a"]
    assert len(found.problems) == len(BAD_ENTRIES)
    for name, problem in zip(BAD_ENTRIES, found.problems, strict=True):
        assert problem.startswith(f"{path}: {name} was not read: ")
    with pytest.raises(ProjectError, match=r"b\.geojson was not read: it is not JSON"):
        load(zipped(tmp_path / "b.zip", **BAD_ENTRIES))
    with pytest.raises(ProjectError, match="no file in it ends in"):
        load(zipped(tmp_path / "c.zip", **{"readme.txt": "a"}))


def test_geojson_bad_feature_in_an_archive_is_an_error_with_its_place(tmp_path):
    path = zipped(
        tmp_path / "a.zip",
        **{"a.geojson": json.dumps(feature()), "b.geojson": json.dumps([feature(), 5])},
    )
    with pytest.raises(ProjectError, match=r"b\.geojson: \[1\]: a feature"):
        load(path)


def test_geojson_damaged_entry_of_an_archive_is_named(tmp_path):
    text = json.dumps(feature({"name": "a" * 50}))
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.geojson", text)
        file.writestr("b.geojson", text)
    data = path.read_bytes()
    place = data.rindex(b"aaaaa", 0, data.rindex(b"PK\1\2"))  # the checksum no longer fits
    path.write_bytes(data[:place] + b"b" + data[place + 1 :])
    found = read_geojson(path)
    assert len(found.objects) == 1
    (problem,) = found.problems
    assert "b.geojson was not read: Bad CRC-32" in problem


@pytest.mark.parametrize("ending", ["geojson.gz", "zip", "inner zip"])
def test_geojson_packed_text_that_would_fill_the_memory_is_refused(tmp_path, ending):
    import tracemalloc

    blanks = b" " * (1 << 20)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as stream:
        for _ in range(200):  # 200 MiB of text in 200 KiB
            stream.write(blanks)
    path = tmp_path / f"a.{ending.split()[-1]}"
    if ending == "geojson.gz":
        path.write_bytes(packed.getvalue())
    elif ending == "zip":
        zipped(path, **{"a.geojson": blanks * 200})
    else:
        zipped(path, **{"a.geojson.gz": packed.getvalue()})
    tracemalloc.start()
    try:
        with pytest.raises(ProjectError, match=f"more than {1 << 26} bytes of text"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_geojson_only_regular_files_are_read(tmp_path):
    with pytest.raises(ProjectError, match="not a regular file"):
        load(tmp_path)
    pipe = tmp_path / "a.geojson"
    os.mkfifo(pipe)
    with pytest.raises(ProjectError, match="not a regular file"):
        load(pipe)


def test_geojson_bad_features_are_skipped_and_named(tmp_path):
    bad = [feature({"name": None, "childObjects": [feature({"name": "child"})]}, id=ID)]
    bad += [feature(geometry={"type": "Square"}), 5, feature({"measurements": [5]})]
    texts = {"type": "FeatureCollection", "features": [feature({"name": "a"}), *bad]}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(texts), encoding="utf-8")
    with pytest.raises(ProjectError, match=r"features\[1\]: .* option skip_bad_features"):
        load(path)
    found = read_geojson(path, skip_bad_features=True)
    assert [(each.name, each.parent) for each in found.objects] == [("a", -1), ("child", -1)]
    (problem,) = found.problems
    assert problem.startswith(f"{path}: 4 features skipped: features[1]: properties.name")
    assert "features[2]: geometry: QuPath has no shape 'Square'; features[3]:" in problem
    assert problem.endswith(" and 1 more")
    path.write_text(json.dumps(bad[1]), encoding="utf-8")
    with pytest.raises(ProjectError, match="no feature can be read"):
        load(path, skip_bad_features=True)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ProjectError, match="it is not GeoJSON"):
        load(path, skip_bad_features=True)


# --- the gate -------------------------------------------------------------------------------

GOOD = {
    "type": "Feature",
    "id": ID,
    "geometry": {**SQUARE, "plane": {"c": -1, "z": 1, "t": 2}},
    "properties": {
        "objectType": "tile",
        "name": "1_A_x0_y0",
        "color": [1, 2, 3],
        "classification": {"names": ["Tumor", "Positive"], "color": [200, 0, 0]},
        "isLocked": True,
        "measurements": {"qb: label share": 0.5},
        "metadata": {"qb.run": "r"},
    },
}
GONE = object()

TUMOR = {"name": "Tumor", "color": [200, 0, 0]}
HALF = "properties.measurements"
CLASS = "properties.classification"
RING = "geometry.coordinates"
FINE = [[[0, 0], [10, 0], [10, 5.004], [10, 10], [0, 0]]]
BOW_TIE = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]

# One mutation of a good feature a rule: where, what stands there, what the gate says of it, and
# what QuPath 0.6 and 0.7 do. "refuses": not one object of the file comes in. "imports": it comes
# in as something else, a part of it is lost, or (where it says so) an older QuPath refuses it.
FAR = [[[200000.37, 0], [200000.67, 0], [200000.67, 1], [200000.37, 1], [200000.37, 0]]]
FAULTS = {
    "id null": ("id", None, "id is null", "refuses"),
    "id missing": ("id", GONE, "not a UUID", "imports"),
    "id no UUID": ("id", "1_A_x0_y0", "not a UUID", "imports"),
    "id upper case": ("id", ID.upper(), "not a UUID", "imports"),  # one spelling for one id
    "id short": ("id", "1-2-3-4-5", "not a UUID", "imports"),
    "no feature": ("type", "feature", "not 'Feature'", "imports"),  # GeoJSON's own rule
    "properties null": ("properties", None, "properties is null", "refuses"),
    "properties missing": ("properties", GONE, "no properties", "imports"),
    "geometry null": ("geometry", None, "geometry is null", "refuses"),
    "geometry missing": ("geometry", GONE, "no geometry", "refuses"),
    "unknown member": ("note", "x", "'note', which QuPath drops", "imports"),
    "unknown property": ("properties.note", "x", "'note', which QuPath drops", "imports"),
    "type null": ("properties.objectType", None, "objectType is null", "refuses"),
    "type missing": ("properties.objectType", GONE, "no objectType", "imports"),
    "type unknown": ("properties.objectType", "patch", "cannot be imported", "imports"),
    "type core": ("properties.objectType", "tmaCore", "cannot be imported", "imports"),
    "type root": ("properties.objectType", "root", "cannot be imported", "imports"),
    "name null": ("properties.name", None, "name is null", "refuses"),
    "name empty": ("properties.name", "", "not text", "imports"),  # no name is better
    "name a number": ("properties.name", 5, "not text", "imports"),
    "class null": (CLASS, None, "classification is null", "imports"),
    "class a text": (CLASS, "Tumor", "not an object", "imports"),
    "class without colour": (CLASS, {"name": "Tumor"}, "no color", "refuses"),
    "class without name": (CLASS, {"color": [1, 2, 3]}, "no name", "refuses"),
    "class name empty": (f"{CLASS}.names", ["Tumor", ""], "empty name", "refuses"),
    "class name blank": (f"{CLASS}.names", ["Tumor", " "], "empty name", "refuses"),
    "class line break": (CLASS, {**TUMOR, "name": "Tu\nmor"}, "line break", "refuses"),
    "class return": (CLASS, {**TUMOR, "name": "Tu\rmor"}, "line break", "refuses"),
    "class spaces": (CLASS, {**TUMOR, "name": " Tumor"}, "would become 'Tumor'", "imports"),
    "class colon": (f"{CLASS}.names", ["A:x", "B"], "contains a ':'", "refuses"),
    "class colon in name": (CLASS, {**TUMOR, "name": "A: B"}, "contains a ':'", "imports"),
    "class names a text": (f"{CLASS}.names", "Tumor", "no name", "refuses"),
    "class names none": (f"{CLASS}.names", [], "no name", "imports"),
    "class names a number": (f"{CLASS}.names", [5], "no name", "imports"),
    "class unknown key": (f"{CLASS}.parent", "x", "which QuPath drops", "imports"),
    "class colour null": (f"{CLASS}.color", None, "color is null", "imports"),
    "class colour of two": (f"{CLASS}.color", [1, 2], "not red, green and blue", "refuses"),
    "class colour a text": (f"{CLASS}.color", "red", "not red, green and blue", "refuses"),
    "class colour too large": (f"{CLASS}.color", [300, 0, 0], "not red, green", "imports"),
    "class colour fraction": (f"{CLASS}.color", [1.5, 0, 0], "not red, green", "imports"),
    "colour of two": ("properties.color", [1, 2], "not red, green and blue", "imports"),
    "colour a text": ("properties.color", "red", "not red, green and blue", "refuses"),
    "locked a text": ("properties.isLocked", "yes", "neither true nor false", "imports"),
    "measurement null": (f"{HALF}.x", None, "x is null", "imports"),
    "measurement NaN": (f"{HALF}.x", math.nan, "not finite", "imports"),  # 0.4 refuses it
    "measurement 'NaN'": (f"{HALF}.x", "NaN", "not a number", "imports"),  # 0.4 refuses it
    "measurement infinite": (f"{HALF}.x", math.inf, "not finite", "imports"),  # 0.4 refuses it
    "measurement large": (f"{HALF}.x", 1e39, "not finite in QuPath", "imports"),
    "measurement a text": (f"{HALF}.x", "x", "not a number", "refuses"),
    "measurement a truth": (f"{HALF}.x", True, "not a number", "imports"),
    "measurement unnamed": (HALF, {"": 1.0}, "has no name", "imports"),  # nobody could find it
    "measurements a list": (HALF, [1.0], "not an object", "refuses"),
    "metadata nested": ("properties.metadata.x", {"a": 1}, "not text", "imports"),
    "metadata a number": ("properties.metadata.x", 5, "not text", "imports"),
    "metadata null": ("properties.metadata.x", None, "x is null", "imports"),
    "metadata a list": ("properties.metadata", ["x"], "not an object", "imports"),
    "shape unknown": ("geometry.type", "Square", "cannot import or export", "refuses"),
    "collection": (
        "geometry",
        {"type": "GeometryCollection", "geometries": [SQUARE]},
        "cannot import or export a GeometryCollection",
        "refuses",
    ),
    "several lines": (  # no QuPath up to 0.7 can export it again
        "geometry",
        {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]},
        "cannot import or export a MultiLineString",
        "imports",
    ),
    "unknown key of a shape": ("geometry.crs", "x", "which QuPath drops", "imports"),
    "ellipse a text": ("geometry.isEllipse", "yes", "neither true nor false", "imports"),
    "no coordinates": ("geometry.coordinates", GONE, "not nested", "refuses"),
    "no ring": (RING, [], "not nested", "imports"),
    "empty ring": (RING, [[]], "not nested", "imports"),
    "flat": (RING, [[0, 0], [10, 0], [10, 10], [0, 0]], "not nested", "refuses"),
    # QuPath drops a third coordinate; ours has none to write
    "third coordinate": (RING, [[[0, 0, 1], [9, 0, 1], [9, 9, 1], [0, 0, 1]]], "nested", "imports"),
    "coordinate null": (RING, [[[0, None], [9, 0], [9, 9], [0, None]]], "not nested", "refuses"),
    "coordinate a text": (RING, [[["a", 0], [9, 0], [9, 9], ["a", 0]]], "not nested", "refuses"),
    "coordinate a truth": (RING, [[[True, 0], [9, 0], [9, 9], [True, 0]]], "not nested", "refuses"),
    "not finite": (RING, [[[0, 0], [math.inf, 0], [9, 9], [0, 0]]], "not finite", "imports"),
    "too fine": (RING, FINE, "finer than 0.01 px", "imports"),
    "vanishes": (RING, [[[0, 0], [0.001, 0], [0, 0.001], [0, 0]]], "finer than 0.01", "imports"),
    "open ring": (RING, [[[0, 0], [10, 0], [10, 10], [0, 10]]], "not closed", "refuses"),
    "short ring": (RING, [[[0, 0], [10, 0], [0, 0]]], "fewer than four points", "imports"),
    "no area": (RING, [[[0, 0], [10, 0], [5, 0], [0, 0]]], "not valid", "imports"),
    "bow tie": (RING, BOW_TIE, "not valid: Self-intersection", "refuses"),
    "hole outside": (
        RING,
        [SQUARE["coordinates"][0], [[20, 20], [30, 20], [30, 30], [20, 20]]],
        "not valid: Hole lies outside",
        "refuses",
    ),
    "parts overlap": (
        "geometry",
        {
            "type": "MultiPolygon",
            "coordinates": [SQUARE["coordinates"], [[[5, 5], [15, 5], [15, 15], [5, 5]]]],
        },
        "not valid",
        "refuses",
    ),
    "line of one point": (
        "geometry", {"type": "LineString", "coordinates": [[0, 0]]}, "no length", "refuses",
    ),
    "line without length": (
        "geometry", {"type": "LineString", "coordinates": [[0, 0], [0, 0]]}, "no length", "imports",
    ),
    "plane null": ("geometry.plane", None, "plane is null", "refuses"),
    "plane a text": ("geometry.plane", "z1", "whole numbers", "refuses"),
    "plane a fraction": ("geometry.plane.z", 0.5, "whole numbers", "imports"),
    "plane unknown key": ("geometry.plane.x", 1, "which QuPath drops", "refuses"),
    "plane z below 0": ("geometry.plane.z", -1, "a negative index", "refuses"),
    "plane t below 0": ("geometry.plane.t", -1, "a negative index", "refuses"),
    # QuPath reads 2**40 as 0.
    "plane z of 41 bits": ("geometry.plane.z", 2**40, "more than 32 bits", "imports"),
    "plane t of 32 bits": ("geometry.plane.t", 2**31, "more than 32 bits", "refuses"),
    "plane c of 41 bits": ("geometry.plane.c", 2**40, "more than 32 bits", "imports"),
    "sliver that is emptied": (RING, [[[0, 0], [0.01, 0], [0, 0.01], [0, 0]]], "narrow", "imports"),
    "narrow sliver": (RING, [[[0, 0], [90, 90], [0, 0.01], [0, 0]]], "narrow", "imports"),
    "far away": (RING, FAR, "32 bits", "imports"),
    "line far away": (
        "geometry", {"type": "LineString", "coordinates": FAR[0][:2]}, "32 bits", "imports",
    ),
    "plane c below -1": ("geometry.plane.c", -2, "a negative index", "refuses"),
}  # fmt: skip


def mutated(path, value):
    whole = copy.deepcopy(GOOD)
    *folders, key = path.split(".")
    place = whole
    for folder in folders:
        place = place[folder]
    if value is GONE:
        del place[key]
    else:
        place[key] = value
    return whole


def test_gate_accepts_a_valid_feature():
    assert feature_problems(GOOD) == []
    check_feature(GOOD)


@pytest.mark.parametrize(("path", "value", "message", "_"), FAULTS.values(), ids=FAULTS)
def test_gate_refuses_invalid_features(path, value, message, _):
    bad = mutated(path, value)
    problems = feature_problems(bad)
    assert any(message in problem for problem in problems), problems
    with pytest.raises(OutputError, match="cannot be written"):
        check_feature(bad)


@pytest.mark.parametrize("place", ["properties.name", "properties.metadata.x"])
def test_gate_refuses_text_that_is_not_unicode(place):
    assert "'\\ud800'" in " ".join(feature_problems(mutated(place, "\ud800")))


# --- writing --------------------------------------------------------------------------------


def item(shape="POLYGON ((0 0, 9 0, 9 9, 0 0))", **values):
    defaults = {
        "id": ID,
        "object_type": ObjectType.ANNOTATION,
        "roi": None if shape is None else make_roi(shapely.from_wkt(shape)),
    }
    return PathObject(**{**defaults, **values})


OBJECTS = (
    item(
        name='é 中 😀 "\\\n',
        class_path="Tumor: Positive",
        class_color=pack_rgb(1, 2, 3),
        color=pack_rgb(4, 5, 6),
        locked=True,
        measurements={"a": 0.1, "b": 1e-300},
        metadata={"k": "v"},
        description="said",
    ),
    item(
        id="00000000-0000-4000-8000-000000000001",
        shape="POLYGON ((0 0, 9 0, 9 9, 0 0), (8 2, 8 3, 7 2, 8 2))",
        object_type=ObjectType.CELL,
        nucleus=make_roi(shapely.box(1, 2, 3, 4)),
    ),
    item(
        id="00000000-0000-4000-8000-000000000002",
        shape="MULTIPOINT ((1 2), (3 4.5))",
        roi=make_roi(shapely.from_wkt("MULTIPOINT ((1 2), (3 4.5))"), Plane(1, 2), channel=0),
        class_path="Stroma",
    ),
    item(
        id="00000000-0000-4000-8000-000000000003",
        roi=make_roi(shapely.box(0, 0, 40, 20), ellipse=True),
        object_type=ObjectType.DETECTION,
    ),
    item(id="00000000-0000-4000-8000-000000000004", shape="LINESTRING (0 0, 3 4)"),
    item(
        id="00000000-0000-4000-8000-000000000005",
        shape="MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0)), ((20 0, 30 0, 30 10, 20 0)))",
        object_type=ObjectType.TILE,
    ),
)


def test_geojson_written_is_read_back():
    text = dumps(OBJECTS)
    back = loads(text)
    assert len(back) == len(OBJECTS)
    for written, read in zip(OBJECTS, back, strict=True):
        for key in ("id", "object_type", "class_path", "name", "roi", "color", "locked"):
            assert getattr(read, key) == getattr(written, key), key
        assert read.nucleus == written.nucleus
        assert read.description == written.description
        assert read.measurements == dict(written.measurements)
    assert back[0].metadata == {"k": "v", "ANNOTATION_DESCRIPTION": "said"}
    assert back[0].class_color == pack_rgb(1, 2, 3)
    assert back[2].class_color == pack_rgb(*default_rgb("Stroma"))


def test_geojson_written_is_valid_geojson():
    collection = geojson.loads(dumps(OBJECTS, indent=1))
    assert isinstance(collection, geojson.FeatureCollection)
    assert collection.is_valid, collection.errors()
    assert all(isinstance(each, geojson.Feature) for each in collection["features"])


def test_geojson_measurements_that_are_not_finite_are_left_out():
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 2.0}
    assert to_feature(item(measurements=values))["properties"]["measurements"] == {"d": 2.0}
    assert "measurements" not in to_feature(item(measurements={"a": math.nan}))["properties"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (item(shape=None), "geometry is null"),
        (item(shape="POLYGON ((0 0, 10 10, 10 0, 0 10, 0 0))"), "not valid"),
        (item(shape="POLYGON EMPTY"), "not nested"),
        (item(shape="MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))"), "MultiLineString"),
        (item(class_path="Tumor: "), "empty name"),
        (item(class_path="A:B"), "contains a ':'"),
        (item(class_path="A "), "would become 'A'"),
        (item(id="x"), "not a UUID"),
        (item(object_type=ObjectType.TMA_CORE), "cannot be imported"),
    ],
)
def test_gate_refuses_invalid_objects(bad, message):
    with pytest.raises(OutputError, match=message):
        dumps([bad])


def test_geojson_repeated_ids_are_refused():
    with pytest.raises(OutputError, match=f"the id {ID}"):
        dumps([item(), item()])


# --- tiles ----------------------------------------------------------------------------------

RUN = "01JD3M9T8Z7Y6X5W4V3T2S1R0Q"


def tile(number=0, **values):
    defaults = {
        "id": str(uuid.UUID(int=number)),
        "box": Box(256 * number, 512, 256, 256),
        "name": f"1_A_x{256 * number}_y512",
        "class_path": "Tumor",
        "color": (200, 0, 0),
        "measurements": {"qb: label share": 0.93, "qb: Tumor": 0.93},
        "metadata": {"qb.run": RUN, "qb.path": "patches/1_A/Tumor/x.png"},
    }
    return Tile(**{**defaults, **values})


def text_of(data: bytes) -> str:
    return gzip.decompress(data).decode("utf-8")


def test_tiles_geojson_bytes_of_one_tile():
    data = tiles_geojson([tile(1)])
    assert json.loads(text_of(data)) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": "00000000-0000-0000-0000-000000000001",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[256, 512], [512, 512], [512, 768], [256, 768], [256, 512]]],
                },
                "properties": {
                    "objectType": "tile",
                    "name": "1_A_x256_y512",
                    "classification": {"name": "Tumor", "color": [200, 0, 0]},
                    "measurements": {"qb: label share": 0.93, "qb: Tumor": 0.93},
                    "metadata": {"qb.run": RUN, "qb.path": "patches/1_A/Tumor/x.png"},
                },
            }
        ],
    }


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2500])
def test_tiles_geojson_of_any_number_of_tiles(count):
    stream = io.BytesIO()
    assert write_tiles(stream, (tile(n) for n in range(count))) == count
    assert not stream.closed
    features = json.loads(text_of(stream.getvalue()))["features"]
    assert [each["id"] for each in features] == [str(uuid.UUID(int=n)) for n in range(count)]


def test_tiles_geojson_bytes_depend_only_on_the_tiles(tmp_path):
    tiles = [tile(n) for n in range(10)]
    first = tiles_geojson(tiles)
    path = tmp_path / "named.geojson.gz"
    with path.open("wb") as stream:
        write_tiles(stream, iter(tiles))
    assert path.read_bytes() == first
    assert first[3] == 0  # no file name, no comment
    assert first[4:8] == bytes(4)  # no time
    assert load(path)[3].name == tiles[3].name


def test_tiles_geojson_leaves_out_empty_members():
    bare = tile(class_path=None, color=None, name="", measurements={"x": math.nan}, metadata={})
    (only,) = json.loads(text_of(tiles_geojson([bare])))["features"]
    assert only["properties"] == {"objectType": "tile"}


def test_tiles_geojson_planes_and_derived_classes():
    shown = tile(plane=Plane(1, 2), class_path="Tumor: Positive", color=None)
    (only,) = json.loads(text_of(tiles_geojson([shown])))["features"]
    assert only["geometry"]["plane"] == {"c": -1, "z": 1, "t": 2}
    assert only["properties"]["classification"] == {
        "names": ["Tumor", "Positive"],
        "color": list(default_rgb("Tumor: Positive")),
    }


def test_tiles_geojson_accepts_numpy_numbers():
    plain = tile(measurements={"a": 0.1})
    numpy = tile(
        box=Box(*np.array(plain.box)),
        plane=Plane(*np.array([0, 0])),
        measurements={"a": np.float64(0.1)},
    )
    assert tiles_geojson([numpy]) == tiles_geojson([plain])


BAD_TILES = {
    "id": (tile(id="x"), "not a UUID"),
    "id upper case": (tile(id=ID.upper()), "not a UUID"),
    "no width": (tile(box=Box(0, 0, 0, 5)), "no area"),
    "negative height": (tile(box=Box(0, 0, 5, -5)), "no area"),
    "fraction": (tile(box=Box(0.5, 0, 5, 5)), "whole pixels"),
    "plane": (tile(plane=Plane(-1, 0)), "a negative index"),
    "plane of 41 bits": (tile(plane=Plane(2**40, 0)), "more than 32 bits"),
    "class": (tile(class_path="Tumor: "), "empty name"),
    "class line break": (tile(class_path="Tu\nmor"), "line break"),
    "colour": (tile(color=(256, 0, 0)), "not red, green and blue"),
    "colour of two": (tile(color=(1, 2)), "not red, green and blue"),
    "large": (tile(measurements={"a": 1e39}), "more than QuPath can hold"),
    "unnamed": (tile(measurements={"": 1.0}), "has no name"),
    "name": (tile(name="\ud800"), "UTF-8"),
    "metadata": (tile(metadata={"a": "\udfff"}), "UTF-8"),
    "metadata key": (tile(metadata={"\udfff": "a"}), "UTF-8"),
    "measurement name": (tile(measurements={"\udfff": 1.0}), "UTF-8"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_TILES.values(), ids=BAD_TILES)
def test_tiles_geojson_refuses_invalid_tiles(bad, message):
    with pytest.raises(OutputError, match=message):
        tiles_geojson([tile(5), bad])


def test_tiles_geojson_refuses_repeated_ids():
    with pytest.raises(OutputError, match="another tile has this id"):
        tiles_geojson([tile(1), tile(2), tile(1)])


texts = st.text(max_size=8)
numbers = st.floats(allow_nan=True, allow_infinity=True)
anything = st.builds(
    Tile,
    id=st.uuids().map(str) | st.just("x"),
    box=st.builds(Box, *[st.integers(-5, 100_000)] * 4),
    plane=st.builds(Plane, st.integers(-1, 3), st.integers(-1, 3)),
    name=texts,
    class_path=st.none() | texts | st.sampled_from(["Tumor", "Tumor: Positive", "Region*"]),
    color=st.none() | st.tuples(*[st.integers(-1, 256)] * 3),
    measurements=st.dictionaries(texts, numbers, max_size=3),
    metadata=st.dictionaries(texts, texts, max_size=3),
)


@given(anything)
def test_tiles_geojson_and_gate_agree(some):
    """Whatever is asked for: it is refused, or what is written passes the gate."""
    try:
        text = text_of(tiles_geojson([some]))
    except OutputError:
        return
    (written,) = geojson.loads(text)["features"]
    assert feature_problems(written) == []


@given(anything)
def test_tiles_geojson_and_geojson_package_agree(some):
    """Both ways write the same, or both refuse."""
    x, y, w, h = some.box
    ring = [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
    same = PathObject(
        id=some.id,
        object_type=ObjectType.TILE,
        class_path=some.class_path,
        class_color=pack_rgb(*some.color) if some.color and some.class_path is not None else None,
        name=some.name,
        roi=Roi(RoiKind.RECTANGLE, shapely.Polygon(ring), some.plane),
        measurements=some.measurements,
        metadata=some.metadata,
    )
    colors_are_fine = some.class_path is None or all(0 <= c <= 255 for c in some.color or ())
    try:
        model = json.loads(dumps([same]))
    except OutputError:
        model = None
    if min(w, h) < 1 or not colors_are_fine:
        model = None  # a box can be turned inside out, and packed colours have no faults
    try:
        quick = json.loads(text_of(tiles_geojson([some])))
    except OutputError:
        quick = None
    assert quick == model


def test_tiles_geojson_memory_of_100_000_tiles_is_bounded():
    """Constant memory: what is traced at the peak does not grow with the number of tiles."""
    import tracemalloc

    def peak(count):
        tracemalloc.start()
        try:
            write_tiles(io.BytesIO(), (tile(n) for n in range(count)))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(2_000), peak(8_000)
    # Ids are remembered to find doubles, and the packed bytes lie in the stream: ~0.5 KB a tile.
    assert (many - few) / 6_000 < 1_000


def test_tiles_geojson_names_a_tile_that_is_not_unicode():
    tiles = [*(tile(n) for n in range(5)), tile(7, name="odd\ud800")]
    with pytest.raises(OutputError, match=r"0007 \('odd\\ud800'\) cannot .* UTF-8"):
        tiles_geojson(tiles)


def test_message_of_another_library_ends_with_one_full_stop(tmp_path):
    path = tmp_path / "A.geojson"
    shape = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}
    good = {"type": "Point", "coordinates": [1, 1]}
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in (shape, good)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(ProjectError, match=r"4 coordinates\. Correct it") as caught:
        read_geojson(path)
    assert ".." not in str(caught.value)
    (problem,) = read_geojson(path, skip_bad_features=True).problems
    assert problem.endswith("4 coordinates")
