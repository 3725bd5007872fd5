"""What ``auto`` must not let through: pixels that OpenSlide turns into 8-bit RGB on its own."""

import numpy as np
import pytest
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide

PIXELS = marker_image(192, 128)
OTHERS = {
    "16-bit x 3 RGB": (PIXELS.astype(np.uint16) * 16, {"photometric": "rgb"}),
    "32-bit x 3 RGB": (PIXELS.astype(np.float32), {"photometric": "rgb"}),
    "8-bit x 1 MINISBLACK": (PIXELS[..., 0], {"photometric": "minisblack"}),
    "8-bit x 4 RGB": (
        np.dstack([PIXELS, PIXELS[..., 0]]),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
    ),
    "16-bit x 3 RGB, planar": (
        np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).astype(np.uint16),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "C = 5": (
        np.stack([PIXELS[..., 0]] * 5),
        {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}},
    ),
}


REFUSED = {
    "8-bit x 1 MINISWHITE": (PIXELS[..., 0], {"photometric": "miniswhite"}),
    "16-bit float x 3 RGB": (PIXELS.astype(np.float16), {"photometric": "rgb"}),
    "8-bit x 1 PALETTE": (
        PIXELS[..., 0],
        {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
    ),
}


def write_other(folder, pixels, options):
    """Write pixels that OpenSlide, too, opens: ``auto`` must not leave them to it."""
    path = folder / ("a.ome.tif" if options.get("ome") else "a.tif")
    options = {"metadata": None, **options}
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="deflate", **options)
    OpenSlideReader(path).close()
    return path


@pytest.mark.parametrize("kind", OTHERS)
def test_other_pixel_types_are_read_as_they_are_though_openslide_opens_them(tmp_path, kind):
    pixels, options = OTHERS[kind]
    path = write_other(tmp_path, pixels, options)
    expected = pixels if pixels.ndim == 3 else pixels[..., None]
    if len(expected) < 10:
        expected = np.moveaxis(expected, 0, -1)
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        names = tuple(f"Channel {n}" for n in range(1, expected.shape[2] + 1))
        assert reader.channels == names
        found, _ = reader.read(Box(0, 0, 192, 128), (192, 128))
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("found", REFUSED)
def test_other_pixel_types_are_refused_though_openslide_opens_them(tmp_path, found):
    path = write_other(tmp_path, *REFUSED[found])
    with pytest.raises(ReadError, match=found):
        open_reader(path)


def test_planes_and_levels_of_ome_tiff_are_seen(tmp_path):
    stack = np.stack([PIXELS // (z + 1) for z in range(3)])
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path, stack, ome=True, photometric="rgb", tile=(64, 64), metadata={"axes": "ZYXS"}
    )
    with open_reader(path) as reader:
        assert reader.planes == (3, 1)
        pixels, _ = reader.read(Box(0, 0, 192, 128), (192, 128), Plane(2, 0))
        np.testing.assert_array_equal(pixels, stack[2])
    pyramid = write_slide(tmp_path / "levels.ome.tif", PIXELS, tile=64, levels=3, ome=True)
    with open_reader(pyramid) as reader:
        assert [level.width for level in reader.levels] == [192, 96, 48]


def test_plain_tiff_reads_like_openslide(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, compression="jpeg", mpp=0.5)
    with open_reader(path) as reader, OpenSlideReader(path) as other:
        assert type(reader) is TileReader
        assert reader.levels == other.levels
        assert reader.pixel_size == pytest.approx(other.pixel_size)
        box = Box(-9, -5, 210, 140)
        for one, two in zip(reader.read(box, box[2:]), other.read(box, box[2:]), strict=True):
            np.testing.assert_array_equal(one, two)
