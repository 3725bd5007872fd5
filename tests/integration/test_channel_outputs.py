"""Exports of slides with channels: every format and container, read by others."""

import io
import json
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.datasets.patch_looks import read_looks
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import facts_of
from qupath_bridge.pipeline.rows import pixels_digest
from qupath_bridge.pixels.composite import Composite, composite
from qupath_bridge.pixels.display_ranges import auto_range
from tests.support import stacks

pytestmark = pytest.mark.usefixtures("stack_reader")


def config_of(**options):
    return qb.ExportConfig(**{"size": 64, **options})


def export(stack_study, out, **options):
    run = qb.export(stack_study.project, out, config_of(**options), reader="stack", workers=1)
    assert not run.failures
    return run


def failure_of(stack_study, out, **options):
    run = qb.export(stack_study.project, out, config_of(**options), reader="stack", workers=1)
    (failure,) = run.failures
    return failure


def patches_of(stack_study, row):
    """Return the pixels of a patch as the slide has them, at full resolution."""
    x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
    return stack_study.pixels[..., y : y + h, x : x + w, :]


def facts_in(out):
    """Return what the run says of its one slide."""
    output = open_output(out)
    return facts_of(output.rows(output.slides()[0]))


READERS = {
    "ome-tiff": lambda data: np.moveaxis(tifffile.imread(io.BytesIO(data)), 0, -1),
    "tiff": lambda data: np.moveaxis(tifffile.imread(io.BytesIO(data)), 0, -1),
    "npy": lambda data: np.load(io.BytesIO(data)),
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", READERS)
def test_patches_have_the_pixels_of_the_slide_in_its_type(kind, dtype, tmp_path):
    stack_study = stacks.stack_study(tmp_path / "stack_study", stacks.stack(dtype))
    rows = export(stack_study, tmp_path / "out", format=kind).table().to_pylist()
    assert len(rows) == 15
    for row in rows:
        found = READERS[kind]((tmp_path / "out" / row["path"]).read_bytes())
        assert found.dtype == dtype
        assert np.array_equal(found, patches_of(stack_study, row))
        assert (row["channels"], row["dtype"]) == ([*stacks.NAMES], dtype)
    verified = qb.verify(tmp_path / "out", reader="stack")
    assert verified.ok
    assert verified.pixels == 15


def test_ome_tiff_has_the_names_of_the_project_and_the_size_of_a_pixel(stack_study, tmp_path):
    row = export(stack_study, tmp_path / "out", format="ome-tiff", mpp=1.0).table().to_pylist()[0]
    assert row["path"].endswith(".ome.tif")
    with tifffile.TiffFile(tmp_path / "out" / row["path"]) as file:
        text = file.ome_metadata
    assert [f'Name="{name}"' in text for name in stacks.NAMES] == [True] * 4
    assert 'PhysicalSizeX="1.0"' in text


@pytest.mark.parametrize(("kind", "changes"), [("ome-tiff", True), ("tiff", True), ("npy", False)])
def test_another_colour_in_qupath_is_another_plan_where_files_hold_it(kind, changes, stack_study):
    digests = []
    for colors in (stacks.COLORS, ((9, 9, 9), *stacks.COLORS[1:])):
        with qb.open_project(stack_study.project) as project:
            slide = replace(project.slides[0], channel_colors=colors)
            chosen = qb.RunOptions(reader="stack")
            plan = qb.plan(slide, config_of(format=kind), options=chosen)
            assert plan.contents.colors == (colors if changes else ())
            digests.append((plan.digest, pixels_digest(plan)))
    assert [a != b for a, b in zip(*digests, strict=True)] == [changes, changes]


@pytest.mark.parametrize("container", ["h5", "zarr", "tar"])
def test_containers_hold_the_chosen_channels_in_their_order(stack_study, container, tmp_path):
    options = {"format": "npy"} if container == "tar" else {}
    run = export(stack_study, tmp_path / "out", container=container, channels=["CD8", 1], **options)
    rows = run.table().to_pylist()
    assert {tuple(row["channels"]) for row in rows} == {("CD8", "DAPI")}
    assert qb.verify(tmp_path / "out", reader="stack").ok
    if container == "tar":
        return
    folder = tmp_path / "out" / "patches"
    if container == "h5":
        with h5py.File(next(folder.glob("*.h5"))) as file:
            images, names = file["images"][:], [*file["images"].attrs["channels"]]
            order = file["index_row"][:]
    else:
        group = zarr.open_group(next(folder.glob("*.zarr")), mode="r")
        images, names = group["images"][:], [*group["images"].attrs["channels"]]
        order = group["index_row"][:]
    assert names == ["CD8", "DAPI"]
    assert (images.shape, images.dtype) == ((15, 64, 64, 2), np.uint16)
    for image, number in zip(images, order.tolist(), strict=True):
        assert np.array_equal(image, patches_of(stack_study, rows[number])[..., [2, 0]])


@pytest.mark.parametrize("container", ["h5", "zarr"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float32", "float64"])
def test_containers_of_arrays_hold_every_type(container, dtype, tmp_path):
    stack_study = stacks.stack_study(tmp_path / "stack_study", stacks.stack(dtype, size=(128, 64)))
    export(stack_study, tmp_path / "out", container=container)
    folder = tmp_path / "out" / "patches"
    if container == "h5":
        with h5py.File(next(folder.glob("*.h5"))) as file:
            images = file["images"][:]
    else:
        images = zarr.open_group(next(folder.glob("*.zarr")), mode="r")["images"][:]
    assert images.dtype == dtype
    whole = np.concatenate([stack_study.pixels[:, :64], stack_study.pixels[:, 64:]]).reshape(
        2, 64, 64, 4
    )
    assert np.array_equal(images, whole)
    assert qb.verify(tmp_path / "out", reader="stack").pixels == 2


def test_one_channel_of_8_bit_becomes_grey_pictures(tmp_path):
    stack_study = stacks.stack_study(tmp_path / "stack_study", stacks.stack("uint8"))
    rows = export(stack_study, tmp_path / "out", channels=["CD3"]).table().to_pylist()
    for row in rows:
        picture = Picture.open(tmp_path / "out" / row["path"])
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), patches_of(stack_study, row)[..., 1])
    assert qb.verify(tmp_path / "out", reader="stack").ok


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "png"}, "PNG files hold 1 or 3 channels of uint8, not 4 channels of uint16"),
        ({"format": "jpeg", "passthrough": "auto"}, "JPEG files hold 1 or 3 channels"),
        ({"format": "npy", "stain": "macenko"}, "needed for stain normalisation"),
        ({"format": "npy", "qc": "focus"}, r"needed for quality measures \(focus\)"),
        ({"format": "npy", "tissue": "otsu"}, "the tissue method 'otsu' needs RGB"),
        ({"format": "npy", "tissue": "double-pass"}, "the tissue method 'double-pass' needs RGB"),
        ({"format": "npy", "tissue": "saturation"}, "the tissue method 'saturation' needs RGB"),
        ({"format": "npy", "channels": "CD4"}, "No channel is called 'CD4'"),
        ({"composite": True, "qc": "focus"}, "needed for quality measures"),
        ({"composite": True, "stain": "macenko"}, "needed for stain normalisation"),
    ],
)
def test_what_needs_rgb_says_so_before_a_pixel_is_read(
    stack_study, options, words, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("pixels are read")

    monkeypatch.setattr("qupath_bridge.readers.memory.MemoryReader.read_many", refuse)
    failure = failure_of(stack_study, tmp_path / "out", **options)
    assert failure.error.startswith("stack.npy: ")
    assert re.search(words, failure.error)
    assert failure.hint


def test_tissue_by_signal_drops_patches_without_any(tmp_path):
    pixels = np.random.default_rng(2).normal(200, 9, (*stacks.SIZE[::-1], 4)).astype(np.uint16)
    pixels[:, :128, 2] += 900
    stack_study = stacks.stack_study(tmp_path / "stack_study", pixels)
    options = {"format": "npy", "pixel_size": 2.0, "tissue_mpp": 8.0, "min_tissue": 0.9}
    run = export(stack_study, tmp_path / "out", tissue="signal:CD8", channels="DAPI", **options)
    assert {row["x_qupath"] for row in run.table().to_pylist()} == {0, 64}
    assert run.record["state"] == "complete"
    facts = facts_in(tmp_path / "out")
    assert facts["tissue"]["method"] == "signal"
    assert facts["tissue"]["share"] == pytest.approx(0.4, abs=0.03)
    other = export(stack_study, tmp_path / "other", tissue="signal:DAPI", **options)
    assert not other.table().num_rows


@pytest.mark.parametrize(
    "options",
    [
        {"format": "tiff"},
        {"container": "h5"},
        {"format": "raw"},
        {"format": "raw", "container": "tar"},
    ],
)
def test_patches_of_channels_are_compared_with_each_other(stack_study, options, tmp_path):
    run = export(stack_study, tmp_path / "out", **options)
    looks = read_looks(
        open_output(tmp_path / "out", options.get("container", "folder")),
        run.table(),
        raw=run.record["config"]["format"] == "raw",
    )
    assert looks.flat.shape == (15,)


# ---- pictures


def colors_and_ranges(stack_study, channels=range(4)):
    """Return colours and QuPath's own ranges: of the whole image, which is small."""
    whole = stack_study.pixels
    return [stacks.COLORS[n] for n in channels], [auto_range(whole[..., n]) for n in channels]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "npy"])
