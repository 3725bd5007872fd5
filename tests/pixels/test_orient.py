import numpy as np
import pytest

from qupath_bridge.pixels.orient import orient, warp

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 7, 3)])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_orient_moves_each_pixel(shape, mirror, turns):
    array = np.arange(np.prod(shape)).reshape(shape)
    height, width = shape[1:3]
    turned = orient(array, (turns, mirror))
    assert turned.flags.c_contiguous
    for y in range(height):
        for x in range(width):
            # By the formulas of a clockwise turn, pixel by pixel.
            u, v, w, h = (width - 1 - x if mirror else x), y, width, height
            for _ in range(turns):
                u, v, w, h = h - 1 - v, u, h, w
            np.testing.assert_array_equal(turned[:, v, u], array[:, y, x])


def block(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_warp_by_the_identity_changes_nothing():
    pixels, valid = warp(block(), None, IDENTITY, (30, 20))
    np.testing.assert_array_equal(pixels, block())
    assert valid.all()


def test_warp_by_whole_pixels_and_turns_is_exact():
    moved, valid = warp(block(), None, ((1, 0, 4), (0, 1, -3)), (30, 20))
    np.testing.assert_array_equal(moved[3:, :26], block()[:17, 4:])
    assert valid[3:, :26].all() and valid.sum() == 17 * 26
    turned, valid = warp(block(), None, ((0, 1, 0), (-1, 0, 20)), (20, 30))
    np.testing.assert_array_equal(turned, np.rot90(block(), -1))
    assert valid.all()


def test_warp_takes_pixel_centres_to_pixel_centres():
    """A ramp stays the same ramp under any affine map: bilinear sampling is exact on it."""
    y, x = np.mgrid[0:100, 0:100] + 0.5
    ramp = np.stack([x * 2, y * 2, x + y], -1)
    matrix = ((0.6, -0.3, 40.25), (0.35, 0.55, 10.75))
    pixels, valid = warp(np.floor(ramp + 0.5).astype(np.uint8), None, matrix, (50, 40))
    v, u = np.mgrid[0:40, 0:50] + 0.5
    bx, by = (a * u + b * v + t for a, b, t in matrix)
    assert valid.all()
    np.testing.assert_allclose(pixels[..., 0], 2 * bx, atol=1)
    np.testing.assert_allclose(pixels[..., 1], 2 * by, atol=1)
    np.testing.assert_allclose(pixels[..., 2], bx + by, atol=1)


def test_warp_weighs_four_neighbours():
    four = np.array([[[0], [100]], [[200], [40]]], np.uint8).repeat(3, -1)
    # One output pixel whose centre is at (0.75, 1.25) of the block, past the first centre by
    # a quarter along x and three quarters along y.
    pixels, _ = warp(four, None, ((1, 0, 0.25), (0, 1, 0.75)), (1, 1))
    expected = 0.25 * (0.75 * 0 + 0.25 * 100) + 0.75 * (0.75 * 200 + 0.25 * 40)
    assert pixels[0, 0].tolist() == [int(expected + 0.5)] * 3


def test_warp_respects_the_mask_and_tall_outputs():
    mask = np.ones((20, 30), np.bool_)
    mask[5:8, 10:12] = False
    _, valid = warp(block(), mask, IDENTITY, (30, 20))
    np.testing.assert_array_equal(valid, mask)
    tall, valid = warp(block(), None, ((1, 0, 0), (0, 20 / 600, 0)), (30, 600))
    np.testing.assert_array_equal(valid, True)
    assert np.abs(tall[15::30].astype(int) - block()).max() <= 6


def test_warp_of_nothing():
    pixels, valid = warp(np.zeros((0, 0, 3), np.uint8), None, IDENTITY, (3, 2))
    assert pixels.shape == (2, 3, 3)
    assert not valid.any()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32"])
def test_warp_of_other_integers_is_rounded_half_up(dtype):
    """Half-way between two pixels: the mean of four, its halves rounded up; ends of the range."""
    ends = np.iinfo(dtype)
    pixels = np.random.default_rng(1).integers(ends.min, ends.max, (9, 12, 5), dtype)
    pixels[:2, :2], pixels[4:6, 4:6] = ends.max, ends.min
    same, _ = warp(pixels, None, IDENTITY, (12, 9))
    np.testing.assert_array_equal(same, pixels, strict=True)
    moved, _ = warp(pixels, None, ((1, 0, 0.5), (0, 1, 0.5)), (11, 8))
    four = sum(pixels[y : y + 8, x : x + 11].astype(object) for y in (0, 1) for x in (0, 1))
    expected = np.array((four + 2) // 4, dtype)  # of whole numbers in Python
    np.testing.assert_array_equal(moved, expected, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_warp_of_floats_keeps_fractions_and_a_nan_where_it_has_a_part(dtype):
    pixels = np.random.default_rng(1).normal(size=(9, 12, 2)).astype(dtype)
    pixels[3, 4, 0] = np.nan
    pixels[6, 6, 1] = np.inf
    same, _ = warp(pixels, None, IDENTITY, (12, 9))
    np.testing.assert_array_equal(same, pixels, strict=True)
    moved, _ = warp(pixels, None, ((1, 0, 0.25), (0, 1, 0)), (11, 9))
    expected = pixels[:, :-1] * 0.75 + pixels[:, 1:] * 0.25
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    assert moved.dtype == dtype
    assert np.isnan(moved[..., 0]).sum() == 2
    assert np.isinf(moved[..., 1]).sum() == 2
