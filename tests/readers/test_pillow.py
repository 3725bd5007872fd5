"""JPEG, PNG and BMP pictures as slides of one level."""

import gc
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader, pillow
from qupath_bridge.readers.pillow import PillowReader
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from qupath_bridge.testing.projects import Image as ProjectImage
from qupath_bridge.testing.projects import build_memory_project
from qupath_bridge.testing.slides import marker_image

SIZE = (301, 207)
PIXELS = marker_image(*SIZE)
ALPHA = np.where(np.arange(301) < 100, 0, 255).astype(np.uint8)


def whole(path):
    with open_reader(path) as reader:
        assert type(reader) is PillowReader
        assert [(level.width, level.height) for level in reader.levels] == [reader.size]
        return reader.read(Box(0, 0, *reader.size), reader.size)


class TestPng(ReaderContract):
    @pytest.fixture
    def path(self, tmp_path):
        Image.fromarray(PIXELS).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    @pytest.fixture
    def truth(self):
        return Truth(PIXELS)

    @pytest.fixture
    def make(self, path):
        return lambda: PillowReader(path)


class TestPngWithAlpha(TestPng):
    @pytest.fixture
    def path(self, tmp_path):
        alpha = np.broadcast_to(ALPHA, (207, 301))
        Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    @pytest.fixture
    def truth(self):
        mask = np.broadcast_to(ALPHA > 0, (207, 301))
        return Truth(np.where(mask[..., None], PIXELS, np.uint8(255)), mask)


class TestJpeg(TestPng):
    @pytest.fixture
    def path(self, tmp_path):
        Image.fromarray(PIXELS).save(tmp_path / "a.jpg", quality=95, subsampling=0)
        return tmp_path / "a.jpg"

    @pytest.fixture
    def truth(self):
        return Truth(PIXELS, lossless=False)


def test_pixels_are_those_of_another_decoder(tmp_path):
    smooth = np.asarray(Image.fromarray(PIXELS).resize((301, 207)).reduce(3).resize(SIZE))
    for name, decode in (
        ("a.png", imagecodecs.png_decode),
        ("a.jpg", imagecodecs.jpeg8_decode),
        ("b.jpeg", imagecodecs.jpeg8_decode),
        ("a.bmp", imagecodecs.bmp_decode),
    ):
        path = tmp_path / name
        options = {"progressive": True} if name == "b.jpeg" else {}
        Image.fromarray(smooth).save(path, **options)
        pixels, mask = whole(path)
        np.testing.assert_array_equal(pixels, decode(path.read_bytes()))
        assert mask is None


def test_pixels_with_a_palette_are_its_colours(tmp_path):
    few = PIXELS // 64 * 64
    picture = Image.fromarray(few).quantize(64)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(whole(tmp_path / "a.png")[0], picture.convert("RGB"))
    picture.save(tmp_path / "b.png", transparency=3)
    index = np.asarray(picture)
    pixels, mask = whole(tmp_path / "b.png")
    np.testing.assert_array_equal(mask, index != 3)
    assert (pixels[index == 3] == 255).all()


def test_half_transparent_pixels_are_put_on_white(tmp_path):
    alpha = np.tile(np.arange(256, dtype=np.uint8), (207, 2))[:, :301]
    picture = Image.fromarray(np.dstack([PIXELS, alpha]))
    picture.save(tmp_path / "a.png")
    white = Image.new("RGBA", SIZE, "white")
    white.alpha_composite(picture)
    pixels, mask = whole(tmp_path / "a.png")
    assert np.abs(pixels.astype(int) - np.asarray(white.convert("RGB"))).max() <= 1
    np.testing.assert_array_equal(mask, alpha >= 128)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_pictures_are_not_turned_by_a_note_of_the_camera(tmp_path, name):
    """QuPath and ImageJ show the pixels as they are stored."""
    picture = Image.fromarray(PIXELS)
    notes = picture.getexif()
    notes[0x0112] = 6  # Orientation: turn it by 90 degrees
    picture.save(tmp_path / name, exif=notes, quality=95, subsampling=0)
    pixels, _ = whole(tmp_path / name)
    assert pixels.shape == (207, 301, 3)
    assert np.abs(pixels.astype(int) - PIXELS).mean() < 12


