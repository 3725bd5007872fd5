"""Detections that are taken together: the same result as one after the other."""

import math
import struct
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ObjectType, RoiKind
from qupath_bridge.qupath.qpdata import objects, schema
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.schema import ClassSpec
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.testing.content import full_text
from qupath_bridge.testing.data_files import cell_file, tissue_microarray
from qupath_bridge.testing.fuzz import check_damaged
from qupath_bridge.testing.parts import (
    I32,
    QUPATH,
    STANDARD,
    array,
    array_list,
    boolean,
    box,
    decode_objects,
    hash_map,
    hierarchy,
    integer,
    item,
    make_file,
    metadata,
    null,
    numbers,
    numeric_list,
    path_class,
    plain,
    ref,
    text,
    vertices,
    wkb,
    written,
)
from tests.support.data_files import refused


def varied(count):
    """Detections of several layouts: classes, ids, texts, shapes, measurements, statistics."""
    stats = ClassSpec(
        f"{QUPATH}roi.ClosedShapeStatistics", 1, 2, (("maxX", "D"), ("nVertices", "I"))
    )
    rng = np.random.default_rng(3)

    def polygon():
        points = rng.uniform(0, 50, (rng.integers(3, 9), 2))
        columns = (numbers(schema.FLOATS, "f", column) for column in points.T)
        with_stats = plain(stats, struct.pack(">di", rng.random(), 3))
        return plain(
            schema.ROI_CLASSES[RoiKind.POLYGON],
            struct.pack(">iii", -1, 0, int(rng.integers(2))),
            null,
            with_stats,
            *columns,
        )

    items = [
        item(classified=path_class("Tumor", color=integer(-5), key="Tumor"), key="first"),
        item(
            classified=path_class("Stroma", key="Stroma"),
            locked=plain(schema.BOOLEAN, b"\1", key="yes"),
        ),
        item(measured=numeric_list(array_list(text("a"), text("b"), key="names"), [1, 2])),
    ]
    for i in range(count):
        kind = (ObjectType.CELL, ObjectType.TILE, ObjectType.DETECTION)[i % 3]
        roi = (
            polygon,
            polygon,
            lambda: box(*rng.uniform(0, 99, 4), kind=RoiKind.ELLIPSE),
            lambda y=i: wkb(shapely.to_wkb(shapely.Point(1, y).buffer(2), byte_order=0)),
        )[i % 4]()
        stored = {"Object ID": str(uuid.UUID(int=i + (1 << 100)))}
        if i % 11 == 0:
            stored = {"Object ID": f"1-2-3-4-{i:x}"}
        if i % 13 == 0:
            stored["note"] = f"text {i}"
        values = list(rng.normal(size=int(rng.integers(2, 4))))
        # A list written here and now cannot be referred to by the next ones: plain references.
        items.append(
            item(
                kind,
                head=(text(f"name {i}") if i % 17 == 0 else null, null),
                meta=None if i % 19 == 0 else metadata(**stored),
                measured=null
                if i % 23 == 0
                else numeric_list(ref("names"), values, code="df"[i % 2]),
                locked=ref("yes") if i % 5 == 0 else boolean(False),
                classified=(null, ref("Tumor"), ref("Stroma"))[int(rng.integers(3))],
                roi=roi,
                tail=struct.pack(">d", 0.5 if i % 29 == 0 else math.nan),
                after=((null, polygon())[i % 2],) if kind is ObjectType.CELL else (),
            )
        )
    return items


@pytest.mark.parametrize("detections", [False, True])
def test_layouts_and_step_by_step_read_the_same(detections):
    data = make_file(
        hierarchy(*varied(800), item()), hash_map(text("o"), ref("first")), text("EOF")
    )
    fast = decode_image_data(data, detections=detections, entry_id="1")
    slow = decode_image_data(data, detections=detections, entry_id="1", fast=False)
    assert len(fast.objects) == (804 if detections else 4)
    for ours, theirs in zip(fast.objects, slow.objects, strict=True):
        assert full_text(ours) == full_text(theirs)
    assert replace(fast, objects=()) == replace(slow, objects=())


