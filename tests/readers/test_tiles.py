"""The tile reader: pixels against OpenSlide, Pillow and the arrays written; damaged files."""

import io
import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers import open_reader, tile_data
from qupath_bridge.readers.base import BadTile
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tile_table import find_pieces
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.tiff_tags import set_tag

ROOT = Path(__file__).parents[2]
CMU = ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
APERIO = "Aperio Image Library v1\r\n301x207 (64x64)|AppMag = 40|MPP = 0.2527|Left = 1"
MARKERS = marker_image(301, 207)


@pytest.fixture(scope="module")
def tissue():
    """Pixels of a real slide, 301 x 207."""
    with openslide.OpenSlide(CMU) as slide:
        return np.asarray(slide.read_region((900, 900), 0, (301, 207)).convert("RGB"))


def padded_tiles(pixels, width, height):
    for y, x in itertools.product(
        range(0, pixels.shape[0], height), range(0, pixels.shape[1], width)
    ):
        part = pixels[y : y + height, x : x + width]
        rest = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
        yield np.pad(part, rest, mode="edge")


def write_jpeg(path, pixels, tile, *, space, subsampling="444", jfif=False, description=None):
    """Write a slide of JPEG tiles with the tables in the file's directory, as Aperio does."""
    tables, bodies = None, []
    for part in padded_tiles(pixels, *tile):
        if space == "RGB":
            data = imagecodecs.jpeg8_encode(part, 85, colorspace="RGB", outcolorspace="RGB")
        else:
            data = imagecodecs.jpeg8_encode(part, 85, subsampling=subsampling)
        if not jfif:
            tables, data = split_tables(data)
        bodies.append(data)
    factors = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "411": (4, 1)}[subsampling]
    tifffile.imwrite(
        path, iter(bodies), shape=pixels.shape, dtype=np.uint8, tile=tile[::-1],
        compression="jpeg", photometric="ycbcr", subsampling=factors, metadata=None,
        description=description, extratags=[] if tables is None else [(347, 7, None, tables, True)],
    )  # fmt: skip
    if space == "RGB":
        set_tag(path, "PhotometricInterpretation", 0, 2)
    return path


def split_tables(data):
    """Return the tables of a JPEG image as a stream of their own, and the image without them."""
    tables, body, place = b"", b"", 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] in (0xDB, 0xC4):
            tables += data[place:end]
        elif data[place + 1] not in (0xE0, 0xEE):
            body += data[place:end]
        place = end
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + body + data[place:]


def region(path, box):
    """What OpenSlide shows, without any code of ours."""
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region(box[:2], 0, box[2:]).convert("RGB"))


# ---- the same pixels as OpenSlide


JPEGS = [
    *itertools.product([(64, 64), (48, 80)], ["YCBCR"], ["444", "422", "420"], [False, True]),
    ((64, 64), "YCBCR", "411", False),
    ((64, 64), "RGB", "444", False),
    ((80, 48), "RGB", "444", False),
]


