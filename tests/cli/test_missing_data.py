"""Projects without what was drawn: the advice is what helps and was not done yet."""

import json
import shutil

import pytest

from qupath_bridge.cli import main


@pytest.fixture(params=["data", "data/1"])
def incomplete(request, study, tmp_path):
    """A project without data, or without those of its first slide, and GeoJSON files for it."""
    shutil.rmtree(study.project.parent / request.param)
    regions = tmp_path / "regions"
    regions.mkdir()
    ring = [[0, 0], [128, 0], [128, 128], [0, 128], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    for number in (1, 2):
        path = regions / f"slide {number}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return study.project, regions


def said(capsys, *words):
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_missing_data_can_be_replaced_or_done_without(incomplete, capsys):
    project, _ = incomplete
    status, text = said(capsys, "plan", project, "--size", "64")
    assert status != 0
    assert "is missing" in text and "--annotations" in text and "--no-labels" in text
    status, text = said(capsys, "plan", project, "--size", "64", "--no-labels")
    assert status == 0
    assert "is missing" in text and "--no-labels" not in text


@pytest.mark.parametrize("more", [[], ["--no-labels"]])
@pytest.mark.parametrize("command", ["plan", "inspect", "status"])
def test_data_are_not_missed_where_geojson_takes_their_place(incomplete, capsys, command, more):
    project, regions = incomplete
    size = ["--size", "64", *more] if command == "plan" else []
    status, text = said(capsys, command, project, "--annotations", regions, *size)
    assert status == 0
    assert "missing" not in text and "nobody can know" not in text


@pytest.mark.parametrize("command", ["inspect", "status"])
def test_commands_without_labels_do_not_offer_to_leave_them_out(study, tmp_path, capsys, command):
    words = ["export", study.project, "--size", "64", "--out", tmp_path / "out"]
    assert said(capsys, *words)[0] == 0
    shutil.rmtree(study.project.parent / "data")
    _, text = said(capsys, command, study.project)
    assert "is missing" in text and "--annotations" in text
    assert "labels out" not in text and "--no-labels" not in text
