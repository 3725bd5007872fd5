"""JPEG tiles of the slide file that are patches as they stand."""

import io

import imagecodecs
import numpy as np
import openslide
import pytest
import shapely
import tifffile
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.testing.projects import Image, build_project, rotated

TILE = 128
WIDTH, HEIGHT = 5 * TILE + 40, 4 * TILE + 60


def encoded_tiles(image, space, *, jfif):
    """Yield the tiles of an image as JPEG data, with a marker of their colours or without."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % TILE), (0, -width % TILE), (0, 0)))
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            data = imagecodecs.jpeg8_encode(
                np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]),
                level=70,
                colorspace="RGB",
                outcolorspace=space,
                subsampling="420" if space == "ycbcr" else "444",
            )
            yield data if jfif else without_markers(data)


def without_markers(data):
    """Return JPEG data without the markers of JFIF and Adobe."""
    place, kept = 2, [data[:2]]
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] not in {0xE0, 0xEE}:
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


@pytest.fixture(params=["ycbcr", "rgb", "jfif"])
def slide(request, tmp_path):
    """A slide of JPEG tiles of 128 pixels with a half level, and odd edges."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(1).integers(0, 40, (HEIGHT, WIDTH))
    pixels = np.stack([x % 200 + noise, y % 200 + noise, (x + y) % 150 + noise], -1)
    pixels = pixels.astype(np.uint8)
    path = tmp_path / "slide.tiff"
    space = "rgb" if request.param == "rgb" else "ycbcr"
    with tifffile.TiffWriter(path) as file:
        for level, image in enumerate((pixels, pixels[::2, ::2])):
            file.write(
                encoded_tiles(image, space, jfif=request.param == "jfif"),
                shape=image.shape,
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="jpeg",
                photometric=space,
                subsampling=(2, 2) if space == "ycbcr" else None,
                subfiletype=level,
            )
    return path


def export(slide, out, *, wrappers=(), pixel_size=None, **options):
    """Export a project of the slide with tiles passed through."""
    whole = shapely.box(0, 0, WIDTH, HEIGHT)
    folder = out.parent / f"{out.name}-project"
    image = Image(slide, [("Tumor", whole)], wrappers=wrappers, pixel_size=pixel_size)
    build_project(folder, [image])
    config = qb.ExportConfig(
        **{"size": TILE, "format": "jpeg", "passthrough": "auto", "min_share": 0.1, **options}
    )
    return qb.export(folder, out, config)


def tiles_of(slide, level=0):
    """Return the data of each tile of a level, without the end of the image."""
    with tifffile.TiffFile(slide) as file:
        page = file.pages[level]
        data = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            data.append(file.filehandle.read(count))
        return data


def is_passed(payload, tiles):
    """Return whether the scan of a file is that of one of the tiles."""
    scans = [data[data.index(b"\xff\xda") : data.rindex(b"\xff\xd9")] for data in tiles]
    return any(scan in payload for scan in scans)


def decoded(payload):
    """Return the pixels as two libraries decode them; they must agree."""
    pillow = np.asarray(Picture.open(io.BytesIO(payload)).convert("RGB"))
    assert np.array_equal(pillow, imagecodecs.jpeg8_decode(payload))
    return pillow


def test_patches_that_are_tiles_have_their_bytes_and_pixels(slide, tmp_path):
    """To the bit, as OpenSlide decodes the tile; patches at the edge are encoded."""
    run = export(slide, tmp_path / "out", edge="pad")
    rows, tiles = run.table().to_pylist(), tiles_of(slide)
    assert len(rows) == 6 * 5
    passed = 0
    with openslide.OpenSlide(slide) as opened:
        for row in rows:
            payload = (tmp_path / "out" / row["path"]).read_bytes()
            inside = row["x_slide"] + TILE <= WIDTH and row["y_slide"] + TILE <= HEIGHT
            assert is_passed(payload, tiles) == inside
            if inside:
                passed += 1
                place = row["x_slide"], row["y_slide"]
                expected = opened.read_region(place, 0, (TILE, TILE)).convert("RGB")
                assert np.array_equal(decoded(payload), expected)
    assert passed == 5 * 4
    assert qb.verify(tmp_path / "out").ok


def test_tiles_of_a_lower_level_are_passed_where_it_is_native(slide, tmp_path):
    """The level that is read, not always the first."""
    run = export(slide, tmp_path / "out", pixel_size=0.25, mpp=0.5, min_share=0.5)
    rows, tiles = run.table().to_pylist(), tiles_of(slide, 1)
    assert {row["read_level"] for row in rows} == {1}
    assert len(rows) == 2 * 2
    for row in rows:
        payload = (tmp_path / "out" / row["path"]).read_bytes()
        assert is_passed(payload, tiles)
    assert qb.verify(tmp_path / "out").ok


@pytest.mark.parametrize(
    "options",
    [
        {"passthrough": "never"},
        {"origin": (1, 0)},
        {"size": TILE * 2},
        {"qc_min": {"saturation": 0.0}},
    ],
    ids=str,
)
def test_other_patches_are_encoded(slide, tmp_path, options):
    """Where they were not asked for, do not lie on tiles, are larger, or are judged."""
    run = export(slide, tmp_path / "out", **options)
    tiles = tiles_of(slide)
    assert run.written
    for row in run.table().to_pylist():
        assert not is_passed((tmp_path / "out" / row["path"]).read_bytes(), tiles)


def test_turned_slides_are_encoded(slide, tmp_path):
    """QuPath shows a tile in another direction than the file has it."""
    run = export(slide, tmp_path / "out", wrappers=[rotated(180)])
    tiles = tiles_of(slide)
    for row in run.table().to_pylist():
        assert not is_passed((tmp_path / "out" / row["path"]).read_bytes(), tiles)
    assert qb.verify(tmp_path / "out").ok
