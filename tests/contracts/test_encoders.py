import pytest

from qupath_bridge import codecs
from qupath_bridge.codecs.base import RGB_PIXELS
from qupath_bridge.codecs.jpeg import JpegEncoder
from qupath_bridge.codecs.jxl import JxlEncoder
from qupath_bridge.codecs.npy import NpyEncoder
from qupath_bridge.codecs.ome_tiff import OmeTiffEncoder
from qupath_bridge.codecs.png import PngEncoder
from qupath_bridge.codecs.raw import RawEncoder
from qupath_bridge.codecs.tiff import TiffEncoder
from qupath_bridge.codecs.webp import WebpEncoder
from qupath_bridge.testing.contracts.encoder import EncoderContract


class TestPng(EncoderContract):
    def factory(self):
        return PngEncoder


class TestJpeg(EncoderContract):
    tolerance = 6

    def factory(self):
        return JpegEncoder


class TestTiff(EncoderContract):
    def factory(self):
        return TiffEncoder


class TestOmeTiff(EncoderContract):
    def factory(self):
        return OmeTiffEncoder


class TestNpy(EncoderContract):
    def factory(self):
        return NpyEncoder


class TestWebp(EncoderContract):
    def factory(self):
        return WebpEncoder


class TestRaw(EncoderContract):
    def factory(self):
        return RawEncoder

    def decode(self, data, size, contents=RGB_PIXELS):
        return codecs.decode(data, size, contents, raw=True)


class TestJxl(EncoderContract):
    def factory(self):
        return JxlEncoder


@pytest.mark.parametrize(
    ("factory", "extension", "media_type", "portable"),
    [
        (PngEncoder, ".png", "image/png", False),
        (JpegEncoder, ".jpg", "image/jpeg", True),
        (TiffEncoder, ".tif", "image/tiff", True),
        (OmeTiffEncoder, ".ome.tif", "image/tiff", True),
        (NpyEncoder, ".npy", "application/octet-stream", True),
        (WebpEncoder, ".webp", "image/webp", False),
        (JxlEncoder, ".jxl", "image/jxl", False),
        (RawEncoder, ".raw", "application/octet-stream", True),
    ],
)
def test_facts_of_the_built_in_encoders(factory, extension, media_type, portable):
    encoder = factory()
    assert (encoder.extension, encoder.media_type) == (extension, media_type)
    assert encoder.portable is portable
