"""Way back from a patch or a file, compared with what was put in and with raw files."""

import csv
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import xxhash

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.testing.projects import Image, Region, build_project, tree_hashes
from qupath_bridge.testing.slides import write_slide
from tests.conftest import texture

from .test_corrected_runs import CONFIG, collected, export, rows_of, said


def patch_of(out, number=0, label="Tumor", entry="1"):
    """A row of the raw index of an output."""
    rows = [row for row in qb.read_index(out).to_pylist() if row["entry_id"] == entry]
    return [row for row in rows if row["label"] == label][number]


def raw(out, name="run.json"):
    return json.loads((out / name).read_text(encoding="utf-8"))


def drawn(study, entry="1"):
    """The annotations that QuPath's data of a slide have: id, class, shape."""
    image = EmbeddedSource().read_file(study.project.parent / "data" / entry / "data.qpdata")
    return {
        o.id: (o.class_path, o.roi.geometry)
        for o in image.objects
        if o.object_type is qb.ObjectType.ANNOTATION
    }


# --- one patch -----------------------------------------------------------------------------------


def test_from_a_patch_file_back_to_everything(study):
    out = study.folder / "out"
    run = export(study.project, out)
    row = patch_of(out, 4)
    collected(study.project, [said(row, "Necrosis", reviewer="Ann")])
    qb.split(out, folds=2, by="slide_id")
    ids = run.table()["patch_id"].to_pylist()
    table = pa.table({"patch_id": ids, "score": np.arange(len(ids)) / 8})
    qb.predictions(out, table, "cnn")
    before = tree_hashes(study.folder)
    found = qb.lineage(out / row["path"])
    assert tree_hashes(study.folder) == before  # looking writes nothing

    # The slide: the file itself, and the fingerprint that the file has now.
    (slide,) = found.slides
    assert slide.path == str(study.slides[0])
    with qb.open_reader(study.slides[0]) as reader:
        assert slide.fingerprint["digest"] == reader.fingerprint.digest
    assert (slide.entry_id, slide.project) == ("1", str(study.project))
    # The regions: those annotations of QuPath's data that are in the box.
    box = shapely.box(*found.patch.box[:2], *np.add(found.patch.box[:2], found.patch.box[2:]))
    touched = {i: name for i, (name, shape) in drawn(study).items() if shape.intersects(box)}
    assert {r.region_id: r.class_path for r in found.patch.regions}.items() <= touched.items()
    assert found.patch.regions[0].class_path == "Tumor" == found.patch.label
    assert found.patch.intact is True
    # What the pathologist said, since the run.
    (one,) = found.statements
    assert (one.correction.reviewer, one.correction.before, one.correction.after) == (
        "Ann", "Tumor", "Necrosis",
    )  # fmt: skip
    assert (one.in_run, one.about_this_file) == (False, True)
    # The run, from its record as it is written.
    record = raw(out)
    assert (found.run.run_id, found.run.config_digest) == (
        record["run_id"], record["config_digest"],
    )  # fmt: skip
    assert list(found.run.command) == record["command"] == ["test"]
    assert found.run.tool["version"] == qb.__version__
    # The fold, from the table for people.
    with (out / "splits" / "folds.csv").open(encoding="utf-8") as file:
        folds = {line["slide_id"]: line["fold"] for line in csv.DictReader(file)}
    (fold,) = found.folds
    assert (fold.split, fold.fold, fold.stale) == ("folds", folds[row["slide_id"]], False)
    # The prediction.
    (made,) = found.predictions
    score = ids.index(row["patch_id"]) / 8
    assert (made.name, dict(made.values)) == ("cnn", {"qb pred cnn: score": score})
    assert found.not_found == ()


def test_ids_and_names_lead_to_the_same_patch(study, monkeypatch):
    out = study.folder / "out"
    export(study.project, out)
    row = patch_of(out, 3)
    wanted = qb.lineage(out / row["path"]).patch
    for subject in (row["patch_id"], row["tile_uuid"], row["path"]):
        for place in ({"out": out}, {"project": study.project}, {"out": qb.Run.load(out)}):
            found = qb.lineage(subject, **place).patch
            assert (found.patch_id, found.digest, found.box) == (
                wanted.patch_id, wanted.digest, wanted.box,
            )  # fmt: skip
            assert found.intact is None  # no file was named


