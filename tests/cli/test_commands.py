"""Every command: exit status, result, and what is written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.testing.projects import tree_hashes
from qupath_bridge.testing.slides import write_slide

OPTIONS = ["--size", "50", "--edge", "pad", "--min-share", "0.4"]


def call(capsys, *words):
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys, *words):
    status, out, _ = call(capsys, *words, "--json")
    return status, json.loads(out)


def outside(study):
    """Every file of the project, except the one folder that may be written."""
    hashes = tree_hashes(study.project.parent)
    return {name: value for name, value in hashes.items() if not name.startswith("qupath_bridge/")}


def test_inspect(study, capsys):
    before = tree_hashes(study.folder / "study")
    status, result = call_json(capsys, "inspect", study.project)
    assert status == 0
    assert [entry["name"] for entry in result["entries"]] == ["slide 1.tiff", "slide 2.tiff"]
    classes = {c["name"]: c for c in result["classes"]}
    assert classes["Tumor"]["count"] == 4  # two regions and two sets of points
    assert classes["Stroma"]["area_px2"] == pytest.approx(2 * (340 * 450 - 100 * 110))
    assert result["entries"][0]["pixel_size"] == {"x": 0.5, "y": 0.5, "origin": "project"}
    assert result["entries"][0]["size"] == [700, 500]
    assert result["problems"] == []
    status, text, errors = call(capsys, "inspect", study.project.parent)
    assert (status, errors) == (0, "")
    assert "Necrosis" in text
    assert tree_hashes(study.folder / "study") == before


def test_inspect_reports_what_is_wrong(study, tmp_path, capsys):
    shutil.rmtree(study.project.parent / "data" / "1")
    data = study.project.parent / "data" / "2" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-500])
    status, result = call_json(capsys, "inspect", study.project)
    assert status == 1  # nobody knows what was drawn on any slide
    assert [entry["readable"] for entry in result["entries"]] == [False, False]
    assert [entry["objects"] for entry in result["entries"]] == [None, None]
    assert any("data.qpdata" in problem for problem in result["problems"])
    status, _, errors = call(capsys, "inspect", study.project)
    assert status == 1
    assert "problem:" in errors


def test_plan_writes_nothing_but_the_preview(study, tmp_path, capsys):
    before = tree_hashes(study.folder)
    status, result = call_json(capsys, "plan", study.project, *OPTIONS)
    assert status == 0
    assert tree_hashes(study.folder) == before
    assert result["patches"] == sum(result["labels"].values()) > 100
    assert result["estimate"]["bytes"] > 0
    assert result["dropped"]["no_label"] > 0
    assert result["slides"][0]["regions"]["skipped"]["points"] == 1
    preview = tmp_path / "plan.png"
    status, text, _ = call(capsys, "plan", study.project, *OPTIONS, "--preview", preview)
    assert status == 0
    assert "About" in text
    drawn = sorted(set(tree_hashes(study.folder)) - set(before))
    assert drawn == ["plan.png"]  # one page, with both slides
    with Picture.open(tmp_path / drawn[0]) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert len(colours) > 1000


def test_export_verify_status(study, tmp_path, capsys):
    before = outside(study)
    out = tmp_path / "out"
    status, result = call_json(capsys, "export", study.project, "--out", out, *OPTIONS)
    assert status == 0
    assert result["written"] == sum(result["labels"].values())
    (provenance,) = result["provenance"]
    assert Path(provenance).parent == study.project.parent / "qupath_bridge" / "runs"
    assert outside(study) == before
    status, result = call_json(capsys, "verify", out)
    assert (status, result["findings"]) == (0, [])
    assert result["files"] == result["pixels"] > 100
    status, result = call_json(capsys, "verify", out, "--pixels", "10")
    assert 1 <= result["pixels"] <= 20
    status, result = call_json(capsys, "status", study.project)
    assert status == 0
    (run,) = result["runs"]
    assert (run["state"], run["out_found"]) == ("current", True)
    status, text, _ = call(capsys, "status", study.project)
    assert "current" in text
    assert outside(study) == before


def test_status_without_runs(study, capsys):
    assert call(capsys, "status", study.project)[:2] == (
        0, "No run has been exported from this project yet.\n",
    )  # fmt: skip


def test_no_provenance_leaves_the_project_alone(study, tmp_path, capsys):
    before = tree_hashes(study.project.parent)
    out = tmp_path / "out"
    status, result = call_json(
        capsys, "export", study.project, "--out", out, *OPTIONS, "--no-provenance"
    )
    assert (status, result["provenance"]) == (0, [])
    assert tree_hashes(study.project.parent) == before


def test_a_project_that_cannot_be_written(study, tmp_path, capsys):
    # A file where the folder should be stops every user, also root.
    (study.project.parent / "qupath_bridge").write_text("in the way")
    out = tmp_path / "out"
    status, result = call_json(capsys, "export", study.project, "--out", out, *OPTIONS)
    assert status == 0
    assert result["provenance"] == [str(out / "provenance")]
    assert any("cannot be written" in warning for warning in result["warnings"])
    assert sorted(p.name for p in (out / "provenance").iterdir()) == [
        "1.geojson.gz", "1.json", "2.geojson.gz", "2.json", "run.json",
    ]  # fmt: skip


def test_one_damaged_slide_fails_alone(study, tmp_path, capsys):
    data = study.project.parent / "data" / "2" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-500])
    out = tmp_path / "out"
    status, result = call_json(capsys, "export", study.project, "--out", out, *OPTIONS)
    assert status == 1
    assert [failure["entry_id"] for failure in result["failures"]] == ["2"]
    assert result["written"] > 50
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert "data.qpdata" in report["failures"][0]["error"]


def test_where_no_slide_can_be_read_the_report_says_why(study, tmp_path, capsys):
    for entry in ("1", "2"):
        shutil.rmtree(study.project.parent / "data" / entry)
        (study.project.parent / "data" / entry).mkdir()
        (study.project.parent / "data" / entry / "data.qpdata").write_bytes(b"")
    out = tmp_path / "out"
    status, result = call_json(capsys, "export", study.project, "--out", out, *OPTIONS)
    assert (status, result["written"]) == (1, 0)
    assert [failure["entry_id"] for failure in result["failures"]] == ["1", "2"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [failure["slide_name"] for failure in report["failures"]] == [
        "slide 1.tiff", "slide 2.tiff",
    ]  # fmt: skip
    assert all("data.qpdata" in failure["error"] for failure in report["failures"])
    status, text, errors = call(
        capsys, "export", study.project, "--out", tmp_path / "other", *OPTIONS
    )
    assert status == 1
    assert "0 patches in" in text
    assert errors.count("failed: ") == 2
    assert "data.qpdata" in errors


EXITS = [
    (["export", "PROJECT"], 2, "--out"),
    (["frobnicate"], 2, "frobnicate"),
    (["plan", "PROJECT", "--nonsense"], 2, "--nonsense"),
    (["plan", "PROJECT", "--resume"], 2, "--resume"),  # a plan would ignore it
    (["plan", "PROJECT", "--size", "x"], 2, "--size: "),
    (["plan", "PROJECT", "--size", "0"], 2, "--size: "),
    (["plan", "PROJECT", "--set", "size"], 2, "--set: 'size' is not of the form KEY=VALUE"),
    (["plan", "PROJECT", "--set", "size=x"], 2, "--set size: "),
    (["plan", "PROJECT", "--set", "sizes="], 2, "did you mean size?"),
    (["plan", "PROJECT", "--rule", "most"], 2, "--rule: should be 'majority', "),
    (["plan", "PROJECT", "--tissue", "snow"], 2, "--tissue: no tissue is called 'snow'; known: no"),
    (["plan", "PROJECT", "--mpp", "1", "--level-zero"], 2, "--mpp: mpp and level_zero exclude"),
    (["export", "PROJECT", "--out", "new", "--resume", "--update"], 2, "--resume: resume and upd"),
    (["plan", "PROJECT", "--entry", "slide 3"], 2, "--entry: no slide matches 'slide 3'; there is"),
    (["plan", "PROJECT", "--where", "patient=1"], 2, "--where: no slide has metadata named 'pat"),
    (["plan", "PROJECT", "--set", "where=patient=1"], 2, "--set where: no slide has metadata"),
    (["plan", "PROJECT", "--tag", "x"], 2, "--tag: no slide has the tag 'x'"),
    (["plan", "PROJECT", "--within", "Tumour"], 2, "--within: "),
    (["plan", "PROJECT", "--map", "Tumor: *=T"], 2, "--map: "),
    (["plan", "PROJECT", "--origin", "99999999999,0"], 2, "--origin: "),
    (["plan", "PROJECT", "--stride", "99999999999"], 2, "--stride: "),
    (["plan", "PROJECT", "--runner", "threads"], 2, "--runner"),
    (["inspect", "PROJECT", "--preview", "x.png"], 2, "--preview"),
    (["status", "PROJECT", "--update"], 2, "--update"),
    (["write-back", "PROJECT"], 2, "exactly one of --run or --undo"),
    (["write-back", "PROJECT", "--run", "x", "--engine", "paquo"], 2, "go with --direct"),
    (["write-back", "PROJECT", "--run", "x", "--direct", "--engine", "x"], 2, "--engine: no sour"),
    (["plan", "PROJECT", "--config", "none.toml"], 3, "none.toml: no such file"),
    (["plan", "PROJECT", "--config", "bad.toml"], 3, "bad.toml: labels.min_share: "),
    (["plan", "PROJECT", "--config", "entry.toml"], 3, "entry.toml: entry: no slide matches 'no'"),
    (["plan", "PROJECT", "--config", "entry.toml", "--tag", "x"], 3, "--tag: no slide has"),
    (["plan", "nowhere.qpproj"], 4, "nowhere.qpproj: no such file or folder. Name a .qpproj file"),
    (["plan", "nonexist"], 4, "nonexist: no such file or folder. Name a .qpproj file, a slide"),
    (["inspect", "."], 4, "No project and no slide found"),
    (["plan", "PROJECT", "--preview", "file"], 5, ".png"),
    (["verify", "."], 5, "contains no run"),
    (["export", "PROJECT", "--out", "."], 5, "not empty"),
    (["export", "PROJECT", "--out", "new", "--resume"], 5, "no run to resume"),
    (["plan", "PROJECT", "--engine", "paquo"], 6, "no QuPath is found"),
]
"""Words, exit status, and what the message says."""


@pytest.fixture
def at_work(study, tmp_path, monkeypatch):
    """A function that runs a command in a folder of its own, and checks that it changes nothing."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name, text in (
        ("file", "x"),
        ("bad.toml", "[labels]\nmin_share = 3\n"),
        ("entry.toml", "entry = 'no'\n"),
    ):
        Path(name).write_text(text)
    before = tree_hashes(tmp_path)

    def run(capsys, *words):
        words = (study.project if word == "PROJECT" else word for word in words)
        found = call(capsys, *words)
        assert tree_hashes(tmp_path) == before
        return found

    return run


