"""Corrections in a plan: a table of cases with answers by hand."""

import random

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.model import Box, LabelRule, ObjectType, PathObject, Plane, Reason, Roi, RoiKind
from qupath_bridge.patches import grid as grid_module
from qupath_bridge.patches.confusion import Confusion, read_confusion
from qupath_bridge.patches.correcting import label_of_class, read_statements
from qupath_bridge.patches.corrections import Correction
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.planning import plan_patches
from qupath_bridge.patches.table import PatchTable

GRID = Grid(10, 10, 10, 10, 70, 10)
"""Boxes at x = 0, 10, ..., 60."""


def drawn(name, class_path, x0, x1, plane=(0, 0)):
    roi = Roi(RoiKind.RECTANGLE, shapely.box(x0, 0, x1, 10), Plane(*plane))
    return PathObject(name, ObjectType.ANNOTATION, class_path, roi=roi)


DRAWN = (
    drawn("1", "Tumor", 0, 20),  # boxes 0 and 1
    drawn("2", "Stroma", 20, 28),  # box 2: 80 % Stroma, 20 % Tumor
    drawn("3", "Tumor", 28, 30),
    drawn("4", "Ignore*", 30, 40),  # box 3
    drawn("5", "Tumor", 50, 54),  # box 5: 40 % Tumor, too little; boxes 4 and 6: nothing
)


def said(x, after=None, kind="corrected", *, rule="Tumor", plane=(0, 0), size=10, **changes):
    values = {"before": "Tumor", "run_id": "R", "fingerprint": "f", "time": "2026"} | changes
    box = Box(x, 0, size, size)
    return Correction(kind, box, after=after, rule_label=rule, plane=Plane(*plane), **values)


def planned(corrections, rule=None, shapes=DRAWN, shown=("Tumor", "Stroma"), **more):
    rule = rule or LabelRule()
    statements = read_statements(
        corrections, rule, fingerprint="f", shown_labels={"R": shown} if shown else {}
    )
    return plan_patches(shapes, GRID, rule, statements=statements, **more)


def labels(plan):
    table = plan.table
    return {
        int(table.boxes[k, 0]): (
            table.label_of(k),
            table.label_source_of(k),
            table.rule_label_of(k),
        )
        for k in range(len(table))
    }


def dropped(plan):
    return {str(reason): n for reason, n in plan.dropped.items() if n}


BY_RULE = {
    0: ("Tumor", "rule", None),
    10: ("Tumor", "rule", None),
    20: ("Stroma", "rule", None),
}
DROPPED = {"excluded": 1, "no_label": 3}


def test_without_corrections_the_rule_decides():
    plan = planned([])
    assert (labels(plan), dropped(plan)) == (BY_RULE, DROPPED)
    assert plan.corrections.as_dict() == {
        "corrected": 0, "confirmed": 0, "rejected": 0, "contested": 0, "dropped": 0,
        "other_grid": 0, "other_slide": 0, "refused": {}, "confusion": [], "digest": None,
    }  # fmt: skip


