"""Boxes of levels: large ones block by block, and levels cut to whole pixels."""

import numpy as np
import pytest

from qupath_bridge.model import Box
from qupath_bridge.readers import level_sizes, levels
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.slides import marker_image

PIXELS = marker_image(301, 207)


def test_hidden_pixels_of_a_memory_slide_stay_in_the_callers_array():
    pixels = np.full((20, 20, 3), 7, np.uint8)
    found, _ = MemoryReader(pixels, mask=np.zeros((20, 20), bool)).read(Box(0, 0, 20, 20), (20, 20))
    assert (found == 255).all()
    assert (pixels == 7).all()


def test_large_boxes_go_block_by_block(monkeypatch):
    pixels = marker_image(400, 300)
    mask = np.ones((300, 400), bool)
    mask[50:90, 60:200] = False
    reader = MemoryReader(pixels, mask=mask)
    boxes = [
        (Box(0, 0, 400, 300), (40, 30)),
        (Box(-7, -9, 391, 333), (57, 31)),
        (Box(210, 9, 90, 80), (30, 20)),
    ]
    whole = [reader.read(box, size) for box, size in boxes]
    largest = 0
    inner = MemoryReader._read_rectangle

    def watched(self, level, rectangle, plane):
        nonlocal largest
        largest = max(largest, rectangle.w * rectangle.h)
        return inner(self, level, rectangle, plane)

    monkeypatch.setattr(MemoryReader, "_read_rectangle", watched)
    for limit in (8000, 300):
        monkeypatch.setattr(levels, "BLOCK_BYTES", limit * 3)
        largest = 0
        for (box, size), (expected, valid) in zip(boxes, whole, strict=True):
            found, seen = reader.read(box, size)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(seen, valid)
            (found,), _ = reader.read_many(np.array([box]), size)
            np.testing.assert_array_equal(found, expected)
        assert largest <= limit * 1.5  # blocks share the pixels on their edges


def test_positions_hold_at_the_far_end_of_levels_cut_to_whole_pixels():
    """A slide of 46,000 px with a level of 4.0003: its last pixels are found in place."""
    level = np.zeros((50, 11499, 3), np.uint8)
    level[..., 0] = np.arange(11499) // 256
    level[..., 1] = np.arange(11499) % 256
    base = np.broadcast_to(np.uint8(0), (1, 1, 200, 46_000, 3))
    reader = MemoryReader(base, levels=[level])
    for x in (0, 20_000, 45_600):
        pixels, _ = reader.read(Box(x, 0, 400, 40), (100, 10))
        column = pixels[0, :, 0].astype(int) * 256 + pixels[0, :, 1]
        centre = (x + 2 + 4 * np.arange(100)) * 11499 / 46_000
        assert np.abs(column + 0.5 - centre).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("full", "reduced", "factor"),
    [
        (4443, 2221, 2),
        (4443, 2222, 2),
        (46_000, 2875, 16),
        (46_000, 11_499, 46_000 / 11_499),
        (300, 37, 8),
        (1000, 999, 1000 / 999),
        (7, 7, 1),
        (1, 1, 1),
        (1000, 300, 1000 / 300),
    ],
)
def test_factors_of_levels_cut_to_whole_pixels_are_whole(full, reduced, factor):
    assert level_sizes.axis_factor(full, reduced) == factor


def test_the_part_that_a_level_was_cut_by_is_no_background():
    """5 pixels halved to 2: the last half pixel of the level shows its last pixel."""
    base = np.full((203, 205, 3), 100, np.uint8)
    for level in (base[:101, :102], base[:102, :103]):
        reader = MemoryReader(base, levels=[level], mask=np.ones((203, 205), bool))
        for box, size in (
            (Box(0, 0, 205, 203), (102, 101)),
            (Box(0, 0, 205, 203), (41, 29)),
            (Box(204, 202, 1, 1), (1, 1)),
            (Box(203, 201, 2, 2), (1, 1)),
            (Box(195, 193, 10, 10), (5, 5)),
        ):
            pixels, mask = reader.read(box, size)
            assert (pixels == 100).all()
            assert mask is None
        pixels, mask = reader.read(Box(197, 195, 16, 16), (8, 8))
        assert mask[:4, :4].all()
        assert not mask[4:].any()
        assert not mask[:, 4:].any()
        assert (pixels[:4, :4] == 100).all()
        assert (pixels[4:] == 255).all()


def test_marker_images_have_a_limit():
    with pytest.raises(ValueError, match="a marker image has"):
        marker_image(5000, 5000)
    pixels = marker_image(700, 500).astype(int)
    assert len(np.unique(pixels @ [65536, 256, 1])) == 350_000