@pytest.mark.parametrize("description", [None, APERIO], ids=["plain", "aperio"])
@pytest.mark.parametrize(("tile", "space", "subsampling", "jfif"), JPEGS)
def test_jpeg_pixels_are_openslides(tmp_path, tissue, tile, space, subsampling, jfif, description):
    path = write_jpeg(
        tmp_path / "a.svs", tissue, tile, space=space, subsampling=subsampling, jfif=jfif,
        description=description,
    )  # fmt: skip
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        whole, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
        assert mask is None
        np.testing.assert_array_equal(whole, region(path, Box(0, 0, 301, 207)))
        assert np.abs(whole.astype(int) - tissue).mean() < 9
        boxes = np.array([[0, 0, 64, 48], [1, 2, 64, 48], [64, 96, 64, 48], [231, 159, 64, 48]])
        found, mask = reader.read_many(boxes, (64, 48))
        assert mask is None
        for box, pixels in zip(boxes.tolist(), found, strict=True):
            np.testing.assert_array_equal(pixels, region(path, Box(*box)))


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("tile", [(64, 64), (48, 80)])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
def test_lossless_pixels_are_openslides_and_the_ones_written(
    tmp_path, compression, tile, predictor, bigtiff
):
    if compression is None and predictor:
        return
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, MARKERS, tile=tile, photometric="rgb", compression=compression, predictor=predictor,
        bigtiff=bigtiff, metadata=None,
    )  # fmt: skip
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        whole, _ = reader.read(Box(0, 0, 301, 207), (301, 207))
        np.testing.assert_array_equal(whole, MARKERS)
        if compression is None and tile == (48, 80):
            return  # tifffile fills these tiles, and OpenSlide refuses that
        np.testing.assert_array_equal(region(path, Box(0, 0, 301, 207)), MARKERS)
        aligned = np.array([[0, 0, *tile[::-1]], [tile[1], tile[0], *tile[::-1]]])
        for box, pixels in zip(
            aligned.tolist(), reader.read_many(aligned, tile[::-1])[0], strict=True
        ):
            np.testing.assert_array_equal(pixels, region(path, Box(*box)))


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_other_lossless_pixels_are_the_ones_written(tmp_path, compression):
    path = tmp_path / "a.tif"
    lossless = {"webp": {"lossless": True}, "jpeg2000": {"reversible": True}}[compression]
    tifffile.imwrite(
        path, MARKERS, tile=(64, 64), photometric="rgb", compression=compression,
        compressionargs=lossless, metadata=None,
    )  # fmt: skip
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        np.testing.assert_array_equal(reader.read(Box(0, 0, 301, 207), (301, 207))[0], MARKERS)


@pytest.mark.parametrize("code", [33005, 34712])
def test_jpeg_2000_of_aperio_is_openslides(tmp_path, tissue, code):
    path = tmp_path / "a.svs"
    tiles = [
        imagecodecs.jpeg2k_encode(part, level=38, codecformat="J2K", mct=True)
        for part in padded_tiles(tissue, 64, 64)
    ]
    tifffile.imwrite(
        path, iter(tiles), shape=tissue.shape, dtype=np.uint8, tile=(64, 64), photometric="rgb",
        compression="jpeg2000", description=APERIO, metadata=None,
    )  # fmt: skip
    set_tag(path, "Compression", 0, code)
    with TileReader(path) as reader:
        found, _ = reader.read(Box(0, 0, 301, 207), (301, 207))
    assert np.abs(found.astype(int) - tissue).mean() < 9
    if code == 33005:  # OpenSlide does not know the other
        np.testing.assert_array_equal(found, region(path, Box(0, 0, 301, 207)))


def test_an_aperio_slide_says_what_openslide_says(tmp_path, tissue):
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 4):
            writer.write(
                tissue[::step, ::step], tile=(32, 32), photometric="rgb", compression="jpeg",
                description=APERIO, metadata=None,
            )  # fmt: skip
    for slide in (path, CMU):
        with OpenSlideReader(slide) as one, open_reader(slide) as other:
            assert type(other) is TileReader
            for name in (
                "size", "levels", "bounds", "pixel_size", "objective_power", "background",
                "channels", "planes", "fingerprint",
            ):  # fmt: skip
                assert getattr(one, name) == getattr(other, name), name
            assert one.pixel_size is not None


