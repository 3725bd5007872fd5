"""Measures of patches of real tissue that are made worse by known amounts."""

import colorsys
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

import qupath_bridge as qb
from qupath_bridge.pixels.focus import focus, sharpness
from qupath_bridge.pixels.jpeg_blocks import blockiness
from qupath_bridge.pixels.quality import blank, dark, mean_saturation, pen

ROOT = Path(__file__).parents[2]
SLIDES = {
    "fluffy": (ROOT / "tests" / "data" / "slides" / "petebankhead_OS-2-ndpi.ome.tif", 0.2271, 1024),
    "skin": (ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs", 0.499, 512),
}
TIMES = (1, 2, 4)  # averaged down to coarser pixels by these factors


@pytest.fixture(scope="module", params=SLIDES)
def tissue(request):
    """Pictures of tissue at full resolution, and their µm per pixel."""
    path, mpp, side = SLIDES[request.param]
    places = {"fluffy": [(0, 0), (1100, 0), (0, 1100)], "skin": [(1024, 1024), (1024, 1536)]}
    with qb.open_reader(path) as reader:
        boxes = np.array([(x, y, side, side) for x, y in places[request.param]])
        pixels, _ = reader.read_many(boxes, (side, side), qb.Plane(0, 0))
    return [Image.fromarray(each) for each in pixels], mpp


def scales(pictures, mpp):
    """Yield the patches at each pixel size of 1 µm and less."""
    for times in TIMES:
        if times * mpp <= 1:
            smaller = [np.asarray(picture.reduce(times)) for picture in pictures]
            yield np.stack(smaller), times * mpp


def blurred(pictures, sigma):
    return [picture.filter(ImageFilter.GaussianBlur(sigma)) for picture in pictures]


BLURS = {focus: (0, 0.5, 1, 2, 4), sharpness: (0, 0.5, 1)}  # µm that can be told apart


@pytest.mark.parametrize("measure", BLURS)
def test_blur_lowers_focus_alike_at_every_pixel_size(tissue, measure):
    pictures, mpp = tissue
    found = np.array(
        [
            [measure(*each) for each in scales(blurred(pictures, micrometres / mpp), mpp)]
            for micrometres in BLURS[measure]
        ]
    )  # blur, pixel size, picture
    assert found.shape[1] > 1
    assert (found[:-1] > 1.6 * found[1:]).all()
    finest = found[:, :1]
    assert (np.abs(found - finest) < 0.25 * finest + 0.01 * finest[0]).all()


@pytest.mark.parametrize("measure", [focus, sharpness])
def test_glass_beside_tissue_hardly_changes_focus(tissue, measure):
    pictures, mpp = tissue
    whole = np.asarray(pictures[0])
    half = whole.copy()
    half[:, : half.shape[1] // 2] = 243
    alone = whole[:, whole.shape[1] // 2 :]
    expected, found = (measure(each[None], mpp)[0] for each in (alone, half))
    assert found == pytest.approx(expected, rel=0.5)
    assert measure(np.full((1, 256, 256, 3), 243, np.uint8), mpp) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("measure", [focus, sharpness])
def test_the_depth_of_a_stain_hardly_changes_focus(tissue, measure):
    """The same tissue with half the contrast: a variance is a fourth."""
    pictures, mpp = tissue
    whole = np.stack([*map(np.asarray, pictures)])
    pale = np.rint(243 - (243 - whole.astype(float)) * 0.5).clip(0, 255).astype(np.uint8)
    assert measure(pale, mpp) == pytest.approx(measure(whole, mpp), rel=0.35)


def test_focus_of_odd_pixel_sizes_is_in_between(tissue):
    """0.69 µm per pixel: boxes of 1.45 pixels."""
    pictures, mpp = tissue
    whole = pictures[0].width
    side = round(whole * mpp / 0.69)
    resized = np.stack([np.asarray(p.resize((side, side), Image.Resampling.BOX)) for p in pictures])
    expected = focus(np.stack([*map(np.asarray, pictures)]), mpp)
    assert focus(resized, whole * mpp / side) == pytest.approx(expected, rel=0.5)


def ink(picture, color, width):
    """Draw a thick line from side to side, as a pen does."""
    drawn = picture.copy()
    draw = ImageDraw.Draw(drawn)
    if width:
        draw.rectangle((0, 0, picture.width, width - 1), fill=color)
    return drawn


@pytest.mark.parametrize("color", [(45, 75, 170), (25, 130, 70), (215, 35, 45)])
def test_pen_is_the_share_of_ink(tissue, color):
    pictures, mpp = tissue
    parts = (0, 0.05, 0.2, 0.6)
    found = np.array(
        [
            [
                pen(*each)
                for each in scales([ink(p, color, round(part * p.height)) for p in pictures], mpp)
            ]
            for part in parts
        ]
    )
    before = found[0]
    for part, each in zip(parts, found, strict=True):
        assert (each > part * (1 - before) - 0.02).all()
        assert (each < part + before + 0.02).all()
    assert (found[:-1] < found[1:]).all()
    assert before.max() < 0.02  # skin has green ink on its rim


def test_blank_is_the_share_of_glass(tissue):
    pictures, mpp = tissue
    parts = (0, 0.1, 0.5, 0.9)
    found = np.array(
        [
            [
                blank(*each)
                for each in scales(
                    [ink(p, (242, 243, 240), round(part * p.height)) for p in pictures], mpp
                )
            ]
            for part in parts
        ]
    )
    for part, each in zip(parts, found, strict=True):
        assert (each > part - 0.02).all()
        assert (each < part + (1 - part) * 0.6).all()
    assert (found[:-1] < found[1:]).all()
    assert blank(np.full((1, 64, 64, 3), 255, np.uint8), mpp) == 1


def folded(picture, part):
    """Put other tissue twice over the upper part: light passes all of it."""
    light = np.asarray(picture) / 255
    rows = round(part * picture.height)
    folded = light.copy()
    folded[:rows] *= light[::-1][:rows] * light[:, ::-1][:rows]
    return Image.fromarray(np.rint(folded * 255).astype(np.uint8))


def test_dark_grows_with_folds_and_ink(tissue):
    pictures, mpp = tissue
    found = np.array(
        [
            [dark(*each) for each in scales([folded(p, part) for p in pictures], mpp)]
            for part in (0, 0.1, 0.4, 0.8)
        ]
    )
    assert (found[:-1] < found[1:]).all()
    assert np.ptp(found, axis=1).max() < 0.06  # pixel sizes
    black = np.array(
        [
            dark(*each)
            for each in scales([ink(p, (12, 12, 20), p.height // 2) for p in pictures], mpp)
        ]
    )
    assert (np.abs(black - (0.5 + found[0] / 2)) < 0.15).all()


def test_dark_does_not_count_single_nuclei():
    """Dark discs of 6 µm, 24 µm apart, at three pixel sizes."""
    for mpp in (0.25, 0.5, 1):
        y, x = np.mgrid[:256, :256] * mpp
        nuclei = ((x % 24 - 12) ** 2 + (y % 24 - 12) ** 2 < 9)[None, ..., None]
        batch = np.where(nuclei, np.uint8([70, 40, 120]), np.uint8([225, 160, 200]))
        assert dark(batch.astype(np.uint8), mpp) == 0


def compressed(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
    return Image.open(buffer).convert("RGB")


def test_jpeg_compression_raises_blockiness(tissue):
    """At each pixel size alike; the blocks of the slide itself are averaged away before."""
    pictures, _ = tissue
    for times in (2, 3):
        small = [picture.reduce(times) for picture in pictures]
        found = np.array(
            [
                blockiness(np.stack([np.asarray(compressed(p, q))[5:, 3:] for p in small]))
                for q in (95, 75, 50, 30, 15)
            ]
        )
        assert (found[:-1] < found[1:] + 0.03).all()
        assert found[0].max() < 0.15
        assert found[-1].min() > 0.3


def test_mean_saturation_is_that_of_hsv():
    batch = np.random.default_rng(2).integers(0, 256, (3, 11, 9, 3), dtype=np.uint8)
    batch[2] = 0
    found = mean_saturation(batch, 0.5)
    for patch, value in zip(batch, found, strict=True):
        each = [colorsys.rgb_to_hsv(*(pixel / 255).tolist())[1] for pixel in patch.reshape(-1, 3)]
        assert value == pytest.approx(np.mean(each), abs=1e-12)
    assert found[2] == 0


def test_mean_saturation_of_large_patches_is_close(tissue):
    pictures, mpp = tissue
    for picture in pictures:
        whole = np.asarray(picture.convert("HSV"))[..., 1].mean() / 255
        assert mean_saturation(np.asarray(picture)[None], mpp) == pytest.approx([whole], abs=0.01)
