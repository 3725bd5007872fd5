"""Patches put straight into QuPath's data: nothing else changes, whatever happens."""

import dataclasses
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import filelock
import pytest
import shapely

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import (
    MissingDataError,
    MissingDependencyError,
    OutputError,
    ProjectError,
)
from qupath_bridge.model import Box
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile, read_tiles
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.roundtrip import write_back as module
from qupath_bridge.roundtrip.backups import backups_of, content_digest
from qupath_bridge.roundtrip.comparing import differences, take_inventory, tile_hashes
from qupath_bridge.roundtrip.running_qupath import Process, find_qupath, processes
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.sources.paquo import PaquoSource
from qupath_bridge.testing.projects import Image, build_project, tree_hashes
from tests.support.run_folders import record_tiles, write_run

from .faults import (
    FULL,
    READ_ONLY,
    Steps,
    deaths,
    fail_with,
    injected,
    one_of_each_kind,
    steps_of,
)

CONFIG = qb.ExportConfig(size=100, edge="pad", min_share=0.4)
FAULTS = Path(__file__).with_name("faults.py")


def export(study, number=1, config=CONFIG):
    """Export the study and return the id of the run, which is in the project."""
    with qb.open_project(study.project, engine="embedded") as project:
        plans = [qb.plan(slide, config) for slide in project.slides]
        run = qb.export(plans, study.folder / f"out{number}", workers=1)
        qb.write_provenance(project, run)
    return run.run_id


def write(study, run_id, *, editor=None, running=(), slides=None, **options):
    with qb.open_project(study.project, engine="embedded") as project:
        return module.write_back(
            project, run_id, editor or EmbeddedSource(), running=running, slides=slides, **options
        )


def undo(study, run_id, **options):
    with qb.open_project(study.project, engine="embedded") as project:
        return module.undo(project, run_id, EmbeddedSource(), **{"running": (), **options})


def data_file(study, entry_id="1"):
    return study.project.parent / "data" / entry_id / "data.qpdata"


def bytes_of(study):
    return [data_file(study, entry_id).read_bytes() for entry_id in ("1", "2")]


def inventory(study, entry_id="1"):
    return take_inventory(EmbeddedSource().read_file(data_file(study, entry_id)))


def tiles_of(study, run_id, entry_id="1"):
    folder = study.project.parent / "qupath_bridge" / "runs" / run_id
    return list(read_tiles(folder / f"{entry_id}.geojson.gz"))


def assert_only(before, after, removed=(), added=()):
    assert list(differences(before, after, removed=removed, added=tile_hashes(added))) == []


def shown(study, entry_id="1"):
    """Ids of our tiles in an image, each with the class and the run that it shows."""
    image = EmbeddedSource().read_file(data_file(study, entry_id))
    return {o.id: (o.class_path, o.metadata["qb.run"]) for o in image.objects if is_ours(o.id)}


def files(study):
    """Hashes of everything in the project but what is ours."""
    hashes = tree_hashes(study.project.parent)
    return {name: value for name, value in hashes.items() if "qupath_bridge" not in str(name)}


def change_in_qupath(study, add=(), remove=(), entry_id="1"):
    """Change a data file as a user of QuPath would, with objects that are not of ours."""
    path = data_file(study, entry_id)
    path.write_bytes(splice_tiles(path.read_bytes(), add=add, remove=remove))


USERS = Tile(id=str(uuid.UUID(int=(4 << 76) | (8 << 60) | 12345)), box=Box(1, 2, 3, 4), name="mine")


# --- what is written -----------------------------------------------------------------------------


def test_tiles_come_and_nothing_else_changes(study):
    run_id, before, others = export(study), inventory(study), files(study)
    done = write(study, run_id)
    tiles = tiles_of(study, run_id)
    assert len(tiles) > 10
    assert_only(before, inventory(study), added=tiles)
    assert [(e.entry_id, e.state, e.added, e.removed) for e in done.entries] == [
        ("1", "written", len(tiles), 0),
        ("2", "written", len(tiles_of(study, run_id, "2")), 0),
    ]
    changed = {name for name, value in files(study).items() if others.get(name) != value}
    assert {Path(name).as_posix() for name in changed} == {
        "data/1/data.qpdata", "data/2/data.qpdata", "project.qpproj",
    }  # fmt: skip
    assert others.keys() == files(study).keys()


def test_twice_is_once(study):
    run_id = export(study)
    write(study, run_id)
    before = tree_hashes(study.project.parent)
    assert {e.state for e in write(study, run_id).entries} == {"unchanged"}
    assert tree_hashes(study.project.parent) == before


def test_a_dry_run_changes_nothing(study):
    run_id = export(study)
    before = tree_hashes(study.folder)
    done = write(study, run_id, dry_run=True)
    assert {e.state for e in done.entries} == {"would change"}
    assert done.entries[0].added == len(tiles_of(study, run_id))
    assert done.backup is None
    write(study, run_id)
    before = tree_hashes(study.folder)
    assert undo(study, run_id, dry_run=True).entries[0].state == "would change"
    assert tree_hashes(study.folder) == before


def test_only_some_images(study):
    run_id, before = export(study), bytes_of(study)
    with qb.open_project(study.project, engine="embedded") as project:
        chosen = [project["2"]]
    write(study, run_id, slides=chosen)
    assert bytes_of(study)[0] == before[0]
    assert bytes_of(study)[1] != before[1]


def test_another_grid_lives_beside_the_first(study):
    first, second = export(study), export(study, 2, CONFIG.replace(size=60))
    before = inventory(study)
    write(study, first)
    write(study, second)
    both = tiles_of(study, first) + tiles_of(study, second)
    assert_only(before, inventory(study), added=both)
    undo(study, first)
    assert_only(before, inventory(study), added=tiles_of(study, second))


def test_another_grid_takes_the_place_of_the_first(study):
    first, second = export(study), export(study, 2, CONFIG.replace(size=60))
    before, old = inventory(study), bytes_of(study)
    write(study, first)
    between = bytes_of(study)
    done = write(study, second, replace=True)
    assert done.entries[0].removed == len(tiles_of(study, first))
    assert_only(before, inventory(study), added=tiles_of(study, second))
    undo(study, second)
    assert bytes_of(study) == between
    undo(study, first)
    assert bytes_of(study) == old


