"""The worked cases of the label contract, through the pure functions."""

import json
from pathlib import Path

import pytest
import shapely

from qupath_bridge.config import ExportConfig
from qupath_bridge.model import ObjectType, PathObject, Plane, Reason, Roi, RoiKind
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.planning import plan_patches

FILE = Path(__file__).parents[1] / "data" / "label-cases.json"
CASES = json.loads(FILE.read_text(encoding="utf-8"))["cases"]


def annotation(record):
    roi = Roi(
        RoiKind.POLYGON,
        shapely.from_wkt(record["wkt"]),
        Plane(record.get("z", 0), record.get("t", 0)),
    )
    return PathObject(record["id"], ObjectType.ANNOTATION, class_path=record["class"], roi=roi)


def plan_box(case, box, order=1):
    """Plan the one box of a grid that starts at it, on its plane."""
    x, y, w, h, z, t = box
    width, height = case["image"]
    grid = Grid(w, h, 2 * width, 2 * height, width, height, x, y, edge="pad")
    rule = ExportConfig.parse(case["config"]).label_rule()
    annotations = [annotation(record) for record in case["annotations"]][::order]
    planned = plan_patches(annotations, grid, rule, planes=[Plane(z, t)])
    assert len(grid) == 1
    return planned


def boxes():
    for case in CASES:
        for number, box in enumerate(case["boxes"]):
            yield pytest.param(case, box, case["expected"][number], id=f"{case['name']}-{number}")


def test_label_cases_are_complete():
    assert len(CASES) == 35
    assert all(len(case["boxes"]) == len(case["expected"]) for case in CASES)


@pytest.mark.parametrize("order", [1, -1], ids=["as-drawn", "reversed"])
@pytest.mark.parametrize(("case", "box", "expected"), list(boxes()))
def test_label_case(case, box, expected, order):
    planned = plan_box(case, box, order)
    if expected["reason"] is not None:
        assert len(planned.table) == 0
        assert {r: n for r, n in planned.dropped.items() if n} == {Reason(expected["reason"]): 1}
        return
    table = planned.table
    assert table.boxes.tolist() == [box[:4]]
    assert (table.z[0], table.t[0]) == tuple(box[4:])
    assert table.label_of(0) == expected["label"]
    assert table.shares_of(0) == pytest.approx(expected["shares"], abs=1e-9)
    for column in ("within_share", "excluded_share"):
        if column in expected:
            assert getattr(table, column)[0] == pytest.approx(expected[column], abs=1e-9)
    assert sum(planned.dropped.values()) == 0


@pytest.mark.parametrize(
    ("case", "box", "expected"), [p for p in boxes() if p.values[2]["reason"] is not None]
)
def test_shares_of_dropped_boxes(case, box, expected):
    """A case says the shares of boxes that it drops: keep them by lifting every limit."""
    lifted = {
        **case["config"],
        "background": "(none)",
        "min_within": 0.0,
        "max_excluded_share": 1.0,
    }
    table = plan_box({**case, "config": lifted}, box).table
    assert len(table) == 1
    assert table.shares_of(0) == pytest.approx(expected["shares"], abs=1e-9)
    for column in ("within_share", "excluded_share"):
        if column in expected:
            assert getattr(table, column)[0] == pytest.approx(expected[column], abs=1e-9)
