"""The parts of the example package keep the contracts."""

import sys
from pathlib import Path

import numpy as np
import pytest

from qupath_bridge import registry
from qupath_bridge.errors import ReadError, UsageError
from qupath_bridge.pixels.base import StainSample
from qupath_bridge.readers.base import RGB_CHANNELS
from qupath_bridge.testing.contracts.encoder import EncoderContract
from qupath_bridge.testing.contracts.output import OutputContract
from qupath_bridge.testing.contracts.quality import QualityContract
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from qupath_bridge.testing.contracts.runner import RunnerContract
from qupath_bridge.testing.contracts.stain import StainContract
from qupath_bridge.testing.contracts.tissue import TissueContract, view_of
from qupath_bridge.testing.slides import marker_image

sys.path.append(str(Path(__file__).parents[1] / "example_plugin"))

from qb_example.encoder import BmpEncoder
from qb_example.output import ZipOutput
from qb_example.quality import mean_brightness
from qb_example.reader import PpmReader
from qb_example.runner import InlineRunner
from qb_example.stain import GainStain
from qb_example.tissue import DarkTissue


def write_ppm(path, pixels, comment=b""):
    height, width, _ = pixels.shape
    path.write_bytes(b"P6\n%b%d %d\n255\n" % (comment, width, height) + pixels.tobytes())
    return path


class TestPpmReader(ReaderContract):
    @pytest.fixture
    def truth(self):
        return Truth(marker_image(131, 107))

    @pytest.fixture
    def path(self, tmp_path, truth):
        return write_ppm(tmp_path / "a.ppm", truth.pixels)

    @pytest.fixture
    def make(self, path):
        return lambda: PpmReader(path)


class TestBmpEncoder(EncoderContract):
    def factory(self):
        return BmpEncoder


class TestDarkTissue(TissueContract):
    def make(self):
        return DarkTissue()


class TestMeanBrightness(QualityContract):
    def measure(self):
        return mean_brightness


class TestGainStain(StainContract):
    def make(self):
        return GainStain()


class TestInlineRunner(RunnerContract):
    def make(self):
        return InlineRunner()


class TestZipOutput(OutputContract):
    container = "zip"

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setattr(registry, "_registered", {("output", "zip"): ZipOutput})

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


def test_ppm_reader_knows_its_format(tmp_path):
    path = write_ppm(tmp_path / "a.any", marker_image(20, 10), b"# mpp 0.25\n")
    assert PpmReader.can_open(path) == 3
    assert PpmReader.can_open(tmp_path) == 0
    with PpmReader(path) as reader:
        assert reader.pixel_size == (0.25, 0.25)
        assert reader.channels == RGB_CHANNELS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReadError, match="ends too early"):
        PpmReader(path)
    path.write_bytes(b"P3\n1 1\n255\n0 0 0\n")
    assert PpmReader.can_open(path) == 0
    with pytest.raises(ReadError, match="not a binary PPM picture"):
        PpmReader(path)


def test_dark_tissue_and_gain_stain_take_a_number():
    pixels = np.full((1, 1, 3), 210, np.uint8)
    assert DarkTissue()(view_of(pixels)).values == 1
    assert DarkTissue("200")(view_of(pixels)).values == 0
    gain = GainStain("255")
    profile = gain.fit(StainSample(pixels, np.full(3, 240.0)))
    made, kept = gain.apply(pixels[None] - 10, profile, gain.standard(profile))
    assert made.ravel().tolist() == [round(200 * 255 / 210)] * 3
    assert not kept.any()
    for factory in (DarkTissue, GainStain):
        with pytest.raises(UsageError, match="wants a number, not 'x'"):
            factory("x")


def test_zip_output_and_inline_runner_refuse_an_argument(tmp_path):
    for make in (lambda: ZipOutput(tmp_path, "x"), lambda: InlineRunner(argument="x")):
        with pytest.raises(UsageError, match="takes no argument, 'x' was given"):
            make()
