"""Options on the command line: each stands once, in its model, and each does what it says."""

import inspect
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.cli.app import FETCHING, PLACES, RUN_ONLY, app
from qupath_bridge.cli.options import add_flags, flag_of, words_of
from qupath_bridge.config import Settings, options
from qupath_bridge.outputs import open_output
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.projects import build_project, tree_hashes

OPTIONS = ["--size", "100"]
ALL = {option.name for option in options()}


def call(capsys, *words):
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys, *words):
    status, out, _ = call(capsys, *words, "--json")
    return status, json.loads(out)


@pytest.fixture
def tagged(tmp_path, two_slides, draw):
    """A project whose slides have metadata, tags and a magnification; one is called like an ID."""
    first, second = draw.images(two_slides)
    images = [
        replace(first, metadata={"patient": "P1", "block": "a"}, tags=["good"], magnification=20.0),
        replace(second, metadata={"patient": "P2"}, name="1", magnification=40.0),
        replace(second, metadata={"patient": "P3", "block": "b"}, name="third"),
    ]
    return build_project(tmp_path / "tagged", images)


# --- what was meant ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--patch-size", "--size"),
        ("--tile_size", "--size"),
        ("--min_share", "--min-share"),
        ("--step", "--stride"),
        ("--resolution", "--mpp"),
        ("--output", "--out"),
        ("--jobs", "--workers"),
        ("--quality", "--jpeg-quality"),
        ("--label-map", "--map"),
        ("--geojson", "--annotations"),
        ("--drop-labels", "--no-labels"),
        ("--sizee", "--size"),
    ],
)
def test_a_near_flag_is_recognised(capsys, flag, meant):
    status, _, errors = call(capsys, "export", "study", "--out", "out", flag, "1")
    assert status == 2
    assert re.search(rf"No such option: {flag}\b.*[ (]{meant}\b", errors)


def test_a_flag_that_is_near_nothing_gets_no_suggestion(capsys):
    _, _, errors = call(capsys, "plan", "study", "--qqqq")
    assert "No such option: --qqqq" in errors and "ossible" not in errors
    # plan writes nothing: it has no --out.
    assert "--out" not in call(capsys, "plan", "study", "--output", "x")[2].split("--output")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "Stroma=A", "--map", "Stroma=B"], "--map: Stroma is given twice: A and B"),
        (["--set", "size=1", "--set", "size=2"], "--set: size is given twice"),
        (["--size", "64", "--size", "128"], "--size is given twice"),
        (["--size=64", "--size", "64"], "--size is given twice"),
        (["--edge", "pad", "--rule", "any", "--edge", "drop"], "--edge is given twice"),
        (["--config", "a.toml", "--config", "b.toml"], "--config is given twice"),
        (["--set", "size=true"], "--set size: should not be true or false"),
        (["--set", f"size={'[' * 5000}"], "--set: the value of size is nested too deeply"),
        (["--format", "jpg"], "--format: no encoder is called 'jpg'; .*did you mean jpeg"),
        (["--overlap", "0.5"], "--overlap: .* set stride"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_flag(capsys, words, message):
    status, out, errors = call(capsys, "plan", "study", *words)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}.*\n", errors)


# --- one place -----------------------------------------------------------------------------------


def flags_of(command):
    """Return the flags of a command by the name of what they set."""
    add_flags()
    (callback,) = [
        info.callback
        for info in app.registered_commands
        if (info.name or info.callback.__name__) == command
    ]
    parameters = inspect.signature(callback).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, typer.models.OptionInfo)}


def test_every_option_has_one_flag_with_the_models_words():
    flags = flags_of("export")
    assert set(flags) >= ALL
    for option in options():
        flag = flags[option.name]
        assert flag.param_decls == (flag_of(option),)
        assert option.description.lower() in flag.help.lower()
        assert flag.metavar == (None if option.kind == "flag" else option.show)
    assert set(flags) - ALL == {"config_file", "assignments"}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("export", ALL),
        ("plan", ALL - set(RUN_ONLY)),
        ("inspect", {*PLACES, "reader", *FETCHING}),
        ("status", set(PLACES)),
        ("verify", {"reader", "slide_map", "pseudonymise"}),
        ("report", {"reader", "slide_map", "pseudonymise"}),
        ("clean", {"break_lock"}),
        ("doctor", {"qupath"}),
        ("write-back", {"entry", "engine", "qupath", "pseudonymise"}),
    ],
)
def test_a_command_takes_the_options_that_it_uses(command, names):
    assert set(flags_of(command)) & ALL == names


