"""Tiles put into data files, and taken out: every other object stays as it is."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.model import Box, ImageData, ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.javaio.stream import JavaStream, Ref
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.roundtrip.comparing import differences, take_inventory, tile_hashes

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(DATA.glob("qupath-samples/*/project/data/*/data.qpdata")) + sorted(
    DATA.glob("real/**/*.qpdata")
)
CLASSES = (None, "Tumor", "Stroma", "Tumor: Positive", "Tumor: Positive: High", "Ä 中")


def tiles(count, start=0):
    return [
        Tile(
            id=tile_uuid("1", 10 * i, 5, 10, 12),
            box=Box(10 * i, 5, 10, 12),
            plane=Plane(i % 2, i % 3),
            name=f"patch {i}",
            class_path=CLASSES[i % len(CLASSES)],
            color=(200, i % 256, 0),
            measurements={"qb: label share": i / 7, "qb: ä": 1.0} if i % 4 else {},
            metadata={"qb.run": "R", "qb.path": f"patches/{i}.png"},
        )
        for i in range(start, start + count)
    ]


def ids(some):
    return {each.id for each in some}


def read(data):
    return decode_image_data(data, detections=True)


def assert_only(before, after, removed=(), added=()):
    """The one difference between two files is that these tiles went and came."""
    old, new = (take_inventory(read(data)) for data in (before, after))
    assert list(differences(old, new, removed=removed, added=tile_hashes(added))) == []


def test_an_object_with_the_text_of_the_end_mark():
    """Java writes equal texts once: the mark at the end is a reference to that object's text."""
    square = Roi(RoiKind.RECTANGLE, shapely.box(0, 0, 4, 4), Plane())
    named = PathObject("00000001-0000-4000-8000-000000000000", ObjectType.ANNOTATION, None, "EOF",
                       square)  # fmt: skip
    before = encode_image_data(ImageData(objects=(named,)), server={"builderType": "uri"})
    assert before.count(b"EOF") == 1
    assert read(before).problems == ()
    with_tiles = splice_tiles(before, add=tiles(3))
    assert_only(before, with_tiles, added=tiles(3))
    assert splice_tiles(with_tiles, remove=ids(tiles(3))) == before

    marked = [tiles(1)[0]._replace(name="EOF")]
    for data in (before, encode_image_data(ImageData(), server={"builderType": "uri"})):
        with_mark = splice_tiles(data, add=marked)
        assert_only(data, with_mark, added=marked)
        assert splice_tiles(with_mark, remove=ids(marked)) == data


def test_splice_files_are_present():
    assert len(FILES) == 28


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-5:-1]))
class TestFilesOfQuPath:
    def test_splice_without_changes_keeps_every_byte(self, path):
        data = path.read_bytes()
        assert splice_tiles(data, remove={"00000000-0000-0000-0000-000000000000"}) == data

    def test_splice_add_then_remove_gives_the_same_bytes(self, path):
        data, some = path.read_bytes(), tiles(9)
        new = splice_tiles(data, add=some)
        assert_only(data, new, added=some)
        assert splice_tiles(new, remove=ids(some)) == data

    def test_splice_removes_and_adds_at_once(self, path):
        data, first, second = path.read_bytes(), tiles(9), tiles(5, 20)
        new = splice_tiles(data, add=first)
        gone = ids(first[:3] + first[5:6])
        newer = splice_tiles(new, remove=gone, add=second)
        assert_only(new, newer, gone, second)
        assert_only(data, splice_tiles(newer, remove=ids(first)), (), second)

    def test_splice_removes_the_files_own_tiles(self, path):
        """Texts and classes that removed tiles wrote first are kept for the others."""
        data = path.read_bytes()
        own = [o for o in read(data).objects if o.object_type is ObjectType.TILE]
        gone = {o.id for o in own if o.id_origin == "qupath"}
        if gone and "OBJECT_CONNECTIONS" in read(data).properties:
            with pytest.raises(OutputError, match="not changed.*used elsewhere"):
                splice_tiles(data, remove=gone)
            return
        assert_only(data, splice_tiles(data, remove=gone, add=tiles(1)), gone, tiles(1))


def square(kind, i, **facts):
    geometry = shapely.box(10 * i, 0, 10 * i + 9, 9)
    nucleus = Roi(RoiKind.RECTANGLE, geometry) if kind is ObjectType.CELL else None
    identity = f"{i:08x}-0000-4000-8000-000000000000"
    return PathObject(
        identity, kind, roi=Roi(RoiKind.RECTANGLE, geometry), nucleus=nucleus, **facts
    )


