import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge import registry
from qupath_bridge.errors import UsageError
from qupath_bridge.pixels.tissue import (
    DARK,
    OtsuTissue,
    SaturationTissue,
    find_tissue,
    otsu_threshold,
    saturation,
    stain_saturation,
    tissue_probabilities,
    tissue_shares,
)

RNG = np.random.default_rng(8)
NOISE = RNG.integers(0, 256, (31, 43, 3), dtype=np.uint8)


def test_saturation_is_that_of_hsv():
    found = saturation(NOISE)
    for row, column in ((0, 0), (5, 7), (30, 42)):
        expected = colorsys.rgb_to_hsv(*(NOISE[row, column] / 255).tolist())[1]
        assert found[row, column] == pytest.approx(expected, abs=1e-12)
    assert saturation(np.zeros((2, 2, 3), np.uint8)).tolist() == [[0, 0], [0, 0]]


def between(values, threshold):
    low, high = values[values <= threshold].astype(float), values[values > threshold].astype(float)
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=60).filter(lambda v: len(set(v)) > 1))
def test_otsu_is_the_best_of_all_thresholds(numbers):
    values = np.array(numbers, np.uint8)
    best = max(between(values, t) for t in range(256))
    assert between(values, otsu_threshold(values)) == pytest.approx(best)


def otsu(thumbnail):
    return find_tissue(tissue_probabilities(thumbnail, OtsuTissue()))


def test_otsu_of_one_colour_is_glass_or_tissue_as_a_whole():
    grey = otsu(np.full((9, 9, 3), 244, np.uint8))
    assert not grey.mask.any()
    assert grey.note is None
    pink = otsu(np.full((9, 9, 3), (240, 150, 200), np.uint8))
    assert pink.mask.all()
    assert "No glass is found" in pink.note


def edge_to_edge():
    """Two stains, darker and paler, without any glass; 0.5 and 0.25 saturated."""
    thumbnail = np.full((40, 60, 3), (200, 150, 180), np.uint8)
    thumbnail[:, 20:] = (200, 100, 160)
    return thumbnail


def test_otsu_keeps_tissue_that_reaches_from_edge_to_edge():
    found = otsu(edge_to_edge())
    assert found.mask.all()
    assert "No glass is found" in found.note


def test_otsu_without_glass_still_spares_a_speck_of_it():
    thumbnail = edge_to_edge()
    thumbnail[:2, :2] = 245
    found = otsu(thumbnail)
    assert found.mask.sum() == 40 * 60 - 4
    assert "No glass is found" in found.note


@pytest.mark.parametrize("middle", [edge_to_edge(), None])
def test_noisy_black_around_a_scan_is_no_tissue(middle):
    """The noise is up to 49 of 255 in each channel, and fully saturated here and there."""
    middle = two_halves() if middle is None else middle
    thumbnail = np.random.default_rng(4).integers(0, DARK, (120, 140, 3), dtype=np.uint8)
    thumbnail[40:80, 40:100] = middle
    assert saturation(thumbnail)[:40].max() == 1
    assert stain_saturation(thumbnail)[:40].max() == 0
    mask = otsu(thumbnail).mask
    inside = np.zeros(mask.shape, bool)
    inside[40:80, 40:100] = saturation(middle) > 0.1
    np.testing.assert_array_equal(mask, inside)


def test_dark_stain_is_tissue():
    assert stain_saturation(np.array([[DARK, 10, 30]], np.uint8)) == [0.8]
    assert stain_saturation(np.array([[DARK - 1, 10, 30]], np.uint8)) == [0]


@pytest.mark.parametrize(
    ("threshold", "share"), [(0.0, 0.75), (0.24, 0.75), (0.25, 0.5), (0.49, 0.5), (0.5, 0.0)]
)
def test_tissue_is_what_is_above_the_threshold(threshold, share):
    thumbnail = np.full((40, 80, 3), 245, np.uint8)
    thumbnail[:, 20:40] = (200, 150, 180)
    thumbnail[:, 40:] = (200, 100, 160)
    found = find_tissue(tissue_probabilities(thumbnail, SaturationTissue()), threshold)
    assert found.note is None
    assert found.mask.mean() == share


def two_halves():
    thumbnail = np.full((40, 60, 3), 245, np.uint8)
    thumbnail[:, 30:] = (200, 100, 160)
    return thumbnail


@pytest.mark.parametrize("method", [OtsuTissue(), SaturationTissue()])
def test_shares_of_two_halves(method):
    boxes = np.array(
        [
            [0, 0, 300, 100],  # blank
            [300, 0, 300, 100],  # tissue
            [200, 0, 200, 400],  # half
            [297, 5, 10, 10],  # edge inside a thumbnail pixel
            [500, 300, 400, 400],  # across the corner
            [-100, -100, 50, 50],  # outside
            [700, 0, 50, 50],
        ]
    )
    values = tissue_probabilities(two_halves(), method)
    mask = find_tissue(values).mask
    expected = np.array([0, 1, 0.5, 0.7, 1, 0, 0])
    found = tissue_shares(mask, (0.1, 0.1), boxes)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found, tissue_shares(mask, 0.1, boxes))
    np.testing.assert_allclose(tissue_shares(values, 0.1, boxes), expected * 0.5, atol=1e-12)


def test_axes_have_their_own_scale():
    boxes = np.array([[290, 0, 20, 800]])
    found = tissue_shares(otsu(two_halves()).mask, (0.1, 0.05), boxes)
    np.testing.assert_allclose(found, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(
        st.integers(-20, 120), st.integers(-20, 100), st.integers(1, 90), st.integers(1, 90)
    )
)
def test_shares_equal_a_plain_sum(box):
    x, y, w, h = box
    scale = 1 / 3  # three QuPath pixels a thumbnail pixel: count them one by one
    values = saturation(NOISE).repeat(3, axis=0).repeat(3, axis=1)
    part = values[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
    found = tissue_shares(saturation(NOISE), (scale, scale), np.array([box]))
    assert found[0] == pytest.approx(part.mean() if part.size else 0, abs=1e-9)


def test_no_boxes_no_shares():
    assert tissue_shares(saturation(NOISE), 1.0, np.empty((0, 4), np.int64)).shape == (0,)


@pytest.mark.parametrize("name", ["otsu", "saturation"])
def test_tissue_methods_come_from_the_registry(name):
    assert isinstance(registry.create("tissue", name), OtsuTissue | SaturationTissue)
    with pytest.raises(UsageError, match=f"tissue '{name}' takes no argument, '0.3' was given"):
        registry.create("tissue", f"{name}:0.3")
    with pytest.raises(UsageError, match="No tissue is called 'magic'"):
        registry.create("tissue", "magic")


def test_tissue_methods_are_told_the_pixel_size():
    seen = []

    def method(thumbnail, mpp):
        seen.append(mpp)
        return np.zeros(thumbnail.shape[:2])

    for mpp in (8.0, None):
        tissue_probabilities(NOISE, method, mpp)
    assert seen == [8.0, None]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((43, 31)), r"shape \(43, 31\) for a thumbnail of shape \(31, 43\)"),
        (np.full((31, 43), 1.01), "outside 0 to 1"),
        (np.full((31, 43), np.nan), "outside 0 to 1"),
    ],
)
def test_tissue_maps_that_are_not_probabilities_are_refused(returned, message):
    with pytest.raises(UsageError, match=message):
        tissue_probabilities(NOISE, lambda thumbnail, mpp: returned)
