"""The scripts for QuPath: what they share with Python, and what a real QuPath makes of them."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.model import ObjectType
from qupath_bridge.outputs.index import list_partitions, read_partition
from qupath_bridge.patches.ids import TILE_UUID_HIGH, tile_uuid
from qupath_bridge.stores.local import LocalStore
from tests.support.run_folders import record_tiles

SCRIPTS = Path(__file__).parents[2] / "groovy_scripts"
IMPORT, EXPORT = SCRIPTS / "import_provenance.groovy", SCRIPTS / "export_patches.groovy"
IMAGE = "slide 1.tiff"

CHECK = """
import groovy.transform.TypeChecked
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ASTTransformationCustomizer
def configuration = new CompilerConfiguration()
configuration.addCompilationCustomizers(new ASTTransformationCustomizer(TypeChecked))
args.each { new GroovyShell(configuration).parse(new File(it)) }
println "checked ${args.length}"
"""

DRIVE = """
import qupath.lib.objects.PathObjects
import qupath.lib.roi.ROIs
import qupath.lib.regions.ImagePlane
import static qupath.lib.gui.scripting.QPEx.*

def script = new File(args[0]), folder = new File(args[1]), first = args[2], second = args[3]
def look = { name ->
    def objects = getCurrentHierarchy().getFlattenedObjectList(null).findAll { !it.isRootObject() }
    def path = new File(folder, name + '.geojson').getPath()
    exportObjectsToGeoJson(objects, path, 'FEATURE_COLLECTION')
    def parents = objects.collect { it.getID().toString() + ' ' + it.getParent().getID() }
    new File(folder, name + '.txt').setText(parents.join('\\n'), 'UTF-8')
}
def step = { name, String... given ->
    binding.setVariable('args', given)
    try { evaluate(script) } catch (IOException error) { println 'refused: ' + error.getMessage() }
    look(name)
}
look('before')
step('newest')
step('again')
step('older', first)
step('replaced', second, 'replace')
def roi = { ROIs.createRectangleROI(it, 4, 50, 60, ImagePlane.getDefaultPlane()) }
addObjects([
    PathObjects.createTileObject(roi(3), null, null), PathObjects.createDetectionObject(roi(7)),
])
look('own')
step('own replaced', second, 'replace')
step('broken', '00-broken')
step('foreign', '00-foreign')
step('edited', '00-edited')
step('gone', '00-gone')
step('nowhere', '00-nowhere')
"""

COMPARE = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.ROIs
import qupath.lib.regions.ImagePlane
import static qupath.lib.gui.scripting.QPEx.*
def export = new GroovyShell(getClass().getClassLoader()).parse(new File(args[0]))
def shown = getCurrentHierarchy(), entry = getProjectEntry()
def say = { println "${it}: ${export.sameAnnotations(shown, entry.readHierarchy())}" }
def roi = ROIs.createRectangleROI(3, 4, 50, 60, ImagePlane.getDefaultPlane())
def first = getAnnotationObjects().find { it.getROI().isArea() && it.getPathClass() != null }
def was = first.getPathClass(), place = first.getROI()
say('opened')
shown.addObject(PathObjects.createTileObject(roi, null, null))
say('tile')
first.setPathClass(PathClass.fromString('Other'))
say('class')
first.setPathClass(was)
say('class back')
first.setROI(place.translate(0, 1))
say('moved')
first.setROI(place)
say('moved back')
shown.addObject(PathObjects.createAnnotationObject(roi))
say('drawn')
"""

INTERRUPT = """
def script = new File(args[0]), pid = new File(args[1]), main = Thread.currentThread()
Thread.start {
    while (!pid.exists() || !pid.text) Thread.sleep(50)
    Thread.sleep(1000)
    main.interrupt()
}
binding.setVariable('args', ['--size', '64'] as String[])
try { evaluate(script) } catch (InterruptedException error) { println 'stopped' }
println 'alive: ' + ProcessHandle.of(pid.text.trim() as long).map { it.isAlive() }.orElse(false)
"""

STUBBORN = """#!{python}
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stderr.write("x" * 99 + "\\n" * 1)
for _ in range(50_000):
    sys.stderr.write("y" * 99 + "\\n")
sys.stdout.write("z" * 5_000_000)
sys.stdout.flush()
with open({pid!r}, "w") as file:
    file.write(str(os.getpid()))
time.sleep(300)
"""


def test_the_import_script_knows_our_tiles_by_their_id():
    start = tile_uuid("1", 0, 0, 256, 256)[:19]

    assert f"startsWith('{start}')" in IMPORT.read_text(encoding="utf-8")
    assert int(start.replace("-", ""), 16) == TILE_UUID_HIGH


