"""The scripts for QuPath: tiles that come and go, and what a real QuPath makes of them."""

import gzip
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from tests.support.qupath_scripts import (
    CHECK,
    COLLECT,
    EXPORT,
    IMPORT,
    REMOVE,
    SCRIPTS,
    digests,
    objects,
    result,
    results,
    rows,
)  # fmt: skip
from tests.support.run_folders import record_tiles

# Many start QuPath several times, on machines that may be busy.
pytestmark = pytest.mark.timeout(900)

ALL = (CHECK, COLLECT, EXPORT, IMPORT, REMOVE)

TYPE_CHECK = """
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
    try { evaluate(script) }
    catch (IllegalStateException error) { println 'refused: ' + error.getMessage() }
    look(name)
}
look('before')
step('newest')
step('again')
step('older', 'run=' + first)
step('replaced', 'run=' + second, 'replace=true')
def roi = { ROIs.createRectangleROI(it, 4, 50, 60, ImagePlane.getDefaultPlane()) }
addObjects([
    PathObjects.createTileObject(roi(3), null, null), PathObjects.createDetectionObject(roi(7)),
])
look('own')
step('own replaced', 'run=' + second, 'replace=true')
step('foreign', 'run=00-foreign')
step('edited', 'run=00-edited')
step('gone', 'run=00-gone')
step('nowhere', 'run=00-nowhere')
"""


def test_scripts_differ_in_their_first_part_only():
    parts = [
        script.read_text(encoding="utf-8").partition("\n// ---- From here on") for script in ALL
    ]

    assert {script.name for script in ALL} == {script.name for script in SCRIPTS.glob("*.groovy")}
    assert len({shared for _, _, shared in parts}) == 1
    assert all(mark and len(shared) > 5000 for _, mark, shared in parts)
    assert all(len(script.read_text("utf-8").splitlines()) <= 250 for script in ALL)


@pytest.mark.parametrize("script", ALL, ids=lambda path: path.stem)
def test_settings_stand_first(script):
    lines = script.read_text(encoding="utf-8").splitlines()
    settings = [
        at for at, line in enumerate(lines) if re.match(r"(String|boolean|Map) \w+ = ", line)
    ]

    assert any(lines[at].startswith("String python = ''") for at in settings)
    assert len([at for at in settings if at < 15]) >= 1
    assert all("//" in lines[at] for at in settings if at < 15)
    first_code = next(at for at, line in enumerate(lines) if line.startswith(("import ", "try")))
    assert [at for at in settings if at < first_code] == [at for at in settings if at < 15]


def export(study, number, *options):
    """Export the study and return the run's folder in the project."""
    out = study.folder / f"out{number}"
    assert main(["export", str(study.project), "--out", str(out), "--workers", "1", *options]) == 0
    return sorted((study.project.parent / "qupath_bridge" / "runs").iterdir())[-1]


@pytest.mark.qupath
def test_the_scripts_pass_a_type_check(qupath):
    script = qupath.written("check", TYPE_CHECK)

    assert "checked 5" in qupath.found.groovy(script, ALL, timeout=800)


@pytest.mark.qupath
@pytest.mark.slow
def test_the_import_touches_our_tiles_only(qupath, study, tmp_path):
    first = export(study, 1, "--size", "100", "--stride", "50")
    second = export(study, 2, "--size", "100", "--map", "Tumor=Stroma")
    runs = first.parent
    for name in ("00-foreign", "00-edited", "00-gone"):
        shutil.copytree(first, runs / name)
        record = runs / name / "run.json"
        record.write_text(record.read_text("utf-8").replace(first.name, name), encoding="utf-8")
    whole = (first / "1.geojson.gz").read_bytes()
    foreign = json.loads(gzip.decompress(whole))
    foreign["features"][3]["id"] = "11111111-2222-4333-8444-555555555555"
    (runs / "00-foreign" / "1.geojson.gz").write_bytes(gzip.compress(json.dumps(foreign).encode()))
    record_tiles(runs / "00-foreign")
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
    for step in ("foreign", "edited", "gone", "nowhere"):
        assert seen(step) == seen("own replaced")
    assert output.count("refused: ") == 4
    for name, problem in (("00-edited", "was changed after"), ("00-gone", "is not there any more")):
        file = runs / name / "1.geojson.gz"
        (said,) = (line for line in output.splitlines() if f"refused: {file}: " in line)
        assert problem in said
        assert f"Delete {file.parent}, and write the run into the project again" in said
    for step in ("newest", "older", "own replaced"):
        for tile_id in drawn:
            assert seen(step)[tile_id] == drawn[tile_id]
        tree = (looks / f"{step}.txt").read_text("utf-8").splitlines()
        assert set((looks / "before.txt").read_text("utf-8").splitlines()) <= set(tree)

    # What was saved is what was seen, and the entry points to the run.
    others, tiles = objects(study)
    assert others[: len(before[0])] == before[0]
    assert {i for i in tiles if i.startswith("9e0725bf")} == set(named(second))
    with qb.open_project(study.project, engine="embedded") as project:
        assert project["1"].metadata["qupath_bridge.run"] == second.name
        assert "qupath_bridge.run" not in project["2"].metadata


