"""Slide files with a damaged tile: the slide fails by name, or is exported with a record of it."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import facts_of
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.testing.slides import marker_image, write_slide

PIXELS = marker_image(256, 192)


@pytest.fixture
def study(tmp_path):
    """A project of two slides; of the first the tile in column 1, row 1 is damaged."""
    slides = [write_slide(tmp_path / f"{name}.tif", PIXELS, tile=64) for name in ("a", "b")]
    with tifffile.TiffFile(slides[0]) as file:
        offset = file.pages[0].dataoffsets[5]
    with slides[0].open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 30)
    whole = [("Tumor", shapely.box(0, 0, 256, 192))]
    build_project(tmp_path / "p", [Image(slide, whole) for slide in slides])
    return tmp_path / "p", offset


def export(study, out, on_bad_tile, **options):
    config = qb.ExportConfig(size=64, format="png", on_bad_tile=on_bad_tile)
    return qb.export(study[0], out, config, provenance=False, command=["test"], **options)


def test_a_damaged_tile_fails_its_slide_with_the_place(study, tmp_path):
    run = export(study, tmp_path / "out", "fail")
    (failure,) = run.failures
    assert failure.slide_name == "a.tif"
    place = f"tile at column 1, row 1 of level 0 (offset {study[1]}) cannot be decoded"
    assert place in failure.error
    assert "on_bad_tile background" in failure.hint
    assert run.written == 12, "the other slide is whole"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_tile_is_background_when_asked_and_recorded(study, tmp_path, workers):
    out = tmp_path / "out"
    run = export(study, out, "background", workers=workers)
    assert not run.failures
    assert run.written == 24
    facts = [facts_of(open_output(out).table(slide)) for slide in open_output(out).slides()]
    tiles = {fact["slide_name"]: fact["bad_tiles"] for fact in facts}
    assert tiles == {"a.tif": [[0, 1, 1, 0, 0, study[1]]], "b.tif": []}
    report = json.loads((out / "report.json").read_text())
    warnings = {slide["slide_name"]: slide["warnings"] for slide in report["slides"]}
    found = [text for text in warnings["a.tif"] if "cannot be decoded" in text]
    assert found == [
        "1 file tile cannot be decoded and became background; the first at column 1, row 1 of "
        f"level 0, offset {study[1]}."
    ]
    assert not any("cannot be decoded" in text for text in warnings["b.tif"])
    rows = open_output(out).table(facts[0]["slide_id"]).to_pylist()
    for row in rows:
        picture = np.asarray(Picture.open(out / row["path"]))
        x, y = row["x_qupath"], row["y_qupath"]
        expected = PIXELS[y : y + 64, x : x + 64]
        if facts[0]["slide_name"] == "a.tif" and (x, y) == (64, 64):
            expected = np.full_like(expected, 255)
        np.testing.assert_array_equal(picture, expected)
    assert qb.verify(out).ok


def test_a_resumed_run_keeps_the_record_of_damaged_tiles(study, tmp_path):
    out = tmp_path / "out"
    export(study, out, "background")
    before = (out / "report.json").read_bytes()
    run = export(study, out, "background", resume=True)
    assert not run.failures
    again = json.loads((out / "report.json").read_bytes())
    assert [slide["warnings"] for slide in again["slides"]] == [
        slide["warnings"] for slide in json.loads(before)["slides"]
    ]
    assert "cannot be decoded" in str(again)
