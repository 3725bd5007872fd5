"""Projects over plain slides: what is written, the same ids, and the way of corrections back."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, ProjectError, UsageError
from qupath_bridge.qupath.geojson import read_tiles
from qupath_bridge.readers.qupath_metadata import server_builder
from qupath_bridge.testing.projects import tree_hashes
from tests.conftest import write_slides

from .test_write_back import change_in_qupath, shown

DATA = Path(__file__).parents[1] / "data"
SIZE = 64


@pytest.fixture
def cohort(tmp_path):
    """A folder with two slides, and a table of their labels."""
    write_slides(tmp_path / "slides", "AB")
    (tmp_path / "labels.csv").write_text("slide,diagnosis\nA,benign\nB,tumour\n")
    return tmp_path


def run(*words):
    return main([str(word) for word in words])


@pytest.mark.parametrize("name", sorted(json.loads((DATA / "qupath-imports.json").read_text())))
def test_builder_is_what_the_import_of_qupath_writes(name):
    """The expected values were written by QuPath 0.7.0 when it opened these files."""
    expected = json.loads((DATA / "qupath-imports.json").read_text(encoding="utf-8"))[name]
    assert server_builder(DATA / "slides" / name, "") == expected


@pytest.mark.parametrize("name", ["petebankhead_OS-2-ndpi.ome.tif", "picture.png"])
def test_reader_of_other_files_is_left_to_qupath(tmp_path, name):
    path = DATA / "slides" / name
    if not path.exists():
        from PIL import Image

        path = tmp_path / name
        Image.new("RGB", (64, 64)).save(path)
    assert server_builder(path, "file:/x") == {"builderType": "uri", "uri": "file:/x", "args": []}


def test_project_has_the_slides_with_their_ids_and_the_table(cohort, capsys):
    words = ["project", "create", cohort / "study", cohort / "slides", "--classes", "Tumor, Fat"]
    assert run(*words, "--metadata", cohort / "labels.csv") == 0
    assert "2 slides in" in capsys.readouterr().out
    plain = qb.open_project(cohort / "slides")
    with qb.open_project(cohort / "study", engine="embedded") as project:
        assert [(s.name, s.entry_id) for s in project] == [(s.name, s.entry_id) for s in plain]
        assert [dict(s.metadata) for s in project] == [
            {"diagnosis": "benign"}, {"diagnosis": "tumour"},
        ]  # fmt: skip
        assert [c.path for c in project.info.classes] == ["Tumor", "Fat"]
        assert project.problems == ()
        assert [s.path for s in project] == [s.path for s in plain]
        config = qb.ExportConfig(size=SIZE, labels=False)
        ours, theirs = qb.plan(project, config), qb.plan(plain, config)
        for one, other in zip(ours, theirs, strict=True):
            assert one.table == other.table
            assert one.slide_id == other.slide_id
            assert (one.slide.width, one.slide.height) == (256, 192)


def test_project_is_made_whole_or_not_at_all_and_never_changed(cohort, monkeypatch):
    made = qb.create_project(cohort / "study", cohort / "slides")
    before = tree_hashes(cohort)
    with pytest.raises(OutputError, match="is a project already, which is never changed"):
        qb.create_project(cohort / "study", cohort / "slides")
    with pytest.raises(OutputError, match="is not empty"):
        qb.create_project(cohort / "slides", cohort / "slides")
    with pytest.raises(UsageError, match="is in the project .* already"):
        qb.create_project(cohort / "other", made.path)
    with pytest.raises(UsageError, match=r"These are the same slide: A\.tiff, A\.tiff"):
        qb.create_project(cohort / "other", [cohort / "slides", cohort / "slides/A.tiff"])
    assert tree_hashes(cohort) == before
    from qupath_bridge.stores.local import LocalStore

    put, left = LocalStore.put, [3]

    def fail(self, name, *arguments, **options):
        left[0] -= 1
        if not left[0]:
            raise OutputError("The disk is full.")
        return put(self, name, *arguments, **options)

    monkeypatch.setattr(LocalStore, "put", fail)
    with pytest.raises(OutputError, match="The disk is full"):
        qb.create_project(cohort / "other", cohort / "slides")
    assert tree_hashes(cohort) == before
    assert not (cohort / "other").exists()


def test_slide_that_cannot_be_read_is_left_out_and_told(cohort, capsys):
    (cohort / "slides/bad.svs").write_bytes(b"II*\0" + b"\xff" * 500)
    assert run("project", "create", cohort / "study", cohort / "slides", "--json") == 1
    made = json.loads(capsys.readouterr().out)
    assert [failure["slide_name"] for failure in made["failures"]] == ["bad.svs"]
    assert made["slides"] == len(qb.open_project(cohort / "study")) == 2
    with pytest.raises(ProjectError, match="no slide can be put into a new project"):
        qb.create_project(cohort / "none", [cohort / "slides/bad.svs"])


def test_regions_of_geojson_files_are_in_the_new_project(cohort):
    (cohort / "regions").mkdir()
    ring = [[0, 0], [128, 0], [128, 128], [0, 128], [0, 0]]
    for name, label in (("A", "Tumor"), ("B", "Stroma")):
        feature = {
            "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": label}},
        }  # fmt: skip
        (cohort / f"regions/{name}.geojson").write_text(json.dumps(feature))
    qb.create_project(cohort / "study", cohort / "slides", annotations=cohort / "regions")
    with qb.open_project(cohort / "study", engine="embedded") as project:
        drawn = {s.name: [a.class_path for a in s.read().annotations] for s in project}
        assert drawn == {"A.tiff": ["Tumor"], "B.tiff": ["Stroma"]}


def test_export_makes_a_project_in_which_the_loop_closes(cohort, capsys):
    """Slides and a table go in; a patch is corrected in QuPath; the next export knows it."""
    words = ["--size", SIZE, "--metadata", cohort / "labels.csv"]
    words += ["--label-from", "metadata:diagnosis"]
    plain, out = cohort / "plain", cohort / "out"
    assert run("export", cohort / "slides", *words, "--out", plain) == 0
    new = ["--create-project", cohort / "study", "--out", out]
    assert run("export", cohort / "slides", *words, *new) == 0
    ids = ("patch_id", "tile_uuid", "label", "label_source", "entry_id", "digest")
    first, second = (qb.Run.load(place).table().select(ids) for place in (plain, out))
    assert first.equals(second)  # the same patches, with the same names and tiles
    project = cohort / "study" / "project.qpproj"
    with qb.open_project(project) as opened:
        assert {c.path for c in opened.info.classes} == {"benign", "tumour", "Ignore*"}
        entry_id = opened["A.tiff"].entry_id
    assert run("write-back", project, "--run", out, "--direct", "--force") == 0
    study = SimpleNamespace(project=project)
    folder = next((project.parent / "qupath_bridge/runs").iterdir())
    tiles = list(read_tiles(folder / f"{entry_id}.geojson.gz"))
    assert len(shown(study, entry_id)) == len(tiles) == 4 * 3
    change_in_qupath(
        study, remove={tiles[5].id}, entry_id=entry_id,
        add=[tiles[5]._replace(class_path="tumour", color=(1, 2, 3))],
    )  # fmt: skip
    label = ["--size", SIZE, "--label-from", "metadata:diagnosis", "--out", out]
    assert run("export", project, *label, "--update") == 0
    table = qb.Run.load(out).table().to_pylist()
    corrected = [row for row in table if row["label_source"] == "corrected"]
    assert [(row["tile_uuid"], row["label"], row["rule_label"]) for row in corrected] == [
        (tiles[5].id, "tumour", "benign")
    ]
    assert run("status", project, "--exit-code") == 0


def test_run_that_was_cut_off_goes_on_in_the_project_that_it_made(cohort):
    (cohort / "slides/bad.svs").write_bytes(b"II*\0" + b"\xff" * 500)
    words = ["export", cohort / "slides", "--size", SIZE, "--no-labels", "--out", cohort / "out"]
    words += ["--create-project", cohort / "study"]
    assert run(*words) == 1
    before = tree_hashes(cohort / "study" / "data")
    shutil.rmtree(cohort / "out/index")
    assert run(*words, "--resume") == 1  # the bad slide still fails
    assert tree_hashes(cohort / "study" / "data") == before
    assert qb.verify(cohort / "out").ok
    assert len(qb.Run.load(cohort / "out")) == 2


def test_no_project_is_made_for_an_output_that_is_refused(cohort, capsys):
    (cohort / "out").mkdir()
    (cohort / "out/mine.txt").write_text("x")
    words = ["export", cohort / "slides", "--size", SIZE, "--no-labels"]
    study = cohort / "study"
    assert run(*words, "--out", cohort / "out", "--create-project", study) == 5
    assert run(*words, "--out", cohort / "new", "--create-project", cohort / "new/study") == 2
    assert "would be in the output" in capsys.readouterr().err
    words += ["--label-from", "metadata:none"]
    words.remove("--no-labels")
    assert run(*words, "--out", cohort / "new", "--create-project", study) == 2
    assert not study.exists() and not (cohort / "new").exists()
