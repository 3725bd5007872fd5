"""The lock between real processes; the rest of its promises is in the contract suite."""

import os
import subprocess
import sys

import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.folder import FolderOutput
from qupath_bridge.stores.memory import MemoryStore

HOLD = """
import sys
from qupath_bridge.outputs import open_output
with open_output(sys.argv[1], "folder").lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(place, run_id):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place), run_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path):
    output = open_output(tmp_path, "folder")
    process = start(tmp_path, "FIRST")
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"run FIRST: process {process.pid} on "):
            output.lock("SECOND").__enter__()
        process.kill()
        if os.name != "nt":
            # Not waited for yet: the process is gone, but its number is still taken.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with output.lock("SECOND"):
                assert output.holder().run_id == "SECOND"
    finally:
        process.kill()
        process.communicate(timeout=60)
    with output.lock("THIRD"):
        assert output.holder().run_id == "THIRD"
    assert output.is_empty()


def test_a_lock_is_released_when_its_process_ends(tmp_path):
    process = start(tmp_path, "FIRST")
    assert process.stdout.readline() == "held\n"
    assert open_output(tmp_path, "folder").holder().process == process.pid
    _, errors = process.communicate("end\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert open_output(tmp_path, "folder").holder() is None


def test_of_two_processes_that_take_a_dead_lock_over_one_wins(tmp_path):
    dead = start(tmp_path, "DEAD")
    assert dead.stdout.readline() == "held\n"
    dead.kill()
    dead.communicate(timeout=60)
    processes = [start(tmp_path, f"R{number}") for number in range(2)]
    firsts = [process.stdout.readline() for process in processes]
    assert sorted(firsts) == ["", "held\n"]
    holder = open_output(tmp_path, "folder").holder()
    assert holder.run_id == f"R{firsts.index('held' + chr(10))}"
    for process, first in zip(processes, firsts, strict=True):
        _, errors = process.communicate("end\n", timeout=60)
        assert (process.returncode == 0) == bool(first)
        assert bool(first) or f"in use by run {holder.run_id}" in errors
    assert open_output(tmp_path, "folder").is_empty()


@pytest.mark.parametrize("last", range(8))
def test_a_process_that_dies_while_it_takes_over_leaves_a_lock_that_can_be_taken(
    tmp_path, monkeypatch, last
):
    """Whatever write or removal was its last one."""
    output = open_output(tmp_path, "folder")
    dead = start(tmp_path, "DEAD")
    assert dead.stdout.readline() == "held\n"
    dead.kill()
    dead.communicate(timeout=60)
    code = f"""
import os, sys
from qupath_bridge.outputs import open_output
count = 0
def step(call):
    def counted(*values, **options):
        global count
        count += 1
        if count > {last}:
            os._exit(9)
        return call(*values, **options)
    return counted
for name in ("link", "replace", "unlink"):
    setattr(os, name, step(getattr(os, name)))
open_output({str(tmp_path)!r}, "folder").lock("DIES").__enter__()
os._exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode in {7, 9}
    with output.lock("NEXT"):
        assert output.holder().run_id == "NEXT"
        output.sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """The lock is the first file: who exports knows nothing of it."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(OutputError) as caught,
        open_output(tmp_path / "out", "folder").lock("RUN"),
    ):
        pass
    place = tmp_path / "out"
    assert caught.value.message == f"Nothing can be written to {place}: Permission denied."
    assert "choose another folder" in caught.value.hint


class LostAnswers(MemoryStore):
    """Asks again after an answer that was lost, as clients of object storage do."""

    def create(self, name, data):
        super().create(name, data)
        return super().create(name, data)


def test_a_lock_whose_first_answer_was_lost_is_held():
    store = LostAnswers()
    output = FolderOutput(store)
    with output.lock("R1"):
        assert output.holder().run_id == "R1"
        with pytest.raises(OutputError, match="R1"), output.lock("R2"):
            pass
    assert output.holder() is None
    store.forget()
