"""Reading data files: items, objects, grids, the files themselves, what is refused."""

import os
import struct
import uuid
from dataclasses import replace

import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ObjectType
from qupath_bridge.qupath.qpdata import objects, schema
from qupath_bridge.qupath.qpdata.reading import decode_image_data, read_image_data
from qupath_bridge.qupath.qpdata.schema import ClassSpec
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.testing.data_files import tissue_microarray
from qupath_bridge.testing.parts import (
    I32,
    QUPATH,
    STANDARD,
    array,
    array_list,
    boolean,
    box,
    decode_object,
    decode_objects,
    hash_map,
    hierarchy,
    integer,
    item,
    make_file,
    metadata,
    null,
    numeric_list,
    path_class,
    plain,
    ref,
    root,
    text,
    vertices,
    written,
)
from tests.support.data_files import enum, refused

ID = "11111111-2222-4333-8444-555555555555"


# --- items ----------------------------------------------------------------------------------


def test_data_file_headers():
    for header, version in [
        (b"Data file version 2", 2),
        (b"Data file version 1.0", 1),
        (b"Data file version 4", 4),
        (b"Data file version x", None),
    ]:
        assert (
            decode_image_data(make_file(hierarchy(), *STANDARD, header=header)).version == version
        )
    for header in (b"Data fail version 3", b""):
        with pytest.raises(ProjectError, match="not a QuPath data file at byte 4"):
            decode_image_data(make_file(hierarchy(), *STANDARD, header=header))


def test_data_file_header_of_absurd_length():
    data = b"\xac\xed\x00\x05w\x04\xff\xffab"
    with pytest.raises(ProjectError, match="not a QuPath data file"):
        decode_image_data(data)


@pytest.mark.parametrize(
    "server", ["Image path: /a/b.svs", "[]", '{"qupathVersion": 3}', "[" * 9000]
)
def test_data_file_without_a_qupath_version(server):
    data = make_file(hierarchy(), *STANDARD, server=server)
    assert decode_image_data(data).qupath_version is None


def test_data_file_items_are_identified_by_class():
    unknown = plain(ClassSpec("lab.Unknown", fields=(("x", "I"),)), bytes(4))
    data = make_file(
        hash_map(text("a"), text("b")),
        null,
        hierarchy(item()),
        unknown,
        text("?"),
        array(),
        enum("OTHER"),
        text("EOF"),
    )
    image = decode_image_data(data + b"after the end mark nothing is read")
    assert (len(image.objects), image.image_type, image.properties) == (1, "OTHER", {"a": "b"})
    assert image.problems == ("an item of class lab.Unknown was skipped",)


def test_data_file_without_end_mark_must_end_after_the_properties():
    """Old writers leave it out; but a file that is cut off must not be taken for a whole one."""
    image = decode_image_data(make_file(hierarchy(item()), hash_map()))
    assert len(image.objects) == 1
    assert image.problems == ("the file ends without its end mark, after the properties",)
    with pytest.raises(ProjectError, match="ends too early"):
        decode_image_data(make_file(hierarchy(item())))


def test_data_file_without_hierarchy_is_refused():
    with pytest.raises(ProjectError, match="without a hierarchy"):
        decode_image_data(make_file(*STANDARD))
    with pytest.raises(ProjectError, match="second hierarchy"):
        decode_image_data(make_file(hierarchy(item()), hierarchy(), *STANDARD))
    odd = ClassSpec(f"{QUPATH}objects.hierarchy.PathObjectHierarchy", fields=(("n", "I"),))
    with pytest.raises(ProjectError, match="without a root"):
        decode_image_data(make_file(plain(odd, bytes(4)), *STANDARD))
    with pytest.raises(ProjectError, match="block data between"):
        decode_image_data(make_file(hierarchy(), lambda w: w.block(b"x"), *STANDARD))