class QuPath:
    """A real QuPath, run without its window and with preferences of its own."""

    def __init__(self, found, folder):
        self.found = found
        self.folder = folder

    def script(self, script, project, *arguments, image=IMAGE, save=False, environment=None):
        """Run a script as ``QuPath script`` does; return what it printed."""
        command = [
            str(self.found.java),
            "-Xmx2g",
            f"-Djava.util.prefs.userRoot={self.folder}",
            "-cp",
            str(self.found.jars / "*"),
            "qupath.QuPath",
            "script",
            f"--project={project}",
            *([f"--image={image}"] if image else []),
            *(["--save"] if save else []),
            *(f"--args={argument}" for argument in arguments),
            str(script),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=250, check=False,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def written(self, name, text):
        script = self.folder / f"{name}.groovy"
        script.write_text(text, encoding="utf-8")
        return script


@pytest.fixture(scope="module")
def qupath(tmp_path_factory, installation):
    return QuPath(installation, tmp_path_factory.mktemp("qupath"))


def export(study, number, *options):
    """Export the study and return the run's folder in the project."""
    out = study.folder / f"out{number}"
    assert main(["export", str(study.project), "--out", str(out), "--workers", "1", *options]) == 0
    return sorted((study.project.parent / "qupath_bridge" / "runs").iterdir())[-1]


def rows(out):
    store = LocalStore(out)
    return [
        row for name in list_partitions(store) for row in read_partition(store, name).to_pylist()
    ]


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def objects(study, entry_id="1"):
    """Everything of an image but our tiles, and our tiles by id."""
    with qb.open_project(study.project) as project:
        read = project[entry_id].read(detections=True).objects
    tiles = {o.id: o for o in read if o.object_type is ObjectType.TILE}
    return [o for o in read if o.id not in tiles], tiles


@pytest.mark.qupath
def test_the_scripts_pass_a_type_check(qupath):
    script = qupath.written("check", CHECK)

    assert "checked 2" in qupath.found.groovy(script, [IMPORT, EXPORT])


@pytest.mark.qupath
@pytest.mark.slow
def test_the_import_touches_our_tiles_only(qupath, study, tmp_path):
    first = export(study, 1, "--size", "100", "--stride", "50")
    second = export(study, 2, "--size", "100", "--map", "Tumor=Stroma")
    runs = first.parent
    for name in ("00-broken", "00-foreign", "00-edited", "00-gone"):
        shutil.copytree(first, runs / name)
    whole = (first / "1.geojson.gz").read_bytes()
    (runs / "00-broken" / "1.geojson.gz").write_bytes(whole[: len(whole) // 2])
    foreign = json.loads(gzip.decompress(whole))
    foreign["features"][3]["id"] = "11111111-2222-4333-8444-555555555555"
    (runs / "00-foreign" / "1.geojson.gz").write_bytes(gzip.compress(json.dumps(foreign).encode()))
    for name in ("00-broken", "00-foreign"):
        record_tiles(runs / name)
    text = gzip.decompress(whole)
    edited = text.replace(b'"name":"Tumor"', b'"name":"Stoma"', 1)
    assert edited != text
    (runs / "00-edited" / "1.geojson.gz").write_bytes(gzip.compress(edited))
    (runs / "00-gone" / "1.geojson.gz").unlink()
    before = objects(study)
    looks = tmp_path / "looks"
    looks.mkdir()

    output = qupath.script(
        qupath.written("drive", DRIVE), study.project, IMPORT, looks, first.name, second.name,
        save=True,
    )  # fmt: skip

    def seen(step):
        features = json.loads((looks / f"{step}.geojson").read_text("utf-8"))["features"]
        by_id = {feature["id"]: feature for feature in features}
        assert len(by_id) == len(features)
        return by_id

    def named(run):
        features = json.loads(gzip.decompress((run / "1.geojson.gz").read_bytes()))["features"]
        return {feature["id"]: feature for feature in features}

    drawn = seen("before")
    assert set(drawn) == {o.id for o in before[0]}
    assert set(seen("newest")) == set(drawn) | set(named(second))
    assert seen("again") == seen("newest")
    assert "are there already" in output

    # The tiles of both runs are there; those that they share show the run that came last.
    shared = set(named(first)) & set(named(second))
    assert shared
    assert set(named(first)) > shared
    older = seen("older")
    assert set(older) == set(drawn) | set(named(first)) | set(named(second))
    for tile_id, tile in named(first).items():
        shown, expected = older[tile_id]["properties"], tile["properties"]
        assert shown["classification"]["name"] == expected["classification"]["name"]
        assert shown["name"] == expected["name"]
        assert shown["measurements"] == pytest.approx(expected["measurements"], rel=1e-6)
    assert seen("replaced") == seen("newest")

    own = set(seen("own")) - set(seen("replaced"))
    assert len(own) == 2
    assert own < set(seen("own replaced"))
    for step in ("broken", "foreign", "edited", "gone", "nowhere"):
        assert seen(step) == seen("own replaced")
    assert output.count("refused: ") == 5
    for name in ("00-edited", "00-gone"):
        file = runs / name / "1.geojson.gz"
        assert f"refused: {file} is not what run {name} wrote." in output
        assert f"Delete {file.parent};" in output
    for step in ("newest", "older", "own replaced"):
        for tile_id in drawn:
            assert seen(step)[tile_id] == drawn[tile_id]
        tree = (looks / f"{step}.txt").read_text("utf-8").splitlines()
        assert set((looks / "before.txt").read_text("utf-8").splitlines()) <= set(tree)

    # What was saved is what was seen, and the entry points to the run.
    others, tiles = objects(study)
    assert others[: len(before[0])] == before[0]
    assert {i for i in tiles if i.startswith("9e0725bf")} == set(named(second))
    with qb.open_project(study.project) as project:
        assert project["1"].metadata["qupath_bridge.run"] == second.name
        assert "qupath_bridge.run" not in project["2"].metadata


@pytest.mark.qupath
@pytest.mark.slow
def test_the_import_into_a_whole_project_twice_is_once(qupath, study):
    run = export(study, 1, "--size", "100")
    untouched = digests(study.project.parent)

    output = qupath.script(IMPORT, study.project, image=None)
    assert output.count("nothing is saved") == 2
    assert digests(study.project.parent) == untouched

    qupath.script(IMPORT, study.project, image=None, save=True)
    once = [objects(study, entry) for entry in ("1", "2")]
    for (_, tiles), entry in zip(once, ("1", "2"), strict=True):
        expected = {
            r["tile_uuid"]: r for r in rows(study.folder / "out1") if r["entry_id"] == entry
        }
        assert tiles.keys() == expected.keys()
        for tile_id, tile in tiles.items():
            row = expected[tile_id]
            x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
            assert tile.roi.geometry.bounds == (x, y, x + w, y + h)
            assert (tile.class_path, tile.name) == (row["label"], row["patch_id"])
            assert tile.measurements["qb: label share"] == pytest.approx(row["label_share"])
    output = qupath.script(IMPORT, study.project, run.name, image=None, save=True)
    assert output.count("are there already") == 2
    assert [objects(study, entry) for entry in ("1", "2")] == once


@pytest.mark.qupath
@pytest.mark.slow
def test_tiles_that_came_in_one_way_are_there_already_by_the_other(qupath, study):
    """QuPath keeps 32 bits of a number; that does not count."""
    run = export(study, 1, "--size", "100", "--stride", "37")
    shares = [share for row in rows(study.folder / "out1") for _, share in row["shares"]]
    assert any(float(np.float32(share)) != share for share in shares)
    qupath.script(IMPORT, study.project, image=None, save=True)
    done = qb.write_back(study.project, run.name, engine="embedded", force=True)
    assert [(e.state, e.corrected) for e in done.entries] == [("unchanged", 0)] * 2
    assert not qb.undo_write_back(study.project, run.name, engine="embedded", force=True).failed
    assert [objects(study, entry)[1] for entry in ("1", "2")] == [{}, {}]
    written = qb.write_back(study.project, run.name, engine="embedded", force=True)
    assert [entry.state for entry in written.entries] == ["written"] * 2
    before = digests(study.project.parent / "data")
    output = qupath.script(IMPORT, study.project, run.name, image=None)
    assert output.count("are there already") == 2
    assert digests(study.project.parent / "data") == before


CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def tiles = getTileObjects().findAll { it.getID().toString().startsWith('9e0725bf-e8af-8f43-') }
tiles.sort { it.getName() }.take(3).each { it.setPathClass(PathClass.fromString('Corrected')) }
"""


@pytest.mark.qupath
@pytest.mark.slow
def test_the_import_leaves_corrected_tiles_alone_and_takes_earlier_versions_out(
    qupath, study, draw
):
    """A region is gone in the second run, which has the same settings."""
    first = export(study, 1, "--size", "50", "--edge", "pad")
    qupath.script(IMPORT, study.project, save=True)
    qupath.script(qupath.written("correct", CORRECT), study.project, save=True)
    corrected = {i for i, tile in objects(study)[1].items() if tile.class_path == "Corrected"}
    assert len(corrected) == 3
    data = (study.project.parent / "data/1/data.qpdata").read_bytes()
    image, other = draw.images(study.slides)
    study.redraw(replace(image, regions=image.regions[2:]), other)
    second = export(study, 2, "--size", "50", "--edge", "pad")
    (study.project.parent / "data/1/data.qpdata").write_bytes(data)
    made = rows(study.folder / "out2")
    listed = {row["tile_uuid"] for row in made if row["entry_id"] == "1"}
    assert objects(study)[1].keys() - listed - corrected

    output = qupath.script(IMPORT, study.project, second.name, save=True)

    assert "left 3 tiles alone" in output
    tiles = objects(study)[1]
    assert tiles.keys() == listed | corrected
    for tile_id, tile in tiles.items():
        run = first.name if tile_id in corrected else second.name
        assert tile.metadata["qb.run"] == run
        assert (tile.class_path == "Corrected") == (tile_id in corrected)
    # Write-back decides the same.
    done = qb.write_back(study.project, second.name, engine="embedded", force=True)
    assert (done.entries[0].state, done.entries[0].corrected) == ("unchanged", 3)


@pytest.mark.qupath
@pytest.mark.slow
def test_an_export_from_qupath_is_the_one_of_the_command_line(qupath, study, tmp_path):
    export(study, 1, "--size", "100", "--entry", "1")
    folder = tmp_path / "scripts"
    folder.mkdir()
    shutil.copy(IMPORT, folder)
    script = folder / EXPORT.name
    text = EXPORT.read_text(encoding="utf-8")
    assert "boolean showTiles = false" in text
    script.write_text(text.replace("showTiles = false", "showTiles = true"), encoding="utf-8")

    output = qupath.script(
        script, study.project, "--size", "100", "--workers", "1", save=True,
        environment={"QUPATH_BRIDGE_PYTHON": sys.executable},
    )  # fmt: skip

    (out,) = (study.project.parent / "qupath_bridge" / "patches").iterdir()
    assert out.name.startswith("1_")
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["selection"]["entry"] == ["id:1"]
    made, expected = rows(out), rows(study.folder / "out1")
    for row in (*made, *expected):
        del row["run_id"]
    assert made == expected
    assert f"{len(made)} patches in {out}" in output
    assert objects(study)[1].keys() == {row["tile_uuid"] for row in made}


@pytest.mark.qupath
@pytest.mark.slow
def test_an_image_without_patches_loses_the_tiles_of_other_runs(qupath, study):
    """The run exported it and kept nothing: its facts say so, and there is no file of tiles."""
    first = export(study, 1, "--size", "100")
    run = export(study, 2, "--size", "100", "--within", "Necrosis", "--min-within", "1")
    assert sorted(path.name for path in run.iterdir()) == ["1.json", "2.json", "run.json"]
    qupath.script(IMPORT, study.project, first.name, save=True)
    assert len(objects(study)[1]) > 0

    output = qupath.script(IMPORT, study.project, run.name, "replace", save=True)

    assert "and added 0 tiles" in output
    assert objects(study)[1] == {}


@pytest.mark.qupath
@pytest.mark.slow
def test_a_slide_that_failed_is_nothing_to_import(qupath, study):
    run = export(study, 1, "--size", "100")
    for name in ("1.json", "1.geojson.gz"):
        (run / name).unlink()
    output = qupath.script(IMPORT, study.project, run.name)
    assert f"nothing to import, {run.name} has nothing of this image" in output


@pytest.mark.qupath
@pytest.mark.slow
def test_unsaved_annotations_are_seen(qupath, study):
    output = qupath.script(qupath.written("compare", COMPARE), study.project, EXPORT)

    said = dict(
        line.split(": ") for line in output.splitlines() if line.endswith(("true", "false"))
    )
    assert said == {
        "opened": "true",
        "tile": "true",
        "class": "false",
        "class back": "true",
        "moved": "false",
        "moved back": "true",
        "drawn": "false",
    }


@pytest.mark.qupath
@pytest.mark.slow
def test_a_failing_export_says_why(qupath, study, tmp_path):
    script = qupath.written(
        "fail",
        "binding.setVariable('args', ['--size', '0'] as String[])\n"
        f"try {{ evaluate(new File({EXPORT.as_posix()!r})) }}\n"
        "catch (RuntimeException error) { println 'refused: ' + error.getMessage() }\n",
    )

    output = qupath.script(
        script, study.project, environment={"QUPATH_BRIDGE_PYTHON": sys.executable}
    )

    problem = "--size: should be greater than or equal to 1, not '0'"
    assert f"refused: qupath-bridge stopped with status 2: {problem}" in output


@pytest.mark.qupath
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot be a program on Windows")
def test_an_interrupted_export_leaves_no_process(qupath, study, tmp_path):
    program, pid = tmp_path / "stubborn", tmp_path / "pid"
    program.write_text(STUBBORN.format(python=sys.executable, pid=str(pid)), encoding="utf-8")
    program.chmod(0o755)

    output = qupath.script(
        qupath.written("interrupt", INTERRUPT), study.project, EXPORT, pid,
        environment={"QUPATH_BRIDGE_PYTHON": str(program)},
    )  # fmt: skip

    said = [line for line in output.splitlines() if line in {"stopped", "alive: false"}]
    assert said == ["stopped", "alive: false"]
