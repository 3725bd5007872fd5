"""Sampling: limits hold, the choice follows from the box alone, and what is left out is counted."""

from collections import Counter

import numpy as np
import pytest
import shapely

from qupath_bridge.model import (
    Box,
    LabelRule,
    ObjectType,
    PathObject,
    Plane,
    Reason,
    Roi,
    RoiKind,
    SampleSpec,
)
from qupath_bridge.patches.correcting import Statement, Statements
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.planning import KEPT, plan_patches
from qupath_bridge.patches.sampling import _mixed, random_ranks, sample_patches

GRID = Grid(10, 10, 10, 10, 400, 300)


def annotation(name, class_path, *limits):
    roi = Roi(RoiKind.RECTANGLE, shapely.box(*limits))
    return PathObject(name, ObjectType.ANNOTATION, class_path, roi=roi)


# 40 x 30 boxes: 600 of Stroma, 80 of Tumor, 20 of Fat, 500 without a label.
DRAWN = [
    annotation("s", "Stroma", 0, 0, 200, 300),
    annotation("t", "Tumor", 200, 0, 400, 40),
    annotation("f", "Fat", 200, 100, 300, 120),
]


def planned(rule=None, drawn=DRAWN, **more):
    return plan_patches(drawn, GRID, rule or LabelRule(), **more)


def sampled(plan, slide="a", **limits):
    return sample_patches(plan, SampleSpec(**limits), step=(10, 10), slide=slide)


def boxes(plan):
    return {(*box, *plane) for box, plane in zip(
        plan.table.boxes.tolist(), zip(plan.table.z.tolist(), plan.table.t.tolist(), strict=True),
        strict=True,
    )}  # fmt: skip


@pytest.mark.parametrize("method", ["random", "grid"])
def test_limits_hold_and_what_is_left_out_is_counted(method):
    plan = planned()
    found = sampled(plan, max_per_label=50, method=method)
    assert found.by_label == {"Stroma": 50, "Tumor": 50, "Fat": 20}
    assert found.dropped[Reason.NOT_SAMPLED] == 550 + 30
    assert found.dropped[Reason.NO_LABEL] == plan.dropped[Reason.NO_LABEL] == 500
    reasons = Counter(found.reasons[0])
    assert reasons[list(Reason).index(Reason.NOT_SAMPLED)] == 580
    kept = np.flatnonzero(np.frombuffer(found.reasons[0], np.uint8) == KEPT)
    assert GRID.boxes()[kept].tolist() == found.table.boxes.tolist()

    fewer = sampled(plan, max_per_label=50, max_per_slide=60, method=method)
    assert len(fewer.table) == 60
    assert boxes(fewer) < boxes(found)
    assert sampled(plan, max_per_label=600, max_per_slide=700) is plan


def test_no_limit_changes_nothing():
    plan = planned()
    assert sampled(plan) is plan


def test_the_generator_is_splitmix64():
    """The first three numbers of the published generator with seed 0."""
    step = 0x9E3779B97F4A7C15
    states = np.array([0, step, 2 * step & (2**64 - 1)], np.uint64)
    assert [hex(n) for n in _mixed(states).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_random_follows_from_seed_slide_and_box_alone():
    whole = planned()
    ranks = dict(
        zip(map(tuple, whole.table.boxes.tolist()), random_ranks(whole.table, "0 a"), strict=True)
    )
    part = planned(drawn=DRAWN[1:])
    again = random_ranks(part.table, "0 a").tolist()
    assert [ranks[tuple(box)] for box in part.table.boxes.tolist()] == again
    assert len(set(ranks.values())) == len(ranks)
    one = boxes(sampled(whole, max_per_slide=100))
    assert one == boxes(sampled(whole, max_per_slide=100))
    assert len(one & boxes(sampled(whole, max_per_slide=100, seed=1))) < 50
    assert len(one & boxes(sampled(whole, max_per_slide=100, slide="b"))) < 50
    assert one < boxes(sampled(whole, max_per_slide=101))


def test_random_has_no_favourites():
    """Of 40 samples of a tenth, each third of the image has about a third."""
    whole = planned(drawn=[annotation("s", "Stroma", 0, 0, 400, 300)])
    found = [
        box for seed in range(40) for box in boxes(sampled(whole, max_per_slide=120, seed=seed))
    ]
    thirds = np.bincount([min(x // 134, 2) for x, *_ in found], minlength=3) / len(found)
    assert abs(thirds - np.array([14, 13, 13]) / 40).max() < 0.02
    assert max(Counter(found).values()) <= 14  # of 40, 4 each are expected


def test_grid_takes_a_coarser_grid():
    whole = planned(drawn=[annotation("s", "Stroma", 0, 0, 400, 300)])
    found = boxes(sampled(whole, max_per_slide=20 * 15, method="grid"))
    assert found == {(x, y, 10, 10, 0, 0) for x in range(0, 400, 20) for y in range(0, 300, 20)}
    few = boxes(sampled(whole, max_per_slide=10 * 8, method="grid"))
    assert few == {(x, y, 10, 10, 0, 0) for x in range(0, 400, 40) for y in range(0, 300, 40)}


def test_patches_of_planes_have_their_own_place():
    rule, planes = LabelRule(all_planes=True), [Plane(0, 0), Plane(1, 0)]
    whole = planned(rule, planes=planes)
    found = sampled(whole, max_per_label=30)
    assert found.by_label == {"Stroma": 30, "Tumor": 30, "Fat": 30}
    assert set(found.table.z.tolist()) == {0, 1}
    for z, codes in enumerate(found.reasons):
        kept = np.frombuffer(codes, np.uint8) == KEPT
        assert GRID.boxes()[kept].tolist() == found.table.boxes[found.table.z == z].tolist()


@pytest.mark.parametrize("method", ["random", "grid"])
def test_corrected_patches_come_first(method):
    said = tuple(
        Statement("corrected", Box(x, 250, 10, 10), Plane(0, 0), ("Tumor",), ("Stroma",))
        for x in (30, 70, 90)
    )
    whole = planned(statements=Statements(said))
    found = sampled(whole, max_per_label=4, method=method)
    assert found.by_label["Tumor"] == 4
    few = sampled(whole, max_per_slide=3, method=method)
    assert {one.box for one in said} <= {Box(*place[:4]) for place in boxes(found)}
    assert {one.box for one in said} == {Box(*place[:4]) for place in boxes(few)}


def test_each_label_of_a_list_counts():
    """Against the words of the contract, patch by patch in the order of rank."""
    drawn = [annotation("a", "A", 0, 0, 400, 150), annotation("b", "B", 0, 0, 100, 300)]
    rule = LabelRule(rule="any", overlap="independent")
    whole = planned(rule, drawn)
    table, room, taken = whole.table, Counter({"A": 40, "B": 40}), set()
    for row in np.argsort(random_ranks(table, "5 a")).tolist():
        labels = table.labels_of(row)
        if all(room[label] > 0 for label in labels):
            room.subtract(labels)
            taken.add(tuple(table.boxes[row].tolist()))
    found = sampled(whole, max_per_label=40, seed=5)
    assert {place[:4] for place in boxes(found)} == taken
    assert max(found.by_label.values()) == 40
