"""The grid of boxes, and how it meets a slide."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.errors import PlanError
from qupath_bridge.geometry.coverage import coverage
from qupath_bridge.model import GridSpec, PixelSize
from qupath_bridge.patches.grid import Grid, resolve_grid, round_half_up

QUARTER = PixelSize(0.25, 0.25, "project")


def resolve(pixel_size=QUARTER, **spec):
    return resolve_grid(GridSpec(**spec), image_size=(10_000, 8_000), pixel_size=pixel_size)


# --- boxes ---


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(-100, 100), st.integers(-100, 100)),
    st.sampled_from(["drop", "pad"]),
)
def test_grid_boxes_are_all_that_the_edge_policy_keeps(box, step, size, origin, edge):
    """Against the sentence of the contract, tried for every k that could matter."""
    grid = Grid(*box, *step, *size, *origin, edge=edge)
    expected, touching = [], 0
    for row in range(-250, 250):
        y = origin[1] + row * step[1]
        if not -box[1] < y < size[1]:
            continue
        for col in range(-250, 250):
            x = origin[0] + col * step[0]
            if not -box[0] < x < size[0]:
                continue
            # Of the boxes that begin before the image only the last counts, on each axis.
            if x + step[0] <= 0 or y + step[1] <= 0:
                continue
            touching += 1
            whole = x >= 0 and y >= 0 and x + box[0] <= size[0] and y + box[1] <= size[1]
            if edge == "pad" or whole:
                expected.append((col, row, x, y, *box))
    cols, rows = np.meshgrid(grid.cols, grid.rows)
    found = np.column_stack([cols.ravel(), rows.ravel(), grid.boxes()])
    assert found.tolist() == [list(values) for values in expected]
    assert len(grid) == len(expected)
    assert grid.edge_dropped == touching - len(expected)
    valid = coverage(grid.boxes(), [shapely.box(0, 0, *size)])[:, 0]
    np.testing.assert_allclose(grid.valid_share(), valid, rtol=0, atol=1e-9)
    assert (grid.valid_share() > 0).all()


def test_padded_grid_with_overlap_counts_as_qupath_does():
    """QuPath's TileExporter makes 20 x 20 tiles, none of which begins left of the image."""
    grid = Grid(100, 100, 50, 50, 1000, 1000, edge="pad")
    assert len(grid) == 400
    assert (grid.xs.min(), grid.ys.min()) == (0, 0)


def test_grid_boxes_tile_without_gaps():
    grid = resolve(size=256, mpp=0.7)
    assert grid.box_width == grid.step_x == 717
    assert (np.diff(grid.xs) == 717).all()


def test_grid_of_an_image_smaller_than_a_box():
    assert len(Grid(100, 100, 100, 100, 60, 500)) == 0
    assert Grid(100, 100, 100, 100, 60, 500).boxes().shape == (0, 4)
    assert Grid(100, 100, 100, 100, 60, 500).edge_dropped == 5
    assert len(Grid(100, 100, 100, 100, 60, 500, edge="pad")) == 5


@pytest.mark.parametrize("lengths", [(0, 5, 5, 5), (5, 5, 5, -1)])
def test_grid_boxes_and_steps_below_1_px_are_refused(lengths):
    with pytest.raises(PlanError, match="1 px at least"):
        Grid(*lengths, 100, 100)


# --- resolution ---


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.5, 1), (1.5, 2), (2.5, 3), (2.4999, 2), (-0.5, 0), (-1.5, -1)]
)
def test_round_half_up(value, rounded):
    assert round_half_up(value) == rounded


def test_grid_at_level_zero_needs_no_pixel_size():
    grid = resolve(size=200, stride=150, pixel_size=None, origin=(7, -9), edge="pad")
    assert (grid.box_width, grid.box_height, grid.step_x, grid.step_y) == (200, 200, 150, 150)
    assert (grid.origin_x, grid.origin_y, grid.width, grid.height) == (7, -9, 10_000, 8_000)
    assert grid.edge == "pad"
    assert grid.mpp is None
    assert grid.downsample == 1.0


