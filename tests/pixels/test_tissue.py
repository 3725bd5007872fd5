import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.model import Box
from qupath_bridge.pixels.base import TissueMap
from qupath_bridge.pixels.tissue import (
    BRIGHT,
    DARK,
    TissueShares,
    find_tissue,
    otsu_threshold,
    saturation,
    stain_saturation,
    tissue_shares,
)
from qupath_bridge.pixels.tissue.by_color import OtsuTissue, SaturationTissue
from qupath_bridge.pixels.tissue.double_pass import DoublePassTissue, _darker_cluster
from qupath_bridge.readers import open_reader
from qupath_bridge.testing.contracts.tissue import view_of
from tests.support.cohort import CASTS, REAL, cast

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


METHODS = [OtsuTissue(), SaturationTissue()]


def find(pixels, method=None, threshold=None, mpp=10.0):
    return find_tissue(method or OtsuTissue(), view_of(pixels, mpp), threshold)


@pytest.mark.parametrize("method", METHODS)
def test_one_colour_is_glass_or_tissue_as_a_whole(method):
    grey = find(np.full((9, 9, 3), 244, np.uint8), method)
    assert not grey.mask.any()
    assert grey.note is None
    pink = find(np.full((15, 15, 3), (240, 150, 200), np.uint8), method)
    assert pink.mask.all()
    assert "No glass is found" in pink.note


def edge_to_edge():
    """Two stains, darker and paler, without any glass; 0.5 and 0.25 saturated."""
    thumbnail = np.full((40, 60, 3), (200, 150, 180), np.uint8)
    thumbnail[:, 20:] = (200, 100, 160)
    return thumbnail


@pytest.mark.parametrize("method", METHODS)
def test_tissue_that_reaches_from_edge_to_edge_is_kept(method):
    found = find(edge_to_edge(), method)
    assert found.mask.all()
    assert "No glass is found" in found.note


def test_without_glass_a_speck_of_it_is_still_spared():
    thumbnail = edge_to_edge()
    thumbnail[:2, :2] = 245
    found = find(thumbnail, SaturationTissue())
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
    inside = np.zeros(thumbnail.shape[:2], bool)
    inside[40:80, 40:100] = saturation(middle) > 0.1
    np.testing.assert_array_equal(find(thumbnail, SaturationTissue()).mask, inside)
    smoothed = find(thumbnail).mask
    assert (smoothed ^ inside).sum() <= 3 * 300  # two pixels and less along its edge
    assert not smoothed[:36].any()


def test_dark_stain_is_tissue():
    assert stain_saturation(np.array([[DARK, 10, 30]], np.uint8)) == [np.float32(0.8)]
    assert stain_saturation(np.array([[DARK - 1, 10, 30]], np.uint8)) == [0]


def test_bright_glass_with_a_tint_is_not_tissue():
    assert stain_saturation(np.array([[255, BRIGHT, 240]], np.uint8)) == [0]
    expected = (255 - BRIGHT + 1) / 255
    assert stain_saturation(np.array([[255, BRIGHT - 1, 240]], np.uint8)) == pytest.approx(expected)


def test_saturation_is_the_same_in_strips(monkeypatch):
    whole = stain_saturation(NOISE)
    monkeypatch.setattr("qupath_bridge.pixels.tissue.color._STRIP", 100)
    np.testing.assert_array_equal(stain_saturation(NOISE), whole)
    dark_or_bright = (NOISE.max(axis=2) < DARK) | (NOISE.min(axis=2) >= BRIGHT)
    expected = np.where(dark_or_bright, 0, saturation(NOISE))
    np.testing.assert_allclose(whole, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("threshold", "share"), [(0.0, 0.75), (0.24, 0.75), (0.25, 0.5), (0.49, 0.5), (0.5, 0.0)]
)
def test_tissue_is_what_is_above_the_threshold(threshold, share):
    thumbnail = np.full((40, 80, 3), 245, np.uint8)
    thumbnail[:, 20:40] = (200, 150, 180)
    thumbnail[:, 40:] = (200, 100, 160)
    found = find(thumbnail, SaturationTissue(), threshold)
    assert found.note is None
    assert found.threshold == threshold
    assert found.mask.mean() == share


def two_halves():
    thumbnail = np.full((40, 60, 3), 245, np.uint8)
    thumbnail[:, 30:] = (200, 100, 160)
    return thumbnail


def test_shares_of_two_halves():
    boxes = np.array(
        [
            [0, 0, 300, 100],  # blank
            [300, 0, 300, 100],  # tissue
            [200, 0, 200, 400],  # half
            [297, 5, 10, 10],  # edge inside a pixel of the map
            [500, 300, 400, 400],  # across the corner
            [-100, -100, 50, 50],  # outside
            [700, 0, 50, 50],
        ]
    )
    mask = find(two_halves(), SaturationTissue()).mask
    expected = np.array([0, 1, 0.5, 0.7, 1, 0, 0])
    found = tissue_shares(mask, (0.1, 0.1), boxes)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found, tissue_shares(mask, 0.1, boxes))
    again = TissueShares(mask, 0.1)
    np.testing.assert_array_equal(again(boxes), found)
    np.testing.assert_array_equal(again(boxes[::-1]), found[::-1])
    halves = tissue_shares(mask * 0.5, 0.1, boxes)
    np.testing.assert_allclose(halves, expected * 0.5, atol=1e-12)


