"""A run that is killed, again and again, and one that is interrupted: real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qupath_bridge.outputs import index
from qupath_bridge.stores.local import LocalStore

KILLS = 50
OPTIONS = ["--size", "40", "--stride", "20", "--edge", "pad", "--min-share", "0.3"]
# Whoever started the tests in the background had them ignore interrupts, and so their children.
MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.002)


def content(out):
    """What a run wrote: every patch's bytes, and the index without the id of the run."""
    table = index.read_index(LocalStore(out)).drop_columns(["run_id"])
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["state"] == "complete"
    files = [path for path in (out / "patches").rglob("*") if path.is_file()]
    patches = {path.relative_to(out): path.read_bytes() for path in files}
    others = sorted(p.name for p in out.iterdir())
    return table.to_pylist(), patches, others


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_and_resume_equals_one_uninterrupted_run(study, tmp_path):
    whole = tmp_path / "whole"
    process = start("export", study.project, "--out", whole, *OPTIONS, "--no-provenance")
    wait_for(whole / "run.json", process)
    began = time.monotonic()
    finish(process)
    duration = time.monotonic() - began
    expected = content(whole)
    assert len(expected[1]) > 500

    moments = random.Random(7)
    landed = number = 0
    while landed < KILLS:
        out = tmp_path / f"cut{number}"
        number += 1
        assert number < 3 * KILLS, "most kills must hit a run at work"
        arguments = ["export", study.project, "--out", out, *OPTIONS, "--no-provenance"]
        # A few kills in a row hit the same output: a resumed run is killed too.
        for _ in range(5):
            resume = ["--resume"] if (out / "run.json").exists() else []
            process = start(*arguments, *resume)
            if not resume:
                wait_for(out / "run.json", process)
            # Of a resumed run the start-up counts too: a kill before the first write is nothing.
            time.sleep(moments.uniform(0, 0.7 * duration + (0.7 if resume else 0)))
            hit = process.poll() is None
            process.kill()
            process.communicate()
            landed += hit
            if not hit:
                break
        finish(start(*arguments, *(["--resume"] if (out / "run.json").exists() else [])))
        assert content(out) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_within_two_seconds(study, tmp_path, number):
    if os.name == "nt":
        return  # signals are another thing there; the interrupt itself is tested in-process
    out = tmp_path / "out"
    arguments = ["export", study.project, "--out", out, "--size", "200", "--stride", "4",
                 "--edge", "pad", "--workers", "4", "--min-share", "0.1"]  # fmt: skip
    process = start(*arguments)
    wait_for(out / "patches", process)
    time.sleep(0.5)
    assert process.poll() is None, "the run must still be at work"
    process.send_signal(number)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert process.returncode == 130, errors.decode()
    assert b"--resume" in errors
    assert not list(Path(out).rglob(".qb-tmp-*"))
