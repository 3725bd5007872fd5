import io
import struct
import sys
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, JpegImagePlugin

from qupath_bridge import registry
from qupath_bridge.codecs import Contents, Encoder, decode, encoder_of, get_encoder
from qupath_bridge.codecs.jpeg import JpegEncoder
from qupath_bridge.codecs.jxl import size_of_jxl
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import MissingDependencyError, ReadError, UsageError

BUILT_IN = ("png", "jpeg", "tiff", "ome-tiff", "npy", "webp", "jxl")
PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


DECODERS = {
    "png": pillow,
    "tiff": pillow,
    "ome-tiff": pillow,
    "npy": lambda data: np.load(io.BytesIO(data)),
    "webp": pillow,
    "jxl": imagecodecs.jpegxl_decode,  # Pillow has none
}


@pytest.mark.parametrize("kind", DECODERS)
@given(pixels=PIXELS)
@settings(max_examples=60, deadline=None)
def test_lossless_formats_give_the_pixels_back(kind, pixels):
    encoder = get_encoder(kind)
    data = encoder.encode(pixels)
    assert encoder.lossless
    assert np.array_equal(DECODERS[kind](data), pixels)
    assert np.array_equal(decode(data), pixels)
    assert encoder.encode(pixels.copy()) == data


def smooth():
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    return np.stack([x * 4, y * 5, 255 - x - y], -1).astype(np.uint8)


def test_jpeg_keeps_what_it_should():
    encoder = get_encoder("jpeg", quality=95)
    shown = pillow(encoder.encode(smooth()))
    assert not encoder.lossless
    assert np.abs(shown.astype(int) - smooth()).max() <= 6
    assert len(get_encoder("jpeg", quality=30).encode(smooth())) < len(encoder.encode(smooth()))


@pytest.mark.parametrize("kind", BUILT_IN)
def test_views_are_encoded_like_copies(kind):
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    view = pixels[5:45, ::-1][:, 10:50]
    encoder = get_encoder(kind)
    assert isinstance(encoder, Encoder)
    assert encoder.encode(view) == encoder.encode(np.ascontiguousarray(view))


def test_tiff_holds_the_resolution():
    with tifffile.TiffFile(
        io.BytesIO(get_encoder("tiff", contents=Contents(mpp=0.5)).encode(smooth()))
    ) as file:
        tags = file.pages[0].tags
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator == pytest.approx(20000)
        assert tags["ResolutionUnit"].value == 3
    with tifffile.TiffFile(io.BytesIO(get_encoder("tiff").encode(smooth()))) as file:
        assert file.pages[0].tags["ResolutionUnit"].value == 1


@pytest.mark.parametrize("kind", BUILT_IN)
def test_cut_off_files_are_refused(kind):
    data = get_encoder(kind).encode(smooth())
    for end in (0, 1, len(data) // 3, len(data) // 2):
        with pytest.raises(ReadError, match="not a whole image"):
            decode(data[:end])


@pytest.mark.parametrize("side", [3_000, 12_000, 20_000])  # Pillow warns from 9,459, refuses 13,378
def test_a_picture_of_another_size_is_refused_before_it_fills_the_memory(side):
    rows = zlib.compress(bytes(1 + 3 * side) * 100)  # too few: decoding would say so
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match=f"{side} x {side} pixels, not 32 x 40|exceeds limit"):
            decode(bomb, (32, 40))
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    if side > 9_459:
        with pytest.raises(ReadError, match="exceeds limit"):
            decode(bomb)


def jxl_header(width, height):
    """Return the beginning of a JPEG XL codestream as the standard has it: sides of 18 bits."""
    bits, at = 0, 0
    for value, count in ((0, 1), (2, 2), (height - 1, 18), (0, 3), (2, 2), (width - 1, 18)):
        bits |= value << at
        at += count
    return b"\xff\x0a" + bits.to_bytes(20, "little")


def test_a_jpeg_xl_file_of_another_size_is_refused_before_it_is_decoded():
    with pytest.raises(ReadError, match="70000 x 90000 pixels, not 32 x 40"):
        decode(jxl_header(70_000, 90_000), (32, 40))
    with pytest.raises(ReadError, match="70000 x 90000 pixels exceed the limit"):
        decode(jxl_header(70_000, 90_000))
    with pytest.raises(ReadError, match="32 x 40 pixels, not 40 x 32"):
        decode(get_encoder("jxl").encode(np.zeros((40, 32, 3), np.uint8)), (40, 32))


@given(width=st.integers(1, 600), height=st.integers(1, 600))
@settings(max_examples=100, deadline=None)
def test_the_size_of_a_jpeg_xl_file_is_read_from_its_header(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    data = imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1)
    assert size_of_jxl(data) == (width, height)


