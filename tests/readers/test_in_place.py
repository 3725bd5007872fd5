"""Slides that are read where they are; a store in memory stands for a bucket."""

import contextlib
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tifffile

from qupath_bridge.errors import OutputError, ReadError, UsageError
from qupath_bridge.model import Box
from qupath_bridge.readers import fetched_as, in_place, open_reader, tile_data, tiles
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.stores import staging
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from qupath_bridge.testing.slides import marker_image, write_slide
from qupath_bridge.timing import collect
from tests.support.buckets import note_ranges, replace_alike

SLIDES = Path(__file__).parents[1] / "data" / "slides"


@pytest.fixture(autouse=True)
def in_place_where_it_can_be(monkeypatch):
    monkeypatch.setenv(staging.FETCH, "ranges")


@pytest.fixture
def asked(monkeypatch):
    """Ranges that were asked for, in order."""
    found = []
    note_ranges(monkeypatch, MemoryStore, lambda name, *part: found.append(part))
    return found


def put(bucket, path):
    """Put a slide into a bucket and return its URL."""
    bucket.put(path.name, path.read_bytes())
    return f"{bucket.url}/{path.name}"


class InPlaceContract(ReaderContract):
    """A slide with the options of ``write_slide``, in a bucket."""

    options: ClassVar[dict]
    name = "a.tiff"

    @pytest.fixture
    def truth(self):
        return Truth(marker_image(301, 207), lossless="jpeg" not in self.options.values())

    @pytest.fixture
    def url(self, tmp_path, bucket, truth):
        options = {"tile": 64, **self.options}
        return put(bucket, write_slide(tmp_path / self.name, truth.pixels, **options))

    @pytest.fixture
    def make(self, url):
        def open_in_place():
            reader = open_reader(url)
            assert fetched_as(Path(url), reader) == "ranges"
            return reader

        return open_in_place

    @pytest.fixture
    def path(self, bucket, url):
        return SimpleNamespace(
            read_bytes=lambda: bucket.get(self.name),
            write_bytes=lambda data: bucket.put(self.name, data),
        )


class TestPyramid(InPlaceContract):
    options: ClassVar = {"levels": 3}


class TestJpeg(InPlaceContract):
    options: ClassVar = {"compression": "jpeg"}


class TestStrips(InPlaceContract):
    options: ClassVar = {"tile": None}


class TestOme(InPlaceContract):
    options: ClassVar = {"ome": True, "levels": 3, "bigtiff": True}
    name = "a.ome.tif"