def test_lower_levels_are_the_decoded_tiles(tmp_path, tissue):
    for ome in (False, True):
        path = write_slide(
            tmp_path / ("a.ome.tif" if ome else "a.tif"), tissue, tile=32, levels=3,
            compression="jpeg", ome=ome,
        )  # fmt: skip
        with tifffile.TiffFile(path) as file:
            decoded = [level.asarray() for level in file.series[0].levels] if ome else [
                page.asarray() for page in file.pages
            ]  # fmt: skip
        with TileReader(path) as reader:
            assert [(level.height, level.width) for level in reader.levels] == [
                pixels.shape[:2] for pixels in decoded
            ]
            for scale, pixels in zip((1, 2, 4), decoded, strict=True):
                corners = np.array([[0, 0], [32, 0], [5, 11], [33, 18]])
                boxes = np.concatenate([corners, np.full((4, 2), 32)], axis=1) * scale
                found, mask = reader.read_many(boxes, (32, 32))
                assert mask is None
                for (x, y), own in zip(corners.tolist(), found, strict=True):
                    np.testing.assert_array_equal(own, pixels[y : y + 32, x : x + 32])


# ---- which tiles make up a box


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_pieces_cover_each_box_once(corners, size, tile):
    """Filled from tiles that know their own places, each pixel has its place."""
    across = -(-100 // tile[0])
    pieces = find_pieces(np.array(corners), size, tile, across)
    found = np.full((len(corners), size[1], size[0], 2), -1)
    assert (np.diff(pieces[:, 0]) >= 0).all(), "in the order of the file's tiles"
    for index, number, left, top, right, bottom, x, y in pieces.tolist():
        row, column = divmod(index, across)
        assert 0 <= x < tile[0] and x + right - left <= tile[0]
        assert 0 <= y < tile[1] and y + bottom - top <= tile[1]
        place = found[number, top:bottom, left:right]
        assert (place == -1).all()
        place[..., 0] = column * tile[0] + x + np.arange(right - left)
        place[..., 1] = (row * tile[1] + y + np.arange(bottom - top))[:, None]
    for (x, y), own in zip(corners, found, strict=True):
        np.testing.assert_array_equal(own[0, :, 0], x + np.arange(size[0]))
        np.testing.assert_array_equal(own[:, 0, 1], y + np.arange(size[1]))
        assert (own == own[:1, :, :1] * [1, 0] + own[:, :1, 1:] * [0, 1]).all()


def test_neighbours_decode_each_tile_once(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=16)
    with TileReader(path) as reader:
        decoded = []
        inner = reader._decode
        monkeypatch.setattr(
            reader,
            "_decode",
            lambda place, table, index, out: (
                decoded.append(index) or inner(place, table, index, out)
            ),
        )
        for left in (0, 128):  # two blocks of 8 x 8 patches, side by side
            boxes = [[left + x + 5, y + 7, 16, 16] for y in range(0, 128, 16)
                     for x in range(0, 128, 16)]  # fmt: skip
            reader.read_many(np.array(boxes), (16, 16))
        assert len(decoded) == len(set(decoded)) == 17 * 9


@pytest.mark.parametrize("count", [1, 3])
def test_a_row_of_blocks_finds_what_the_row_above_left(tmp_path, monkeypatch, count):
    """Each tile is decoded once, though the tiles of a row of blocks do not fit in the cache."""
    monkeypatch.setattr("qupath_bridge.readers.tiles.CACHE_BYTES", 45 * 16 * 16 * 3)
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=16)  # 19 tiles a row
    readers = [TileReader(path) for _ in range(count)]
    decoded = []
    for reader in readers:

        def decode(place, table, index, out, inner=reader._decode):
            decoded.append(index)
            return inner(place, table, index, out)

        monkeypatch.setattr(reader, "_decode", decode)
    turns = itertools.cycle(readers)
    for top in (0, 64, 128):
        for left in range(0, 256, 64):
            boxes = [[left + x + 5, top + y + 7, 16, 16] for y in range(0, 64, 16)
                     for x in range(0, 64, 16)]  # fmt: skip
            found, _ = next(turns).read_many(np.array(boxes), (16, 16))
            for (x, y, w, h), pixels in zip(boxes, found, strict=True):
                expected = np.full((16, 16, 3), 255)
                part = MARKERS[y : y + h, x : x + w]
                expected[: part.shape[0], : part.shape[1]] = part
                np.testing.assert_array_equal(pixels, expected)
    assert len(decoded) == len(set(decoded)) == 17 * 13
    for reader in readers:
        reader.close()


