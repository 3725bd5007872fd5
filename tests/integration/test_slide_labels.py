"""Labels of whole slides: from a table or a slide's own metadata, to the patches and QuPath."""

import json
import shutil
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import ConfigError, UsageError
from qupath_bridge.model import Box
from qupath_bridge.patches.corrections import Correction, to_lines
from qupath_bridge.testing.projects import build_project, tree_hashes

SIZE = 64
COLUMNS, ROWS = 700 // SIZE, 500 // SIZE


@pytest.fixture
def cohort(tmp_path, two_slides, draw):
    """A project of two slides of one patient, with regions, and a table beside it."""
    images = [
        replace(image, metadata={"patient": "007", "site": site})
        for image, site in zip(draw.images(two_slides, (0, 0)), ("N", "S"), strict=True)
    ]
    project = build_project(tmp_path / "study", images)
    table = tmp_path / "labels.csv"
    table.write_text("slide;diagnosis\nslide 1;benign\nslide 2.tiff;0\n", encoding="utf-8")
    return project, table


def export(project, out, *more):
    words = ["export", project, "--size", SIZE, "--out", out, *more]
    return main([str(word) for word in words])


def columns(out, *names):
    table = qb.Run.load(out).table()
    return set(zip(*(table.column(name).to_pylist() for name in names), strict=True))


WANTED = ["--label-from", "metadata:diagnosis"]


def test_every_kept_patch_has_the_label_of_its_slide(cohort, tmp_path):
    project, table = cohort
    out = tmp_path / "out"
    layout = ["--layout", "patches/{label}/{patch_id}"]
    assert export(project, out, "--metadata", table, *WANTED, "--map", "0=control", *layout) == 0
    assert columns(out, "slide_name", "label", "label_source", "label_share", "margin") == {
        ("slide 1.tiff", "benign", "metadata", None, None),
        ("slide 2.tiff", "control", "metadata", None, None),
    }
    assert sorted(path.name for path in (out / "patches").iterdir()) == ["benign", "control"]
    run = qb.Run.load(out)
    # Ignore* still excludes: of the boxes that it touches, only column 9, row 6 is in the image.
    excluded = 1
    assert run.label_counts() == {
        "benign": COLUMNS * ROWS - excluded, "control": COLUMNS * ROWS - excluded,
    }  # fmt: skip
    index = run.table()
    assert index.column("shares").to_pylist() == [[]] * len(index)
    assert index.column("region_ids").to_pylist() == [[]] * len(index)
    metadata = {tuple(sorted(each)) for each in index.column("metadata").to_pylist()}
    own = {("patient", "007")}
    assert {frozenset(each) - own for each in metadata} == {
        frozenset({("site", "N"), ("diagnosis", "benign")}),
        frozenset({("site", "S"), ("diagnosis", "0")}),
    }
    assert qb.verify(out).ok
    # QuPath shows the label as the class of each tile.
    folder = project.parent / "qupath_bridge" / "runs" / run.run_id
    tiles = qb.geojson.load(folder / "1.geojson.gz")
    assert {tile.class_path for tile in tiles} == {"benign"}


def test_regions_still_select(cohort, tmp_path):
    project, table = cohort
    words = ["--metadata", table, *WANTED, "--within", "Tumor", "--min-within", "1"]
    assert export(project, tmp_path / "out", *words) == 0
    counted = qb.plan(project, qb.ExportConfig(size=SIZE, within=["Tumor"], min_within=1))
    run = qb.Run.load(tmp_path / "out")
    # The patches that lie wholly in the class are those that have its whole share.
    assert 0 < run.written == counted.patches
    assert {slide["slide_name"] for slide in run} == {"slide 1.tiff", "slide 2.tiff"}


def test_patient_level_table_labels_all_slides_of_a_patient(cohort, tmp_path):
    project, table = cohort
    table.write_text("patient,grade\n007,3\n008,2\n")
    words = ["--metadata", table, "--metadata-key", "patient", "--label-from", "metadata:grade"]
    assert export(project, tmp_path / "out", *words) == 0
    assert columns(tmp_path / "out", "slide_name", "label") == {
        ("slide 1.tiff", "3"), ("slide 2.tiff", "3"),
    }  # fmt: skip