def test_hierarchy_with_unknown_fields():
    more = replace(
        schema.HIERARCHY,
        flags=3,
        fields=(("n", "J"), ("extra", "Ljava/lang/Object;"), *schema.HIERARCHY.fields),
    )

    def write(w):
        w.begin(more)
        w.raw(bytes(8))
        w.text("extra")
        root(item())(w)
        w.null()
        w.block(b"more")
        w.end()

    assert len(decode_image_data(make_file(write, *STANDARD)).objects) == 1


# --- objects --------------------------------------------------------------------------------


def test_parents_without_detections_are_the_nearest_listed_objects():
    """Also where an annotation is within a detection."""
    inner = item(head=(text("inner"), null))
    cell = item(
        ObjectType.CELL, children=(item(ObjectType.DETECTION, children=(inner,)),), after=(null,)
    )
    outer = item(head=(text("outer"), null), children=(item(ObjectType.TILE), cell))
    image = decode_objects(outer, inner)
    assert [(o.name, o.parent) for o in image.objects] == [
        ("outer", -1),
        ("inner", 0),
        ("inner", -1),
    ]
    assert image.skipped == dict.fromkeys(
        (ObjectType.TILE, ObjectType.CELL, ObjectType.DETECTION), 1
    )
    full = decode_objects(outer, inner, detections=True)
    assert [(o.object_type.value, o.parent) for o in full.objects] == [
        ("annotation", -1),
        ("tile", 0),
        ("cell", 0),
        ("detection", 2),
        ("annotation", 3),
        ("annotation", -1),
    ]
    assert full.skipped == {}
    assert image.objects[1].parent_id == image.objects[0].id
    assert image.objects[1].id == full.objects[4].id


def test_object_ids_in_metadata():
    def id_of(stored):
        found = decode_object(item(meta=metadata(**{"Object ID": stored, "key": "value"})))
        return found.id, found.id_origin, dict(found.metadata)

    assert id_of(ID) == (ID, "qupath", {"key": "value"})
    assert id_of(ID.replace("5", "A"))[0] == ID.replace("5", "a")
    # what Java's UUID reads too
    assert id_of("1-2-3-4-5")[0] == "00000001-0002-0003-0004-000000000005"
    assert id_of("123456789-2-3-4-5")[0] == "23456789-0002-0003-0004-000000000005"
    for stored in ("no id", ID + "0", ID.replace("-", ""), "1-2-3-4", "1-2-3-4-g"):
        found = id_of(stored)
        assert found[1:] == ("derived", {"Object ID": stored, "key": "value"})
        assert uuid.UUID(found[0]).version == 8


def test_object_ids_of_data_file_version_4():
    """Never written by a released QuPath, but read by 0.4 and later."""
    bits = uuid.UUID(ID).int
    halves = struct.pack(">QQ", bits & (1 << 64) - 1, bits >> 64)
    spec = ClassSpec("java.util.UUID", fields=(("leastSigBits", "J"), ("mostSigBits", "J")))

    def new(kind, *fields):
        parts = [null, null, plain(spec, halves), I32(len(fields)), *fields, I32(0)]
        tail = [boolean(True), null, box(), struct.pack(">d", 0.5)]
        return written(schema.OBJECT_CLASSES[kind], *parts, *tail)

    values = numeric_list(array_list(text("a")), [1.5])
    found = decode_object(new(ObjectType.ANNOTATION, metadata(key="value"), values, null))
    assert (found.id, found.id_origin, found.locked, found.probability) == (ID, "qupath", True, 0.5)
    assert (dict(found.metadata), dict(found.measurements)) == ({"key": "value"}, {"a": 1.5})
    image = decode_objects(new(ObjectType.TILE, null), new(ObjectType.TILE, null))
    assert image.skipped == {ObjectType.TILE: 2}
    refused("65 parts of an object", new(ObjectType.TILE, *[null] * 65))


