"""The worked label cases once more, each box through a project on disk and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from qupath_bridge.cli import main
from qupath_bridge.outputs import index, open_output
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide

CASES = json.loads(
    (Path(__file__).parents[1] / "data" / "label-cases.json").read_text(encoding="utf-8")
)["cases"]
BOXES = [
    pytest.param(
        case,
        number,
        id=f"{case['name']}-{number}",
        marks=[pytest.mark.slow] if w < 50 else [],  # the slide has so many of them
    )
    for case in CASES
    for number, (_, _, w, h, z, t) in enumerate(case["boxes"])
    if w == h and (z, t) == (0, 0)
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "white.tiff"
    write_slide(path, np.full((1000, 1000, 3), 255, np.uint8), tile=256)
    return path


def flags(config):
    words = []
    for name, value in config.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif name == "priority":
            words += [flag, ",".join(value)]
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, item)]
        elif isinstance(value, dict):
            ((key, label),) = value.items()
            words += [flag, f"{key}={label}"]
        else:
            words += [flag, str(value)]
    return words


@pytest.mark.parametrize(("case", "number"), BOXES)
def test_a_box_on_the_command_line(case, number, slide, tmp_path, capsys):
    regions = [
        Region(a["class"], a["wkt"], plane=(a.get("z", 0), a.get("t", 0)), id=a["id"])
        for a in case["annotations"]
    ]
    size = tuple(case["image"])
    assert size == (1000, 1000)
    project = build_project(tmp_path / "study", [Image(slide, regions, pixel_size=None)])
    x, y, w, _, _, _ = case["boxes"][number]
    repair = ["--allow-repair"] if case["name"] == "bow-tie" else []
    status = main(
        ["export", str(project), "--out", str(tmp_path / "out"), "--level-zero", "--size", str(w),
         "--origin", f"{x},{y}", "--edge", "pad", "--json", *flags(case["config"]), *repair]
    )  # fmt: skip
    assert status == 0
    result = json.loads(capsys.readouterr().out)
    rows = index.read_index(open_output(tmp_path / "out")).to_pylist()
    found = [row for row in rows if (row["x_qupath"], row["y_qupath"]) == (x, y)]
    expected = case["expected"][number]
    if expected["reason"]:
        assert not found
        assert result["dropped"][expected["reason"]] >= 1
        return
    (row,) = found
    assert row["label"] == expected["label"]
    assert dict(row["shares"]) == pytest.approx(expected["shares"], abs=1e-9)
    for name in ("within_share", "excluded_share"):
        if name in expected:
            assert row[name] == pytest.approx(expected[name], abs=1e-9)
    assert (tmp_path / "out" / row["path"]).is_file()


def test_a_bow_tie_keeps_the_area_that_qupath_shows(slide, tmp_path, capsys):
    (case,) = [case for case in CASES if case["name"] == "bow-tie"]
    regions = [Region(a["class"], a["wkt"], id=a["id"]) for a in case["annotations"]]
    project = build_project(tmp_path / "study", [Image(slide, regions, pixel_size=None)])
    status = main(["plan", str(project), "--size", "100", "--json"])
    assert status == 0
    (slide,) = json.loads(capsys.readouterr().out)["slides"]
    (repair,) = slide["regions"]["repairs"]
    assert repair["area_before"] == repair["area_after"] > 0
