import numpy as np
import pytest

from qupath_bridge.pixels.composite import composite
from qupath_bridge.pixels.display_ranges import auto_range, histogram_level
from tests.support import channel_truth

SHOWN = [
    name
    for name, fact in channel_truth.facts("0.7.0").items()
    # Of stacks, QuPath counts each plane that it happens to have in memory.
    if fact.get("display") and not fact["rgb"] and fact["planes"] == [1, 1]
    and name != "display set"
]  # fmt: skip


def unpacked(color):
    return color >> 16 & 255, color >> 8 & 255, color & 255


def levels_of(fact):
    width, height = fact["size"]
    return [(round(width / each), round(height / each)) for each in fact["downsamples"]]


@pytest.mark.parametrize("name", SHOWN)
def test_ranges_and_pictures_are_those_of_qupath(name):
    fact = channel_truth.facts("0.7.0")[name]
    downsample = fact["downsamples"][histogram_level(levels_of(fact))]
    coarse = channel_truth.pixels("0.7.0", name, downsample=downsample)
    channels = fact["display"]["channels"]
    ranges = [auto_range(coarse[..., number]) for number in range(coarse.shape[-1])]
    for found, channel in zip(ranges, channels, strict=True):
        expected = np.float32(channel["low"]), np.float32(channel["high"])
        assert (np.float32(found[0]), np.float32(found[1])) == expected
    if name in channel_truth.SHOWN:
        colors = [unpacked(channel["color"]) for channel in channels]
        picture = composite(channel_truth.pixels("0.7.0", name), colors, ranges)
        np.testing.assert_array_equal(picture, channel_truth.shown(name))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full(3072, 77, np.uint16), (77.001, 77.999)),
        (np.full(3072, 0.25, np.float32), (0.25, 0.25)),
    ],
)
def test_the_range_of_one_value_is_that_of_qupath(values, expected):
    # What ImageDisplay of QuPath 0.7.0 said of such images.
    assert auto_range(values) == pytest.approx(expected, rel=1e-7)


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
