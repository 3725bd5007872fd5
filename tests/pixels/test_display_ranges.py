import json
from pathlib import Path

import numpy as np
import pytest

from qupath_bridge.pixels.composite import composite
from qupath_bridge.pixels.display_ranges import auto_range, histogram_level

DATA = Path(__file__).parents[1] / "data" / "composites"
SHOWN = json.loads((DATA / "display.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def truth():
    return np.load(DATA / "pixels.npz")


def unpacked(color):
    return color >> 16 & 255, color >> 8 & 255, color & 255


@pytest.mark.parametrize("name", SHOWN)
def test_ranges_and_pictures_are_those_of_qupath(truth, name):
    pixels, channels = truth[f"{name}_pixels"], SHOWN[name]["auto"]
    ranges = [auto_range(pixels[..., number]) for number in range(pixels.shape[-1])]
    for found, channel in zip(ranges, channels, strict=True):
        expected = np.float32(channel["low"]), np.float32(channel["high"])
        assert (np.float32(found[0]), np.float32(found[1])) == expected
    picture = composite(pixels, [unpacked(channel["color"]) for channel in channels], ranges)
    np.testing.assert_array_equal(picture, truth[f"{name}_auto"])


def test_a_first_bin_above_its_neighbour_does_not_count():
    values = np.concatenate([np.zeros(5000), np.arange(1, 1001)]).astype(np.uint16)
    low, high = auto_range(values)
    # 1 of the 1,000 values that count is cut off at each end: bins of one value each.
    assert (low, high) == (2.0, 1000.0)


def test_a_last_bin_above_its_neighbour_does_not_count():
    values = np.concatenate([np.full(4000, 1023), np.arange(1, 1001)]).astype(np.uint16)
    assert auto_range(values)[1] == pytest.approx(1024 - 1 / 4000, abs=1e-3)


def test_the_range_of_8_bit_is_that_of_the_values():
    values = np.array([[3, 200], [9, 9]], np.uint8)
    assert auto_range(values) == (3.0, 200.0)
    assert auto_range(values.astype(np.uint16)) != (3.0, 200.0)


def test_the_range_leaves_out_values_that_are_no_number():
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    expected = auto_range(values)
    spoiled = np.concatenate([[np.nan, np.inf, -np.inf], values]).astype(np.float32)
    assert auto_range(spoiled) == expected
    assert auto_range(np.full(5, np.nan)) == (0.0, 1.0)


def test_the_range_of_very_many_values_is_that_of_every_nth(monkeypatch):
    monkeypatch.setattr("qupath_bridge.pixels.display_ranges.MOST_VALUES", 1000)
    values = np.tile(np.array([0, 700, 701], np.uint16), 1000)
    # Of three values only the first is looked at; the range of all gives the bins.
    low, high = auto_range(values)
    assert low < 1
    assert high < 2


def test_levels_of_histograms():
    assert histogram_level([(100, 100)]) == 0
    assert histogram_level([(1024, 1024), (512, 512)]) == 0
    assert histogram_level([(1025, 1024), (512, 512)]) == 1
    assert histogram_level([(9000, 9000), (2000, 2000)]) == 1
