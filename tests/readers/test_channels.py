"""TIFF files with channels: pixels against the arrays that tifffile wrote, names, damaged files."""

import itertools

import imagecodecs
import numpy as np
import pytest
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import FIRST_PLANE, Box, Plane
from qupath_bridge.readers import levels, open_reader, tile_data, tile_table, tiles
from qupath_bridge.readers.base import BadTile
from qupath_bridge.readers.channels import PIXEL_TYPES
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from tests.support.tiff_tags import set_tag

TYPES = sorted(str(dtype) for dtype in PIXEL_TYPES)
SIZE = (150, 110)
WHOLE = Box(0, 0, *SIZE)


def noise(shape, dtype, seed=1):
    """Values over the whole range of a type; of floats some small, some large, some negative."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6, shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


def smooth(shape, dtype):
    """Values that predictors and compressions find something in."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    planes = np.arange(np.prod(shape[:-2])).reshape(*shape[:-2], 1, 1)
    return (100 + planes * 7 + np.sin(x / 9) * 40 + np.cos(y / 7) * 40).astype(dtype)


def write_ome(path, pixels, axes, *, names=None, levels=1, **options):
    """Write an OME-TIFF; lower levels are every second pixel of the one before."""
    metadata = {"axes": axes}
    if names is not None:
        metadata["Channel"] = {"Name": list(names)}
    options = {"photometric": "minisblack", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path, ome=True, byteorder=options.pop("byteorder", None)) as writer:
        for level in range(levels):
            step = 2**level
            part = (
                pixels[..., ::step, ::step]
                if axes.endswith("YX")
                else pixels[..., ::step, ::step, :]
            )
            writer.write(
                part, subifds=levels - 1 if level == 0 else None, subfiletype=int(level > 0),
                metadata=metadata if level == 0 else None, **options,
            )  # fmt: skip
    return path


def last(pixels):
    """Return (C, H, W) as (H, W, C)."""
    return np.moveaxis(pixels, 0, -1)


def whole(path, plane=FIRST_PLANE, **options):
    """Read all of level 0."""
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        pixels, mask = reader.read(Box(0, 0, *reader.size), reader.size, plane, **options)
        assert mask is None
        return pixels


# ---- the contract of readers


class TestOmeTiff(ReaderContract):
    """Seven channels with names, three levels, in a page each."""

    NAMES = ("DAPI", "CD3", "CD8", "CD20", "Ki-67", "PanCK", "AF")

    @pytest.fixture(params=["uint8", "uint16", "float32"])
    def truth(self, request):
        pixels = smooth((7, 130, 170), request.param)
        return Truth(last(pixels), background=(0,) * 7, channels=self.NAMES)

    @pytest.fixture
    def path(self, truth, tmp_path):
        pixels = np.moveaxis(truth.pixels, -1, 0)
        return write_ome(
            tmp_path / "a.ome.tif", pixels, "CYX", names=self.NAMES, levels=3, compression="zstd"
        )

    @pytest.fixture
    def make(self, path):
        return lambda: TileReader(path)


