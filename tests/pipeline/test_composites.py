"""Which display the channels of a slide get: QuPath's settings, and ranges that it would choose."""

import json

import numpy as np
import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Plane, ServerBuilder
from qupath_bridge.pipeline import composites
from qupath_bridge.pipeline.channels import file_view
from qupath_bridge.pipeline.composites import find_ranges, read_picture, slide_composite
from qupath_bridge.pipeline.patch_pixels import PatchPixels
from qupath_bridge.pixels.display_ranges import auto_range
from qupath_bridge.qupath.display import PROPERTY
from qupath_bridge.readers.memory import MemoryReader

NAMES = ("DAPI", "CD3", "CD8")


def pixels(size=(40, 60), seed=1, planes=()):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4000, (*planes, *size, 3), dtype=np.uint16)


def opened(*levels, **more):
    reader = MemoryReader(levels[0], levels=levels[1:], channels=NAMES, **more)
    return reader, file_view(reader), map_of(reader)


def map_of(reader):
    builder = ServerBuilder({"builderType": "uri", "uri": "file:/a.tif", "args": []})
    return coordinate_map(builder, file_size=reader.size, bounds=reader.bounds)


def saved(**shown):
    """Return the property that QuPath saves."""
    entries = [
        {"name": f"{name} (C{n})", "minDisplay": 10 * n, "maxDisplay": 900, "selected": shown[name]}
        for n, name in enumerate(NAMES, 1)
        if name in shown
    ]
    return {PROPERTY: json.dumps(entries)}


def test_rgb_has_no_composite():
    reader = MemoryReader(np.zeros((4, 5, 3), np.uint8))
    assert slide_composite(ExportConfig(), file_view(reader), {}) is None


@pytest.mark.parametrize(
    ("channels", "shown"), [((), [True, False, True]), (NAMES, [True, True, True])]
)
def test_channels_that_are_named_are_shown_though_they_are_switched_off(channels, shown):
    _, view, _ = opened(pixels())
    properties = saved(DAPI=True, CD3=False, CD8=True)
    display = slide_composite(ExportConfig(channels=channels), view, properties)
    assert [each.shown for each in display.channels] == shown
    assert [each.range for each in display.channels] == [(10, 900), (20, 900), (30, 900)]


def test_settings_are_those_of_the_channel_wherever_it_is_exported():
    _, view, _ = opened(pixels())
    display = slide_composite(ExportConfig(), view.select([2, 0]), saved(CD8=True, DAPI=True))
    assert [(each.name, each.range) for each in display.channels] == [
        ("CD8", (30, 900)),
        ("DAPI", (10, 900)),
    ]


def test_ranges_that_are_not_saved_are_found_and_others_stay():
    whole = pixels()
    reader, view, coordinates = opened(whole)
    display = slide_composite(ExportConfig(), view, saved(CD3=True))
    found = find_ranges(display, view, reader, coordinates)
    assert found.channels[1].range == (20, 900)
    assert found.channels[0].range is None  # QuPath shows CD3 alone
    every = find_ranges(slide_composite(ExportConfig(), view, {}), view, reader, coordinates)
    assert [each.range for each in every.channels] == [auto_range(whole[..., n]) for n in range(3)]


def test_ranges_are_those_of_the_level_from_which_qupath_takes_them(monkeypatch):
    whole, half, quarter = pixels(), pixels((20, 30), 2), pixels((10, 15), 3)
    reader, view, coordinates = opened(whole, half, quarter)
    display = slide_composite(ExportConfig(), view, {})
    for most, level in ((10**6, whole), (600, half), (10, quarter)):
        monkeypatch.setattr("qupath_bridge.pixels.display_ranges.MOST_PIXELS", most)
        found = find_ranges(display, view, reader, coordinates)
        expected = [auto_range(level[..., n]) for n in range(3)]
        assert [each.range for each in found.channels] == expected


def test_ranges_of_a_large_level_come_from_a_smaller_picture(monkeypatch):
    reader, view, coordinates = opened(np.full((40, 60, 3), 7, np.uint16))
    sizes = []

    def read(reader, coordinates, size, plane, view):
        sizes.append(size)
        return pixels(size[::-1])[..., : len(view.names)]

    monkeypatch.setattr(composites, "read_whole", read)
    monkeypatch.setattr(composites, "MOST_PIXELS", 600)
    find_ranges(slide_composite(ExportConfig(), view, {}), view, reader, coordinates)
    assert sizes == [(30, 20)]


def test_ranges_of_many_channels_are_found_a_few_at_a_time(monkeypatch):
    whole = pixels()
    reader, view, coordinates = opened(whole)
    counts = []
    read = composites.read_whole

    def spy(reader, coordinates, size, plane, view):
        counts.append(len(view.names))
        return read(reader, coordinates, size, plane, view)

    monkeypatch.setattr(composites, "read_whole", spy)
    monkeypatch.setattr(composites, "READ_BYTES", 2 * 40 * 60 * 2)
    found = find_ranges(slide_composite(ExportConfig(), view, {}), view, reader, coordinates)
    assert counts == [2, 1]
    assert [each.range for each in found.channels] == [auto_range(whole[..., n]) for n in range(3)]


def test_a_picture_is_of_the_plane_that_is_asked_for():
    stack = pixels(planes=(1, 3))
    reader, view, coordinates = opened(stack)
    display = slide_composite(ExportConfig(), view, {})
    picture, scale = read_picture(reader, coordinates, view, display, 60, Plane(2, 0))
    middle = find_ranges(display, view, reader, coordinates)
    assert [each.range for each in middle.channels] == [
        auto_range(stack[0, 1, ..., n]) for n in range(3)
    ]
    np.testing.assert_array_equal(picture, middle.apply(stack[0, 2]))
    assert scale == (1.0, 1.0)


def test_only_channels_that_are_shown_are_read(monkeypatch):
    whole = pixels()
    reader, view, coordinates = opened(whole)
    display = slide_composite(ExportConfig(), view, saved(DAPI=True, CD3=False, CD8=True))
    asked = []
    read = MemoryReader.read_many

    def spy(self, boxes, size, plane, channels):
        asked.append(channels)
        return read(self, boxes, size, plane, channels)

    monkeypatch.setattr(MemoryReader, "read_many", spy)
    config = ExportConfig(size=20, composite=True)
    producer = PatchPixels(coordinates, view, config, None, reader, None, display)
    made = producer.read(reader, np.array([[0, 0, 20, 20], [20, 20, 20, 20]]))
    picture, _ = read_picture(reader, coordinates, view, display, 60, Plane())
    assert asked == [(0, 2), (0, 2)]
    np.testing.assert_array_equal(picture, display.apply(whole))
    np.testing.assert_array_equal(made.patches[1], display.apply(whole[20:40, 20:40]))
