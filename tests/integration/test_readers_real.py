"""Readers on real slides, against OpenSlide and against each other; handles and memory."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box
from qupath_bridge.pixels.tissue import find_tissue, otsu_threshold, tissue_shares
from qupath_bridge.pixels.tissue.by_color import OtsuTissue, SaturationTissue
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.contracts.tissue import view_of
from qupath_bridge.testing.slides import write_slide

ROOT = Path(__file__).parents[2]
SLIDES = ROOT / "tests" / "data" / "slides"
CMU = ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs"  # JPEG
TCGA = SLIDES / "tcga-cr-7395-01a-01-ts1.svs"  # JPEG 2000
BOXES = SLIDES / "openslide-python_boxes.tiff"  # deflate
SMALL = SLIDES / "openslide-python_small.svs"
OME = SLIDES / "petebankhead_OS-2-ndpi.ome.tif"


@pytest.mark.parametrize("path", [CMU, TCGA, BOXES, SMALL], ids=lambda path: path.stem)
def test_both_readers_see_the_same_slide(path):
    with OpenSlideReader(path) as one, TileReader(path) as other:
        assert one.size == other.size
        assert one.levels == other.levels
        assert one.pixel_size == other.pixel_size
        assert one.objective_power == other.objective_power
        assert one.fingerprint == other.fingerprint
        width, height = one.size
        rng = np.random.default_rng(1)
        for x, y in rng.uniform(-0.1, 1, (25, 2)):
            box = Box(int(x * width), int(y * height), 333, 217)
            pixels, mask = one.read(box, (333, 217))
            again, valid = other.read(box, (333, 217))
            np.testing.assert_array_equal(pixels, again)
            np.testing.assert_array_equal(mask, valid)


@pytest.mark.parametrize("path", [CMU, TCGA, BOXES, SMALL], ids=lambda path: path.stem)
def test_full_resolution_is_openslides_own_to_the_last_pixel(path):
    with TileReader(path) as reader, openslide.OpenSlide(path) as slide:
        assert tuple(level.downsample for level in reader.levels) == slide.level_downsamples
        width, height = reader.size
        box = Box(max(width - 2300, 0), max(height - 3000, 0), min(width, 2300), min(height, 3000))
        if path == TCGA:  # slow to decode
            box = Box(width - 900, height - 900, 900, 900)
        pixels, mask = reader.read(box, box[2:])
        assert mask is None
        expected = slide.read_region(box[:2], 0, box[2:]).convert("RGB")
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("corner", [(0, 0), (1900, 1400), (1800, 900), (200, 1400)])
def test_lower_levels_are_in_place(corner):
    """Level 1 of the TCGA slide, 2221 for 4443 pixels: matched best without any shift."""
    x, y = (2 * place for place in corner)
    size = (280, 280)
    with TileReader(TCGA) as reader:
        found = reader.read(Box(x + 20, y + 20, 560, 560), size)[0].astype(float).mean(axis=2)
        full = reader.read(Box(x, y, 600, 600), (600, 600))[0].astype(float).mean(axis=2)
        whole = reader.read(Box(0, 0, *reader.size), (2221, 1783))[0]
        np.testing.assert_array_equal(
            reader.read(Box(x + 20, y + 20, 560, 560), size)[0][:100, :100],
            whole[corner[1] + 10 : corner[1] + 110, corner[0] + 10 : corner[0] + 110],
        )
    errors = {}
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            part = full[20 + dy : 580 + dy, 20 + dx : 580 + dx]
            means = part.reshape(280, 2, 280, 2).mean(axis=(1, 3))
            errors[dx, dy] = np.abs(found - means).mean()
    assert min(errors, key=errors.get) == (0, 0)


def test_openslide_interpolates_in_levels_of_odd_factors():
    """By a quarter of a pixel at most: near, not equal, to the level's own pixels."""
    box = Box(3600, 1800, 600, 600)
    with OpenSlideReader(TCGA) as one, TileReader(TCGA) as other:
        found = one.read(box, (300, 300))[0].astype(float)
        own = other.read(box, (300, 300))[0].astype(float)
    errors = {
        shift: np.abs(np.roll(found, shift, axis=(0, 1)) - own)[2:-2, 2:-2].mean()
        for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    }
    assert min(errors, key=errors.get) == (0, 0)
    assert errors[0, 0] < 0.4 * min(errors[shift] for shift in errors if shift != (0, 0))


def test_ome_tiff_that_openslide_does_not_know():
    with open_reader(OME) as reader:
        assert type(reader) is TileReader
        assert reader.size == (2202, 2202)
        assert reader.pixel_size == pytest.approx((0.2271, 0.2271), abs=1e-4)
        pixels, mask = reader.read(Box(1000, 900, 500, 400), (500, 400))
        assert mask is None
    np.testing.assert_array_equal(pixels, tifffile.imread(OME)[900:1300, 1000:1500])


def test_dicom_is_openslides():
    with open_reader(SLIDES / "openslide-python_boxes_0.dcm") as reader:
        assert type(reader) is OpenSlideReader
        assert reader.size == (16, 16)
        assert reader.pixel_size == (0.499, 0.499)
        pixels, _ = reader.read(Box(-1, 0, 17, 16), (17, 16))
    with openslide.OpenSlide(SLIDES / "openslide-python_boxes_0.dcm") as slide:
        expected = slide.read_region((0, 0), 0, (16, 16)).convert("RGB")
    np.testing.assert_array_equal(pixels[:, 1:], expected)
    assert (pixels[:, 0] == 255).all()


