"""New data files: read back by us, read by a real QuPath where there is one, and the rules."""

import json
import math
import struct
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from qupath_bridge.errors import OutputError
from qupath_bridge.model import ImageData, ObjectType, PathObject, Plane, Roi, RoiKind, TmaGrid
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.rules import IMAGE_TYPES
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.testing.data_files import cell_file, every_kind, tissue_microarray

DUMP = Path(__file__).parents[2] / "qupath" / "dump_data.groovy"
DESCRIPTORS = Path(__file__).parents[2] / "data" / "qupath-class-descriptors.json"
SERVER = {"builderType": "uri", "uri": "file:/slides/a%20b.svs", "args": []}
ID = "11111111-2222-4333-8444-555555555555"
SQUARE = shapely.box(0, 0, 4, 4)
IMAGES = {"every kind": every_kind, "microarray": tissue_microarray, "empty": ImageData}


def facts(each):
    """Everything of an object but its shapes; NaN equals NaN."""
    left = replace(each, roi=None, nucleus=None, measurements={}, metadata={})
    measurements = {name: repr(value) for name, value in each.measurements.items()}
    return left, measurements, dict(each.metadata)


def same_roi(ours, theirs):
    if ours is None or theirs is None:
        return ours is theirs
    return (ours.kind, ours.plane, ours.channel) == (
        theirs.kind,
        theirs.plane,
        theirs.channel,
    ) and ours.geometry.normalize().equals_exact(theirs.geometry.normalize())


@pytest.mark.parametrize("name", IMAGES)
def test_data_file_written_is_read_back(name):
    image = IMAGES[name]()
    data = encode_image_data(image, server=SERVER, properties={"PROJECT_ENTRY_ID": "a::1"})
    read = decode_image_data(data, detections=True)
    for ours, theirs in zip(image.objects, read.objects, strict=True):
        assert facts(ours) == facts(theirs)
        assert same_roi(ours.roi, theirs.roi)
        assert same_roi(ours.nucleus, theirs.nucleus)
    assert read.tma_grid == image.tma_grid
    assert read.image_type == (image.image_type or "UNSET")
    assert (read.stains or {}).get("text") == (image.stains or {}).get("text")
    assert read.properties == {**image.properties, "PROJECT_ENTRY_ID": "a::1"}
    assert (read.version, read.qupath_version, read.workflow) == (3, "0.7.0", ())
    assert read.problems == ()


def test_data_file_of_the_same_values_has_the_same_bytes():
    assert encode_image_data(every_kind()) == encode_image_data(every_kind())


def test_data_file_read_can_be_written_again():
    first = encode_image_data(every_kind(), server=SERVER)
    again = encode_image_data(decode_image_data(first, detections=True), server=SERVER)
    assert again == encode_image_data(decode_image_data(again, detections=True), server=SERVER)
    assert len(again) == len(first)


def specs():
    """All classes that are written, and their super classes."""
    found = [value for value in vars(schema).values() if isinstance(value, schema.ClassSpec)]
    found += [*schema.OBJECT_CLASSES.values(), *schema.ROI_CLASSES.values()]
    while found:
        spec = found.pop()
        yield spec
        found += [spec.parent] if spec.parent else []


def test_data_file_class_descriptors_equal_qupaths():
    """QuPath refuses a file over any difference; these are taken from files of six versions."""
    known = {each["name"]: each for each in json.loads(DESCRIPTORS.read_text(encoding="utf-8"))}
    written = {spec.name: spec for spec in specs()}
    assert len(written) > 30
    for name, spec in written.items():
        theirs = known[name]
        assert (spec.suid, spec.flags) == (theirs["suid"], theirs["flags"]), name
        assert (spec.parent and spec.parent.name) == theirs["super"], name
        fields = [(field, signature or code) for code, field, signature in theirs["fields"]]
        assert list(spec.fields) == fields, name


def test_data_file_has_server_and_version():
    data = encode_image_data(ImageData(), server=SERVER, qupath_version="0.5.1")
    start = data.index(b'{"dataVersion"')
    (length,) = struct.unpack(">H", data[start - 2 : start])
    stored = json.loads(data[start : start + length])
    assert stored == {"dataVersion": 3, "qupathVersion": "0.5.1", "server": SERVER}