def test_a_mask_leads_to_its_patch(study):
    out = study.folder / "out"
    export(study.project, out, CONFIG.replace(masks="class"))
    row = patch_of(out, 1)
    found = qb.lineage(out / row["mask"])
    assert (found.patch.patch_id, found.patch.intact) == (row["patch_id"], True)


def test_a_copy_is_found_by_its_bytes_and_a_changed_one_is_said(study):
    out = study.folder / "out"
    export(study.project, out)
    row, elsewhere = patch_of(out, 2), study.folder / "elsewhere"
    elsewhere.mkdir()
    renamed = elsewhere / "figure 3.png"
    shutil.copy(out / row["path"], renamed)
    found = qb.lineage(renamed, out=out)
    assert (found.patch.patch_id, found.patch.intact) == (row["patch_id"], True)
    with pytest.raises(UsageError, match="does not say from which run"):
        qb.lineage(renamed)

    named = elsewhere / f"{row['patch_id']}.png"
    content = (out / row["path"]).read_bytes()
    named.write_bytes(content + b"\0")
    assert xxhash.xxh3_128_hexdigest(content) == row["digest"].removeprefix("xxh3_128:")
    found = qb.lineage(named, out=out)
    assert (found.patch.patch_id, found.patch.intact) == (row["patch_id"], False)
    with pytest.raises(UsageError, match="where its run is"):
        qb.lineage(named)


def test_a_correction_that_the_run_took_is_told_from_a_later_one(study):
    out = study.folder / "out"
    export(study.project, out)
    row = patch_of(out)
    collected(study.project, [said(row, "Necrosis", reviewer="Ann")])
    export(study.project, out, update=True)
    later = {"reviewer": "Bea", "before": "Necrosis", "time": "2026-02-02T00:00:00Z"}
    collected(study.project, [said(row, "Stroma", **later)], key="02")
    found = qb.lineage(row["patch_id"], out=out)
    assert (found.patch.label, found.patch.label_source, found.patch.rule_label) == (
        "Necrosis", "corrected", "Tumor",
    )  # fmt: skip
    assert [(s.correction.reviewer, s.correction.after, s.in_run) for s in found.statements] == [
        ("Ann", "Necrosis", True), ("Bea", "Stroma", False),
    ]  # fmt: skip
    # Statements about other boxes stay out.
    assert qb.lineage(patch_of(out)["patch_id"], out=out).statements == ()
    # The project is gone: what the run took is in the output, and what is missing is said.
    shutil.move(study.project.parent, study.folder / "moved")
    found = qb.lineage(row["patch_id"], out=out)
    assert [s.correction.reviewer for s in found.statements] == ["Ann"]
    assert [str(study.project) in text for text in found.not_found] == [True, False]


def test_another_slide_file_is_said(study):
    out = study.folder / "out"
    export(study.project, out)
    row = patch_of(out)
    collected(study.project, [said(row, "Necrosis", fingerprint="0" * 32)])
    (one,) = qb.lineage(out / row["path"]).statements
    assert one.about_this_file is False


def test_a_patch_of_a_run_that_was_replaced(study):
    out, kept = study.folder / "out", study.folder / "kept"
    first = export(study.project, out)
    row = patch_of(out)
    shutil.copytree(out / "patches", kept)
    collected(study.project, [said(row, kind="rejected", reviewer="Ann")])
    second = export(study.project, out, update=True)
    assert row["patch_id"] not in rows_of(second)
    file = kept / row["path"].removeprefix("patches/")
    for place in ({"out": out}, {"project": study.project}):
        found = qb.lineage(file, **place)
        assert (found.run.run_id, found.run.replaced_by) == (first.run_id, second.run_id)
        assert (found.patch.patch_id, found.patch.intact) == (row["patch_id"], True)
        assert found.patch.label == "Tumor"
        assert [s.correction.kind for s in found.statements] == ["rejected"]
        looked = " ".join(found.not_found)
        assert first.run_id in looked and second.run_id in looked and "regions" in looked
    assert qb.lineage(patch_of(out)["patch_id"], out=out).run.run_id == second.run_id
    with pytest.raises(OutputError) as caught:
        qb.lineage("1_nothing_x0_y0", project=study.project)
    assert first.run_id in str(caught.value) and second.run_id in str(caught.value)


