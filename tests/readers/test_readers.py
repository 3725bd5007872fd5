"""Pixels and facts of TIFF files: missing and damaged tiles, calibration, layouts."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers import open_reader
from qupath_bridge.readers import openslide as openslide_reader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.tiff_tags import set_tag

PIXELS = marker_image(301, 207)
APERIO = "Aperio Image Library v1\r\n301x207 (64x64)|AppMag = 40|MPP = 0.2527|Left = 1"


# ---- missing tiles, damage


@pytest.mark.parametrize("kind", [OpenSlideReader, TileReader])
def test_missing_tiles_are_background_not_black(tmp_path, kind):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    for tag in ("TileOffsets", "TileByteCounts"):
        set_tag(path, tag, 6, 0)  # five tiles a row: the second of the second row
    missing = np.zeros((207, 301), bool)
    missing[64:128, 64:128] = True
    with kind(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
        np.testing.assert_array_equal(mask, ~missing)
        np.testing.assert_array_equal(pixels[missing], 255)
        np.testing.assert_array_equal(pixels[~missing], PIXELS[~missing])
        small, valid = reader.read(Box(60, 60, 72, 72), (9, 9))
        assert not valid[1:8, 1:8].any()
        assert (small[1:8, 1:8] == 255).all()
        edge, valid = reader.read(Box(56, 64, 12, 8), (2, 1))  # 6 x 8 valid, then 2 of 6 x 8
        assert valid.tolist() == [[True, False]]
        whole = PIXELS[64:72, 62:68].astype(int)
        whole[:, 2:] = 255
        np.testing.assert_array_equal(edge[0, 1], (2 * whole.sum((0, 1)) + 48) // 96)


def test_a_damaged_tile_is_named(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    with TileReader(path) as reader:
        pixels, _ = reader.read(Box(0, 0, 64, 64), (64, 64))  # the others can still be read
        np.testing.assert_array_equal(pixels, PIXELS[:64, :64])
        with pytest.raises(
            ReadError, match=r"a\.tiff: tile at column 3, row 0 of level 0 \(offset \d+\)"
        ) as caught:
            reader.read(Box(200, 0, 64, 64), (64, 64))
        assert "damaged" in caught.value.hint


def test_a_file_cut_short_is_refused_where_it_ends(tmp_path):
    path = write_slide(tmp_path / "a.tif", PIXELS, tile=None)
    path.write_bytes(path.read_bytes()[:-200])
    with TileReader(path) as reader:
        reader.read(Box(0, 0, 50, 50), (50, 50))
        with pytest.raises(
            ReadError, match=r"strip at column 0, row 12 of level 0 .* ends 200 bytes too early"
        ):
            reader.read(Box(0, 190, 50, 17), (50, 17))


def test_tiles_that_the_directory_forgets_are_no_background(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[tag].offset + 4 for tag in ("TileOffsets", "TileByteCounts")]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(struct.pack("<I", 10))
    with TileReader(path) as reader, pytest.raises(ReadError, match="directory does not list it"):
        reader.read(Box(0, 140, 64, 64), (64, 64))


def test_a_tile_of_another_size_is_refused(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, compression="jpeg")
    small = write_slide(tmp_path / "b.tiff", PIXELS, tile=32, compression="jpeg")
    with tifffile.TiffFile(small) as file:
        page = file.pages[0]
        tile = small.read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(tile)
    with (
        TileReader(path) as reader,
        pytest.raises(ReadError, match="has 32 x 32 pixels, not 64 x 64"),
    ):
        reader.read(Box(0, 0, 64, 64), (64, 64))


@pytest.mark.parametrize("seed", range(6))
def test_broken_directories_never_get_out_as_other_errors(tmp_path, seed):
    """Flip bytes anywhere: the file reads, or there is one ReadError."""
    good = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, levels=2).read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        first = min(file.pages[0].dataoffsets)
    rng = np.random.default_rng(seed)
    path = tmp_path / "b.tiff"
    for _ in range(25):
        data = bytearray(good)
        for place in rng.integers(4, first, 2):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            with TileReader(path) as reader:
                reader.read(Box(0, 0, 128, 128), (64, 64))
        except ReadError as error:
            assert "b.tiff" in str(error)


# ---- what TIFF files say


def test_openslide_errors_name_file_and_place(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    message = r"a\.tiff: OpenSlide cannot read 64 x 64 pixels at"
    with OpenSlideReader(path) as reader, pytest.raises(ReadError, match=message):
        reader.read(Box(0, 0, 64, 64), (64, 64))
    jpeg2000 = write_slide(tmp_path / "b.tiff", PIXELS, tile=64, compression="jpeg2000")
    with pytest.raises(ReadError, match="Unsupported TIFF compression"):
        OpenSlideReader(jpeg2000)


@pytest.mark.parametrize("mpp", [0.25, 0.5, None, 0.01, 353.0])
def test_resolution_tags_count_when_they_are_plausible(tmp_path, mpp):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, mpp=mpp)
    for kind in (OpenSlideReader, TileReader):
        with kind(path) as reader:
            if mpp in (0.25, 0.5):
                assert reader.pixel_size == pytest.approx((mpp, mpp), rel=1e-6)
            else:
                assert reader.pixel_size is None
            assert reader.objective_power is None
            assert reader.bounds is None


def test_aperio_descriptions_are_read(tmp_path):
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path, PIXELS, tile=(64, 64), description=APERIO, metadata=None, photometric="rgb"
    )
    for kind in (OpenSlideReader, TileReader):
        with kind(path) as reader:
            assert reader.pixel_size == (0.2527, 0.2527)
            assert reader.objective_power == 40
    tifffile.imwrite(
        path, PIXELS, tile=(64, 64), description="Aperio Image\r\n|MPP = no", metadata=None,
        photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with TileReader(path) as reader:
        assert reader.pixel_size is None
        assert reader.objective_power is None


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.25, "µm", 0.25),
        (250, "nm", 0.25),
        (0.00025, "mm", 0.25),
        (0.25, "furlong", None),
        (0, "µm", None),
    ],
)
def test_ome_units(tmp_path, size, unit, expected):
    path = tmp_path / "a.ome.tif"
    said = {f"PhysicalSize{axis}": size for axis in "XY"}
    said |= {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(path, PIXELS, ome=True, photometric="rgb", metadata={"axes": "YXS", **said})
    with TileReader(path) as reader:
        assert reader.pixel_size == (None if expected is None else (expected, expected))


def ome(path, inner, before=""):
    """Write an OME-TIFF with an image description of our own."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'{before}<Image ID="Image:0">{inner}<Pixels ID="Pixels:0" DimensionOrder="XYCZT"'
        ' Type="uint8" SizeX="301" SizeY="207" SizeC="3" SizeZ="1" SizeT="1" Interleaved="true">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, PIXELS, description=xml, metadata=None, photometric="rgb")
    return path