def test_composites_are_pictures_in_the_colours_of_the_project(stack_study, kind, tmp_path):
    run = export(stack_study, tmp_path / "out", format=kind, composite=True)
    colors, ranges = colors_and_ranges(stack_study)
    for row in run.table().to_pylist():
        assert (row["channels"], row["dtype"]) == (["Red", "Green", "Blue"], "uint8")
        path = tmp_path / "out" / row["path"]
        expected = composite(patches_of(stack_study, row), colors, ranges)
        if kind == "npy":
            assert np.array_equal(np.load(path), expected)
        elif kind == "jpeg":
            found = np.asarray(Picture.open(path)).astype(int)
            assert np.abs(found - expected).mean() < 6
        else:
            assert np.array_equal(np.asarray(Picture.open(path).convert("RGB")), expected)
    assert qb.verify(tmp_path / "out", reader="stack").ok


def test_a_composite_is_recorded_with_its_colours_and_ranges(stack_study, tmp_path):
    export(stack_study, tmp_path / "out", composite=True, channels=["CD8", "CD3"])
    facts = facts_in(tmp_path / "out")
    colors, ranges = colors_and_ranges(stack_study, [2, 1])
    shown = Composite.from_json(facts["display"])
    assert [each.name for each in shown.channels] == ["CD8", "CD3"]
    assert [each.color for each in shown.channels] == colors
    assert [each.range for each in shown.channels] == ranges
    assert json.loads(json.dumps(facts["display"])) == shown.as_json()


