"""The outline of the tissue that a run writes, imported by QuPath itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import qupath_bridge as qb
from tests.support.cohort import REAL
from tests.support.qupath_scripts import QuPath

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

LOOK = """
import qupath.lib.io.GsonTools
import static qupath.lib.gui.scripting.QPEx.*
importObjectsFromFile(args[0])
def found = getAnnotationObjects()
def points = new File(args[1]).readLines().collect { it.split(',')*.toDouble() }
println 'FOUND ' + GsonTools.getInstance(false).toJson(found.collect { [
    id: it.getID().toString(), name: it.getName(), type: it.getPathClass().toString(),
    color: it.getPathClass().getColor() & 0xFFFFFF, area: it.getROI().getArea(),
    inside: points.collect { p -> it.getROI().contains(p[0], p[1]) }] })
"""


def test_the_outline_of_the_tissue_is_an_annotation_in_qupath(tmp_path, installation):
    """It covers the very pixels of the mask, and stays when QuPath saves."""
    slide = next(path for path in REAL if "CMU-1" in path.name)
    made = qb.create_project(tmp_path / "study", slide)
    config = qb.ExportConfig(size=256, mpp=1.0, tissue="otsu")
    run = qb.export(made.path, tmp_path / "out", config, tissue_annotations=True, workers=1)
    (outline,) = (made.path.parent / "qupath_bridge" / "runs" / run.run_id).glob("tissue/*.geojson")
    (picture,) = (tmp_path / "out" / "tissue").glob("*.png")
    mask = np.asarray(Image.open(io.BytesIO(picture.read_bytes())))
    scale = np.array([2220 / mask.shape[1], 2967 / mask.shape[0]])
    rows, columns = np.random.default_rng(1).integers(0, mask.shape, (400, 2)).T
    places = (np.column_stack([columns, rows]) + 0.5) * scale
    points = tmp_path / "points.csv"
    points.write_text("\n".join(f"{x},{y}" for x, y in places.tolist()))
    (tmp_path / "qupath").mkdir()
    qupath = QuPath(installation, tmp_path / "qupath")
    look = qupath.written("look", LOOK)
    printed = qupath.script(look, made.path, outline, points, image=slide.name, save=True)
    (line,) = (text for text in printed.splitlines() if text.startswith("FOUND "))
    (found,) = json.loads(line[6:])
    assert (found["type"], found["name"], found["color"]) == ("Tissue", "Tissue (otsu)", 0x0082C8)
    assert found["inside"] == mask[rows, columns].tolist()
    assert found["area"] == pytest.approx(mask.sum() * scale.prod(), rel=1e-4)
    with qb.open_project(made.path) as project:
        (opened,) = project
        (saved,) = opened.read().annotations
    assert (saved.id, saved.class_path) == (found["id"], "Tissue")
    assert saved.roi.geometry.area == pytest.approx(found["area"], rel=1e-6)
