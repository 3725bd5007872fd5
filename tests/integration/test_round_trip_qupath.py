"""Everything that a pathologist does, each step in a real QuPath, and what is there after it."""

import json
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.qupath.geojson import read_tiles
from tests.support.qupath_scripts import COLLECT, EXPORT, IMPORT, QuPath, objects, result, rows

pytestmark = [pytest.mark.qupath, pytest.mark.slow, pytest.mark.timeout(900)]

ANNOTATE = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
import static qupath.lib.gui.scripting.QPEx.*
def plane = ImagePlane.getDefaultPlane()
addObjects(args.collect { text ->
    def (name, x, y, w, h) = text.split(',') as List
    def roi = ROIs.createRectangleROI(x as int, y as int, w as int, h as int, plane)
    PathObjects.createAnnotationObject(roi, PathClass.fromString(name))
})
println 'annotations: ' + getAnnotationObjects().size()
"""

CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def at = { roi -> [roi.getBoundsX() as int, roi.getBoundsY() as int] }
def tile = { x, y -> getTileObjects().find { at(it.getROI()) == [x, y] } }
tile(0, 0).setPathClass(PathClass.fromString('Immune cells'))
tile(400, 100).setPathClass(PathClass.fromString('Necrosis'))
removeObjects([tile(100, 0)], true)
def stroma = getAnnotationObjects().find { it.getPathClass().toString() == 'Stroma' }
stroma.setROI(stroma.getROI().translate(0, 100))
fireHierarchyUpdate()
println 'tiles: ' + getTileObjects().size()
"""

TUMOR, STROMA, MOVED = (0, 0, 300, 200), (400, 100, 250, 200), (400, 200, 250, 200)


def by_hand(**regions):
    """Return the label of each box of 100 pixels that a rectangle covers by half, as one counts."""
    found = {}
    for label, (x, y, w, h) in regions.items():
        for left in range(0, 700, 100):
            for top in range(0, 500, 100):
                across = min(left + 100, x + w) - max(left, x)
                down = min(top + 100, y + h) - max(top, y)
                if across > 0 and down > 0 and across * down >= 5000:
                    found[left, top] = label
    return found


def check(study, out, expected, *, shown):
    """Index, GeoJSON and, if they are shown, QuPath's objects have these labels and no other."""
    listed = rows(out)
    assert {(r["x_qupath"], r["y_qupath"]): r["label"] for r in listed} == expected
    assert {(r["w_qupath"], r["h_qupath"], r["entry_id"]) for r in listed} == {(100, 100, "1")}
    (run_id,) = {row["run_id"] for row in listed}
    runs = study.project.parent / "qupath_bridge" / "runs" / run_id
    tiles = list(read_tiles(runs / "1.geojson.gz"))
    of_index = {
        row["tile_uuid"]: (row["patch_id"], row["label"], row["x_qupath"], row["y_qupath"])
        for row in listed
    }
    assert {t.id: (t.name, t.class_path, *t.box[:2]) for t in tiles} == of_index
    if shown:
        places = {
            i: (tile.name, tile.class_path, *map(int, tile.roi.geometry.bounds[:2]))
            for i, tile in objects(study)[1].items()
        }
        assert places == of_index
    return {(row["x_qupath"], row["y_qupath"]): row for row in listed}


def outputs(study):
    return sorted((study.project.parent / "qupath_bridge" / "patches").iterdir())


def drawn(study):
    return sorted((o.class_path, *map(int, o.roi.geometry.bounds)) for o in objects(study)[0])


def test_index_geojson_and_objects_agree_after_every_step(study, draw, tmp_path, installation):
    (tmp_path / "qupath").mkdir()
    qupath = QuPath(installation, tmp_path / "qupath")
    study.redraw(*(replace(image, regions=[]) for image in draw.images(study.slides)))

    # Annotate.
    regions = [",".join(map(str, each)) for each in (("Tumor", *TUMOR), ("Stroma", *STROMA))]
    qupath.script(qupath.written("annotate", ANNOTATE), study.project, *regions, save=True)
    assert drawn(study) == [("Stroma", 400, 100, 650, 300), ("Tumor", 0, 0, 300, 200)]

    # Export, and look.
    qupath.script(EXPORT, study.project, "size=100", "workers=1")
    (first,) = outputs(study)
    before = by_hand(Tumor=TUMOR, Stroma=STROMA)
    assert len(before) == 12
    check(study, first, before, shown=False)
    assert objects(study)[1] == {}
    qupath.script(IMPORT, study.project, save=True)
    check(study, first, before, shown=True)

    # Two tiles get another class, one is deleted, and an annotation is moved.
    qupath.script(qupath.written("correct", CORRECT), study.project, save=True)
    assert drawn(study) == [("Stroma", 400, 200, 650, 400), ("Tumor", 0, 0, 300, 200)]
    check(study, first, before, shown=False)
    (stale,) = qb.status(study.project, engine="embedded")
    assert stale.state == "stale"
    qupath.script(COLLECT, study.project, "reviewer=Ann")
    found = result(study, "collect_corrections")
    assert (found["corrected"], found["rejected"]) == (2, 1)
    check(study, first, before, shown=False)

    # Export again: the new place of the annotation, and what was said about three boxes.
    qupath.script(EXPORT, study.project, "size=100", "workers=1")
    second = outputs(study)[-1]
    after = by_hand(Tumor=TUMOR, Stroma=MOVED)
    after |= {(0, 0): "Immune cells", (400, 100): "Necrosis"}
    del after[100, 0]
    made = check(study, second, after, shown=False)
    assert {place: row["rule_label"] for place, row in made.items() if row["rule_label"]} == {
        (0, 0): "Tumor"
    }
    assert {p for p, row in made.items() if row["label_source"] == "corrected"} == {
        (0, 0), (400, 100),
    }  # fmt: skip
    report = json.loads((second / "report.json").read_bytes())
    assert report["slides"][0]["dropped"]["rejected"] == 1
    qupath.script(IMPORT, study.project, save=True)
    check(study, second, after, shown=True)
    assert drawn(study) == [("Stroma", 400, 200, 650, 400), ("Tumor", 0, 0, 300, 200)]
    assert [run.state for run in qb.status(study.project, engine="embedded")][-1] == "current"
