"""Patches where another tool took them: from its own files to the same boxes and pixels."""

import json
import math
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import openslide
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.api.exporting import survey_slides
from qupath_bridge.config import Settings
from qupath_bridge.errors import MissingDependencyError, OutputError, PlanError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline import starting
from qupath_bridge.pipeline.inputs import frozen_inputs
from qupath_bridge.pipeline.starting import plan_run, start_run
from qupath_bridge.sources.coordinate_files import Coordinates, read_coordinates
from qupath_bridge.testing.projects import Image, build_project, cropped, rotated
from qupath_bridge.testing.slides import write_slide

SKIN = Path(__file__).parents[2] / "example_projects" / "skin"
SLIDE = SKIN / "CMU-1-Small-Region.svs"
MPP = 0.499
PLACED = ["patch_id", "x_slide", "y_slide", "w_slide", "h_slide", "label", "width", "mpp", "digest"]


def export(out, *, coords=None, source=SKIN, **config):
    options = qb.RunOptions(provenance=False, coords=coords)
    return qb.export(source, out, qb.ExportConfig(**config), options=options)


def rows(run, columns=PLACED):
    return sorted(map(tuple, (row.values() for row in run.table().select(columns).to_pylist())))


def features(run, folder):
    """Features of any kind, which STAMP's and slideflow's layouts have beside the places."""
    folder.mkdir()
    for slide_id in set(run.table().column("slide_id").to_pylist()):
        count = run.table().column("slide_id").to_pylist().count(slide_id)
        np.save(folder / f"{slide_id}.npy", np.zeros((count, 3), np.float32))
    return folder