def test_axes_have_their_own_scale():
    boxes = np.array([[290, 0, 20, 800]])
    found = tissue_shares(find(two_halves(), SaturationTissue()).mask, (0.1, 0.05), boxes)
    np.testing.assert_allclose(found, 0.5)


def spotted(side):
    """Glass with a piece of tissue that has holes, and pieces of its own; sides in pixels."""
    pixels = np.full((300, 300, 3), 245, np.uint8)
    pink = (200, 100, 160)
    pixels[40:200, 40:200] = pink
    pixels[80 : 80 + side, 80 : 80 + side] = 245
    pixels[250 : 250 + side, 250 : 250 + side] = pink
    return pixels


@pytest.mark.parametrize(
    ("mpp", "side", "hole", "piece"),
    [
        (10.0, 8, False, False),  # 80 um: both are small
        (10.0, 14, False, True),  # 140 um: a piece of 19,600 um2, and a hole below 25,000
        (10.0, 24, True, True),  # 240 um
        (5.0, 24, False, True),  # the same pixels are 120 um here
        (2.5, 24, False, False),  # and 60 um here
        (None, 24, True, True),  # a pixel of unknown size counts as 10 um
        (None, 8, False, False),
    ],
)
def test_otsu_drops_specks_and_fills_holes_by_their_area(mpp, side, hole, piece):
    mask = find(spotted(side), mpp=mpp).mask
    middle = side // 2
    assert mask[60, 60]
    assert mask[80 + middle, 80 + middle] == (not hole)
    assert mask[250 + middle, 250 + middle] == piece
    raw = find(spotted(side), SaturationTissue(), mpp=mpp).mask
    assert not raw[80 + middle, 80 + middle]
    assert raw[250 + middle, 250 + middle]


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(
        st.integers(-20, 120), st.integers(-20, 100), st.integers(1, 90), st.integers(1, 90)
    )
)
def test_shares_equal_a_plain_sum(box):
    x, y, w, h = box
    scale = 1 / 3  # three QuPath pixels per pixel of the map: count them one by one
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


class Foreign:
    """A method that returns what it is given."""

    def __init__(self, values, threshold=0.5):
        self.values, self.threshold = values, threshold

    def __call__(self, view):
        return TissueMap(self.values)


@pytest.mark.parametrize(
    ("returned", "threshold", "message"),
    [
        (np.zeros((43, 31)), 0.5, r"shape \(43, 31\), not \(31, 43\)"),
        (np.zeros((31, 43, 1)), 0.5, r"shape \(31, 43, 1\), not"),
        (np.full((31, 43), 1.01), 0.5, "outside 0 to 1"),
        (np.full((31, 43), np.nan), 0.5, "outside 0 to 1"),
        (np.zeros((31, 43), bool), 0.5, "has to return probabilities"),
        (np.zeros((31, 43)), None, "has to return a mask"),
    ],
)
def test_maps_that_break_the_protocol_are_refused(returned, threshold, message):
    with pytest.raises(UsageError, match=message):
        find_tissue(Foreign(returned, threshold), view_of(NOISE))


def test_a_threshold_takes_the_place_of_the_methods_own():
    values = np.linspace(0, 1, 31 * 43).reshape(31, 43)
    own = find_tissue(Foreign(values, 0.7), view_of(NOISE))
    assert (own.threshold, own.mask.sum()) == (0.7, (values > 0.7).sum())
    other = find_tissue(Foreign(values, 0.7), view_of(NOISE), 0.2)
    assert (other.threshold, other.mask.sum()) == (0.2, (values > 0.2).sum())
    with pytest.raises(UsageError, match="takes no threshold"):
        find_tissue(Foreign(values > 0.5, None), view_of(NOISE), 0.2)


def test_a_mask_may_have_a_resolution_of_its_own():
    mask = np.ones((62, 86), bool)
    assert find_tissue(Foreign(mask, None), view_of(NOISE)).mask.shape == (62, 86)


def test_noise_of_glass_alone_is_not_tissue():
    rng = np.random.default_rng(2)
    glass = np.clip(rng.normal((228, 224, 230), 1.5, (80, 80, 3)), 0, 255).astype(np.uint8)
    assert 0 < otsu_threshold((stain_saturation(glass) * 255).astype(np.uint8)) < 20
    found = find(glass)
    assert not found.mask.any()
    assert "No tissue is found" in found.note


