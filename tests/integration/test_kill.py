"""A run that dies at each step, one that is killed at random, and one that is interrupted."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.model import Box
from qupath_bridge.outputs import lock, open_output
from qupath_bridge.outputs.index import read_index
from qupath_bridge.patches.corrections import Correction, to_lines

from .faults import deaths, steps_of

OPTIONS = ["--size", "40", "--stride", "20", "--edge", "pad", "--min-share", "0.3"]
FEW = qb.ExportConfig(size=230, edge="pad", min_share=0.3)
# Whoever started the tests in the background had them ignore interrupts, and so their children.
MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
)


def command(study, out, options, mode=None):
    modes = [] if mode is None else [f"--{mode}"]
    return ["export", str(study.project), "--out", str(out), *options, "--no-provenance", *modes]


def begun(out):
    """Whether there is a run to resume."""
    return (out / "run.json").exists()


def complete(out):
    return json.loads((out / "run.json").read_bytes())["state"] == "complete"


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


def patches(out):
    files = [path for path in (out / "patches").rglob("*") if path.is_file()]
    return {path.relative_to(out): path.read_bytes() for path in files}


def rows(out):
    """Return the index of what is committed."""
    return read_index(open_output(out, "folder"))


def content(out):
    """What a run wrote: every patch's bytes, and the index without the id of the run."""
    assert complete(out)
    table = rows(out).drop_columns(["run_id"])
    return table.to_pylist(), patches(out), sorted(p.name for p in out.iterdir())


# --- deaths at each step --------------------------------------------------------------------------


@pytest.fixture
def mortal(monkeypatch):
    """Let each run look as if its process had ended, so that the next one takes its lock over."""
    real = lock._this_process

    def ended(run_id):
        holder = real(run_id)
        return dataclasses.replace(holder, process_started=holder.process_started - 1000)

    monkeypatch.setattr(lock, "_this_process", ended)


def export(study, out, mode=None):
    """Export a few patches, in this thread alone; ``mode`` is resume or update."""
    modes = {} if mode is None else {mode: True}
    run = qb.export(
        study.project, out, FEW, workers=1, engine="embedded", provenance=False, progress="none",
        command=["test"], **modes,
    )  # fmt: skip
    assert not run.failures


def resume(study, out):
    """Continue a run that died, or begin it if it died before anything was there."""
    export(study, out, "resume" if begun(out) else None)