@st.composite
def images(draw):
    """An image whose objects share names, classes and measurements in every way."""
    names = st.sampled_from([None, "qb.run", "a", "Positive", "Ä 中"])
    kinds = [ObjectType.TILE, ObjectType.ANNOTATION, ObjectType.CELL, ObjectType.DETECTION]
    objects = []
    for i in range(draw(st.integers(0, 12))):
        parent = draw(st.integers(-1, i - 1))
        each = square(
            draw(st.sampled_from(kinds)),
            i,
            class_path=draw(st.sampled_from(CLASSES)),
            name=draw(names),
            parent=parent,
            parent_id=objects[parent].id if parent >= 0 else None,
            locked=draw(st.booleans()),
            color=draw(st.sampled_from([None, 1, -5])),
            measurements=draw(
                st.sampled_from([{}, {"a": 1.0}, {"a": float("nan"), "b": float("inf")}])
            ),
            metadata=draw(st.dictionaries(st.sampled_from(["a", "k"]), st.just("v"), max_size=2)),
        )
        objects.append(each)
    return ImageData(objects=tuple(_depth_first(objects)), image_type="OTHER")


def _depth_first(objects):
    """Objects with each one's children right behind it, as QuPath lists them."""
    order, made = [], {}

    def below(parent_id):
        for each in objects:
            if each.parent_id == parent_id:
                made[each.id] = len(order)
                order.append(replace(each, parent=made.get(parent_id, -1)))
                below(each.id)

    below(None)
    return order


@given(images(), st.data())
def test_splice_removes_any_tiles_of_any_hierarchy(image, data):
    before = encode_image_data(image)
    own = [o.id for o in image.objects if o.object_type is ObjectType.TILE]
    gone = data.draw(st.sets(st.sampled_from(own))) if own else set()
    more = tiles(data.draw(st.integers(0, 3)))
    after = splice_tiles(before, remove=gone, add=more)
    assert_only(before, after, gone, more)
    assert_only(after, splice_tiles(after, remove=ids(more)), ids(more))


def test_splice_moves_children_of_a_removed_tile_up():
    inner = square(ObjectType.ANNOTATION, 1, parent=0, class_path="Tumor")
    outer = square(ObjectType.TILE, 0, class_path="Tumor")
    image = ImageData(objects=(outer, replace(inner, parent_id=outer.id)))
    (left,) = read(splice_tiles(encode_image_data(image), remove={outer.id})).objects
    assert (left.id, left.parent, left.class_path) == (inner.id, -1, "Tumor")


def test_splice_removes_only_tiles():
    image = ImageData(objects=(square(ObjectType.ANNOTATION, 0), square(ObjectType.CELL, 1)))
    data = encode_image_data(image)
    assert splice_tiles(data, remove={o.id for o in image.objects}) == data


def test_splice_refuses_repeated_ids():
    (one,) = tiles(1)
    data = encode_image_data(ImageData())
    with pytest.raises(OutputError, match=f"{one.id}.*another tile"):
        splice_tiles(data, add=[one, one])
    new = splice_tiles(data, add=[one])
    with pytest.raises(OutputError, match="another tile"):
        splice_tiles(new, add=[one])
    assert splice_tiles(new, remove={one.id}, add=[one]) == new


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"class_path": "a\nb"}, "line"),
        ({"plane": Plane(-1, 0)}, "plane"),
        ({"id": "tile 1"}, "UUID"),
        ({"box": Box(0, 0, 0, 5)}, "no area"),
    ],
)
def test_splice_refuses_tiles_that_qupath_could_not_read(change, problem):
    with pytest.raises(OutputError, match=problem):
        splice_tiles(encode_image_data(ImageData()), add=[tiles(1)[0]._replace(**change)])


@pytest.mark.parametrize("version", ["0.8.0", "1.0.0", "0.1.2", "0.20.0", "", None])
def test_splice_refuses_versions_that_were_not_tested(version):
    data = encode_image_data(ImageData(), qupath_version=version)
    with pytest.raises(OutputError, match=f"written by (QuPath {version}|an unknown QuPath)"):
        splice_tiles(data, add=tiles(1))


@pytest.mark.parametrize("version", ["0.3.0", "0.6.0-rc1", "0.7.0", "0.5"])
def test_splice_accepts_versions_that_were_tested(version):
    assert splice_tiles(encode_image_data(ImageData(), qupath_version=version), add=tiles(1))