def test_threads_share_tiles_and_read_the_same(tmp_path):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=16, compression="lzw")
    rng = np.random.default_rng(4)
    batches = [
        np.concatenate([rng.integers(0, (261, 167), (20, 2)), np.full((20, 2), 40)], axis=1)
        for _ in range(40)
    ]

    def read(part):
        with TileReader(path) as reader:
            return [reader.read_many(boxes, (40, 40))[0] for boxes in part]

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(read, [batches[start::4] for start in range(4)])]
    for start, own in enumerate(found):
        for boxes, pixels in zip(batches[start::4], own, strict=True):
            for (x, y, w, h), patch in zip(boxes.tolist(), pixels, strict=True):
                np.testing.assert_array_equal(patch, MARKERS[y : y + h, x : x + w])


def test_decoders_do_not_share_their_tiles(tmp_path):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=64)
    with TileReader(path) as one, TileReader(path) as other:
        assert one._cache is other._cache
        assert one._find_cache("another decoder") is not one._cache


def test_a_file_that_was_replaced_has_no_tiles_of_the_old_one(tmp_path):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=64)
    other = write_slide(tmp_path / "b.tif", 255 - MARKERS, tile=64)
    box = Box(10, 10, 100, 100)
    with TileReader(path) as before:
        old, _ = before.read(box, (100, 100))
        other.replace(path)
        with TileReader(path) as after:
            np.testing.assert_array_equal(after.read(box, (100, 100))[0], 255 - old)
        np.testing.assert_array_equal(before.read(box, (100, 100))[0], old)


def test_reading_where_the_system_reads_at_one_place_only(tmp_path, monkeypatch):
    """As on Windows, which has no pread."""
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=64)
    with TileReader(path) as reader:
        monkeypatch.setattr(tile_data, "sys", SimpleNamespace(platform="win32"))
        monkeypatch.delattr(os, "pread", raising=False)
        np.testing.assert_array_equal(reader.read(Box(0, 0, 301, 207), (301, 207))[0], MARKERS)


# ---- JPEG tiles as they are


def decoders():
    yield lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    yield imagecodecs.jpeg8_decode


@pytest.mark.parametrize(("tile", "space", "subsampling", "jfif"), JPEGS)
def test_an_encoded_tile_has_the_pixels_of_the_box(
    tmp_path, tissue, tile, space, subsampling, jfif
):
    path = write_jpeg(
        tmp_path / "a.tif", tissue, tile, space=space, subsampling=subsampling, jfif=jfif
    )
    width, height = tile
    with TileReader(path) as reader:
        for box in (Box(0, 0, *tile), Box(width, height, *tile), Box(2 * width, 0, *tile)):
            (data,) = reader.read_encoded(np.array([box]), tile)
            assert data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
            for decode in decoders():
                np.testing.assert_array_equal(decode(data), reader.read(box, tile)[0])
        for box in (
            Box(1, 0, *tile), Box(0, 1, *tile), Box(0, 0, width - 1, height),
            Box(301 // width * width, 0, *tile), Box(0, 207 // height * height, *tile),
            Box(-width, 0, *tile), Box(0, 0, 2 * width, height),
        ):  # fmt: skip
            assert reader.read_encoded(np.array([box]), box[2:]) == [None]
        assert reader.read_encoded(np.array([[0, 0, 2 * width, 2 * height]]), tile) == [None]
        half = (width // 2, height // 2)
        assert reader.read_encoded(np.array([[0, 0, *tile]]), half) == [None]


def test_encoded_tiles_of_real_slides_and_of_lower_levels(tmp_path, tissue):
    pyramid = write_slide(tmp_path / "a.tif", tissue, tile=32, levels=3, compression="jpeg")
    for path, box, size in (
        (CMU, Box(480, 720, 240, 240), (240, 240)),
        (pyramid, Box(64, 128, 64, 64), (32, 32)),
        (pyramid, Box(128, 0, 128, 128), (32, 32)),
    ):
        with TileReader(path) as reader:
            (data,) = reader.read_encoded(np.array([box]), size)
            for decode in decoders():
                np.testing.assert_array_equal(decode(data), reader.read(box, size)[0])


@pytest.mark.parametrize("compression", ["deflate", "jpeg2000", None])
def test_other_tiles_are_not_encoded_as_jpeg(tmp_path, compression):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=64, compression=compression)
    with TileReader(path) as reader:
        assert reader.read_encoded(np.array([[0, 0, 64, 64]]), (64, 64)) == [None]


# ---- damage


def damage_data(path):
    """Overwrite the head of the data."""
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[6]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * 60)