@pytest.mark.parametrize("command", ["plan", "export"])
def test_help_shows_every_option_and_its_default(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "300")
    shown = call(capsys, command, "--help")[1]
    for name in flags_of(command).keys() & ALL:
        (option,) = [each for each in options() if each.name == name]
        assert re.search(rf"{flag_of(option)}\b", shown)
        if isinstance(option.default, int | float | str) and option.kind != "flag":
            assert f"(default {option.default})" in shown, name
    assert "µm per written pixel" in shown


def test_help_of_entry_says_how_to_tell_an_id_from_a_name(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = call(capsys, "plan", "--help")[1]
    assert "id:1 and name:1 say which is meant" in shown


# --- who wins ------------------------------------------------------------------------------------


def test_a_flag_wins_over_set_and_set_over_the_file(tmp_path, capsys):
    path = tmp_path / "export.toml"
    path.write_text("mpp = 0.5\nsize = 1\nstride = 1\nedge = 'pad'\n")
    _, values = call_json(
        capsys, "config", "show", "--config", path,
        "--set", "size=2", "--set", "stride=2", "--size", "3",
    )  # fmt: skip
    assert (values["mpp"], values["size"], values["stride"], values["edge"]) == (0.5, 3, 2, "pad")


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("mpp", ["--set", "mpp="], None),
        ("size", ["--set", "size="], 256),
        ("edge", ["--set", "edge=pad"], "pad"),
        ("labels", ["--set", "labels=false"], False),
        ("map", ["--set", "map=A: *=B"], {"A: *": "B"}),
        ("plane", ["--set", "plane=1,0"], [[1, 0]]),
        ("where", ["--set", "where=block=a"], {"block": ["a"]}),
        ("priority", ["--set", 'priority=["A,B", "C"]'], ["A,B", "C"]),
    ],
)
def test_set_takes_every_option_and_unsets_it(tmp_path, capsys, name, words, expected):
    path = tmp_path / "export.toml"
    path.write_text("mpp = 0.5\nsize = 100\n")
    assert call_json(capsys, "config", "show", "--config", path, *words)[1][name] == expected


def test_a_flag_can_take_the_place_of_what_excludes_it(tmp_path, capsys):
    path = tmp_path / "export.toml"
    path.write_text("mpp = 0.5\n")
    words = ["config", "show", "--config", path, "--magnification", "20"]
    status, _, errors = call(capsys, *words)
    assert status == 3
    assert "mpp and magnification exclude each other" in errors
    _, values = call_json(capsys, *words, "--set", "mpp=")
    assert (values["mpp"], values["magnification"]) == (None, 20)


# --- what stderr shows ---------------------------------------------------------------------------


@pytest.fixture
def damaged(study):
    """A project with one slide that fails, and one with a warning."""
    data = study.project.parent / "data" / "2" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-500])
    return study


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [
        ([], ["warning: ", "failed: "], ["info: "]),
        (["-q"], ["failed: "], ["warning: ", "info: "]),
        (["--quiet"], ["failed: "], ["warning: ", "info: "]),
        (["-v"], ["warning: ", "failed: ", "info: slide 1.tiff: "], ["debug: "]),
    ],
)
def test_levels(damaged, capsys, words, shown, hidden):
    (damaged.project.parent / "qupath_bridge").write_text("in the way")  # a warning
    out = damaged.folder / "out"
    status, text, errors = call(capsys, *words, "export", damaged.project, "--out", out, *OPTIONS)
    assert status == 1
    assert "patches in" in text  # the result is never hidden
    for word in shown:
        assert word in errors
    for word in hidden:
        assert word not in errors
    assert logging.getLogger("qupath_bridge").handlers == []
    assert logging.getLogger("qupath_bridge").level == logging.NOTSET


def test_quiet_shows_no_warning_of_any_command(damaged, tmp_path, capsys):
    project, out = damaged.project, tmp_path / "out"
    assert call(capsys, "-q", "inspect", project)[2] == ""
    call(capsys, "-q", "plan", project, *OPTIONS, "--entry", "1", "--preview", tmp_path / "p.png")
    call(capsys, "-q", "export", project, "--out", out, *OPTIONS, "--entry", "1")
    for slide in damaged.slides:
        assert slide.is_file()
    status, text, errors = call(
        capsys, "-q", "verify", out, "--slide-map", f"{damaged.slides[0].parent}=/nowhere"
    )
    assert (status, errors) == (1, "")
    assert "problem" in text


def test_quiet_still_shows_errors(capsys):
    status, out, errors = call(capsys, "-q", "inspect", "nowhere.qpproj")
    assert (status, out) == (4, "")
    assert errors.startswith("error: ")