def test_layouts_are_used_for_cells(monkeypatch):
    """Nearly all of them: else the promised speed is lost, though nothing else would show it."""
    counts = {"read": 0}
    real = objects._HierarchyReader._begin

    def begin(self, parent):
        counts["read"] += 1
        return real(self, parent)

    monkeypatch.setattr(objects._HierarchyReader, "_begin", begin)
    data = cell_file(2000, distinct=500)
    for detections in (False, True):
        counts["read"] = 0
        decode_image_data(data, detections=detections)
        assert 14 <= counts["read"] <= 30
        counts["read"] = 0
        decode_image_data(data, detections=detections, fast=False)
        assert counts["read"] == 2014


def test_layouts_allow_references_into_skipped_objects():
    """Handles of such objects are found again when something refers to them."""
    tiles = [item(ObjectType.TILE, head=(text("name"), null))]
    tiles += [
        item(ObjectType.TILE, head=(text("name"), null), meta=metadata(k=f"value {i}"))
        for i in range(30)
    ]

    annotation = item(head=(text("value 20"), null))  # written as a reference
    data = make_file(hierarchy(*tiles, annotation), *STANDARD)
    for fast in (True, False):
        (found,) = decode_image_data(data, fast=fast).objects
        assert found.name == "value 20"


def test_layouts_refuse_references_to_unknown_contents():
    tiles = [item(ObjectType.TILE) for _ in range(5)]

    def ahead(w):
        w.raw(b"q" + I32(0x7E0000 + 5000))

    bad = item(ObjectType.TILE, classified=ahead)
    refused("unknown content", *tiles, bad)


def test_layouts_that_all_differ_are_read():
    """A file whose detections are all different is read all the same."""
    tiles = [item(ObjectType.TILE, head=(text("n" * i), null)) for i in range(1, 400)]
    assert decode_objects(*tiles).skipped == {ObjectType.TILE: 399}
    assert len(decode_objects(*tiles, detections=True).objects) == 399


def test_layouts_of_a_tissue_microarray():
    image = tissue_microarray()
    read = decode_image_data(encode_image_data(image))
    assert [o.missing for o in read.tma_cores] == [False] * 4 + [True, False]
    assert read.tma_grid == image.tma_grid


@pytest.mark.slow
def test_layouts_detect_the_same_damage():
    """In two cells: a length, a reference, a number, a tag; and a cut in their middle."""
    data = cell_file(20, measurements=2, distinct=10, annotations=0)
    stop = data.rindex(b"sr\0\x11java.util.HashMap") - 2
    assert check_damaged(data) == "read"
    for at in range(stop - 700, stop, 7):
        check_damaged(data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1 :])
    for at in range(stop - 700, stop, 50):
        assert check_damaged(data[:at]) == "refused"


def test_layouts_with_statistics_and_inline_lists():
    """Objects that bring names of their own are read one after the other, all others together."""
    own = [
        item(
            ObjectType.TILE,
            measured=numeric_list(array_list(text("a"), text(f"b{i % 2}")), [i, -i]),
        )
        for i in range(20)
    ]
    image = decode_objects(*own, detections=True)
    assert [dict(o.measurements) for o in image.objects] == [
        {"a": i, f"b{i % 2}": -i} for i in range(20)
    ]


def test_layouts_with_repeated_or_upper_case_ids():
    ids = [str(uuid.UUID(int=(10 << 100) + i)) for i in range(20)]
    tiles = [item(ObjectType.TILE, head=(text(each), null), meta=metadata(**{"Object ID": each}))
             for each in ids]  # fmt: skip
    tiles += [item(ObjectType.TILE, meta=metadata(**{"Object ID": each.upper()})) for each in ids]
    image = decode_objects(*tiles, detections=True)
    assert [o.id for o in image.objects] == ids * 2
    assert [o.name for o in image.objects] == ids + [None] * 20