def test_what_two_runs_share_shows_the_last_and_stays_for_the_other(study):
    first = export(study)
    second = export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    before = inventory(study)
    write(study, first)
    write(study, second)
    assert_only(before, inventory(study), added=tiles_of(study, second))
    assert {run for _, run in shown(study).values()} == {second}
    change_in_qupath(study, add=[USERS])  # so that the old bytes cannot be the answer
    undo(study, second)
    assert_only(before, inventory(study), added=[*tiles_of(study, first), USERS])
    assert {run for _, run in shown(study).values()} == {first}


def test_undo_gives_the_old_bytes(study):
    run_id, before = export(study), bytes_of(study)
    write(study, run_id)
    done = undo(study, run_id)
    assert bytes_of(study) == before
    assert done.entries[0].removed == len(tiles_of(study, run_id))
    assert {e.state for e in undo(study, run_id).entries} == {"unchanged"}
    assert write(study, run_id).entries[0].state == "written"


def test_undo_after_work_in_qupath_keeps_that_work(study):
    run_id, before = export(study), inventory(study)
    write(study, run_id)
    change_in_qupath(study, add=[USERS])
    undo(study, run_id)
    assert_only(before, inventory(study), added=[USERS])


def test_undo_of_what_qupath_imported(study):
    """Without a record of ours: the tiles of the run go."""
    run_id, before = export(study), inventory(study)
    change_in_qupath(study, add=tiles_of(study, run_id))
    undo(study, run_id)
    assert_only(before, inventory(study))


def test_old_qupaths_drop_metadata(study):
    run_id, before = export(study), inventory(study)
    change_in_qupath(study, add=[t._replace(metadata={}) for t in tiles_of(study, run_id)])
    undo(study, run_id)
    assert_only(before, inventory(study))


def test_tiles_that_were_corrected_in_qupath_are_left_alone(study):
    """Only another class is a correction; the others of the run are there already."""
    run_id = export(study)
    write(study, run_id)
    renamed = CONFIG.replace(map={"Tumor": "Cancer"})
    others = [export(study, number, config) for number, config in ((2, renamed), (3, CONFIG))]
    corrected = tiles_of(study, run_id)[3]._replace(class_path="Corrected")
    moved = tiles_of(study, run_id)[4]._replace(name="other name")
    change_in_qupath(study, remove={corrected.id, moved.id}, add=[corrected, moved])
    for replace in (False, True):
        first, second = write(study, run_id, replace=replace).entries
        assert (first.state, first.corrected, first.problem) == (
            ("unchanged" if replace else "written"), 1, None,
        )  # fmt: skip
        assert (second.state, second.corrected) == ("unchanged", 0)
        assert shown(study)[corrected.id][0] == "Corrected"
    # Another run with the same boxes leaves it alone too, and so does one of the same settings.
    for other in others:
        assert write(study, other).entries[0].corrected == 1
        assert shown(study)[corrected.id] == ("Corrected", run_id)
    done = write(study, run_id, discard_corrections=True).entries[0]
    assert done.corrected == 0
    (was,) = (tile.class_path for tile in tiles_of(study, run_id) if tile.id == corrected.id)
    assert shown(study)[corrected.id] == (was, run_id)
    assert len(shown(study)) == len(tiles_of(study, run_id))


class CutOff(EmbeddedSource):
    """An editor whose copy never takes the place of the data: the process ends before."""

    def __init__(self, path):
        self.path = path

    def edit(self, source, target, **options):
        super().edit(source, target, **options)
        self.path.write_bytes(self.path.read_bytes() + b" ")  # refused at the last moment


def cut_off(study, run_id):
    """A write-back of the first image that was recorded and not carried out."""
    content = data_file(study).read_bytes()
    done = write(study, run_id, editor=CutOff(data_file(study)), discard_corrections=True)
    assert done.entries[0].state == "failed"
    data_file(study).write_bytes(content)


def test_undo_passes_over_what_was_cut_off(study):
    """It is the last one that counted which is undone, and what that replaced comes back."""
    first, second = export(study), export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    write(study, first)
    write(study, second)
    edited = tiles_of(study, second)[2]._replace(class_path="Corrected")
    change_in_qupath(study, remove={edited.id}, add=[edited])
    cut_off(study, second)
    undo(study, second)
    assert {run for _, run in shown(study).values()} == {first}


def test_undo_takes_the_corrected_tiles_of_its_own_run_too(study):
    """They were in the way of a second write-back of the run, which kept them in its backup."""
    run_id, before = export(study), inventory(study)
    write(study, run_id)
    edited = tiles_of(study, run_id)[3]._replace(class_path="Corrected")
    change_in_qupath(study, remove={edited.id}, add=[edited])
    write(study, run_id, discard_corrections=True)
    change_in_qupath(study, add=[USERS])
    undo(study, run_id)
    assert_only(before, inventory(study), added=[USERS])


def test_an_image_that_was_never_saved(study):
    run_id = export(study)
    data_file(study).unlink()
    before = tree_hashes(study.project.parent / "data")
    done = write(study, run_id)
    assert done.entries[0].state == "written"
    image = EmbeddedSource().read_file(data_file(study))
    assert len(image.objects) == len(tiles_of(study, run_id))
    assert image.image_type == "UNSET"
    with qb.open_project(study.project, engine="embedded") as project:
        assert project["1"].read().annotations == ()
    undo(study, run_id)
    assert tree_hashes(study.project.parent / "data") == before


def test_the_project_may_have_a_name_of_any_kind(study):
    moved = study.folder / "Dr. Müller's 组织 [1] #2"
    study.project.parent.rename(moved)
    there = type(study)(study.folder, moved / study.project.name, study.slides)
    run_id, before = export(there), bytes_of(there)
    assert not write(there, run_id).failed
    assert len(shown(there)) == len(tiles_of(there, run_id))
    undo(there, run_id)
    assert bytes_of(there) == before


# --- what is refused -----------------------------------------------------------------------------


