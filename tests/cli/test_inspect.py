"""``inspect`` of slides without a project, and of slides on which nobody knows what was drawn."""

import json
import re
import shutil

import pytest

from qupath_bridge.cli import main
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.testing.slides import write_slide

EMPTY = '{"type": "FeatureCollection", "features": []}'


@pytest.fixture
def slide(tmp_path, draw):
    return write_slide(tmp_path / "A.tiff", draw.texture(1), mpp=0.5)


def call(capsys, *words):
    status = main(["inspect", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def call_json(capsys, *words):
    status, out, _ = call(capsys, *words, "--json")
    result = json.loads(out)
    return status, result, result["entries"][0]


def test_slide_without_a_project_has_the_size_and_pixels_of_its_file(slide, draw, capsys):
    regions = slide.with_name("A.geojson")
    regions.write_text(EMPTY)
    height, width, _ = draw.texture(1).shape
    status, _, entry = call_json(capsys, slide, "--annotations", regions)
    assert status == 0
    assert entry["size"] == [width, height]
    assert entry["pixels"] == "RGB of 8 bit"
    assert (entry["readable"], entry["objects"], entry["classes"]) == (True, {}, {})
    status, text, _ = call(capsys, slide, "--annotations", regions)
    assert f"{width} x {height}" in text and "?" not in text
    assert text.splitlines()[0] == str(slide)  # no QuPath wrote it


def test_annotations_that_cannot_be_read_are_not_none(slide, capsys):
    regions = slide.with_name("A.geojson")
    regions.write_text("{}")
    status, result, entry = call_json(capsys, slide, "--annotations", regions)
    assert status == 1
    assert (entry["readable"], entry["objects"], entry["classes"]) == (False, None, None)
    assert entry["pixel_size"]["x"] == 0.5  # the slide file is fine
    assert len(result["problems"]) == 1
    status, text, errors = call(capsys, slide, "--annotations", regions)
    assert status == 1 and str(regions) in errors
    (row,) = [line for line in text.splitlines() if " A.tiff " in line]
    # Name, size and file are known.
    assert row.split()[-2] == "?" and row.count("?") == 1


@pytest.mark.parametrize("missing", ["data/1", "data"])
def test_inspect_fails_where_nobody_knows_what_was_drawn(slide, tmp_path, capsys, missing):
    project = build_project(tmp_path / "study", [Image(slide)])
    assert call_json(capsys, project)[0] == 0
    shutil.rmtree(project.parent / missing)
    status, result, entry = call_json(capsys, project)
    assert status == 1
    assert entry["objects"] is None and not entry["readable"]
    assert len(result["problems"]) == 1


def test_a_region_that_cannot_be_used_is_named_and_hides_no_other_slide(slide, draw, capsys):
    """An outline that no image holds, on one slide of two: its area overflows."""
    ring = [[4, 4], [90, 5], [80, 70], [6, 60], [1e200, 4], [4, 4]]
    far = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    write_slide(slide.with_name("B.tiff"), draw.texture(2), mpp=0.5)
    drawn = slide.parent / "drawn"
    drawn.mkdir()
    (drawn / "A.geojson").write_text(EMPTY)
    (drawn / "B.geojson").write_text(json.dumps([far, far]))
    status, out, errors = call(capsys, slide.parent, "--annotations", drawn)
    assert status == 0
    assert "A.tiff" in out and "B.tiff" in out
    assert re.search(
        "B.tiff.*2 annotations cannot be used. Annotation .* farther away than any image", errors
    )
    assert "A.tiff" not in errors
    alone = [slide.with_name("B.tiff"), "--annotations", drawn / "B.geojson"]
    assert main(["plan", *map(str, alone), "--size", "64"]) == 1
    assert "farther away than any image ends" in capsys.readouterr().err
