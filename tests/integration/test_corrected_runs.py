"""Runs with corrections and live annotations: whole exports, their inputs, and what follows."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import shapely

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import InterruptedRunError, OutputError, ProjectError, UsageError
from qupath_bridge.model import Box
from qupath_bridge.patches.corrections import Correction, to_lines
from qupath_bridge.pipeline import export as export_module
from qupath_bridge.pipeline import patch_pixels
from qupath_bridge.pipeline.task import process_slide
from qupath_bridge.qupath import geojson
from qupath_bridge.testing.projects import Image, Region, build_project

DATA = Path(__file__).parents[1] / "data"
CONFIG = qb.ExportConfig(size=50, min_share=0.4)


def said(row, after=None, kind="corrected", **changes):
    """What a person says about the patch of a row of an index."""
    box = Box(*(row[f"{side}_qupath"] for side in "xywh"))
    label = row["label"]
    listed = isinstance(label, list)
    values = {
        "before": ": ".join(label) if listed else label, "after": after, "run_id": row["run_id"],
        "rule_label": tuple(label) if listed else label, "time": "2026-01-01T00:00:00Z",
        "fingerprint": row["slide_digest"].removeprefix("xxh3_128:"),
    }  # fmt: skip
    return row["entry_id"], Correction(kind, box, **(values | changes))


def collected(project, corrections, key="01"):
    """Put corrections into a project as a collection does."""
    for entry_id in {entry_id for entry_id, _ in corrections}:
        folder = Path(project).parent / "qupath_bridge" / "corrections" / entry_id
        folder.mkdir(parents=True, exist_ok=True)
        own = [each for each in corrections if each[0] == entry_id]
        (folder / f"{key}.jsonl").write_bytes(to_lines(own))


def export(project, out, config=CONFIG, **options):
    options = {"workers": 1, "engine": "embedded", **options}
    return qb.export(project, out, config, command=["test"], **options)


def rows_of(run):
    return {row["patch_id"]: row for row in run.table().to_pylist()}


def listed(run):
    """Label, its source and the rule's label of each patch."""
    names = ("label", "label_source", "rule_label")
    return {key: tuple(row[name] for name in names) for key, row in rows_of(run).items()}


def stale(project):
    """The last run of a project as ``status`` compares it with the project of today."""
    return qb.status(project)[-1]


def patches(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in Path(out).rglob("*")
        if path.is_file() and path.parts[len(Path(out).parts)] == "patches"
    }


CONTAINERS = ["folder", "tar", "zarr"]
RUNNERS = ["threads", pytest.param("processes", marks=pytest.mark.slow)]