def refused(study, run_id, match, entry=0, **options):
    """Nothing is written into an image, and it is said why."""
    before = files(study)
    done = write(study, run_id, **options)
    assert done.entries[entry].state == "failed"
    assert match in done.entries[entry].problem, done.entries[entry].problem
    others = {n: v for n, v in files(study).items() if f"data/{entry + 1}/" in Path(n).as_posix()}
    assert others == {n: v for n, v in before.items() if n in others}
    return done.entries[entry].problem


class Meddler(EmbeddedSource):
    """An editor during whose work somebody else writes."""

    def __init__(self, path, content):
        self.path, self.content = path, content

    def edit(self, source, target, **options):
        super().edit(source, target, **options)
        self.path.write_bytes(self.content)


def test_data_that_somebody_saved_meanwhile(study):
    run_id = export(study)
    other = splice_tiles(data_file(study).read_bytes(), add=[USERS])
    done = write(study, run_id, editor=Meddler(data_file(study), other))
    assert "was changed by somebody else since it was read" in done.entries[0].problem
    assert done.entries[0].problem.endswith("The slide has the data that somebody else wrote.")
    assert data_file(study).read_bytes() == other


def test_a_project_that_somebody_saved_meanwhile(study):
    run_id, before = export(study), bytes_of(study)
    content = study.project.read_bytes().replace(b'"version"', b'"version" ')
    done = write(study, run_id, editor=Meddler(study.project, content))
    assert f"{study.project} was changed by somebody else" in done.entries[0].problem
    assert bytes_of(study) == before


def test_a_save_that_goes_on(study):
    run_id = export(study)
    data_file(study).with_name("data.qpdata.bkp").write_bytes(data_file(study).read_bytes())
    assert "QuPath is saving this slide" in refused(study, run_id, "data.qpdata.bkp exists")


def test_only_a_backup_of_qupath(study):
    run_id = export(study)
    data_file(study).rename(data_file(study).with_name("data.qpdata.bkp"))
    refused(study, run_id, "was interrupted while it did")
    assert not data_file(study).exists()


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_data_that_are_cut_off(study, keep):
    run_id, content = export(study), data_file(study).read_bytes()
    data_file(study).write_bytes(content[:keep])
    refused(study, run_id, "The slide has its old data.")
    assert data_file(study).read_bytes() == content[:keep]


@pytest.mark.parametrize("version", ["0.8.0", "1.0.1"])
def test_data_of_a_version_that_was_not_tested(study, version):
    run_id, content = export(study), data_file(study).read_bytes()
    at = content.index(b'"qupathVersion":"') + 17
    data_file(study).write_bytes(content[:at] + version.encode() + content[at + 5 :])
    refused(study, run_id, f"written by QuPath {version}")


class Careless(EmbeddedSource):
    """An editor that loses something."""

    def edit(self, source, target, *, remove=(), add=(), **options):
        add = list(add)[1:]
        super().edit(source, target, remove=remove, add=add, **options)


def test_a_copy_that_is_not_what_was_meant(study):
    run_id = export(study)
    problem = refused(study, run_id, "failed verification", editor=Careless())
    assert "is missing or changed" in problem
    verifier = Careless()
    verifier.read_file = lambda path, entry_id="": EmbeddedSource().read_file(data_file(study))
    refused(study, run_id, "is missing or changed", verifiers=[verifier])


def test_a_run_that_is_not_there(study):
    run_id = export(study)
    for call in (write, undo):
        with pytest.raises(OutputError, match=f"No run nothing.*{run_id}"):
            call(study, "nothing")


def test_a_damaged_file_of_tiles(study):
    run_id = export(study)
    path = study.project.parent / "qupath_bridge" / "runs" / run_id / "1.geojson.gz"
    path.write_bytes(path.read_bytes()[:-20])
    refused(study, run_id, "1.geojson.gz")


def test_strangers_in_a_file_of_tiles(study):
    run_id = export(study)
    path = study.project.parent / "qupath_bridge" / "runs" / run_id / "1.geojson.gz"
    path.write_bytes(qb.geojson.tiles_geojson([USERS]))
    record_tiles(path.parent)
    refused(study, run_id, "not a tile of qupath-bridge")


def with_other_label(path, old, new):
    """Give the tiles of a file another class, in place; its size may stay the same."""
    text = gzip.decompress(path.read_bytes())
    assert text.count(old) > 0
    path.write_bytes(gzip.compress(text.replace(old, new, 1)))


@pytest.mark.parametrize("change", ["a label", "nothing but the packing", "gone", "swapped"])
def test_only_what_the_run_wrote_goes_into_the_data(study, change):
    """An edited file is not a record: neither as new tiles, nor as what a run wrote before."""
    run_id = export(study)
    path = study.project.parent / "qupath_bridge" / "runs" / run_id / "1.geojson.gz"
    if change == "a label":
        with_other_label(path, b'"name":"Tumor"', b'"name":"Stoma"')
    elif change == "nothing but the packing":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    elif change == "gone":
        path.unlink()
    else:
        shutil.copy(path.with_name("2.geojson.gz"), path)
    said = "not there any more" if change == "gone" else "changed after the run wrote it"
    problem = refused(study, run_id, said)
    for word in (str(path), run_id, f"Delete {path.parent}", f"its output {study.folder}"):
        assert word in problem
    (status,) = qb.status(study.project)
    assert (status.state, said in status.problem) == ("unreadable", True)


def test_a_tile_file_that_no_run_wrote(study):
    run_id = export(study)
    record = study.project.parent / "qupath_bridge" / "runs" / run_id / "run.json"
    content = json.loads(record.read_bytes())
    del content["tiles"]["1"]
    record.write_text(json.dumps(content))
    refused(study, run_id, "did not write this file")