@pytest.mark.parametrize(
    "size", [(256, 256), (300, 250), (400, 300), (1600, 900), (250, 200), (512, 256), (9000, 11)]
)
def test_the_size_of_a_jpeg_xl_file_of_a_common_shape_is_read(size):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    assert size_of_jxl(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1)) == size


@pytest.mark.parametrize(("kind", "codec"), [("webp", "WEBP"), ("jxl", "JPEGXL")])
def test_a_format_that_imagecodecs_lacks_is_named_with_what_to_install(monkeypatch, kind, codec):
    class Unavailable:
        available = False

    data = get_encoder(kind).encode(smooth())
    monkeypatch.setattr(imagecodecs, codec, Unavailable)
    monkeypatch.delitem(sys.modules, f"qupath_bridge.codecs.{kind}")
    with pytest.raises(MissingDependencyError, match=f"encoder '{kind}'.*built without") as caught:
        get_encoder(kind)
    assert caught.value.hint == "Install it with: pip install imagecodecs."
    if kind == "jxl":
        with pytest.raises(MissingDependencyError, match="encoder 'jxl'"):
            decode(data)


def test_a_webp_file_that_the_format_cannot_hold_is_refused():
    with pytest.raises(UsageError, match="no room for 16383 x 1 pixels") as caught:
        get_encoder("webp").encode(np.zeros((1, 16_383, 3), np.uint8))
    assert "16382" in caught.value.hint
    widest = get_encoder("webp").encode(np.zeros((1, 16_382, 3), np.uint8))
    assert pillow(widest).shape == (1, 16_382, 3)


@pytest.mark.parametrize("size", [(32, 41), (31, 40), (16, 80)])
def test_raw_pixels_of_another_size_are_refused(size):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 32, 3), np.uint8)
    data = get_encoder("raw").encode(pixels)
    assert data == pixels.tobytes()
    assert np.array_equal(decode(data, (32, 40), raw=True), pixels)
    if size[0] * size[1] != 32 * 40:
        with pytest.raises(ReadError, match="not a whole image"):
            decode(data, size, raw=True)


def test_an_unknown_encoder_is_refused_with_the_known():
    with pytest.raises(UsageError, match="No encoder is called 'magic'. Known: png, jpeg, tiff"):
        get_encoder("magic")


@pytest.mark.parametrize("subsampling", ["411", "", "4:2:0"])
def test_an_unknown_subsampling_is_refused(subsampling):
    with pytest.raises(UsageError, match=f"No subsampling is called '{subsampling}'") as caught:
        get_encoder("jpeg", subsampling=subsampling)
    assert caught.value.hint == "Use 420, 422, 444."


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_an_encoder_quality_outside_its_range_is_refused(quality):
    with pytest.raises(UsageError, match=f"quality {quality} is outside"):
        get_encoder("jpeg", quality=quality)


def test_registered_encoders_get_quality_subsampling_and_contents(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("encoder", "mine", lambda **options: options)
    asked = {"quality": 7, "subsampling": "422", "contents": Contents(("A",), "uint16", 0.25)}
    assert get_encoder("mine", **asked) == asked
    assert get_encoder("mine") == {"quality": 90, "subsampling": "420", "contents": Contents()}


def test_the_options_of_a_run_reach_the_encoder():
    config = ExportConfig(format="jpeg", jpeg_quality=31, jpeg_subsampling="444")
    encoder = encoder_of(config, Contents(mpp=0.5))
    assert encoder == JpegEncoder(quality=31, subsampling="444", contents=Contents(mpp=0.5))


def test_a_png_is_what_the_standard_says():
    data = get_encoder("png").encode(smooth())
    picture = Image.open(io.BytesIO(data))
    picture.verify()  # checks every chunk's sum
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 48))


@pytest.mark.parametrize(
    ("subsampling", "factors"),
    [("420", (2, 2)), ("422", (2, 1)), ("444", (1, 1))],
)
def test_jpeg_keeps_as_many_colours_as_asked(subsampling, factors):
    data = get_encoder("jpeg", subsampling=subsampling).encode(smooth())
    layers = Image.open(io.BytesIO(data)).layer
    assert [layer[1:3] for layer in layers] == [factors, (1, 1), (1, 1)]


def test_jpeg_halves_the_colours_both_ways_by_default():
    picture = Image.open(io.BytesIO(get_encoder("jpeg").encode(smooth())))
    assert JpegImagePlugin.get_sampling(picture) == 2  # Pillow's number of 4:2:0
