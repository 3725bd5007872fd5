"""Streams that are closed, full or left, a folder that is gone, arguments that are not text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")

COMMAND = f"'{sys.executable}' -m qupath_bridge"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def shell(script, folder, **environment):
    """Run a line of the shell in a folder; Q is the program."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(
        ["/bin/bash", "-c", f"Q() {{ {COMMAND} \"$@\"; }}; {script}"],
        cwd=folder, env=env, capture_output=True, text=True, errors="surrogateescape", timeout=120,
        check=False,
    )  # fmt: skip


EXPORT = "Q export study --size 100 --out out --no-provenance"


@pytest.mark.parametrize(
    ("redirection", "status"),
    [
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&- --runner processes --workers 2", 0),
        pytest.param("2>/dev/full --progress jsonl", 0, marks=FULL),
        pytest.param(">/dev/full", 5, marks=FULL),
        pytest.param("--json >/dev/full", 5, marks=FULL),
        ("--progress jsonl 2> >(head -c 10 >/dev/null)", 0),
        ("| true; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_an_export_goes_on_without_its_streams(study, redirection, status):
    done = shell(f"{EXPORT} {redirection}", study.folder)
    assert done.returncode == status
    assert "Traceback" not in done.stderr and "should not have" not in done.stderr
    if status:
        assert done.stderr == "error: The result cannot be printed: No space left on device.\n"
    run = qb.Run.load(study.folder / "out")
    assert run.record["state"] == "complete"
    assert qb.verify(run).ok  # nothing that is printed went into a file


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("inspect none 2>&-", 4),
        pytest.param("inspect none 2>/dev/full", 4, marks=FULL),
        pytest.param("inspect none --json >/dev/full", 4, marks=FULL),
        pytest.param("inspect --none 2>/dev/full", 2, marks=FULL),
        pytest.param("--help >/dev/full", 5, marks=FULL),
    ],
)
def test_an_error_keeps_its_status_without_streams(tmp_path, words, status):
    done = shell(f"Q {words}", tmp_path)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.count("\n") <= 1


def test_a_working_directory_that_is_gone(study):
    (study.folder / "gone").mkdir()
    done = shell(f"rmdir ../gone; Q inspect ../study; Q inspect {study.project} | head -1",
                 study.folder / "gone")  # fmt: skip
    assert done.stderr == (
        "error: The working directory does not exist any more. Change to another folder, and run "
        "the command again.\n"
    )
    assert done.stdout.startswith(str(study.project))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("inspect $'n\\xff'", r"error: n\udcff: "),
        ("plan study --background $'\\xff'", "error: --background: has bytes in it that are not"),
        ("plan study --entry $'\\xff'", "error: --entry: has bytes in it that are not UTF-8"),
        ("plan study --map $'\\xff=A'", "error: --map: has bytes in it that are not UTF-8"),
        ("plan study --map $'A=\\xff'", "error: --map: has bytes in it that are not UTF-8"),
        ("plan study --search $'\\xff' --size 0", "error: --size"),
    ],
)
def test_arguments_that_are_not_text(study, words, message):
    done = shell(f"Q {words}", study.folder)
    assert done.returncode in {2, 4}
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_places_that_are_not_text_are_used(study):
    (study.folder / "\udcff").mkdir()
    done = shell(f"{EXPORT[: -len('out --no-provenance')]}$'\\xff/out' --search $'\\xff'",
                 study.folder)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((study.folder / "\udcff" / "out" / "run.json").read_bytes())
    assert record["options"]["search"] == ["\udcff"]


def test_streams_of_a_program_that_calls_main_stay(study, capsys):
    before = sys.stdout, sys.stderr
    assert main(["inspect", str(study.project)]) == 0
    assert (sys.stdout, sys.stderr) == before
    assert "slide 1.tiff" in capsys.readouterr().out