def test_own_metadata_label_without_a_table(cohort, tmp_path, capsys):
    project, _ = cohort
    assert export(project, tmp_path / "out", "--label-from", "metadata:site") == 0
    assert columns(tmp_path / "out", "slide_name", "label") == {
        ("slide 1.tiff", "N"), ("slide 2.tiff", "S"),
    }  # fmt: skip
    assert export(project, tmp_path / "no", "--label-from", "metadata:sites") == 2
    assert "--label-from: no slide has metadata named 'sites'; there is 'site'" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "no").exists()


def test_slide_without_a_value_fails_alone(cohort, tmp_path, capsys):
    project, table = cohort
    table.write_text("slide,diagnosis,x\nslide 1,benign,1\nslide 2,,2\n")
    assert export(project, tmp_path / "out", "--metadata", table, *WANTED) == 1
    assert "slide 2.tiff (entry 2): no metadata diagnosis" in capsys.readouterr().err
    assert columns(tmp_path / "out", "slide_name", "label") == {("slide 1.tiff", "benign")}


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            "slide,d\nslide 1,a\nslide 1,b\n1,c\nother,d\n,e\n",
            "slide",
            [
                "rows 2 and 3: slide is 'slide 1' in both",
                "row 6: no slide",
                "rows 2 and 4: both are of slide 1.tiff (entry 1)",
                "slide 2.tiff (entry 2): no row is of this slide",
                "row 5 ('other'): of no slide",
            ],
        ),
        (
            "patient,site\n007,X\n",
            "patient",
            [
                "slide 1.tiff (entry 1): the table says site = 'X', and its own metadata 'N'",
                "slide 2.tiff (entry 2): the table says site = 'X', and its own metadata 'S'",
            ],
        ),
        (
            "patient,d\n7,X\n",
            "patient",
            [
                "slide 1.tiff (entry 1): no row has patient = '007'",
                "slide 2.tiff (entry 2): no row has patient = '007'",
                "row 2 ('7'): of no slide",
            ],
        ),
    ],
)
def test_what_does_not_fit_is_listed_all_at_once(cohort, tmp_path, text, key, said):
    project, table = cohort
    table.write_text(text)
    options = qb.RunOptions(metadata=table, metadata_key=key)
    with pytest.raises(UsageError) as caught:
        qb.export(project, tmp_path / "out", qb.ExportConfig(size=SIZE), options=options)
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == said
    assert not (tmp_path / "out").exists()


def test_rows_of_other_slides_are_a_warning_and_where_knows_the_table(cohort, tmp_path, capsys):
    project, table = cohort
    with table.open("a") as file:
        file.write("slide 9;benign\n")
    words = ["--metadata", table, *WANTED, "--where", "diagnosis=benign"]
    assert export(project, tmp_path / "out", *words) == 0
    assert "1 row of no slide: row 4 ('slide 9')" in capsys.readouterr().err
    assert columns(tmp_path / "out", "slide_name") == {("slide 1.tiff",)}


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_values_are_frozen_with_the_run(cohort, tmp_path, capsys, runner):
    project, table = cohort
    out = tmp_path / "out"
    words = ["--metadata", table, *WANTED, "--runner", runner, "--workers", "1"]
    assert export(project, out, *words) == 0
    assert export(project, tmp_path / "other", *words) == 0
    status = ["status", str(project), "--exit-code"]
    assert main(status) == 0
    plans = {p.slide_id: p.digest for p in qb.plan(
        project, qb.ExportConfig(size=SIZE, label_from="metadata:diagnosis"),
        options=qb.RunOptions(metadata=table),
    )}  # fmt: skip
    table.write_text("slide;diagnosis\nslide 1;malignant\nslide 2.tiff;0\n")
    changed = {p.slide_id: p.digest for p in qb.plan(
        project, qb.ExportConfig(size=SIZE, label_from="metadata:diagnosis"),
        options=qb.RunOptions(metadata=table),
    )}  # fmt: skip
    assert [key for key in plans if plans[key] != changed[key]] == ["1_slide-1.tiff"]
    # Resume takes the values that the run began with, also where the table is gone.
    before = tree_hashes(out / "patches")
    table.rename(tmp_path / "gone.csv")
    assert export(project, out, *words, "--resume") == 0
    assert tree_hashes(out / "patches") == before
    assert qb.verify(out).ok
    (tmp_path / "gone.csv").rename(table)
    capsys.readouterr()
    assert main(status) == 1
    printed = capsys.readouterr().out
    assert "the label of the slide was 'benign' and is 'malignant'" in printed
    assert export(project, out, *words, "--update") == 0
    assert columns(out, "slide_name", "label") == {
        ("slide 1.tiff", "malignant"), ("slide 2.tiff", "0"),
    }  # fmt: skip
    frozen = out / json.loads((out / "run.json").read_text())["inputs"].popitem()[0]
    assert frozen.parent.name == "metadata"
    frozen.write_text("{}")
    assert {finding.kind for finding in qb.verify(out).findings} == {"changed"}


