import pytest

from qupath_bridge.codecs.jpeg import JpegEncoder
from qupath_bridge.codecs.png import PngEncoder
from qupath_bridge.codecs.tiff import TiffEncoder
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


@pytest.mark.parametrize(
    ("factory", "extension", "media_type"),
    [
        (PngEncoder, ".png", "image/png"),
        (JpegEncoder, ".jpg", "image/jpeg"),
        (TiffEncoder, ".tif", "image/tiff"),
    ],
)
def test_extension_and_media_type_of_the_built_in_encoders(factory, extension, media_type):
    encoder = factory()
    assert (encoder.extension, encoder.media_type) == (extension, media_type)