def test_data_file_with_a_long_server_text():
    server = {"builderType": "uri", "uri": "file:/" + "é" * 70_000}
    assert (
        decode_image_data(encode_image_data(ImageData(), server=server)).qupath_version == "0.7.0"
    )


def test_data_file_with_many_properties():
    properties = {f"key {i}": f"text {i}" for i in range(40)}
    data = encode_image_data(ImageData(), properties=properties)
    assert decode_image_data(data).properties == properties


def test_data_file_writes_shared_values_once():
    """Names, classes, texts: a tile with two measurements costs less than 250 bytes."""
    tiles = [
        PathObject(
            id=str(uuid.UUID(int=i)),
            object_type=ObjectType.TILE,
            class_path="Tumor: Positive",
            roi=Roi(RoiKind.RECTANGLE, shapely.box(i, 0, i + 9, 9)),
            measurements={"tumour share": i / 7, "margin": 0.5},
        )
        for i in range(100)
    ]
    data = encode_image_data(ImageData(tuple(tiles)))
    assert len(data) < 3000 + 100 * 250
    for shared in (b"tumour share", b"Positive", b"PathTileObject", b"Object ID"):
        assert data.count(shared) == 1


def test_data_file_has_colours_of_parent_classes():
    data = encode_image_data(
        ImageData((
            PathObject(ID, ObjectType.ANNOTATION, "A: B", roi=Roi(RoiKind.RECTANGLE, SQUARE),
                       class_color=-7),
            PathObject(ID.replace("1", "2"), ObjectType.ANNOTATION, "A", class_color=-9,
                       roi=Roi(RoiKind.RECTANGLE, SQUARE)),
        ))
    )  # fmt: skip
    read = decode_image_data(data).objects
    assert [(o.class_path, o.class_color) for o in read] == [("A: B", -7), ("A", -9)]


def test_data_file_writes_the_description_as_metadata():
    """Whichever of the two is given, QuPath shows the description."""
    square = Roi(RoiKind.RECTANGLE, SQUARE)
    given = PathObject(ID, ObjectType.ANNOTATION, roi=square, description="here")
    (read,) = decode_image_data(encode_image_data(ImageData((given,)))).objects
    assert read.description == read.metadata["ANNOTATION_DESCRIPTION"] == "here"


def test_data_file_of_deep_nesting_needs_no_recursion():
    square = Roi(RoiKind.RECTANGLE, SQUARE)
    objects = tuple(
        PathObject(str(uuid.UUID(int=i)), ObjectType.ANNOTATION, roi=square, parent=i - 1)
        for i in range(5000)
    )
    read = decode_image_data(encode_image_data(ImageData(objects)))
    assert [o.parent for o in read.objects] == list(range(-1, 4999))


# --- the rules ------------------------------------------------------------------------------

ANNOTATION = PathObject(ID, ObjectType.ANNOTATION, roi=Roi(RoiKind.RECTANGLE, SQUARE))
CORE = replace(ANNOTATION, object_type=ObjectType.TMA_CORE)
DONUT = SQUARE.difference(shapely.box(1, 1, 2, 2))
BOW_TIE = shapely.Polygon([(0, 0), (5, 5), (5, 0), (0, 5)])


def roi(kind, geometry, **rest):
    return replace(ANNOTATION, roi=Roi(RoiKind(kind), geometry, **rest))


