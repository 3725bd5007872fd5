import json

import numpy as np
import pytest

from qupath_bridge.model import SourceRef
from qupath_bridge.qupath.display import PROPERTY, qupath_composite
from qupath_bridge.sources import open_source
from tests.support import channel_truth

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize("version", channel_truth.VERSIONS)
def test_saved_settings_give_the_picture_of_qupath(version):
    place = channel_truth.FOLDER / f"qupath-{version}" / "project.qpproj"
    with open_source(SourceRef(str(place), "embedded")) as project:
        (slide,) = (each for each in project.slides if each.name == "display set")
        properties = slide.read().properties
    channels = {n: (name, (1, 2, 3)) for n, name in enumerate(slide.channels)}
    shown = qupath_composite(channels, properties)
    truth = channel_truth.facts(version)["display set"]["display"]["channels"]
    assert [each.shown for each in shown.channels] == [each["selected"] for each in truth]
    assert not all(each.shown for each in shown.channels)
    pixels = channel_truth.pixels(version, "display set")
    np.testing.assert_array_equal(shown.apply(pixels), channel_truth.shown("display set"))


def saved(*entries):
    return {PROPERTY: json.dumps(list(entries))}


def entry(name, **changes):
    values = {"name": name, "minDisplay": 1.5, "maxDisplay": 9, "color": -256, "selected": True}
    return {**values, **changes}


def test_settings_are_found_by_the_name_in_qupaths_list():
    channels = {4: ("CD3", RED), 1: ("Channel 2", GREEN), 0: ("x (C1)", BLUE), 2: ("CD3", RED)}
    shown = qupath_composite(
        channels, saved(entry("CD3 (C5)"), entry("Channel 2", minDisplay=3), entry("x (C1)"))
    )
    assert [each.range for each in shown.channels] == [(1.5, 9.0), (3.0, 9.0), (1.5, 9.0), None]
    assert [each.color for each in shown.channels] == [(255, 255, 0)] * 3 + [RED]
    assert [each.shown for each in shown.channels] == [True, True, True, False]


def test_without_settings_all_channels_are_shown_in_the_colours_of_the_project():
    shown = qupath_composite({0: ("DAPI", BLUE), 1: ("CD3", RED)}, {})
    assert [tuple(each) for each in shown.channels] == [
        ("DAPI", BLUE, None, True),
        ("CD3", RED, None, True),
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[1, null]", '[{"name": 5}]', "[" * 100_000, 7, None, b"[]"]
)
def test_settings_that_cannot_be_read_are_left_out(text):
    shown = qupath_composite({0: ("DAPI", BLUE)}, {PROPERTY: text})
    assert [tuple(each) for each in shown.channels] == [("DAPI", BLUE, None, True)]


@pytest.mark.parametrize(
    "changes",
    [{"minDisplay": None}, {"maxDisplay": "9"}, {"minDisplay": float("nan")}, {"maxDisplay": 1e300},
     {"maxDisplay": True}],
)  # fmt: skip
def test_a_saved_range_that_is_no_range_stays_open(changes):
    shown = qupath_composite({0: ("DAPI", BLUE)}, saved(entry("DAPI (C1)", **changes)))
    assert [tuple(each) for each in shown.channels] == [("DAPI", (255, 255, 0), None, True)]


@pytest.mark.parametrize("color", [None, "red", 1.5, True])
def test_a_saved_colour_that_is_none_leaves_that_of_the_project(color):
    shown = qupath_composite({0: ("DAPI", BLUE)}, saved(entry("DAPI (C1)", color=color)))
    assert shown.channels[0].color == BLUE