@pytest.mark.parametrize(("words", "status", "message"), EXITS)
def test_exit_statuses_and_messages(at_work, capsys, words, status, message):
    found, out, errors = at_work(capsys, *words)
    assert found == status
    assert message in errors.replace("\n", " ")
    assert "Traceback" not in errors
    assert out == ""


@pytest.mark.parametrize(("words", "status", "message"), EXITS)
def test_errors_as_json(at_work, capsys, words, status, message):
    """One object on stdout, whoever found the error: parser, options, or the command."""
    found, out, errors = at_work(capsys, *words, "--json")
    result = json.loads(out)
    assert set(result) == {"error", "exit_code"}
    assert result["exit_code"] == found == status
    assert message in result["error"].replace("\n", " ")
    assert errors == ""


def test_unexpected_errors_as_json(study, capsys, monkeypatch):
    monkeypatch.setattr("qupath_bridge.api.status", lambda project, runs: 1 / 0)
    status, result = call_json(capsys, "status", study.project)
    assert status == result["exit_code"] == 1
    assert "ZeroDivisionError" in result["error"]


def test_debug_shows_where_it_happened(study, capsys):
    status, _, errors = call(capsys, "plan", "nowhere.qpproj", "--debug")
    assert status == 4
    assert "Traceback" in errors


