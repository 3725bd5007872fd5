"""The command ``request``: lines of JSON, and a process that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from qupath_bridge._version import __version__
from qupath_bridge.cli import request


@pytest.fixture
def started():
    """A function that starts ``qupath-bridge request``; the process ends with the test."""
    with ExitStack() as stack:

        def start(*arguments):
            return stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "qupath_bridge", "request", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    env={**os.environ, "PYTHONUTF8": "1"},
                )
            )

        yield start


def written(folder, name, **fields):
    path = folder / name
    fields = {"protocol": 1, "result": str(path.with_suffix(".result")), **fields}
    path.write_text(json.dumps(fields), encoding="utf-8")
    return str(path)


def test_a_request_in_a_file(started, study, tmp_path):
    file = written(tmp_path, "ä, 组织.json", command="runs", project=str(study.project))
    process = started(file)
    stdout, _ = process.communicate(timeout=60)

    start, result = map(json.loads, stdout.splitlines())
    assert (start["event"], start["version"], start["protocol"]) == ("start", __version__, 1)
    assert start["python"] == sys.executable
    assert result["event"] == "result"
    content = json.loads(Path(result["file"]).read_text(encoding="utf-8"))
    assert content["value"] == {"runs": [], "unfinished": [], "messages": []}
    assert process.returncode == 0


@pytest.mark.slow
def test_requests_from_stdin_are_answered_one_after_the_other(started, study, tmp_path):
    process = started("-")
    assert json.loads(process.stdout.readline())["event"] == "start"
    for name, fields in (
        ("one ä.json", {"command": "preview", "entry": "1"}),
        ("two.json", {"command": "preview", "entry": "9"}),
        ("three.json", {"command": "runs"}),
    ):
        file = written(tmp_path, name, project=str(study.project), **fields)
        process.stdin.write(f"{file}\n")
        process.stdin.flush()
        event = json.loads(process.stdout.readline())
        assert event["event"] == ("error" if name == "two.json" else "result"), event
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_a_silent_request_says_that_it_is_alive(monkeypatch, capsys):
    monkeypatch.setattr(request, "QUIET", 0.01)
    events, deadline = request._Events(), time.monotonic() + 20
    printed = ""
    with request._watched(events):
        while not printed and time.monotonic() < deadline:
            time.sleep(0.01)
            printed = capsys.readouterr().out

    assert {json.dumps(json.loads(line)) for line in printed.splitlines()} == {'{"event": "alive"}'}
    assert not events.gone.is_set()


@pytest.fixture
def long_export(study, tmp_path):
    """An export that takes long: one worker, and very many small patches."""
    options = {"size": 24, "stride": 2, "workers": 1, "labels": False, "format": "png"}
    return written(
        tmp_path, "long.json", command="export", project=str(study.project), options=options
    )


def wait_for_progress(process):
    while True:
        event = json.loads(process.stdout.readline())
        if event["event"] == "progress" and event["done"] > 0:
            return


def stopped_runs(study):
    root = study.project.parent / "qupath_bridge" / "patches"
    return [json.loads(p.read_text("utf-8"))["state"] for p in root.glob("*/run.json")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be caught on Windows")
def test_a_stopped_export_says_that_it_can_be_resumed(started, study, long_export):
    process = started(long_export)
    wait_for_progress(process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=30)

    assert time.monotonic() - began < 5
    last = json.loads(stdout.splitlines()[-1])
    assert (last["event"], last["kind"]) == ("error", "InterruptedRunError")
    assert process.returncode == 130
    assert stopped_runs(study) == ["running"]


CHILD = """
import sys, time
import qupath_bridge.api.requests.exporting as exporting
def silent(*given, **more):
    open({started!r}, "w").close()
    time.sleep(60)  # nothing is emitted, and no cancel is looked at
exporting.export_run = silent
from qupath_bridge.cli import main
sys.exit(main(["request", "-"]))
"""

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
print(child.pid, flush=True)
child.stdin.write({file!r} + "\\n")
child.stdin.flush()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks at /proc")
def test_a_silent_export_ends_when_its_parent_was_killed(study, tmp_path):
    """QuPath was killed with -9 while nothing was to be told."""
    file = written(tmp_path, "one.json", command="export", project=str(study.project))
    flag = tmp_path / "started"
    text = PARENT.format(child=CHILD.format(started=str(flag)), file=file)
    parent = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    with parent:
        child = Path("/proc") / parent.stdout.readline().strip() / "stat"
        while not flag.exists():
            time.sleep(0.05)
        parent.kill()
    began = time.monotonic()
    while child.exists() and ") Z " not in child.read_text():
        assert time.monotonic() - began < 30
        time.sleep(0.1)

    assert time.monotonic() - began < 10
    result = json.loads(Path(file).with_suffix(".result").read_text(encoding="utf-8"))
    assert result["error"]["message"] == "The export was stopped; it can be resumed."


@pytest.mark.slow
def test_an_export_ends_when_nobody_listens_any_more(started, study, long_export):
    """QuPath was closed or killed."""
    process = started(long_export)
    wait_for_progress(process)
    process.stdout.close()

    assert process.wait(timeout=30) == 130
    assert stopped_runs(study) == ["running"]
