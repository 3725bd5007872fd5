"""Which pixels patches are made of: a level's own, or resampled ones."""

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.readers.level_sizes import (
    level_downsamples,
    level_factors,
    make_levels,
    whole_downsamples,
)
from qupath_bridge.readers.levels import Level
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.projects import Image, build_memory_project, cropped, rotated
from qupath_bridge.testing.slides import marker_image, write_slide

PIXELS = marker_image(1040, 780)


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("scale") / "a.tiff", PIXELS, mpp=0.499, levels=2)


def slide_of(path, pixel_size=0.499, **options):
    return build_memory_project([Image(path, pixel_size=pixel_size, **options)]).slides[0]


def plan_of(slide, **options):
    return qb.plan(slide, qb.ExportConfig(labels=False, **options))


def read_all(plan):
    with qb.open_reader(plan.path) as reader:
        return [plan.read(row, reader) for row in range(len(plan))]


def test_a_slide_of_nearly_the_wanted_resolution_is_not_resampled(slide_file):
    plan = plan_of(slide_of(slide_file), size=256, mpp=0.5)
    assert (plan.native, plan.resampling, plan.read_level, plan.mpp) == (True, 1.0, 0, 0.499)
    assert len(plan) == 4 * 3
    for (x, y, w, h), pixels in zip(plan.table.boxes.tolist(), read_all(plan), strict=True):
        assert (w, h) == (256, 256)
        np.testing.assert_array_equal(pixels, PIXELS[y : y + 256, x : x + 256])


def test_without_tolerance_it_is_resampled(slide_file):
    plan = plan_of(slide_of(slide_file), size=256, mpp=0.5, mpp_tolerance=0)
    assert plan.grid.box_width == 257  # 256 × 0.5 / 0.499 = 256.5
    assert (plan.native, plan.resampling) == (False, pytest.approx(257 / 256))


def test_a_lower_level_of_nearly_the_wanted_resolution_is_not_resampled(slide_file):
    plan = plan_of(slide_of(slide_file), size=128, stride=100, mpp=1.0)
    assert (plan.native, plan.read_level, plan.mpp) == (True, 1, 0.998)
    assert (plan.grid.box_width, plan.grid.step_x) == (256, 200)
    means = (PIXELS.reshape(390, 2, 520, 2, 3).astype(int).sum((1, 3)) + 2) // 4
    for (x, y, _, _), pixels in zip(plan.table.boxes.tolist(), read_all(plan), strict=True):
        expected = means[y // 2 : y // 2 + 128, x // 2 : x // 2 + 128]
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("wrap", "native"),
    [
        (rotated(90), True),
        (cropped(4, 6, 900, 700), True),
        (cropped(5, 6, 900, 700), False),
        (cropped(4, 7, 900, 700), False),
    ],
)
def test_own_pixels_of_a_level_depend_on_where_the_image_begins(slide_file, wrap, native):
    slide = slide_of(slide_file, wrappers=[wrap])
    assert plan_of(slide, size=128, mpp=1.0).native is native
    assert plan_of(slide, size=128, mpp=0.5).native  # level 0 fits any place


def test_full_resolution_and_whole_factors_without_such_a_level(slide_file):
    slide = slide_of(slide_file)
    assert plan_of(slide, size=100).native
    plan = plan_of(slide, size=100, mpp=4 * 0.499)
    assert (plan.native, plan.read_level, plan.resampling) == (False, 1, 2.0)


def test_the_tolerance_takes_part_in_the_digest(slide_file):
    slide = slide_of(slide_file)
    one, other = (plan_of(slide, size=256, mpp_tolerance=value) for value in (0.02, 0.01))
    assert one.digest != other.digest


def test_a_mixture_of_native_and_resampled_slides_is_warned_of(slide_file):
    same, mixed = (
        build_memory_project([Image(slide_file, pixel_size=size) for size in sizes]).slides
        for sizes in ((0.499, 0.5), (0.499, 0.4))
    )
    config = qb.ExportConfig(size=64, mpp=0.5, labels=False)
    assert not [text for text in qb.plan(same, config).warnings if "resampled" in text]
    (warning,) = (text for text in qb.plan(mixed, config).warnings if "resampled" in text)
    assert "Patches of 1 of 2 slides are resampled" in warning


@pytest.mark.parametrize(
    ("level", "factors"),
    [
        (Level(520, 390, 2.0), (2, 2)),
        (Level(260, 195, 4.0), (4, 4)),
        (Level(512, 512, 4.0), (4, 4)),  # filled to whole tiles, and the reader knows
        (Level(300, 300, (1040 / 300 + 780 / 300) / 2), (1040 / 300, 780 / 300)),
    ],
)
def test_factors_of_a_level(level, factors):
    assert level_factors((1040, 780), level) == factors


def test_whole_downsamples_are_those_of_levels_cut_to_whole_pixels():
    base = np.zeros((1001, 2003, 3), np.uint8)
    sizes = [(1001, 500), (500, 250), (250, 100)]
    levels = [np.zeros((h, w, 3), np.uint8) for w, h in sizes]
    with MemoryReader(base, levels=levels) as reader:
        assert reader.levels[1].downsample == (2003 / 1001 + 1001 / 500) / 2
        assert reader.levels == make_levels([(2003, 1001), *sizes])
        assert whole_downsamples(reader) == (1, 2, 4)
        assert level_downsamples(reader) == (1, 2, 4, 8)
