"""Outlines of pixels, filled again by readers of other packages."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from qupath_bridge.datasets.outlines import bridged_ring, outline_of, run_lengths

# pycocotools 2.0 has arrays of before NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RING = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)


def random_mask(seed, shape=(14, 17)):
    """Blots with holes and parts that meet at corners."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.choice([0.15, 0.5, 0.85])


def filled(points, shape, scale=8):
    """What Pillow fills, at several times the size, where borders do not matter."""
    picture = Image.new("L", (shape[1] * scale, shape[0] * scale))
    places = [tuple(point) for point in (np.asarray(points) * scale - 0.5).tolist()]
    ImageDraw.Draw(picture).polygon(places, fill=1)
    half = scale // 2
    return np.asarray(picture)[half::scale, half::scale].astype(bool)


@pytest.mark.parametrize("seed", range(12))
def test_parts_add_up_to_the_pixels(seed):
    inside = random_mask(seed)
    parts = outline_of(inside)
    assert sum(part.area for part in parts) == inside.sum()
    assert all(part.is_valid for part in parts)
    again = np.zeros_like(inside)
    for part in parts:
        again |= filled(part.exterior.coords, inside.shape)
        for hole in part.interiors:
            again &= ~filled(hole.coords, inside.shape) | inside
    np.testing.assert_array_equal(again, inside)


def test_corners_are_the_only_points():
    (square,) = outline_of(np.ones((5, 7), bool))
    assert len(square.exterior.coords) == 5
    (ring,) = outline_of(RING)
    assert (len(ring.exterior.coords), len(ring.interiors)) == (5, 1)
    two = outline_of(np.eye(2, dtype=bool))  # they meet at a corner
    assert [part.bounds for part in two] == [(0, 0, 1, 1), (1, 1, 2, 2)]


@pytest.mark.parametrize("seed", range(12))
def test_one_ring_leaves_the_holes_out(seed):
    """A ring with bridges has the area of the polygon, and pycocotools fills the same pixels."""
    inside = random_mask(seed)
    again = np.zeros(inside.shape, bool)
    for part in outline_of(inside):
        ring = bridged_ring(part)
        x, y = ring.T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert area == part.area
        again ^= filled_by_coco(ring, inside.shape)
    np.testing.assert_array_equal(again, inside)


def filled_by_coco(ring, shape):
    """What pycocotools makes of a polygon."""
    encoded = coco.frPyObjects([ring.ravel().tolist()], *shape)
    return coco.decode(encoded)[..., 0].astype(bool)


@pytest.mark.parametrize("inside", [RING, ~RING, RING & False, RING | True, random_mask(3)])
def test_run_lengths_are_those_of_pycocotools(inside):
    counts = run_lengths(inside)
    assert sum(counts) == inside.size
    packed = coco.frPyObjects({"size": list(inside.shape), "counts": counts}, *inside.shape)
    assert packed == coco.encode(np.asfortranarray(inside.astype(np.uint8)))
