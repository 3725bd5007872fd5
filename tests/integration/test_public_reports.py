"""What went wrong for people elsewhere, by their public reports, on files made like theirs."""

import struct
import unicodedata
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow.csv
import pytest
import shapely
import tifffile
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import ConfigError
from qupath_bridge.model import ObjectType, TmaGrid
from qupath_bridge.testing.projects import Image, Region, build_project, rotated
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.dicom import write_dicom

BIO_FORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"
IMAGE_IO = "qupath.lib.images.servers.imageio.ImageIoImageServerBuilder"
IMAGEJ = "qupath.imagej.images.servers.ImageJServerBuilder"


def whole(pixels, class_path="Tumor"):
    """A region of the size of the image."""
    return [(class_path, shapely.box(0, 0, pixels.shape[1], pixels.shape[0]))]


def export(project, out, entry=(), **config):
    return qb.export(
        project,
        out,
        qb.ExportConfig(**config),
        selection=qb.Selection(entry=(entry,) if isinstance(entry, str) else entry),
        provenance=False,
    )


def patches(run):
    """Each row of the index with the picture that it names."""
    for row in run.table().to_pylist():
        yield row, np.asarray(Picture.open(run.out / row["path"]).convert("RGB"))


def assert_patches_are_cut_from(pixels, run, count):
    """Every patch is that part of the pixels, white where there are none."""
    assert not run.failures
    found = 0
    for row, patch in patches(run):
        height, width = patch.shape[:2]
        part = pixels[row["y_qupath"] :, row["x_qupath"] :][:height, :width]
        expected = np.full_like(patch, 255)
        expected[: part.shape[0], : part.shape[1]] = part
        np.testing.assert_array_equal(patch, expected)
        found += 1
    assert found == count


def pixel_sizes(project):
    (inspection,) = qb.inspect(project)
    return {
        slide["name"]: slide["pixel_size"] and (slide["pixel_size"]["x"], slide["pixel_size"]["y"])
        for slide in inspection.slides
    }


