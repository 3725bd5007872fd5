"""Patches by QuPath coordinates, on slides where every pixel has a colour of its own.

What QuPath shows is computed independently: the whole image is turned, mirrored and cut as an
array, by numpy.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, Plane, ServerBuilder
from qupath_bridge.pipeline.pixels import read_patch, read_thumbnail
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import RGB_CHANNELS
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.slides import marker_image, write_slide

WIDTH, HEIGHT = SIZE = (97, 61)
SLIDE = marker_image(WIDTH, HEIGHT)
OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
TURNS = {"ROTATE_NONE": 0, "ROTATE_90": 1, "ROTATE_180": 2, "ROTATE_270": 3}
BACKGROUND = (7, 201, 33)


def uri(*args):
    return {"builderType": "uri", "providerClassName": OPENSLIDE, "uri": "file:/a", "args": args}


def wrapped(steps, *args):
    """A builder chain from steps as (builderType, value), the innermost first."""
    builder = uri(*args)
    for kind, value in steps:
        builder = {"builderType": kind, "builder": builder}
        if kind == "rotated":
            builder["rotation"] = value
        elif kind == "flipped":
            builder["flip"] = value
        elif kind == "cropped":
            builder["region"] = dict(zip(("x", "y", "width", "height"), value, strict=True))
        elif kind == "affine":
            builder["transform"] = dict(
                zip(("m00", "m10", "m01", "m11", "m02", "m12"), value, strict=True)
            )
    return builder


def cut(image, x, y, w, h, fill=BACKGROUND):
    """A box of an image, which may pass its edges."""
    margin = max(0, -x, -y, x + w - image.shape[1], y + h - image.shape[0])
    padded = np.empty((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin, 3), np.uint8)
    padded[:] = fill
    padded[margin : margin + image.shape[0], margin : margin + image.shape[1]] = image
    return padded[y + margin : y + margin + h, x + margin : x + margin + w]


def shown(steps, image=SLIDE):
    """The whole image as QuPath shows it after these steps."""
    for kind, value in steps:
        if kind == "rotated":
            image = np.rot90(image, -TURNS[value])
        elif kind == "flipped":
            image = image[:, ::-1] if value in ("HORIZONTAL", "BOTH") else image
            image = image[::-1] if value in ("VERTICAL", "BOTH") else image
        elif kind == "cropped":
            image = cut(image, *value)
    return image


def reading(builder, reader):
    return coordinate_map(ServerBuilder(builder), file_size=reader.size, bounds=reader.bounds)


MAPS = {
    "plain": [],
    **{name.lower(): [("rotated", name)] for name in TURNS},
    **{f"flip {n.lower()}": [("flipped", n)] for n in ("NONE", "HORIZONTAL", "VERTICAL", "BOTH")},
    "crop": [("cropped", (13, 7, 40, 29))],
    "pyramid": [("pyramidize", None)],
    "flip, then rotation": [("flipped", "VERTICAL"), ("rotated", "ROTATE_90")],
    "rotation, then flip": [("rotated", "ROTATE_90"), ("flipped", "VERTICAL")],
    "crop, then rotation": [("cropped", (13, 7, 40, 29)), ("rotated", "ROTATE_270")],
    "rotation, then crop": [("rotated", "ROTATE_270"), ("cropped", (13, 7, 40, 29))],
}
BOUNDS = {
    "no bounds": None,
    "inside": Box(11, 5, 62, 48),
    "negative": Box(-9, -4, 62, 48),
    "past the edge": Box(50, 30, 62, 48),
    "around": Box(-5, -6, WIDTH + 12, HEIGHT + 10),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("steps", MAPS.values(), ids=MAPS)
def test_corners(steps, bounds):
    """At each corner a patch inside, and one that passes the edge, equal what QuPath shows."""
    reader = MemoryReader(SLIDE, bounds=bounds, background=BACKGROUND)
    coordinates = reading(wrapped(steps), reader)
    base = SLIDE if bounds is None else cut(SLIDE, *bounds)
    image = shown(steps, base)
    height, width = image.shape[:2]
    assert coordinates.size == (width, height)
    # Where the file has pixels, of what QuPath shows.
    has = shown(steps, cut(np.ones_like(SLIDE), *(bounds or (0, 0, *SIZE)), fill=0))[..., 0] == 1
    for x in (0, width - 5):
        for y in (0, height - 3):
            one, _ = read_patch(reader, coordinates, Box(x, y, 1, 1), (1, 1))
            assert one[0, 0].tolist() == image[y, x].tolist()
            for dx, dy in ((0, 0), (-2, 1), (3, -2)):
                box = Box(x + dx, y + dy, 5, 3)
                pixels, mask = read_patch(reader, coordinates, box, (5, 3))
                np.testing.assert_array_equal(pixels, cut(image, *box))
                valid = cut(np.repeat(has[..., None], 3, -1), *box, fill=0)[..., 0] == 1
                np.testing.assert_array_equal(
                    np.ones((3, 5), bool) if mask is None else mask, valid
                )


@pytest.mark.parametrize("steps", MAPS.values(), ids=MAPS)
def test_no_crop_shows_the_whole_slide(steps):
    reader = MemoryReader(SLIDE, bounds=BOUNDS["inside"], background=BACKGROUND)
    coordinates = reading(wrapped(steps, "--no-crop"), reader)
    whole = Box(0, 0, *coordinates.size)
    pixels, mask = read_patch(reader, coordinates, whole, coordinates.size)
    assert mask is None
    np.testing.assert_array_equal(pixels, shown(steps))


@st.composite
def chains(draw):
    """A few nested steps, whose crops lie within the image, and its size after them."""
    steps, (width, height) = [], SIZE
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["rotated", "flipped", "cropped", "pyramidize"]))
        value = None
        if kind == "rotated":
            value = draw(st.sampled_from(sorted(TURNS)))
            width, height = (height, width) if TURNS[value] % 2 else (width, height)
        elif kind == "flipped":
            value = draw(st.sampled_from(["NONE", "HORIZONTAL", "VERTICAL", "BOTH"]))
        elif kind == "cropped":
            x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            width, height = draw(st.integers(1, width - x)), draw(st.integers(1, height - y))
            value = (x, y, width, height)
        steps.append((kind, value))
    box = Box(
        draw(st.integers(-20, width)), draw(st.integers(-20, height)),
        draw(st.integers(1, 40)), draw(st.integers(1, 40)),
    )  # fmt: skip
    return steps, box


@given(chains())
@settings(max_examples=200, deadline=None)
def test_any_nesting_equals_the_turned_array(chain):
    steps, box = chain
    reader = MemoryReader(SLIDE, background=BACKGROUND)
    coordinates = reading(wrapped(steps), reader)
    image = shown(steps)
    assert coordinates.size == (image.shape[1], image.shape[0])
    pixels, mask = read_patch(reader, coordinates, box, (box.w, box.h))
    np.testing.assert_array_equal(pixels, cut(image, *box))
    inside = cut(np.ones_like(image), *box, fill=0)[..., 0] == 1
    assert inside.all() if mask is None else np.array_equal(mask, inside)


@given(chains(), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_any_nesting_scaled_down_equals_the_mean(chain, factor):
    steps, box = chain
    image = shown(steps)
    box = Box(0, 0, image.shape[1] // factor * factor, image.shape[0] // factor * factor)
    if not box.w or not box.h:
        return
    reader = MemoryReader(SLIDE)
    size = box.w // factor, box.h // factor
    pixels, _ = read_patch(reader, reading(wrapped(steps), reader), box, size)
    cells = image[: box.h, : box.w].reshape(size[1], factor, size[0], factor, 3)
    np.testing.assert_allclose(pixels, cells.mean(axis=(1, 3)), atol=0.501)


@pytest.mark.parametrize("steps", MAPS.values(), ids=MAPS)
def test_on_a_slide_on_disk(steps, tmp_path):
    path = write_slide(tmp_path / "slide.tif", marker_image(300, 200), tile=64)
    image = shown(steps, marker_image(300, 200))
    with open_reader(path) as reader:
        coordinates = reading(wrapped(steps), reader)
        box = Box(3, 5, 20, 11)
        pixels, _ = read_patch(reader, coordinates, box, (20, 11))
    np.testing.assert_array_equal(pixels, cut(image, *box))


def test_around_a_crop_is_the_background_of_the_reader():
    class Plain:
        size, bounds, background = SIZE, None, BACKGROUND
        channels, dtype = RGB_CHANNELS, np.dtype(np.uint8)

        def read_many(self, boxes, size, plane, channels):
            return np.zeros((len(boxes), size[1], size[0], 3), np.uint8), None

    coordinates = reading(wrapped([("cropped", (10, 10, 20, 20))]), Plain())
    pixels, mask = read_patch(Plain(), coordinates, Box(15, 0, 10, 5), (10, 5))
    assert (pixels[:, :5] == 0).all() and (pixels[:, 5:] == BACKGROUND).all()
    np.testing.assert_array_equal(mask[0], [True] * 5 + [False] * 5)


def test_planes_reach_the_reader():
    stack = np.stack([SLIDE, 255 - SLIDE])[None]
    reader = MemoryReader(stack)
    coordinates = reading(wrapped([("rotated", "ROTATE_90")]), reader)
    pixels, _ = read_patch(reader, coordinates, Box(4, 2, 6, 5), (6, 5), Plane(1, 0))
    np.testing.assert_array_equal(pixels, 255 - np.rot90(SLIDE, -1)[2:7, 4:10])


@pytest.mark.parametrize("steps", MAPS.values(), ids=MAPS)
def test_thumbnail(steps):
    reader = MemoryReader(SLIDE)
    coordinates = reading(wrapped(steps), reader)
    image = shown(steps)
    height, width = image.shape[:2]
    rgb, scale = read_thumbnail(reader, coordinates)
    assert scale == (1.0, 1.0)
    np.testing.assert_array_equal(rgb, image)
    rgb, (sx, sy) = read_thumbnail(reader, coordinates, 20)
    assert max(rgb.shape[:2]) == 20
    assert (rgb.shape[1] / width, rgb.shape[0] / height) == (sx, sy)


def test_thumbnail_of_a_strip_is_at_least_one_pixel():
    strip = MemoryReader(marker_image(2000, 3))
    rgb, scale = read_thumbnail(strip, reading(uri(), strip), 100)
    assert rgb.shape == (1, 100, 3)
    assert scale == (0.05, 1 / 3)


def smooth(width=200, height=160):
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 19 + k) + np.cos(y / (15 + 2 * k)) for k in range(3)]
    return (np.stack(waves, -1) * 60 + 125).astype(np.uint8)


def nearest(image, transform, box, step=1):
    """What an affine server shows: pixel = transform(base pixel), origin not moved."""
    m00, m10, m01, m11, m02, m12 = transform
    forward = np.array([[m00, m01, m02], [m10, m11, m12], [0, 0, 1]])
    v, u = np.mgrid[0 : box.h : step, 0 : box.w : step] + step / 2
    points = np.linalg.inv(forward) @ np.stack(
        [u.ravel() + box.x, v.ravel() + box.y, u.ravel() ** 0]
    )
    x, y = np.floor(points[:2] + 1e-9).astype(int).reshape(2, *u.shape)
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    return image[np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)], inside


AFFINE = {
    "turned": (0.8, 0.6, -0.6, 0.8, 60.0, -10.0),
    "turned and mirrored": (-0.8, 0.6, 0.6, 0.8, 100.0, 5.0),
    "enlarged": (1.5, 0.0, 0.0, 1.25, 0.0, 0.0),
    "sheared": (1.0, 0.0, 0.3, 1.0, 2.5, -7.25),
}


@pytest.mark.parametrize("box", [Box(60, 50, 64, 48), Box(-20, -30, 90, 70), Box(-500, -500, 9, 9)])
@pytest.mark.parametrize("transform", AFFINE.values(), ids=AFFINE)
def test_affine_frames(transform, box):
    image = smooth()
    reader = MemoryReader(image, background=BACKGROUND)
    coordinates = reading(wrapped([("affine", transform)]), reader)
    pixels, mask = read_patch(reader, coordinates, box, (box.w, box.h))
    expected, inside = nearest(image, transform, box)
    v, u = np.mgrid[0 : box.h, 0 : box.w] + 0.5
    inside &= (u + box.x > 0) & (v + box.y > 0)
    inside &= (u + box.x < coordinates.size[0]) & (v + box.y < coordinates.size[1])
    mask = np.ones((box.h, box.w), bool) if mask is None else mask
    np.testing.assert_array_equal(mask, inside)
    # Half a pixel of a smooth image is the difference between interpolated and nearest.
    assert np.abs(pixels.astype(int) - expected)[inside].max(initial=0) <= 6
    assert (pixels[~inside] == BACKGROUND).all()


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("transform", AFFINE.values(), ids=AFFINE)
def test_affine_frames_scaled_down(transform, levels):
    image = smooth(400, 320)
    lower = [image[k // 2 :: k, k // 2 :: k] for k in (2, 4)[: levels - 1]]
    reader = MemoryReader(image, levels=lower, background=BACKGROUND)
    coordinates = reading(wrapped([("affine", transform)]), reader)
    box = Box(40, 48, 160, 128)
    pixels, _ = read_patch(reader, coordinates, box, (40, 32))
    expected, inside = nearest(image, transform, box, step=4)
    difference = np.abs(pixels.astype(int) - expected)[inside]
    assert difference.mean() <= 3
    assert difference.max() <= 16
    rgb, scale = read_thumbnail(reader, coordinates, 50)
    assert max(rgb.shape[:2]) == 50 and scale[0] == pytest.approx(scale[1], rel=0.05)


def test_affine_patches_are_averages_when_scaled_down():
    """Picking every eighth pixel of noise would be noise; its averages are nearly flat."""
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    reader = MemoryReader(noise)
    coordinates = reading(wrapped([("affine", (0.8, 0.6, -0.6, 0.8, 150.0, 0.0))]), reader)
    pixels, mask = read_patch(reader, coordinates, Box(90, 160, 160, 160), (20, 20))
    assert mask is None
    assert noise.std() > 70 and pixels.std() < 10
    assert pixels.mean() == pytest.approx(noise.mean(), abs=2)


def test_a_rotated_affine_frame():
    """Steps above an affine one turn what it shows."""
    steps = [("affine", AFFINE["turned"]), ("rotated", "ROTATE_90"), ("flipped", "VERTICAL")]
    reader = MemoryReader(smooth())
    inner = reading(wrapped(steps[:1]), reader)
    whole, _ = read_patch(reader, inner, Box(0, 0, *inner.size), inner.size)
    outer = reading(wrapped(steps), reader)
    pixels, _ = read_patch(reader, outer, Box(0, 0, *outer.size), outer.size)
    np.testing.assert_array_equal(pixels, np.rot90(whole, -1)[::-1])


def test_a_whole_shift_is_exact():
    reader = MemoryReader(SLIDE, background=BACKGROUND)
    coordinates = reading(wrapped([("affine", (1.0, 0.0, 0.0, 1.0, 4.0, -3.0))]), reader)
    pixels, mask = read_patch(reader, coordinates, Box(0, 0, *SIZE), SIZE)
    np.testing.assert_array_equal(pixels, cut(SLIDE, -4, 3, *SIZE))
    assert not mask[:, :4].any() and not mask[-3:].any() and mask[:-3, 4:].all()


def test_half_a_pixel_is_the_mean_of_two():
    reader = MemoryReader(SLIDE)
    coordinates = reading(wrapped([("affine", (1.0, 0.0, 0.0, 1.0, 0.5, 0.0))]), reader)
    pixels, mask = read_patch(reader, coordinates, Box(10, 10, 30, 20), (30, 20))
    assert mask is None
    pair = SLIDE[10:30, 9:39].astype(int) + SLIDE[10:30, 10:40]
    np.testing.assert_array_equal(pixels, (pair + 1) // 2)


@pytest.mark.parametrize("transform", AFFINE.values(), ids=AFFINE)
def test_affine_patches_fit_together(transform):
    """A patch is the same as its part of the whole image: neighbours are read past its edge."""
    reader = MemoryReader(SLIDE, background=BACKGROUND)
    coordinates = reading(wrapped([("affine", transform)]), reader)
    whole, _ = read_patch(reader, coordinates, Box(0, 0, *coordinates.size), coordinates.size)
    for x in range(0, coordinates.size[0] - 16, 16):
        for y in range(0, coordinates.size[1] - 16, 16):
            pixels, _ = read_patch(reader, coordinates, Box(x, y, 16, 16), (16, 16))
            np.testing.assert_allclose(
                pixels.astype(int), whole[y : y + 16, x : x + 16].astype(int), atol=1
            )
