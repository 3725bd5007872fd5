"""TIFF files with channels: pixels against the arrays that tifffile wrote, and names."""

import itertools

import numpy as np
import pytest
import tifffile

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.channels import PIXEL_TYPES
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from tests.support.channel_tiffs import (
    SIZE,
    WHOLE,
    last,
    noise,
    smooth,
    whole,
    write_ome,
    write_qptiff,
)
from tests.support.tiff_tags import set_tag

TYPES = sorted(str(dtype) for dtype in PIXEL_TYPES)


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
        assert reader.read_encoded(np.array([[0, 0, 64, 64]]), (64, 64)) == [None]


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
