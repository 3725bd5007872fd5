"""Files of pixels with channels: what other programs read in them."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tifffile
from PIL import Image

from qupath_bridge.codecs import Contents, decode, get_encoder
from qupath_bridge.errors import ReadError, UsageError

OME = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
NAMES = ("DAPI", 'CD3 <µm> & "x"', "Größe 日本", "PD-1")


def values(shape, dtype):
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


def encoded(name, pixels, mpp=0.5, names=NAMES):
    contents = Contents(names[: pixels.shape[-1]], str(pixels.dtype), mpp)
    return get_encoder(name, contents=contents).encode(pixels), contents


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ome_tiff_is_read_by_tifffile(dtype, count):
    pixels = values((30, 41, count), dtype)
    data, _ = encoded("ome-tiff", pixels)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.is_ome
        (series,) = file.series
        assert series.axes == ("YX" if count == 1 else "CYX")
        assert np.array_equal(series.asarray().reshape(count, 30, 41), pixels.transpose(2, 0, 1))
        assert {page.compression.name for page in file.pages} == {"ADOBE_DEFLATE"}
        assert len(file.pages) == count


def described(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return ET.fromstring(file.ome_metadata)


def test_ome_tiff_has_names_size_and_type():
    data, _ = encoded("ome-tiff", values((30, 41, 4), "uint16"), mpp=0.2525)
    pixels = described(data).find("ome:Image/ome:Pixels", OME)
    assert [channel.get("Name") for channel in pixels.findall("ome:Channel", OME)] == [*NAMES]
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")) == ("0.2525", "0.2525")
    assert (pixels.get("PhysicalSizeXUnit"), pixels.get("PhysicalSizeYUnit")) == ("µm", "µm")
    assert (pixels.get("Type"), pixels.get("SizeC"), pixels.get("SizeX")) == ("uint16", "4", "41")


COLORS = ((0, 96, 255), (255, 128, 1), (255, 255, 255), (7, 8, 9))


def test_ome_tiff_has_the_colours_of_channels():
    contents = Contents(NAMES, "uint16", colors=COLORS)
    data = get_encoder("ome-tiff", contents=contents).encode(values((3, 4, 4), "uint16"))
    channels = described(data).findall("ome:Image/ome:Pixels/ome:Channel", OME)
    packed = [int(channel.get("Color")) % (1 << 32) for channel in channels]
    found = [(color >> 24, color >> 16 & 255, color >> 8 & 255, color & 255) for color in packed]
    assert found == [(*color, 255) for color in COLORS]


def test_tiff_has_tables_of_the_colours_of_channels():
    contents = Contents(NAMES, "uint16", colors=COLORS)
    data = get_encoder("tiff", contents=contents).encode(values((3, 4, 4), "uint16"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tables = file.imagej_metadata["LUTs"]
    assert [tuple(table[:, 255].tolist()) for table in tables] == [*COLORS]
    assert all((table[:, 0] == 0).all() for table in tables)
    assert tables[2][0].tolist() == [*range(256)]


def test_ome_tiff_without_pixel_size_says_none():
    data, _ = encoded("ome-tiff", values((3, 4, 2), "uint16"), mpp=None)
    assert described(data).find("ome:Image/ome:Pixels", OME).get("PhysicalSizeX") is None


def test_ome_tiff_of_rgb_is_one_page_of_colours():
    pixels = values((30, 41, 3), "uint8")
    data = get_encoder("ome-tiff").encode(pixels)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].photometric.name == "RGB"
        assert np.array_equal(file.asarray(), pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_ome_tiff_has_an_id_that_follows_from_its_pixels():
    pixels = values((6, 5, 2), "uint16")
    ids = {described(encoded("ome-tiff", each)[0]).get("UUID") for each in (pixels, pixels.copy())}
    other = described(encoded("ome-tiff", pixels + 1)[0]).get("UUID")
    assert len(ids) == 1
    assert other not in ids


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_tiff_of_channels_is_read_by_tifffile(dtype, count):
    pixels = values((30, 41, count), dtype)
    data, _ = encoded("tiff", pixels)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.is_imagej
        assert file.series[0].axes == ("YX" if count == 1 else "CYX")
        assert np.array_equal(file.asarray().reshape(count, 30, 41), pixels.transpose(2, 0, 1))
        labels = file.imagej_metadata["Labels"]
        assert ([labels] if count == 1 else labels) == [*NAMES[:count]]
        assert (file.imagej_metadata["channels"], file.imagej_metadata["unit"]) == (count, "micron")
        numerator, denominator = file.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(2)


def test_floating_point_has_no_predictor():
    for dtype, predictor in (("float32", 1), ("float64", 1), ("uint16", 2), ("int32", 2)):
        data, _ = encoded("ome-tiff", values((9, 9, 2), dtype))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert file.pages[0].predictor == predictor


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_npy_is_read_by_numpy(dtype):
    pixels = values((30, 41, 4), dtype)
    data, _ = encoded("npy", pixels[:, ::-1])
    assert np.array_equal(np.load(io.BytesIO(data)), pixels[:, ::-1])


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_one_channel_of_8_bit_is_a_grey_picture(name):
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    pixels = (x * 3 + y).astype(np.uint8)[..., None]
    data, contents = encoded(name, pixels)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "L"
    assert np.abs(np.asarray(picture).astype(int) - pixels[..., 0]).max() <= (name == "jpeg") * 4
    found = decode(data, (64, 48), contents)
    assert found.shape == (48, 64, 1)


@pytest.mark.parametrize(
    ("name", "count", "dtype"),
    [("png", 2, "uint8"), ("png", 1, "uint16"), ("jpeg", 4, "uint8"), ("webp", 1, "uint8"),
     ("jxl", 3, "float32")],
)  # fmt: skip
def test_pictures_of_other_pixels_are_refused_with_what_to_use(name, count, dtype):
    with pytest.raises(UsageError, match=f"files hold .* channels of uint8, not {count} ") as error:
        get_encoder(name, contents=Contents(NAMES[:count], dtype))
    assert "ome-tiff" in error.value.hint
    assert "composite" in error.value.hint


CHANNELS = ("tiff", "ome-tiff", "npy")


@pytest.mark.parametrize("name", CHANNELS)
def test_files_of_other_contents_are_refused(name):
    data, _ = encoded(name, values((30, 41, 3), "uint16"))
    for count, dtype in ((2, "uint16"), (4, "uint16"), (3, "int16"), (3, "uint32"), (1, "uint8")):
        with pytest.raises(ReadError, match=r"not \d channels? of"):
            decode(data, (41, 30), Contents(NAMES[:count], dtype))
    with pytest.raises(ReadError, match="41 x 30 pixels, not 30 x 41"):
        decode(data, (30, 41), Contents(NAMES[:3], "uint16"))


@pytest.mark.parametrize("name", CHANNELS)
def test_files_that_were_cut_off_or_changed_are_refused(name):
    pixels = values((30, 41, 3), "uint16")
    data, contents = encoded(name, pixels)
    for end in (0, 1, 8, 100, len(data) // 2, len(data) - 30):
        with pytest.raises(ReadError):
            decode(data[:end], (41, 30), contents)
    rng = np.random.default_rng(8)
    for _ in range(150):
        spoiled = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 3):
            spoiled[place] = rng.integers(256)
        try:
            found = decode(bytes(spoiled), (41, 30), contents)
        except ReadError:
            continue
        assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_huge_picture_is_refused_before_its_pixels_fill_the_memory(name, monkeypatch):
    data, contents = encoded(name, values((30, 41, 3), "uint16"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ReadError, match="41 x 30 pixels exceed the limit of 1000"):
        decode(data, None, contents)