def test_effective_mpp_is_that_of_the_rounded_box():
    grid = resolve(size=256, mpp=0.5, pixel_size=PixelSize(0.2527, 0.2527, "slide"))
    assert grid.box_width == grid.box_height == 507  # 256 × 0.5 / 0.2527 = 506.53
    assert grid.mpp == pytest.approx(507 * 0.2527 / 256)
    assert grid.mpp != 0.5
    assert grid.downsample == 507 / 256


def test_grid_step_is_rounded_separately():
    grid = resolve(size=224, stride=112, mpp=0.5, pixel_size=PixelSize(0.499, 0.499, "slide"))
    assert (grid.box_width, grid.step_x) == (224, 112)
    grid = resolve(size=225, stride=100, mpp=0.75)
    assert (grid.box_width, grid.step_x) == (675, 300)


def test_grid_boxes_follow_the_pixel_size_of_each_axis():
    grid = resolve(size=100, mpp=1.0, pixel_size=PixelSize(0.5, 0.25, "project"))
    assert (grid.box_width, grid.box_height) == (200, 400)
    assert (grid.step_x, grid.step_y) == (200, 400)
    assert (grid.mpp_x, grid.mpp_y, grid.mpp) == (1.0, 1.0, 1.0)
    assert grid.downsample == 3.0


@pytest.mark.parametrize(
    ("pixel_size", "mpp", "native", "downsample"),
    [
        (0.499, 0.5, (1,), 1),
        (0.2495, 0.5, (1, 2, 4), 2),  # level 1 has 0.499 µm
        (0.49, 0.5, (1,), 1),  # 2 % of the wanted mpp is within
        (0.51, 0.5, (1,), 1),
        (0.4899, 0.5, (1,), None),
        (0.5101, 0.5, (1,), None),
        (0.25, 0.5, (1, 4), None),
        (0.499, 0.5, (), None),
        (0.1, 1.0, (1, 10, 10.1), 10),  # the nearest
    ],
)
def test_a_level_within_the_tolerance_decides_the_boxes(pixel_size, mpp, native, downsample):
    """box = size × d and step = stride × d, not round(size × mpp / pixel size)."""
    size = PixelSize(pixel_size, pixel_size, "project")
    grid = resolve_grid(
        GridSpec(size=257, stride=101, mpp=mpp, allow_upsampling=True),
        image_size=(9000, 9000), pixel_size=size, native=native,
    )  # fmt: skip
    if downsample is None:
        box, step = round_half_up(257 * mpp / pixel_size), round_half_up(101 * mpp / pixel_size)
    else:
        box, step = 257 * downsample, 101 * downsample
    assert (grid.box_width, grid.box_height, grid.step_x, grid.step_y) == (box, box, step, step)
    assert grid.mpp == pytest.approx(box * pixel_size / 257)


@pytest.mark.parametrize(
    ("origin", "offset", "tolerance", "native"),
    [
        ((0, 0), (0, 0), 0.02, True),
        ((4, -8), (12, 400), 0.02, True),
        ((2, 0), (0, 0), 0.02, False),
        ((0, 0), (0, 2), 0.02, False),
        ((0, 0), (0, 0), 0, False),
        ((0, 0), (0, 0), 0.002, True),
        ((0, 0), (0, 0), 0.0019, False),
    ],
)
def test_own_pixels_need_boxes_that_begin_at_a_pixel_of_the_level(
    origin, offset, tolerance, native
):
    spec = GridSpec(size=300, mpp=1.0, origin=origin, mpp_tolerance=tolerance)
    size = PixelSize(0.2495, 0.2495, "project")  # 0.998 µm at a downsample of 4
    grid = resolve_grid(
        spec, image_size=(9000, 9000), pixel_size=size, native=(1, 4), offset=offset
    )
    assert grid.box_width == (1200 if native else 1202)