CASES = {
    "another class": (
        [said(0, "Stroma")],
        {0: ("Stroma", "corrected", "Tumor")},
        {},
        {"corrected": 1},
    ),
    "a class that nobody drew": (
        [said(0, "Necrosis")],
        {0: ("Necrosis", "corrected", "Tumor")},
        {},
        {"corrected": 1},
    ),
    "the class of the rule": (
        [said(0, "Tumor", rule="Stroma")],
        {0: ("Tumor", "corrected", "Tumor")},
        {},
        {"corrected": 1, "contested": 1},
    ),
    "a box without a label": (
        [said(40, "Stroma", rule=None)],
        {40: ("Stroma", "corrected", None)},
        {"no_label": 2},
        {"corrected": 1},
    ),
    "too little of a label": (
        [said(50, "Tumor", rule=None)],
        {50: ("Tumor", "corrected", None)},
        {"no_label": 2},
        {"corrected": 1},
    ),
    "no class": (
        [said(0, None)],
        {0: None},
        {"no_label": 4},
        {"corrected": 1},
    ),
    "rejected": (
        [said(0, "Ignore*", "rejected")],
        {0: None},
        {"rejected": 1},
        {"rejected": 1},
    ),
    "rejected where the box has no label": (
        [said(40, None, "rejected", rule=None)],
        {},
        {"rejected": 1, "no_label": 2},
        {"rejected": 1},
    ),
    "rejected where the box is excluded": (
        [said(30, None, "rejected", rule=None)],
        {},
        {"rejected": 1, "excluded": 0},
        {"rejected": 1},
    ),
    "corrected where the box is excluded": (
        [said(30, "Stroma", rule=None)],
        {},
        {},
        {"dropped": 1},
    ),
    "a class that the run excludes": (
        [said(0, "Ignore*")],
        {0: None},
        {"rejected": 1},
        {"rejected": 1},
    ),
    "confirmed": ([said(0, "Tumor", "confirmed")], {}, {}, {"confirmed": 1}),
    "confirmed what the rule no longer says": (
        [said(20, "Tumor", "confirmed")],
        {},
        {},
        {"confirmed": 1, "contested": 1},
    ),
    "contested": (
        [said(20, "Necrosis", rule="Tumor")],
        {20: ("Necrosis", "corrected", "Stroma")},
        {},
        {"corrected": 1, "contested": 1},
    ),
    "rejected what the rule no longer says": (
        [said(20, None, "rejected", rule="Tumor")],
        {20: None},
        {"rejected": 1},
        {"rejected": 1, "contested": 1},
    ),
    "a box beside the grid": ([said(5, "Stroma")], {}, {}, {"other_grid": 1}),
    "a box of another size": ([said(0, "Stroma", size=20)], {}, {}, {"other_grid": 1}),
    "a box outside": ([said(70, "Stroma")], {}, {}, {"other_grid": 1}),
    "another plane": ([said(0, "Stroma", plane=(1, 0))], {}, {}, {"other_grid": 1}),
    "another slide file": (
        [said(0, "Stroma", fingerprint="g"), said(0, "Fat", fingerprint="g")],
        {},
        {},
        {"other_slide": 1},
    ),
    "a class that cannot label": (
        [said(0, "Region*"), said(10, "Region*"), said(20, "Cells*")],
        {},
        {},
        {"refused": {"Region*": 2, "Cells*": 1}},
    ),
    "withdrawn": ([said(0, "Stroma"), said(0, "Tumor", "withdrawn")], {}, {}, {}),
    "the last statement holds": (
        [said(0, "Stroma"), said(0, None, "rejected"), said(0, "Fat")],
        {0: ("Fat", "corrected", "Tumor")},
        {},
        {"corrected": 1},
    ),
    "withdrawn of another file": (
        [said(0, "Stroma"), said(0, None, "withdrawn", fingerprint="g")],
        {0: ("Stroma", "corrected", "Tumor")},
        {},
        {"corrected": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case(case):
    corrections, changes, reasons, counts = CASES[case]
    plan = planned(corrections)
    expected = {x: row for x, row in {**BY_RULE, **changes}.items() if row is not None}
    assert labels(plan) == expected
    assert dropped(plan) == {k: n for k, n in {**DROPPED, **reasons}.items() if n}
    report = plan.corrections.as_dict()
    del report["confusion"], report["digest"]
    nothing = {"refused": {}, "other_grid": 0, "other_slide": 0, "dropped": 0, "contested": 0}
    assert report == {"corrected": 0, "confirmed": 0, "rejected": 0, **nothing, **counts}


def test_a_corrected_patch_that_falls_to_another_reason_is_counted_by_it():
    tissue = np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    rule = LabelRule(within=("Region*",), min_tissue=0.5)
    shapes = [*DRAWN, drawn("6", "Region*", 0, 60)]
    plan = planned(
        [said(0, "Stroma"), said(60, "Stroma", rule=None), said(10, "Fat")],
        rule,
        shapes,
        tissue=lambda boxes: tissue[boxes[:, 0] // 10],
    )
    assert labels(plan) == {10: ("Fat", "corrected", "Tumor"), 20: BY_RULE[20]}
    assert dropped(plan) == {"excluded": 1, "outside": 1, "no_tissue": 1, "no_label": 2}
    assert (plan.corrections.corrected, plan.corrections.dropped) == (1, 2)


def test_share_and_margin_are_those_of_the_new_label():
    table = planned([said(20, "Tumor"), said(10, "Fat"), said(40, "Fat", rule=None)]).table
    shares = dict(zip(table.boxes[:, 0].tolist(), table.label_share.tolist(), strict=True))
    margins = dict(zip(table.boxes[:, 0].tolist(), table.margin.tolist(), strict=True))
    assert shares == pytest.approx({0: 1, 10: 0, 20: 0.2, 40: 0})
    assert margins == pytest.approx({0: 1, 10: -1, 20: -0.6, 40: 0})
    row = table.boxes[:, 0].tolist().index(20)
    assert table.shares_of(row) == pytest.approx({"Stroma": 0.8, "Tumor": 0.2})


def test_background_takes_patches_that_lose_their_label():
    rule = LabelRule(background="Glass")
    plan = planned([said(0, None), said(40, "Fat", rule="Glass"), said(50, None, rule=None)], rule)
    assert labels(plan) == {
        0: ("Glass", "corrected", "Tumor"),
        10: BY_RULE[10],
        20: BY_RULE[20],
        40: ("Fat", "corrected", "Glass"),
        50: ("Glass", "corrected", "Glass"),
        60: ("Glass", "background", None),
    }
    # What the rule said of box 50 was "nothing", and it is the background now.
    assert plan.corrections.contested == ((Box(50, 0, 10, 10), Plane()),)


def test_without_labels_corrections_label_from_nothing():
    rule = LabelRule(labels=False)
    plan = planned([said(10, "Fat", rule=None), said(20, None, "rejected", rule=None)], rule)
    nothing = (None, None, None)
    assert labels(plan) == {
        0: nothing, 10: ("Fat", "corrected", None), 40: nothing, 50: nothing, 60: nothing,
    }  # fmt: skip
    assert np.isnan(plan.table.label_share).all()
    assert plan.by_label == {"Fat": 1}
    assert dropped(plan) == {"rejected": 1, "excluded": 1}


def test_lists_are_corrected_by_lists():
    rule = LabelRule(rule="any", priority=("Tumor",))
    corrections = [
        said(0, "Stroma: Tumor", rule=("Tumor",)),  # made of two known labels, in the rule's order
        said(10, "Fat: Lipid", rule=("Tumor",)),  # one label of its own
        said(20, "Stroma", rule=("Stroma", "Tumor")),
        said(50, None, rule=("Tumor",)),
    ]
    plan = planned(corrections, rule)
    assert labels(plan) == {
        0: (["Tumor", "Stroma"], "corrected", ["Tumor"]),
        10: (["Fat: Lipid"], "corrected", ["Tumor"]),
        20: (["Stroma"], "corrected", ["Tumor", "Stroma"]),
    }
    assert plan.by_label == {"Stroma": 2, "Fat: Lipid": 1, "Tumor": 1}
    assert np.isnan(plan.table.label_share).all()
    assert plan.corrections.contested == ()  # the order of a list says nothing
    assert dropped(plan) == {"excluded": 1, "no_label": 3}


MAPPED = LabelRule(rename={"A": "B", "B": "C", "T: *": "T"}, rollup=True)


@pytest.mark.parametrize(
    ("rule", "path", "shown", "expected"),
    [
        (MAPPED, "B", ["B", "C"], ("B",)),  # the label that was seen
        (MAPPED, "B", [], ("C",)),  # the class
        (MAPPED, "A", ["B", "C"], ("B",)),
        (MAPPED, "T: Edge", [], ("T",)),
        (MAPPED, "Gland: In", [], ("Gland",)),
        (MAPPED, "Gland: In", ["Gland: In"], ("Gland: In",)),
        (MAPPED, None, ["B"], ()),
        (MAPPED, "Region*", [], None),
        (MAPPED, "Region*", ["Region*"], ("Region*",)),
        (LabelRule(rename={"Region*": "R"}), "Region*", [], ("R",)),
        (LabelRule(exclude=("Fold",)), "Fold", [], None),
        (LabelRule(unclassified="as", unclassified_as="U"), None, [], ()),
        (LabelRule(rule="any"), "A: B", ["A", "B"], ("A", "B")),
        (LabelRule(rule="any"), "A: B", ["A", "B", "A: B"], ("A: B",)),
        (LabelRule(rule="any"), "A: B: C", ["A", "A: B", "B", "C", "B: C"], ("A: B", "C")),
        (LabelRule(rule="any"), "A: B", ["A"], ("A: B",)),
        (LabelRule(rule="any", rollup=True), "A: B", ["A"], ("A",)),
        (LabelRule(rule="threshold"), "A: A", ["A"], ("A",)),
        (LabelRule(), "A: B", ["A", "B"], ("A: B",)),
    ],
)
def test_the_label_that_a_class_means(rule, path, shown, expected):
    assert label_of_class(path, rule, shown) == expected


def test_a_label_of_another_run_is_not_one_of_the_shown_run():
    rule = LabelRule(rename={"A": "B", "B": "C"})
    statements = read_statements(
        [said(0, "B"), said(10, "B", run_id="S")], rule, shown_labels={"R": ["B"], "S": ["A"]}
    )
    assert [one.labels for one in statements.each] == [("B",), ("C",)]


def test_planes_have_their_own_corrections():
    for rule in (LabelRule(), LabelRule(all_planes=True)):
        shapes = [drawn(str(z), "Tumor", 0, 10, (z, 0)) for z in (0, 1)]
        corrections = [said(0, "Fat", plane=(1, 0)), said(0, None, "rejected", plane=(0, 2))]
        planes = [Plane(0, 0), Plane(1, 0), Plane(0, 2)]
        table = planned(corrections, rule, shapes, planes=planes).table
        found = {(*table.plane(k), int(table.boxes[k, 0])): table.label_of(k) for k in range(2)}
        assert found == {(0, 0, 0): "Tumor", (1, 0, 0): "Fat"}
        assert len(table) == 2


def test_rule_against_pathologist():
    corrections = [
        said(0, "Stroma"), said(10, "Stroma"), said(20, "Stroma", "confirmed", rule="Stroma"),
        said(30, None, "rejected", rule=None), said(40, "Fat", rule=None), said(50, None),
    ]  # fmt: skip
    plan = planned(corrections)
    assert plan.corrections.confusion == (
        Confusion(None, "corrected", None, 1),
        Confusion(None, "corrected", "Fat", 1),
        Confusion(None, "rejected", None, 1),
        Confusion("Stroma", "confirmed", "Stroma", 1),
        Confusion("Tumor", "corrected", "Stroma", 2),
    )
    listed = planned([said(0, "Stroma: Tumor", rule=("Tumor",))], LabelRule(rule="any"))
    (one,) = listed.corrections.confusion
    assert one == Confusion(("Tumor",), "corrected", ("Stroma", "Tumor"), 1)
    assert one.as_json()["pathologist"] == ["Stroma", "Tumor"]
    assert read_confusion(one.as_json()) == one


def test_only_what_changes_a_box_of_the_grid_is_in_the_digest():
    digest = planned([said(0, "Stroma"), said(10, None, "rejected")]).corrections.digest
    same = [
        said(10, "Ignore*", "rejected", reviewer="B"), said(0, "Fat"), said(0, "Stroma", time="9"),
        said(20, "Stroma", "confirmed"), said(5, "Fat"), said(20, "Fat", fingerprint="g"),
        said(20, "Region*"),
    ]  # fmt: skip
    assert planned(same).corrections.digest == digest
    for other in ([said(0, "Fat")], [said(0, "Stroma")], [said(10, None, "rejected")]):
        assert planned(other).corrections.digest not in {None, digest}
    assert planned([said(0, "Tumor", "confirmed")]).corrections.digest is None


def test_the_number_of_a_reason_stands_in_its_box():
    (codes,) = planned([said(0, None, "rejected"), said(40, "Fat", rule=None)]).reasons
    names = [str(list(Reason)[code]) if code != 255 else None for code in codes]
    assert names == ["rejected", None, None, "excluded", None, "no_label", "no_label"]


places = st.integers(-3, 12).map(lambda k: 7 * k)


@given(
    st.sampled_from(["drop", "pad"]),
    st.lists(st.tuples(places, places, st.sampled_from([10, 11]), st.just(10)), max_size=60),
    st.booleans(),
)
def test_boxes_are_found_as_in_a_dictionary(edge, asked, part):
    grid = Grid(10, 10, 7, 7, 60, 50, 4, -3, edge=edge, band=(1, 4) if part else None)
    asked = [*asked, *map(tuple, grid.boxes().tolist())]
    known = {tuple(box): number for number, box in enumerate(grid.boxes().tolist())}
    found = grid.find(np.array(asked).reshape(-1, 4))
    assert found.tolist() == [known.get(box, -1) for box in asked]


@pytest.mark.parametrize("rule", [LabelRule(), LabelRule(rule="any"), LabelRule(labels=False)])
def test_bands_do_not_matter(rule, monkeypatch):
    shapes = [drawn("1", "Tumor", 0, 150)]
    grid = Grid(10, 10, 10, 10, 200, 200)
    numbers = random.Random(1)
    boxes = [(10 * numbers.randrange(22), 10 * numbers.randrange(22)) for _ in range(300)]
    corrections = [
        Correction(
            numbers.choice(["corrected", "corrected", "rejected", "confirmed", "withdrawn"]),
            Box(x, y, 10, 10), "Tumor", numbers.choice(["A", "B", None, "Ignore*"]),
            "R", "Tumor", "f", "now",
        )
        for x, y in boxes
    ]  # fmt: skip
    statements = read_statements(corrections, rule)
    whole = plan_patches(shapes, grid, rule, statements=statements)
    monkeypatch.setattr(grid_module, "BAND", 35)
    parts = plan_patches(shapes, grid, rule, statements=statements)
    assert parts.table == whole.table
    assert (parts.dropped, parts.reasons) == (whole.dropped, whole.reasons)
    assert parts.corrections == whole.corrections
    assert whole.dropped[Reason.REJECTED] > 0
    assert "corrected" in {whole.table.label_source_of(k) for k in range(len(whole.table))}


def test_tables_without_corrections_take_no_memory_for_them():
    table = planned([]).table
    assert table.rule_labels.offsets.strides == (0,)
    assert PatchTable.concatenate([table, table]).rule_labels.offsets.strides == (0,)
    taken = table.take(np.array([2, 0]))
    assert len(taken.rule_labels) == 2


def test_corrections_of_another_grid_are_a_warning():
    """Somebody who reviewed other patches has to know that these words are not used."""
    plan = planned([said(5, "Stroma"), said(0, "Stroma", size=20)])
    (warning,) = plan.corrections.warnings
    assert warning.startswith("2 corrections of boxes that this grid does not have")
    assert planned([said(0, "Stroma")]).corrections.warnings == ()
