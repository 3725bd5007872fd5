"""Predictions in a real QuPath: both ways bring what *Show measurement maps* lists."""

import csv
import json

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from tests.support.qupath_scripts import IMPORT, objects, result, rows

pytestmark = [pytest.mark.qupath, pytest.mark.slow, pytest.mark.timeout(900)]

LOOK = """
import qupath.lib.gui.tools.MeasurementMapper
import qupath.lib.color.ColorMaps
import qupath.lib.objects.PathObjectTools
import static qupath.lib.gui.scripting.QPEx.*

// As MeasurementMapPane.updateMeasurements() and showMap() do.
def hierarchy = getCurrentHierarchy(), score = 'qb pred cnn: score'
def names = PathObjectTools.getAvailableFeatures(hierarchy.getDetectionObjects())
def maps = names.findAll { it.startsWith('qb pred ') }.collectEntries { name ->
    def all = hierarchy.getObjects(null, null)
    def mapper = new MeasurementMapper(ColorMaps.getDefaultColorMap(), name, all)
    def colored = getTileObjects().count { mapper.getColorForObject(it) != null }
    [(name): [mapper.isValid(), mapper.getDataMinValue(), mapper.getDataMaxValue(), colored]]
}
def tiles = getTileObjects().collectEntries { tile ->
    def values = [tile.getPathClass()?.toString(), tile.getMeasurementList().get(score)]
    [(tile.getID().toString()): values]
}
def gson = new com.google.gson.GsonBuilder().serializeSpecialFloatingPointValues().create()
def annotations = getAnnotationObjects().size()
println 'LOOK ' + gson.toJson([maps: maps, tiles: tiles, annotations: annotations])
"""

CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def tile = getTileObjects().find { it.getName() == args[0] }
tile.setPathClass(PathClass.fromString('Fat'))
tile.getMeasurementList().put('mine', 5)
fireHierarchyUpdate()
"""


def look(qupath, study):
    printed = qupath.script(qupath.written("look", LOOK), study.project)
    (line,) = [line for line in printed.splitlines() if "LOOK " in line]
    return json.loads(line.partition("LOOK ")[2])


def table(study, out, factor):
    """A table with a score for each patch but the first, which has none."""
    ids = [row["patch_id"] for row in rows(out)]
    path = study.folder / f"p{factor}.csv"
    with path.open("w", newline="") as file:
        scores = ["", *(factor * number / 4 for number in range(1, len(ids)))]
        csv.writer(file).writerows([("patch_id", "score"), *zip(ids, scores, strict=True)])
    return path


def test_both_ways_bring_measurements_that_maps_list(qupath, study):
    out = study.folder / "out"
    how = {"selection": qb.Selection(entry=("id:1",)), "workers": 1, "engine": "embedded"}
    qb.export(study.project, out, qb.ExportConfig(size=100), **how)
    listed = {row["tile_uuid"]: row for row in rows(out)}
    ids = list(listed)

    # The import script brings the run with its predictions.
    qb.predictions(study.project, table(study, out, 1), "cnn", add=["rank"])
    qupath.script(IMPORT, study.project, save=True)
    assert result(study, "import_provenance")["ok"]
    seen = look(qupath, study)
    last = (len(ids) - 1) / 4
    assert seen["maps"] == {
        "qb pred cnn: score": [True, 0.25, last, len(ids) - 1],
        "qb pred cnn: score rank": [True, 0, 1, len(ids) - 1],
    }
    assert {i: value for i, (_, value) in seen["tiles"].items() if i != ids[0]} == {
        i: number / 4 for number, i in enumerate(ids) if number
    }

    # Somebody corrects a tile; new numbers come with the next import, and the word stays.
    name = listed[ids[3]]["patch_id"]
    qupath.script(qupath.written("correct", CORRECT), study.project, name, save=True)
    qb.predictions(study.project, table(study, out, 2), "cnn")
    qupath.script(IMPORT, study.project, save=True)
    seen_2 = look(qupath, study)
    assert list(seen_2["maps"]) == ["qb pred cnn: score"]
    assert seen_2["tiles"][ids[3]] == ["Fat", 1.5]
    tiles = objects(study)[1]
    assert tiles[ids[3]].measurements["mine"] == 5
    assert {i: t[0] for i, t in seen_2["tiles"].items() if i != ids[3]} == {
        i: row["label"] for i, row in listed.items() if i != ids[3]
    }
    (said,) = qb.corrections(study.project, engine="embedded", collect=True).slides
    assert (said.number("corrected"), said.number("rejected")) == (1, 0)

    # The direct way, by each engine, and away again.
    for engine, factor in (("embedded", 4), ("paquo", 8)):
        words = ["predictions", str(out), "--name", "cnn", "--direct", "--engine", engine]
        assert main([*words, "--force", "--table", str(table(study, out, factor))]) == 0
        seen_3 = look(qupath, study)
        assert seen_3["tiles"][ids[3]] == ["Fat", 0.75 * factor]
        assert seen_3["tiles"][ids[5]] == [listed[ids[5]]["label"], 1.25 * factor]
        assert seen_3["maps"]["qb pred cnn: score"][1:3] == [factor / 4, last * factor]
        assert seen_3["annotations"] == seen["annotations"] > 0
    assert main(["predictions", str(study.project), "--name", "cnn", "--undo", "--direct",
                 "--engine", "embedded", "--force"]) == 0  # fmt: skip
    left = objects(study)[1]
    assert not [n for item in left.values() for n in item.measurements if n.startswith("qb pred")]
    assert (left[ids[3]].class_path, left[ids[3]].measurements["mine"]) == ("Fat", 5)