def slideflow_files(run, folder, side_um):
    """Write places as slideflow does: centres in level-0 pixels, and sides of whole µm."""
    folder.mkdir()
    boxes = run.table().select(["x_slide", "y_slide", "w_slide"]).to_pylist()
    centres = [[b["x_slide"] + b["w_slide"] // 2, b["y_slide"] + b["w_slide"] // 2] for b in boxes]
    np.savez(folder / f"{SLIDE.stem}.index.npz", arr_0=np.array(centres))
    about = {"tile_px": run.table()["width"][0].as_py(), "tile_um": side_um}
    (folder / "bags_config.json").write_text(json.dumps(about))
    return folder


# --- the same boxes and pixels -------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [None, 2 * MPP], ids=["full", "half"])
@pytest.mark.parametrize("tool", ["clam", "trident", "stamp", "slideflow"])
def test_a_run_goes_to_a_tool_and_back(tmp_path, tool, mpp):
    config = {"size": 128, "min_share": 0.3} | ({} if mpp is None else {"mpp": mpp})
    before = export(tmp_path / "before", **config)
    assert before.written > 8
    place = tmp_path / tool
    if tool == "slideflow":
        slideflow_files(before, place, round(128 * (mpp or MPP)))
    else:
        more = {"features": features(before, tmp_path / "f")} if tool == "stamp" else {}
        qb.convert(before, place, tool, **more)
        place = next(place.rglob("patches"), place)
    # CLAM's squares are of level 0; what they are scaled to is said by size and resolution.
    asked = config if tool == "clam" else {"min_share": 0.3}
    after = export(tmp_path / "after", coords=place, **asked)
    assert rows(after) == rows(before)
    nothing = after.table().select(["col", "row"])
    assert nothing["col"].null_count == nothing["row"].null_count == after.written
    assert not qb.verify(after).findings


def test_the_boxes_are_those_that_clam_would_cut(tmp_path):
    """Written as CLAM does, with a patch that its grid lets stand over the border."""
    corners = np.array([[100, 1200], [411, 37], [2150, 2900]])
    with h5py.File(tmp_path / f"{SLIDE.stem}.h5", "w") as file:
        file["coords"] = corners
        file["coords"].attrs.update({"patch_size": 200, "patch_level": 0})
    run = export(tmp_path / "out", coords=tmp_path, edge="pad", labels=False)
    slide = openslide.open_slide(SLIDE)
    table = run.table().select(["x_slide", "y_slide", "path", "width", "height"]).to_pylist()
    assert sorted([r["x_slide"], r["y_slide"]] for r in table) == sorted(corners.tolist())
    for row in table:
        with Picture.open(tmp_path / "out" / row["path"]) as picture:
            assert picture.size == (200, 200)
            inside = (min(200, 2220 - row["x_slide"]), min(200, 2967 - row["y_slide"]))
            cut = slide.read_region((row["x_slide"], row["y_slide"]), 0, inside).convert("RGB")
            assert picture.crop((0, 0, *inside)).tobytes() == cut.tobytes()
    dropped = export(tmp_path / "dropped", coords=tmp_path, labels=False)
    assert dropped.written == 2 and dropped.dropped_counts()["edge"] == 1


def test_patches_of_a_level_are_as_large_as_there(tmp_path):
    with h5py.File(tmp_path / "any name.h5", "w") as file:
        file["coords"] = np.array([[64, 64]])
        about = {"patch_size": 50, "patch_level": 1, "downsample": (2.0, 2.0)}
        file["coords"].attrs.update(about)
    plan = qb.plan(
        SKIN, qb.ExportConfig(labels=False), options=qb.RunOptions(coords=tmp_path / "any name.h5")
    )[0]
    assert plan.table.boxes.tolist() == [[64, 64, 100, 100]] and plan.config.size == 50


@pytest.mark.parametrize(("corner", "native"), [((64, 66), True), ((65, 66), False)])
def test_patches_are_the_pixels_of_a_level_where_they_begin_at_one(tmp_path, corner, native):
    pixels = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    slide = write_slide(tmp_path / "s.tiff", pixels, levels=2, mpp=0.5)
    project = build_project(tmp_path / "p", [Image(slide)])
    place = clam_file(tmp_path / "a.h5", [corner], patch_level=1, downsample=(2.0, 2.0))
    (found,) = plan(project, place, labels=False)
    assert (found.native, found.read_level) == (native, 1)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_coordinates_are_those_of_the_file_also_where_qupath_turns_it(tmp_path, angle):
    project = turned(tmp_path, angle)
    before = export(tmp_path / "before", source=project, size=64, labels=False, edge="pad")
    qb.convert(before, tmp_path / "clam", "clam")
    after = export(
        tmp_path / "after", source=project, coords=tmp_path / "clam", labels=False, edge="pad"
    )
    assert rows(after) == rows(before) and after.written > 8


def turned(folder, angle):
    rng = np.random.default_rng(5)
    slide = write_slide(folder / "s.tiff", rng.integers(0, 255, (300, 420, 3), np.uint8), mpp=0.5)
    image = Image(slide, wrappers=[rotated(angle), cropped(30, 20, 250, 250)])
    return build_project(folder / "p", [image])


# --- files and slides ----------------------------------------------------------------------------


def clam_file(path, corners=((0, 0),), **about):
    with h5py.File(path, "w") as file:
        file["coords"] = np.array(corners)
        file["coords"].attrs.update({"patch_size": 64, "patch_level": 0} | about)
    return path


def plan(source, coords, **config):
    return qb.plan(source, qb.ExportConfig(**config), options=qb.RunOptions(coords=coords))


def test_each_slide_has_its_own_file(study, tmp_path):
    folder = tmp_path / "places"
    folder.mkdir()
    clam_file(folder / "slide 1.h5", [[0, 0], [64, 0]])
    clam_file(folder / "slide 2_patches.h5", [[10, 20]], patch_size_level0=64)
    one, two = plan(study.project, folder, labels=False)
    assert one.table.boxes.tolist() == [[0, 0, 64, 64], [64, 0, 64, 64]]
    assert two.table.boxes.tolist() == [[10, 20, 64, 64]]
    with pytest.raises(UsageError, match=r"has no file of slide 2.*with entry or where"):
        (folder / "slide 2_patches.h5").unlink()
        plan(study.project, folder)
    for name in ("slide 1_patches.h5", "slide 2.h5"):
        clam_file(folder / name)
    with pytest.raises(UsageError, match="has several files of slide 1"):
        plan(study.project, folder)


def test_labels_follow_the_rule(study, tmp_path):
    place = clam_file(tmp_path / "any.h5", [[100, 100], [400, 60], [630, 420], [5, 300]])
    config = qb.ExportConfig(min_share=0.4)
    with qb.open_project(study.project) as project:
        found = qb.plan(project.slides[0], config, options=qb.RunOptions(coords=place))
    corners = map(tuple, found.table.boxes[:, :2].tolist())
    said = {corner: found.table.label_of(row) for row, corner in enumerate(corners)}
    assert said == {(100, 100): "Necrosis", (400, 60): "Stroma"}
    assert found.dropped[qb.Reason.EXCLUDED] == 1 and found.dropped[qb.Reason.NO_LABEL] == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 32}, "the patches have 64 px, and size says 32"),
        ({"around": ["points"]}, "coords says where the patches are; around would not be used"),
        ({"stride": 32, "origin": (1, 1)}, "stride, origin would not be used"),
    ],
)
def test_options_that_say_something_else_are_refused(study, tmp_path, options, problem):
    place = tmp_path / "places"
    place.mkdir()
    for name in ("slide 1.h5", "slide 2.h5"):
        clam_file(place / name)
    with pytest.raises(UsageError, match=problem):
        plan(study.project, place, **options)


