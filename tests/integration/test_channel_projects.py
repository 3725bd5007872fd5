"""A project of slides with channels, from its files to patches and back into QuPath's data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.model import Plane
from qupath_bridge.testing.projects import Image, Region, build_memory_project, build_project
from tests.support.array_slides import reading_arrays, write_array

from .test_corrections import collect, say
from .test_write_back import export, shown, tiles_of, undo, write

SIDE = 64
TIFF = ("--size", SIDE, "--format", "tiff")
FILE_NAMES = ("Channel 1", "Channel 2", "Channel 3", "Channel 4", "Channel 5")
CHANNELS = (
    ("DAPI", (0, 0, 255)), ("CD3", (0, 255, 0)), ("CD8", (255, 0, 0)), ("Ki67", (255, 128, 0)),
    ("AF", (90, 90, 90)),
)  # fmt: skip
NAMES = tuple(name for name, _ in CHANNELS)
REGIONS = (
    Region("Tumor", "POLYGON ((0 0, 200 0, 200 192, 0 192, 0 0))"),
    Region("Stroma", "POLYGON ((200 0, 256 0, 256 192, 200 192, 200 0))"),
)


class Panel:
    """Two slides of five channels, one of them a z-stack, in a project."""

    def __init__(self, folder, dtype="uint16"):
        random = np.random.default_rng(5)
        limit = np.iinfo(dtype).max
        self.folder = folder
        self.pixels = {
            "flat": random.integers(0, limit, (192, 256, 5), dtype, endpoint=True),
            "stack": random.integers(0, limit, (1, 3, 192, 256, 5), dtype, endpoint=True),
        }
        slides = folder / "slides"
        slides.mkdir()
        self.paths = {
            name: write_array(slides / f"{name}.npy", pixels)
            for name, pixels in self.pixels.items()
        }
        self.project = build_project(folder / "study", self.images())

    def images(self, channels=CHANNELS, pixel_type="UINT16"):
        return [
            Image(
                path, REGIONS, size=(256, 192), size_z=3 if name == "stack" else 1,
                channels=channels, pixel_type=pixel_type, provider=None,
                image_type="FLUORESCENCE",
            )
            for name, path in self.paths.items()
        ]  # fmt: skip

    def rename(self, old, new):
        """Give a channel another name, as QuPath stores it."""
        text = self.project.read_text(encoding="utf-8")
        self.project.write_text(text.replace(f'"name": "{old}"', f'"name": "{new}"'), "utf-8")


@pytest.fixture
def panel(tmp_path, monkeypatch):
    with reading_arrays(monkeypatch):
        yield Panel(tmp_path)


def whole(panel, name, z=0):
    pixels = panel.pixels[name]
    return pixels if pixels.ndim == 3 else pixels[0, z]


def cut(pixels, row):
    x, y = row["x_qupath"], row["y_qupath"]
    return pixels[y : y + SIDE, x : x + SIDE]


def config(**options):
    return qb.ExportConfig(size=SIDE, format="tiff", **options)


def exported(panel, **options):
    """Export the project into arrays."""
    arrays = qb.ExportConfig(size=SIDE, container="zarr")
    return qb.export(panel.project, panel.folder / "out", arrays, **options)


@pytest.fixture
def cli(capsys):
    def call(*words):
        status = main([*map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_patches_are_the_pixels_of_the_file_under_the_names_of_the_project(panel):
    run = exported(panel)
    rows = run.table().to_pylist()
    assert (run.failures, len(rows)) == ((), 2 * 12)
    assert {(tuple(row["channels"]), row["dtype"]) for row in rows} == {(NAMES, "uint16")}
    for number, name in enumerate(("flat", "stack"), 1):
        images = zarr.open_group(panel.folder / "out/patches" / f"{number}_{name}.npy.zarr")[
            "images"
        ]
        own = [row for row in rows if row["slide_name"] == f"{name}.npy"]
        for image, row in zip(images[:], own, strict=True):
            np.testing.assert_array_equal(image, cut(whole(panel, name), row))
    found = qb.verify(panel.folder / "out")
    assert (found.findings, found.pixels) == ((), 24)


def test_chosen_channels_of_a_plane(panel):
    chosen = config(channels=("ki67", 1), plane=(2, 0), all_planes=True)
    with qb.open_project(panel.project) as project:
        plans = qb.plan(project.slides, chosen)
        (plan,) = plans
        (failure,) = plans.failures
        assert failure.slide_name == "flat.npy"
        assert "plane 2,0 cannot be read" in failure.error
        assert (plan.channels, plan.table.plane(0)) == (("Ki67", "DAPI"), Plane(2, 0))
        with qb.open_reader(plan.path) as reader:
            found = plan.read(0, reader)
    np.testing.assert_array_equal(
        found, panel.pixels["stack"][0, 2, :SIDE, :SIDE, [3, 0]].transpose(1, 2, 0)
    )


def test_a_projection_stands_on_its_plane_with_the_labels_of_that_plane(panel):
    with qb.open_project(panel.project) as project:
        plan = qb.plan(project.slides[1], config(projection="max", channels=("AF",)))
        with qb.open_reader(plan.path) as reader:
            found = plan.read(0, reader)
    assert (plan.table.plane(0), plan.table.labels_of(0)) == (Plane(0, 0), ["Tumor"])
    np.testing.assert_array_equal(found, panel.pixels["stack"][0].max(axis=0)[:SIDE, :SIDE, 4:])


def test_slices_that_the_reader_does_not_have_are_not_projected(panel):
    image = replace(panel.images()[0], size_z=4)
    with build_memory_project([image]) as project:
        plans = qb.plan(project.slides, config(projection="max"))
    (failure,) = plans.failures
    assert "QuPath recorded 4 z slice(s), the reader has 1" in failure.error


def test_a_project_in_memory_shows_the_same(panel):
    with build_memory_project(panel.images()) as project:
        plans = qb.plan(project.slides, config())
    with qb.open_project(panel.project) as other:
        assert [plan.view for plan in qb.plan(other.slides, config())] == [p.view for p in plans]


def test_a_run_is_updated_and_its_slides_made_again_where_a_channel_was_renamed(panel):
    before = exported(panel).table().to_pylist()
    panel.rename("CD3", "T cells")
    again = exported(panel, update=True)
    rows = again.table().to_pylist()
    assert {tuple(row["channels"]) for row in rows} == {("DAPI", "T cells", *NAMES[2:])}
    assert [row["digest"] for row in rows] == [row["digest"] for row in before]
    assert qb.verify(again.out).ok


@pytest.mark.parametrize(
    ("channels", "pixel_type", "problem"),
    [
        (CHANNELS[:4], "UINT16", "another number of channels"),
        (CHANNELS, "UINT8", "another type of pixels"),
    ],
)
def test_a_project_that_recorded_others_is_refused_with_both(
    panel, channels, pixel_type, problem, cli
):
    folder = panel.folder / "wrong"
    build_project(folder, panel.images(channels, pixel_type))
    status, out, _ = cli("plan", folder, *TIFF, "--json")
    found = json.loads(out)
    assert (status, len(found["failures"])) == (1, 2)
    for failure in found["failures"]:
        assert problem in failure["error"]
        assert ", ".join(FILE_NAMES) in failure["error"]
        assert ", ".join(name for name, _ in channels) in failure["error"]
    status, out, errors = cli("inspect", folder)
    assert status == 1
    assert problem in errors


def test_an_unknown_channel_is_told_with_all_names(panel, cli):
    status, _, errors = cli("plan", panel.project, *TIFF, "--channels", "CD4")
    assert status == 1
    assert "No channel is called 'CD4'; this slide has 1 DAPI, 2 CD3, 3 CD8, 4 Ki67, 5 AF" in errors


def test_slides_of_other_channels_in_one_run_are_warned_of(panel, cli):
    folder = panel.folder / "mixed"
    flat, stack = panel.images()
    renamed = replace(flat, channels=(("Hoechst", (0, 0, 255)), *CHANNELS[1:]))
    build_project(folder, [renamed, stack, replace(stack, name="again")])
    said = (
        "warning: The slides have 2 kinds of pixels: DAPI, CD3, CD8, Ki67, AF of uint16 (2 slides)"
        "; Hoechst, CD3, CD8, Ki67, AF of uint16 (1 slide). A model takes one kind: choose channels"
    )
    _, _, errors = cli("plan", folder, *TIFF)
    assert said in errors
    out = panel.folder / "out"
    _, _, errors = cli("export", folder, *TIFF, "--out", out)
    assert said in errors
    _, _, errors = cli("plan", folder, *TIFF, "--channels", "CD3")
    assert "kinds of pixels" not in errors


def test_inspect_shows_names_and_colours_of_the_project_and_names_of_the_file(panel, cli):
    status, out, _ = cli("inspect", panel.project, "--json")
    first = json.loads(out)["entries"][0]
    assert (status, first["readable"]) == (0, True)
    assert first["pixels"] == "fluorescence, 5 channels of 16 bit"
    assert first["channels"] == {
        "names": list(NAMES),
        "colors": ["#0000ff", "#00ff00", "#ff0000", "#ff8000", "#5a5a5a"],
        "file_names": list(FILE_NAMES),
        "dtype": "uint16",
        "is_rgb": False,
    }
    _, text, _ = cli("inspect", panel.project)
    (line,) = [line for line in text.splitlines() if line.startswith("1 ") and "Ki67" in line]
    assert line.split(maxsplit=5) == ["1", "4", "Ki67", "#ff8000", "uint16", "Channel 4"]


def test_plan_shows_channels_and_type_of_each_slide(panel, cli):
    words = ("plan", panel.project, *TIFF, "--channels", "CD3", "--channels", 1)
    status, out, _ = cli(*words, "--json")
    for slide in json.loads(out)["slides"]:
        shown = (slide["channels"], slide["dtype"], slide["projection"])
        assert shown == (["CD3", "DAPI"], "uint16", None)
    _, text, _ = cli(*words)
    assert text.count("CD3, DAPI (uint16)") == 2
    _, text, _ = cli("plan", panel.project, *TIFF, "--projection", "max")
    assert text.count("DAPI, CD3, CD8, Ki67 and 1 more (uint16, max over z)") == 2
    assert status == 0


def test_slides_without_a_project_have_the_names_of_their_file(panel, cli):
    write_array(panel.paths["flat"], panel.pixels["flat"], NAMES[::-1])
    status, out, _ = cli("plan", panel.paths["flat"], *TIFF, "--no-labels", "--json")
    (slide,) = json.loads(out)["slides"]
    assert (status, slide["channels"]) == (0, list(NAMES[::-1]))


def test_a_new_project_leaves_what_qupath_records_of_channels_to_qupath(panel):
    folder = panel.folder / "new"
    qb.create_project(folder, list(panel.paths.values()))
    entries = json.loads((folder / "project.qpproj").read_text())["images"]
    for entry, path in zip(entries, panel.paths.values(), strict=True):
        assert entry["serverBuilder"] == {
            "builderType": "uri", "uri": path.as_uri().replace("file://", "file:"), "args": [],
        }  # fmt: skip
    with qb.open_project(folder) as project:
        plans = qb.plan(project.slides, config(labels=False))
    assert [plan.channels for plan in plans] == [FILE_NAMES] * 2


def test_status_says_that_channels_were_renamed_or_are_read_in_another_way(panel):
    run_id = export(panel, config=config())
    assert state_of(panel, run_id) == {("current", (), 0)}
    panel.rename("CD8", "Cytotoxic")
    reason = "the channels were DAPI, CD3, CD8, Ki67, AF and are DAPI, CD3, Cytotoxic, Ki67, AF"
    assert state_of(panel, run_id) == {("stale", (reason,), 0)}


def state_of(panel, run_id):
    with qb.open_project(panel.project, engine="embedded") as project:
        (run,) = [run for run in qb.status(project) if run.run_id == run_id]
        return {(e.state, e.reasons, len(e.pixels_changed)) for e in run.entries}


def test_tiles_go_into_the_data_corrections_come_back_and_all_is_undone(panel):
    run_id = export(panel, config=config())
    done = write(panel, run_id)
    assert [(entry.state, entry.added) for entry in done.entries] == [("written", 12)] * 2
    tiles = say(panel, run_id, {1: "Stroma"})
    assert shown(panel)[tiles[1].id][0] == "Stroma"
    (found,) = collect(panel, reviewer="Ann")
    assert (found.entry_id, found.collected) == ("1", 1)
    with qb.open_project(panel.project, engine="embedded") as project:
        plan = qb.plan(project.slides[0], config())
    assert plan.table.labels_of(1) == ["Stroma"]
    undo(panel, run_id)
    assert {tile.id for tile in tiles_of(panel, run_id)} & shown(panel).keys() <= {tiles[1].id}
