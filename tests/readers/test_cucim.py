import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError, ReadError
from qupath_bridge.model import Box
from qupath_bridge.readers import cucim, open_reader
from qupath_bridge.readers.cucim import CucimReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support import gpu

SKIN = Path(__file__).parents[2] / "example_projects" / "skin"
CMU = SKIN / "CMU-1-Small-Region.svs"  # RGB in JPEG, without a marker that says so
SIZE = (301, 207)
BOXES = np.array([[x, y, 100, 90] for x in (-20, 0, 64, 130, 220) for y in (-7, 64, 100, 150)])


@pytest.fixture
def slide(tmp_path):
    return write_slide(
        tmp_path / "a.tiff", marker_image(*SIZE), tile=64, levels=3, compression="jpeg"
    )


def damage(path, number, how):
    """Change a tile of level 0."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[number], page.databytecounts[number]
        place = page.tags["TileByteCounts"].valueoffset + 4 * number
    with path.open("r+b") as file:
        file.seek(place if how == "missing" else offset + (count // 2 if how == "cut" else 0))
        file.write(bytes(4) if how == "missing" else b"\xa5" * (count // 2))


def apart(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


# ---- pixels


@pytest.mark.parametrize("kind", ["stand-in, cpu", "stand-in, gpu", "cuCIM"])
@pytest.mark.parametrize("name", ["CMU", "slide"])
def test_pixels_are_openslides(kind, name, slide, monkeypatch):
    """To the bit on a CPU; on a GPU they differ by rounding. RGB and YCbCr in JPEG."""
    if kind == "cuCIM":
        pytest.importorskip("cucim", reason="cuCIM is not installed: pip install cucim-cu12")
    else:
        gpu.install(monkeypatch, gpu.Gpu(error=3) if kind.endswith("gpu") else None)
    path = CMU if name == "CMU" else slide
    with CucimReader(path) as reader, openslide.OpenSlide(path) as independent:
        width, height = reader.size
        rng = np.random.default_rng(3)
        places = rng.integers(0, (width - 100, height - 90), (40, 2))
        pixels, mask = reader.read_many(np.c_[places, np.full((40, 2), (100, 90))], (100, 90))
        assert mask is None
        expected = np.stack(
            [
                independent.read_region((x, y), 0, (100, 90)).convert("RGB")
                for x, y in places.tolist()
            ]
        )
        limit = 0 if reader.variant.startswith("cpu") else 3
        assert apart(pixels, expected) <= limit
        assert np.abs(pixels.astype(int) - expected).mean() <= limit / 2
        whole = Box(0, 0, width, height)
        with Image.open(path) as picture:
            shown = np.asarray(picture.convert("RGB")) if name == "CMU" else None
        if shown is not None:
            assert apart(reader.read(whole, (width, height))[0], shown) <= limit


def test_lower_levels_and_boxes_past_the_edge_are_those_of_the_reader_tiles(slide, monkeypatch):
    gpu.install(monkeypatch)
    for error in (None, 0):
        gpu.install(monkeypatch, None if error is None else gpu.Gpu(error=error))
        with CucimReader(slide) as reader, TileReader(slide) as tiles:
            assert reader.variant.startswith("cpu" if error is None else "cuda")
            assert reader.levels == tiles.levels
            assert reader.levels[1].downsample % 1  # cuCIM divides by it in 32 bits
            for size in ((100, 90), (50, 45), (25, 22), (31, 9)):
                for found, expected in zip(
                    reader.read_many(BOXES, size), tiles.read_many(BOXES, size), strict=True
                ):
                    np.testing.assert_array_equal(found, expected)


def test_places_in_all_levels_reach_cucim_to_the_pixel(monkeypatch):
    """cuCIM divides a place in level 0 by the downsample, in 32 bits, and cuts."""
    gpu.install(monkeypatch)
    rng = np.random.default_rng(4)
    decoder = object.__new__(cucim._CpuDecoder)
    decoder._numbers = [0]
    for _ in range(300):
        full, reduced = sorted(rng.integers(300, 200_000, 2).tolist(), reverse=True)
        decoder._downsamples = np.array([full / reduced], np.float32)
        corner = rng.integers(0, reduced, 2)
        place = np.array(decoder._location(corner, 0), np.float32)
        np.testing.assert_array_equal((place / decoder._downsamples[0]).astype(int), corner)


# ---- batches of a GPU


def test_a_gpu_decodes_the_tiles_of_a_batch_together_and_each_once(slide, monkeypatch):
    card = gpu.install(monkeypatch, gpu.Gpu())
    boxes = np.array([[x, y, 64, 64] for y in (10, 74) for x in (5, 69, 133)])
    with CucimReader(slide) as reader:
        card.log.clear()
        reader.read_many(boxes, (64, 64))
        assert card.log == [12]  # 4 x 3 tiles
        reader.read_many(boxes, (64, 64))
        assert card.log == [12]  # they are kept
        pixels, _ = reader.read_many(np.array([[64, 64, 64, 64], [128, 64, 64, 64]]), (64, 64))
        with CucimReader(slide) as other:
            for own, x in zip(pixels, (64, 128), strict=True):
                np.testing.assert_array_equal(own, other.read(Box(x, 64, 64, 64), (64, 64))[0])


@pytest.mark.parametrize("tiles", [1, 3, 6])
def test_batches_larger_than_the_gpus_are_split(slide, monkeypatch, tiles):
    card = gpu.install(monkeypatch, gpu.Gpu())
    with CucimReader(slide) as reader:
        expected = reader.read_many(BOXES, (100, 90))
        whole = reader.read(Box(0, 0, *SIZE), SIZE)[0]
    monkeypatch.setattr(cucim, "BATCH_BYTES", tiles * 64 * 64 * 3)
    with CucimReader(slide) as reader:
        card.log.clear()
        for found, wanted in zip(reader.read_many(BOXES, (100, 90)), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(reader.read(Box(0, 0, *SIZE), SIZE)[0], whole)
        assert max(card.log) == tiles
    boxes = np.array([[x, y, 64, 64] for y in (0, 64, 128) for x in (0, 64, 128, 192)])
    with CucimReader(slide) as reader:
        card.log.clear()
        reader.read_many(boxes, (64, 64))
        assert card.log == [tiles] * (12 // tiles)


# ---- which device


@pytest.mark.parametrize(
    ("ways", "error", "variant", "notes"),
    [
        (("HW_GPU_ONLY", "HYBRID_CPU_GPU"), 1, "cuda HW_GPU_ONLY, nvImageCodec 1.2.3", 0),
        (("HYBRID_CPU_GPU",), 1, "cuda HYBRID_CPU_GPU, nvImageCodec 1.2.3", 1),
        ((), 1, "cpu, cuCIM", 2),
        (("HW_GPU_ONLY",), cucim.MAX_DIFFERENCE, "cuda HW_GPU_ONLY", 0),
        (("HW_GPU_ONLY", "HYBRID_CPU_GPU"), cucim.MAX_DIFFERENCE + 1, "cpu, cuCIM", 2),
    ],
)
def test_each_way_of_a_gpu_is_tried_before_the_cpu(
    slide, monkeypatch, caplog, ways, error, variant, notes
):
    gpu.install(monkeypatch, gpu.Gpu(ways, error))
    with caplog.at_level(logging.INFO, "qupath_bridge"), CucimReader(slide) as reader:
        assert reader.variant.startswith(variant)
    assert caplog.text.count("not decoded on a GPU") == notes


def test_device_and_decoder_are_recorded_and_decide_the_digests(monkeypatch):
    digests = set()
    for card in (None, gpu.Gpu(), gpu.Gpu(ways=("HYBRID_CPU_GPU",))):
        gpu.install(monkeypatch, card)
        with qb.open_project(SKIN) as project:
            plan = qb.plan(project, qb.ExportConfig(), options=qb.RunOptions(reader="cucim"))[0]
        with CucimReader(CMU) as reader:
            assert plan.parts["reader"] == f"cucim ({reader.variant})"
        digests.add(plan.digest)
    assert len(digests) == 3


def test_encoded_tiles_are_handed_on_where_their_pixels_are_exact(slide, monkeypatch):
    boxes, size = np.array([[64, 64, 64, 64]]), (64, 64)
    gpu.install(monkeypatch)
    with CucimReader(slide) as reader, TileReader(slide) as tiles:
        handed_on = reader.read_encoded(boxes, size)
        assert all(handed_on)
        assert handed_on == tiles.read_encoded(boxes, size)
    gpu.install(monkeypatch, gpu.Gpu())
    with CucimReader(slide) as reader:
        assert reader.read_encoded(boxes, size) == [None]


# ---- what it refuses


@pytest.mark.parametrize("card", [None, gpu.Gpu(error=0)])
@pytest.mark.parametrize("how", ["cut", "garbage", "missing"])
def test_damaged_and_missing_tiles(slide, monkeypatch, card, how):
    gpu.install(monkeypatch, card)
    damage(slide, 6, how)
    with CucimReader(slide) as reader:
        reader.read(Box(128, 64, 64, 64), (64, 64))
        if how != "missing":
            with pytest.raises(ReadError, match="tile at column 1, row 1 of level 0") as caught:
                reader.read_many(BOXES, (100, 90))
            assert "damaged" in caught.value.hint
        reader.on_bad_tile = "background"
        pixels, mask = reader.read(Box(0, 0, *SIZE), SIZE)
        expected = np.ones(SIZE[::-1], bool)
        expected[64:128, 64:128] = False
        np.testing.assert_array_equal(mask, expected)
        assert (pixels[~expected] == 255).all()
        assert len(reader.bad_tiles) == (how != "missing")


def test_a_damaged_first_tile_is_not_compared(slide, monkeypatch):
    gpu.install(monkeypatch)
    damage(slide, 0, "garbage")
    with CucimReader(slide) as reader, pytest.raises(ReadError, match="column 0, row 0"):
        reader.read(Box(0, 0, 10, 10), (10, 10))


@pytest.mark.parametrize(
    ("options", "found"),
    [({"compression": "lzw"}, "tiles of 3 samples in LZW"), ({"tile": None}, "strips")],
)
def test_other_tiles_than_jpeg_are_refused(tmp_path, monkeypatch, options, found):
    gpu.install(monkeypatch)
    path = tmp_path / "a.tiff"
    write_slide(path, marker_image(*SIZE), **{"tile": 64, "compression": "jpeg", **options})
    with pytest.raises(ReadError, match=found) as caught:
        open_reader(path, name="cucim")
    assert "'tiles'" in caught.value.hint


def test_other_colours_than_those_of_the_reader_tiles_are_refused(slide, monkeypatch):
    """As in files that call YCbCr RGB: cuCIM shows their values as they are."""
    gpu.install(monkeypatch)
    inner = gpu.CuImage.read_region
    monkeypatch.setattr(gpu.CuImage, "read_region", lambda *a: np.array(inner(*a)) // 2)
    with pytest.raises(ReadError, match=r"other pixels than the reader 'tiles', \d+ of 255"):
        CucimReader(slide)


def test_levels_that_cucim_does_not_see_are_refused(tmp_path, monkeypatch):
    """It does not look at SubIFDs."""
    gpu.install(monkeypatch)
    path = write_slide(
        tmp_path / "a.ome.tif", marker_image(*SIZE), tile=64, levels=2, ome=True, compression="jpeg"
    )
    with pytest.raises(ReadError, match="sees 1 of its 2 levels"):
        CucimReader(path)
    gpu.install(monkeypatch, gpu.Gpu())
    with CucimReader(path) as reader:
        assert len(reader.levels) == 2


# ---- without the packages


def test_without_cucim_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cucim", None)
    with pytest.raises(MissingDependencyError, match="needs cuCIM") as caught:
        open_reader(CMU, name="cucim")
    (part,) = (part for part in registry.parts("reader") if part.name == "cucim")
    assert part.install in caught.value.hint


def test_auto_takes_another_reader_and_imports_none_of_the_packages(tmp_path):
    for name in ("cucim", "cupy", "cupyx", "nvidia"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from qupath_bridge.readers import open_reader\n"
        f"kind = type(open_reader({str(CMU)!r})).__name__\n"
        "print(kind, 'qupath_bridge.readers.cucim' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["TileReader", "True"], done.stderr
    assert CucimReader.can_open(CMU) == 0
