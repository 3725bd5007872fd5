"""Reading back the files of tiles that we wrote."""

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import Box, Plane
from qupath_bridge.qupath.geojson import Tile, load, read_tiles, tiles_geojson

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=":"), max_size=8)
CLASSES = st.sampled_from([None, "Tumor", "Tumor: Positive", "Ä 中 😀", "a, b", "]}"])
MADE = st.builds(
    Tile,
    id=st.uuids().map(str),
    box=st.builds(Box, *[st.integers(-5000, 5000)] * 2, *[st.integers(1, 5000)] * 2),
    plane=st.builds(Plane, st.integers(0, 9), st.integers(0, 9)),
    name=NAMES,
    class_path=CLASSES,
    color=st.just((200, 1, 255)),
    measurements=st.dictionaries(NAMES.filter(bool), st.floats(-1e9, 1e9), max_size=3),
    metadata=st.dictionaries(NAMES, NAMES, max_size=3),
)


@given(st.lists(MADE, max_size=6, unique_by=lambda tile: tile.id))
def test_read_tiles_returns_the_written_tiles(tmp_path_factory, tiles):
    path = tmp_path_factory.mktemp("tiles") / "1.geojson.gz"
    path.write_bytes(tiles_geojson(tiles))
    wanted = [tile._replace(color=tile.color if tile.class_path else None) for tile in tiles]
    assert list(read_tiles(path)) == wanted
    assert [o.id for o in load(path)] == [tile.id for tile in tiles]


def some(count):
    return [
        Tile(id=f"{i:08x}-0000-4000-8000-000000000000", box=Box(i, 0, 1, 1)) for i in range(count)
    ]


def test_read_tiles_of_very_many_tiles(tmp_path):
    path = tmp_path / "1.geojson.gz"
    path.write_bytes(tiles_geojson(some(2500)))
    assert [tile.box.x for tile in read_tiles(path)] == list(range(2500))


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001])
def test_read_tiles_refuses_a_file_cut_off_anywhere(tmp_path, count):
    path = tmp_path / "1.geojson.gz"
    packed = tiles_geojson(some(count))
    text = gzip.decompress(packed)
    for content in (
        packed[:-9],
        packed[: len(packed) // 2],
        b"",
        gzip.compress(text[:-3]),
        gzip.compress(text[: len(text) - len(text) // 3]),
        gzip.compress(text.replace(b'"tile"', b'"cell"') if count else b"{}"),
        gzip.compress(b"[]"),
        gzip.compress(text + b"{}\n"),
        gzip.compress(text.replace(b"FeatureCollection", b"Collection")),
        gzip.compress(text.replace(b'"geometry"', b'"g"') if count else b"\xff\xfe"),
        text,
    ):
        path.write_bytes(content)
        with pytest.raises(ProjectError, match="1.geojson.gz"):
            list(read_tiles(path))


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        (b"}},\n", b"}}\n", 1),  # the first of three has no comma
        (b"}},\n", b"}},,\n", 0),
        (b"}}\n]", b"}},\n]", 3),  # the last has one
        (b'"id":"00000002', b'"id":"00000000', 3),  # known at the end
        (b"[[[2,", b"[[[3,", 2),  # no box
        (b"[[[2,", b"[[[2.0,", 2),
        (b'"tile"', b'"tile","name":5', 0),
        (b'"tile"', b'"tile","measurements":{"a":1e999}', 0),
        (b'"tile"', b'"tile","metadata":{"a":1}', 0),
        (b'"tile"', b'"tile","classification":{"name":"T","color":[1,2,256]}', 0),
        (b'"tile"', b'"tile","x":' + b"[" * 30000 + b"]" * 30000, 0),
        (b'"tile"', b'"tile","name":"\\ud800"', 0),
        (b'"tile"', b'"tile","name":"\xff"', 0),
    ],
)
def test_read_tiles_refuses_a_damaged_tile_and_says_after_which(tmp_path, old, new, number):
    path = tmp_path / "1.geojson.gz"
    text = gzip.decompress(tiles_geojson(some(3)))
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new, 1)))
    read = []
    with pytest.raises(ProjectError, match=f"damaged after tile {number}: "):
        read.extend(read_tiles(path))


def test_the_tiles_that_were_read_take_no_memory_but_their_ids(tmp_path):
    path = tmp_path / "1.geojson.gz"
    peaks = []
    for count in (1000, 3000):
        path.write_bytes(tiles_geojson(some(count)))
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_tiles(path)) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # An id takes 16 bytes, and four times that while duplicates are looked for.
    assert peaks[1] - peaks[0] < 2000 * 80


def test_read_tiles_of_a_missing_file(tmp_path):
    with pytest.raises(ProjectError, match="cannot be read"):
        list(read_tiles(tmp_path / "1.geojson.gz"))
