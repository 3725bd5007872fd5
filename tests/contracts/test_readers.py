import numpy as np
import openslide
import pytest
from PIL import Image

from qupath_bridge.errors import UsageError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers.background import blend_alpha
from qupath_bridge.readers.channels import PIXEL_TYPES
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from qupath_bridge.testing.slides import marker_image, write_slide

SIZE = (301, 207)
FLAVOURS = {
    "deflate": {},
    "plain": {"compression": None},
    "lzw": {"compression": "lzw", "bigtiff": True},
    "zstd": {"compression": "zstd"},
    "jpeg": {"compression": "jpeg"},
    "pyramid": {"levels": 3},
}
ONLY_TIFFFILE = {
    "jpeg2000": {"compression": "jpeg2000"},
    "strips": {"tile": None},
    "strips, jpeg": {"tile": None, "compression": "jpeg"},
    "ome": {"ome": True, "mpp": 0.25},
    "ome pyramid": {"ome": True, "levels": 3, "bigtiff": True},
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A function that writes each flavour of slide once."""
    folder = tmp_path_factory.mktemp("flavours")

    def write(name):
        path = folder / f"{name}.{'ome.tif' if name.startswith('ome') else 'tiff'}"
        if not path.exists():
            options = {"tile": 64, **FLAVOURS, **ONLY_TIFFFILE}.get(name)
            write_slide(path, marker_image(*SIZE), **{"tile": 64, **options})
        return path

    return write


class TestMemory(ReaderContract):
    @pytest.fixture
    def truth(self):
        return Truth(marker_image(*SIZE))

    @pytest.fixture
    def make(self, truth):
        return lambda: MemoryReader(truth.pixels)


class TestMemoryWithHoles(ReaderContract):
    """Missing pixels, a background of its own, three levels."""

    @pytest.fixture
    def truth(self):
        pixels = marker_image(320, 240)
        mask = np.ones((240, 320), bool)
        mask[100:130, 40:90] = False
        mask[200:] = False
        pixels[~mask] = (9, 200, 30)
        return Truth(pixels, mask, (9, 200, 30))

    @pytest.fixture
    def make(self, truth):
        means = [
            truth.pixels.reshape(240 // f, f, 320 // f, f, 3).mean((1, 3)).round().astype(np.uint8)
            for f in (4, 8)
        ]
        pixels = np.where(truth.mask[..., None], truth.pixels, 0)  # hidden black stays hidden
        return lambda: MemoryReader(
            pixels, levels=means, mask=truth.mask, background=truth.background
        )

    def test_missing_pixels_do_not_darken_lower_levels(self, make):
        with make() as reader:
            pixels, mask = reader.read(Box(0, 208, 320, 32), (40, 4))
            assert not mask.any()
            assert (pixels == (9, 200, 30)).all()
            pixels, mask = reader.read(Box(0, 0, 320, 96), (40, 12))
            assert mask is None


class TestMemoryWithChannels(ReaderContract):
    """Of each type of pixels: five channels with names, missing pixels, two levels."""

    NAMES = ("DAPI", "CD3", "CD8", "Ki-67", "PanCK")

    @pytest.fixture(params=sorted(str(dtype) for dtype in PIXEL_TYPES))
    def truth(self, request):
        pixels = noise((120, 160, 5), request.param)
        mask = np.ones((120, 160), bool)
        mask[40:70, 80:] = False
        pixels[~mask] = 0
        return Truth(pixels, mask, (0,) * 5, channels=self.NAMES)

    @pytest.fixture
    def make(self, truth):
        pixels = np.where(truth.mask[..., None], truth.pixels, 7).astype(truth.pixels.dtype)
        means = truth.pixels.reshape(30, 4, 40, 4, 5).astype(np.float64).mean((1, 3))
        if truth.pixels.dtype.kind != "f":
            means = np.floor(means + 0.5)
        levels = [means.astype(truth.pixels.dtype)]
        return lambda: MemoryReader(pixels, levels=levels, mask=truth.mask, channels=self.NAMES)


def noise(shape, dtype, seed=3):
    """Values over the whole range of a type; of floats some small, some large, some negative."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6, shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


class TestOpenSlide(ReaderContract):
    @pytest.fixture(params=list(FLAVOURS))
    def name(self, request):
        return request.param

    @pytest.fixture
    def truth(self, name):
        return Truth(marker_image(*SIZE), lossless=name != "jpeg")

    @pytest.fixture
    def make(self, path):
        return lambda: OpenSlideReader(path)

    @pytest.fixture
    def path(self, slide, name):
        return slide(name)


class TestTiff(ReaderContract):
    @pytest.fixture(params=[*FLAVOURS, *ONLY_TIFFFILE])
    def name(self, request):
        return request.param

    @pytest.fixture
    def truth(self, name):
        return Truth(marker_image(*SIZE), lossless=name not in {"jpeg", "strips, jpeg"})

    @pytest.fixture
    def make(self, path):
        return lambda: TileReader(path)

    @pytest.fixture
    def path(self, slide, name):
        return slide(name)

    def test_levels_of_a_pyramid(self, slide):
        for name in ("pyramid", "ome pyramid"):
            with TileReader(slide(name)) as reader:
                sizes = [(level.width, level.height) for level in reader.levels]
            assert sizes == [(301, 207), (150, 103), (75, 51)]


@pytest.mark.parametrize("name", FLAVOURS)
def test_both_readers_give_the_same(slide, name):
    with OpenSlideReader(slide(name)) as one, TileReader(slide(name)) as other:
        assert one.levels == other.levels
        assert one.fingerprint == other.fingerprint
        whole = Box(-7, -9, SIZE[0] + 13, SIZE[1] + 11)
        for box, size in ((whole, whole[2:]), (Box(30, 20, 200, 120), (77, 31))):
            if name == "pyramid" and size[0] == 77:
                continue  # OpenSlide interpolates in levels of 2.00333
            pixels, mask = one.read(box, size)
            again, valid = other.read(box, size)
            np.testing.assert_array_equal(pixels, again)
            np.testing.assert_array_equal(mask, valid)
        with openslide.OpenSlide(slide(name)) as independent:
            assert independent.level_downsamples == tuple(level.downsample for level in one.levels)
            region = independent.read_region((40, 30), 0, (150, 120)).convert("RGB")
        np.testing.assert_array_equal(one.read(Box(40, 30, 150, 120), (150, 120))[0], region)


def test_planes_of_a_stack():
    stack = np.stack([np.stack([marker_image(120, 100) // (1 + z + 3 * t) for z in range(3)])
                      for t in range(2)])  # fmt: skip
    with MemoryReader(stack) as reader:
        assert reader.planes == (3, 2)
        for t in range(2):
            for z in range(3):
                pixels, _ = reader.read(Box(10, 20, 30, 40), (30, 40), Plane(z, t))
                np.testing.assert_array_equal(pixels, stack[t, z, 20:60, 10:40])


def test_channels_without_names_are_called_as_in_qupath():
    for count, dtype in ((1, np.uint8), (3, np.uint16), (4, np.uint8), (12, np.float32)):
        with MemoryReader(np.zeros((8, 8, count), dtype)) as reader:
            assert reader.channels == tuple(f"Channel {n + 1}" for n in range(count))
            assert reader.dtype == dtype
            assert reader.background == (0,) * count
    with MemoryReader(np.zeros((8, 8, 3), np.uint8)) as reader:
        assert (reader.channels, reader.background) == (("Red", "Green", "Blue"), (255, 255, 255))
    with MemoryReader(np.zeros((8, 8, 3), np.uint8), channels=("A", "B", "C")) as reader:
        assert (reader.channels, reader.background) == (("A", "B", "C"), (0, 0, 0))


def test_a_memory_reader_reports_what_it_was_given():
    reader = MemoryReader(
        marker_image(50, 40),
        bounds=Box(-3, 4, 20, 20),
        pixel_size=(0.25, 0.26),
        objective_power=40.0,
        background=(1, 2, 3),
        name="made up",
    )
    assert reader.bounds == (-3, 4, 20, 20)
    assert reader.pixel_size == (0.25, 0.26)
    assert reader.objective_power == 40
    assert reader.background == (1, 2, 3)
    assert repr(reader) == "MemoryReader('made up')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": np.zeros((5, 5, 3), np.float16)}, r"float16 pixels of shape \(5, 5, 3\)"),
        ({"pixels": np.zeros((5, 5, 3), ">u2")}, r">u2 pixels of shape \(5, 5, 3\)"),
        ({"pixels": np.zeros((5, 5), np.uint8)}, "not an image"),
        ({"pixels": np.zeros((5, 0, 3), np.uint8)}, "not an image"),
        ({"pixels": np.zeros((5, 5, 0), np.uint8)}, "not an image"),
        (
            {"pixels": np.zeros((8, 8, 2), np.uint8), "levels": [np.zeros((4, 4, 3), np.uint8)]},
            "different channels or types",
        ),
        (
            {"pixels": np.zeros((8, 8, 2), np.uint8), "levels": [np.zeros((4, 4, 2), np.int8)]},
            "different channels or types",
        ),
        (
            {"pixels": np.zeros((8, 8, 2), np.uint8), "channels": ("A", "B", "C")},
            "3 values of `channels` for 2 channels",
        ),
        (
            {"pixels": np.zeros((8, 8, 2), np.uint8), "background": (1, 2, 3)},
            "3 values of `background` for 2 channels",
        ),
        (
            {"pixels": np.zeros((2, 1, 8, 8, 3), np.uint8), "levels": [marker_image(4, 4)]},
            "different numbers of planes",
        ),
        ({"pixels": marker_image(5, 4), "mask": np.ones((5, 4), bool)}, r"\(5, 4\), not \(4, 5\)"),
    ],
)
def test_other_arrays_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        MemoryReader(**arguments)


