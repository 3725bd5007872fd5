import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qupath_bridge.errors import UsageError
from qupath_bridge.pixels.composite import ChannelDisplay, Composite, composite

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def as_java(value, low, high, color, rgb, first):
    """Add one value of a channel to a colour, as QuPath's DirectServerChannelInfo does."""
    single = np.float32
    if not first and low == high:
        return rgb
    with np.errstate(all="ignore"):
        scaled = (single(value) - single(low)) * (single(255) / (single(high) - single(low)))
    step = 0 if np.isnan(scaled) or scaled < 0 else 255 if scaled > 255 else int(scaled)
    added = [int(part / 255.0 * step) for part in color]
    return tuple(min(255, one + more) for one, more in zip(rgb, added, strict=True))


@given(
    pixels=arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]), (2, 3, 3)
    ),
    ranges=st.lists(
        st.tuples(st.floats(-500, 70_000, width=32), st.floats(-500, 70_000, width=32)),
        min_size=3,
        max_size=3,
    ),
    colors=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=3, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_composite_has_the_arithmetic_of_qupath(pixels, ranges, colors):
    found = composite(pixels, colors, ranges)
    assert found.shape == (2, 3, 3)
    assert found.dtype == np.uint8
    for place in np.ndindex(2, 3):
        rgb = (0, 0, 0)
        for number, (color, (low, high)) in enumerate(zip(colors, ranges, strict=True)):
            rgb = as_java(pixels[place][number], low, high, color, rgb, number == 0)
        assert tuple(found[place].tolist()) == rgb


def test_composite_rounds_down_and_ends_at_the_whole_colour():
    pixels = np.array([[99, 0], [100, 0], [149, 7], [200, 999], [5000, 0]], np.uint16)
    found = composite(pixels, [(128, 0, 0), GREEN], [(100, 200), (0, 1000)])
    # (149 - 100) * 2.55 = 124.95 -> 124; 128 / 255 * 124 = 62.2 -> 62; 7 * 0.255 = 1.785 -> 1
    assert found.tolist() == [[0, 0, 0], [0, 0, 0], [62, 1, 0], [128, 254, 0], [128, 0, 0]]


def test_composite_adds_channels_up_to_white():
    pixels = np.full((1, 4), 200, np.uint8)
    found = composite(pixels, [WHITE, RED, GREEN, BLUE], [(0, 255)] * 4)
    assert found.tolist() == [[255, 255, 255]]
    found = composite(pixels[:, :2], [(10, 20, 30), (100, 0, 5)], [(0, 200)] * 2)
    assert found.tolist() == [[110, 20, 35]]


def test_composite_of_many_channels_does_not_overflow():
    pixels = np.full((1, 300), 255, np.uint8)
    assert composite(pixels, [WHITE] * 300, [(0, 255)] * 300).tolist() == [[255, 255, 255]]


def test_composite_shows_what_is_no_number_as_black():
    pixels = np.array([[np.nan], [np.inf], [-np.inf], [0.5]], np.float32)
    found = composite(pixels, [WHITE], [(0, 1)])
    assert found[:, 0].tolist() == [0, 255, 0, 127]


def test_composite_refuses_another_number_of_colours():
    with pytest.raises(ValueError, match="2 channels, 1 colours and 2 ranges"):
        composite(np.zeros((1, 2)), [RED], [(0, 1), (0, 1)])


def test_composite_leaves_out_channels_that_are_switched_off():
    shown = Composite(
        (
            ChannelDisplay("A", RED, (0, 100)),
            ChannelDisplay("B", GREEN, None, shown=False),
            ChannelDisplay("C", BLUE, (0, 200)),
        )
    )
    assert shown.shown_channels == (0, 2)
    assert shown.open_channels == ()
    assert shown.apply(np.full((1, 1, 3), 100, np.uint8)).tolist() == [[[255, 0, 127]]]


def test_composite_shows_all_channels_where_all_are_switched_off():
    off = [ChannelDisplay(name, RED, (0, 100), shown=False) for name in "AB"]
    assert Composite(tuple(off)).shown_channels == (0, 1)


def test_composite_with_an_open_range_is_not_applied():
    shown = Composite((ChannelDisplay("A", RED, (0, 1)), ChannelDisplay("CD3", GREEN, None)))
    assert shown.open_channels == (1,)
    with pytest.raises(UsageError, match="range of the channel CD3 is open"):
        shown.apply(np.zeros((1, 1, 2)))
    closed = shown.with_ranges({1: (0.0, 4.0)})
    assert closed.open_channels == ()
    assert closed.apply(np.array([[[0, 2]]])).tolist() == [[[0, 127, 0]]]


def test_composite_goes_to_json_and_back():
    shown = Composite(
        (ChannelDisplay("A", RED, (0.5, 1.5)), ChannelDisplay("B", GREEN, None, shown=False))
    )
    assert Composite.from_json(shown.as_json()) == shown
    assert shown.as_json()[1] == {"name": "B", "color": [0, 255, 0], "range": None, "shown": False}