def test_ome_objectives(tmp_path):
    lens = '<Objective ID="Objective:{}" NominalMagnification="{}"/>'
    one = f'<Instrument ID="I:0">{lens.format(0, 40)}</Instrument>'
    two = f'<Instrument ID="I:0">{lens.format(0, 40)}{lens.format(1, 20)}</Instrument>'
    two += '<Instrument ID="I:1"/>'
    for before, settings, power in (
        (one, '<ObjectiveSettings ID="Objective:0"/>', 40),
        (two, '<ObjectiveSettings ID="Objective:1"/>', 20),
        (two, '<ObjectiveSettings ID="Objective:9"/>', None),
        (two, "", None),
        ("", "", None),
    ):
        with TileReader(ome(tmp_path / "a.ome.tif", settings, before)) as reader:
            assert reader.objective_power == power
            assert reader.pixel_size is None


@pytest.mark.parametrize("axes", ["ZYXS", "TYXS", "TZYXS", "ZTYXS"])
def test_ome_planes(tmp_path, axes):
    lengths = {"Z": 3, "T": 2}
    shape = [lengths[axis] for axis in axes[:-3]]
    count = int(np.prod(shape))
    planes = np.stack([PIXELS // (k + 1) for k in range(count)]).reshape(*shape, *PIXELS.shape)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, planes, ome=True, photometric="rgb", tile=(64, 64), metadata={"axes": axes}
    )
    with TileReader(path) as reader:
        z_count, t_count = (lengths[axis] if axis in axes else 1 for axis in "ZT")
        assert reader.planes == (z_count, t_count)
        for z in range(z_count):
            for t in range(t_count):
                where = tuple({"Z": z, "T": t}[axis] for axis in axes[:-3])
                pixels, _ = reader.read(Box(60, 60, 20, 20), (20, 20), Plane(z, t))
                np.testing.assert_array_equal(pixels, planes[where][60:80, 60:80])


def test_ome_of_several_files_is_refused(tmp_path):
    path = write_slide(tmp_path / "a.ome.tif", PIXELS, ome=True)
    data = path.read_bytes()
    assert b'SizeZ="1"' in data
    path.write_bytes(data.replace(b'SizeZ="1"', b'SizeZ="2"'))
    with pytest.raises(ReadError, match=r"names 2 planes, the file has 1|directory cannot be read"):
        TileReader(path)


@pytest.mark.parametrize("tile", [(64, 64), None])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
@pytest.mark.parametrize("alpha", [False, True])
def test_planar_pixels_are_read(tmp_path, tile, compression, alpha):
    planes = PIXELS.transpose(2, 0, 1)
    if alpha:
        planes = np.concatenate([planes, np.full((1, 207, 301), 255, np.uint8)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, planes, photometric="rgb", planarconfig="separate", tile=tile, metadata=None,
        compression=compression, extrasamples=["unassalpha"] if alpha else None,
    )  # fmt: skip
    with open_reader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
        part, _ = reader.read(Box(50, 60, 20, 70), (20, 70))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(part, PIXELS[60:130, 50:70])
    assert mask is None


def test_planar_ome_tiff_with_levels_and_planes_is_read(tmp_path):
    path = tmp_path / "a.ome.tif"
    stack = np.stack([PIXELS, 255 - PIXELS]).transpose(0, 3, 1, 2)
    tifffile.imwrite(
        path, stack, ome=True, photometric="rgb", planarconfig="separate", tile=(64, 64),
        metadata={"axes": "ZSYX"},
    )  # fmt: skip
    with TileReader(path) as reader:
        assert reader.planes == (2, 1)
        for z, expected in enumerate((PIXELS, 255 - PIXELS)):
            pixels, _ = reader.read(Box(0, 0, 301, 207), (301, 207), Plane(z, 0))
            np.testing.assert_array_equal(pixels, expected)


def missing_plane(path, index):
    for tag in ("TileOffsets", "TileByteCounts"):
        set_tag(path, tag, index, 0)


def test_a_planar_tile_without_one_of_its_planes_is_background(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PIXELS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
        tile=(64, 64), metadata=None, compression="deflate",
    )  # fmt: skip
    missing_plane(path, 20 + 6)  # the green of the second tile of the second row
    with TileReader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    missing = np.zeros((207, 301), bool)
    missing[64:128, 64:128] = True
    np.testing.assert_array_equal(mask, ~missing)
    assert (pixels[missing] == 255).all()
    np.testing.assert_array_equal(pixels[~missing], PIXELS[~missing])


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_transparent_pixels_show_the_background(tmp_path, kind, ome):
    """As Pillow puts the same pixels on white; also where the colours are multiplied already."""
    alpha = np.tile(np.arange(256, dtype=np.uint8), (207, 2))[:, :301]
    straight = np.dstack([PIXELS, alpha])
    white = Image.new("RGBA", (301, 207), "white")
    white.alpha_composite(Image.fromarray(straight))
    stored = straight
    if kind == "assocalpha":
        stored = np.dstack([np.round(PIXELS * (alpha / 255)[..., None]).astype(np.uint8), alpha])
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(
        path, stored, photometric="rgb", extrasamples=[kind], tile=(64, 64), ome=ome,
        compression="deflate", metadata={"axes": "YXS"} if ome else None,
    )  # fmt: skip
    with open_reader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    assert np.abs(pixels.astype(int) - np.asarray(white.convert("RGB"))).max() <= 1
    np.testing.assert_array_equal(mask, alpha >= 128)


def test_missing_tiles_of_a_slide_with_alpha_are_background(tmp_path):
    path = tmp_path / "a.tif"
    opaque = np.dstack([PIXELS, np.full((207, 301), 255, np.uint8)])
    tifffile.imwrite(
        path, opaque, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64),
        metadata=None, compression="deflate",
    )  # fmt: skip
    missing_plane(path, 6)
    with TileReader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    assert not mask[64:128, 64:128].any()
    assert (pixels[64:128, 64:128] == 255).all()
    assert mask.sum() == 301 * 207 - 64 * 64


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "jpegxr"])
def test_a_tile_that_grows_is_not_decoded(tmp_path, compression, monkeypatch):
    """A tile says itself how large it is; a small one may claim to be gigabytes."""
    huge = np.zeros((1000, 1000, 3), np.uint8)
    encode = {
        "jpeg": imagecodecs.jpeg8_encode,
        "jpeg2000": imagecodecs.jpeg2k_encode,
        "jpegxl": imagecodecs.jpegxl_encode,
        "jpegxr": imagecodecs.jpegxr_encode,
    }
    path = write_slide(tmp_path / "a.tiff", huge[:64, :64], tile=64, compression=compression)
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(encode[compression](huge))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    with TileReader(path) as reader:
        decoded = []
        for name in ("jpeg8_decode", "jpeg2k_decode", "jpegxl_decode", "jpegxr_decode"):
            monkeypatch.setattr(imagecodecs, name, lambda *args, **rest: decoded.append(args))
        with pytest.raises(ReadError, match="says that it has 1000 x 1000 pixels"):
            reader.read(Box(0, 0, 64, 64), (64, 64))
        assert not decoded


