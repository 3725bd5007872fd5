"""Messages that a person can act on: missing files, missing data, tables, wrong arguments."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.testing.projects import Image, build_project, tree_hashes

SIZE = ["--size", "50"]


def call(capsys, *words):
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys, *words):
    status, out, _ = call(capsys, *words, "--json")
    return status, json.loads(out)


# --- slide files that are missing ---------------------------------------------------------------


@pytest.fixture
def lost(tmp_path):
    """A project of 434 slides on a drive of another computer."""
    images = [Image(f"file:/I:/COAD/{n:08}/TCGA-{n}.svs", size=(20, 10)) for n in range(1, 435)]
    return build_project(tmp_path / "lost", images)


GROUP = "434 slides below I:\\COAD are not here; try --slide-map 'I:\\COAD=…', or --search DIR"


def test_many_missing_slides_are_one_message(lost, tmp_path, capsys):
    status, out, errors = call(capsys, "plan", lost)
    assert (status, out) == (1, "")
    assert errors == f"failed: {GROUP}\n"
    status, out, errors = call(capsys, "inspect", lost)
    assert status == 1
    assert errors == f"problem: {GROUP}\n"
    assert call_json(capsys, "inspect", lost)[0] == 1
    # The report is written although nothing could be done, with every slide in it.
    status, out, errors = call(capsys, "export", lost, "--out", tmp_path / "out", "--progress=none")
    assert status == 1
    assert errors.endswith(f"failed: {GROUP}\n") and len(errors.splitlines()) < 4
    assert "Next" not in out  # there is nothing to verify
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert len(report["failures"]) == 434
    assert report["failures"][0]["missing"] == "I:\\COAD\\00000001\\TCGA-1.svs"
    assert "next" in report["failures"][0]


def test_only_the_slides_that_are_asked_for_are_told(lost, capsys):
    status, _, errors = call(capsys, "plan", lost, "--entry", "2", "--entry", "3")
    assert status == 1
    lines = errors.splitlines()
    assert len(lines) == 2
    for line, number in zip(lines, (2, 3), strict=True):
        assert f"I:\\COAD\\0000000{number}\\TCGA-{number}.svs was not found" in line
        assert "with --search, its new place with --slide-map (OLD=NEW)" in line


def test_inspect_with_one_readable_slide_is_fine(tmp_path, two_slides, capsys):
    path = build_project(tmp_path / "p", [Image(two_slides[0]), Image("gone.svs", size=(9, 9))])
    status, result = call_json(capsys, "inspect", path)
    assert status == 0
    assert [entry["readable"] for entry in result["entries"]] == [True, False]
    (problem,) = result["problems"]
    assert "gone.svs was not found" in problem


def test_status_with_every_slide_missing_is_not_fine(study, tmp_path, capsys):
    call(capsys, "export", study.project, "--out", tmp_path / "out", *SIZE, "--progress=none")
    assert call(capsys, "status", study.project)[0] == 0
    study.redraw(*[Image(tmp_path / f"gone {n}.tiff", size=(700, 500)) for n in (1, 2)])
    assert call(capsys, "status", study.project)[0] == 1
    assert call_json(capsys, "status", study.project)[0] == 1


def test_slide_map_that_fits_nothing_and_folder_that_does_not_exist(study, tmp_path, capsys):
    words = ["--slide-map", "Q:=/nowhere"]
    for command in (
        ["inspect", study.project],
        ["plan", study.project, *SIZE],
        ["export", study.project, *SIZE, "--out", tmp_path / "out", "--progress=none"],
    ):
        status, _, errors = call(capsys, *command, *words)
        assert status == 0
        assert f"No slide of {study.project} fits --slide-map Q:=/nowhere." in errors
    status, _, errors = call(capsys, "plan", study.project, "--search", tmp_path / "nowhere")
    assert status == 2
    assert f"{tmp_path / 'nowhere'}, the place of --search, is not there" in errors


# --- data that were not copied ------------------------------------------------------------------


def test_project_without_data_is_an_error(study, tmp_path, capsys):
    data = study.project.parent / "data"
    data.rename(tmp_path / "kept")
    out = tmp_path / "out"
    words = [*SIZE, "--background", "normal"]
    for command in (["plan"], ["export", "--out", out, "--progress=none"]):
        status, printed, errors = call(capsys, *command, study.project, *words)
        assert (status, printed) == (4, "")
        assert f"{data}: this folder of the project is missing" in errors
        assert "Copy the folder data from" in errors
    assert not out.exists()
    # Without labels nobody has to know what was drawn: 700 x 500 pixels in boxes of 50.
    status, result = call_json(capsys, "plan", study.project, *SIZE, "--no-labels")
    assert (status, result["patches"]) == (0, 2 * 14 * 10)
    assert str(data) in " ".join(result["warnings"])
    (warning,) = result["warnings"]
    status, result = call_json(
        capsys, "export", study.project, *SIZE, "--no-labels", "--out", out, "--progress=none"
    )
    assert (status, result["written"]) == (0, 280)
    status, result = call_json(capsys, "inspect", study.project)
    assert result["problems"] == [warning]


def test_slide_without_its_folder_of_data_fails_alone(study, tmp_path, capsys):
    shutil.rmtree(study.project.parent / "data" / "1")
    out = tmp_path / "out"
    words = [study.project, *SIZE, "--background", "normal"]
    for command in (["plan"], ["export", "--out", out, "--progress=none"]):
        status, result = call_json(capsys, *command, *words)
        assert status == 1
        assert [slide["entry_id"] for slide in result["slides"]] == ["2"]
        (failure,) = result["failures"]
        assert failure["entry_id"] == "1"
        assert "the folder of this slide is missing" in failure["error"]
        assert "Copy the folder data/1" in failure["next"]
    status, result = call_json(capsys, "plan", study.project, *SIZE, "--no-labels", "--entry", "1")
    assert (status, result["patches"]) == (0, 140)


def test_slide_with_an_empty_folder_of_data_was_never_annotated(study, capsys):
    folder = study.project.parent / "data" / "1"
    for path in folder.iterdir():
        path.unlink()
    status, result = call_json(
        capsys, "plan", study.project, *SIZE, "--entry", "1", "--background", "normal"
    )
    assert (status, result["labels"]) == (0, {"normal": 140})


# --- pixels that cannot be exported -------------------------------------------------------------


def test_channels_that_the_file_does_not_have_are_refused(study, tmp_path, capsys):
    """The file itself is RGB; QuPath recorded fluorescence. Both lists are shown."""
    text = study.project.read_text(encoding="utf-8")
    raw = json.loads(text)
    for image in raw["images"]:
        image["serverBuilder"]["metadata"] |= {
            "isRGB": False,
            "pixelType": "UINT16",
            "channels": [{"name": f"M{n}", "color": -1} for n in range(33)],
        }
    raw["images"][1]["serverBuilder"]["uri"] = "file:/X:/nowhere.tif"
    study.project.write_text(json.dumps(raw), encoding="utf-8")
    status, out, errors = call(capsys, "inspect", study.project)
    assert status == 1
    assert "fluorescence, 33 channels of 16 bit" in out
    first, second = errors.splitlines()
    assert "QuPath recorded 33 channels (M0, M1, M2," in first
    assert "(Red, Green, Blue)" in first
    assert "X:/nowhere.tif" in second or "X:\\nowhere.tif" in second
    status, result = call_json(capsys, "plan", study.project, *SIZE, "--no-labels")
    assert (status, result["patches"]) == (1, 0)
    assert ["33 channels" in failure["error"] for failure in result["failures"]] == [True, False]


# --- tables and warnings ------------------------------------------------------------------------


def test_table_has_a_total_and_entry_ids_where_names_repeat(tmp_path, two_slides, capsys):
    box = [("Tumor", shapely.box(0, 0, 100, 100))]
    names = ("same", "same", "other")
    images = [Image(two_slides[0], box, name=name) for name in names]
    path = build_project(tmp_path / "p", images)
    words = [path, *SIZE]
    for command in (["plan"], ["export", "--out", tmp_path / "out", "--progress=none"]):
        _, out, _ = call(capsys, *command, *words)
        rows = [line.split("  ") for line in out.splitlines()[:5]]
        assert [row[0].strip() for row in rows] == [
            "slide", "same (entry 1)", "same (entry 2)", "other", "total",
        ]  # fmt: skip
        assert "12" in out.splitlines()[4]
        assert "Tumor 12" in out.splitlines()[4]
    _, out, _ = call(capsys, "plan", *words, "--entry", "3")
    assert "total" not in out


def test_slide_without_patches_among_others_is_a_warning(tmp_path, two_slides, capsys):
    first = Image(two_slides[0], [("Tumor", shapely.box(0, 0, 100, 100))], name="good")
    images = [first, replace(first, regions=(), name="bare")]
    path = build_project(tmp_path / "p", images)
    text = "bare: no patch is kept, mainly by no_label (140 of 140)."
    for command in (["plan"], ["export", "--out", tmp_path / "out", "--progress=none"]):
        status, result = call_json(capsys, *command, path, *SIZE)
        assert status == 0
        assert text in result["warnings"]
        assert not any("good" in warning for warning in result["warnings"])
    assert text in qb.plan(path, qb.ExportConfig(size=50)).warnings


# --- paths that are not projects ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data/1/data.qpdata", "QuPath's data file of one slide"),
        ("a.geojson.gz", "a GeoJSON file"),
        ("project.qpproj.backup", "QuPath's backup of a project file"),
        ("export.toml", "a configuration file"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "plan", "status"])
def test_path_that_is_not_a_project_is_named_for_what_it_is(study, capsys, name, kind, command):
    path = study.project.parent / name
    path.touch()
    status, out, errors = call(capsys, command, path)
    assert (status, out) == (4, "")
    assert f"{path}: this is {kind}" in errors
    assert str(study.project) in errors  # the project that it may be of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data/1/thumbnail.jpg", "a picture"),
        ("slide.SVS", "a slide file"),
        ("slide.ome.tiff", "a slide file"),
    ],
)
def test_slide_where_a_project_is_needed_is_named_for_what_it_is(study, capsys, name, kind):
    path = study.project.parent / name
    path.touch()
    status, out, errors = call(capsys, "status", path)
    assert (status, out) == (4, "")
    assert f"{path}: this is {kind}" in errors
    assert str(study.project) in errors
    status, out, errors = call(capsys, "plan", path)  # a slide is a source, but this one is empty
    assert (status, out) == (1, "")
    assert str(path) in errors and "not a project" not in errors


@pytest.mark.parametrize("command", ["inspect", "status"])
def test_folder_inside_a_project_is_pointed_to_the_project(study, capsys, command):
    status, _, errors = call(capsys, command, study.project.parent / "data" / "1")
    assert status == 4
    assert f"Its project may be {study.project}." in errors


def test_slide_without_a_project_near_it(tmp_path, capsys):
    path = Path(tmp_path, "a", "b", "c", "d", "slide.svs")
    path.parent.mkdir(parents=True)
    path.touch()
    before = tree_hashes(tmp_path)
    status, _, errors = call(capsys, "status", path)
    assert status == 4
    assert "this is a slide file, not a project. Pass the project.qpproj" in errors
    assert "`qupath-bridge project create` makes one" in errors
    assert tree_hashes(tmp_path) == before