@pytest.mark.parametrize("container", CONTAINERS)
def test_corrections_of_a_real_project(tmp_path, container):
    """Three patches of the rule: one gets another class, one is rejected, one is confirmed."""
    shutil.copytree(DATA / "real" / "qupath-0.7.0-project", tmp_path / "p")
    project, out = tmp_path / "p" / "project.qpproj", tmp_path / "out"
    config = qb.ExportConfig(size=256, container=container)
    places = {"search": [str(DATA / "slides")], "selection": qb.Selection(entry="2")}
    first = export(project, out, config, **places)
    rule = listed(first)
    assert sorted(rule.values()) == [
        ("Immune cells", "rule", None), ("Tumor: Positive", "rule", None),
        ("Tumor: Positive", "rule", None),
    ]  # fmt: skip
    immune, one, other = sorted(rows_of(first).values(), key=lambda row: row["label"])
    confirmed = said(immune, "Immune cells", "confirmed")
    collected(project, [said(one, "Necrosis"), said(other, kind="rejected"), confirmed])
    second = export(project, out, config, update=True, **places)
    assert listed(second) == {
        one["patch_id"]: ("Necrosis", "corrected", "Tumor: Positive"),
        immune["patch_id"]: ("Immune cells", "rule", None),
    }
    (slide,) = second
    assert slide["dropped"] == {"rejected": 1, "edge": 31, "excluded": 4, "no_label": 214}
    assert slide["by_label"] == {"Immune cells": 1, "Necrosis": 1}
    assert second.confusion() == (
        qb.Confusion("Immune cells", "confirmed", "Immune cells", 1),
        qb.Confusion("Tumor: Positive", "corrected", "Necrosis", 1),
        qb.Confusion("Tumor: Positive", "rejected", None, 1),
    )
    assert json.loads((out / "report.json").read_bytes())["confusion"] == [
        {"rule": "Immune cells", "kind": "confirmed", "pathologist": "Immune cells", "patches": 1},
        {"rule": "Tumor: Positive", "kind": "corrected", "pathologist": "Necrosis", "patches": 1},
        {"rule": "Tumor: Positive", "kind": "rejected", "pathologist": None, "patches": 1},
    ]
    assert second.record["run_digest"] != first.record["run_digest"]
    assert qb.verify(second).ok
    # The bytes of the corrected patch are those of before, and lie with its new label.
    before = rows_of(first)[one["patch_id"]]["digest"]
    assert rows_of(second)[one["patch_id"]]["digest"] == before
    if container == "folder":
        assert sorted(patches(out)) == sorted(row["path"] for row in rows_of(second).values())
        assert "/Necrosis/" in rows_of(second)[one["patch_id"]]["path"]
    # The same corrections again change nothing.
    third = export(project, out, config, resume=True, **places)
    assert third.record["run_digest"] == second.record["run_digest"]
    # The tiles for QuPath show the corrected class.
    (folder,) = second.provenance
    tiles = json.loads(gzip.decompress((folder / "2.geojson.gz").read_bytes()))["features"]
    shown = {
        tile["properties"]["name"]: (
            tile["properties"]["classification"]["name"],
            tile["properties"]["metadata"].get("qb.rule label"),
        )
        for tile in tiles
    }
    assert shown == {
        one["patch_id"]: ("Necrosis", "Tumor: Positive"),
        immune["patch_id"]: ("Immune cells", None),
    }


def test_new_corrections_make_exactly_their_patches_stale(study):
    out = study.folder / "out"
    first = export(study.project, out)
    before = listed(first)
    one, two, three, *_ = (row for row in rows_of(first).values() if row["entry_id"] == "1")
    assert stale(study.project).state == "current"
    confirmed = said(three, three["label"], "confirmed")
    collected(study.project, [said(one, "Necrosis"), said(two, kind="rejected"), confirmed])
    found = stale(study.project)
    assert [(entry.state, entry.changed) for entry in found.entries] == [
        ("stale", 2), ("current", 0),
    ]  # fmt: skip
    assert found.entries[0].label_changed == (one["patch_id"],)
    assert found.entries[0].removed == (two["patch_id"],)
    assert found.entries[0].reasons == ("corrections were made, changed or withdrawn",)
    second = export(study.project, out, update=True)
    assert stale(study.project).state == "current"
    after = listed(second)
    assert {key for key, row in before.items() if after.get(key) != row} == {
        one["patch_id"], two["patch_id"],
    }  # fmt: skip
    facts = {slide["entry_id"]: slide["corrections"] for slide in second}
    assert (facts["1"]["corrected"], facts["1"]["rejected"], facts["1"]["confirmed"]) == (1, 1, 1)
    assert facts["2"]["corrected"] == 0
    # A confirmation changes no patch.
    four = list(rows_of(second).values())[5]
    collected(study.project, [said(four, four["label"], "confirmed")], key="02")
    assert stale(study.project).state == "current"