def past_the_end(path):
    set_tag(path, "TileOffsets", 6, 0xFFFFFF00)


def too_long(path):
    set_tag(path, "TileByteCounts", 6, 0xFFFFFFF0)


def too_short(path):
    with tifffile.TiffFile(path) as file:
        count = file.pages[0].databytecounts[6]
    set_tag(path, "TileByteCounts", 6, count * 2 // 3)


def another_size(path):
    with tifffile.TiffFile(path) as file:
        compression = file.pages[0].compression
    small = np.zeros((32, 128, 3), np.uint8)  # as many pixels as a tile
    encode = {
        tifffile.COMPRESSION.JPEG: imagecodecs.jpeg8_encode,
        tifffile.COMPRESSION.APERIO_JP2000_RGB: imagecodecs.jpeg2k_encode,
        tifffile.COMPRESSION.JPEG2000: imagecodecs.jpeg2k_encode,
        tifffile.COMPRESSION.WEBP: imagecodecs.webp_encode,
    }.get(compression)
    data = imagecodecs.zlib_encode(small[:, 1:].tobytes()) if encode is None else encode(small)
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(data)
    set_tag(path, "TileOffsets", 6, place)
    set_tag(path, "TileByteCounts", 6, len(data))


DAMAGE = [damage_data, past_the_end, too_long, too_short, another_size]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "deflate", "zstd", "lzw"])
def test_a_bad_tile_fails_with_its_place_or_is_background(
    tmp_path, tissue, compression, damage, monkeypatch
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, tissue, tile=(64, 64), photometric="rgb", compression=compression, metadata=None
    )
    damage(path)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[6]
    bad = Box(64, 64, 64, 64)  # five tiles a row: the second of the second row
    length = path.stat().st_size

    def read_at(handle, count, start):
        assert 0 <= start <= start + count <= length, "a read outside the file"
        return inner(handle, count, start)

    inner = tile_data.read_at
    monkeypatch.setattr(tile_data, "read_at", read_at)
    with open_reader(path) as reader:
        reader.read(Box(128, 64, 64, 64), (64, 64))
        for _ in range(2):
            with pytest.raises(ReadError) as caught:
                reader.read(bad, (64, 64))
            assert f"{path}: tile at column 1, row 1 of level 0 (offset {offset})" in str(
                caught.value
            )
            assert "on_bad_tile background" in caught.value.hint
        with pytest.raises(ReadError, match="column 1, row 1"):
            reader.read_many(np.array([[100, 100, 20, 20], [0, 0, 20, 20]]), (20, 20))
        assert reader.read_encoded(np.array([bad]), (64, 64)) == [None]
    with open_reader(path, on_bad_tile="background") as reader:
        pixels, mask = reader.read_many(np.array([bad, [120, 60, 64, 64]]), (64, 64))
        assert not mask[0].any() and (pixels[0] == 255).all()
        lost = np.zeros((64, 64), bool)
        lost[4:, :8] = True
        np.testing.assert_array_equal(mask[1], ~lost)
        assert (pixels[1][lost] == 255).all()
        assert reader.bad_tiles == {BadTile(0, 1, 1, 0, 0, offset)}
        with pickle.loads(pickle.dumps(reader)) as copy:  # bytes of our own
            assert not copy.read(bad, (64, 64))[1].any()
        with TileReader(path) as fresh:
            assert fresh.on_bad_tile == "fail"


