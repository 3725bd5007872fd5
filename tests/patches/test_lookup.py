"""Patches of a plan found by their boxes, against a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.model import LabelRule, Plane
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.lookup import PatchLookup
from qupath_bridge.patches.planning import plan_patches

PLANES = (Plane(0, 0), Plane(2, 0), Plane(0, 5))


def planned(origin=0, planes=PLANES):
    grid = Grid(10, 10, 7, 7, 60, 40, origin, origin, edge="pad")
    return plan_patches([], grid, LabelRule(labels=False), planes=planes).table


places = st.tuples(
    st.integers(-40, 80), st.integers(-40, 80), st.sampled_from([9, 10]), st.just(10),
    st.integers(0, 3), st.integers(0, 6),
)  # fmt: skip


@given(st.integers(-20, 20), st.lists(places, min_size=1), st.randoms(use_true_random=False))
def test_rows_are_those_of_a_dictionary(origin, asked, random):
    table = planned(origin)
    order = list(range(len(table)))
    random.shuffle(order)
    table = table.take(np.array(order))
    keys = [(*box, z, t) for box, z, t in zip(
        table.boxes.tolist(), table.z.tolist(), table.t.tolist(), strict=True
    )]  # fmt: skip
    known = {key: row for row, key in enumerate(keys)}
    asked = [*asked, *keys]
    lines = np.array(asked)
    found = PatchLookup(table).rows(lines[:, :4], lines[:, 4], lines[:, 5])
    assert found.tolist() == [known.get(tuple(key), -1) for key in asked]


def test_a_table_without_patches_has_no_box():
    table = planned().take(slice(0, 0))
    boxes = np.array([[0, 0, 10, 10]])
    assert PatchLookup(table).rows(boxes, np.zeros(1), np.zeros(1)).tolist() == [-1]