class TestInterleaved(ReaderContract):
    """Five channels side by side, without names."""

    @pytest.fixture
    def truth(self):
        names = tuple(f"Channel {n}" for n in range(1, 6))
        return Truth(noise((110, 150, 5), np.uint16), background=(0,) * 5, channels=names)

    @pytest.fixture
    def path(self, truth, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(
            path, truth.pixels, photometric="minisblack", planarconfig="contig", tile=(64, 48),
            compression="deflate", metadata=None,
        )  # fmt: skip
        return path

    @pytest.fixture
    def make(self, path):
        return lambda: TileReader(path)


class TestImageJ(ReaderContract):
    """A stack of two channels with one directory, big-endian."""

    @pytest.fixture
    def truth(self):
        pixels = noise((110, 150, 2), np.uint16)
        return Truth(pixels, background=(0, 0), channels=("Channel 1", "Channel 2"))

    @pytest.fixture
    def path(self, truth, tmp_path):
        path = tmp_path / "a.tif"
        pixels = np.moveaxis(truth.pixels, -1, 0)
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"}, truncate=True)
        return path

    @pytest.fixture
    def make(self, path):
        return lambda: TileReader(path)


# ---- types, compressions, predictors, byte orders


COMPRESSIONS = {
    "plain": {},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
}


@pytest.mark.parametrize("tile", [(64, 48), None], ids=["tiles", "strips"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_values_are_the_ones_written(tmp_path, dtype, compression, tile):
    """Of each type, side by side and apart; with each predictor, in both byte orders."""
    options = {"tile": tile, "metadata": None, **COMPRESSIONS[compression]}
    if tile is None:
        options["rowsperstrip"] = 33
    pixels = noise((3, 110, 150), dtype)
    predictors = [False]
    if compression in ("lzw", "deflate", "zstd"):
        predictors = [False, 3 if np.dtype(dtype).kind == "f" else 2]
    cases = itertools.product(predictors, ("contig", "separate"), "<>")
    for number, (predictor, layout, order) in enumerate(cases):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(
            path, last(pixels) if layout == "contig" else pixels, predictor=predictor,
            photometric="minisblack", planarconfig=layout, byteorder=order, **options,
        )  # fmt: skip
        with TileReader(path) as reader:
            found, mask = reader.read(WHOLE, SIZE)
            assert mask is None
            np.testing.assert_array_equal(found, last(pixels), strict=True)
            boxes = np.array([[0, 0, 64, 48], [64, 48, 64, 48], [3, 5, 64, 48], [86, 62, 64, 48]])
            for chosen in ((2,), (1, 0, 1)):
                found, mask = reader.read_many(boxes, (64, 48), channels=chosen)
                assert mask is None
                for (x, y, w, h), own in zip(boxes.tolist(), found, strict=True):
                    expected = last(pixels)[y : y + h, x : x + w, chosen]
                    np.testing.assert_array_equal(own, expected, strict=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_jpeg_2000_of_grey_values(tmp_path, dtype):
    """Lossless as tifffile writes it."""
    pixels = smooth((3, 110, 150), dtype)
    path = write_ome(
        tmp_path / "a.ome.tif", pixels, "CYX", compression="jpeg2000",
        compressionargs={"reversible": True, "level": 0},
    )  # fmt: skip
    np.testing.assert_array_equal(whole(path), last(pixels), strict=True)


def test_jpeg_of_grey_values(tmp_path):
    """The pixels are what imagecodecs makes of the data of each tile."""
    pixels = smooth((2, 110, 150), np.uint8)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", compression="jpeg")
    found = whole(path)
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(found, last(file.asarray()))
    assert np.abs(found.astype(int) - last(pixels)).max() < 20


@pytest.mark.parametrize("axes", ["CYX", "CYXS"])
def test_jpeg_tiles_of_channels_are_not_handed_on_as_they_are(tmp_path, axes):
    """A file of one JPEG tile would show one channel, or three of six."""
    pixels = smooth((2, 3, 128, 128), np.uint8)
    pixels = pixels[:, 0] if axes == "CYX" else np.moveaxis(pixels, 1, -1)
    color = "minisblack" if axes == "CYX" else "rgb"
    path = tmp_path / "a.ome.tif"
    write_ome(path, pixels, axes, compression="jpeg", photometric=color)
    with TileReader(path) as reader:
        assert len(reader.channels) == (2 if axes == "CYX" else 6)
        assert reader.read_encoded(Box(0, 0, 64, 64), (64, 64)) is None


def test_packed_values_of_12_bits(tmp_path):
    """Two values in three bytes, the upper bits first."""
    values = np.random.default_rng(1).integers(0, 4096, (110, 150)).astype(np.uint16)
    bits = (values[..., None] >> np.arange(11, -1, -1)) & 1
    data = np.packbits(bits.astype(np.uint8).reshape(110, -1), axis=1).tobytes()
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values, photometric="minisblack", metadata=None, rowsperstrip=110, byteorder=">"
    )
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        offset, tags = page.dataoffsets[0], page.tags
        tags["BitsPerSample"].overwrite(12)
        tags["StripByteCounts"].overwrite(len(data))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    np.testing.assert_array_equal(whole(path)[..., 0], values, strict=True)


# ---- OME-TIFF


ORDERS = ["".join(order) for order in itertools.permutations("CZT")]


@pytest.mark.parametrize("order", ORDERS)
def test_planes_and_channels_in_each_order(tmp_path, order):
    lengths = {"C": 4, "Z": 3, "T": 2}
    stack = noise([lengths[axis] for axis in order] + [110, 150], np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", stack, f"{order}YX", levels=2)
    with TileReader(path) as reader:
        assert reader.planes == (3, 2)
        assert reader.channels == ("Channel 1", "Channel 2", "Channel 3", "Channel 4")
        assert len(reader.levels) == 2
        for z, t in itertools.product(range(3), range(2)):
            index = {"Z": z, "T": t, "C": slice(None)}
            expected = last(stack[tuple(index[axis] for axis in order)])
            pixels, _ = reader.read(WHOLE, SIZE, Plane(z, t))
            np.testing.assert_array_equal(pixels, expected, strict=True)
            some, _ = reader.read(WHOLE, SIZE, Plane(z, t), (3, 1))
            np.testing.assert_array_equal(some, expected[..., [3, 1]], strict=True)
            lower, _ = reader.read(WHOLE, (75, 55), Plane(z, t))
            np.testing.assert_array_equal(lower, expected[::2, ::2], strict=True)


def test_names_of_channels(tmp_path):
    pixels = noise((3, 110, 150), np.uint16)
    named = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", names=["007", " CD 3", "µ"])
    blank = write_ome(tmp_path / "b.ome.tif", pixels, "CYX", names=["a", " ", "c"])
    without = write_ome(tmp_path / "c.ome.tif", pixels, "CYX")
    found = []
    for path in (named, blank, without):
        with open_reader(path) as reader:
            found.append(reader.channels)
    assert found == [
        ("007", " CD 3", "µ"),
        ("a", "Channel 2", "c"),
        ("Channel 1", "Channel 2", "Channel 3"),
    ]


def test_channels_of_several_values_are_numbered_as_in_qupath(tmp_path):
    """BioFormatsImageServer: the name of the channel with 1, 2, 3; its place without a name."""
    pixels = noise((2, 110, 150, 3), np.uint8)
    path = tmp_path / "a.ome.tif"
    write_ome(path, pixels, "CYXS", names=["Polar ", ""], photometric="rgb")
    with TileReader(path) as reader:
        assert reader.channels == (
            "Polar 1", "Polar 2", "Polar 3", "Channel 4", "Channel 5", "Channel 6"
        )  # fmt: skip
        assert reader.background == (0,) * 6
        found, _ = reader.read(WHOLE, SIZE)
        np.testing.assert_array_equal(found, np.concatenate(pixels, axis=-1))
        some, _ = reader.read(WHOLE, SIZE, channels=(4, 1))
        np.testing.assert_array_equal(some, found[..., [4, 1]])


def test_one_channel_of_8_bits_is_no_rgb(tmp_path):
    pixels = noise((110, 150), np.uint8)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "YX", names=["DAPI"])
    with TileReader(path) as reader:
        assert (reader.channels, reader.background) == (("DAPI",), (0,))
        np.testing.assert_array_equal(reader.read(WHOLE, SIZE)[0][..., 0], pixels)


def test_three_pages_of_8_bits_have_zeros_around_them(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", noise((3, 110, 150), np.uint8), "CYX")
    with TileReader(path) as reader:
        assert reader.channels == ("Channel 1", "Channel 2", "Channel 3")
        pixels, mask = reader.read(Box(-10, 0, 20, 10), (20, 10))
        assert not pixels[:, :10].any() and not mask[:, :10].any()


@pytest.mark.parametrize("axis", "CZT")
def test_sizes_that_the_file_cannot_hold_are_refused(tmp_path, axis):
    """Without a list of so many planes: the number could ask for more than any memory."""
    path = write_ome(
        tmp_path / "a.ome.tif", noise((2, 110, 150), np.uint16), "CYX", names=["a" * 9, "b"]
    )
    data = path.read_bytes()
    was = f'Size{axis}="{2 if axis == "C" else 1}"'.encode()
    assert data.count(was) == 1
    longer = was.replace(b'="', b'="9000000')
    path.write_bytes(data.replace(was, longer).replace(b"a" * 9, b"aa"))
    assert path.stat().st_size == len(data)
    with pytest.raises(ReadError, match=r"names \d{8,} planes, the file has 2\."):
        TileReader(path)


def test_a_run_of_planes_that_the_file_cannot_hold_is_refused(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", noise((2, 110, 150), np.uint16), "CYX")
    data = path.read_bytes()
    old = b'PlaneCount="2"'
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, b'PlaneCount="9"'))
    with pytest.raises(ReadError, match="names 9 planes, the file has 2"):
        TileReader(path)


def test_a_further_image_may_be_elsewhere_and_cannot_ask_for_any_memory(tmp_path):
    pixels = noise((2, 110, 150), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", names=["a" * 300, "b"])
    data = path.read_bytes()
    for count, found in (("3", None), ("99999999", "names 99999999 planes, the file has 2")):
        second = (
            '<Image ID="Image:1"><Pixels ID="Pixels:1" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="150" SizeY="110" SizeC="{count}" SizeZ="1" SizeT="1"><TiffData/></Pixels>'
            "</Image>"
        ).encode()
        name = b"a" * 300
        changed = data.replace(name, b"a" * (300 - len(second)))
        path.write_bytes(changed.replace(b"</OME>", second + b"</OME>"))
        assert path.stat().st_size == len(data)
        if found is None:
            np.testing.assert_array_equal(whole(path), last(pixels))
        else:
            with pytest.raises(ReadError, match=found):
                TileReader(path)


def test_a_part_of_an_image_in_several_files_is_refused(tmp_path):
    """Planes of another file, and a file that only names the one with the description."""
    pixels = noise((2, 110, 150), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", names=["a" * 200, "b"])
    data = path.read_bytes()
    own = b'<TiffData IFD="0" PlaneCount="2"/>'
    other = own[:-2] + b'><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>'
    elsewhere = data.replace(own, other).replace(b"a" * 200, b"a" * (200 + len(own) - len(other)))
    image = data[data.index(b"<Image") : data.index(b"</OME>")]
    named = data.replace(image, b'<BinaryOnly MetadataFile="m.ome"/>'.ljust(len(image)))
    for changed, found in (
        (elsewhere, "the planes of the OME-TIFF are not in this file"),
        (named, "its OME-XML has no image"),
    ):
        assert len(changed) == len(data)
        path.write_bytes(changed)
        with pytest.raises(ReadError, match=found) as caught:
            TileReader(path)
        assert "join them into one OME-TIFF" in caught.value.hint


def test_other_axes_are_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_ome(path, noise((4, 110, 150), np.uint16), "HYX")
    with pytest.raises(ReadError, match="H = 4, Y = 110, X = 150"):
        TileReader(path)


# ---- QPTIFF


def write_qptiff(path, pixels, names, *, levels=3, dtype=None):
    """Write pages as PerkinElmer does: channels, a thumbnail, lower levels, a label."""
    xml = (
        '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
        "<Name>{}</Name><Color>255,0,0</Color><Objective>20x</Objective>"
        "</PerkinElmer-QPI-ImageDescription>"
    )
    common = {
        "photometric": "minisblack", "metadata": None, "software": "PerkinElmer-QPI",
        "dtype": dtype,
        "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path) as writer:
        for plane, name in zip(pixels, names, strict=True):
            writer.write(
                plane, tile=(64, 64), compression="lzw", description=xml.format(name), **common
            )
        small = np.zeros((20, 30, 3), np.uint8)
        writer.write(
            small, photometric="rgb", metadata=None, subfiletype=1, software="PerkinElmer-QPI"
        )
        for level in range(1, levels):
            for plane, name in zip(pixels, names, strict=True):
                part = plane[:: 2**level, :: 2**level]
                writer.write(
                    part, tile=(64, 64), compression="lzw", subfiletype=1,
                    description=xml.format(name), **common,
                )  # fmt: skip
        writer.write(small, photometric="rgb", metadata=None, software="PerkinElmer-QPI")
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_qptiff_has_its_channels_levels_and_names(tmp_path, dtype):
    pixels = smooth((5, 512, 640), dtype)
    names = ["DAPI", "Opal 520", "Opal 570", "Opal 690", "Autofluorescence"]
    path = write_qptiff(tmp_path / "a.qptiff", pixels, names)
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        assert reader.channels == tuple(names)
        assert reader.planes == (1, 1)
        assert reader.dtype == dtype
        assert [level.width for level in reader.levels] == [640, 320, 160]
        assert reader.pixel_size == (0.5, 0.5)
        assert reader.objective_power == 20
        box = Box(130, 70, 100, 80)
        found, _ = reader.read(box, (100, 80), channels=(4, 0))
        expected = last(pixels)[70:150, 130:230, [4, 0]]
        np.testing.assert_array_equal(found, expected, strict=True)
        found, _ = reader.read(Box(0, 0, 640, 512), (160, 128))
        np.testing.assert_array_equal(found, last(pixels)[::4, ::4], strict=True)


def test_a_qptiff_in_rgb(tmp_path):
    pixels = noise((512, 640, 3), np.uint8)
    path = tmp_path / "a.qptiff"
    with tifffile.TiffWriter(path) as writer:
        for step, kind in ((1, 0), (8, 1), (2, 1), (4, 1)):
            tile = None if step == 8 else (64, 64)
            writer.write(
                pixels[::step, ::step], photometric="rgb", tile=tile, metadata=None,
                subfiletype=kind, software="PerkinElmer-QPI",
            )  # fmt: skip
    with open_reader(path) as reader:
        assert reader.channels == ("Red", "Green", "Blue")
        assert [level.width for level in reader.levels] == [640, 320, 160]
        np.testing.assert_array_equal(
            reader.read(Box(9, 9, 90, 80), (90, 80))[0], pixels[9:89, 9:99]
        )


# ---- ImageJ


@pytest.mark.parametrize("truncate", [False, True], ids=["directories", "one directory"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_imagej_hyperstack(tmp_path, dtype, truncate):
    stack = noise((2, 3, 4, 110, 150), dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stack, imagej=True, truncate=truncate,
        metadata={"axes": "TZCYX", "unit": "um", "Labels": [f"s{n}" for n in range(24)]},
        resolution=(2, 2),
    )  # fmt: skip
    with open_reader(path) as reader:
        assert reader.planes == (3, 2)
        assert reader.channels == tuple(f"Channel {n}" for n in (1, 2, 3, 4))
        assert reader.pixel_size == (0.5, 0.5)
        for t, z in itertools.product(range(2), range(3)):
            found, _ = reader.read(WHOLE, SIZE, Plane(z, t))
            np.testing.assert_array_equal(found, last(stack[t, z]), strict=True)
            part, _ = reader.read(Box(20, 30, 40, 50), (40, 50), Plane(z, t), (2,))
            np.testing.assert_array_equal(part, last(stack[t, z])[30:80, 20:60, [2]], strict=True)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["DAPI\nmore", "CD3", "x"], ("DAPI", "CD3", "x")),
        (["DAPI", "DAPI", "x"], None),
        (["DAPI", " ", "x"], None),
        (["DAPI"], None),
        (["DAPI", "CD3", "CD8", "one too many"], None),
        (None, None),
    ],
)
def test_labels_of_imagej_are_names_where_each_has_its_own(tmp_path, labels, names):
    """ImageJServer takes the first lines, of images with one plane only."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "CYX"} | ({"Labels": labels} if labels else {})
    tifffile.imwrite(path, noise((3, 110, 150), np.uint16), imagej=True, metadata=metadata)
    with TileReader(path) as reader:
        assert reader.channels == (names or ("Channel 1", "Channel 2", "Channel 3"))


def test_a_single_image_of_imagej_has_its_label_or_the_name_of_the_file(tmp_path):
    """ImagePlus.getStack: the label, else the title if there is an "Info", which some tags make."""
    path, pixels = tmp_path / "slide 1.tif", noise((110, 150), np.uint16)
    found = []
    for labels, software in ((["DAPI\nmore"], None), ([], "a program"), ([], False)):
        metadata = {"axes": "YX"} | ({"Labels": labels} if labels else {})
        tifffile.imwrite(path, pixels, imagej=True, metadata=metadata, software=software)
        with TileReader(path) as reader:
            found += reader.channels
    assert found == ["DAPI", "slide 1.tif", "Channel 1"]


def test_a_stack_without_sizes_has_slices(tmp_path):
    """ImageJ takes images of which nothing is said for slices."""
    stack = noise((5, 110, 150), np.uint16)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, plane in enumerate(stack):
            text = "ImageJ=1.54f\nimages=5\n" if number == 0 else None
            writer.write(plane, description=text, metadata=None, photometric="minisblack")
    with TileReader(path) as reader:
        assert reader.planes == (5, 1)
        np.testing.assert_array_equal(reader.read(WHOLE, SIZE, Plane(3, 0))[0][..., 0], stack[3])


def test_an_rgb_stack_of_imagej_has_slices(tmp_path):
    stack = noise((4, 110, 150, 3), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYXS"})
    with TileReader(path) as reader:
        assert reader.channels == ("Red", "Green", "Blue")
        assert reader.planes == (4, 1)
        np.testing.assert_array_equal(reader.read(WHOLE, SIZE, Plane(2, 0))[0], stack[2])


def test_values_of_a_palette_of_imagej_are_its_pixels(tmp_path):
    values = noise((110, 150), np.uint8)
    colors = noise((3, 256), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values, photometric="palette", colormap=colors, metadata=None,
        description="ImageJ=1.54f\n",
    )  # fmt: skip
    np.testing.assert_array_equal(whole(path)[..., 0], values)
    tifffile.imwrite(path, values, photometric="palette", colormap=colors, metadata=None)
    with pytest.raises(ReadError, match="8-bit x 1 PALETTE"):
        TileReader(path)


def test_a_stack_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    stack = noise((4, 110, 150), np.uint16)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"}, truncate=True)
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    with pytest.raises(ReadError, match=r"the 4 images that ImageJ names take \d+ bytes"):
        TileReader(path)
    path.write_bytes(data.replace(b"images=4", b"images=9"))
    with pytest.raises(ReadError, match="the 9 images that ImageJ names"):
        TileReader(path)


# ---- plain files


def test_pages_of_a_plain_file_are_times_with_their_levels(tmp_path):
    """As Bio-Formats counts them; lower levels are SubIFDs, or pages that are marked."""
    stack = noise((3, 128, 192), np.uint16)
    below, after = tmp_path / "below.tif", tmp_path / "after.tif"
    options = {"photometric": "minisblack", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(below) as writer:
        for plane in stack:
            writer.write(plane, subifds=1, **options)
            writer.write(plane[::2, ::2], subfiletype=1, **options)
    with tifffile.TiffWriter(after) as writer:
        for step in (1, 2, 4):
            for plane in stack:
                writer.write(plane[::step, ::step], subfiletype=int(step > 1), **options)
    for path, sizes in ((below, [192, 96]), (after, [192, 96, 48])):
        with TileReader(path) as reader:
            assert (reader.planes, reader.channels) == ((1, 3), ("Channel 1",))
            assert [level.width for level in reader.levels] == sizes
            for t, plane in enumerate(stack):
                found, _ = reader.read(Box(0, 0, 192, 128), (192, 128), Plane(0, t))
                np.testing.assert_array_equal(found[..., 0], plane)
                found, _ = reader.read(Box(0, 0, 192, 128), (96, 64), Plane(0, t))
                np.testing.assert_array_equal(found[..., 0], plane[::2, ::2])


def test_two_sizes_of_lower_pages_of_one_plane_each_are_no_levels(tmp_path):
    path = tmp_path / "a.tif"
    options = {"photometric": "minisblack", "tile": (64, 64), "metadata": None}
    stack = noise((2, 128, 192), np.uint16)
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, **options)
        writer.write(stack[0, ::2, ::2], subfiletype=1, **options)
    with TileReader(path) as reader:
        assert (reader.planes, len(reader.levels)) == ((1, 2), 1)


@pytest.mark.parametrize(
    ("pixels", "options", "found"),
    [
        (np.zeros((110, 150), np.float16), {}, "16-bit float x 1 MINISBLACK"),
        (np.zeros((110, 150), np.complex64), {}, "64-bit complex x 1 MINISBLACK"),
        (np.zeros((110, 150), np.uint64), {}, "64-bit x 1 MINISBLACK"),
        (np.zeros((110, 150), bool), {}, "1-bit x 1 MINISBLACK"),
        (np.zeros((110, 150), np.uint8), {"photometric": "miniswhite"}, "8-bit x 1 MINISWHITE"),
        (np.zeros((110, 150, 4), np.uint8), {"photometric": "separated"}, "8-bit x 4 SEPARATED"),
    ],
)
def test_other_values_are_refused_by_name(tmp_path, pixels, options, found):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    with pytest.raises(ReadError, match=found) as caught:
        TileReader(path)
    assert "OME-TIFF" in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "channels"),
    [
        ((110, 150, 3), np.uint16, {"photometric": "rgb"}, 3),
        ((110, 150, 3), np.int8, {"photometric": "rgb"}, 3),
        ((110, 150, 4), np.uint8, {"photometric": "rgb", "extrasamples": ["unspecified"]}, 4),
        ((110, 150, 4), np.uint8, {"planarconfig": "contig"}, 4),
        ((110, 150, 2), np.uint8, {"planarconfig": "contig", "extrasamples": ["unassalpha"]}, 2),
    ],
)
def test_what_is_no_rgb_has_channels(tmp_path, shape, dtype, options, channels):
    pixels = noise(shape, dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    with TileReader(path) as reader:
        assert reader.channels == tuple(f"Channel {n + 1}" for n in range(channels))
        np.testing.assert_array_equal(reader.read(WHOLE, SIZE)[0], pixels, strict=True)


def test_a_number_of_channels_that_is_damaged_is_refused(tmp_path):
    """SamplesPerPixel of 45,315 in a tile of 64 x 64 pixels could fill any memory."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise((110, 150, 3), np.uint16), photometric="minisblack", planarconfig="contig",
        tile=(64, 64), metadata=None,
    )  # fmt: skip
    set_tag(path, "SamplesPerPixel", 0, 45_315)
    with pytest.raises(ReadError, match="45315 channels; at most 1024"):
        TileReader(path)


def test_levels_of_another_type_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    options = {"photometric": "minisblack", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise((128, 192), np.uint16), **options)
        writer.write(noise((64, 96), np.uint8), subfiletype=1, **options)
    with pytest.raises(ReadError, match="different sizes or types"):
        TileReader(path)


# ---- long strips


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("rows", [110, 40])
def test_long_plain_strips_are_read_in_groups_of_rows(tmp_path, monkeypatch, rows, planar):
    monkeypatch.setattr(tile_table, "STRIP_BYTES", 150 * 2 * 3 * 7)
    pixels = noise((3, 110, 150), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels if planar else last(pixels), photometric="minisblack", metadata=None,
        planarconfig="separate" if planar else "contig", rowsperstrip=rows, byteorder=">",
    )  # fmt: skip
    lengths, inner = [], tile_data.read_at

    def read_at(handle, count, start):
        lengths.append(count)
        return inner(handle, count, start)

    monkeypatch.setattr(tile_data, "read_at", read_at)
    np.testing.assert_array_equal(whole(path), last(pixels))
    assert max(lengths) <= tile_table.STRIP_BYTES
    lengths.clear()
    with TileReader(path) as reader:
        found, _ = reader.read(Box(10, 50, 20, 6), (20, 6), channels=(1,))
    np.testing.assert_array_equal(found[..., 0], pixels[1, 50:56, 10:30])
    assert sum(lengths) <= 3 * tile_table.STRIP_BYTES


# ---- what is decoded, and kept


def test_only_channels_that_are_asked_for_are_decoded(tmp_path, monkeypatch):
    path = write_ome(tmp_path / "a.ome.tif", noise((9, 128, 128), np.uint16), "CYX")
    offsets, inner = [], tile_data.read_at
    with tifffile.TiffFile(path) as file:
        own = {number: set(page.dataoffsets) for number, page in enumerate(file.pages)}

    def read_at(handle, count, start):
        offsets.append(start)
        return inner(handle, count, start)

    monkeypatch.setattr(tile_data, "read_at", read_at)
    with TileReader(path) as reader:
        reader.read_many(np.array([[0, 0, 64, 64], [30, 30, 64, 64]]), (64, 64), channels=(7, 2, 7))
    assert offsets and set(offsets) <= own[7] | own[2]
    assert len(offsets) == 2 * 4  # the second box touches four tiles, the first one of them


def test_blocks_of_many_channels_are_bounded_in_bytes(tmp_path, monkeypatch):
    """A large box is read in as many blocks as its channels and their type ask for."""
    monkeypatch.setattr(levels, "BLOCK_BYTES", 100_000)
    pixels = noise((12, 256, 256), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX")
    largest, inner = [], TileReader._read_parts

    def watched(self, *args):
        found = inner(self, *args)
        largest.append(found[0].nbytes)
        return found

    monkeypatch.setattr(TileReader, "_read_parts", watched)
    with TileReader(path) as reader:
        found, _ = reader.read(Box(0, 0, 256, 256), (64, 64))
        batch, _ = reader.read_many(np.array([[0, 0, 128, 128]] * 3), (64, 64))
    sums = pixels.reshape(12, 64, 4, 64, 4).astype(np.int64).sum(axis=(2, 4))
    np.testing.assert_array_equal(found, last((sums + 8) // 16))
    assert batch.shape == (3, 64, 64, 12)
    assert max(largest) <= 150_000  # blocks share the pixels on their edges


def test_the_cache_of_many_channels_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE_BYTES", 20_000)
    path = write_ome(tmp_path / "a.ome.tif", noise((33, 128, 128), np.uint16), "CYX")
    with TileReader(path) as reader:
        for x in (3, 30, 5):
            reader.read(Box(x, 7, 64, 64), (64, 64))
            assert 0 < reader._cache.nbytes <= 20_000 * tiles.MOST_CACHES


# ---- missing and damaged tiles


def test_a_tile_that_one_channel_misses_is_zero_there(tmp_path):
    """The other channels stay; the mask is False where no channel has pixels."""
    pixels = noise((3, 128, 192), np.uint16) | 1
    path = write_ome(tmp_path / "a.ome.tif", pixels, "CYX", compression="deflate")
    for page, tile in ((1, 0), (2, 1), (0, 4), (1, 4), (2, 4)):
        set_tag(path, "TileOffsets", tile, 0, page=page)
        set_tag(path, "TileByteCounts", tile, 0, page=page)
    expected = last(pixels).copy()
    expected[:64, :64, 1] = 0
    expected[:64, 64:128, 2] = 0
    expected[64:, 64:128] = 0
    seen = np.ones((128, 192), bool)
    seen[64:, 64:128] = False
    with TileReader(path) as reader:
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(mask, seen)
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128), channels=(2, 0))
        np.testing.assert_array_equal(found, expected[..., [2, 0]])
        np.testing.assert_array_equal(mask, seen)
        found, mask = reader.read(Box(0, 0, 192, 128), (192, 128), channels=(2,))
        np.testing.assert_array_equal(mask, seen & (expected[..., 2] > 0))
        found, mask = reader.read(Box(0, 0, 64, 64), (64, 64), channels=(1,))
        assert not found.any() and not mask.any()


def damage_data(path):
    with tifffile.TiffFile(path) as file:
        place = file.pages[1].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)


def past_the_end(path):
    set_tag(path, "TileOffsets", 3, 2**31, page=1)


def too_long(path):
    set_tag(path, "TileByteCounts", 3, 2**31, page=1)


def too_short(path):
    set_tag(path, "TileByteCounts", 3, 20, page=1)


@pytest.mark.parametrize("damage", [damage_data, past_the_end, too_long, too_short])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "jpeg2000", None])
def test_a_bad_tile_of_a_channel_fails_with_its_place_or_is_zero(tmp_path, compression, damage):
    if compression is None and damage is not past_the_end:
        return  # any bytes are values, and all pages share one list of lengths
    pixels = smooth((3, 128, 192), np.uint16)
    path = write_ome(
        tmp_path / "a.ome.tif", pixels, "CYX", compression=compression,
        compressionargs={"reversible": True, "level": 0} if compression == "jpeg2000" else None,
    )  # fmt: skip
    damage(path)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[1].dataoffsets[3]
    box = Box(0, 64, 64, 64)
    with open_reader(path) as reader:
        reader.read(box, (64, 64), channels=(0, 2))
        with pytest.raises(
            ReadError, match=rf"tile at column 0, row 1 of level 0 \(offset {offset}"
        ):
            reader.read(box, (64, 64))
    with open_reader(path, on_bad_tile="background") as reader:
        found, mask = reader.read(box, (64, 64))
        expected = last(pixels)[64:, :64].copy()
        expected[..., 1] = 0
        np.testing.assert_array_equal(found, expected)
        assert mask is None, "two channels have pixels"
        assert reader.bad_tiles == {BadTile(0, 0, 1, 0, 0, offset)}


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl"])
def test_a_grey_tile_that_grows_is_not_decoded(tmp_path, compression, monkeypatch):
    """A tile says itself how large it is; a small one may claim to be gigabytes."""
    huge = np.zeros((1000, 1000), np.uint16)
    encode = {"jpeg2000": imagecodecs.jpeg2k_encode, "jpegxl": imagecodecs.jpegxl_encode}
    path = write_ome(tmp_path / "a.ome.tif", huge[None, :64, :64], "CYX", compression=compression)
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(encode[compression](huge))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    with TileReader(path) as reader:
        decoded = []
        for name in ("jpeg2k_decode", "jpegxl_decode"):
            monkeypatch.setattr(imagecodecs, name, lambda *args, **rest: decoded.append(args))
        with pytest.raises(ReadError, match="says that it has 1000 x 1000 pixels"):
            reader.read(Box(0, 0, 64, 64), (64, 64))
        assert not decoded


def test_a_jpeg_2000_tile_of_more_samples_is_not_decoded(tmp_path, monkeypatch):
    many = np.zeros((64, 64, 4), np.uint16)
    path = write_ome(tmp_path / "a.ome.tif", many[None, ..., 0], "CYX", compression="jpeg2000")
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(imagecodecs.jpeg2k_encode(many))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
    with TileReader(path) as reader, pytest.raises(ReadError, match="4 samples, not 1"):
        reader.read(Box(0, 0, 64, 64), (64, 64))


@pytest.mark.parametrize("on_bad_tile", ["fail", "background"])
@pytest.mark.parametrize("kind", ["ome", "imagej", "qptiff", "interleaved"])
def test_any_damage_is_a_read_error_or_pixels(tmp_path, kind, on_bad_tile):
    """Bytes are changed in directories, descriptions and tiles; nothing else gets out."""
    rng = np.random.default_rng(len(kind))
    path = tmp_path / "a.tif"
    pixels = smooth((3, 100, 140), np.uint16)
    if kind == "ome":
        write_ome(path, pixels, "CYX", names="abc", levels=2, compression="deflate", predictor=2)
    elif kind == "imagej":
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"}, truncate=True)
    elif kind == "qptiff":
        write_qptiff(path, pixels, "abc", levels=2)
    else:
        tifffile.imwrite(
            path, last(pixels), photometric="minisblack", planarconfig="contig", tile=(64, 64),
            metadata=None, compression="lzw",
        )  # fmt: skip
    data = path.read_bytes()
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3).tolist() + rng.integers(0, 900, 2).tolist():
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            with open_reader(path, on_bad_tile=on_bad_tile) as reader:
                found, _ = reader.read(Box(10, 10, 100, 80), (100, 80))
                assert found.shape[:2] == (80, 100)
                reader.read(Box(0, 0, 140, 100), (35, 25))
        except ReadError:
            continue