def test_bytes_of_an_earlier_run_lead_to_that_run(study):
    """The newest run has a patch of this id too, but with other bytes."""
    out = study.folder / "out"
    first = export(study.project, out, CONFIG.replace(format="png"))
    row = patch_of(out)
    file = study.folder / f"{row['patch_id']}.png"
    shutil.copy(out / row["path"], file)
    shutil.rmtree(out)
    second = export(study.project, out, CONFIG.replace(format="jpeg"))
    assert row["patch_id"] in rows_of(second)
    found = qb.lineage(file, out=out)
    assert (found.run.run_id, found.run.replaced_by) == (first.run_id, second.run_id)
    assert found.patch.digest == row["digest"]


def test_an_output_that_is_gone_leaves_what_the_project_has(study):
    out = study.folder / "out"
    run = export(study.project, out)
    row = patch_of(out)
    shutil.rmtree(out)
    found = qb.lineage(row["tile_uuid"], project=study.project)
    assert (found.run.run_id, found.run.replaced_by) == (run.run_id, None)
    assert (found.patch.patch_id, found.patch.path) == (row["patch_id"], row["path"])
    assert str(out) in found.not_found[0]
    assert any("regions" in text for text in found.not_found)


def test_a_stale_split_is_said(study):
    out = study.folder / "out"
    export(study.project, out)
    qb.split(out, folds=2, by="slide_id")
    row = patch_of(out)
    collected(study.project, [said(patch_of(out, 1), kind="rejected")])
    export(study.project, out, update=True)
    (fold,) = qb.lineage(out / row["path"]).folds
    assert fold.stale and fold.fold is not None


def test_patches_in_shards_are_found_by_id(study):
    out = study.folder / "out"
    export(study.project, out, CONFIG.replace(container="tar"))
    row = patch_of(out)
    assert qb.lineage(row["patch_id"], out=out).patch.path == row["path"]
    whole = qb.lineage(out / row["path"])  # the shard holds many
    (slide,) = whole.slides
    rows = [each for each in qb.read_index(out).to_pylist() if each["path"] == row["path"]]
    assert (whole.patch, slide.slide_id, slide.patches) == (None, row["slide_id"], len(rows))


# --- what was made of patches --------------------------------------------------------------------


@pytest.fixture
def trained(study):
    """A run with a split, a converted copy, predictions, and a model with a file beside it."""
    out = study.folder / "out"
    run = export(study.project, out)
    qb.split(out, folds=2, by="slide_id")
    qb.convert(out, study.folder / "pictures", "imagefolder")
    ids = [row["patch_id"] for row in run.table().to_pylist() if row["entry_id"] == "2"]
    pq.write_table(
        pa.table({"patch_id": ids, "score": [0.5] * len(ids)}), study.folder / "p.parquet"
    )
    done = qb.predictions(out, study.folder / "p.parquet", "cnn")
    model = study.folder / "model.pt"
    model.write_bytes(b"weights")
    (study.folder / "model.pt.json").write_text(json.dumps({"run_id": run.run_id}))
    return study, out, run, done.folders[0], ids


def test_files_that_were_made_of_a_run_lead_to_it(trained):
    study, out, run, predicted, ids = trained
    counts = {
        entry: sum(row["entry_id"] == entry for row in rows_of(run).values()) for entry in "12"
    }
    with (out / "splits" / "folds.csv").open(encoding="utf-8") as file:
        folds = {line["slide_id"]: line["fold"] for line in csv.DictReader(file)}
    subjects = {
        out: {}, out / "splits" / "folds.parquet": {}, predicted / "record.json": {},
        predicted: {}, study.folder / "pictures": {"out": out},
        study.folder / "model.pt": {"project": study.project},
    }  # fmt: skip
    for subject, place in subjects.items():
        found = qb.lineage(subject, **place)
        assert (found.patch, found.run.run_id) == (None, run.run_id), subject
        assert {slide.entry_id: slide.patches for slide in found.slides} == counts
        assert {s.slide_id: s.folds["folds"] for s in found.slides} == folds
        assert [made.name for made in found.predictions] == ["cnn"]
    picture = next((study.folder / "pictures").rglob("*.png"))
    assert qb.lineage(picture, out=out).patch.patch_id == picture.stem
    # A table: only the slides that it is about, and how many of its patches the run has.
    found = qb.lineage(study.folder / "p.parquet", out=out)
    assert {slide.entry_id: slide.patches for slide in found.slides} == {"2": len(ids)}


