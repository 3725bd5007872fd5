"""Exports of projects of channels, patch by patch, against what QuPath 0.6.0 and 0.7.0 read."""

import io

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.model import Box
from qupath_bridge.pipeline.planning import plan_slide
from tests.support.channel_truth import (
    FOLDER,
    SHOWN,
    VERSIONS,
    dtype_of,
    facts,
    pixels,
    shown,
    unpacked,
)

SIZE = 48
REFUSED = {"joined", "normalized", "projected", "sliced", "names exchanged"}
PLAIN = {"size": SIZE, "labels": False, "edge": "pad", "format": "npy"}


def export(out, *, version=VERSIONS[-1], entry=(), **options):
    """Export images of a project; return the run."""
    config = qb.ExportConfig(**{**PLAIN, **options})
    return qb.export(
        FOLDER / f"qupath-{version}", out, config, selection=qb.Selection(entry=entry),
        engine="embedded", provenance=False, workers=1,
    )  # fmt: skip


def patches(run):
    """Yield the row and the bytes of each patch."""
    for row in run.table().to_pylist():
        yield row, (run.out / row["path"]).read_bytes()


def part(whole, row):
    """Return the part of a whole image that a patch has, zeros outside, (SIZE, SIZE, C)."""
    x, y = row["x_qupath"], row["y_qupath"]
    found = whole[y : y + SIZE, x : x + SIZE]
    padded = np.zeros((SIZE, SIZE, *whole.shape[2:]), whole.dtype)
    padded[: found.shape[0], : found.shape[1]] = found
    return padded


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All images of a project, each channel in its own type."""
    return export(tmp_path_factory.mktemp("out") / "patches")


@pytest.mark.slow
def test_what_cannot_be_exported_is_named_and_all_others_are(run):
    assert {failure.slide_name for failure in run.failures} == REFUSED
    names = {row["slide_name"] for row in run.table().to_pylist()}
    assert names == set(facts(VERSIONS[-1])) - REFUSED


@pytest.mark.slow
def test_each_patch_is_what_qupath_reads(run):
    looked = 0
    for row, data in patches(run):
        fact = facts(VERSIONS[-1])[row["slide_name"]]
        truth = part(pixels(VERSIONS[-1], row["slide_name"]), row)
        read = np.load(io.BytesIO(data))
        assert read.dtype == dtype_of(fact["type"]) == row["dtype"]
        assert row["channels"] == [name for name, _ in fact["channels"]]
        inside = part(np.ones(fact["size"][::-1], np.bool_)[..., None], row)[..., 0]
        np.testing.assert_array_equal(read[inside], truth[inside], err_msg=row["path"])
        if fact["server"] in {"ImageJ server", "Bio-Formats"}:
            assert (read[~inside] == (255 if fact["rgb"] else 0)).all()
        looked += 1
    assert looked > 250


@pytest.mark.slow
def test_every_patch_is_verified_against_the_slide(run):
    checked = qb.verify(run)
    assert checked.ok
    assert checked.pixels == run.written


@pytest.mark.parametrize(
    ("options", "entry", "same"),
    [
        ({"channels": ["PanCK", "2"]}, "ij-u16-c4.tif", "channels as words"),
        ({"channels": ["panck", "cd3"]}, "u16-c4.ome.tif", None),
        ({"projection": "max"}, "ij-u16-c2-z3-t2.tif", "projected"),
    ],
    ids=["channels", "channels of a pyramid", "projection"],
)
def test_options_do_what_qupaths_steps_do(tmp_path, options, entry, same):
    made = export(tmp_path / "out", entry=[f"name:{entry}"], **options)
    looked = 0
    for row, data in patches(made):
        truth = pixels(VERSIONS[-1], same or entry)
        truth = truth if same else truth[..., [3, 1]]
        read = np.load(io.BytesIO(data))
        np.testing.assert_array_equal(read, part(truth, row), strict=True)
        looked += 1
    assert looked >= 4


@pytest.mark.parametrize("plane", [(2, 0), (1, 1)])
def test_planes_are_those_of_qupath(tmp_path, plane):
    made = export(tmp_path / "out", entry=["name:ij-u16-c2-z3-t2.tif"], plane=[plane])
    for row, data in patches(made):
        truth = pixels(VERSIONS[-1], "ij-u16-c2-z3-t2.tif", plane)
        np.testing.assert_array_equal(np.load(io.BytesIO(data)), part(truth, row), strict=True)
    assert made.written == 4


@pytest.mark.parametrize(
    "name", ["u8-c7.ome.tif", "u16-c4.ome.tif", "f32-c3.ome.tif", "fluorescence.qptiff"]
)
def test_patches_of_half_the_resolution_are_the_second_level(tmp_path, name):
    made = export(tmp_path / "out", entry=[f"name:{name}"], mpp=1.0)
    for row, data in patches(made):
        truth = pixels(VERSIONS[-1], name, downsample=2)
        place = {"x_qupath": row["x_qupath"] // 2, "y_qupath": row["y_qupath"] // 2}
        np.testing.assert_array_equal(np.load(io.BytesIO(data)), part(truth, place), strict=True)
    assert made.written == 4


# --- as QuPath's viewer shows them --------------------------------------------------------------


PICTURES = [name for name in facts(VERSIONS[0]) if name not in REFUSED]


def planned(version, name):
    """Return the plan of pictures of an image, with the display of all channels."""
    with qb.open_project(FOLDER / f"qupath-{version}", engine="embedded") as project:
        return plan_slide(project[name], qb.ExportConfig(size=SIZE, composite=True))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", PICTURES)
def test_display_is_that_of_qupath(version, name):
    """Colours, switched-off channels and ranges: saved ones, and those of QuPath's own rule.

    QuPath 0.7 takes the histogram of a pyramid from a finer level than 0.6, and so do we.
    """
    fact, plan = facts(version)[name], planned(version, name)
    if fact["rgb"]:
        assert plan.composite is None
        return
    channels = fact["display"]["channels"]
    display = plan.composite.channels
    assert [each.color for each in display] == [unpacked(c["color"]) for c in channels]
    assert [each.shown for each in display] == [channel["selected"] for channel in channels]
    if version >= "0.7" or len(fact["downsamples"]) == 1:
        for each, channel in zip(display, channels, strict=True):
            assert each.range == pytest.approx((channel["low"], channel["high"]), rel=1e-6)


@pytest.mark.parametrize("name", SHOWN)
def test_pictures_are_those_of_qupaths_viewer(tmp_path, name):
    plane = facts(VERSIONS[-1])[name]["display"]["plane"]
    made = export(
        tmp_path / "out", entry=[f"name:{name}"], composite=True, format="png", plane=[plane]
    )
    whole = shown(name)
    for row, data in patches(made):
        with Image.open(io.BytesIO(data)) as picture:
            read = np.asarray(picture)
        inside = part(np.ones((*whole.shape[:2], 1), np.bool_), row)[..., 0]
        np.testing.assert_array_equal(read[inside], part(whole, row)[inside], err_msg=row["path"])
    assert made.written >= 2


# --- read by others -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"format": "ome-tiff"}, {"format": "tiff"}], ids=str)
def test_tifffile_reads_33_channels(tmp_path, options):
    made = export(tmp_path / "out", entry=["u16-c33*"], **options)
    whole = pixels(VERSIONS[-1], "u16-c33.ome.tif")
    for row, data in patches(made):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            (series,) = file.series
            read = np.moveaxis(series.asarray(), 0, -1)
            assert (series.axes, series.kind) == ("CYX", "ome" if file.is_ome else "imagej")
            names = row["channels"]
            if file.is_ome:
                assert all(f'Name="{name}"' in file.ome_metadata for name in names)
            else:
                assert list(file.imagej_metadata["Labels"]) == names
        np.testing.assert_array_equal(read, part(whole, row), strict=True)
    assert made.written == 2


def test_zarr_and_h5py_read_33_channels(tmp_path):
    whole = pixels(VERSIONS[-1], "u16-c33.ome.tif")
    for container, opened in (("zarr", zarr.open_group), ("h5", h5py.File)):
        made = export(tmp_path / container, entry=["u16-c33*"], container=container, format="raw")
        rows = made.table().to_pylist()
        (place,) = (made.out / "patches").glob(f"*.{container}")
        images = opened(place, mode="r")["images"]
        assert list(images.attrs["channels"]) == [f"Marker {n}" for n in range(1, 34)]
        truth = np.stack([part(whole, row) for row in rows])
        np.testing.assert_array_equal(images[:], truth, strict=True)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ij-u16-c4.tif", ("DAPI", "CD3", "CD8", "PanCK")),
        ("u16-c7-z3.ome.tif", ("DAPI", "CD3", "CD8", "PanCK", "CD20", "Ki67", "FoxP3")),
    ],
)
def test_tiff_files_of_qupaths_own_writer_are_read(name, names):
    box = Box(16, 8, 24, 16)
    with qb.open_reader(FOLDER / "truth" / f"region of {name}") as reader:
        read, mask = reader.read(Box(0, 0, box.w, box.h), (box.w, box.h))
        assert (reader.size, mask) == ((24, 16), None)
        assert reader.channels == names
        assert reader.pixel_size == pytest.approx((0.5, 0.5))
    truth = pixels(VERSIONS[-1], name)[box.y : box.y + box.h, box.x : box.x + box.w]
    np.testing.assert_array_equal(read, truth, strict=True)