@pytest.mark.parametrize(
    ("mode", "name", "found"),
    [
        ("L", "a.png", "type L"),
        ("L", "a.jpg", "type L"),
        ("LA", "a.png", "type LA"),
        ("1", "a.png", "type 1"),
        ("I;16", "a.png", "type 16-bit I"),
        ("CMYK", "a.jpg", "type CMYK"),
    ],
)
def test_pictures_with_other_pixels_are_refused_by_name(tmp_path, mode, name, found):
    path = tmp_path / name
    picture = Image.fromarray(PIXELS)
    if mode == "I;16":
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    else:
        picture.convert(mode).save(path)
    with pytest.raises(ReadError, match=found) as caught:
        open_reader(path)
    assert "8-bit RGB" in caught.value.message
    assert "Convert" in caught.value.hint


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_of_16_bits_are_refused_not_cut(tmp_path, channels):
    """Pillow alone would keep the upper byte without a word."""
    path = tmp_path / "a.png"
    values = np.zeros((20, 30, channels), np.uint16) + 700
    path.write_bytes(imagecodecs.png_encode(values))
    with pytest.raises(ReadError, match="16-bit RGB"):
        PillowReader(path)


def png_that_claims(width, height):
    """A PNG file of a few bytes with a header, and hardly any pixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_pictures_larger_than_the_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    monkeypatch.setattr(pillow, "MAX_PIXELS", 4000 * 3000)
    path.write_bytes(png_that_claims(4000, 3001))
    with pytest.raises(ReadError, match="4000 x 3001 pixels.* 12 million") as caught:
        open_reader(path)
    assert "vips tiffsave" in caught.value.hint
    path.write_bytes(png_that_claims(4000, 3000))
    with open_reader(path) as reader:
        assert reader.size == (4000, 3000)


def test_the_limit_is_the_one_that_is_documented():
    assert pillow.MAX_PIXELS == 134_217_728
    huge = 2**31 - 1
    assert huge * huge > pillow.MAX_PIXELS


def test_a_bomb_takes_no_memory(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_that_claims(2**31 - 1, 2**31 - 1))
    with pytest.raises(ReadError, match="2147483647 x 2147483647"):
        open_reader(path)


def test_a_large_picture_within_the_limit_is_no_warning(tmp_path):
    """Pillow's own limit is lower, and warns."""
    path = tmp_path / "a.png"
    path.write_bytes(png_that_claims(10_000, 10_000))
    with open_reader(path) as reader:
        assert reader.size == (10_000, 10_000)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_pictures_that_are_cut_off_are_refused(tmp_path, name, share):
    path = tmp_path / name
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ReadError, match=name) as caught, open_reader(path) as reader:
        reader.read(Box(0, 0, 10, 10), (10, 10))
    assert "cop" in caught.value.hint


def test_a_picture_is_decoded_once_for_all_its_readers(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    one, two = PillowReader(path), PillowReader(path)
    for reader in (one, two):
        reader.read(Box(0, 0, 10, 10), (10, 10))
    assert one._picture is two._picture
    one.close()
    two.close()
    gc.collect()
    assert not pillow._decoded


def test_a_picture_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    with PillowReader(path) as reader:
        Image.fromarray(PIXELS[:100]).save(path)
        with pytest.raises(ReadError, match="replaced"):
            reader.read(Box(0, 0, 10, 10), (10, 10))


def test_a_mirax_slide_is_not_its_own_small_picture(tmp_path):
    """It begins with a JPEG picture; without its folder it cannot be read."""
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    path = (tmp_path / "a.jpg").rename(tmp_path / "a.MRXS")
    assert PillowReader.can_open(path) == 0
    with pytest.raises(ReadError):
        open_reader(path)


@pytest.mark.parametrize(
    ("name", "density", "found"),
    [
        ("a.png", (50_800, 25_400), (0.5, 1.0)),
        ("a.jpg", (50_800, 50_800), (0.5, 0.5)),
        ("a.png", (72, 72), None),
        ("a.jpg", (300, 300), None),
        ("a.bmp", None, None),
    ],
)
def test_the_density_of_a_screen_is_no_pixel_size(tmp_path, name, density, found):
    options = {} if density is None else {"dpi": density}
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    with PillowReader(tmp_path / name) as reader:
        assert reader.pixel_size == (None if found is None else pytest.approx(found, rel=1e-4))


def test_patches_of_a_picture_are_its_pixels(tmp_path):
    path = tmp_path / "roi.png"
    Image.fromarray(PIXELS).save(path)
    slide = build_memory_project(
        [ProjectImage(path, size=SIZE, pixel_size=None, provider=None)]
    ).slides[0]
    config = qb.ExportConfig(size=64, labels=False)
    run = qb.export([slide], tmp_path / "out", config, workers=3, provenance=False)
    assert run.written == 4 * 3
    for row in run.table().to_pylist():
        x, y = row["x_qupath"], row["y_qupath"]
        found = np.asarray(Image.open(tmp_path / "out" / row["path"]))
        np.testing.assert_array_equal(found, PIXELS[y : y + 64, x : x + 64])
