"""Contract of encoders."""

from __future__ import annotations

import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pytest

from qupath_bridge import codecs
from qupath_bridge.codecs.base import RGB_PIXELS, Contents, Encoder
from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray

__all__ = ["EncoderContract"]

KINDS = (
    (1, "uint8"), (2, "uint8"), (3, "uint8"), (7, "uint8"), (2, "int8"), (3, "uint16"),
    (33, "uint16"), (1, "int16"), (5, "uint32"), (2, "int32"), (4, "float32"), (1, "float64"),
)  # fmt: skip
"""Numbers of channels and types of values."""


class EncoderContract(ABC):
    """Subclass it, and say what the factory of an encoder is."""

    tolerance = 40
    """Largest difference of a value of a smooth picture, for lossy formats."""

    @abstractmethod
    def factory(self) -> Callable[..., Encoder]:
        """Return the factory; it is called with ``quality``, ``subsampling`` and ``contents``."""

    def decode(
        self, data: bytes, size: tuple[int, int], contents: Contents = RGB_PIXELS
    ) -> PixelArray:
        """Return the pixels of an encoded file of a width and height; override it as needed."""
        return codecs.decode(data, size, contents)

    @pytest.fixture(params=[(90, "420", None), (1, "422", 0.25), (100, "444", 8.0)])
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        """Return the encoder at a quality, subsampling and pixel size."""
        quality, subsampling, mpp = request.param
        contents = Contents(mpp=mpp)
        return self.factory()(quality=quality, subsampling=subsampling, contents=contents)

    def test_extension_and_media_type(self, encoder: Encoder) -> None:
        """An ending with its dot, without further ones, a MIME type, and two truth values."""
        assert isinstance(encoder, Encoder)
        assert re.fullmatch(r"(\.ome)?\.[a-z0-9]+", encoder.extension)
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", encoder.media_type)
        assert isinstance(encoder.lossless, bool)
        assert isinstance(encoder.portable, bool)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 37), (23, 1), (48, 64)])
    def test_decoding_gives_the_pixels_back(self, encoder: Encoder, shape: tuple[int, int]) -> None:
        """To the last bit where the encoder is lossless."""
        pixels = _noise(*shape)
        found = self.decode(encoder.encode(pixels), shape[::-1])
        assert found.shape == pixels.shape
        if encoder.lossless:
            np.testing.assert_array_equal(found, pixels)

    @pytest.mark.parametrize(("channels", "dtype"), KINDS)
    def test_other_pixels_are_refused_or_given_back(self, channels: int, dtype: str) -> None:
        """Each number and type: refused with what to use, or to the last bit if lossless."""
        contents = Contents(tuple(f"Channel {n + 1}" for n in range(channels)), dtype, 0.5)
        try:
            encoder = self.factory()(quality=100, subsampling="444", contents=contents)
        except UsageError as error:
            assert str(contents) in error.message
            assert error.hint
            return
        for shape in ((1, 1), (48, 64)):
            pixels = _values((*shape, channels), dtype)
            found = self.decode(encoder.encode(pixels), shape[::-1], contents)
            assert found.shape == pixels.shape
            assert found.dtype == pixels.dtype
            if encoder.lossless:
                np.testing.assert_array_equal(found, pixels)

    def test_good_quality_is_close_to_the_pixels(self) -> None:
        """A smooth picture at quality 100."""
        x, y = np.meshgrid(np.arange(64), np.arange(48))
        pixels = np.stack([x * 4, y * 5, 255 - x - y], -1).astype(np.uint8)
        encoder = self.factory()(quality=100, subsampling="444", contents=RGB_PIXELS)
        found = self.decode(encoder.encode(pixels), (64, 48))
        assert np.abs(found.astype(np.int64) - pixels).max() <= self.tolerance

    def test_same_pixels_give_the_same_bytes(self, encoder: Encoder) -> None:
        """From a view as from a copy, and from another encoder of the same factory."""
        pixels = _noise(60, 80)
        view = pixels[5:45, ::-1][:, 10:50]
        data = encoder.encode(view)
        assert isinstance(data, bytes)
        assert encoder.encode(np.ascontiguousarray(view)) == data
        assert encoder.encode(view) == data

    def test_a_pickled_encoder_gives_the_same_bytes(self, encoder: Encoder) -> None:
        """As other processes use it."""
        pixels = _noise(20, 30)
        copy = pickle.loads(pickle.dumps(encoder))  # noqa: S301  # bytes of our own
        assert copy.encode(pixels) == encoder.encode(pixels)
        assert copy.extension == encoder.extension

    def test_pixels_are_not_changed(self, encoder: Encoder) -> None:
        """Not even where they could be."""
        pixels = _noise(20, 30)
        before = pixels.copy()
        encoder.encode(pixels)
        np.testing.assert_array_equal(pixels, before)


def _values(shape: tuple[int, ...], dtype: str) -> PixelArray:
    """Return noise over the whole range of a type, with NaN and infinities where it has them."""
    rng, kind = np.random.default_rng(2), np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
    values = rng.normal(0, 1e6, shape).astype(kind)
    values.flat[: min(3, values.size)] = (np.nan, np.inf, -np.inf)[: min(3, values.size)]
    return values


def _noise(height: int, width: int) -> PixelArray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
