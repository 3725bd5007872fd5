import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, JpegImagePlugin

from qupath_bridge import registry
from qupath_bridge.codecs import Encoder, decode, get_encoder
from qupath_bridge.errors import ReadError, UsageError

BUILT_IN = ("png", "jpeg", "tiff")
PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", ["png", "tiff"])
@given(pixels=PIXELS)
@settings(max_examples=60, deadline=None)
def test_lossless_formats_give_the_pixels_back(kind, pixels):
    encoder = get_encoder(kind)
    data = encoder.encode(pixels)
    assert encoder.lossless
    assert np.array_equal(pillow(data), pixels)
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
    with tifffile.TiffFile(io.BytesIO(get_encoder("tiff", mpp=0.5).encode(smooth()))) as file:
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


def test_an_unknown_encoder_is_refused_with_the_known():
    with pytest.raises(UsageError, match="No encoder is called 'magic'. Known: png, jpeg, tiff"):
        get_encoder("magic")


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_an_encoder_quality_outside_its_range_is_refused(quality):
    with pytest.raises(UsageError, match=f"quality {quality} is outside"):
        get_encoder("jpeg", quality=quality)


def test_registered_encoders_get_quality_and_pixel_size(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("encoder", "mine", lambda quality, mpp: (quality, mpp))
    assert get_encoder("mine", quality=7, mpp=0.25) == (7, 0.25)
    assert get_encoder("mine") == (90, None)


def test_a_png_is_what_the_standard_says():
    data = get_encoder("png").encode(smooth())
    picture = Image.open(io.BytesIO(data))
    picture.verify()  # checks every chunk's sum
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 48))


def test_jpeg_halves_the_colours_both_ways():
    picture = Image.open(io.BytesIO(get_encoder("jpeg").encode(smooth())))
    assert JpegImagePlugin.get_sampling(picture) == 2  # Pillow's number of 4:2:0