def assert_whole(out, *finished):
    """Each patch that has its final name is one of a finished run, and what is listed is there."""
    found = patches(out)
    for path, payload in found.items():
        if not path.name.startswith(".qb-tmp-"):
            assert payload in [each.get(path) for each in finished], path
    assert {Path(path) for path in rows(out).column("path").to_pylist()} <= found.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_death_at_every_step_and_resume(study, tmp_path, mortal):
    """After each: no half patch; and the resumed run equals one that was never interrupted."""
    out = tmp_path / "cut"
    export(study, tmp_path / "whole")
    expected, names = content(tmp_path / "whole"), []
    assert 6 < len(expected[1]) < 20
    for steps in deaths(lambda: export(study, out)):
        names = steps.names
        assert_whole(out, expected[1])
        resume(study, out)
        assert content(out) == expected, names
        shutil.rmtree(out)
    assert content(out) == expected
    assert names.count("replace") > len(expected[1])
    assert {"open", "half a write", "fsync", "replace", "mkdir", "link"} <= set(names)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_death_of_an_update_at_every_step(study, tmp_path, redrawn, mortal):
    """After each: no half patch; and the resumed update equals a new export."""
    old, out = tmp_path / "old", tmp_path / "cut"
    redrawn(200)
    export(study, old)
    redrawn(0)
    export(study, tmp_path / "new")
    before, expected, count = patches(old), content(tmp_path / "new"), 0
    assert before != expected[1]
    shutil.copytree(old, out)
    for steps in deaths(lambda: export(study, out, "update")):
        count += not complete(out)
        assert_whole(out, before, expected[1])
        # The old record is complete: a run that died before it wrote its own is begun again.
        export(study, out, "update" if complete(out) else "resume")
        assert content(out) == expected, steps.names
        shutil.rmtree(out)
        shutil.copytree(old, out)
    assert content(out) == expected
    assert count > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_death_of_resumed_runs(study, tmp_path, mortal):
    """Several deaths in a row in one output folder, the first one at steps all over the run."""
    export(study, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    count = len(steps_of(lambda: export(study, tmp_path / "counted")))
    deepest = 0
    for first in range(1, count, 9):
        out, chain = tmp_path / f"cut{first}", 1
        assert [each.dead for each in deaths(lambda: export(study, out), [first])] == [True]  # noqa: B023
        for _ in deaths(lambda: resume(study, out), range(first % 20 + 1, count, 30)):  # noqa: B023
            assert_whole(out, expected[1])
            chain += 1
        resume(study, out)
        assert content(out) == expected, first
        deepest = max(deepest, chain)
    assert deepest > 3


def say(study, run, word):
    """Give one patch of a run another class, as a collection would."""
    row = run.table().slice(0, 1).to_pylist()[0]
    box = Box(*(row[f"{side}_qupath"] for side in "xywh"))
    said = Correction(
        "corrected", box, row["label"], word, row["run_id"], row["label"],
        row["slide_digest"].removeprefix("xxh3_128:"), "2026",
    )  # fmt: skip
    folder = study.project.parent / "qupath_bridge" / "corrections" / row["entry_id"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01.jsonl").write_bytes(to_lines([(row["entry_id"], said)]))


def inputs(out):
    """The corrections that a run has; the labels of earlier runs are not known everywhere."""
    return {path.name for path in (out / "inputs" / "corrections").iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_death_of_an_update_while_people_go_on_to_correct(study, tmp_path, mortal):
    """What a run has frozen it keeps; one that died before reads what is said by then."""
    old, out, frozen = tmp_path / "old", tmp_path / "cut", 0
    export(study, old)
    run, expected = qb.Run.load(old), {}
    for word in ("Before", "Meanwhile"):
        say(study, run, word)
        export(study, tmp_path / word)
        expected[word] = content(tmp_path / word)
        assert word in {row["label"] for row in expected[word][0]}
    shutil.copytree(old, out)
    say(study, run, "Before")
    # The inputs are frozen at the start: later deaths are those of the tests above.
    for steps in deaths(lambda: export(study, out, "update"), range(1, 50, 2)):
        word = "Meanwhile" if complete(out) else "Before"
        frozen += word == "Before"
        say(study, run, "Meanwhile")
        export(study, out, "update" if complete(out) else "resume")
        assert content(out) == expected[word], steps.names
        assert inputs(out) == inputs(tmp_path / word), steps.names
        assert qb.verify(out, pixels=0).ok
        shutil.rmtree(out)
        shutil.copytree(old, out)
        say(study, run, "Before")
    assert 5 < frozen < 24


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_death_of_a_first_run_with_corrections(study, tmp_path, mortal):
    """It can be resumed wherever it died, also while its inputs were written."""
    out, anew = tmp_path / "cut", 0
    export(study, tmp_path / "old")
    say(study, qb.Run.load(tmp_path / "old"), "Said")
    export(study, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    for steps in deaths(lambda: export(study, out), range(1, 50, 2)):
        if begun(out):
            anew += json.loads((out / "run.json").read_bytes())["inputs"] is None
        resume(study, out)
        assert content(out) == expected, steps.names
        assert inputs(out) == inputs(tmp_path / "whole"), steps.names
        shutil.rmtree(out)
    assert anew > 1


# --- real kills -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kill_and_resume_equals_one_uninterrupted_run(study, tmp_path, soak):
    """Killed at random moments, with several threads at work."""
    kills = 100 if soak else 5
    whole = tmp_path / "whole"
    process = start(*command(study, whole, OPTIONS))
    wait_for(whole / "run.json", process)
    began = time.monotonic()
    finish(process)
    duration = time.monotonic() - began
    expected = content(whole)
    assert len(expected[1]) > 500

    moments = random.Random(7)
    landed = number = 0
    while landed < kills:
        out = tmp_path / f"cut{number}"
        number += 1
        assert number < 3 * kills, "most kills must hit a run at work"
        # A few kills in a row hit the same output: a resumed run is killed too.
        for _ in range(min(5, kills - landed)):
            mode = "resume" if begun(out) else None
            process = start(*command(study, out, OPTIONS, mode))
            if mode is None:
                wait_for(out / "run.json", process)
            # Of a resumed run the start-up counts too: a kill before the first write is nothing.
            time.sleep(moments.uniform(0, 0.7 * duration + (0.7 if mode else 0)))
            hit = process.poll() is None
            process.kill()
            process.communicate()
            landed += hit
            if not hit:
                break
        finish(start(*command(study, out, OPTIONS, "resume" if begun(out) else None)))
        assert content(out) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_at_once(study, tmp_path, number):
    if os.name == "nt":
        return  # signals are another thing there; the interrupt itself is tested in-process
    out = tmp_path / "out"
    options = ["--size", "200", "--stride", "4", "--edge", "pad", "--workers", "4",
               "--min-share", "0.1"]  # fmt: skip
    process = start(*command(study, out, options))
    wait_for(out / "patches", process)
    time.sleep(0.5)
    assert process.poll() is None, "the run must still be at work"
    process.send_signal(number)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10  # a busy machine counts too
    assert process.returncode == 130, errors.decode()
    assert b"resume" in errors
    assert not list(Path(out).rglob(".qb-tmp-*"))