def test_splice_needs_the_end_mark_at_the_end():
    data = FILES[0].read_bytes()
    for broken in (data[:-6], data[:-1], data + b"\0", data[: len(data) // 2]):
        with pytest.raises(ProjectError):
            splice_tiles(broken, add=tiles(1))


def test_splice_refuses_data_file_version_4():
    data = encode_image_data(ImageData())
    with pytest.raises(OutputError, match="version 4"):
        splice_tiles(data.replace(b"Data file version 3", b"Data file version 4"), add=tiles(1))


def test_splice_refuses_to_remove_a_tile_that_is_used_elsewhere():
    """Connections between objects refer to the objects themselves."""
    image = ImageData(objects=(square(ObjectType.TILE, 0), square(ObjectType.TILE, 1)))
    data = encode_image_data(image, properties={"k": "a text to put in the place of"})
    text = struct.pack(">BH", 0x74, 29) + b"a text to put in the place of"
    assert text in data
    handle = handle_of_tile(data, image.objects[1].id)
    used = data.replace(text, struct.pack(">BI", 0x71, 0x7E0000 + handle))
    with pytest.raises(OutputError, match="not changed.*used elsewhere"):
        splice_tiles(used, remove={image.objects[1].id})
    assert splice_tiles(used, remove={image.objects[0].id})


def handle_of_tile(data, identity):
    stream = JavaStream(data)
    stream.block(21)  # the header
    while not stream.at_end:
        stream.skip()
    for number in range(len(stream.handles)):
        start, end = stream.extent(number)
        kind = stream.class_of(Ref(number))
        if kind == "qupath.lib.objects.PathTileObject" and identity.encode() in data[start:end]:
            return number
    raise AssertionError("no such tile")


def test_splice_tiles_are_read_back_by_templates(monkeypatch):
    """Names and paths of their own do not hinder reading them alike."""
    data = splice_tiles(FILES[0].read_bytes(), add=tiles(600))
    slowly = decode_image_data(data, detections=True, fast=False)
    reads, read_one = [], JavaStream.read
    monkeypatch.setattr(JavaStream, "read", lambda self: reads.append(1) or read_one(self))
    quickly = decode_image_data(data, detections=True)
    assert list(differences(take_inventory(slowly), take_inventory(quickly))) == []
    assert [o.name for o in quickly.objects[-600:]] == [f"patch {i}" for i in range(600)]
    assert len(reads) < 600


# --- a real QuPath --------------------------------------------------------------------------


@pytest.mark.qupath
@pytest.mark.parametrize(
    "path", FILES[0:18:3] + FILES[1:18:3] + FILES[18:24:5], ids=lambda p: "-".join(p.parts[-5:-1])
)
def test_splice_result_is_read_by_qupath(path, as_qupath_reads):
    data, first, second = path.read_bytes(), tiles(6), tiles(4, 50)
    new = splice_tiles(splice_tiles(data, add=first), remove=ids(first[2:]), add=second)
    before, after = as_qupath_reads(data), as_qupath_reads(new)
    stored = {o.id for o in read(data).objects if o.id_origin == "qupath"}
    for each in (*before["objects"], *after["objects"]):
        if each["id"] not in stored and not is_ours(each["id"]):
            each["id"] = None  # QuPath makes up another one at each reading
    for said in (before, after):
        if said["grid"] is not None:
            said["grid"][2] = [core if core in stored else None for core in said["grid"][2]]
    come = after["objects"][len(before["objects"]) :]
    assert after["objects"][: len(before["objects"])] == before.pop("objects")
    assert {key: value for key, value in after.items() if key != "objects"} == before
    for tile, said in zip([*first[:2], *second], come, strict=True):
        x, y, w, h = tile.box
        assert (said["id"], said["type"], said["parent"]) == (tile.id, "tile", -1)
        assert (said["name"], said["class"]) == (tile.name, tile.class_path)
        assert said["metadata"] == tile.metadata
        assert said["measurements"] == [[k, repr(v)] for k, v in tile.measurements.items()]
        assert (said["roi"]["kind"], said["roi"]["z"], said["roi"]["t"]) == (
            "Rectangle", *tile.plane,
        )  # fmt: skip
        assert shapely.from_wkt(said["roi"]["wkt"]).equals(shapely.box(x, y, x + w, y + h))
