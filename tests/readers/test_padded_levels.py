"""Levels that were filled to whole tiles show the same place as level 0, or are not used."""

import struct

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.dicom import level_spacings
from qupath_bridge.readers.level_sizes import whole_downsamples
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader

TILE = 128
WIDTH, HEIGHT = 1500, 1000
"""No multiple of the tile, nor are its halves: 750 becomes 768, 375 becomes 384."""


def texture(width=WIDTH, height=HEIGHT):
    """Blobs of any colour, 16 pixels wide, which no shift repeats."""
    rng = np.random.default_rng(6)
    shape = (-(-height // 16), -(-width // 16), 3)
    return rng.integers(0, 256, shape, np.uint8).repeat(16, 0).repeat(16, 1)[:height, :width]


def halve(pixels):
    height, width = (side // 2 for side in pixels.shape[:2])
    boxes = pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return boxes.mean((1, 3)).round().astype(np.uint8)


def fill(pixels, tile=TILE):
    height, width = (-(-side // tile) * tile for side in pixels.shape[:2])
    filled = np.full((height, width, 3), 255, np.uint8)
    filled[: pixels.shape[0], : pixels.shape[1]] = pixels
    return filled


def pyramid(base, count):
    levels = [base]
    for _ in range(count - 1):
        levels.append(halve(levels[-1]))
    return levels


def write_tiff(path, base, count=3, *, resolutions=None, fill_first=False, tile=TILE, **options):
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(pyramid(base, count)):
            resolution = None if resolutions is None else (resolutions[number],) * 2
            writer.write(
                fill(level, tile) if number or fill_first else level,
                photometric="rgb", tile=(tile, tile), compression="deflate", metadata=None,
                subfiletype=1 if number else 0, resolution=resolution,
                resolutionunit=None if resolution is None else "CENTIMETER", **options,
            )  # fmt: skip
            options = {name: value for name, value in options.items() if name == "software"}
    return path


def check_places(reader, base, downsamples=(1, 2, 4, 8)):
    """Compare patches at the far corner and in the middle with means of level 0.

    OpenSlide shifts a level by up to a quarter of a pixel where its own number is not whole, so
    edges may differ; another place would differ by 80 on average.
    """
    for d in downsamples:
        side = 64 * d
        for x, y in (
            (WIDTH - side, HEIGHT - side),
            (WIDTH // 2 - side // 2, HEIGHT // 3 - side // 3),
        ):
            box = Box(x // 16 * 16, y // 16 * 16, side, side)
            if box.x < 0 or box.y < 0:
                continue
            found, mask = reader.read(box, (64, 64))
            assert mask is None
            part = base[box.y : box.y + side, box.x : box.x + side].reshape(64, d, 64, d, 3)
            difference = np.abs(found - part.mean((1, 3)))
            assert difference.mean() < 4, (d, box)
            if type(reader) is TileReader:
                assert difference.max() <= 2, (d, box)


def factors(reader):
    return [level.downsample for level in reader.levels]


def test_the_content_tells_the_downsample_of_a_padded_level(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture())
    with openslide.OpenSlide(path) as independent:  # as the sizes say
        assert independent.level_downsamples == (1, pytest.approx(1.953125), pytest.approx(3.90625))
    with OpenSlideReader(path) as reader:
        assert factors(reader) == [1, 2, 4]
        check_places(reader, texture())
    with TileReader(path) as reader:
        assert factors(reader) == [1, 2, 4]
        check_places(reader, texture())


def test_a_padded_level_without_content_is_not_used(tmp_path, caplog):
    base = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    path = write_tiff(tmp_path / "a.tif", base)
    for kind in (OpenSlideReader, TileReader):
        with caplog.at_level("INFO", "qupath_bridge"), kind(path) as reader:
            assert factors(reader) == [1]
            check_places(reader, base)
    assert "level 1 is not used: its downsample is unknown" in caplog.text


def test_a_level_of_another_ratio_is_left_as_it_is_where_its_content_says_so(tmp_path):
    """1536 pixels scaled to 1024: whole tiles, and 1.5 is the truth."""
    base = texture(1536, 1024 + 512)
    small = np.asarray(Image.fromarray(base).resize((1024, 1024), Image.Resampling.BOX))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate((base, small)):
            writer.write(
                level, photometric="rgb", tile=(TILE, TILE), compression="deflate",
                metadata=None, subfiletype=1 if number else 0,
            )  # fmt: skip
    with TileReader(path) as reader:
        assert factors(reader) == [1, 1.5]


def test_the_resolution_of_each_page_tells_the_downsample_without_content(tmp_path):
    base = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    path = write_tiff(tmp_path / "a.tif", base, resolutions=(40_000, 20_000, 10_000))
    with TileReader(path) as reader:
        assert factors(reader) == [1, 2, 4]
    path = write_tiff(tmp_path / "b.tif", base, resolutions=(40_000, 40_000, 40_000))
    with TileReader(path) as reader:
        assert factors(reader) == [1]  # that of level 0, copied


def test_the_resolution_counts_where_the_sizes_have_another_whole_ratio(tmp_path):
    """768 pixels at a downsample of 4 are 192, filled to 256: the sizes say 3."""
    base = texture(768, 768)
    level = fill(halve(halve(base)))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number, (pixels, resolution) in enumerate(((base, 40_000), (level, 10_000))):
            writer.write(
                pixels, photometric="rgb", tile=(TILE, TILE), compression="deflate",
                metadata=None, subfiletype=1 if number else 0,
                resolution=(resolution, resolution), resolutionunit="CENTIMETER",
            )  # fmt: skip
    with TileReader(path) as reader:
        assert factors(reader) == [1, 4]
        found, _ = reader.read(Box(512, 512, 256, 256), (64, 64))
    np.testing.assert_array_equal(found, halve(halve(base))[128:, 128:])


def test_a_level_filled_by_a_pixel_has_the_whole_downsample(tmp_path):
    base = texture(766, 766)  # 383 pixels, filled to 384
    path = write_tiff(tmp_path / "a.tif", base, 2)
    with TileReader(path) as reader:
        assert factors(reader) == [1, 2]


PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
    '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" '
    'PMSVR="IDataObjectArray"><Array><DataObject ObjectType="DPScannedImage">'
    '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI'
    '</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" '
    'Element="0x8B01" PMSVR="IDataObjectArray"><Array>{}</Array></Attribute></DataObject>'
    "</Array></Attribute></DataObject>"
)
PHILIPS_LEVEL = (
    '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" '
    'Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">&quot;{0:.9f}&quot; &quot;{0:.9f}&quot;'
    "</Attribute></DataObject>"
)


@pytest.mark.parametrize("spacing", [0.00025, 0.000227273])
def test_levels_of_a_philips_slide_show_the_place_of_level_0(tmp_path, spacing):
    """OpenSlide takes the downsamples from the pixel spacing in the file's XML, and cuts levels."""
    texts = (PHILIPS_LEVEL.format(round(spacing * 2**i, 8 if i else 9)) for i in range(4))
    path = write_tiff(
        tmp_path / "a.tiff", texture(), 4, fill_first=True, tile=256,
        description=PHILIPS.format("".join(texts)), software="Philips DP v1.0",
    )  # fmt: skip
    with open_reader(path) as reader:
        assert type(reader) is OpenSlideReader
        assert reader.size == (1536, 1024)
        assert whole_downsamples(reader) == (1, 2, 4, 8)
        check_places(reader, texture())


def test_levels_of_a_dicom_slide_show_the_place_of_level_0(tmp_path):
    """OpenSlide takes the sizes: 1.95 instead of 2."""
    from tests.support.dicom_slides import write_level

    for number, level in enumerate(pyramid(texture(), 3)):
        pixels = fill(level) if number else level
        write_level(tmp_path / f"{number}.dcm", pixels, 0.00025 * 2**number, number + 1, TILE)
    with openslide.OpenSlide(tmp_path / "0.dcm") as independent:
        assert independent.level_downsamples[1] == pytest.approx(1.953, abs=1e-3)
    for number in range(3):  # whichever file of the slide is opened
        with open_reader(tmp_path / f"{number}.dcm") as reader:
            assert factors(reader) == [1, 2, 4]
            check_places(reader, texture())


def test_the_spacing_of_a_dicom_slide_tells_the_downsample_without_content(tmp_path):
    from tests.support.dicom_slides import write_level

    for stated in (True, False):
        folder = tmp_path / str(stated)
        folder.mkdir()
        for number, level in enumerate(pyramid(np.full((HEIGHT, WIDTH, 3), 240, np.uint8), 3)):
            pixels = fill(level) if number else level
            spacing = 0.00025 * 2**number if stated else 0.00025
            write_level(folder / f"{number}.dcm", pixels, spacing, number + 1, TILE)
        with open_reader(folder / "0.dcm") as reader:
            assert factors(reader) == ([1, 2, 4] if stated else [1])


def dicom_file(series, columns, rows, spacing):
    """The elements of a DICOM file that tell its spacing, and some that do not."""

    def element(group, number, kind, value):
        long = kind in ("SQ", "OB")
        length = struct.pack("<2xI" if long else "<H", len(value))
        return struct.pack("<HH", group, number) + kind.encode() + length + value

    return (
        bytes(128) + b"DICM"
        + element(0x20, 0x0E, "UI", series)
        + element(0x48, 0x06, "UL", struct.pack("<I", columns))
        + element(0x48, 0x07, "UL", struct.pack("<I", rows))
        + element(0x28, 0x2000, "OB", bytes(100_000))
        + element(0x5200, 0x9229, "SQ", element(0x28, 0x30, "DS", spacing))
    )  # fmt: skip


def test_the_spacing_of_dicom_files_is_found_behind_a_colour_profile(tmp_path):
    for name, values in {
        "a": (b"1.2.3 ", 1000, 800, rb"0.0005\0.00025"),  # rows first: that is y
        "b": (b"1.2.3 ", 500, 400, rb"0.001\0.0005 "),
        "c": (b"1.2.3 ", 256, 256, rb"0.002\0.002 "),
        "d": (b"1.2.3 ", 256, 256, rb"0.004\0.004 "),
        "e": (b"1.2.3 ", 90, 90, b"none"),
        "f": (b"1.2.3 ", 80, 80, rb"0\0.5 "),
        "g": (b"1.2.4 ", 70, 70, rb"0.004\0.004 "),
    }.items():
        (tmp_path / f"{name}.dcm").write_bytes(dicom_file(*values))
    found = level_spacings(tmp_path / "a.dcm")
    assert found == {(1000, 800): (0.00025, 0.0005), (500, 400): (0.0005, 0.001)}
