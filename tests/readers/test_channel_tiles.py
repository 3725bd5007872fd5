"""Tiles of TIFF files with channels: which are decoded and kept, missing and damaged ones."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box
from qupath_bridge.readers import levels, open_reader, tile_data, tile_table, tiles
from qupath_bridge.readers.base import BadTile
from qupath_bridge.readers.tiles import TileReader
from tests.support.channel_tiffs import (
    last,
    noise,
    smooth,
    whole,
    write_ome,
    write_qptiff,
)
from tests.support.tiff_tags import set_tag

# ---- long strips


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("rows", [110, 40])
def test_long_plain_strips_are_read_in_groups_of_rows(tmp_path, monkeypatch, rows, planar):
    monkeypatch.setattr(tile_table, "STRIP_BYTES", 150 * 2 * 3 * 7)
    pixels = noise((3, 110, 150), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels if planar else last(pixels), photometric="minisblack", metadata=None,
        planarconfig="separate" if planar else "contig", rowsperstrip=rows, byteorder=">",
    )  # fmt: skip
    lengths, inner = [], tile_data.read_at

    def read_at(handle, count, start):
        lengths.append(count)
        return inner(handle, count, start)

    monkeypatch.setattr(tile_data, "read_at", read_at)
    np.testing.assert_array_equal(whole(path), last(pixels))
    assert max(lengths) <= tile_table.STRIP_BYTES
    lengths.clear()
    with TileReader(path) as reader:
        found, _ = reader.read(Box(10, 50, 20, 6), (20, 6), channels=(1,))
    np.testing.assert_array_equal(found[..., 0], pixels[1, 50:56, 10:30])
    assert sum(lengths) <= 3 * tile_table.STRIP_BYTES


# ---- what is decoded, and kept


def test_only_channels_that_are_asked_for_are_decoded(tmp_path, monkeypatch):
    path = write_ome(tmp_path / "a.ome.tif", noise((9, 128, 128), np.uint16), "CYX")
    offsets, inner = [], tile_data.read_at
    with tifffile.TiffFile(path) as file:
        own = {number: set(page.dataoffsets) for number, page in enumerate(file.pages)}

    def read_at(handle, count, start):
        offsets.append(start)
        return inner(handle, count, start)

    monkeypatch.setattr(tile_data, "read_at", read_at)
    with TileReader(path) as reader:
        reader.read_many(np.array([[0, 0, 64, 64], [30, 30, 64, 64]]), (64, 64), channels=(7, 2, 7))
    assert offsets and set(offsets) <= own[7] | own[2]
    assert len(offsets) == 2 * 4  # the second box touches four tiles, the first one of them


def test_blocks_of_many_channels_are_bounded_in_bytes(tmp_path, monkeypatch):
    """A large box is read in as many blocks as its channels and their type ask for."""
    monkeypatch.setattr(levels, "BLOCK_BYTES", 100_000)
    pixels = noise((12, 256, 256), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX")
    largest, inner = [], TileReader._read_parts

    def watched(self, *args):
        found = inner(self, *args)
        largest.append(found[0].nbytes)
        return found

    monkeypatch.setattr(TileReader, "_read_parts", watched)
    with TileReader(path) as reader:
        found, _ = reader.read(Box(0, 0, 256, 256), (64, 64))
        batch, _ = reader.read_many(np.array([[0, 0, 128, 128]] * 3), (64, 64))
    sums = pixels.reshape(12, 64, 4, 64, 4).astype(np.int64).sum(axis=(2, 4))
    np.testing.assert_array_equal(found, last((sums + 8) // 16))
    assert batch.shape == (3, 64, 64, 12)
    assert max(largest) <= 150_000  # blocks share the pixels on their edges


def test_the_cache_of_many_channels_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE_BYTES", 20_000)
    path = write_ome(tmp_path / "a.ome.tif", noise((33, 128, 128), np.uint16), "CYX")
    with TileReader(path) as reader:
        for x in (3, 30, 5):
            reader.read(Box(x, 7, 64, 64), (64, 64))
            assert 0 < reader._cache.nbytes <= 20_000 * tiles.MOST_CACHES


# ---- missing and damaged tiles


def test_a_tile_that_one_channel_misses_is_zero_there(tmp_path):
    """The other channels stay; the mask is False where no channel has pixels."""
    pixels = noise((3, 128, 192), np.uint16) | 1
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", compression="deflate")
    for page, tile in ((1, 0), (2, 1), (0, 4), (1, 4), (2, 4)):
        set_tag(path, "TileOffsets", tile, 0, page=page)
        set_tag(path, "TileByteCounts", tile, 0, page=page)
    expected = last(pixels).copy()
    expected[:64, :64, 1] = 0
    expected[:64, 64:128, 2] = 0
    expected[64:, 64:128] = 0
    seen = np.ones((128, 192), bool)
    seen[64:, 64:128] = False
    with TileReader(path) as reader:
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(mask, seen)
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128), channels=(2, 0))
        np.testing.assert_array_equal(found, expected[..., [2, 0]])
        np.testing.assert_array_equal(mask, seen)
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128), channels=(2,))
        np.testing.assert_array_equal(mask, seen & (expected[..., 2] > 0))
        found, mask = reader.read(Box(0, 0, 64, 64), (64, 64), channels=(1,))
        assert not found.any() and not mask.any()


def damage_data(path):
    with tifffile.TiffFile(path) as file:
        place = file.pages[1].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)


def past_the_end(path):
    set_tag(path, "TileOffsets", 3, 2**31, page=1)


def too_long(path):
    set_tag(path, "TileByteCounts", 3, 2**31, page=1)


def too_short(path):
    set_tag(path, "TileByteCounts", 3, 20, page=1)


@pytest.mark.parametrize("damage", [damage_data, past_the_end, too_long, too_short])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "jpeg2000", None])
def test_a_bad_tile_of_a_channel_fails_with_its_place_or_is_zero(tmp_path, compression, damage):
    if compression is None and damage is not past_the_end:
        return  # any bytes are values, and all pages share one list of lengths
    pixels = smooth((3, 128, 192), np.uint16)
    path = write_ome(
        tmp_path / "a.ome.tif", pixels, "CYX", compression=compression,
        compressionargs={"reversible": True, "level": 0} if compression == "jpeg2000" else None,
    )  # fmt: skip
    damage(path)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[1].dataoffsets[3]
    box = Box(0, 64, 64, 64)
    with open_reader(path) as reader:
        reader.read(box, (64, 64), channels=(0, 2))
        with pytest.raises(
            ReadError, match=rf"tile at column 0, row 1 of level 0 \(offset {offset}"
        ):
            reader.read(box, (64, 64))
    with open_reader(path, on_bad_tile="background") as reader:
        found, mask = reader.read(box, (64, 64))
        expected = last(pixels)[64:, :64].copy()
        expected[..., 1] = 0
        np.testing.assert_array_equal(found, expected)
        assert mask is None, "two channels have pixels"
        assert reader.bad_tiles == {BadTile(0, 0, 1, 0, 0, offset)}


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl"])
def test_a_grey_tile_that_grows_is_not_decoded(tmp_path, compression, monkeypatch):
    """A tile says itself how large it is; a small one may claim to be gigabytes."""
    huge = np.zeros((1000, 1000), np.uint16)
    encode = {"jpeg2000": imagecodecs.jpeg2k_encode, "jpegxl": imagecodecs.jpegxl_encode}
    path = write_ome(tmp_path / "a.ome.tif", huge[None, :64, :64], "CYX", compression=compression)
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(encode[compression](huge))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    with TileReader(path) as reader:
        decoded = []
        for name in ("jpeg2k_decode", "jpegxl_decode"):
            monkeypatch.setattr(imagecodecs, name, lambda *args, **rest: decoded.append(args))
        with pytest.raises(ReadError, match="says that it has 1000 x 1000 pixels"):
            reader.read(Box(0, 0, 64, 64), (64, 64))
        assert not decoded


def test_a_jpeg_2000_tile_of_more_samples_is_not_decoded(tmp_path, monkeypatch):
    many = np.zeros((64, 64, 4), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", many[None, ..., 0], "CYX", compression="jpeg2000")
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(imagecodecs.jpeg2k_encode(many))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
    with TileReader(path) as reader, pytest.raises(ReadError, match="4 samples, not 1"):
        reader.read(Box(0, 0, 64, 64), (64, 64))


@pytest.mark.parametrize("on_bad_tile", ["fail", "background"])
@pytest.mark.parametrize("kind", ["ome", "imagej", "qptiff", "interleaved"])
def test_any_damage_is_a_read_error_or_pixels(tmp_path, kind, on_bad_tile):
    """Bytes are changed in directories, descriptions and tiles; nothing else gets out."""
    rng = np.random.default_rng(len(kind))
    path = tmp_path / "a.tif"
    pixels = smooth((3, 100, 140), np.uint16)
    if kind == "ome":
        write_ome(path, pixels, "CYX", names="abc", levels=2, compression="deflate", predictor=2)
    elif kind == "imagej":
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"}, truncate=True)
    elif kind == "qptiff":
        write_qptiff(path, pixels, "abc", levels=2)
    else:
        tifffile.imwrite(
            path, last(pixels), photometric="minisblack", planarconfig="contig", tile=(64, 64),
            metadata=None, compression="lzw",
        )  # fmt: skip
    data = path.read_bytes()
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3).tolist() + rng.integers(0, 900, 2).tolist():
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            with open_reader(path, on_bad_tile=on_bad_tile) as reader:
                found, _ = reader.read(Box(10, 10, 100, 80), (100, 80))
                assert found.shape[:2] == (80, 100)
                reader.read(Box(0, 0, 140, 100), (35, 25))
        except ReadError:
            continue