def test_transparency_is_laid_on_the_background():
    """Against Pillow's own compositing, which rounds in its own way: off by one at most."""
    rng = np.random.default_rng(5)
    rgba = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    rgba[:10, :, 3] = 0
    rgba[10:20, :, 3] = 255
    pixels, mask = blend_alpha(rgba, (200, 100, 50))
    back = Image.new("RGBA", (50, 40), (200, 100, 50, 255))
    expected = np.asarray(Image.alpha_composite(back, Image.fromarray(rgba)).convert("RGB"))
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert (pixels[:10] == (200, 100, 50)).all()
    np.testing.assert_array_equal(pixels[10:20], rgba[10:20, :, :3])
    np.testing.assert_array_equal(mask, rgba[..., 3] >= 128)
    pixels, mask = blend_alpha(rgba[10:20], (200, 100, 50))
    assert mask is None


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("tile", [64, None])
def test_jpeg_slides_have_the_colours_that_were_written(tmp_path, tile, ome):
    """Readers that agree may all be wrong: compared with the array, and by Pillow."""
    pixels = np.full((207, 301, 3), (200, 130, 175), np.uint8)
    pixels[:, 160:] = (90, 60, 140)
    path = write_slide(
        tmp_path / "a.ome.tif", pixels, tile=tile, ome=ome, levels=2, compression="jpeg"
    )
    kinds = [TileReader] if ome or tile is None else [TileReader, OpenSlideReader]
    for kind in kinds:
        with kind(path) as reader:
            for scale in (1, 2):
                found, _ = reader.read(Box(0, 0, 300, 206), (300 // scale, 206 // scale))
                found = found[: 180 // scale].astype(int)  # the last tiles are filled with black
                assert np.abs(found[:, : 140 // scale] - (200, 130, 175)).max() <= 2
                assert np.abs(found[:, 180 // scale : 250 // scale] - (90, 60, 140)).max() <= 2
    with Image.open(path) as picture:
        found = np.asarray(picture.convert("RGB")).astype(int)[:180]
    assert np.abs(found[:, :140] - (200, 130, 175)).max() <= 2