def test_bad_tiles_of_other_planes_and_levels_are_told_apart(tmp_path):
    path = tmp_path / "a.ome.tif"
    stack = np.stack([MARKERS, 255 - MARKERS])
    tifffile.imwrite(
        path, stack, ome=True, photometric="rgb", tile=(64, 64), compression="deflate",
        metadata={"axes": "ZYXS"},
    )  # fmt: skip
    set_tag(path, "TileByteCounts", 2, 9, page=1)
    with open_reader(path, on_bad_tile="background") as reader:
        assert reader.read(Box(0, 0, 301, 207), (301, 207))[1] is None
        assert not reader.read(Box(128, 0, 64, 64), (64, 64), Plane(1, 0))[1].any()
        ((level, column, row, z, t, _),) = reader.bad_tiles
        assert (level, column, row, z, t) == (0, 2, 0, 1, 0)


@pytest.mark.parametrize("on_bad_tile", ["fail", "background"])
@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength"])
def test_a_size_that_the_tiles_cannot_fill_is_refused(tmp_path, tag, on_bad_tile):
    """A damaged size could ask for all memory, and for hours."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, MARKERS, tile=(64, 64), photometric="rgb", metadata=None, bigtiff=True)
    set_tag(path, tag, 0, 0x7FFFFFFF)
    with (
        open_reader(path, on_bad_tile=on_bad_tile) as reader,
        pytest.raises(ReadError, match=r"a\.tif: .* lists 20 tiles, its size needs \d{9}"),
    ):
        reader.read(Box(0, 0, 64, 64), (64, 64))


def test_a_drive_that_fails_is_no_bad_tile(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "a.tif", MARKERS, tile=64)

    def fail(*args):
        raise OSError(5, "Input/output error")

    with open_reader(path, on_bad_tile="background") as reader:
        monkeypatch.setattr("qupath_bridge.readers.tile_data.read_at", fail)
        with pytest.raises(ReadError, match="Input/output error"):
            reader.read(Box(0, 0, 64, 64), (64, 64))
        assert reader.bad_tiles == set()


@pytest.mark.parametrize("on_bad_tile", ["fail", "background"])
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "lzw", "deflate", "zstd"])
def test_any_damage_is_a_read_error_or_pixels(tmp_path, tissue, compression, on_bad_tile):
    """Bytes are changed in the directory and in tiles; nothing else gets out, and no crash."""
    rng = np.random.default_rng(len(compression))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=compression == "lzw") as writer:
        for scale in (1, 2):
            writer.write(
                tissue[::scale, ::scale], tile=(64, 64), photometric="rgb", metadata=None,
                compression=compression, subfiletype=scale - 1, software=False,
            )  # fmt: skip
    good = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        starts = sorted(start for page in file.pages for start in page.dataoffsets)
        directories = [(page.offset, page.offset + 220) for page in file.pages]
    ranges = [*directories, (4, 16), *((start, start + 700) for start in starts[:6])]
    opened = 0
    for turn in range(60):
        data = bytearray(good)
        low, high = ranges[turn % len(ranges)]
        for place in rng.integers(low, min(high, len(data)), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            with open_reader(path, name="tiles", on_bad_tile=on_bad_tile) as reader:
                opened += 1
                width, height = reader.size
                size = min(width, 300), min(height, 200)
                pixels, _ = reader.read(Box(0, 0, *size), size)
                assert pixels.shape == (size[1], size[0], 3)
                reader.read_many(np.array([[0, 0, 64, 64], [64, 64, 64, 64]]), (64, 64))
                reader.read(Box(0, 0, width, height), (50, 40))
        except ReadError as error:
            assert "a.tif" in str(error)
    assert opened > 10