def test_features_of_an_earlier_run_lead_to_that_run(trained):
    study, out, first, _, ids = trained
    folder = out / "features" / "tiny"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"run_id": first.run_id}))
    file = folder / "2_slide-2.tiff.parquet"
    shutil.copy(study.folder / "p.parquet", file)
    found = qb.lineage(file)
    assert (found.run.run_id, found.run.replaced_by) == (first.run_id, None)
    assert {slide.entry_id: slide.patches for slide in found.slides} == {"2": len(ids)}
    collected(study.project, [said(patch_of(out), kind="rejected")])
    second = export(study.project, out, update=True)
    for subject in (file, folder):
        found = qb.lineage(subject)
        assert (found.run.run_id, found.run.replaced_by) == (first.run_id, second.run_id)


def test_a_table_with_patches_of_another_run(trained):
    study, out, _, _, ids = trained
    table = study.folder / "other.csv"
    table.write_text(f"patch_id,score\n{ids[0]},1\nnothing_x0_y0,2\n")
    found = qb.lineage(table, project=study.project)
    assert [slide.patches for slide in found.slides] == [1]
    assert any("1 of 2" in text and "nothing_x0_y0" in text for text in found.not_found)
    table.write_text("patch_id,score\nnothing_x0_y0,2\n")
    with pytest.raises(OutputError, match="not found"):
        qb.lineage(table, out=out)


def test_a_model_of_a_run_that_nobody_has(trained):
    study, out, *_ = trained
    other = "0" * 26
    (study.folder / "model.pt.json").write_text(json.dumps({"run_id": other}))
    with pytest.raises(OutputError) as caught:
        qb.lineage(study.folder / "model.pt", out=out)
    assert other in str(caught.value) and str(out) in str(caught.value)
    with pytest.raises(UsageError, match=other):
        qb.lineage(study.folder / "model.pt")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_the_same(trained, capsys):
    _, out, run, *_ = trained
    row = patch_of(out)
    assert main(["lineage", str(out / row["path"])]) == 0
    text = capsys.readouterr().out
    for part in (row["patch_id"], row["region_ids"][0], run.run_id, row["slide_file"]):
        assert part in text
    assert main(["lineage", row["patch_id"], "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["patch"]["patch_id"] == row["patch_id"]
    assert record["run"]["run_id"] == run.run_id
    assert [region["region_id"] for region in record["patch"]["regions"]] == row["region_ids"]
    assert main(["lineage", str(out)]) == 0
    assert "fold 0 of folds" in capsys.readouterr().out
    assert main(["lineage", "nothing", "--out", str(out)]) == 5
    assert main(["lineage", "nothing"]) == 2


def test_names_behind_pseudonyms_need_their_key(tmp_path, monkeypatch):
    slide = tmp_path / "Mueller.tiff"
    write_slide(slide, texture(1, (256, 192)), mpp=0.5)
    ring = "POLYGON ((0 0, 160 0, 160 160, 0 160, 0 0))"
    project = build_project(tmp_path / "study Mueller", [Image(slide, [Region("Tumor", ring)])])
    out, key = tmp_path / "out", tmp_path / "key.json"
    words = ["export", str(project), "--size", "64", "--out", str(out)]
    words += ["--pseudonymise", str(key)]
    monkeypatch.setattr("sys.argv", ["qupath-bridge", *words])
    assert main(words) == 0
    row = qb.read_index(out).to_pylist()[0]
    closed = qb.lineage(out / row["path"])
    assert "Mueller" not in repr((closed, *closed.slides, closed.run.command))
    opened = qb.lineage(out / row["path"], pseudonymise=key)
    assert (opened.slides[0].path, opened.slides[0].project) == (str(slide), str(project))
    assert opened.run.command == ("qupath-bridge", *words)
    assert opened.patch == closed.patch