def test_a_mistake_of_ours_is_a_message(study, capsys, monkeypatch):
    monkeypatch.setattr("qupath_bridge.api.status", lambda project, runs: 1 / 0)
    status, _, errors = call(capsys, "status", study.project)
    assert status == 1
    assert "ZeroDivisionError" in errors
    assert "--debug" in errors


def test_interrupted(study, capsys, monkeypatch):
    def stop(project, runs):
        raise KeyboardInterrupt

    monkeypatch.setattr("qupath_bridge.api.status", stop)
    assert call(capsys, "status", study.project)[0] == 130


def test_version_and_help(capsys):
    assert call(capsys, "--version")[:2] == (0, f"qupath-bridge {qb.__version__}\n")
    status, out, _ = call(capsys, "--help")
    assert status == 0
    for command in (
        "demo", "doctor", "inspect", "plan", "export", "verify", "report", "status", "config",
        "split", "check-leakage", "convert", "features", "lineage", "describe",
        "catalog", "compact",
    ):  # fmt: skip
        assert command in out
        assert call(capsys, command, "--help")[0] == 0


def test_doctor(capsys):
    status, result = call_json(capsys, "doctor")
    states = {check["name"]: check["state"] for check in result["checks"]}
    assert status == 0
    assert states["OpenSlide"] == "ok"
    assert "missing" not in states.values()
    assert "OpenSlide" in call(capsys, "doctor")[1]


