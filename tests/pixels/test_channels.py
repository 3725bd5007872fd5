"""Names and colours of channels: what a text means, and QuPath's default colours."""

import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.pixels.channels import default_colors, find_channel

NAMES = ("DAPI", "CD3", "cd3", "2", "CD8", "CD8")


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("DAPI", 0), ("dapi", 0), ("CD3", 1), ("cd3", 2), ("1", 0), ("3", 2), ("2", 3), ("6", 5)],
)
def test_a_name_comes_before_a_name_in_other_case_and_that_before_a_number_from_1(wanted, index):
    assert find_channel(NAMES, wanted) == index


@pytest.mark.parametrize("wanted", ["CD4", "0", "7", "-1", "", "²", "1.0", " DAPI"])
def test_an_unknown_channel_is_refused_with_all_names_and_their_numbers(wanted):
    with pytest.raises(UsageError, match="1 DAPI, 2 CD3, 3 cd3, 4 2, 5 CD8, 6 CD8") as caught:
        find_channel(NAMES, wanted)
    assert repr(wanted) in caught.value.message
    assert "counted from 1" in caught.value.hint


@pytest.mark.parametrize(("wanted", "numbers"), [("CD8", "5, 6"), ("Cd3", "2, 3")])
def test_a_name_of_several_channels_is_refused_with_their_numbers(wanted, numbers):
    with pytest.raises(UsageError, match=f"2 channels are called {wanted!r}: {numbers} of"):
        find_channel(NAMES, wanted)


def test_channels_without_colours_get_those_of_qupath():
    """Printed by qupath.lib.images.servers.ImageChannel.getDefaultChannelColor (0.7.0)."""
    assert default_colors(1) == ((255, 255, 255),)
    colors = default_colors(400)
    assert {number: colors[number] for number in QUPATH} == QUPATH


QUPATH = {
    0: (255, 0, 0),
    1: (0, 255, 0),
    2: (0, 0, 255),
    3: (255, 224, 0),
    4: (0, 224, 224),
    5: (255, 0, 224),
    6: (255, 204, 0),
    7: (0, 255, 238),
    8: (255, 0, 238),
    9: (204, 255, 0),
    10: (12, 166, 242),
    15: (12, 242, 12),
    19: (135, 12, 242),
    20: (230, 161, 23),
    32: (33, 217, 82),
    33: (106, 33, 217),
    64: (120, 54, 179),
    99: (125, 140, 63),
    150: (48, 64, 48),
    199: (12, 12, 13),
    200: (0, 0, 0),
    215: (255, 255, 244),
    359: (255, 255, 66),
    360: (255, 0, 0),
    366: (255, 204, 0),
    399: (217, 33, 180),
}