def half(pixels):
    """Means of 2 x 2 pixels."""
    height, width = (n // 2 * 2 for n in pixels.shape[:2])
    parts = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return ((parts.astype(np.uint16).sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def test_resolution_in_centimetres(tmp_path):
    """https://github.com/John-P/wsic/issues/73: the unit was compared with 'cm'."""
    pixels = marker_image(1024, 768)
    resolutions = {
        "cm": (40_000, "CENTIMETER", 0.25),
        "inch": (101_600, "INCH", 0.25),
        "fraction": ((400_000, 16), "CENTIMETER", 0.4),
        "per mm, called cm": (4000, "CENTIMETER", 2.5),
        "no unit": (40_000, "NONE", None),
        "screen": (72, "INCH", None),
        "zero": ((0, 1), "CENTIMETER", None),
        "big-endian": (40_000, "CENTIMETER", 0.25),
    }
    images = []
    for name, (resolution, unit, _) in resolutions.items():
        order = {"byteorder": ">", "bigtiff": True} if name == "big-endian" else {}
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            pixels,
            tile=(256, 256),
            photometric="rgb",
            compression="lzw",
            resolution=(resolution, resolution),
            resolutionunit=unit,
            software=False,
            metadata=None,
            **order,
        )
        images.append(Image(tmp_path / f"{name}.tif", whole(pixels), name=name, pixel_size=None))
    project = build_project(tmp_path / "project", images)
    sizes = pixel_sizes(project)
    assert {name: size and size[0] for name, size in sizes.items()} == {
        name: pytest.approx(mpp) if mpp else None for name, (_, _, mpp) in resolutions.items()
    }
    run = export(project, tmp_path / "half", "cm", mpp=0.5, size=128)
    rows = run.table().to_pylist()
    assert {(row["w_qupath"], row["h_qupath"], row["mpp"]) for row in rows} == {(256, 256, 0.5)}
    assert len(rows) == 4 * 3
    (failure,) = export(project, tmp_path / "none", "no unit", mpp=0.5, size=128).failures
    assert "pixel size" in failure.error
    assert "pixel" in failure.hint


@pytest.mark.parametrize("compression", ["jpeg", "lzw"])
@pytest.mark.parametrize("user", [b"J\xf6rg \xb5", "Jörg µ".encode(), b"Joerg"])
def test_svs_description_in_any_encoding(tmp_path, user, compression):
    """https://github.com/Bayer-Group/tiffslide/issues/65: no SVS for a letter outside ASCII."""
    pixels = marker_image(1200, 900)
    text = (
        b"Aperio Image Library v12.0.15 \r\n1200x900 [0,0 1200x900] (256x256) JPEG/RGB Q=90"
        b"|AppMag = 40|User = " + user + b"|MPP = 0.2498|OriginalWidth = 1200"
    )
    colours = {"photometric": "ycbcr" if compression == "jpeg" else "rgb"}
    common = {"compression": compression, "software": False, "metadata": None, **colours}
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        file.write(pixels, tile=(256, 256), description=text, **common)
        file.write(pixels[::2, ::2].copy(), rowsperstrip=16, description=text, **common)
        file.write(pixels[::4, ::4].copy(), tile=(256, 256), description=text, **common)
    project = build_project(
        tmp_path / "project", [Image(tmp_path / "a.svs", whole(pixels), pixel_size=None)]
    )
    assert pixel_sizes(project) == {"a.svs": (0.2498, 0.2498)}
    run = export(project, tmp_path / "at 20x", magnification=20, size=128)
    assert [row["w_qupath"] for row in run.table().to_pylist()] == [256] * 12
    if compression == "lzw":
        assert_patches_are_cut_from(pixels, export(project, tmp_path / "out", size=256), 12)


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("hole", [False, True])
def test_transparent_pixels_are_white(tmp_path, hole, ome):
    """https://github.com/ome/bioformats/pull/4059: images with alpha looked grey."""
    pixels = marker_image(800, 600)
    stored = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    if hole:
        stored[:, 400:] = 0
        pixels[:, 400:] = 255
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(
        path,
        stored,
        tile=(256, 256),
        photometric="rgb",
        extrasamples=["unassalpha"],
        compression="deflate",
        metadata={"axes": "YXS"} if ome else None,
    )
    image = Image(path, whole(pixels), size=(800, 600), provider=None)
    project = build_project(tmp_path / "project", [image])
    assert_patches_are_cut_from(pixels, export(project, tmp_path / "out", size=200), 12)


LOSSLESS = {
    "none": {},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate", "predictor": True},
    "zstd": {"compression": "zstd", "predictor": True},
    "webp": {"compression": "webp", "compressionargs": {"level": 100, "lossless": True}},
    "jpeg2000": {"compression": "jpeg2000"},
    "jpegxr": {"compression": "jpegxr"},
    "png": {"compression": "png"},
    "packbits": {"compression": "packbits"},
    "lzma": {"compression": "lzma"},
    "jpegxl": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "tiles of 512": {"compression": "zstd", "tile": (512, 512)},
    "tiles of 240": {"compression": "lzw", "tile": (240, 240)},
    "wide tiles": {"compression": "lzw", "tile": (128, 512)},
    "big": {"compression": "lzw", "bigtiff": True},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_pyramid_of_any_compression(tmp_path, kind):
    """https://github.com/openslide/openslide/issues/416: WebP pyramids could not be opened."""
    pixels = marker_image(1300, 900)
    common = {"photometric": "rgb", "metadata": None, "software": False, "tile": (256, 256)}
    options = dict(LOSSLESS[kind])
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=options.pop("bigtiff", False)) as file:
        file.write(pixels, **(common | options))
        file.write(half(pixels), subfiletype=1, **(common | options))
    image = Image(tmp_path / "a.tif", whole(pixels), size=(1300, 900))
    project = build_project(tmp_path / "project", [image])
    run = export(project, tmp_path / "out", size=224, edge="pad")
    # The fifth row has 4 of 224 pixels in the region, too few for a label.
    assert_patches_are_cut_from(pixels, run, 24)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("rows", [1, 7, 64, 800])
def test_strips(tmp_path, rows, compression):
    """https://github.com/openslide/openslide-python/issues/153: only tiles were read."""
    pixels = marker_image(1100, 800)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        rowsperstrip=rows,
        compression=compression,
        photometric="rgb",
        metadata=None,
    )
    image = Image(tmp_path / "a.tif", whole(pixels), size=(1100, 800), provider=None)
    project = build_project(tmp_path / "project", [image])
    assert_patches_are_cut_from(pixels, export(project, tmp_path / "out", size=256), 12)


def write_huge_strip(path, width, height, compression, count):
    """Write a file of one strip of zeros, which takes no room on the disk."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8 + 2 + 12 * 10 + 4),  # bits per sample, after the directory
        (259, 3, 1, compression),
        (262, 3, 1, 2),
        (273, 4, 1, 1000),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, count),
        (284, 3, 1, 1),
    ]
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries)))
        file.writelines(struct.pack("<HHII", *entry) for entry in entries)
        file.write(struct.pack("<IHHH", 0, 8, 8, 8))
        file.truncate(1000 + count)  # sparse


def test_one_huge_strip_is_refused_with_what_to_do_if_it_is_compressed(tmp_path):
    width = height = 22_000
    write_huge_strip(tmp_path / "huge.tif", width, height, 8, 1_000_000)
    image = Image(tmp_path / "huge.tif", size=(width, height), provider=None)
    project = build_project(tmp_path / "project", [image])
    (failure,) = export(project, tmp_path / "out", size=256, labels=False).failures
    assert "tile" in failure.hint


def test_one_huge_strip_of_plain_values_is_read_by_rows(tmp_path):
    width = height = 22_000
    path = tmp_path / "huge.tif"
    write_huge_strip(path, width, height, 1, width * height * 3)
    marker = marker_image(64, 48)
    with path.open("r+b") as file:
        for y, row in enumerate(marker, 21_900):
            file.seek(1000 + (y * width + 9_000) * 3)
            file.write(row.tobytes())
    with qb.open_reader(path) as reader:
        pixels, mask = reader.read(qb.Box(9_000, 21_900, 64, 48), (64, 48))
    assert mask is None
    np.testing.assert_array_equal(pixels, marker)


@pytest.fixture
def dicom_series(tmp_path):
    """Three levels, a label and an overview."""
    pixels = marker_image(1536, 1024)
    (tmp_path / "series").mkdir()
    series = "1.2.826.0.1.3680043.8.498.1.1"
    files = [
        (pixels, 0.25, {}),
        (half(pixels), 0.5, {}),
        (half(half(pixels)), 1, {}),
        (pixels[:300, :200], 10, {"kind": "LABEL", "tile": 304}),
        (pixels[:200, :600], 10, {"kind": "OVERVIEW", "tile": 608}),
    ]
    for number, (level, mpp, options) in enumerate(files, 1):
        path = tmp_path / "series" / f"{number:04}.dcm"
        write_dicom(path, level, (mpp, mpp), series, number=number, **options)
    return pixels


def test_dicom_series_is_one_slide_whichever_file_is_named(tmp_path, dicom_series):
    """https://github.com/qupath/qupath/issues/1397: each file of a slide came in as an image."""
    pixels, folder = dicom_series, tmp_path / "series"
    parts = {"provider": BIO_FORMATS, "args": ["--series", "0"]}
    images = [
        Image(folder / "0001.dcm", whole(pixels), "first", (1536, 1024), 0.25),
        Image(folder / "0002.dcm", whole(pixels), "second", (1536, 1024), 0.25),
        # As Bio-Formats shows them in QuPath: every file an image.
        Image(folder / "0002.dcm", whole(half(pixels)), name="level", size=(768, 512), **parts),
        Image(folder / "0004.dcm", whole(pixels), name="label", size=(200, 300), **parts),
    ]
    project = build_project(tmp_path / "project", images)
    for name in ("first", "second"):
        assert_patches_are_cut_from(pixels, export(project, tmp_path / name, name, size=256), 24)
    run = export(project, tmp_path / "half", "first", size=256, mpp=0.5)
    assert [row["read_level"] for row in run.table().to_pylist()] == [1] * 6
    for name, (width, height) in (("level", ("768", "512")), ("label", ("200", "300"))):
        (failure,) = export(project, tmp_path / name, name, size=128).failures
        assert width in failure.error
        assert height in failure.error


def test_dicom_run_is_stale_when_another_file_of_the_series_changes(tmp_path, dicom_series):
    image = Image(tmp_path / "series" / "0002.dcm", whole(dicom_series), size=(1536, 1024))
    project = build_project(tmp_path / "project", [image])
    out = tmp_path / "out"
    run = qb.export(project, out, qb.ExportConfig(size=256))
    assert [state.state for state in qb.status(project)] == ["current"]
    first = tmp_path / "series" / "0001.dcm"
    content = bytearray(first.read_bytes())
    content[-100_000:] = bytes(100_000)
    first.write_bytes(content)
    assert [(state.run_id, state.state) for state in qb.status(project)] == [(run.run_id, "stale")]
    assert not qb.verify(out).ok


@pytest.mark.parametrize("stated", ["tag", "xml", "dicom", "project"])
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square(tmp_path, stated, turned):
    """https://github.com/Bayer-Group/tiffslide/pull/81: row spacing was taken for x."""
    pixels = marker_image(1536, 1024)
    options = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
    path = tmp_path / {"xml": "a.ome.tif", "dicom": "a.dcm"}.get(stated, "a.tif")
    if stated == "dicom":
        write_dicom(path, pixels, (0.25, 0.5), "1.2.826.0.1.3680043.8.498.2.1")
    elif stated == "xml":
        units = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
        units |= {"PhysicalSizeY": 0.0005, "PhysicalSizeYUnit": "mm"}
        tifffile.imwrite(path, pixels, metadata={"axes": "YXS", **units}, **options)
    elif stated == "tag":
        options |= {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(path, pixels, metadata=None, **options)
    else:
        tifffile.imwrite(path, pixels, metadata=None, **options)
    shown = np.rot90(pixels, -1) if turned else pixels
    image = Image(
        path,
        whole(shown),
        size=(1536, 1024),
        pixel_size=(0.25, 0.5) if stated == "project" else None,
        wrappers=[rotated(90)] if turned else [],
    )
    project = build_project(tmp_path / "project", [image])
    run = export(project, tmp_path / "out", size=128, mpp=1.0)
    # Four pixels of 0.25 µm and two of 0.5 µm are 1 µm.
    across, down = (2, 4) if turned else (4, 2)
    rows = 0
    for row, patch in patches(run):
        assert (row["w_qupath"], row["h_qupath"]) == (128 * across, 128 * down)
        assert row["mpp"] == pytest.approx(1)
        box = shown[row["y_qupath"] :, row["x_qupath"] :][: 128 * down, : 128 * across]
        means = box.reshape(128, down, 128, across, 3).mean(axis=(1, 3))
        assert np.abs(means - patch).max() <= 0.51
        rows += 1
    assert rows == 12


@pytest.mark.parametrize("edge", ["drop", "pad"])
@pytest.mark.parametrize("stride", [100, 128, 256, 300])
def test_no_box_is_wholly_outside(tmp_path, stride, edge):
    """https://github.com/TissueImageAnalytics/tiatoolbox/issues/710: boxes beyond the slide."""
    size, width, height, tile = 256, 43_668, 14_634, 2048
    empty = imagecodecs.zlib_encode(bytes(tile * tile * 3))
    tiles = [empty] * (-(-width // tile) * -(-height // tile))
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter(tiles),
        shape=(height, width, 3),
        dtype="uint8",
        tile=(tile, tile),
        photometric="rgb",
        compression="deflate",
        metadata=None,
    )
    project = build_project(tmp_path / "project", [Image(tmp_path / "a.tif")])
    config = qb.ExportConfig(size=size, stride=stride, edge=edge, labels=False)
    with qb.open_project(project) as opened:
        (plan,) = qb.plan(opened, config)

    def starts(length):
        return [x for x in range(0, length, stride) if edge == "pad" or x + size <= length]

    boxes = plan.table.boxes
    expected = [(x, y, size, size) for y in starts(height) for x in starts(width)]
    assert boxes.tolist() == [list(box) for box in expected]


def test_a_resolution_between_levels_is_read_in_place(tmp_path):
    """https://github.com/clemsgrs/hs2p/issues/13: patches came at the wrong spacing.

    The colour of each pixel tells where it is from.
    """
    width, height = 4100, 3300

    def picture(scale):
        x = (np.arange(width // scale) + 0.5) * scale / width * 255
        y = (np.arange(height // scale) + 0.5) * scale / height * 255
        x, y = np.meshgrid(x, y)
        return np.stack([x, y, np.full_like(x, 128)], axis=-1).round().astype(np.uint8)

    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for scale, spacing in ((1, 0.228), (4, 0.911), (16, 3.643)):
            file.write(
                picture(scale),
                tile=(256, 256),
                photometric="rgb",
                compression="deflate",
                metadata=None,
                subfiletype=scale > 1,
                resolution=(1e4 / spacing, 1e4 / spacing),
                resolutionunit="CENTIMETER",
            )
    image = Image(tmp_path / "a.tif", size=(width, height), pixel_size=0.228)
    project = build_project(tmp_path / "project", [image])
    for size, mpp, level in (
        (256, 0.5, 0),
        (256, 1.0, 1),
        (224, 0.86, 0),
        (64, 3.8, 2),
        (64, 2.0, 1),
    ):
        run = export(project, tmp_path / f"{mpp}", size=size, mpp=mpp, labels=False)
        box = int(size * mpp / 0.228 + 0.5)
        assert run.written == (width // box) * (height // box)
        place = (np.arange(size) + 0.5) * box / size
        for row, patch in patches(run):
            assert (row["w_qupath"], row["h_qupath"], row["read_level"]) == (box, box, level)
            assert row["mpp"] == pytest.approx(box * 0.228 / size)
            x, y = ((row[f"{axis}_qupath"] + place) * 255 for axis in "xy")
            assert np.abs(patch[..., 0] - x[None] / width).max() < 1.3
            assert np.abs(patch[..., 1] - y[:, None] / height).max() < 1.3
    (failure,) = export(project, tmp_path / "finer", size=256, mpp=0.2, labels=False).failures
    assert "0.228" in failure.error


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_plain_pictures(tmp_path, suffix):
    """https://github.com/TissueImageAnalytics/tiatoolbox/issues/872: regions that are pictures."""
    pixels = marker_image(900, 700)
    path = tmp_path / f"roi.{suffix}"
    Picture.fromarray(pixels).save(path, quality=95)
    pixels = np.asarray(Picture.open(path))
    image = Image(path, whole(pixels), size=(900, 700), pixel_size=None, provider=IMAGE_IO)
    project = build_project(tmp_path / "project", [image])
    assert_patches_are_cut_from(pixels, export(project, tmp_path / "out", size=112), 48)


def test_renamed_entries_have_their_new_name(tmp_path):
    """https://github.com/qupath/qupath/issues/593: files had the name of before."""
    pixels = marker_image(512, 512)
    for k in (1, 2, 3):
        write_slide(tmp_path / f"scan_{k}.tif", pixels, mpp=0.5)

    images = [
        Image(tmp_path / f"scan_{k}.tif", whole(pixels, f"C{k}"), name=name)
        for k, name in enumerate(["Case A - H&E", "Case B", "1"], 1)
    ]
    project = build_project(tmp_path / "project", images)
    run = export(project, tmp_path / "out", size=256)
    names = {(row["entry_id"], row["slide_name"], row["label"]) for row in run.table().to_pylist()}
    assert names == {("1", "Case A - H&E", "C1"), ("2", "Case B", "C2"), ("3", "1", "C3")}
    for pattern, entry_id in (("Case B", "2"), ("Case A*", "1"), ("3", "3")):
        found = export(project, tmp_path / f"only {entry_id}", pattern, size=256)
        assert [slide["entry_id"] for slide in found] == [entry_id]
    with pytest.raises(ConfigError):
        export(project, tmp_path / "old name", "scan_2.tif", size=256)
    project.write_text(project.read_text().replace("Case B", "Case B (recut)"))
    run = qb.export(project, tmp_path / "out", qb.ExportConfig(size=256), update=True)
    named = {row["slide_name"] for row in run.table().to_pylist() if row["entry_id"] == "2"}
    assert named == {"Case B (recut)"}
    assert len(list((tmp_path / "out" / "patches").rglob("*.png"))) == run.written == 12


NAMES = [
    *["Tumor", "tumor", "TUMOR", "Immune cells", "Immunecells", "immune  cells", "A=B"],
    *["CD3+, CD8-", "a/b", "a\\b", "Größe", "Groesse", "x*", "*", "Tumor: Positive"],
    *["Tumor: positive", "con", "..", "100%", "Tumo\u0301r", "Tum\u00f3r", "-n", "any", "_"],
]


def test_every_spelling_of_a_class_is_a_class_of_its_own(tmp_path):
    """https://github.com/CosciaLab/Qupath_to_LMD/issues/24: spaces were taken out of names."""
    write_slide(tmp_path / "a.tif", marker_image(64 * len(NAMES), 64), mpp=0.5, tile=64)
    regions = [(name, shapely.box(64 * k, 0, 64 * k + 64, 64)) for k, name in enumerate(NAMES)]
    project = build_project(tmp_path / "project", [Image(tmp_path / "a.tif", regions)])
    run = export(project, tmp_path / "out", size=64)
    rows = run.table().to_pylist()
    labels = {NAMES[row["x_qupath"] // 64]: row["label"] for row in rows}
    assert labels == {name: name for name in NAMES if not name.endswith("*")}
    folders = {
        unicodedata.normalize("NFC", str(Path(row["path"]).parent)).casefold() for row in rows
    }
    assert len(folders) == len(labels), "one for each label, also where case is ignored"
    out = run.out.resolve()
    assert all((out / row["path"]).resolve().is_relative_to(out) for row in rows)
    csv = pyarrow.csv.read_csv(run.out / "index.csv").to_pylist()
    assert {row["label"] for row in csv} == {
        f"'{name}" if name == "-n" else name for name in labels
    }, "what a spreadsheet would run is text"
    with qb.open_project(project) as opened:
        for k, name in enumerate(NAMES):
            if name == "..":
                continue
            (plan,) = qb.plan(opened, qb.ExportConfig(size=64, map={name: "renamed"}))
            (place,) = plan.table.boxes[
                [plan.table.label_of(i) == "renamed" for i in range(len(plan))], 0
            ]
            assert place == 64 * k
            (plan,) = qb.plan(opened, qb.ExportConfig(size=64, exclude=(name,)))
            assert 64 * k not in plan.table.boxes[:, 0]


def test_tma_cores_beyond_the_slide(tmp_path):
    """https://github.com/qupath/qupath/issues/101: the dearrayer put cores off the slide."""
    write_slide(tmp_path / "a.tif", marker_image(1200, 800), mpp=0.5)
    centres = {"A-1": (160, 160), "A-2": (600, 160), "A-3": (1180, 160)}
    centres |= {"B-1": (160, 640), "B-2": (600, 640), "B-3": (1400, 640)}
    discs = {name: shapely.Point(*centre).buffer(150) for name, centre in centres.items()}
    cores = [
        Region(
            None,
            disc,
            name=name,
            object_type=ObjectType.TMA_CORE,
            ellipse=True,
            missing=name == "B-2",
        )
        for name, disc in discs.items()
    ]
    tissue = [
        Region("Tumor", shapely.Point(*centres[name]).buffer(120), parent=list(centres).index(name))
        for name in ("A-1", "A-3", "B-2")
    ]
    both = Region("Stroma", shapely.box(40, 520, 720, 760))
    image = Image(
        tmp_path / "a.tif", [*cores, *tissue, both], tma_grid=TmaGrid(3, 2, (0, 2, 3, 5, 6, 8))
    )
    project = build_project(tmp_path / "project", [image])
    run = export(project, tmp_path / "out", size=64, edge="pad", min_share=0.3)
    found = set()
    for row in run.table().to_pylist():
        assert row["x_qupath"] < 1200
        centre = shapely.Point(row["x_qupath"] + 32, row["y_qupath"] + 32)
        inside = [name for name, disc in discs.items() if disc.contains(centre)]
        assert row["tma_core"] == (inside[0] if inside else None)
        found.add(row["tma_core"])
    assert found == {None, "A-1", "A-3", "B-1"}, "none of a core that is missing"


@pytest.mark.parametrize(
    "args",
    [
        ["--series", "1"],
        ["--series=1"],
        ["-s", "1"],
        ["-s1"],
        ["--no-crop", "-s", "1"],
        ["--name=scene 2"],
        ["--name", "scene 2"],
    ],
    ids=" ".join,
)
def test_second_scene_is_never_the_first_one(tmp_path, args):
    """https://github.com/qupath/qupath/issues/383: a viewer opened another image of the file."""
    pixels = marker_image(800, 600)
    other = pixels[::-1].copy()
    with tifffile.TiffWriter(tmp_path / "scenes.ome.tif", ome=True) as file:
        for scene, name in ((pixels, "scene 1"), (other, "scene 2")):
            file.write(
                scene,
                tile=(128, 128),
                photometric="rgb",
                compression="deflate",
                metadata={"axes": "YXS", "Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
            )
    common = {"size": (800, 600), "provider": BIO_FORMATS}
    images = [
        Image(
            tmp_path / "scenes.ome.tif", whole(pixels), name="1", args=["--series", "0"], **common
        ),
        Image(tmp_path / "scenes.ome.tif", whole(pixels), name="two", args=args, **common),
    ]
    project = build_project(tmp_path / "project", images)
    assert_patches_are_cut_from(pixels, export(project, tmp_path / "1", "1", size=100), 48)
    run = export(project, tmp_path / "two", "two", size=100)
    if run.failures:
        assert "two" in run.failures[0].slide_name
        assert run.written == 0
    else:
        assert_patches_are_cut_from(other, run, 48)


def test_slides_that_give_no_patches_are_named(tmp_path):
    """https://github.com/mahmoodlab/CLAM/issues/261: of 1,247 slides 316 gave patches."""
    sizes = {"tiny": (200, 150), "thin": (2000, 100), "good": (512, 512), "pixel": (1, 1)}
    for name, (width, height) in sizes.items():
        write_slide(tmp_path / f"{name}.tif", marker_image(width, height), mpp=0.5)
    good = tmp_path / "good.tif"
    square = shapely.box(0, 0, 512, 512)
    images = [
        *[
            Image(tmp_path / f"{name}.tif", [("Tumor", shapely.box(0, 0, *sizes[name]))], name=name)
            for name in ("tiny", "thin", "pixel")
        ],
        Image(good, name="bare"),
        Image(good, name="unsaved", saved=False),
        Image(good, [(None, square)], name="classless"),
        Image(good, [("Tumor", shapely.box(0, 0, 20, 20))], name="small region"),
        Image(good, [("Tumor", square)], name="good"),
    ]
    project = build_project(tmp_path / "project", images)
    run = export(project, tmp_path / "out", size=256)
    assert {slide["slide_name"]: slide["written"] for slide in run} == {
        image.name: 4 if image.name == "good" else 0 for image in images
    }
    told = " ".join(run.warnings)
    assert all(slide["written"] or slide["slide_name"] in told for slide in run)
    padded = export(
        project, tmp_path / "padded", ("tiny", "thin", "pixel"), size=256, edge="pad", rule="any"
    )
    shares = {row["slide_name"]: row["valid_share"] for row in padded.table().to_pylist()}
    assert padded.written == 1 + 1 + 8
    assert shares["tiny"] == pytest.approx(200 * 150 / 256**2)
    assert shares["pixel"] == pytest.approx(1 / 256**2)
    for row, patch in patches(padded):
        if row["slide_name"] == "tiny":
            assert (patch[150:] == 255).all()
            assert (patch[:, 200:] == 255).all()


@pytest.mark.parametrize(("unit", "mpp"), [("um", 0.373759), ("micron", 0.5)])
def test_pixel_size_that_imagej_wrote(tmp_path, unit, mpp):
    """https://github.com/blink1073/tifffile/issues/15: µm have no unit in TIFF."""
    pixels = marker_image(800, 600)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        imagej=True,
        resolution=(1 / mpp, 1 / mpp),
        metadata={"unit": unit, "axes": "YXS"},
    )
    image = Image(
        tmp_path / "a.tif", whole(pixels), pixel_size=None, size=(800, 600), provider=IMAGEJ
    )
    project = build_project(tmp_path / "project", [image])
    size = pixel_sizes(project)["a.tif"]
    assert size and size == pytest.approx((mpp, mpp), abs=1e-4)
    assert_patches_are_cut_from(pixels, export(project, tmp_path / "out", size=200), 12)


@pytest.mark.parametrize("encoding", ["native", "jpeg", "jpeg2000"])
def test_dicom_pixels_of_any_encoding(tmp_path, encoding):
    """https://github.com/openslide/openslide/issues/526: reversible JPEG 2000 was refused."""
    pixels = marker_image(768, 512)
    write_dicom(
        tmp_path / "1.dcm", pixels, (0.25, 0.25), "1.2.826.0.1.3680043.8.498.6.1", encoding=encoding
    )
    image = Image(tmp_path / "1.dcm", whole(pixels), size=(768, 512))
    run = export(build_project(tmp_path / "project", [image]), tmp_path / "out", size=256)
    if run.failures:
        assert "1.dcm" in run.failures[0].error
        assert run.written == 0
    elif encoding == "jpeg":
        assert run.written == 6
    else:
        assert_patches_are_cut_from(pixels, run, 6)


def aperio_jpeg(tile, rgb):
    """Shared tables, and a tile without them; for RGB components 0, 1, 2 and no marker."""
    data = imagecodecs.jpeg8_encode(
        tile,
        level=95,
        colorspace="RGB",
        outcolorspace="RGB" if rgb else "YCBCR",
        subsampling="444",
    )
    tables, body, at = b"\xff\xd8", b"\xff\xd8", 2
    while data[at + 1] != 0xDA:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        segment = bytearray(data[at : at + 2 + length])
        if marker in (0xDB, 0xC4):
            tables += segment
        elif marker not in (0xE0, 0xEE):
            if marker == 0xC0 and rgb:
                segment[10:19:3] = b"\0\1\2"
            body += segment
        at += 2 + length
    scan = bytearray(data[at:])
    if rgb:
        scan[5:11:2] = b"\0\1\2"
    return tables + b"\xff\xd9", body + bytes(scan)


@pytest.mark.parametrize("suffix", ["svs", "tif"])
@pytest.mark.parametrize("rgb", [True, False])
def test_jpeg_tiles_that_are_tagged_rgb(tmp_path, rgb, suffix):
    """https://github.com/choosehappy/HistoQC/issues/304: tiles turned green and pink."""
    width, height, tile = 1200, 960, 240
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    red, green, blue = np.sin(x / 90), np.cos(y / 70), np.sin((x + y) / 110)
    pixels = np.stack([120 + 100 * red, 100 + 80 * green, 160 + 60 * blue], axis=-1)
    pixels = pixels.round().astype(np.uint8)
    encoded = [
        aperio_jpeg(np.ascontiguousarray(pixels[row : row + tile, col : col + tile]), rgb)
        for row in range(0, height, tile)
        for col in range(0, width, tile)
    ]
    text = (
        f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] (240x240) "
        "JPEG/RGB Q=95|AppMag = 20|MPP = 0.5"
    )
    path = tmp_path / f"a.{suffix}"
    tifffile.imwrite(
        path,
        iter(tile for _, tile in encoded),
        shape=pixels.shape,
        dtype="uint8",
        tile=(tile, tile),
        compression="jpeg",
        photometric="rgb" if rgb else "ycbcr",
        subsampling=(1, 1),
        jpegtables=encoded[0][0],
        description=text if suffix == "svs" else "",
        metadata=None,
        software=False,
    )
    if rgb:  # the writer says YCbCr for any JPEG
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["PhotometricInterpretation"].overwrite(2)
    image = Image(path, whole(pixels), size=(width, height))
    run = export(build_project(tmp_path / "project", [image]), tmp_path / "out", size=240)
    assert run.written == 20
    for row, patch in patches(run):
        box = pixels[row["y_qupath"] :, row["x_qupath"] :][:240, :240]
        assert np.abs(box.astype(int) - patch).mean() < 3