def test_derived_ids_depend_on_the_content_of_an_object():
    a, b = vertices([(0, 0), (9, 0), (9, 9)]), vertices([(0, 0), (9, 0), (9, 8.98)])
    tumor = path_class("Tumor")
    items = (
        item(roi=a),
        item(roi=a),
        item(roi=b),
        item(roi=a, classified=tumor),
        item(roi=box(z=1)),
        item(roi=box(t=1)),
        item(roi=box()),
        item(ObjectType.TILE, roi=box()),
    )
    first = [o.id for o in decode_objects(*items, entry_id="1", detections=True).objects]
    assert len(set(first)) == len(items)
    assert first == [o.id for o in decode_objects(*items, entry_id="1", detections=True).objects]
    assert not set(first) & {o.id for o in decode_objects(*items, entry_id="2").objects}
    # neither where a ring begins, nor less than the 0.01 px grid, nor other objects count
    turned = vertices([(9, 9), (0, 0.001), (9, 0)])
    assert decode_object(item(roi=turned), entry_id="1").id == first[0]
    assert decode_objects(*items[2:], entry_id="1").objects[0].id == first[2]


def test_object_forms_of_old_versions():
    assert decode_object(item(locked=None)).locked is False  # QuPath 0.1.1 and before
    assert decode_object(item(locked=None, classified=path_class("A"))).class_path == "A"
    found = decode_object(
        item(head=(text("n"), text("no colour")), after=(text("unknown"), b"rest"))
    )
    assert (found.name, found.color) == ("n", None)
    assert decode_object(item(head=(null, integer(-5)))).color == -5
    core = item(ObjectType.TMA_CORE, tail=struct.pack(">d?", 0.25, True))
    assert (decode_object(core).missing, decode_object(core).probability) == (True, 0.25)


def test_object_classes_that_are_unknown():
    spot = ClassSpec(
        "lab.SubcellularObject", 1, 12, (), schema.OBJECT_CLASSES[ObjectType.DETECTION]
    )
    with_roi = schema.OBJECT_CLASSES[ObjectType.ANNOTATION].parent
    other = ClassSpec("lab.Other", 1, 12, (), with_roi)
    children = item(spec=spot, after=(text("x"), b"y")), item(spec=other), item()
    full = decode_objects(*children, detections=True)
    assert [o.object_type.value for o in full.objects] == ["detection", "detection", "annotation"]
    assert decode_objects(*children).skipped == {ObjectType.DETECTION: 2}
    refused(
        "found lab.Bare in the hierarchy",
        item(spec=ClassSpec("lab.Bare", 1, 12, (), with_roi.parent)),
    )
    refused("found java.util.ArrayList in the hierarchy", array_list())
    refused("tag 74", text("no object"))


def test_hierarchy_refuses_misplaced_objects():
    refused("a root object within", root())
    refused("is in the hierarchy twice", item(key="it"), ref("it"))
    refused("-1 children", item(count=-1))
    refused("children", item(ObjectType.TILE, count=0x7FFFFFFF))
    with pytest.raises(ProjectError, match="whose root is of type annotation"):
        decode_image_data(make_file(hierarchy(top=item()), *STANDARD))
    refused("tag 78|tag 70", item(tail=b""))


def test_hierarchy_refuses_an_object_that_is_its_own_child():
    w_item = written(
        schema.OBJECT_CLASSES[ObjectType.ANNOTATION], null, null, null, I32(1), ref("me"), key="me"
    )
    refused("is in the hierarchy twice", w_item)


@pytest.mark.slow
def test_hierarchy_depth_is_limited():
    """100,000 objects within objects: refused, as by QuPath itself, without recursion."""
    tail = [boolean(False), null, box(), struct.pack(">d", 0.0)]

    def nest(kind, depth):
        def write(w):
            spec = schema.OBJECT_CLASSES[kind]
            for level in range(depth):
                w.begin(spec)
                for _ in range(3):
                    w.null()
                w.block(I32(level < depth - 1))
            for _ in range(depth):
                for part in tail[:-1]:
                    part(w)
                w.block(tail[-1])
                w.end()

        return write

    for kind in (ObjectType.ANNOTATION, ObjectType.DETECTION):
        refused("more than 10000 levels", nest(kind, 100_000))
    assert len(decode_objects(nest(ObjectType.ANNOTATION, 3000)).objects) == 3000
    assert objects.MAX_DEPTH == 10_000