def test_an_update_reads_only_the_pixels_of_patches_that_are_new(study, monkeypatch):
    """Corrected patches have their pixels already; one that is no longer rejected is read."""
    out = study.folder / "out"
    first = export(study.project, out)
    one, two, *_ = rows_of(first).values()
    collected(study.project, [said(one, "Necrosis"), said(two, kind="rejected")])
    boxes = []
    real = patch_pixels.read_patches
    monkeypatch.setattr(
        patch_pixels, "read_patches", lambda *a: boxes.extend(a[2].tolist()) or real(*a)
    )
    export(study.project, out, update=True)
    assert boxes == []
    collected(study.project, [said(two, two["label"], "withdrawn")], key="02")
    third = export(study.project, out, update=True)
    assert boxes == [[two[f"{side}_qupath"] for side in "xywh"]]
    assert two["patch_id"] in rows_of(third)


def test_corrections_can_be_left_out_or_come_from_a_file(study):
    first = export(study.project, study.folder / "a")
    one, two, *_ = rows_of(first).values()
    collected(study.project, [said(one, "Necrosis")])
    file = study.folder / "said.jsonl"
    file.write_bytes(to_lines([said(two, "Fat")]))
    none = export(study.project, study.folder / "b", corrections="none")
    assert none.record["run_digest"] == first.record["run_digest"]
    assert none.record["inputs"] == {}
    given = export(study.project, study.folder / "c", corrections=file)
    assert listed(given) == {
        **listed(first),
        two["patch_id"]: ("Fat", "corrected", two["label"]),
    }
    assert [text for text in given.warnings if "'Fat'" in text] == [
        "Corrections give 1 label that no class of the slides or of the project gives: 'Fat'."
    ]
    assert stale(study.project).state == "current"  # it is compared with the file that it used
    file.write_bytes(to_lines([said(two, "Fat"), said(one, "Stroma")]))
    assert stale(study.project).entries[0].changed == 1
    file.unlink()
    assert stale(study.project).state == "unknown"
    with pytest.raises(UsageError, match="corrections: .*said.jsonl: No such file"):
        export(study.project, study.folder / "d", corrections=file)


def test_the_file_is_named_by_its_whole_path():
    """The project can be compared from another folder later."""
    assert qb.RunOptions(corrections="said.jsonl").corrections == str(Path.cwd() / "said.jsonl")
    assert qb.RunOptions(corrections="auto").corrections == "auto"


def test_a_file_of_another_project_or_a_damaged_one_is_refused(study):
    first = export(study.project, study.folder / "a")
    row = next(iter(rows_of(first).values()))
    file = study.folder / "said.jsonl"
    file.write_bytes(to_lines([("77", said(row)[1])]))
    with pytest.raises(ProjectError, match="no slide of the project has the entry ID 77"):
        export(study.project, study.folder / "b", corrections=file)
    file.write_bytes(to_lines([said(row)]) + b"{}\n")
    with pytest.raises(ProjectError, match=r"said\.jsonl: line 2 is not a correction"):
        export(study.project, study.folder / "b", corrections=file)
    assert not (study.folder / "b").exists()


def test_corrections_in_a_selection_of_slides(study):
    """A file may speak of slides that are not exported."""
    first = export(study.project, study.folder / "a")
    rows = {row["entry_id"]: row for row in rows_of(first).values()}
    file = study.folder / "said.jsonl"
    file.write_bytes(to_lines([said(rows["1"], "Fat"), said(rows["2"], "Fat")]))
    run = export(
        study.project, study.folder / "b", corrections=file, selection=qb.Selection(entry="2")
    )
    assert [row["label"] for row in rows_of(run).values()].count("Fat") == 1
    slides = {name.split("/")[2].split("_")[0] for name in run.record["inputs"]}
    assert slides == {"2"}