def test_status_says_when_other_columns_changed(cohort, tmp_path, capsys):
    project, table = cohort
    table.write_text("slide,diagnosis,age\n1,a,50\n2,b,60\n")
    assert export(project, tmp_path / "out", "--metadata", table, *WANTED) == 0
    table.write_text("slide,diagnosis,age\n1,a,50\n2,b,61\n")
    capsys.readouterr()
    assert main(["status", str(project), "--exit-code"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("the table says something else of the slide") == 1


def test_corrections_overrule_the_label_of_the_slide(cohort, tmp_path):
    project, _ = cohort
    config = qb.ExportConfig(size=SIZE, label_from="metadata:site")
    with qb.open_project(project) as opened:
        plan = qb.plan(opened["1"], config)
        boxes = [Box(*box) for box in plan.table.boxes[:3].tolist()]
        wanted = [("corrected", "fat"), ("corrected", None), ("rejected", None)]
        said = [
            Correction(kind, box, "N", after, "r", "N", plan.fingerprint.digest, "t")
            for box, (kind, after) in zip(boxes, wanted, strict=True)
        ]
        path = tmp_path / "said.jsonl"
        path.write_bytes(to_lines(("1", one) for one in said))
        options = qb.RunOptions(corrections=str(path))
        new = qb.plan(opened["1"], config, options=options)
    assert len(new) == len(plan) - 2  # rejected, and one without a label
    assert new.label_counts() == {"N": len(plan) - 3, "fat": 1}
    assert int(new.dropped[qb.Reason.REJECTED]) == int(new.dropped[qb.Reason.NO_LABEL]) == 1


def test_missing_drawings_are_not_needed(cohort, tmp_path):
    project, table = cohort
    shutil.rmtree(project.parent / "data")
    assert export(project, tmp_path / "out", "--metadata", table, *WANTED) == 0
    assert qb.Run.load(tmp_path / "out").written == 2 * COLUMNS * ROWS


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"label_from": "metadata:"}, "label_from is regions or metadata:KEY"),
        ({"label_from": "table:x"}, "label_from is regions or metadata:KEY"),
        ({"label_from": "metadata:x", "rule": "any"}, "rule would not be used"),
        ({"label_from": "metadata:x", "labels": False}, "labels would not be used"),
        ({"metadata_key": "x"}, "metadata_key needs metadata"),
    ],
)
def test_options_that_do_not_go_together(values, said):
    with pytest.raises(ConfigError, match=said):
        qb.Settings.parse(values)


def test_file_names_with_one_stem_are_told_apart(tmp_path, two_slides):
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(two_slides[0], folder / "A.tiff")
    shutil.copy(two_slides[1], folder / "A.svs")
    table = tmp_path / "t.csv"
    table.write_text("slide,d\nA,x\nA.svs,y\n")
    config = qb.ExportConfig(size=SIZE, label_from="metadata:d")
    with pytest.raises(UsageError, match="'A' is the name of several slides"):
        qb.plan(folder, config, options=qb.RunOptions(metadata=table))
    table.write_text("slide,d\nA.tiff,x\nA.svs,y\n")
    plans = qb.plan(folder, config, options=qb.RunOptions(metadata=table))
    assert {plan.slide.name: set(plan.label_counts()) for plan in plans} == {
        "A.tiff": {"x"}, "A.svs": {"y"},
    }  # fmt: skip