def test_quiet_shows_no_progress(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for words, shown in ([], True), (["-q"], False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        out = tmp_path / f"out{len(words)}"
        errors = call(capsys, *words, "export", study.project, "--out", out, *OPTIONS)[2]
        assert ("slide 2.tiff" in errors) is shown


# --- completion ----------------------------------------------------------------------------------

CODE = "import sys; from qupath_bridge.cli import main; sys.exit(main())"


def complete(*words):
    """Return what bash is offered for the last word."""
    environment = {
        **os.environ,
        "_QUPATH_BRIDGE_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["qupath-bridge", *words]),
        "COMP_CWORD": str(len(words)),
    }
    found = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def test_completion_of_commands_flags_and_names():
    assert complete("ex") == ["export"]
    assert complete("export", "--allow") == ["--allow-upsampling", "--allow-repair"]
    assert complete("plan", "--tissue", "") == [
        "none",
        "saturation",
        "otsu",
        "double-pass",
        "unet",
        "signal",
        "qupath",
        "mask",
    ]
    assert complete("plan", "--reader", "o") == ["openslide"]
    assert complete("plan", "--rule", "m") == ["majority"]


def test_completion_can_be_shown_and_installed(tmp_path):
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "SHELL": "/bin/bash",
        # Otherwise the programs above this one are looked at for a shell.
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    for flag in ("--show-completion", "--install-completion"):
        found = subprocess.run(
            [sys.executable, "-c", CODE, flag, "bash"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout
        assert found.stderr == ""
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_QUPATH_BRIDGE_COMPLETE" in path.read_text() for path in written)


# --- selecting slides ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--where", "patient=P1"], ["slide 1.tiff"]),
        (["--where", "patient=P1", "--where", "patient=P2"], ["slide 1.tiff", "1"]),
        (["--where", "patient=P*", "--where", "block=b"], ["third"]),
        (["--tag", "good"], ["slide 1.tiff"]),
        (["--entry", "id:1"], ["slide 1.tiff"]),
        (["--entry", "name:1"], ["1"]),
        (["--entry", "t*", "--entry", "id:2"], ["1", "third"]),
    ],
)
def test_selection_on_the_command_line(tagged, capsys, words, names):
    status, result = call_json(capsys, "plan", tagged, *OPTIONS, *words)
    assert status == 0
    assert [slide["slide_name"] for slide in result["slides"]] == names


def test_an_entry_that_is_an_id_and_a_name_is_refused(tagged, capsys):
    status, _, errors = call(capsys, "plan", tagged, *OPTIONS, "--entry", "1")
    assert status == 2
    assert "--entry: '1' is the ID of the slide 'slide 1.tiff' and the name of the slide" in errors
    assert "Write id:1 or name:1." in errors


def test_inspect_shows_what_can_be_selected(tagged, capsys):
    _, result = call_json(capsys, "inspect", tagged)
    assert [slide["metadata"] for slide in result["entries"]] == [
        {"patient": "P1", "block": "a"}, {"patient": "P2"}, {"patient": "P3", "block": "b"},
    ]  # fmt: skip
    assert [slide["tags"] for slide in result["entries"]] == [["good"], [], []]
    assert [slide["magnification"] for slide in result["entries"]][:2] == [20.0, 40.0]
    text = call(capsys, "inspect", tagged)[1]
    lines = [line.split() for line in text.splitlines()]
    assert ["block", "a,", "b"] in lines
    assert ["patient", "P1,", "P2,", "P3"] in lines
    assert ["tags:", "good"] in lines
    assert "20x" in text
    assert "40x" in text


# --- commands and options of a run ---------------------------------------------------------------


def test_dry_run_is_plan(study, tmp_path, capsys):
    before = tree_hashes(study.folder)
    words = [study.project, *OPTIONS, "--entry", "1"]
    out = tmp_path / "out"
    text = call(capsys, "export", *words, "--out", out, "--dry-run")[:2]
    assert text[0] == 0

    def without_time(text):
        return re.sub(r"\nAbout .* tried\.", "", text)

    assert without_time(text[1]) == without_time(call(capsys, "plan", *words)[1])
    result = call_json(capsys, "export", *words, "--out", out, "--dry-run")[1]
    expected = call_json(capsys, "plan", *words)[1]
    for each in (result, expected):
        each["estimate"].pop("seconds")
    assert result == expected
    assert result["patches"] > 0
    assert tree_hashes(study.folder) == before


def test_update_starts_a_run_in_an_empty_output(study, tmp_path, capsys):
    words = ["export", study.project, "--out", tmp_path / "out", *OPTIONS, "--update"]
    status, first = call_json(capsys, *words)
    assert (status, first["written"] > 0) == (0, True)
    status, second = call_json(capsys, *words)
    assert (status, second["written"]) == (0, first["written"])
    assert second["run_id"] != first["run_id"]


def test_status_tells_by_its_exit_code_what_is_stale(study, tmp_path, capsys, redrawn, monkeypatch):
    assert call(capsys, "status", study.project, "--exit-code")[0] == 0
    words = ["-v", "export", study.project, "--out", tmp_path / "out", *OPTIONS]
    monkeypatch.setattr(sys, "argv", ["qupath-bridge", *map(str, words)])
    call(capsys, *words)
    assert call(capsys, "status", study.project, "--exit-code")[0] == 0
    redrawn()
    status, text, _ = call(capsys, "status", study.project, "--exit-code")
    assert status == 1
    assert "stale" in text
    (line,) = [line for line in text.splitlines() if "bring it up to date: " in line]
    program, *update = shlex.split(line.partition(": ")[2])
    assert (program, update[0], update[-1]) == ("qupath-bridge", "export", "--update")
    assert call(capsys, "status", study.project)[0] == 0
    status, result = call_json(capsys, "status", study.project, "--exit-code")
    assert (status, result["runs"][0]["state"]) == (1, "stale")
    assert call(capsys, *update)[0] == 0
    assert call(capsys, "status", study.project, "--exit-code")[0] == 0


SETTINGS = Settings.parse(
    {
        "entry": ["-1", "a b*", "name:x=y"], "where": {"site": ["A", "B=C"]}, "tag": ["t"],
        "size": 64, "mpp": 0.5, "rule": "threshold", "map": {"Tumor: *": "Tumor", "A=B": "C"},
        "priority": ["a, b", "c"], "exclude": ["-x", "y"], "origin": [3, -5], "labels": False,
        "unclassified": "as=Other", "qc_min": {"saturation": 0.25}, "plane": [[0, 1], [2, 0]],
        "engine": "embedded", "slide_map": {"I:\\\\COAD": "/mnt/c=d"}, "search": ["/a b"],
    }
)  # fmt: skip


def test_words_of_settings_give_the_settings_again(capsys):
    """The command line itself reads the words, as a shell would hand them over."""
    words = shlex.split(shlex.join(words_of(SETTINGS)))
    status, shown, _ = call(capsys, "config", "show", *words, "--json")
    assert status == 0
    shown = json.loads(shown)
    for model in (SETTINGS.selection, SETTINGS.config, SETTINGS.options):
        for name, value in model.as_json().items():
            assert shown[name] == value, name
    assert words_of(Settings.parse({})) == []


def test_several_projects_on_the_command_line(study, tmp_path, capsys):
    shutil.copytree(study.project.parent, tmp_path / "both" / "one")
    shutil.copytree(study.project.parent, tmp_path / "both" / "two")
    paths = [tmp_path / "both" / name / study.project.name for name in ("one", "two")]
    for number, places in enumerate((paths, [tmp_path / "both"])):
        out = tmp_path / f"out{number}"
        status, result = call_json(capsys, "export", *places, "--out", out, *OPTIONS)
        assert status == 0
        assert [slide["slide_id"] for slide in result["slides"]] == [
            "one_1_slide-1.tiff", "one_2_slide-2.tiff", "two_1_slide-1.tiff", "two_2_slide-2.tiff",
        ]  # fmt: skip
        assert [Path(folder).parts[-4] for folder in result["provenance"]] == ["one", "two"]
        assert call(capsys, "verify", out)[0] == 0
    _, result = call_json(capsys, "inspect", tmp_path / "both")
    assert [Path(each["project"]["path"]) for each in result["projects"]] == paths
    status, result = call_json(capsys, "plan", *paths, *OPTIONS)
    assert len(result["slides"]) == 4


def rows(out):
    return qb.Run.load(out).table().to_pylist()


@pytest.mark.slow
def test_processes_on_the_command_line(study, tmp_path, capsys):
    for name in ("threads", "processes"):
        words = ["--runner", name, "--workers", "2", "--no-provenance"]
        out = tmp_path / name
        assert call(capsys, "export", study.project, "--out", out, *OPTIONS, *words)[0] == 0
    digests = [[row["digest"] for row in rows(tmp_path / n)] for n in ("threads", "processes")]
    assert digests[0] == digests[1]
    assert len(digests[0]) > 0


def test_container_tar_on_the_command_line(study, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", study.project, "--out", out, *OPTIONS, "--container", "tar"]
    status, result = call_json(capsys, *words)
    assert (status, result["written"] > 0) == (0, True)
    assert list(out.rglob("*.tar"))
    assert not list(out.rglob("*.png"))
    status, checked = call_json(capsys, "verify", out)
    assert (status, checked["files"]) == (0, result["written"])


def test_layout_on_the_command_line(study, tmp_path, capsys):
    out = tmp_path / "out"
    layout = "patches/{label}/{slide_id}/{patch_id}"
    call(capsys, "export", study.project, "--out", out, *OPTIONS, "--layout", layout)
    assert all((out / row["path"]).is_file() for row in rows(out))
    assert {path.parent.parent.name for path in out.rglob("*.png")} == {
        "Tumor",
        "Stroma",
        "Necrosis",
    }
    status, _, errors = call(
        capsys, "export", study.project, "--out", tmp_path / "new", "--layout", "patches/{label}"
    )
    assert status == 2
    assert "--layout: layout must end with {patch_id}" in errors


class Asked(TileReader):
    """A reader that is taken only where it is asked for, and says that it was."""

    used: list = []  # noqa: RUF012

    def __init__(self, path):
        self.used.append(path)
        super().__init__(path)

    @staticmethod
    def can_open(path):
        return 0


@pytest.fixture
def asked(monkeypatch):
    from qupath_bridge import registry

    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(Asked, "used", [])
    qb.register("reader", "asked", Asked)
    return Asked.used


@pytest.mark.parametrize("command", ["inspect", "plan", "export", "verify"])
def test_a_registered_reader_is_used(study, tmp_path, capsys, asked, command):
    out = tmp_path / "out"
    if command == "verify":
        call(capsys, "export", study.project, "--out", out, *OPTIONS)
        asked.clear()
    words = {
        "inspect": [study.project],
        "plan": [study.project, *OPTIONS],
        "export": [study.project, "--out", out, *OPTIONS],
        "verify": [out],
    }[command]
    status, _, errors = call(capsys, command, *words, "--reader", "asked")
    assert (status, errors) == (0, "")
    assert asked


def test_a_reader_that_is_named_is_the_only_one(study, tmp_path, capsys, asked, monkeypatch):
    monkeypatch.delattr("qupath_bridge.readers._rank")  # what auto asks
    words = [study.project, *OPTIONS, "--reader", "asked", "--preview", tmp_path / "plan.png"]
    status, result = call_json(capsys, "plan", *words)
    assert (status, len(result["previews"])) == (0, 1)
    assert result["estimate"]["bytes"] > 0
    assert call(capsys, "export", *words, "--out", tmp_path / "out")[0] == 0
    assert call(capsys, "inspect", study.project, "--reader", "asked")[2] == ""
    assert call(capsys, "verify", tmp_path / "out", "--reader", "asked")[0] == 0


def test_status_uses_the_reader_of_the_run(study, tmp_path, capsys, asked):
    words = ["export", study.project, "--out", tmp_path / "out", *OPTIONS, "--reader", "asked"]
    call(capsys, *words)
    asked.clear()
    _, result = call_json(capsys, "status", study.project)
    assert [run["state"] for run in result["runs"]] == ["current"]
    assert asked


def test_break_lock_takes_an_output_over(study, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", study.project, "--out", out, *OPTIONS, "--update"]
    assert call(capsys, *words)[0] == 0
    with open_output(out).lock("another-run"):
        for command in (words, ["clean", out]):
            status, _, errors = call(capsys, *command)
            assert status == 5
            assert "another-run" in errors
            assert "break_lock" in errors
        assert call(capsys, *words, "--break-lock")[0] == 0
    assert call(capsys, "clean", out)[0] == 0


def test_clean_removes_patches_that_no_index_lists(study, tmp_path, capsys):
    out = tmp_path / "out"
    call(capsys, "export", study.project, "--out", out, *OPTIONS)
    patch = next(out.rglob("*.png"))
    patch.with_name("own.png").write_bytes(b"somebody put it there")
    before = tree_hashes(out)
    shutil.copy(patch, patch.with_name(re.sub(r"_x\d+_", "_x123_", patch.name)))
    assert tree_hashes(out) != before
    status, result = call_json(capsys, "clean", out)
    assert (status, result["removed"]) == (0, 1)
    assert tree_hashes(out) == before
    assert call(capsys, "clean", out)[1] == "0 files of abandoned runs removed.\n"
    status, _, errors = call(capsys, "clean", tmp_path / "nothing")
    assert status == 5
    assert "nothing" in errors
    assert not (tmp_path / "nothing").exists()