def test_several_projects_cannot_share_a_file(study, tmp_path):
    shutil.copytree(study.project.parent, tmp_path / "other")
    projects = [study.project, tmp_path / "other" / study.project.name]
    (tmp_path / "said.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match="several projects"):
        export(projects, tmp_path / "out", corrections=tmp_path / "said.jsonl")


def test_a_label_that_the_shown_run_had_is_no_class(tmp_path, two_slides, draw):
    """Class A is label B, class B is label C: "B" on a tile means the label that was seen."""
    boxes = [shapely.box(0, 0, 100, 100), shapely.box(200, 0, 300, 100)]
    image = Image(two_slides[0], list(zip("AB", boxes, strict=True)), pixel_size=0.5)
    project = build_project(tmp_path / "p", [image])
    config = CONFIG.replace(map={"A": "B", "B": "C"})
    first = export(project, tmp_path / "a", config)
    c = next(row for row in rows_of(first).values() if row["label"] == "C")
    collected(project, [said(c, "B")])
    run = export(project, tmp_path / "b", config)
    assert listed(run)[c["patch_id"]] == ("B", "corrected", "C")
    # Where nobody knows the labels of the shown run, "B" is the class.
    shutil.rmtree(project.parent / "qupath_bridge" / "runs")
    run = export(project, tmp_path / "c", config)
    assert listed(run)[c["patch_id"]] == ("C", "corrected", "C")


def test_the_command_says_what_it_applied(study, capsys):
    first = export(study.project, study.folder / "a")
    one, two, *_ = rows_of(first).values()
    collected(study.project, [said(one, "Fat", rule_label="Bone"), said(two, kind="rejected")])
    words = ["export", str(study.project), "--size", "50", "--min-share", "0.4", "--workers", "1"]
    assert main([*words, "--out", str(study.folder / "b")]) == 0
    shown = capsys.readouterr().out
    assert "Corrections: 1 corrected, 1 rejected, 1 contested.\n" in shown
    assert main([*words, "--out", str(study.folder / "c"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["corrections"] == {
        "corrected": 1, "confirmed": 0, "rejected": 1, "contested": 1,
    }  # fmt: skip
    assert main([*words, "--out", str(study.folder / "d"), "--corrections", "none"]) == 0
    assert "Corrections" not in capsys.readouterr().out


def test_without_labels_patches_are_labelled_by_people_alone(study):
    config = CONFIG.replace(labels=False)
    first = export(study.project, study.folder / "a", config)
    row = next(iter(rows_of(first).values()))
    collected(study.project, [said(row, "Fat")])
    run = export(study.project, study.folder / "b", config)
    found = listed(run)
    assert found.pop(row["patch_id"]) == ("Fat", "corrected", None)
    assert set(found.values()) == {(None, None, None)}
    assert "/Fat/" in rows_of(run)[row["patch_id"]]["path"]


def test_lists_in_the_index(study):
    config = CONFIG.replace(rule="any")
    first = export(study.project, study.folder / "a", config)
    one, two, *_ = (row for row in rows_of(first).values() if row["entry_id"] == "1")
    collected(study.project, [said(one, "Tumor: Stroma"), said(two, "Fat", rule_label=())])
    run = export(study.project, study.folder / "b", config)
    found = listed(run)
    assert found[one["patch_id"]] == (["Stroma", "Tumor"], "corrected", one["label"])
    assert found[two["patch_id"]] == (["Fat"], "corrected", two["label"])
    assert {
        row[2] for key, row in found.items() if key not in {one["patch_id"], two["patch_id"]}
    } == {None}
    assert qb.verify(run).ok
    assert stale(study.project).state == "current"
    assert [slide["corrections"]["contested"] for slide in run] == [1, 0]


def test_contested_corrections_stay_and_are_listed(study, redrawn):
    first = export(study.project, study.folder / "a")
    rows = [row for row in rows_of(first).values() if row["entry_id"] == "2"]
    collected(study.project, [said(row, "Fat") for row in rows])
    redrawn(120)  # many of them are labelled otherwise now
    run = export(study.project, study.folder / "b")
    by_rule = export(study.project, study.folder / "c", corrections="none", provenance=False)
    labels = {key: row["label"] for key, row in rows_of(by_rule).items()}
    expected = {row["patch_id"] for row in rows if labels.get(row["patch_id"]) != row["label"]}
    assert 0 < len(expected) < len(rows)
    assert {listed(run)[row["patch_id"]][0] for row in rows} == {"Fat"}
    (_, entry) = stale(study.project).entries
    assert set(entry.contested) == expected
    assert run["2"]["corrections"]["contested"] == len(expected)


# --- frozen inputs ---


def cut_short(monkeypatch, project, out, **options):
    """Begin an export, and lose it after its first slide."""

    def run(self, tasks, **more):
        yield process_slide(next(iter(tasks)))
        raise InterruptedRunError("cut")

    with monkeypatch.context() as patch:
        patch.setattr("qupath_bridge.runners.threads.ThreadRunner.run", run)
        with pytest.raises(InterruptedRunError):
            export(project, out, **options)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_run_that_was_cut_short_resumes_with_its_frozen_inputs(study, monkeypatch, container):
    config = CONFIG.replace(container=container)
    first = export(study.project, study.folder / "a", config)
    rows = list({row["entry_id"]: row for row in rows_of(first).values()}.values())
    collected(study.project, [said(row, "Fat") for row in rows])
    whole = export(study.project, study.folder / "b", config)
    out = study.folder / "cut"
    cut_short(monkeypatch, study.project, out, config=config)
    # Meanwhile somebody says something else, of both slides.
    collected(study.project, [said(row, "Glass") for row in rows], key="02")
    resumed = export(study.project, out, config, resume=True)
    assert resumed.record["run_digest"] == whole.record["run_digest"]
    assert listed(resumed) == listed(whole)
    assert qb.verify(resumed).ok
    assert stale(study.project).state == "stale"
    updated = export(study.project, out, config, update=True)
    labels = [row["label"] for row in rows_of(updated).values()]
    assert (labels.count("Glass"), labels.count("Fat")) == (2, 0)
    # The inputs of the earlier state are gone with it.
    names = {p.relative_to(out).as_posix() for p in (out / "inputs").rglob("*") if p.is_file()}
    assert names == set(updated.record["inputs"])


def test_each_slide_has_its_own_inputs_in_its_task(study, monkeypatch):
    first = export(study.project, study.folder / "a")
    row = next(row for row in rows_of(first).values() if row["entry_id"] == "2")
    collected(study.project, [said(row, "Fat")])
    tasks = []
    real = export_module.run_tasks
    monkeypatch.setattr(
        export_module, "run_tasks", lambda *a: (tasks.append(task) or task for task in real(*a))
    )
    run = export(study.project, study.folder / "b")
    assert [len(task.inputs) for task in tasks] == [0, 2]
    assert set(tasks[1].inputs) == set(run.record["inputs"])
    assert len(json.dumps(tasks[1].as_json())) < len(json.dumps(tasks[0].as_json())) + 300


def test_damaged_inputs_are_found(study):
    first = export(study.project, study.folder / "a")
    row = next(iter(rows_of(first).values()))
    collected(study.project, [said(row, "Fat")])
    out = study.folder / "b"
    run = export(study.project, out)
    name = next(name for name in run.record["inputs"] if "/corrections/" in name)
    content = (out / name).read_bytes()
    (out / name).write_bytes(content.replace(b"Fat", b"Fut"))
    assert [(f.kind, f.path) for f in qb.verify(run).findings] == [("changed", name)]
    with pytest.raises(OutputError, match="is not as the run wrote it"):
        export(study.project, out, resume=True)
    updated = export(study.project, out, update=True)
    assert (out / name).read_bytes() == content
    assert qb.verify(updated).ok
    (out / name).unlink()
    assert [(f.kind, f.path) for f in qb.verify(updated).findings] == [("missing", name)]


def test_a_report_with_another_confusion_is_found(study):
    first = export(study.project, study.folder / "a")
    row = next(iter(rows_of(first).values()))
    collected(study.project, [said(row, "Fat")])
    run = export(study.project, study.folder / "b")
    path = study.folder / "b" / "report.json"
    report = json.loads(path.read_bytes())
    report["confusion"][0]["patches"] = 7
    path.write_text(json.dumps(report))
    assert [(f.path, f.problem) for f in qb.verify(run, pixels=0).findings] == [
        ("report.json", "its confusion is not the sum of those of its slides")
    ]


@pytest.mark.parametrize("name", ["../secret", "inputs/corrections/../x-0123456789abcdef.jsonl"])
def test_a_record_cannot_lead_out_of_its_output(study, name):
    run = export(study.project, study.folder / "a")
    path = study.folder / "a" / "run.json"
    path.write_text(json.dumps({**run.record, "inputs": {name: "xxh3_128:0"}}))
    for mode in ({"resume": True}, {"update": True}):
        with pytest.raises(OutputError, match="run.json in .* is damaged: inputs"):
            export(study.project, study.folder / "a", **mode)
    with pytest.raises(OutputError, match="is damaged"):
        qb.verify(study.folder / "a")


def test_plans_keep_the_inputs_that_they_were_made_with(study):
    first = export(study.project, study.folder / "a")
    row = next(iter(rows_of(first).values()))
    collected(study.project, [said(row, "Fat")])
    with qb.open_project(study.project) as project:
        plans = qb.plan(project, CONFIG)
        assert plans.label_counts()["Fat"] == 1
        assert plans[0].corrections.corrected == 1
        collected(study.project, [said(row, "Glass")], key="02")
        run = qb.export(plans, study.folder / "b", provenance=False)
        assert not run.failures
        assert listed(run)[row["patch_id"]][0] == "Fat"
        with pytest.raises(UsageError, match="corrections would not be used"):
            qb.export(plans, study.folder / "c", corrections="none")
        assert qb.plan(project["1"], CONFIG).label_counts()["Glass"] == 1
        none = qb.plan(project, CONFIG, options=qb.RunOptions(corrections="none"))
        assert none == qb.Plans([*none])
        assert "Glass" not in none.label_counts()


def test_plans_with_other_inputs_do_not_resume_a_run(study, monkeypatch):
    first = export(study.project, study.folder / "a")
    row = next(iter(rows_of(first).values()))
    out = study.folder / "cut"
    with qb.open_project(study.project) as project:
        collected(study.project, [said(row, "Fat")])
        cut_short(monkeypatch, qb.plan(project, CONFIG), out, config=None, engine="auto")
        collected(study.project, [said(row, "Glass")], key="02")
        plans = qb.plan(project, CONFIG)
        with pytest.raises(OutputError, match="not those with which the run in .* began"):
            export(plans, out, None, engine="auto", resume=True)
        run = export(plans, out, None, engine="auto", update=True)
    assert listed(run)[row["patch_id"]][0] == "Glass"


@pytest.mark.slow
def test_processes_read_the_frozen_inputs(study):
    first = export(study.project, study.folder / "a")
    rows = list({row["entry_id"]: row for row in rows_of(first).values()}.values())
    collected(study.project, [said(row, "Fat") for row in rows])
    run = export(study.project, study.folder / "b", runner="processes", workers=2)
    assert [row["label"] for row in rows_of(run).values()].count("Fat") == 2


# --- live annotations ---


def live(study, entry_id, *regions, packed=False):
    """Write the annotations that a window shows."""
    folder = study.folder / "live"
    folder.mkdir(exist_ok=True)
    features = [
        {
            "type": "Feature", "id": f"00000000-0000-4000-8000-00000000000{number}",
            "geometry": shapely.geometry.mapping(shape),
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for number, (name, shape) in enumerate(regions)
    ]  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    path = folder / f"{entry_id}.geojson{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text) if packed else text)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("runner", RUNNERS)
def test_live_annotations_take_the_place_of_the_saved_ones(study, packed, runner):
    folder = live(study, "1", ("New", shapely.box(0, 0, 100, 50)), packed=packed)
    saved = export(study.project, study.folder / "a", provenance=False)
    out = study.folder / "b"
    run = export(study.project, out, live_annotations=folder, runner=runner, workers=2)
    shutil.rmtree(folder)
    rows = rows_of(run)
    assert {(row["x_qupath"], row["label"]) for row in rows.values() if row["entry_id"] == "1"} == {
        (0, "New"), (50, "New"),
    }  # fmt: skip
    others = {key: row for key, row in listed(run).items() if key.startswith("2_")}
    assert others == {key: row for key, row in listed(saved).items() if key.startswith("2_")}
    assert [slide["annotations_origin"] for slide in run] == ["live", "project"]
    assert [slide["annotations_origin"] for slide in run.record["slides"]] == ["live", "project"]
    assert qb.verify(run).ok
    one, two = stale(study.project).entries
    assert (one.state, two.state) == ("stale", "current")
    assert one.reasons[0] == "the annotations of the run are not saved in QuPath"
    again = export(study.project, out, resume=True)
    assert again.record["run_digest"] == run.record["run_digest"]
    updated = export(study.project, out, update=True)
    assert listed(updated) == listed(saved)


@pytest.mark.parametrize("runner", RUNNERS)
def test_plans_of_live_annotations_are_exported_as_they_are(study, runner):
    folder = live(study, "1", ("New", shapely.box(0, 0, 100, 50)))
    options = qb.RunOptions(live_annotations=folder)
    with qb.open_project(study.project) as project:
        plans = qb.plan(project, CONFIG, options=options)
        assert [plan.annotations_origin for plan in plans] == ["live", "project"]
        shutil.rmtree(folder)
        run = qb.export(plans, study.folder / "b", runner=runner, workers=2)
    assert not run.failures
    assert run["1"]["by_label"] == {"New": 2}


def test_what_is_saved_later_as_it_was_live_is_current(study, two_slides, draw):
    """QuPath saves what its window showed: the run is not stale, and nothing more is said."""
    shape = shapely.box(0, 0, 100, 50)
    name = "00000000-0000-4000-8000-000000000000"
    folder = live(study, "1", ("New", shape))
    run = export(study.project, study.folder / "b", live_annotations=folder)
    first = Image(two_slides[0], [Region("New", shape, id=name)], pixel_size=0.5)
    study.redraw(first, draw.images(two_slides)[1])
    found = stale(study.project)
    assert [entry.reasons for entry in found.entries] == [(), ()]
    assert found.state == "current"
    assert run.record["slides"][0]["annotations_origin"] == "live"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("9.geojson", "no slide of the project has the entry ID 9"),
        ("1.geojson.gz", "two files of the slide 1"),
    ],
)
def test_live_files_that_fit_no_slide_are_refused(study, name, problem):
    folder = live(study, "1", ("New", shapely.box(0, 0, 100, 50)))
    (folder / name).write_bytes(b"{}")
    with pytest.raises(UsageError, match=problem):
        export(study.project, study.folder / "b", live_annotations=folder)
    assert not (study.folder / "b").exists()


def test_places_without_live_files_are_refused(study):
    (study.folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no file ENTRY_ID\.geojson"):
        export(study.project, study.folder / "b", live_annotations=study.folder / "empty")
    with pytest.raises(UsageError, match="No such file"):
        export(study.project, study.folder / "b", live_annotations=study.folder / "nothing")


def test_a_live_file_that_is_damaged_fails_its_slide_alone(study):
    folder = live(study, "1", ("New", shapely.box(0, 0, 100, 50)))
    (folder / "1.geojson").write_bytes(b'{"type": "Nothing"}')
    run = export(study.project, study.folder / "b", live_annotations=folder)
    (failure,) = run.failures
    assert failure.entry_id == "1"
    assert "its live annotations cannot be read" in failure.error
    assert [slide["entry_id"] for slide in run] == ["2"]


def test_an_empty_window_has_no_annotations(study):
    run = export(study.project, study.folder / "b", live_annotations=live(study, "1"))
    assert {row["entry_id"] for row in rows_of(run).values()} == {"2"}
    assert geojson.loads(next(iter((study.folder / "live").iterdir())).read_bytes()) == ()