@pytest.mark.qupath
@pytest.mark.slow
def test_the_import_into_a_whole_project_twice_is_once(qupath, study):
    run = export(study, 1, "--size", "100")
    untouched = digests(study.project.parent / "data")

    done = qupath.run(IMPORT, study.project, image=None)
    said = "qupath-bridge: Nothing would be saved. Run QuPath script with --save."
    assert done.out.splitlines().count(said) == 2
    assert digests(study.project.parent / "data") == untouched
    assert {i: found["ok"] for i, found in results(study, "import_provenance").items()} == {
        "1": False, "2": False,
    }  # fmt: skip

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
    for entry, (_, tiles) in zip(("1", "2"), once, strict=True):
        found = result(study, "import_provenance", entry)
        assert (found["ok"], found["run"], found["expected"]) == (True, run.name, len(tiles))
        assert found["found"] == found["expected"]
    output = qupath.script(IMPORT, study.project, f"run={run.name}", image=None, save=True)
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
    before = [objects(study, entry)[1].keys() for entry in ("1", "2")]
    output = qupath.script(IMPORT, study.project, f"run={run.name}", image=None, save=True)
    assert output.count("are there already") == 2
    assert [objects(study, entry)[1].keys() for entry in ("1", "2")] == before


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

    output = qupath.script(IMPORT, study.project, f"run={second.name}", save=True)

    assert "Kept the class that somebody gave 3 tiles" in output
    assert result(study, "import_provenance")["corrected_kept"] == 3
    tiles = objects(study)[1]
    assert tiles.keys() == listed | corrected
    for tile_id, tile in tiles.items():
        run = first.name if tile_id in corrected else second.name
        assert tile.metadata.get("qb.run") == (run if qupath.keeps_metadata else None)
        assert (tile.class_path == "Corrected") == (tile_id in corrected)
    # Write-back decides the same.
    done = qb.write_back(study.project, second.name, engine="embedded", force=True)
    assert (done.entries[0].state, done.entries[0].corrected) == ("unchanged", 3)


@pytest.mark.qupath
@pytest.mark.slow
def test_an_image_without_patches_loses_the_tiles_of_other_runs(qupath, study):
    """The run exported it and kept nothing: its facts say so, and there is no file of tiles."""
    first = export(study, 1, "--size", "100")
    run = export(study, 2, "--size", "100", "--within", "Necrosis", "--min-within", "1")
    assert sorted(path.name for path in run.iterdir()) == ["1.json", "2.json", "run.json"]
    qupath.script(IMPORT, study.project, f"run={first.name}", save=True)
    assert len(objects(study)[1]) > 0

    output = qupath.script(IMPORT, study.project, f"run={run.name}", "replace=true", save=True)

    assert "and added 0 tiles" in output
    assert objects(study)[1] == {}


@pytest.mark.qupath
@pytest.mark.slow
def test_a_slide_that_failed_is_nothing_to_import(qupath, study):
    run = export(study, 1, "--size", "100")
    for name in ("1.json", "1.geojson.gz"):
        (run / name).unlink()
    done = qupath.run(IMPORT, study.project, f"run={run.name}", save=True)
    assert done.status == 1
    assert done.last_line == (
        f"qupath-bridge: slide 1.tiff: The run {run.name} has nothing of slide 1.tiff. "
        "Export the image, or choose another run."
    )


@pytest.mark.qupath
@pytest.mark.slow
def test_removing_a_run_brings_the_tiles_before_it_back(qupath, study):
    first = export(study, 1, "--size", "100", "--stride", "50")
    second = export(study, 2, "--size", "100", "--map", "Tumor=Stroma")  # some boxes of the first
    drawn = objects(study)[0]
    qupath.script(IMPORT, study.project, f"run={first.name}", save=True)
    of_first = objects(study)[1]
    qupath.script(IMPORT, study.project, f"run={second.name}", save=True)
    assert objects(study)[1].keys() >= of_first.keys()
    assert objects(study)[1] != of_first

    output = qupath.script(REMOVE, study.project, save=True)

    assert "map Tumor=Stroma" in output  # the settings of the second run
    assert objects(study) == (drawn, of_first)
    with qb.open_project(study.project, engine="embedded") as project:
        assert project["1"].metadata["qupath_bridge.run"] == first.name
    qupath.script(REMOVE, study.project, "allRuns=true", save=True)
    assert objects(study) == (drawn, {})
    with qb.open_project(study.project, engine="embedded") as project:
        assert "qupath_bridge.run" not in project["1"].metadata
    done = qupath.run(REMOVE, study.project, save=True)
    assert "slide 1.tiff shows no patches" in done.last_line