@pytest.mark.parametrize(
    ("unit", "resolution", "found"),
    [
        ("um", (1 / 0.373759, 1 / 0.373759), (0.373759, 0.373759)),
        ("micron", (2.0, 4.0), (0.5, 0.25)),
        ("\\u00B5m", (4.0, 4.0), (0.25, 0.25)),  # as ImageJ writes the micro sign
        ("nm", (0.004, 0.004), (0.25, 0.25)),
        ("mm", (4000.0, 4000.0), (0.25, 0.25)),
        ("pixel", (2.0, 2.0), None),
        (None, (2.0, 2.0), None),
    ],
)
def test_imagejs_pixel_size_has_the_unit_of_its_description(tmp_path, unit, resolution, found):
    """TIFF has no unit for micrometres: ImageJ writes one into its description."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "YXS"} | ({"unit": unit} if unit else {})
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=resolution, metadata=metadata)
    with TileReader(path) as reader:
        assert reader.pixel_size == (None if found is None else pytest.approx(found, rel=1e-5))


def test_imagejs_pixel_size_may_have_another_unit_along_y(tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "YXS", "unit": "um", "yunit": "nm"}
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(2.0, 0.002), metadata=metadata)
    with TileReader(path) as reader:
        assert reader.pixel_size == pytest.approx((0.5, 0.5), rel=1e-5)


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_pixels_of_a_tiff_are_not_turned(tmp_path, turn):
    """QuPath shows them as they are stored, whatever the tag Orientation says."""
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS).save(path, tiffinfo={274: turn})
    with TileReader(path) as reader:
        np.testing.assert_array_equal(reader.read(Box(0, 0, 301, 207), (301, 207))[0], PIXELS)


def test_aperio_ycbcr_jpeg2000_is_left_to_openslide(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, compression="jpeg2000")
    set_tag(path, "Compression", 0, 33003)
    with pytest.raises(ReadError, match="APERIO_JP2000_YCBC"):
        TileReader(path)


def test_vendor_layouts_are_left_to_openslide(tmp_path):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", software="Philips DP v1.0", metadata=None,
        description="<?xml version='1.0'?><DataObject></DataObject>",
    )  # fmt: skip
    with pytest.raises(ReadError, match="vendor format 'philips'") as caught:
        TileReader(path)
    assert "openslide" in caught.value.hint


def test_a_huge_strip_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="deflate", rowsperstrip=207)
    with TileReader(path) as reader:
        pixels, _ = reader.read(Box(20, 180, 100, 27), (100, 27))
        np.testing.assert_array_equal(pixels, PIXELS[180:, 20:120])
    monkeypatch.setattr("qupath_bridge.readers.tiff_layout.MAX_SEGMENT_BYTES", 301 * 207 * 3 - 1)
    with pytest.raises(ReadError, match="301 x 207 pixels") as caught:
        TileReader(path)
    assert "tiles" in caught.value.hint


def test_only_smaller_pages_of_the_same_picture_are_levels(tmp_path):
    path = tmp_path / "a.tiff"
    pages = [
        (marker_image(320, 256), {}),
        (marker_image(160, 128), {"subfiletype": 1}),
        (marker_image(80, 128), {"subfiletype": 1}),  # another shape: a label
        (marker_image(80, 64), {}),  # not marked as reduced
        (marker_image(160, 128), {"subfiletype": 1}),  # again
        (marker_image(40, 32), {"subfiletype": 1}),
    ]
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in pages:
            writer.write(pixels, tile=(32, 32), photometric="rgb", metadata=None, **options)
    with TileReader(path) as reader:
        assert [level.width for level in reader.levels] == [320, 160, 40]
        pixels, _ = reader.read(Box(0, 0, 320, 256), (40, 32))
        np.testing.assert_array_equal(pixels, marker_image(40, 32))


def test_the_tile_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("qupath_bridge.readers.tiles.CACHE_BYTES", 3 * 64 * 64 * 3)
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with TileReader(path) as reader:
        for x in (0, 100, 0, 200, 130):
            pixels, _ = reader.read(Box(x, 30, 100, 100), (100, 100))
            np.testing.assert_array_equal(pixels, PIXELS[30:130, x : x + 100])
            assert reader._cache.nbytes <= 3 * 64 * 64 * 3
            kept = reader._cache._tiles
            assert reader._cache.nbytes == sum(tile.nbytes for tile in kept.values())
            assert set(kept) == set(reader._cache._unused)


# ---- what OpenSlide says


def test_openslide_properties():
    key = "openslide.{}".format
    bounds = {key("bounds-x"): "-4", key("bounds-y"): "7", key("bounds-width"): "100"}
    assert openslide_reader._bounds(bounds) is None
    assert openslide_reader._bounds({**bounds, key("bounds-height"): "80"}) == (-4, 7, 100, 80)
    assert openslide_reader._background({key("background-color"): "F0E1d2"}) == (240, 225, 210)
    assert openslide_reader._background({key("background-color"): "pink"}) == (255, 255, 255)
    assert openslide_reader._background({}) == (255, 255, 255)
    sizes = {key("mpp-x"): "28.9", key("mpp-y"): "28.8"}
    assert openslide_reader._pixel_size({**sizes, key("vendor"): "dicom"}) == (28.9, 28.8)
    assert openslide_reader._pixel_size({**sizes, key("vendor"): "generic-tiff"}) is None
    for wrong in ("", "0", "-1", "nan", "inf", "a lot"):
        assert openslide_reader._pixel_size({**sizes, key("mpp-x"): wrong}) is None