def test_own_pixels_must_fit_on_both_axes():
    size = PixelSize(0.5, 0.48, "project")
    grid = resolve_grid(
        GridSpec(size=100, mpp=0.5), image_size=(900, 900), pixel_size=size, native=(1,)
    )
    assert (grid.box_width, grid.box_height) == (100, 104)


def test_own_pixels_may_be_a_little_coarser_than_the_wanted_ones():
    spec, size = GridSpec(size=256, mpp=0.5), PixelSize(0.503, 0.503, "project")
    grid = resolve_grid(spec, image_size=(900, 900), pixel_size=size, native=(1,))
    assert (grid.box_width, grid.mpp) == (256, 0.503)
    with pytest.raises(PlanError, match="finer than the slide"):
        resolve_grid(spec, image_size=(900, 900), pixel_size=size)


def test_pixel_size_of_the_user_replaces_the_slides():
    grid = resolve_grid(
        GridSpec(size=100, mpp=1.0, pixel_size=0.5), image_size=(900, 900), pixel_size=QUARTER
    )
    assert grid.box_width == 200


def test_magnification_is_relative_to_the_slides_objective():
    grid = resolve_grid(
        GridSpec(size=256, magnification=20),
        image_size=(9000, 9000),
        pixel_size=QUARTER,
        magnification=40.0,
    )
    assert grid.box_width == 512
    assert grid.mpp == 0.5
    uncalibrated = resolve_grid(
        GridSpec(size=256, magnification=20), image_size=(9000, 9000), magnification=40.0
    )
    assert uncalibrated.mpp is None


def test_missing_pixel_size_error_names_three_ways_out():
    with pytest.raises(PlanError, match="no pixel size") as error:
        resolve(size=256, mpp=0.5, pixel_size=None)
    for way in ("QuPath", "pixel_size", "level_zero"):
        assert way in error.value.hint


def test_missing_objective_power_is_an_error():
    with pytest.raises(PlanError, match="Magnification 20 is requested") as error:
        resolve_grid(GridSpec(magnification=20), image_size=(9000, 9000), pixel_size=QUARTER)
    assert "mpp" in error.value.hint


def test_upsampling_needs_permission():
    with pytest.raises(PlanError, match="finer than the slide itself") as error:
        resolve(size=256, mpp=0.2)
    assert "allow_upsampling" in error.value.hint
    assert "0.25 µm per pixel" in error.value.message
    assert resolve(size=256, mpp=0.2, allow_upsampling=True).box_width == 205
    with pytest.raises(PlanError, match="objective 20"):
        resolve_grid(GridSpec(magnification=40), image_size=(900, 900), magnification=20.0)


def test_upsampling_is_decided_after_rounding():
    just_below = PixelSize(0.5 * 256 / 255.6, 0.5, "slide")  # 255.6 px, rounded to 256
    assert resolve(size=256, mpp=0.5, pixel_size=just_below).box_width == 256
    with pytest.raises(PlanError, match="finer"):  # one axis is enough
        resolve(size=256, mpp=0.5, pixel_size=PixelSize(0.5, 0.6, "slide"))


def test_grid_box_of_0_px_is_an_error_even_with_allow_upsampling():
    with pytest.raises(PlanError, match="empty"):
        resolve(size=1, mpp=0.1, allow_upsampling=True)
    with pytest.raises(PlanError, match="empty"):  # the step rounds to 0, the box does not
        resolve(size=100, stride=1, mpp=0.1, allow_upsampling=True)
    assert resolve(size=1, mpp=0.125, allow_upsampling=True).box_width == 1


def test_grid_box_larger_than_any_slide_is_refused():
    with pytest.raises(PlanError, match="far larger than any slide") as error:
        resolve(size=256, mpp=1e9)
    assert "pixel size" in error.value.hint