def test_object_heads_that_are_malformed():
    with pytest.raises(ProjectError, match="expected an object's name"):
        decode_objects(item(head=(integer(1), null)))
    with pytest.raises(ProjectError, match="expected a QuPath class"):
        decode_objects(item(classified=text("Tumor")))
    with pytest.raises(ProjectError, match="expected a list of measurements"):
        decode_objects(item(measured=text("none")))
    with pytest.raises(ProjectError, match="expected a list of measurements"):
        decode_objects(item(measured=array_list()))
    # four contents before the number of children; and none
    refused(
        "tag 7[03] .*expected 4 bytes of block data",
        item(meta=metadata(), children=(), head=(null, null, null)),
    )


# --- TMA grids ------------------------------------------------------------------------------


def grid(width, height, *cores):
    raw = I32(height) + I32(width)
    return plain(schema.GRID, raw, array_list(*cores))


def core(name, key=None):
    return item(ObjectType.TMA_CORE, head=(text(name), null), tail=bytes(9), key=key)


def test_tma_grids():
    two = core("a", "a"), item(), core("b", "b")
    data = make_file(hierarchy(*two, grid=grid(2, 1, ref("b"), ref("a"))), *STANDARD)
    found = decode_image_data(data).tma_grid
    assert (found.width, found.height, found.cores) == (2, 1, (2, 0))
    for bad in (
        grid(1, 1, ref("a"), ref("b")),
        grid(2, 1, ref("a"), null),
        grid(-1, -2, ref("a"), ref("b")),
        grid(2, 1, ref("a"), core("inside")),
        text("no grid"),
    ):
        with pytest.raises(ProjectError, match="grid"):
            decode_image_data(make_file(hierarchy(*two, grid=bad), *STANDARD))


# --- files ----------------------------------------------------------------------------------


def test_read_image_data_errors_of_files(tmp_path):
    path = tmp_path / "data.qpdata"
    data = encode_image_data(tissue_microarray())
    path.write_bytes(data)
    image = read_image_data(path)
    assert image.objects == decode_image_data(memoryview(data), path=path).objects
    assert image.digest.startswith("xxh3_128:")
    with pytest.raises(ProjectError, match="more than the allowed 100") as caught:
        read_image_data(path, max_bytes=100)
    assert caught.value.path == path
    path.write_bytes(data[:1000])
    (tmp_path / "data.qpdata.bkp").write_bytes(data)
    with pytest.raises(ProjectError, match=r"data\.qpdata: a text of 36 bytes at byte \d+ .*\.bkp"):
        read_image_data(path)  # whether the backup is read instead is for the caller to say
    with pytest.raises(ProjectError, match="cannot be read"):
        read_image_data(tmp_path / "missing")
    with pytest.raises(ProjectError, match="cannot be read"):
        read_image_data(tmp_path)


def test_read_image_data_refuses_a_file_that_changes(tmp_path, monkeypatch):
    path = tmp_path / "data.qpdata"
    path.write_bytes(encode_image_data(tissue_microarray()))
    looks = []
    real = os.fstat

    def fstat(number):
        looks.append(number)
        if len(looks) == 3:  # the kind of file, its size, and its size again
            with path.open("ab") as file:
                file.write(b"more")
        return real(number)

    monkeypatch.setattr("qupath_bridge.qupath.qpdata.reading.os.fstat", fstat)
    with pytest.raises(ProjectError, match="changed while it was read"):
        read_image_data(path)
