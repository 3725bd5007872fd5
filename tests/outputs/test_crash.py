"""A writer that stops at any step: what is there then, and what a second writer makes of it.

The steps of one process are enumerated: after the last one allowed no file is written, renamed or
removed any more, as if the process had been killed there.
"""

import contextlib
import os

import numpy as np
import pytest
import xxhash

from qupath_bridge.outputs import Location, PatchRef, open_output
from qupath_bridge.outputs.index import facts_of
from qupath_bridge.stores import local
from qupath_bridge.testing.contracts.output import rows_of

SLIDE = "1_a"


class Killed(BaseException):
    pass


class Steps:
    """Lets ``allowed`` steps happen, and none after them."""

    def __init__(self, monkeypatch, allowed):
        self.count = 0
        self.allowed = allowed
        for name in ("replace", "unlink", "rmdir", "mkdir"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        monkeypatch.setattr(local._LocalDraft, "write", self.counted(local._LocalDraft.write))

    def counted(self, call):
        def counted(*values, **options):
            self.count += 1
            if self.count > self.allowed:
                raise Killed
            return call(*values, **options)

        return counted


def write(output, texts, facts):
    refs, places, payloads = [], [], []
    output.begin(SLIDE)
    for number, text in enumerate(texts):
        name = f"{SLIDE}_x{number}_y0"
        refs.append(PatchRef(SLIDE, name, f"patches/{SLIDE}/{text[0]}/{name}.png"))
        payloads.append(text.encode().ljust(12) * 100)
        pixels = np.frombuffer(payloads[-1], np.uint8).reshape(20, 20, 3)
        payload = payloads[-1] if output.accepts == "bytes" else pixels
        places.append(output.write(refs[-1], payload))
    table = rows_of(refs, places, payloads, {"plan_digest": facts})
    output.commit(SLIDE, table, table.slice(0, 1))


def state(output):
    """Return the facts of the committed rows, and which patches have the bytes of their row."""
    table = output.table(SLIDE)
    dropped = output.dropped(SLIDE)
    assert facts_of(table) == facts_of(dropped)
    columns = [table[name].to_pylist() for name in ("path", "offset", "length", "digest")]
    whole = []
    for *place, digest in zip(*columns, strict=True):
        location = Location(*place)
        content = output.read(location) if output.exists(location) else None
        whole.append(
            content is not None and f"xxh3_128:{xxhash.xxh3_128_hexdigest(content)}" == digest
        )
    return facts_of(table)["plan_digest"], whole


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


OLD, NEW = ["Tumor 0", "Stroma 1", "Tumor 2"], ["Tumor 0", "Tumor 1", "Tumor x", "Tumor 3"]


# Which patches of the old rows are as they were when new files took the place of old ones: a folder
# has one name for "Tumor 2" and "Tumor x", a shard of a tar file one for each of its contents, and
# an array one place for all patches of a number.
KEPT = {"folder": [True, True, False], "h5": [True, False, False], "zarr": [True, False, False]}


@pytest.mark.parametrize("container", ["folder", "tar:2kB", "tar", "h5", "zarr", "parquet"])
def test_a_writer_that_stops_at_any_step(tmp_path, container):
    """The old rows or the new ones; what they list is whole, or fails its digest; and a second
    writer makes what one makes that was never stopped."""
    whole = open_output(tmp_path / "whole", container)
    write(whole, NEW, "new")
    whole.sweep()
    expected = contents(tmp_path / "whole")

    allowed, states = 0, []
    while True:
        place = tmp_path / f"cut{allowed}"
        write(open_output(place, container), OLD, "old")
        stopped = open_output(place, container)
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, allowed)
            with contextlib.suppress(Killed):
                write(stopped, NEW, "new")
            done = steps.count <= allowed
            patch.undo()
        again = open_output(place, container)
        facts, good = state(again)
        states.append(facts)
        if facts == "new":
            assert all(good)
        else:
            assert good in ([True] * 3, KEPT.get(container))
        with again.lock("NEXT"):
            again.sweep()
            assert state(again) == (facts, good)
            assert list(again.unlisted()) == []
            write(again, NEW, "new")
            again.sweep()
        assert contents(place) == expected
        if done:
            break
        for pending in stopped._pending.values():
            stopped._cancel(pending)
        allowed += 1
    assert states == ["old"] * states.count("old") + ["new"] * states.count("new")
    assert states.count("old") > 6  # a partition is one write
    assert states.count("new") >= 2


@pytest.mark.parametrize("container", ["folder", "tar:2kB", "h5", "zarr", "parquet"])
def test_removing_that_stops_at_any_step(tmp_path, container):
    """The slide is there whole, or it is not; what is left can be swept."""
    allowed, states = 0, []
    while True:
        place = tmp_path / f"cut{allowed}"
        output = open_output(place, container)
        write(output, OLD, "old")
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, allowed)
            with contextlib.suppress(Killed):
                output.remove(SLIDE)
            done = steps.count <= allowed
            patch.undo()
        again = open_output(place, container)
        states.append(again.slides())
        if again.slides():
            assert state(again) == ("old", [True] * 3)
        again.sweep()
        assert bool(contents(place)) == bool(again.slides())
        if done:
            break
        allowed += 1
    assert states == [[SLIDE]] + [[]] * (len(states) - 1)