@pytest.mark.parametrize("name", ["openslide", "tiles"])
def test_a_slide_that_opens_but_cannot_be_read(name):
    path = SLIDES / "openslide-python_unreadable.svs"
    with open_reader(path, name=name) as reader:
        assert reader.size == (16, 16)
        for _ in range(2):
            with pytest.raises(ReadError, match="unreadable") as caught:
                reader.read(Box(0, 0, 16, 16), (16, 16))
            assert "damaged" in caught.value.hint


def test_tissue_of_a_real_slide():
    """The mask covers tissue and spares the glass; counts as seen on the picture."""
    with open_reader(CMU) as reader:
        thumbnail, _ = reader.read(Box(0, 0, *reader.size), (523, 700))
    view = view_of(thumbnail, mpp=0.499 * 2220 / 523)
    found = find_tissue(OtsuTissue(), view)
    assert found.note is None
    stained = find_tissue(SaturationTissue(), view)
    assert 0.25 < stained.mask.mean() < 0.33
    # The gaps between the fibres of the stroma are filled, and belong to it.
    assert 0.33 < found.mask.mean() < 0.40
    scale = (523 / 2220, 700 / 2967)
    boxes = np.array(
        [
            [1024, 768, 256, 256],  # epithelium
            [100, 1500, 256, 256],  # glass
            [1900, 200, 256, 256],  # glass
            [1024, 2560, 256, 256],  # stroma, loose
        ]
    )
    shares = tissue_shares(found.mask, scale, boxes)
    assert shares[0] > 0.8
    assert shares[1:3].max() < 0.02
    assert shares[3] > 0.8
    assert 0.3 < tissue_shares(stained.mask, scale, boxes)[3] < 0.99
    means = tissue_shares(SaturationTissue()(view).values, scale, boxes)
    assert means[0] > means[3] > 0.15 > 0.05 > means[1:3].max()


def test_tissue_of_a_part_of_a_real_slide_without_glass():
    """As the picture shows: tissue from edge to edge; Otsu's threshold would drop a part."""
    with open_reader(TCGA) as reader:
        thumbnail, _ = reader.read(Box(1000, 1000, 1000, 1000), (250, 250))
    view = view_of(thumbnail, mpp=2.0, scale=4)
    levels = np.round(SaturationTissue()(view).values * 255).astype(np.uint8)
    assert (levels > otsu_threshold(levels)).mean() < 0.75
    found = find_tissue(OtsuTissue(), view)
    assert "No glass" in found.note
    boxes = np.array([[x, y, 250, 250] for x in range(0, 1000, 250) for y in range(0, 1000, 250)])
    assert tissue_shares(found.mask, 0.25, boxes).min() > 0.9


# ---- handles and memory


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")


@linux
@pytest.mark.slow
def test_five_thousand_opens_leak_nothing(tmp_path):
    plain = write_slide(tmp_path / "a.tiff", np.full((128, 128, 3), 90, np.uint8), tile=64)
    turns = [
        (OpenSlideReader, plain, 2380),
        (TileReader, plain, 2380),
        (OpenSlideReader, CMU, 60),
        (OpenSlideReader, TCGA, 60),
        (TileReader, CMU, 60),
        (TileReader, OME, 60),
    ]
    assert sum(count for *_, count in turns) == 5000
    for kind, path, count in turns:
        for turn in range(count):
            if turn == count // 4:  # the allocator has settled
                gc.collect()
                files, memory = open_files(), resident_mb()
            with kind(path) as reader:
                reader.read(Box(0, 0, 64, 64), (64, 64))
        gc.collect()
        assert open_files() == files, (kind, path)
        assert resident_mb() - memory < 8, (kind, path)


@linux
def test_closing_gives_the_file_back_at_once():
    before = open_files()
    reader = TileReader(OME)
    reader.read(Box(0, 0, 64, 64), (64, 64))
    assert open_files() == before + 1
    reader.close()
    assert open_files() == before


def test_closing_frees_openslides_memory_at_once():
    """OpenSlide holds no file open between reads here, so its own handle is asked."""
    reader = OpenSlideReader(CMU)
    slide = reader._slide
    reader.close()
    with pytest.raises(ctypes.ArgumentError, match="closed"):
        slide.read_region((0, 0), 0, (5, 5))


@linux
def test_refused_files_are_given_back(tmp_path):
    half = tmp_path / "half.tif"
    tifffile.imwrite(half, np.zeros((50, 50), np.float16))
    text = tmp_path / "text.tif"
    text.write_text("II*\0 no slide")
    before = open_files()
    for path in (half, text):
        for name in ("auto", "openslide", "tiles"):
            with pytest.raises(ReadError):
                open_reader(path, name=name)
    assert open_files() == before


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", [OpenSlideReader, TileReader])
def test_a_thumbnail_of_a_slide_without_levels_takes_little_memory(tmp_path, kind):
    """85 million pixels, 243 MB as an array, one level: read as a thumbnail of 900 x 900."""
    import subprocess

    path = tmp_path / "large.tiff"
    with tifffile.TiffWriter(path) as writer:
        tile = np.full((256, 256, 3), (180, 90, 140), np.uint8)
        writer.write(
            (tile for _ in range(36 * 36)), shape=(9_216, 9_216, 3), dtype=np.uint8,
            tile=(256, 256), photometric="rgb", compression="deflate", metadata=None,
        )  # fmt: skip
    script = (
        "import resource, sys\n"
        f"from {kind.__module__} import {kind.__name__} as Kind\n"
        "from qupath_bridge.model import Box\n"
        "with Kind(sys.argv[1]) as reader:\n"
        "    reader.read(Box(0, 0, 256, 256), (256, 256))\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    pixels, mask = reader.read(Box(0, 0, 9216, 9216), (900, 900))\n"
        "assert mask is None and (pixels == (180, 90, 140)).all()\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 96