def test_a_record_without_digests_is_refused(study):
    run_id = export(study)
    record = study.project.parent / "qupath_bridge" / "runs" / run_id / "run.json"
    content = json.loads(record.read_bytes())
    del content["tiles"]
    record.write_text(json.dumps(content))
    refused(study, run_id, "run.json")


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("qupath_bridge/backups/*/1.json", "entry_id"),
        ("qupath_bridge/runs/{run}/1.json", "entry_id"),
        ("qupath_bridge/runs/{run}/1.json", "run_id"),
        ("qupath_bridge/runs/{run}/run.json", "run_id"),
    ],
)
def test_a_record_that_names_another_slide_or_run_hides_no_other_run(study, pattern, key, capsys):
    run_id = export(study)
    write(study, run_id)
    other = export(study, 2, CONFIG.replace(size=64))
    (path,) = study.project.parent.glob(pattern.format(run=run_id))
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, key: "somebody"}))
    assert main(["status", str(study.project), "--json"]) == 0
    found = {run["run_id"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert set(found) == {run_id, other}
    assert found[other]["state"] == "current"
    if "runs" in pattern:
        problem = found[run_id]["problem"]
        assert str(path) in problem and f"its {key} is 'somebody'" in problem
    else:  # the backup counts no more
        assert found[run_id]["state"] == "current"
        assert list(backups_of(study.project.parent)) == []


def test_what_the_hint_says_mends_an_edited_file(study):
    run_id = export(study)
    folder = study.project.parent / "qupath_bridge" / "runs" / run_id
    before = (folder / "1.geojson.gz").read_bytes()
    with_other_label(folder / "1.geojson.gz", b'"name":"Tumor"', b'"name":"Stoma"')
    out = json.loads((folder / "run.json").read_bytes())["out"]
    shutil.rmtree(folder)
    assert main(["write-back", str(study.project), "--run", out]) == 0
    assert (folder / "1.geojson.gz").read_bytes() == before
    assert {entry.state for entry in write(study, run_id).entries} == {"written"}


def test_an_edited_file_of_another_run_is_not_taken_for_what_it_wrote(study):
    """Which tiles a person corrected is told by the files of all runs."""
    first = export(study)
    write(study, first)
    path = study.project.parent / "qupath_bridge" / "runs" / first / "1.geojson.gz"
    with_other_label(path, b'"name":"Tumor"', b'"name":"Stoma"')
    second = export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    refused(study, second, "changed after the run wrote it")


@pytest.mark.parametrize("other", ["name", "size", "images"])
def test_a_run_of_another_project(study, tmp_path, capsys, other):
    """Entry IDs are alike in all projects: the images are looked at."""
    export(study)
    image = Image(
        tmp_path / ("other.tiff" if other == "name" else study.slides[0].name),
        [],
        size=(700, 501 if other == "size" else 500),
        entry_id=7 if other == "images" else 1,
    )
    path = build_project(tmp_path / "other", [image])
    before = tree_hashes(path.parent)
    for options in ([], ["--direct"], ["--dry-run"]):
        words = ["write-back", str(path), "--run", str(study.folder / "out1"), *options]
        assert main(words) == 5
        assert "Name the project that it was exported from" in capsys.readouterr().err
    assert tree_hashes(path.parent) == before


def broken_qupath(folder):
    """A folder that looks like a QuPath, whose Java is none."""
    jar = folder / "lib/app/qupath-core-0.7.0.jar"
    java = folder / "lib/runtime/lib/server/libjvm.so"
    for path in (jar, java):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    return folder


@pytest.mark.parametrize("engine", ["auto", "embedded"])
def test_java_that_does_not_start_is_a_warning(study, tmp_path, engine, alone):
    run_id, before = export(study), bytes_of(study)
    qupath = broken_qupath(tmp_path / "QuPath")
    with qb.open_project(study.project, engine="embedded") as project:
        done = qb.write_back(project, run_id, engine=engine, qupath=qupath)
        assert (done.engine, done.failed) == ("embedded", False)
        assert "cannot be used through paquo" in done.warnings[0]
        assert bytes_of(study) != before
        with pytest.raises(MissingDependencyError, match="cannot be used through paquo"):
            qb.undo_write_back(project, run_id, engine="paquo", qupath=qupath)
        qb.undo_write_back(project, run_id, engine=engine, qupath=qupath)
    assert bytes_of(study) == before


# --- others at work ------------------------------------------------------------------------------


def test_qupath_has_the_project_open(study):
    """Then force does not help either."""
    run_id, before = export(study), tree_hashes(study.folder)
    for process in (
        Process(7, ("QuPath", "-p", str(study.project))),
        Process(7, ("QuPath", f"--project={study.project}")),
        Process(7, ("QuPath", study.project.as_uri())),
        Process(7, ("QuPath", "script", "-p", str(study.project), "a.groovy")),
        Process(7, ("QuPath",), (str(study.slides[0]),)),
        Process(7, ("QuPath",), (str(data_file(study)),)),
    ):
        for force in (False, True):
            with pytest.raises(OutputError, match="process 7.*Nothing was changed.*Close the pro"):
                write(study, run_id, running=[process], force=force)
    assert tree_hashes(study.folder) == before


def test_of_several_the_one_that_has_the_project_open_is_named(study):
    run_id = export(study)
    running = [Process(8, ("QuPath",)), Process(7, ("QuPath", "-p", str(study.project)))]
    with pytest.raises(OutputError, match="process 7"):
        write(study, run_id, running=running)


ELSEWHERE = ("QuPath", "-p", "/elsewhere/project.qpproj")
UNCLEAR = {
    "nothing is known": Process(7, ("QuPath",)),
    "an image on the command line": Process(7, ("QuPath", "-i", "/elsewhere/a.svs")),
    "preferences": Process(7, ("QuPath",), last_projects=("STUDY",)),
    "preferences of another start": Process(7, ELSEWHERE, last_projects=("/other", "STUDY")),
    "a recent save": Process(7, ELSEWHERE, started=1_000_000_000.0),
}


@pytest.mark.parametrize("process", UNCLEAR.values(), ids=UNCLEAR)
def test_qupath_may_have_the_project_open(study, process):
    """Refused unless forced: it would drop the tiles at its next save."""
    places = tuple(str(study.project) if p == "STUDY" else p for p in process.last_projects)
    process = dataclasses.replace(process, last_projects=places)
    summary = data_file(study).with_name("summary.json")
    summary.write_text("{}", encoding="utf-8")
    os.utime(summary, (1_000_000_001, 1_000_000_001))
    run_id, before = export(study), tree_hashes(study.folder)
    with pytest.raises(OutputError, match=r"process 7\) and may have .*changed.*option force"):
        write(study, run_id, running=[process])
    assert tree_hashes(study.folder) == before
    done = write(study, run_id, running=[process], force=True)
    assert "Reload data" in done.warnings[0]
    assert not done.failed
    assert not undo(study, run_id, force=True).failed


@pytest.mark.parametrize(
    "process",
    [
        Process(7, ELSEWHERE, last_projects=("/elsewhere/project.qpproj",)),
        Process(7, ("QuPath", "script", "a.groovy"), started=1.0),
        Process(7, ("java", "-cp", "x", "qupath.QuPath", "convert-ome", "a.svs"), started=1.0),
    ],
    ids=["another project", "a script", "a conversion"],
)
def test_qupath_runs_on_something_else(study, process):
    run_id = export(study)
    done = write(study, run_id, running=[process])
    assert "process 7" in done.warnings[0]
    assert "Reload data" in done.warnings[0]
    assert not done.failed


def test_processes_of_this_machine_are_looked_at(tmp_path):
    """With a stand-in that bears the name: real ones are looked at by the tests with QuPath."""
    program = tmp_path / "QuPath-0.7.0"
    program.symlink_to(sys.executable)
    script = "import sys; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [str(program), "-c", script, str(tmp_path / "a.qpproj")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        child.stdout.readline()
        assert child.pid in {process.pid for process in processes()}
        started = f"it was started with {tmp_path / 'a.qpproj'}"
        found = {each.pid: (each.state, each.reason) for each in find_qupath(tmp_path)}
        assert found[child.pid] == ("open", started)
        found = {each.pid: (each.state, each.reason) for each in find_qupath(tmp_path / "b")}
        assert found[child.pid] == ("elsewhere", started)
    finally:
        child.communicate()
    assert child.pid not in {process.pid for process in processes()}


def test_two_at_once(study):
    run_id, before = export(study), files(study)
    lock = study.project.parent / "qupath_bridge" / "write-back.lock"
    with (
        filelock.FileLock(lock),
        pytest.raises(OutputError, match="Another write-back is running.*Nothing was changed"),
    ):
        write(study, run_id)
    assert files(study) == before
    assert not write(study, run_id).failed


def test_two_processes_at_once(study):
    """Whoever comes second is refused, or finds everything done."""
    run_id, before = export(study), inventory(study)
    command = [sys.executable, str(FAULTS), "write", "0", str(study.project), run_id]
    both = [subprocess.Popen(command, stdout=-1, stderr=-1) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, answers
    for code, (_, errors) in zip(codes, answers, strict=True):
        assert code == 0 or b"Another write-back is running" in errors
    assert_only(before, inventory(study), added=tiles_of(study, run_id))


# --- backups -------------------------------------------------------------------------------------


def test_backups_are_kept_and_pruned(study):
    run_id, content = export(study), data_file(study).read_bytes()
    first = write(study, run_id)
    assert (first.backup / "1.qpdata").read_bytes() == content
    (backup,) = backups_of(study.project.parent)
    assert (backup.action, backup.run_id, backup.engine) == ("write", run_id, "embedded")
    now = content_digest(data_file(study).read_bytes())
    assert backup.state("1", now) == "in place"
    assert backup.state("1", content_digest(content)) == "not written"
    assert backup.state("1", None) == "changed since"
    undo(study, run_id)
    third = write(study, run_id, keep=2)
    assert first.backup in third.pruned
    assert not first.backup.exists()
    assert [b.action for b in backups_of(study.project.parent)] == ["undo", "write"]


@pytest.mark.parametrize("missing", ["data", "data/1"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_slide_whose_data_were_not_copied_is_not_written(study, missing, dry_run):
    """A new data file would hide that they are missing: each patch would get a false label."""
    run_id, folder = export(study), study.project.parent
    shutil.rmtree(folder / missing)
    with (
        qb.open_project(study.project, engine="embedded") as project,
        pytest.raises(MissingDataError, match=re.escape(f"{folder / missing}: ")) as caught,
    ):
        qb.plan(project["1"], CONFIG)
    for change in (write, undo):
        entries = {
            entry.entry_id: entry for entry in change(study, run_id, dry_run=dry_run).entries
        }
        assert entries["1"].state == "failed"
        sentence = str(caught.value).partition(" Copy ")[0]
        way_out = f"Copy the folder {missing} from the computer where the project was made."
        assert entries["1"].problem == f"{sentence} {way_out}"
        assert (entries["2"].state == "failed") == (missing == "data")
        assert not (folder / missing).exists()
    with (
        qb.open_project(study.project, engine="embedded") as project,
        pytest.raises(MissingDataError),
    ):
        qb.plan(project["1"], CONFIG)


@pytest.mark.parametrize("left", [[], ["server.json"]])
def test_a_slide_that_was_never_saved_is_written_and_undone(study, left):
    run_id, folder = export(study), data_file(study).parent
    for path in folder.iterdir():
        if path.name not in left:
            path.unlink()
    assert {e.state for e in write(study, run_id).entries} == {"written"}
    assert len(shown(study)) == len(tiles_of(study, run_id))
    assert {e.state for e in undo(study, run_id).entries} == {"written"}
    assert sorted(path.name for path in folder.iterdir()) == left


def test_a_backup_that_was_tampered_with_is_not_put_back(study):
    run_id = export(study)
    kept = write(study, run_id).backup / "1.qpdata"
    kept.write_bytes(kept.read_bytes() + b" ")
    before = bytes_of(study)
    failed, fine = undo(study, run_id).entries
    assert (failed.state, fine.state) == ("failed", "written")
    assert "was changed since it was stored" in failed.problem
    assert bytes_of(study)[0] == before[0]


def test_damaged_records_of_backups_hide_nothing(study):
    run_id = export(study)
    write(study, run_id)
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"schema_version": 1}')):
        folder = study.project.parent / "qupath_bridge" / "backups" / name
        folder.mkdir()
        (folder / "record.json").write_text(text, encoding="utf-8")
    assert len(list(backups_of(study.project.parent))) == 1


def test_the_command_line(study, capsys, monkeypatch):
    monkeypatch.setattr("qupath_bridge.roundtrip.write_back.find_qupath", lambda *_: [])
    before = bytes_of(study)
    project, out = str(study.project), study.folder / "out"

    def call(*words):
        status = main(["write-back", project, *words])
        return status, capsys.readouterr()

    assert main(["export", project, "--out", str(out), "--size", "100", "--no-provenance"]) == 0
    capsys.readouterr()
    assert call()[0] == call("--run", "x", "--undo", "x")[0] == 2
    assert call("--undo", "x", "--direct")[0] == call("--run", "x", "--replace")[0] == 2
    status, said = call("--run", "nothing")
    assert status == 5
    assert "No run 'nothing' in" in said.err
    status, said = call("--run", str(out), "--dry-run")
    assert status == 0
    assert not (study.project.parent / "qupath_bridge").exists()
    status, said = call("--run", str(out))
    assert status == 0
    assert "import_provenance.groovy" in said.out
    (run_id,) = (p.name for p in (study.project.parent / "qupath_bridge" / "runs").iterdir())
    status, said = call("--run", run_id, "--direct", "--dry-run")
    assert "Nothing was changed." in said.out
    assert bytes_of(study) == before
    status, said = call("--run", run_id, "--direct", "--entry", "slide 1*", "--json")
    answer = json.loads(said.out)
    assert (status, answer["action"], answer["engine"]) == (0, "write", "embedded")
    assert [(e["entry_id"], e["state"]) for e in answer["entries"]] == [("1", "written")]
    assert bytes_of(study)[1] == before[1]
    main(["status", project, "--json"])
    (kept,) = json.loads(capsys.readouterr().out)["write_backs"]
    assert kept["entries"][0]["state"] == "in place"
    assert kept["folder"] == answer["backup"]
    data_file(study, "2").write_bytes(before[1][:100])
    status, said = call("--run", run_id, "--direct")
    assert status == 1
    assert "slide 2" in said.err
    assert "The slide has its old data." in said.err
    status, said = call("--undo", run_id)
    assert bytes_of(study)[0] == before[0]
    main(["status", project])
    text = capsys.readouterr().out
    assert "written into QuPath's data" in text
    assert "removed again" in text
    assert "in place" in text


@pytest.fixture
def alone(monkeypatch):
    """No QuPath is running, whatever this machine does."""
    monkeypatch.setattr("qupath_bridge.roundtrip.write_back.find_qupath", lambda *_: [])


def test_each_project_of_a_run_is_written_and_undone_by_itself(study, tmp_path, draw, alone):
    """Both have the same entry IDs; the slides of the other one are the other way round."""
    other = build_project(tmp_path / "other", draw.images(study.slides[::-1]))
    run = qb.export([study.project, other], tmp_path / "out", CONFIG)
    twin = dataclasses.replace(study, project=other)
    before, untouched = bytes_of(study), bytes_of(twin)
    done = qb.write_back(study.project, run, engine="embedded")
    assert [entry.state for entry in done.entries] == ["written", "written"]
    assert bytes_of(twin) == untouched
    done = qb.write_back(other, run.run_id, engine="embedded")
    assert [entry.state for entry in done.entries] == ["written", "written"]
    rows = run.table().to_pylist()
    for project in (study, twin):
        for entry_id in ("1", "2"):
            place = project.project.parent.name, entry_id
            expected = {
                row["tile_uuid"]: (row["label"], run.run_id)
                for row in rows
                if (row["project"], row["entry_id"]) == place
            }
            assert shown(project, entry_id) == expected
    assert not qb.undo_write_back(study.project, run, engine="embedded").failed
    assert bytes_of(study) == before
    assert len(shown(twin)) > 0
    assert not qb.undo_write_back(other, str(tmp_path / "out"), engine="embedded").failed
    assert bytes_of(twin) == untouched


@pytest.mark.parametrize("out", ["tar:20kB", "memory"])
def test_tiles_of_a_run_in_another_container(study, out, alone):
    """A run that left nothing in the project is found by its output, whatever holds it."""
    place = "memory://test-write-back" if out == "memory" else str(study.folder / "tar")
    config = CONFIG.replace(container=out)
    run = qb.export(study.project, place, config, provenance=False)
    assert not (study.project.parent / "qupath_bridge").exists()
    done = qb.write_back(study.project, place, engine="embedded")
    assert (done.run_id, done.failed) == (run.run_id, False)
    rows = run.table().to_pylist()
    for entry_id in ("1", "2"):
        ids = {row["tile_uuid"] for row in rows if row["entry_id"] == entry_id}
        assert shown(study, entry_id).keys() == ids
    if out == "memory":
        return
    project = str(study.project)
    assert main(["write-back", project, "--undo", place]) == 0
    assert main(["write-back", project, "--run", place, "--direct"]) == 0
    assert len(shown(study)) > 0


# --- faults --------------------------------------------------------------------------------------


def ways(study, run_id, action):
    """Return how ``write`` or ``undo`` is done and taken back, and the data before and after."""
    old = bytes_of(study)
    write(study, run_id)
    new = bytes_of(study)
    if action == "undo":
        return undo, write, new, old
    undo(study, run_id)
    return write, undo, old, new


def other_files(study):
    """Hashes of everything in the project but what is ours and what a write-back changes."""
    changed = ("data.qpdata", "project.qpproj")
    return {name: v for name, v in files(study).items() if not name.endswith(changed)}


def project_files(study, act, revert, run_id):
    """Return the bytes of the project file before and after ``act``; it is taken back again."""
    begin = study.project.read_bytes()
    assert not act(study, run_id).failed
    end = study.project.read_bytes()
    assert not revert(study, run_id).failed
    assert study.project.read_bytes() == begin != end
    return begin, end


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("action", ["write", "undo"])
def test_death_at_every_step(study, action):
    """After each: the old data or the new, and going on makes it whole."""
    run_id = export(study)
    act, revert, begin, end = ways(study, run_id, action)
    others, seen, count = other_files(study), set(), 0
    project = project_files(study, act, revert, run_id)
    for steps in deaths(lambda: act(study, run_id)):
        count += 1
        now = bytes_of(study)
        for content, was, will_be in zip(now, begin, end, strict=True):
            assert content in (was, will_be), steps.names
        assert study.project.read_bytes() in project, steps.names
        points = study.project.read_bytes() == project[1]
        seen.add((*(a == b for a, b in zip(now, end, strict=True)), points))
        assert not act(study, run_id).failed
        assert (bytes_of(study), study.project.read_bytes()) == (end, project[1])
        assert other_files(study) == others, steps.names
        assert not revert(study, run_id).failed
        assert bytes_of(study) == begin
    assert bytes_of(study) == end
    assert count > 40
    assert seen == {
        (False, False, False), (True, False, False), (True, True, False), (True, True, True),
    }  # fmt: skip


def copy_of(study, name):
    """Copy a study with its project and runs; the slides stay where they are."""
    folder = study.folder / "copies" / name
    shutil.copytree(study.project.parent, folder)
    return dataclasses.replace(study, folder=folder.parent, project=folder / study.project.name)


def left_behind(study):
    """Every file and folder of a project; times and random names are replaced by a letter."""
    folder, found = study.project.parent, []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        name = re.sub(r"(?<=\.qb-tmp-)\w+|(?<=shown/\d/)\w{26}(?=\.json)", "X", name)
        content = path.read_bytes() if path.is_file() else b""
        found.append((name, re.sub(rb'("(started|time|key)": ")[^"]*', rb"\1T", content)))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("action", ["write", "undo"])
def test_a_real_kill_leaves_what_a_death_leaves(study, action, soak):
    """One kill per kind of step: the deaths of all steps stand for kills."""
    run_id = export(study)
    act, _, _, end = ways(study, run_id, action)
    whole = copy_of(study, "whole")
    names = steps_of(lambda: act(whole, run_id))
    assert bytes_of(whole) == end
    for at in range(1, len(names) + 1) if soak else one_of_each_kind(names):
        dead, killed = copy_of(study, f"dead {at}"), copy_of(study, f"killed {at}")
        (steps,) = deaths(lambda: act(dead, run_id), [at])  # noqa: B023
        command = [sys.executable, str(FAULTS), action, str(at), str(killed.project), run_id]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert left_behind(killed) == left_behind(dead), steps.names
        assert not act(killed, run_id).failed
        assert bytes_of(killed) == end


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [FULL, READ_ONLY])
@pytest.mark.parametrize("action", ["write", "undo"])
def test_the_disk_fails_at_every_step(study, action, number):
    """After each: a clear error, which says which data the image has, and it is so."""
    run_id = export(study)
    act, revert, begin, end = ways(study, run_id, action)
    at = 0
    while True:
        at += 1
        problems = None
        with injected(Steps(at, fail_with(number))) as steps:
            try:
                done = act(study, run_id)
                problems = [entry.problem for entry in done.entries]
            except (OutputError, ProjectError) as error:
                assert os.strerror(number) in str(error), steps.names
        if steps.count < at:
            break
        states = zip(problems or [None, None], bytes_of(study), begin, end, strict=True)
        for problem, content, was, will_be in states:
            assert content in (was, will_be), steps.names
            if problem is not None:
                assert os.strerror(number) in problem, steps.names
                said = "old" if content == was else "new"
                assert problem.endswith(f"The slide has its {said} data."), steps.names
        assert not act(study, run_id).failed
        assert bytes_of(study) == end
        assert not revert(study, run_id).failed
        assert bytes_of(study) == begin
    assert at > 40


@pytest.mark.parametrize("what", ["file", "folder"])
def test_data_behind_a_link_that_leads_out_of_the_project(study, tmp_path, link, what):
    """Another project may own them: nothing is written there. The other slide is written."""
    run_id, before = export(study), bytes_of(study)
    path, outside = data_file(study), tmp_path / "another disk" / "1"
    outside.parent.mkdir()
    link(path if what == "file" else path.parent, outside)
    kept = outside if what == "file" else outside / "data.qpdata"
    failed, written = write(study, run_id).entries
    assert "leads out of the project" in failed.problem
    assert str(outside) in failed.problem
    assert written.state == "written"
    assert kept.read_bytes() == before[0]
    assert sorted(each.name for each in outside.parent.iterdir()) == ["1"]
    kept.unlink()
    failed, _ = write(study, run_id).entries
    assert failed.state == "failed"
    assert not kept.exists()


def test_data_behind_a_link_inside_the_project(study, link):
    run_id, before = export(study), bytes_of(study)
    path = data_file(study)
    inside = path.with_name("kept.qpdata")
    link(path, inside)
    assert not write(study, run_id).failed
    assert path.is_symlink()
    assert inside.read_bytes() != before[0]
    assert not undo(study, run_id).failed
    assert inside.read_bytes() == before[0]


def test_our_folder_behind_a_link_that_leads_out_of_the_project(study, tmp_path, link):
    run_id, before = export(study), bytes_of(study)
    outside = tmp_path / "another project"
    link(study.project.parent / "qupath_bridge", outside)
    there = sorted(outside.rglob("*"))
    with pytest.raises(OutputError, match="leads out of the project"):
        write(study, run_id)
    run = qb.export(study.project, tmp_path / "again", qb.ExportConfig(size=100))
    assert run.provenance == (tmp_path / "again" / "provenance",)
    assert "leads out of the project" in " ".join(run.warnings)
    assert bytes_of(study) == before
    assert sorted(outside.rglob("*")) == there


# --- a real QuPath -------------------------------------------------------------------------------

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "qupath-samples").glob("v*/project"))


def sample_tiles(entry_id, run_id, count=40):
    return [
        Tile(
            id=tile_uuid(entry_id, 16 * i, 8, 16, 16),
            box=Box(16 * i, 8, 16, 16),
            name=f"{entry_id}_x{16 * i}_y8",
            class_path=("Tumor", "Tumor: Positive", None)[i % 3],
            color=(200, 0, 0) if i % 3 < 2 else None,
            measurements={"qb: label share": i / 40, "qb: ä": 0.1},
            metadata={"qb.run": run_id, "qb.path": f"patches/{i}.png"},
        )
        for i in range(count)
    ]


@pytest.mark.qupath
@pytest.mark.parametrize("name", ["embedded", "paquo"])
@pytest.mark.parametrize("source", SAMPLES, ids=lambda path: path.parent.name)
def test_both_engines_write_what_both_read(installation, tmp_path, source, name):
    """On projects of six QuPath versions: the tiles come, and all else is as before."""
    shutil.copytree(source, tmp_path / "project")
    paquo = PaquoSource(installation.installation)
    embedded = EmbeddedSource()
    editors = {"embedded": embedded, "paquo": paquo}
    editor, verifier = editors.pop(name), *editors.values()
    with qb.open_project(tmp_path / "project", engine="embedded") as project:
        tiles = {
            slide.entry_id: qb.geojson.tiles_geojson(sample_tiles(slide.entry_id, "R"))
            for slide in project.slides
        }
        write_run(tmp_path / "project" / "qupath_bridge" / "runs" / "R", "R", tiles)
        paths = {s.entry_id: project.info.folder / "data" / s.entry_id for s in project.slides}
        data = {entry_id: path / "data.qpdata" for entry_id, path in paths.items()}
        old = {key: path.read_bytes() for key, path in data.items() if path.exists()}
        before = {key: take_inventory(embedded.read_file(data[key], entry_id=key)) for key in old}
        assert len(old) == 3
        done = module.write_back(project, "R", editor, verifiers=[verifier], running=())
        assert [(e.state, e.problem) for e in done.entries] == [("written", None)] * 4
        for entry_id, inventory in before.items():
            for reader in (editor, verifier):
                after = take_inventory(reader.read_file(data[entry_id], entry_id=entry_id))
                assert_only(inventory, after, added=sample_tiles(entry_id, "R"))
        again = module.write_back(project, "R", editor, verifiers=[verifier], running=())
        assert {e.state for e in again.entries} == {"unchanged"}
        module.undo(project, "R", editor, verifiers=[verifier], running=())
        assert {key: path.read_bytes() for key, path in data.items() if path.exists()} == old
    paquo.close()


EXPORT = """
import qupath.lib.io.PathIO
Class.forName('qupath.lib.scripting.QP')  // sets up writing of JSON
def objects = PathIO.readHierarchy(new File(args[0])).getTileObjects()
def whole = PathIO.GeoJsonExportOptions.FEATURE_COLLECTION
PathIO.exportObjectsAsGeoJSON(new File(args[1]), objects, whole)
"""


@pytest.mark.qupath
@pytest.mark.parametrize("name", ["embedded", "paquo"])
@pytest.mark.parametrize("source", SAMPLES[2::3], ids=lambda path: path.parent.name)
def test_qupath_exports_the_tiles_that_were_written(installation, tmp_path, source, name):
    """Its readHierarchy and its GeoJSON say the same of them as we wrote."""
    data, target = source / "data" / "1" / "data.qpdata", tmp_path / "new.qpdata"
    paquo = PaquoSource(installation.installation)
    editor = paquo if name == "paquo" else EmbeddedSource()
    slide = EmbeddedSource().open(source)["1"]
    tiles = sample_tiles("1", "R")
    editor.edit(data, target, slide=slide, add=tiles)
    paquo.close()
    script, exported = tmp_path / "export.groovy", tmp_path / "tiles.geojson"
    script.write_text(EXPORT, encoding="utf-8")
    installation.groovy(script, [target, exported])
    said = {o.id: o for o in qb.geojson.load(exported) if is_ours(o.id)}
    assert said.keys() == {tile.id for tile in tiles}
    for tile in tiles:
        theirs, (x, y, w, h) = said[tile.id], tile.box
        assert (theirs.name, theirs.class_path) == (tile.name, tile.class_path)
        assert theirs.roi.geometry.equals(shapely.box(x, y, x + w, y + h))
        assert dict(theirs.measurements) == pytest.approx(tile.measurements, rel=1e-6)
        # QuPath 0.4 writes no metadata of objects to GeoJSON, only to its own files.
        told = not installation.version.startswith("0.4.")
        assert dict(theirs.metadata) == (tile.metadata if told else {})


class JavaKilled(PaquoSource):
    """Its Java is killed while an answer is waited for."""

    def edit(self, source, target, **options):
        self.read_file(source, entry_id="")  # starts it
        pid = self._own._child.pid
        os.kill(pid, signal.SIGSTOP)  # it can be asked, and is not done before the kill
        killer = threading.Timer(1, os.kill, (pid, signal.SIGKILL))
        killer.start()
        try:
            super().edit(source, target, **options)
        finally:
            killer.join()


@pytest.mark.qupath
def test_java_is_killed_in_the_middle(installation, study):
    run_id, before = export(study), bytes_of(study)
    engine = JavaKilled(installation.installation)
    done = write(study, run_id, editor=engine)
    for entry in done.entries:
        assert entry.state == "failed"
        assert "signal 9" in entry.problem
        assert entry.problem.endswith("The slide has its old data.")
    assert bytes_of(study) == before
    engine.close()
    assert not write(study, run_id).failed


@pytest.mark.qupath
def test_a_real_qupath_is_seen(installation, study, tmp_path):
    """Run without its window on the project, while it sleeps."""
    script = tmp_path / "sleep.groovy"
    script.write_text("println 'ready'; Thread.sleep(60000)", encoding="utf-8")
    command = [
        str(installation.java), f"-Djava.util.prefs.userRoot={tmp_path}",
        "-cp", str(installation.jars / "*"), "qupath.QuPath", "script", "-p", str(study.project),
        str(script),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while b"ready" not in (line := process.stdout.readline()):
            assert line, "QuPath ended"
        found = {each.pid: each for each in find_qupath(study.project.parent)}
        assert found[process.pid].state == "open"
        assert str(study.project) in found[process.pid].reason
        with pytest.raises(OutputError, match=f"process {process.pid}"):
            write(study, export(study), running=None)
        process.kill()