def test_a_resolution_of_other_boxes_is_refused_with_both_numbers(study, tmp_path):
    place = clam_file(tmp_path / "a.h5")
    with qb.open_project(study.project) as project:
        options = qb.RunOptions(coords=place)
        with pytest.raises(PlanError, match="boxes are 64 px .* size 64 and mpp 1 ask for 128 px"):
            qb.plan(project.slides[0], qb.ExportConfig(mpp=1), options=options)
        config = qb.ExportConfig(size=32, mpp=1, labels=False)
        found = qb.plan(project.slides[0], config, options=options)
    assert found.table.boxes[0, 2] == 64 and found.config.size == 32


def test_files_of_several_sizes_need_size_and_resolution(study, tmp_path):
    place = tmp_path / "places"
    place.mkdir()
    clam_file(place / "slide 1.h5")
    clam_file(place / "slide 2.h5", patch_size=32)
    with pytest.raises(UsageError, match="patches of 32 and of 64 px"):
        plan(study.project, place)


def test_boxes_of_another_slide_are_refused(study, tmp_path):
    place = clam_file(tmp_path / "a.h5", [[0, 0], [9000, 70], [9999, 9999]])
    with (
        qb.open_project(study.project) as project,
        pytest.raises(PlanError, match="2 of 3 listed boxes are outside .* begins at 9000, 70"),
    ):
        qb.plan(project.slides[0], options=qb.RunOptions(coords=place))


def test_places_in_micrometres_need_a_pixel_size(tmp_path):
    slide = write_slide(tmp_path / "s.tiff", np.zeros((200, 200, 3), np.uint8))
    project = build_project(tmp_path / "p", [Image(slide, pixel_size=None)])
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["coords"] = np.array([[16, 32]], np.float32)
        file.attrs.update({"unit": "um", "tile_size_um": 32.0, "tile_size_px": 64})
    plans = plan(project, tmp_path / "s.h5", labels=False)
    assert "pixel size of the slide is not known" in str(plans.failures[0].error)
    (found,) = plan(project, tmp_path / "s.h5", labels=False, pixel_size=0.5)
    assert found.table.boxes.tolist() == [[32, 64, 64, 64]]


def broken(path, kind):
    if kind == "not hdf5":
        path.write_bytes(b"nothing of this kind")
    elif kind == "no array":
        with h5py.File(path, "w") as file:
            file["features"] = np.zeros((3, 2))
    elif kind == "no size":
        with h5py.File(path, "w") as file:
            file["coords"] = np.zeros((3, 2))
    elif kind == "three columns":
        clam_file(path, [[1, 2, 3]])
    elif kind == "texts":
        with h5py.File(path, "w") as file:
            file.create_dataset("coords", data=[["a", "b"]], dtype=h5py.string_dtype())
            file["coords"].attrs.update({"patch_size": 64, "patch_level": 0})
    elif kind == "no number":
        clam_file(path, [[math.nan, 0.0]])
    elif kind == "no patch":
        clam_file(path, patch_size=0)
    elif kind == "a level without downsample":
        clam_file(path, patch_level=2)
    return path


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("gone", "coords: .*No such file"),
        ("not hdf5", "cannot be read"),
        ("no array", "no array coords"),
        ("no size", "do not say how large patches are"),
        ("three columns", r"of shape \(1, 3\), not \(N, 2\)"),
        ("texts", "its coordinates are object"),
        ("no number", "some coordinates are not numbers"),
        ("no patch", "its patches have no size"),
        ("a level without downsample", "of level 2, and it has no downsample"),
    ],
)
def test_files_that_are_not_coordinates_are_refused(study, tmp_path, kind, problem):
    place = broken(tmp_path / "slide 1.h5", kind)
    with qb.open_project(study.project) as project, pytest.raises(UsageError, match=problem):
        qb.plan(project.slides[0], options=qb.RunOptions(coords=place))


def test_slideflow_needs_its_configuration(study, tmp_path):
    np.savez(tmp_path / "slide 1.index.npz", arr_0=np.zeros((1, 2), np.int64))
    place = tmp_path / "slide 1.index.npz"
    with (
        qb.open_project(study.project) as project,
        pytest.raises(UsageError, match="not beside it"),
    ):
        qb.plan(project.slides[0], options=qb.RunOptions(coords=place))


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_bags_that_convert_made_for_slideflow_come_back(tmp_path):
    before = export(tmp_path / "before", size=128)
    qb.convert(before, tmp_path / "bags", "slideflow", features=features(before, tmp_path / "f"))
    after = export(tmp_path / "after", coords=tmp_path / "bags")
    assert rows(after) == rows(before)


