"""Corrections made by QuPath itself: through status, export, write-back and undo, twice."""

import json
import os
import subprocess

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.patches.corrections import latest_corrections
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import read_tiles
from qupath_bridge.sources.corrections import read_corrections

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def tiles = getCurrentHierarchy().getTileObjects().collectEntries { [(it.getID().toString()): it] }
tiles[args[0]].setPathClass(PathClass.fromString(args[1]))
getCurrentHierarchy().removeObjects([tiles[args[2]]], true)
fireHierarchyUpdate()
println 'changed ' + getCurrentHierarchy().getTileObjects().size()
"""


class Person:
    """Somebody who gives a tile another class and deletes one in QuPath, and saves."""

    def __init__(self, installation, folder):
        self.installation, self.folder = installation, folder
        self.script = folder / "correct.groovy"
        self.script.write_text(CORRECT, encoding="utf-8")

    def changes(self, project, tile, class_path, deleted):
        command = [
            str(self.installation.java), "-Xmx2g", f"-Djava.util.prefs.userRoot={self.folder}",
            "-cp", str(self.installation.jars / "*"), "qupath.QuPath", "script",
            f"--project={project}", "--image=slide 1.tiff", "--save",
            *(f"--args={argument}" for argument in (tile, class_path, deleted)),
            str(self.script),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=280, check=False,
            env=dict(os.environ),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "changed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def person(tmp_path, installation):
    folder = tmp_path / "person"
    folder.mkdir()
    return Person(installation, folder)


class Loop:
    """The study, its output, and what each step shows."""

    def __init__(self, study, engine, installation, capsys):
        self.study, self.project, self.engine = study, study.project, engine
        self.qupath, self.capsys = installation.installation.folder, capsys
        self.out = study.folder / "patches"

    def export(self, *options):
        words = ["--out", str(self.out), "--size", "100", "--edge", "pad", "--workers", "1"]
        assert main(["export", str(self.project), *words, *options]) == 0
        self.capsys.readouterr()
        return qb.Run.load(self.out).run_id

    def rows(self):
        rows = qb.Run.load(self.out).table().to_pylist()
        return {row["tile_uuid"]: row for row in rows if row["entry_id"] == "1"}

    def listed(self, run_id):
        """The tiles of the run's GeoJSON in the project, with their classes."""
        folder = self.project.parent / "qupath_bridge" / "runs" / run_id
        return {tile.id: tile.class_path for tile in read_tiles(folder / "1.geojson.gz")}

    def write(self, run_id):
        done = qb.write_back(
            self.project, run_id, engine=self.engine, qupath=self.qupath, force=True
        )
        assert not done.failed, done.entries
        return done.entries[0]

    def undo(self, run_id):
        done = qb.undo_write_back(
            self.project, run_id, engine=self.engine, qupath=self.qupath, force=True
        )
        assert not done.failed, done.entries
        return done.entries[0]

    def shown(self):
        """The tiles of the image with their classes, for which both engines must agree."""
        seen = []
        for engine in ("embedded", "paquo"):
            with qb.open_project(self.project, engine=engine, qupath=self.qupath) as project:
                objects = project["1"].read(detections=True).objects
            seen.append({o.id: o.class_path for o in objects if is_ours(o.id)})
        assert seen[0] == seen[1]
        return seen[0]

    def status(self):
        assert main(["status", str(self.project)]) in (0, 1)
        return self.capsys.readouterr().out

    def said(self):
        with qb.open_project(self.project, engine="embedded") as project:
            latest = latest_corrections(read_corrections(project.info, "1"))
        return sorted((each.kind, each.before, each.after) for each in latest.values())


@pytest.mark.parametrize("engine", ["paquo", "embedded"])
def test_what_a_person_does_in_qupath_comes_back_twice(study, person, installation, capsys, engine):
    loop = Loop(study, engine, installation, capsys)
    first = loop.export()
    loop.write(first)
    ids = sorted(loop.listed(first))
    tile, gone, gone_too = ids[0], ids[1], ids[2]
    own = loop.listed(first)

    # Another class, and a tile that is deleted.
    person.changes(study.project, tile, "Necrosis: Old", gone)
    expected = {**own, tile: "Necrosis: Old"}
    del expected[gone]
    assert loop.shown() == expected
    assert (
        f"slide 1.tiff (entry 1): 1 patch corrected, 1 rejected since run {first}; "
        "export --update applies them" in loop.status()
    )
    assert loop.said() == []  # status reports only

    second = loop.export("--update")
    assert loop.said() == [
        ("corrected", own[tile], "Necrosis: Old"), ("rejected", own[gone], None),
    ]  # fmt: skip
    rows = loop.rows()
    assert {i: row["label"] for i, row in rows.items()} == expected == loop.listed(second)
    assert (rows[tile]["label_source"], rows[tile]["rule_label"]) == ("corrected", own[tile])
    done = loop.write(second)
    assert (done.collected, done.corrected, done.rejected) == (0, 0, 0)
    assert loop.shown() == expected
    assert "since run" not in loop.status()

    # Again: the correction is changed to what the rule had said, and another tile is deleted.
    person.changes(study.project, tile, own[tile], gone_too)
    expected_too = {i: c for i, c in own.items() if i not in (gone, gone_too)}
    assert loop.shown() == expected_too
    third = loop.export("--update")
    assert loop.said() == sorted([
        ("corrected", "Necrosis: Old", own[tile]), ("rejected", own[gone], None),
        ("rejected", own[gone_too], None),
    ])  # fmt: skip
    assert {i: row["label"] for i, row in loop.rows().items()} == expected_too
    loop.write(third)
    assert loop.shown() == expected_too

    # Taking the runs out, one after the other, never loses what was said.
    for run_id in (third, second):
        loop.undo(run_id)
        assert loop.shown() == expected_too
    loop.undo(first)
    assert loop.shown() == {}
    again = loop.write(first)
    assert (again.corrected, again.rejected) == (0, 2)
    assert loop.shown() == expected_too
    (found,) = json.loads(json.dumps([s.collected for s in qb.corrections(study.project)]))
    assert found == 0