REFUSED = {
    "root": (replace(ANNOTATION, object_type=ObjectType.ROOT), "must not be listed"),
    "parent": (replace(ANNOTATION, parent=0), "parent 0 is not listed before it"),
    "parent below": (replace(ANNOTATION, parent=-2), "parent -2"),
    "id": (replace(ANNOTATION, id="17"), "'17' is not a UUID"),
    "upper case id": (replace(ANNOTATION, id=ID.replace("5", "A")), "lower case"),
    "empty class part": (replace(ANNOTATION, class_path="A: "), "empty name"),
    "empty class": (replace(ANNOTATION, class_path=""), "empty name"),
    "line break": (replace(ANNOTATION, class_path="A\nB"), "line break"),
    "space": (replace(ANNOTATION, class_path=" A"), "would become 'A'"),
    "colon": (replace(ANNOTATION, class_path="A:B"), "would become 'A: B'"),
    "colour": (replace(ANNOTATION, color=1 << 31), "colour 2147483648"),
    "class colour": (replace(ANNOTATION, class_color=-(1 << 31) - 1), "colour"),
    "own metadata": (replace(ANNOTATION, metadata={"Object ID": "x"}), "reserved by QuPath"),
    "no roi": (replace(ANNOTATION, roi=None), "has no ROI"),
    "nucleus": (replace(ANNOTATION, nucleus=ANNOTATION.roi), "only cells have a nucleus"),
    "missing": (replace(ANNOTATION, missing=True), "only TMA cores can be missing"),
    "core without grid": (CORE, "outside the TMA grid"),
    "channel": (roi("Rectangle", SQUARE, channel=-2), "invalid plane"),
    "z": (roi("Rectangle", SQUARE, plane=Plane(-1, 0)), "invalid plane"),
    "t": (roi("Rectangle", SQUARE, plane=Plane(0, 1 << 31)), "invalid plane"),
    "empty": (roi("Polygon", shapely.Polygon()), "is empty"),
    "NaN": (roi("Points", shapely.MultiPoint([(0, 0), (math.inf, 1)])), "invalid pixel"),
    "far": (roi("Points", shapely.Point(1e10, 0)), "invalid pixel"),
    "kind": (roi("Polygon", shapely.Point(1, 1)), "of kind Polygon is a Point"),
    "collection": (roi("Geometry", shapely.GeometryCollection([SQUARE])), "GeometryCollection"),
    "hole": (roi("Polygon", DONUT), "has a hole"),
    "two points": (roi("Polygon", shapely.Polygon([(0, 0), (1, 1), (0, 0), (1, 1)])), "fewer than"),
    "invalid": (roi("Geometry", BOW_TIE), "not valid: Self-intersection"),
    "no box": (roi("Rectangle", BOW_TIE), "Rectangle does not fill"),
    "no ellipse": (roi("Ellipse", SQUARE), "Ellipse does not fill"),
    "no line": (roi("Line", shapely.LineString([(0, 0), (1, 1), (2, 0)])), "has 3 points"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_data_file_rules_refuse_invalid_objects(case):
    bad, problem = REFUSED[case]
    with pytest.raises(OutputError, match=problem) as caught:
        encode_image_data(ImageData((bad,)))
    assert str(caught.value).startswith(f"object 0 ({bad.object_type}")


def test_data_file_rules_check_the_nucleus():
    cell = replace(ANNOTATION, object_type=ObjectType.CELL, nucleus=Roi(RoiKind.POLYGON, DONUT))
    with pytest.raises(OutputError, match="object 0 .cell 'my cell'.: its nucleus .* has a hole"):
        encode_image_data(ImageData((replace(cell, name="my cell"),)))


def test_data_file_rules_refuse_repeated_ids():
    with pytest.raises(OutputError, match=f"object 1 .*id {ID} is that of object 0 too"):
        encode_image_data(ImageData((ANNOTATION, ANNOTATION)))


def test_data_file_rules_check_image_type_and_stains():
    with pytest.raises(OutputError, match="'H&E' is not one of QuPath's"):
        encode_image_data(ImageData(image_type="H&E"))
    with pytest.raises(OutputError, match="stains have no text"):
        encode_image_data(ImageData(stains={"name": "x"}))
    for name in IMAGE_TYPES:
        assert decode_image_data(encode_image_data(ImageData(image_type=name))).image_type == name


@pytest.mark.parametrize(
    "grid", [TmaGrid(2, 1, (0,)), TmaGrid(2, 1, (0, 0)), TmaGrid(2, 1, (0, 9)), TmaGrid(1, 1, (1,))]
)
def test_data_file_rules_check_the_tma_grid(grid):
    objects = (CORE, replace(ANNOTATION, id=ID.replace("1", "2")))
    with pytest.raises(OutputError, match="TMA"):
        encode_image_data(ImageData(objects, tma_grid=grid))


def test_data_file_rules_refuse_a_core_below_another_object():
    below = replace(CORE, id=ID.replace("1", "2"), parent=0)
    with pytest.raises(OutputError, match="below another object"):
        encode_image_data(ImageData((ANNOTATION, below), tma_grid=TmaGrid(1, 1, (1,))))


def test_data_file_rules_accept_a_polygon_that_crosses_itself():
    """QuPath itself keeps such polygons."""
    (read,) = decode_image_data(encode_image_data(ImageData((roi("Polygon", BOW_TIE),)))).objects
    assert shapely.equals_exact(read.roi.geometry, BOW_TIE)


# --- a real QuPath --------------------------------------------------------------------------


def number(value):
    """A number that may be missing, as text: NaN equals NaN."""
    return repr(math.nan if value is None else float(value))


def check_shape(ours, theirs):
    if ours is None or theirs is None:
        assert ours is theirs is None
        return
    assert (ours.kind, ours.channel, *ours.plane) == tuple(
        theirs[k] for k in ("kind", "c", "z", "t")
    )
    wkt = shapely.from_wkt(theirs["wkt"])
    geometry = shapely.make_valid(ours.geometry)
    if geometry.area:
        assert geometry.symmetric_difference(wkt).area < 0.01 * shapely.get_num_coordinates(wkt)
    else:
        assert geometry.hausdorff_distance(wkt) < 0.01


@pytest.mark.qupath
@pytest.mark.parametrize("name", IMAGES)
def test_data_file_written_is_read_by_qupath(name, as_qupath_reads):
    image = IMAGES[name]()
    data = encode_image_data(image, server=SERVER, properties={"PROJECT_ENTRY_ID": "a::1"})
    said = as_qupath_reads(data)
    assert (said["header"], said["end"]) == ("Data file version 3", "EOF")
    assert json.loads(said["server"])["server"] == SERVER
    assert said["imageType"] == (image.image_type or "UNSET")
    assert (said["stains"] is None) == (image.stains is None)
    assert (said["steps"], said["properties"]) == (
        0,
        {**image.properties, "PROJECT_ENTRY_ID": "a::1"},
    )
    for ours, theirs in zip(image.objects, said["objects"], strict=True):
        assert (ours.id, ours.object_type, ours.parent) == tuple(
            theirs[key] for key in ("id", "type", "parent")
        )
        assert (ours.name, ours.class_path, ours.color) == tuple(
            theirs[key] for key in ("name", "class", "color")
        )
        assert (ours.locked, ours.missing) == (theirs["locked"], theirs["missing"])
        assert dict(ours.metadata) == theirs["metadata"]
        assert [(k, repr(v)) for k, v in ours.measurements.items()] == [
            (k, repr(float(v))) for k, v in theirs["measurements"]
        ]
        assert number(ours.probability) == number(theirs["probability"])
        check_shape(ours.roi, theirs["roi"])
        check_shape(ours.nucleus, theirs["nucleus"])
    if image.tma_grid is not None:
        grid = image.tma_grid
        ids = [image.objects[core].id for core in grid.cores]
        assert said["grid"] == [grid.width, grid.height, ids]


@pytest.mark.qupath
def test_data_file_class_colours_are_kept_by_qupath(as_qupath_reads):
    """The stored one counts for a class that QuPath does not know yet."""
    image = every_kind()
    said = as_qupath_reads(encode_image_data(image))["objects"]
    pairs = zip(image.objects, said, strict=True)
    assert [theirs["classColor"] for o, theirs in pairs if o.class_path == "A: b: C d"] == [-5]


@pytest.mark.qupath
def test_data_file_of_repeated_cells_is_read_by_qupath(as_qupath_reads):
    """The large files of the benchmarks are files that QuPath can read."""
    said = as_qupath_reads(cell_file(200, distinct=50))
    assert len(said["objects"]) == 10 + 3 + 200