def test_doctor_says_how_to_get_what_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    status, text, _ = call(capsys, "doctor")
    assert status == 6
    assert "pip install openslide-python" in text


def test_doctor_names_optional_parts_that_are_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "qupath_bridge.outputs.h5", raising=False)
    status, result = call_json(capsys, "doctor")
    (check,) = [check for check in result["checks"] if check["name"] == "output h5"]
    assert status == 0
    assert (check["state"], check["found"]) == ("optional", "not installed")
    assert "pip install 'qupath-bridge[h5]'" in check["next"]


def test_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "config", "init", "mine.toml")[0] == 0
    assert call(capsys, "config", "init", "mine.toml")[0] == 5
    assert call(capsys, "config", "check", "mine.toml")[0] == 0
    Path("mine.toml").write_text("size = 0\nrule = 'x'\n[labels]\nmin_shar = 3\n")
    status, result = call_json(capsys, "config", "check", "mine.toml")
    assert status == 3
    assert [fault["place"] for fault in result["faults"]] == [
        "mine.toml: labels.min_shar", "mine.toml: size", "mine.toml: rule",
    ]  # fmt: skip
    Path("mine.toml").write_text("size = 0\nrule = 'x'\n")
    status, _, errors = call(capsys, "config", "check", "mine.toml")
    assert "size" in errors
    assert "rule" in errors
    Path("mine.toml").write_text("min_share = 0.7\n")
    status, values = call_json(
        capsys, "config", "show", "--config", "mine.toml", "--size", "64", "--set", "map=['A=B']"
    )
    assert (status, values["min_share"], values["size"], values["map"]) == (0, 0.7, 64, {"A": "B"})
    assert "min_share = 0.7" in call(capsys, "config", "show", "--config", "mine.toml")[1]


def test_flags_can_take_back_what_a_file_says(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("provenance = true\n[labels]\nlabels = true\n")
    _, values = call_json(
        capsys, "config", "show", "--config", path, "--no-labels", "--no-provenance"
    )
    assert (values["labels"], values["provenance"]) == (False, False)


def test_demo(tmp_path, capsys):
    status, result = call_json(capsys, "demo", tmp_path / "demo")
    assert status == 0
    assert result["verified"]
    assert len(result["labels"]) >= 3
    # The copy is found by QuPath too: it names the real place of its slide.
    with qb.open_project(tmp_path / "demo" / "project") as project:
        assert project.info.uri == (tmp_path / "demo/project/project.qpproj").as_uri().replace(
            "file:///", "file:/"
        )
        (slide,) = project.slides
        assert (slide.path_origin, slide.path.parent) == ("as stored", tmp_path / "demo/project")
    assert call(capsys, "demo", tmp_path / "demo")[0] == 5
    status, text, _ = call(capsys, "demo", tmp_path / "again")
    assert "Three things to try next" in text


def test_progress_as_json_lines(study, tmp_path, capsys):
    status, _, errors = call(
        capsys, "export", study.project, "--out", tmp_path / "out", *OPTIONS, "--progress", "jsonl"
    )
    events = [json.loads(line) for line in errors.splitlines()]
    assert status == 0
    assert events[-1]["done"] == events[-1]["total"] > 0
    assert {event["event"] for event in events} == {"progress"}


def test_the_bar_shows_on_a_terminal(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run = qb.export(study.project, tmp_path / "out", qb.ExportConfig(size=100), workers=1)
    shown = capsys.readouterr().err
    assert f"{run.written}/{run.written}" in shown
    assert "slide 2.tiff" in shown


def test_a_reader_that_goes_away(study):
    """``qupath-bridge inspect | head -1`` ends without a word."""
    code = "import sys; from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "inspect", str(study.project), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert b"Traceback" not in errors
    assert b"error" not in errors


def test_status_without_a_project_says_the_next_step(tmp_path, capsys):
    """Of a slide, of a folder of slides, and of the output of a run."""
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    slide = write_slide(slides / "a.tiff", np.full((64, 64, 3), 128, np.uint8), mpp=0.5)
    run = qb.export(slides, out, qb.ExportConfig(size=32), workers=1)
    hints = {
        slide: "`qupath-bridge project create` makes one",
        slides: "`qupath-bridge verify OUT` compares one with its slides",
        out: f"run {run.run_id}, of slides without a project. `qupath-bridge verify {out}`",
    }
    for place, hint in hints.items():
        status, _, err = call(capsys, "status", place)
        assert status == 4
        assert hint in err
    assert qb.verify(out).ok