def test_layouts_with_an_invalid_id_in_one_object():
    ids = ["no id at all, as long as one of them"]
    ids += [f"{i:08x}-0000-4000-8000-000000000000" for i in range(9)]
    tiles = [item(ObjectType.TILE, meta=metadata(**{"Object ID": each})) for each in ids]
    for fast in (True, False):
        image = decode_image_data(
            make_file(hierarchy(*tiles), *STANDARD), detections=True, fast=fast
        )
        assert [o.id for o in image.objects[1:]] == ids[1:]
        assert image.objects[0].metadata == {"Object ID": ids[0]}
        assert not any(o.metadata for o in image.objects[1:])


def test_layouts_leave_out_objects_with_very_long_texts():
    tiles = [item(ObjectType.TILE, meta=metadata(note="x" * 5000 + str(i))) for i in range(20)]
    assert decode_objects(*tiles).skipped == {ObjectType.TILE: 20}
    read = decode_objects(*tiles, detections=True).objects
    assert [o.metadata["note"][5000:] for o in read] == [str(i) for i in range(20)]


def test_layouts_leave_out_rare_forms():
    """Areas of rows, no ROI, no numbers, block data in one piece."""
    no_roi = item(ObjectType.DETECTION, roi=null)
    piece = written(
        schema.OBJECT_CLASSES[ObjectType.TILE],
        *(null, null, null, I32(0), boolean(False), null, box()),
        struct.pack(">d", math.nan) + b"more",
    )
    rows = ClassSpec("[[F", 8622859563961293174)
    old = replace(
        schema.ROI_CLASSES[RoiKind.POLYLINE],
        name=f"{QUPATH}roi.AreaROI$SerializationProxy",
        fields=(("c", "I"), ("t", "I"), ("z", "I"), ("x", "[[F"), ("y", "[[F")),
    )
    row = array(numbers(schema.FLOATS, "f", [1, 2, 3]), spec=rows)
    area = item(ObjectType.TILE, roi=plain(old, struct.pack(">iii", -1, 0, 0), row, row))
    tiles = [each for each in (no_roi, piece, area) for _ in range(12)]
    assert len(decode_objects(*tiles, detections=True).objects) == 36
    assert sum(decode_objects(*tiles).skipped.values()) == 36


def test_layouts_check_all_fixed_bytes():
    """Alike in all but the number of children, the number of values, or a text that is an id."""
    spot = item(ObjectType.DETECTION)
    tiles = [item(ObjectType.TILE) for _ in range(20)]
    parent = item(ObjectType.TILE, children=(spot,))
    image = decode_objects(*tiles, parent, *tiles)
    assert image.skipped == {ObjectType.TILE: 41, ObjectType.DETECTION: 1}
    assert len(decode_objects(*tiles, parent, *tiles, detections=True).objects) == 42

    names = array_list(text("a"), text("b"), key="names")
    measured = [
        item(ObjectType.TILE, measured=numeric_list(ref("names"), [i, i])) for i in range(20)
    ]
    short = item(ObjectType.TILE, measured=numeric_list(ref("names"), [1]))
    tiles = [item(ObjectType.TILE, measured=numeric_list(names, [0, 0])), *measured]
    with pytest.raises(ProjectError, match="2 values, as many as it has names"):
        decode_objects(*tiles, short, detections=True)

    ring = [(0, 0), (9, 0), (9, 9)]
    xs, ys = numbers(schema.FLOATS, "f", [0, 9, 9]), numbers(schema.FLOATS, "f", [0, 0])
    uneven = plain(schema.ROI_CLASSES[RoiKind.POLYGON], I32(-1) + bytes(8), null, null, xs, ys)
    polygons = [item(ObjectType.TILE, roi=vertices(ring)) for _ in range(20)]
    with pytest.raises(ProjectError, match="3 values, as many as there are of x"):
        decode_objects(*polygons, item(ObjectType.TILE, roi=uneven), detections=True)

    ids = [str(uuid.UUID(int=(1 << 120) + i)) for i in range(20)]
    same = [
        item(ObjectType.TILE, head=(text(each), null), meta=metadata(**{"Object ID": ids[0]}))
        for each in ids
    ]
    read = decode_objects(*same, detections=True).objects
    assert [o.name for o in read] == ids
    assert {o.id for o in read} == {ids[0]}