def test_double_pass_finds_pale_tissue_beside_dark_tissue():
    """The clusters part dark from all else; the colour finds the pale piece, which Otsu loses."""
    pixels = np.full((240, 240, 3), 240, np.uint8)
    pixels[20:110, 20:110] = (120, 40, 130)
    pixels[130:220, 20:220] = (240, 220, 234)  # 0.08 saturated, and 0.69 above
    assert not find(pixels).mask[170, 100]
    mask = find(pixels, DoublePassTissue()).mask
    assert mask[60, 60]
    assert mask[170, 100]
    assert not mask[60, 160]
    assert mask.mean() == pytest.approx((90 * 90 + 90 * 200) / 240**2, rel=0.15)


def test_double_pass_finds_grey_tissue_which_has_no_colour():
    pixels = np.full((240, 240, 3), 240, np.uint8)
    pixels[40:200, 40:200] = 150
    assert not find(pixels).mask.any()
    found = find(pixels, DoublePassTissue()).mask
    assert found[120, 120]
    assert found.mean() == pytest.approx(160 * 160 / 240**2, rel=0.1)


def test_double_pass_takes_neither_black_nor_glass_alone():
    rng = np.random.default_rng(5)
    glass = np.clip(rng.normal(238, 1, (160, 160, 1)) + np.array([0, -2, 1]), 0, 255).astype(
        np.uint8
    )
    assert not find(glass, DoublePassTissue()).mask.any()
    black = glass.copy()
    black[:60] = rng.integers(0, DARK, (60, 160, 3))
    assert not find(black, DoublePassTissue()).mask[:50].any()
    black[90:150, 30:130] = (180, 80, 150)
    found = find(black, DoublePassTissue()).mask
    assert found[120, 80]
    assert not found[:50].any()


def plain_clusters(values):
    """Return which values are in the darker cluster, by trying every cut along the brightness."""
    order = np.argsort(values.mean(axis=1))
    ranked = values[order]
    best = min(
        range(1, len(values)),
        key=lambda k: sum(
            ((part - part.mean(axis=0)) ** 2).sum() for part in (ranked[:k], ranked[k:])
        ),
    )
    dark = np.zeros(len(values), bool)
    dark[order[:best]] = True
    return dark


def test_the_two_clusters_are_the_best_ones():
    rng = np.random.default_rng(6)
    values = np.vstack([rng.normal(120, 12, (40, 3)), rng.normal(220, 8, (70, 3))])
    np.testing.assert_array_equal(_darker_cluster(values), plain_clusters(values))


def test_unet_without_onnxruntime_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("qupath_bridge.pixels.networks.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs onnxruntime") as caught:
        registry.create("tissue", "unet")
    assert "pip install 'qupath-bridge[unet]'" in caught.value.hint
    assert ExportConfig(tissue="unet").tissue == "unet"  # a file may be written elsewhere


def real_slide(name, box=None):
    """A slide at 20 pixels of the file per pixel, shape (h, w, 3); or a box of it."""
    path = next(path for path in REAL if name in path.name)
    with open_reader(path) as reader:
        box = Box(*(box or (0, 0, *reader.size)))
        return reader.read(box, (box.w // 20, box.h // 20))[0]


@pytest.mark.parametrize("method", METHODS, ids=["otsu", "saturation"])
@pytest.mark.parametrize("name", ["CMU-1", "tcga"])
def test_a_colour_cast_of_the_scanner_hardly_changes_the_tissue(name, method):
    pixels = real_slide(name)
    expected = find(pixels, method).mask
    assert 0.2 < expected.mean() < 0.8
    for white, density in CASTS.values():
        found = find(cast(pixels, white, density), method)
        assert (found.mask & expected).sum() > 0.9 * (found.mask | expected).sum(), white
        # Saturation of the glass above that of glass without a cast.
        assert ("colour cast" in (found.note or "")) == (1 - min(white) / max(white) > 0.1)


@pytest.mark.parametrize("method", METHODS, ids=["otsu", "saturation"])
@pytest.mark.parametrize("name", CASTS)
def test_a_slide_that_is_all_tissue_has_no_glass_whatever_its_cast(name, method):
    pixels = real_slide("tcga", (640, 1820, 600, 600))
    found = find(cast(pixels, *CASTS[name]), method)
    assert "No glass is found" in found.note
    assert found.mask.mean() > 0.99


def test_much_tissue_with_a_little_neutral_glass_is_no_cast():
    pixels = np.full((60, 60, 3), (200, 150, 180), np.uint8)
    pixels[:, 25:] = (200, 100, 160)
    pixels[:3] = (232, 228, 230)
    found = find(pixels, SaturationTissue())
    assert "No glass is found" in found.note
    assert "cast" not in found.note
    assert not found.mask[:3].any()
    assert found.mask[3:].all()
    yellow = find(cast(pixels, *CASTS["yellow"]), SaturationTissue())
    assert "colour cast" in yellow.note
    assert np.array_equal(yellow.mask, found.mask)