def test_a_changed_composite_is_found_by_verify(stack_study, tmp_path):
    run = export(stack_study, tmp_path / "out", composite=True)
    row = run.table().to_pylist()[0]
    path = tmp_path / "out" / row["path"]
    Picture.fromarray(np.asarray(Picture.open(path)) // 2).save(path)
    (finding,) = qb.verify(tmp_path / "out", reader="stack").findings
    assert (finding.kind, finding.path) == ("changed", row["path"])


def test_another_range_is_another_plan_of_pictures(stack_study, monkeypatch):
    def digests(**options):
        with qb.open_project(stack_study.project) as project:
            slide, chosen = project.slides[0], qb.RunOptions(reader="stack")
            plan = qb.plan(slide, config_of(**options), options=chosen)
            return plan.digest, pixels_digest(plan)

    before = digests(composite=True), digests(format="npy")
    monkeypatch.setattr("qupath_bridge.pipeline.composites.auto_range", lambda values: (0.0, 5.0))
    after = digests(composite=True), digests(format="npy")
    assert [one != other for one, other in zip(before[0], after[0], strict=True)] == [True, True]
    assert before[1] == after[1]


def test_updates_keep_patches_of_channels_that_are_as_they_were(stack_study, tmp_path):
    for options in ({"format": "npy"}, {"container": "zarr"}, {"composite": True}):
        out = tmp_path / "-".join(options)
        export(stack_study, out, **options)
        run = qb.export(
            stack_study.project, out, config_of(**options), reader="stack", workers=1, update=True
        )
        assert not run.failures
        assert qb.verify(out, reader="stack").pixels == 15