def test_without_h5py_the_error_says_what_to_install(study, tmp_path, monkeypatch):
    place = clam_file(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    problem = r"qupath-bridge\[h5\]"
    with (
        qb.open_project(study.project) as project,
        pytest.raises(MissingDependencyError, match=problem),
    ):
        qb.plan(project.slides[0], options=qb.RunOptions(coords=place))


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def listed(study, tmp_path):
    """Coordinates of both slides of the study."""
    folder = tmp_path / "places"
    folder.mkdir()
    for name in ("slide 1.h5", "slide 2.h5"):
        clam_file(folder / name, [[64, 32], [128, 32], [400, 64]])
    return folder


def test_a_run_that_is_resumed_does_not_need_the_files(study, listed, tmp_path):
    config = qb.ExportConfig(min_share=0.3)
    whole = qb.export(study.project, tmp_path / "whole", config, coords=listed)
    seen = []

    class Stop:
        def is_set(self):
            return len(seen) > 3

    with pytest.raises(qb.InterruptedRunError):
        qb.export(
            study.project, tmp_path / "out", config, coords=listed, workers=1,
            on_progress=seen.append, cancel=Stop(),
        )  # fmt: skip
    for path in listed.iterdir():
        path.unlink()
    again = qb.export(study.project, tmp_path / "out", config, coords=listed, resume=True)
    assert rows(again) == rows(whole) and again.written > 0


def test_coordinates_of_one_slide_at_a_time_are_in_memory(tmp_path):
    """Also while a run of very many slides begins, and when it is resumed."""
    slides, number = 12, 20_000
    places = np.random.default_rng(1).integers(0, 100_000, (number, 2))
    for name in map(str, range(slides)):
        write_slide(tmp_path / f"{name}.tiff", np.full((64, 64, 3), int(name), np.uint8), mpp=0.5)
        clam_file(tmp_path / f"{name}.h5", places + int(name))
    output = open_output(tmp_path / "out", "folder")
    options = qb.RunOptions(coords=tmp_path)
    settings = Settings(qb.Selection(), qb.ExportConfig(labels=False), options)
    with qb.open_project(tmp_path) as project:
        chosen = project.slides

        def begin():
            found, fitted, *_ = survey_slides(chosen, chosen, output, settings, None, ())
            record = plan_run(
                found, output, fitted, failures=(), projects=(), command=(),
                run_id="01J00000000000000000000000",
            )  # fmt: skip
            start_run(found, output, fitted, record)
            return found

        content = read_coordinates(tmp_path / "0.h5").to_bytes()
        _, alone = memory(lambda: Coordinates.from_bytes(content).to_bytes())
        for make in (begin, lambda: frozen_inputs(output)):
            held, peak = memory(make)
            assert held < slides / 2 * len(content)
            assert peak < alone + slides / 2 * len(content)


def memory(make):
    """Return the bytes that a result takes, and the most that were taken meanwhile."""
    tracemalloc.start()
    try:
        made = make()
        assert made
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_coordinates_that_change_while_a_run_begins_are_refused(
    study, listed, tmp_path, monkeypatch
):
    freeze = starting._freeze_inputs

    def later(*args):
        clam_file(listed / "slide 2.h5", [[64, 32]])
        return freeze(*args)

    monkeypatch.setattr(starting, "_freeze_inputs", later)
    with pytest.raises(UsageError, match=r"slide 2\.h5 changed while it was used"):
        qb.export(study.project, tmp_path / "out", coords=listed)


def test_status_and_update_see_other_coordinates(study, listed, tmp_path):
    config = qb.ExportConfig(min_share=0.3)
    qb.export(study.project, tmp_path / "out", config, coords=listed)
    (before,) = qb.status(study.project)
    assert before.state == "current"
    clam_file(listed / "slide 2.h5", [[64, 32]])
    (after,) = qb.status(study.project)
    assert [entry.state for entry in after.entries] == ["current", "stale"]
    assert after.entries[1].reasons == ("the coordinates of the patches changed",)
    assert len(after.entries[1].removed) == 2
    run = qb.export(study.project, tmp_path / "out", config, coords=listed, update=True)
    assert run.written == 4
    with pytest.raises(OutputError, match="coords was"):
        qb.export(study.project, tmp_path / "out", config, update=True)