def boxes_of(size, count=30):
    """Boxes of one size all over a slide, some across its edge."""
    width, height = size
    side = min(width, height) // 5
    corners = np.random.default_rng(5).integers(-side // 2, (width, height), (count, 2))
    return np.hstack([corners, np.full((count, 2), side)])


@pytest.mark.parametrize("name", ["tcga-cr-7395-01a-01-ts1.svs", "openslide-python_boxes.tiff"])
@pytest.mark.parametrize(("scale", "other"), [(1, OpenSlideReader), (0.37, TileReader)])
def test_pixels_are_those_of_the_file_here(bucket, cache_folder, name, scale, other):
    """OpenSlide itself interpolates in lower levels of the first one."""
    with open_reader(put(bucket, SLIDES / name)) as there, other(SLIDES / name) as here:
        assert isinstance(there, TileReader)
        assert there.in_place
        assert there.fingerprint.digest == here.fingerprint.digest
        boxes = boxes_of(here.size)
        size = tuple(np.maximum((boxes[0, 2:] * scale).astype(int), 1).tolist())
        for found, expected in zip(
            there.read_many(boxes, size), here.read_many(boxes, size), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    assert not cache_folder.exists()


def test_pixels_of_an_ome_tiff_with_channels_apart(bucket, tmp_path):
    stack = np.random.default_rng(1).integers(0, 60_000, (3, 300, 400), dtype=np.uint16)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, tile=(64, 64), metadata={"axes": "CYX"}, photometric="minisblack")
    boxes = boxes_of((400, 300))
    with open_reader(put(bucket, path)) as there, open_reader(path) as here:
        assert there.in_place
        for size in ((60, 60), (23, 31)):
            for channels in (None, (2, 0)):
                np.testing.assert_array_equal(
                    there.read_many(boxes, size, channels=channels)[0],
                    here.read_many(boxes, size, channels=channels)[0],
                )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A slide of 50 MB whose tiles are not compressed."""
    pixels = np.random.default_rng(2).integers(0, 256, (4096, 4096, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("large") / "large.tiff"
    return write_slide(path, pixels, mpp=0.25, tile=256, compression=None), pixels


def test_few_patches_of_a_large_slide_need_few_bytes(bucket, asked, large):
    path, pixels = large
    url, size = put(bucket, path), path.stat().st_size
    boxes = np.array([[300, 300, 200, 200], [3000, 900, 200, 200], [1000, 3500, 200, 200]])
    with collect() as timer, open_reader(url) as reader:
        found, _ = reader.read_many(boxes, (200, 200))
        assert reader.fingerprint.size == size
    for patch, (x, y, w, h) in zip(found, boxes.tolist(), strict=True):
        np.testing.assert_array_equal(patch, pixels[y : y + h, x : x + w])
    amounts = timer.amounts
    assert sum(length for _, length in asked) < 0.1 * size
    assert amounts["header_bytes"] + amounts["pixel_bytes"] == sum(length for _, length in asked)
    assert amounts["header_requests"] + amounts["pixel_requests"] == len(asked)
    assert amounts["pixel_bytes_needed"] == 9 * 256 * 256 * 3
    assert amounts["pixel_requests"] <= 5
    assert amounts["header_requests"] <= 6


@pytest.mark.parametrize(
    ("left", "top", "size"), [(0, 0, 200), (0, 0, 150), (0, -100, 200), (-100, 0, 150)]
)
def test_a_batch_comes_in_few_requests_that_are_not_large(bucket, asked, large, left, top, size):
    """Whether its boxes are read together or, across the edge, one by one; each tile once."""
    path, _ = large
    rows, columns = (1 if top else 5), (1 if left else 10)
    corners = [(left + 200 * x, top + 200 * y) for y in range(rows) for x in range(columns)]
    boxes = np.hstack([corners, np.full((len(corners), 2), 200)])
    size = (size, size)
    with collect() as timer, open_reader(put(bucket, path)) as reader:
        asked.clear()
        found, _ = reader.read_many(boxes, size)
    with open_reader(path) as here:
        np.testing.assert_array_equal(found, here.read_many(boxes, size)[0])
    down, across = (1 if top else 4), (1 if left else 8)  # 1000 and 2000 pixels
    tiles = down * across
    assert timer.amounts["pixel_bytes_needed"] == tiles * 256 * 256 * 3
    assert timer.amounts["pixel_bytes"] == timer.amounts["pixel_bytes_needed"]
    assert len(asked) == down  # a row of tiles each: the next one is too far away
    assert max(length for _, length in asked) <= tile_data.LARGEST


def test_requests_of_a_batch_are_under_way_at_the_same_time(bucket, large, monkeypatch):
    all_there, read = threading.Barrier(4, timeout=10), MemoryStore.get_range

    def get_range(*args):
        all_there.wait()
        return read(*args)

    boxes = np.array([[0, 256 * row, 256, 256] for row in range(4)])
    with open_reader(put(bucket, large[0])) as reader:
        monkeypatch.setattr(MemoryStore, "get_range", get_range)
        found, _ = reader.read_many(boxes, (256, 256))
    np.testing.assert_array_equal(found, large[1][:1024, :256].reshape(4, 256, 256, 3))


@pytest.mark.parametrize("step", [256, 512])
def test_no_more_than_a_window_is_held(bucket, asked, large, monkeypatch, step):
    """Of tiles, and of what comes with them because it is between them."""
    path, _ = large
    tile = 256 * 256 * 3
    monkeypatch.setattr(tile_data, "WINDOW", 5 * tile)
    boxes = np.array([[x, 0, 256, 256] for x in range(0, 4096, step)])
    with open_reader(put(bucket, path)) as reader, open_reader(path) as here:
        asked.clear()
        found, _ = reader.read_many(boxes, (256, 256))
        np.testing.assert_array_equal(found, here.read_many(boxes, (256, 256))[0])
    assert max(length for _, length in asked) <= 5 * tile
    assert len(asked) <= 5
    came = sum(length for _, length in asked)
    assert came == 16 * tile if step == 256 else 8 * tile < came < 16 * tile


def test_readers_of_a_process_share_the_header(bucket, asked, large):
    url = put(bucket, large[0])
    with open_reader(url) as first:
        first.fingerprint  # noqa: B018  # it is read
        asked.clear()
        with open_reader(url) as second, pickle.loads(pickle.dumps(first)) as third:
            assert second.levels == third.levels == first.levels
            assert second.fingerprint == first.fingerprint
    assert asked == []


def test_encoded_tiles_of_a_batch_come_together(bucket, asked, tmp_path):
    path = write_slide(
        tmp_path / "a.tiff", marker_image(512, 512), tile=64, compression="jpeg", mpp=0.5
    )
    boxes = np.array([[x, y, 64, 64] for y in (0, 64) for x in range(0, 512, 64)])
    with open_reader(put(bucket, path)) as reader, open_reader(path) as here:
        asked.clear()
        found = reader.read_encoded(boxes, (64, 64))
        assert all(found)
        assert found == here.read_encoded(boxes, (64, 64))
    assert len(asked) == 1


# ---- what is copied


def test_a_slide_of_openslide_is_copied(bucket, cache_folder):
    url = put(bucket, SLIDES / "openslide-python_boxes_0.dcm")
    with open_reader(url) as reader:
        assert isinstance(reader, OpenSlideReader)
        assert fetched_as(Path(url), reader) == "copy"
    assert list(cache_folder.rglob("*.dcm"))


def test_an_aperio_slide_with_holes_is_copied_as_openslide_fills_them(bucket, tmp_path):
    """Where ``auto`` takes OpenSlide for a file, it does so for a URL."""
    path = tmp_path / "a.svs"
    path.write_bytes((SLIDES / "tcga-cr-7395-01a-01-ts1.svs").read_bytes())
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    url = put(bucket, path)
    with open_reader(url) as reader, open_reader(path) as here:
        assert type(reader) is type(here) is OpenSlideReader
        assert fetched_as(Path(url), reader) == "copy"
    with open_reader(url, name="tiles") as reader:
        assert fetched_as(Path(url), reader) == "ranges"
    with open_reader(url, name="openslide") as reader:
        assert fetched_as(Path(url), reader) == "copy"


def test_a_directory_that_is_too_large_is_copied(bucket, monkeypatch, cache_folder):
    url = put(bucket, SLIDES / "tcga-cr-7395-01a-01-ts1.svs")
    for limit, expected in ((1 << 30, "ranges"), (in_place.BLOCK, "copy")):
        monkeypatch.setattr(in_place, "MOST_HEADER", limit)
        with open_reader(url) as reader:
            assert fetched_as(Path(url), reader) == expected
    assert list(cache_folder.rglob("*.svs"))


def test_copies_are_the_default(bucket, large, monkeypatch):
    monkeypatch.delenv(staging.FETCH)
    url = put(bucket, large[0])
    with open_reader(url) as reader:
        assert fetched_as(Path(url), reader) == "copy"
    assert fetched_as(large[0], reader) is None
    monkeypatch.setenv(staging.FETCH, "sometimes")
    with pytest.raises(UsageError, match="QUPATH_BRIDGE_FETCH: 'sometimes' is neither copy nor"):
        open_reader(url)


# ---- faults


@pytest.fixture
def url(bucket, large):
    return put(bucket, large[0])


def read_corner(reader):
    return reader.read(Box(3000, 3000, 100, 100), (100, 100))


def test_a_slide_that_was_replaced_is_refused(bucket, url):
    with open_reader(url) as reader:
        read_corner(reader)
        replace_alike(bucket, "large.tiff")
        with pytest.raises(ReadError, match=f"{url} was replaced while it was read") as caught:
            reader.read(Box(0, 0, 100, 100), (100, 100))
        assert "Export again" in caught.value.hint
        reader.on_bad_tile = "background"  # that is for damage only
        with pytest.raises(ReadError, match="was replaced"):
            reader.read(Box(0, 0, 100, 100), (100, 100))
        assert not reader.bad_tiles
    with open_reader(url) as again:
        read_corner(again)


def test_a_slide_that_was_deleted_is_refused(bucket, url):
    with open_reader(url) as reader:
        bucket.delete("large.tiff")
        for act in (read_corner, lambda reader: reader.fingerprint):
            with pytest.raises(ReadError, match=r"large\.tiff") as caught:
                act(reader)
            assert "Is the slide still there" in caught.value.hint
    with pytest.raises(ReadError, match=r"large\.tiff"):
        open_reader(url)


def test_a_store_that_fails_later(bucket, url, monkeypatch):
    """As when credentials expire: the words of the store, and what to do."""
    with open_reader(url) as reader:

        def fail(*args):
            raise OutputError("the credentials have expired.", hint="Get new ones.")

        monkeypatch.setattr(MemoryStore, "get_range", fail)
        reader.on_bad_tile = "background"
        with pytest.raises(ReadError, match="have expired") as caught:
            read_corner(reader)
        assert caught.value.hint == "Get new ones."


@pytest.mark.parametrize("failing", range(1, 4))
def test_no_error_while_the_header_is_read_is_lost(bucket, asked, monkeypatch, tmp_path, failing):
    """The parser of TIFF files goes on after some errors, with fewer levels."""
    path = write_slide(tmp_path / "a.tiff", marker_image(900, 800), tile=64, levels=3)
    url = put(bucket, path)
    monkeypatch.setattr(in_place, "BLOCK", 512)
    with open_reader(url) as reader:
        assert len(reader.levels) == 3
    every, read, calls = len(asked), MemoryStore.get_range, []
    assert every > 6

    def get_range(self, name, offset, length, state=None):
        calls.append(offset)
        if len(calls) == round(failing * every / 4):
            raise OutputError("once", hint="Again.")
        return read(self, name, offset, length, state)

    monkeypatch.setattr(MemoryStore, "get_range", get_range)
    with pytest.raises(ReadError, match="once"):
        TileReader(Path(url))


def test_no_error_that_the_parser_caught_is_lost(bucket, url, monkeypatch):
    def layout(file, label):
        monkeypatch.setattr(MemoryStore, "get_range", fail)
        with contextlib.suppress(ReadError):
            file.filehandle.seek(20_000_000)
            file.filehandle.read(100)
        return read_layout(file, label)

    def fail(*args):
        raise OutputError("once", hint="Again.")

    read_layout = tiles.read_layout
    monkeypatch.setattr(tiles, "read_layout", layout)
    with pytest.raises(ReadError, match="once"):
        TileReader(Path(url))
