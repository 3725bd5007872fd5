"""Whole plans of an image: against the contract written out slowly, and promise by promise."""

import random
import tracemalloc
from collections import Counter
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.errors import GeometryError, PlanError
from qupath_bridge.geometry import overlap
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import LabelRule, ObjectType, PathObject, Plane, Reason, Roi, RoiKind
from qupath_bridge.patches import grid as grid_module
from qupath_bridge.patches import stack
from qupath_bridge.patches.centres import labels_at_centres
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.planning import plan_patches
from qupath_bridge.patches.regions import ActiveRegion
from qupath_bridge.patches.roles import Role
from qupath_bridge.patches.stack import stack_polygons
from qupath_bridge.patches.table import PatchTable, Ragged
from tests.support.faces import trusted_faces

EPSILON = 1e-9


def annotation(name, geometry, class_path="Tumor", plane=(0, 0)):
    roi = None if geometry is None else Roi(RoiKind.GEOMETRY, geometry, Plane(*plane))
    return PathObject(name, ObjectType.ANNOTATION, class_path, roi=roi)


def box(name, class_path, *limits, plane=(0, 0)):
    return annotation(name, shapely.box(*limits), class_path, plane)


def core(name, *limits, missing=False, core_id="c"):
    roi = Roi(RoiKind.ELLIPSE, shapely.box(*limits))
    return PathObject(core_id, ObjectType.TMA_CORE, name=name, roi=roi, missing=missing)


def grid(size=10, image=(100, 100), step=None, **more):
    step = step or size
    return Grid(size, size, step, step, *image, **more)


def dropped(planned):
    return {reason.value: n for reason, n in planned.dropped.items() if n}


def rows(table):
    """All that a table says, as plain values."""
    return [
        {
            "box": table.boxes[k].tolist(),
            "plane": tuple(table.plane(k)),
            "place": (int(table.col[k]), int(table.row[k])),
            "label": table.label_of(k),
            "shares": table.shares_of(k),
            "regions": table.regions_of(k),
        }
        for k in range(len(table))
    ]


# --- the contract, slowly ---


def slow_plan(annotations, a_grid, rule):
    """Labels.md by its words, one face of all outlines at a time, one box at a time."""
    image = shapely.box(0, 0, a_grid.width, a_grid.height)
    regions = []
    for a in annotations:
        # Each polygon of a merged annotation has its own place among the others.
        for shape in shapely.get_parts(repair(a.roi.geometry)[0]):
            area = sum(area for area, holders in trusted_faces([shape, image]) if all(holders))
            if area > 1e-9:
                regions.append((a.id, a.class_path, area, shape))
    place = {name: k for k, name in enumerate(rule.priority)}

    def rank(name):
        return (place.get(name, len(place)), name)

    # From the bottom up: the last is on top.
    regions.sort(key=lambda region: (region[0], shapely.normalize(region[3]).wkb), reverse=True)
    regions.sort(key=lambda region: rank(region[1]), reverse=True)
    regions.sort(key=lambda region: -round(region[2], 6))
    if rule.overlap == "priority":
        regions.sort(key=lambda region: rank(region[1]), reverse=True)
    shapes = [shape for *_, shape in regions]

    kept, reasons = [], Counter({"edge": a_grid.edge_dropped})
    for x, y, w, h in a_grid.boxes().tolist():
        patch = shapely.box(x, y, x + w, y + h)
        shares, parts, excluded, context = Counter(), Counter(), 0.0, 0.0
        for area, (in_patch, in_image, *holders) in trusted_faces([patch, image, *shapes]):
            if not (in_patch and in_image):
                continue
            share = area / (w * h)
            here = [(i, name) for (i, name, *_), held in zip(regions, holders, strict=True) if held]
            excluded += share * any(name == "Ignore*" for _, name in here)
            context += share * any(name == "Region*" for _, name in here)
            here = [(i, name) for i, name in here if not name.endswith("*")]
            owners = {name for _, name in here}
            if owners and rule.overlap != "independent":
                owners = {here[-1][1]}
            shares.update(dict.fromkeys(owners, share))
            parts.update({i: share for i, name in here if name in owners})
        shares = {name: share for name, share in shares.items() if share > EPSILON}
        order = sorted(shares, key=rank)
        best = max(shares.values(), default=0)
        if rule.rule == "majority":
            enough = best >= rule.min_share - EPSILON
            label = next((n for n in order if enough and best - shares[n] < EPSILON), None)
        else:
            least = rule.min_share if rule.rule == "threshold" else 0
            label = [n for n in order if shares[n] >= least - EPSILON] or None
        if excluded > rule.max_excluded_share + EPSILON:
            reasons["excluded"] += 1
        elif rule.within and context < rule.min_within - EPSILON:
            reasons["outside"] += 1
        elif label is None:
            reasons["no_label"] += 1
        else:
            kept.append(([x, y, w, h], label, shares, {i: p for i, p in parts.items() if p > 1e-7}))
    return kept, {name: n for name, n in reasons.items() if n}


coarse = st.integers(-2, 14).map(lambda v: 3 * v)


@st.composite
def drawings(draw):
    """A few annotations that nest, cross, touch, repeat themselves, or pass the image."""
    annotations = []
    for k in range(draw(st.integers(0, 7))):
        if draw(st.booleans()):
            x, y = draw(coarse), draw(coarse)
            shape = shapely.box(
                x, y, x + 3 * draw(st.integers(1, 9)), y + 3 * draw(st.integers(1, 9))
            )
        else:
            ring = draw(st.lists(st.tuples(coarse, coarse), min_size=3, max_size=6))
            shape = shapely.Polygon(ring)
        name = draw(st.sampled_from(["A", "B", "C", "Ignore*", "Region*", "A", "B"]))
        annotations.append(annotation(f"id-{k}", shape, name))
    return annotations


rules = st.builds(
    LabelRule,
    rule=st.sampled_from(["majority", "threshold", "any"]),
    overlap=st.sampled_from(["innermost", "priority", "independent"]),
    min_share=st.sampled_from([0.123, 0.3, 0.511]),
    priority=st.sampled_from([(), ("C",), ("B", "A")]),
    within=st.sampled_from([(), (), ("Region*",)]),
    max_excluded_share=st.sampled_from([0.0, 0.234]),
)

small_grids = st.builds(
    Grid,
    st.sampled_from([5, 8]),
    st.sampled_from([5, 8]),
    st.sampled_from([4, 5, 8, 11]),
    st.sampled_from([4, 5, 8, 11]),
    st.just(33),
    st.just(36),
    st.integers(-3, 3),
    st.integers(-3, 3),
    edge=st.sampled_from(["drop", "pad"]),
)


@settings(max_examples=80, deadline=None)
@given(drawings(), small_grids, rules)
def test_plan_equals_the_plain_definition(annotations, a_grid, rule):
    planned = plan_patches(annotations, a_grid, rule)
    table = planned.table
    kept, reasons = slow_plan(annotations, a_grid, rule)
    assert table.boxes.tolist() == [patch for patch, *_ in kept]
    assert dropped(planned) == reasons
    for k, (_, label, shares, parts) in enumerate(kept):
        assert table.label_of(k) == label
        assert table.shares_of(k) == pytest.approx(shares, abs=EPSILON)
        if rule.overlap != "independent":
            assert sum(table.shares_of(k).values()) <= 1 + EPSILON
        found = dict(zip(table.regions_of(k), table.regions.row_values(k), strict=True))
        assert {i: p for i, p in found.items() if p > 1e-7} == pytest.approx(parts, abs=EPSILON)
        values = table.regions.row_values(k)
        order = [(-v, i) for v, i in zip(values, table.regions_of(k), strict=True)]
        assert order == sorted(order)


@given(drawings(), small_grids, rules, st.integers(1, 40))
def test_plan_of_a_grid_in_bands_equals_the_plain_definition(annotations, a_grid, rule, boxes):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grid_module, "BAND", boxes)
        planned = plan_patches(annotations, a_grid, rule)
    kept, reasons = slow_plan(annotations, a_grid, rule)
    table = planned.table
    assert table.boxes.tolist() == [patch for patch, *_ in kept]
    assert dropped(planned) == reasons
    for k, (_, label, shares, _) in enumerate(kept):
        assert table.label_of(k) == label
        assert table.shares_of(k) == pytest.approx(shares, abs=EPSILON)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 10, 11])
def test_bands_of_a_grid_have_all_its_boxes_in_order(monkeypatch, rows):
    whole = grid(10, (85, 10 * rows + 5), edge="pad", origin_x=-3)
    monkeypatch.setattr(grid_module, "BAND", 20)  # two rows of nine and a half
    bands = list(whole.bands())
    assert len(bands) == max(1, -(-len(whole.rows) // 2))
    assert np.array_equal(np.concatenate([band.boxes() for band in bands]), whole.boxes())
    assert np.array_equal(
        np.concatenate([band.valid_share() for band in bands]), whole.valid_share()
    )


def test_planning_twice_the_boxes_needs_no_more_memory_beside_the_plan(monkeypatch):
    monkeypatch.setattr(grid_module, "BAND", 1 << 12)
    peaks = []
    for high in (128, 256):
        shapes = [box("t", "Tumor", 0, 0, 1001, 10 * high), box("s", "Stroma", 1001, 0, 1280, 10)]
        tracemalloc.start()
        try:
            planned = plan_patches(shapes, grid(10, (1280, 10 * high)), LabelRule())
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(planned.table) > 100 * high
        # While parts are put together, at most the boxes stand there twice.
        peaks.append(peak - kept - planned.table.boxes.nbytes)
    assert peaks[1] < peaks[0] + 100_000


def test_a_column_with_one_value_is_kept_once(monkeypatch):
    monkeypatch.setattr(grid_module, "BAND", 10)
    table = plan_patches([box("t", "Tumor", 0, 0, 100, 100)], grid(), LabelRule()).table
    for name in ("z", "t", "within_share", "excluded_share", "valid_share", "tissue_share"):
        column = getattr(table, name)
        assert (len(column), column.strides) == (100, (0,))
    assert table.valid_share.tolist() == [1.0] * 100
    assert np.isnan(table.within_share).all()
    assert table.excluded_share.tolist() == [0.0] * 100
    assert table.take(slice(3, 9)).valid_share.tolist() == [1.0] * 6


def same_bytes(a, b):
    """Return whether two tables have the same bytes."""
    for field in fields(PatchTable):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Ragged):
            parts = [(x.offsets, y.offsets), (x.codes, y.codes)]
            parts += [] if x.values is None else [(x.values, y.values)]
        else:
            parts = [(x, y)]
        for p, q in parts:
            if isinstance(p, np.ndarray):
                assert p.dtype == q.dtype, field.name
                assert p.tobytes() == q.tobytes(), field.name
            else:
                assert p == q, field.name


@settings(max_examples=80, deadline=None)
@given(drawings(), rules, st.sampled_from(["majority", "centre"]), st.randoms())
def test_plan_does_not_depend_on_the_order_of_annotations(annotations, rule, name, chance):
    rule = replace(rule, rule=name)
    # Two annotations may share an id, as copies of an object do.
    annotations += [replace(a, id="id-0", class_path="A") for a in annotations[1:3]]
    shuffled = annotations[:]
    chance.shuffle(shuffled)
    a_grid = Grid(7, 7, 5, 5, 33, 36)
    first, second = (plan_patches(some, a_grid, rule) for some in (annotations, shuffled))
    same_bytes(first.table, second.table)
    assert (first.dropped, first.report) == (second.dropped, second.report)


def test_plan_does_not_depend_on_the_order_of_many_annotations():
    rng = np.random.default_rng(11)
    annotations = []
    for k in range(400):
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        reach = rng.uniform(10, 60) * rng.uniform(0.6, 1, 24)
        x, y = rng.uniform(0, 1000, 2)
        ring = np.column_stack([x + reach * np.cos(angle), y + reach * np.sin(angle)]).round(2)
        annotations.append(
            annotation(f"{rng.integers(1 << 60):x}", shapely.Polygon(ring), "ABC"[k % 3])
        )
    a_grid = grid(64, (1000, 1000), 32, edge="pad")
    first = plan_patches(annotations, a_grid, LabelRule(rule="any"))
    for seed in range(3):
        random.Random(seed).shuffle(annotations)
        same_bytes(first.table, plan_patches(annotations, a_grid, LabelRule(rule="any")).table)
    assert len(first.table) > 500


def test_plan_shares_keep_area_that_geos_loses_in_unions():
    """GEOS 3.14: the union of what is seen of these regions is 28 px² too small."""
    shapes = [
        annotation("0", shapely.Polygon([(0, 27), (18, 0), (36, 42)]), "B"),
        annotation("1", shapely.Polygon([(3, 0), (3, 3), (0, 3), (0, 0)]), "A"),
        annotation("2", shapely.Polygon([(36, 36), (36, 42), (0, 27), (0, 30)]), "B"),
    ]
    table = plan_patches(shapes, Grid(5, 5, 4, 4, 33, 36), LabelRule()).table
    shares = {tuple(b): table.shares_of(k) for k, b in enumerate(table.boxes[:, :2].tolist())}
    assert shares[8, 28] == {"B": 0.755}
    assert shares[16, 28] == {"B": 1.0}


# --- order of regions ---


def test_overlap_of_equal_areas_shows_the_label_that_wins_ties():
    both = [box("1", "B", 0, 0, 20, 20), box("2", "A", 0, 0, 20, 20)]
    assert plan_patches(both, grid(), LabelRule()).table.label_counts() == {"A": 4}
    first = LabelRule(priority=("B",))
    assert plan_patches(both, grid(), first).table.label_counts() == {"B": 4}
    twice = [box("1", "A", 0, 0, 10, 10), box("2", "A", 0, 0, 10, 10)]
    table = plan_patches(twice, grid(), LabelRule()).table
    assert table.regions_of(0) == ["1", "2"]
    assert table.shares_of(0) == {"A": 1.0}


def test_overlap_of_equal_shapes_does_not_depend_on_their_first_point():
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = 40 + 9 * np.sin(5 * angle)
    ring = np.column_stack([50 + reach * np.cos(angle), 50 + reach * np.sin(angle)]).round(2)
    shape = shapely.Polygon(ring)
    turned = [shapely.Polygon(np.roll(ring, k, axis=0)) for k in range(1, 40)]
    # Their areas differ in the last bit, which must not decide who is on top.
    smaller = [other for other in turned if other.area < shape.area]
    assert smaller
    for other in smaller[:5]:
        both = [annotation("1", shape, "B"), annotation("2", other, "A")]
        assert set(plan_patches(both, grid(), LabelRule()).table.label_counts()) == {"A"}


def test_overlap_order_uses_the_area_inside_the_image():
    """A large annotation of which little is inside is on top of a smaller one."""
    sliver, patch = box("1", "A", -5000, 0, 10, 10), box("2", "B", 0, 0, 20, 20)
    assert plan_patches([sliver, patch], grid(), LabelRule()).table.label_of(0) == "A"


def test_overlap_priority_uses_labels_in_their_order():
    shapes = [box("1", "A", 0, 0, 10, 10), box("2", "B", 0, 0, 10, 10), box("3", "C", 0, 0, 10, 10)]
    for order, winner in ((("B",), "B"), (("C", "A"), "C"), (("nothing",), "A")):
        rule = LabelRule(overlap="priority", priority=order)
        assert plan_patches(shapes, grid(), rule).table.label_of(0) == winner


def test_rules_after_map_use_labels():
    """Two classes of one label do not compete, and count once where they overlap."""
    rule = LabelRule(rename={"A": "X", "B": "X"})
    shapes = [box("1", "A", 0, 0, 8, 10), box("2", "B", 2, 0, 10, 10)]
    table = plan_patches(shapes, grid(), rule).table
    assert table.shares_of(0) == {"X": 1.0}
    assert dict(zip(table.regions_of(0), table.regions.row_values(0), strict=True)) == {
        "1": 0.8,
        "2": 0.8,
    }


# --- centre ---


def test_centre_rule_takes_the_topmost_annotation():
    shapes = [box("1", "Tumor", 0, 0, 100, 100), box("2", "Necrosis", 4, 4, 7, 7)]
    table = plan_patches(shapes, grid(), LabelRule(rule="centre")).table
    assert table.label_of(0) == "Necrosis"
    assert table.label_share[0] == 0.09
    assert table.margin[0] == pytest.approx(0.09 - 0.91)
    assert set(table.label_counts()) == {"Tumor", "Necrosis"}
    rule = LabelRule(rule="centre", overlap="priority", priority=("Tumor",))
    assert plan_patches(shapes, grid(), rule).table.label_of(0) == "Tumor"
    rule = LabelRule(rule="centre", overlap="independent")
    assert plan_patches(shapes, grid(), rule).table.label_of(0) == "Necrosis"
    rule = replace(rule, priority=("Tumor",))
    assert plan_patches(shapes, grid(), rule).table.label_of(0) == "Tumor"


def test_centre_on_a_shared_border_has_one_owner():
    """Columns of regions whose borders all run through centres of boxes."""
    shapes = [box(str(k), "AB"[k % 2], 10 * k - 5, 0, 10 * k + 5, 100) for k in range(11)]
    table = plan_patches(shapes, grid(), LabelRule(rule="centre")).table
    assert len(table) == 100
    assert [table.label_of(k) for k in range(10)] == ["B", "A"] * 5


def exactly_inside(x, y, corners):
    """Whether a point is in a polygon, in fractions; on an edge by the side towards +x, then +y.

    A point moved by less than any distance decides the same: (ε, ε²).
    """
    crossings = 0
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        (ax, ay), (bx, by) = sorted([(ax, ay), (bx, by)], key=lambda point: point[1])
        if ay <= y < by:
            at = ax + Fraction(y - ay) / (by - ay) * (bx - ax)
            crossings += at <= x
    return crossings % 2 == 1


def test_centre_on_an_edge_that_the_image_border_cuts_is_on_its_drawn_side():
    """Only the drawn edge goes through the point; the cut one passes it by an ulp."""
    random_numbers = random.Random(4)
    # The last centres are on the image's border, at 95: not inside.
    a_grid = grid(image=(95, 95), edge="pad")
    on_edge = 0
    for _ in range(300):
        # Steep and flat edges whose rational points are often the centres at 5, 15, 25, ...
        corners = [(random_numbers.randint(-9, 19) * 10 + 5 for _ in "xy") for _ in range(3)]
        corners = [tuple(corner) for corner in corners]
        triangle = shapely.Polygon(corners)
        if not triangle.area or shapely.box(0, 0, 95, 95).covers(triangle):
            continue
        planned = plan_patches([annotation("a", triangle)], a_grid, LabelRule(rule="centre"))
        found = {(x + 5, y + 5) for x, y in planned.table.boxes[:, :2].tolist()}
        centres = [(x, y) for x in range(5, 95, 10) for y in range(5, 95, 10)]
        assert found == {c for c in centres if exactly_inside(*c, corners)}, corners
        on_edge += sum(triangle.boundary.distance(shapely.Point(c)) < 1e-9 for c in centres)
    assert on_edge > 200


def test_centre_in_a_region_that_the_image_border_cuts_in_two():
    """Each part has the place of its own area: one is over the other region, one under it."""
    horseshoe = shapely.Polygon(
        [(-10, 0), (95, 0), (95, 60), (-5, 60), (-5, 65), (15, 65), (15, 75), (-10, 75)]
    )
    field = shapely.box(0, 55, 60, 95)
    planned = plan_patches(
        [annotation("h", horseshoe), annotation("f", field, "Stroma")],
        grid(),
        LabelRule(rule="centre"),
    )
    label = {tuple(b[:2]): planned.table.label_of(k) for k, b in enumerate(planned.table.boxes)}
    assert (label[0, 50], label[0, 60], label[0, 70]) == ("Stroma", "Tumor", "Stroma")
    assert (label[80, 0], label[0, 80]) == ("Tumor", "Stroma")


def test_centre_that_a_cut_moved_out_of_its_region_is_in_the_nearest_part():
    """The region between has the place between both parts: it hides only the near one."""
    near, far, between = (
        shapely.box(*b) for b in ((0, 0, 14, 90), (60, 0, 70, 30), (0, 0, 40, 20))
    )
    plane, drawn = Plane(0, 0), shapely.union(shapely.box(-5, 0, 16, 90), far)
    a = ActiveRegion("a", Role("label", "A"), plane, drawn, shapely.union(near, far), 1560.0)
    b = ActiveRegion("b", Role("label", "B"), plane, between, between, 800.0)
    a_stack = stack_polygons([a, b], LabelRule(), ["A", "B"])
    assert [polygon.area for polygon in a_stack.polygons] == [1260, 800, 300]
    owners = labels_at_centres(a_stack, np.array([0, 1, 0]), [a, b], grid(), topmost=True)
    assert owners.row(1).tolist() == [1]
    everywhere = labels_at_centres(a_stack, np.array([0, 1, 0]), [a, b], grid(), topmost=False)
    assert everywhere.row(1).tolist() == [0, 1]


def test_copies_of_a_region_cost_as_much_as_one():
    """2,000 copies in each class: two million pairs of each class are never compared."""
    copies = [box(f"{name}{k:04}", name, 5, 0, 35, 30) for name in "AB" for k in range(2000)]
    planned = plan_patches(copies, grid(), LabelRule())
    assert planned.by_label == {"A": 12}
    assert planned.table.regions_of(0) == [f"A{k:04}" for k in range(2000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "MAX_COMPARED", overlap.LEAST_POINTS)
        assert plan_patches(copies, grid(), LabelRule()).by_label == {"A": 12}


def test_regions_that_are_too_many_to_compare_are_refused_with_their_number(monkeypatch):
    near = [box(f"{k:04}", "A", 0, 0, 50 + k / 100, 50 + k / 100) for k in range(100)]
    monkeypatch.setattr(overlap, "MAX_COMPARED", 4949 * overlap.LEAST_POINTS)
    with pytest.raises(PlanError, match="lie over one another in 4,950 pairs or more"):
        plan_patches(near, grid(), LabelRule())
    monkeypatch.setattr(overlap, "MAX_COMPARED", 4950 * overlap.LEAST_POINTS)
    assert len(plan_patches(near, grid(), LabelRule()).table) == 25


def test_regions_that_cross_too_often_are_refused_with_their_number(monkeypatch):
    bars = [box(f"{k}", "A", 0, 10 * k, 99, 10 * k + 5) for k in range(9)]
    bars += [box(f"{k}", "B", 10 * k, 0, 10 * k + 5, 99) for k in range(9)]
    monkeypatch.setattr(overlap, "MAX_CROSSED", 80 * overlap.LEAST_POINTS)
    with pytest.raises(PlanError, match="cross one another in 81 pairs or more"):
        plan_patches(bars, grid(), LabelRule())
    monkeypatch.setattr(overlap, "MAX_CROSSED", 81 * overlap.LEAST_POINTS)
    assert plan_patches(bars, grid(), LabelRule()).report.used == 18


def test_regions_of_patches_that_are_too_many_are_refused_with_their_number(monkeypatch):
    copies = [box(f"{k}", "A", 0, 0, 30, 30) for k in range(10)]
    monkeypatch.setattr(stack, "MAX_CONTRIBUTIONS", 89)
    with pytest.raises(PlanError, match="lie in the boxes of the grid 90 times"):
        plan_patches(copies, grid(), LabelRule())
    monkeypatch.setattr(stack, "MAX_CONTRIBUTIONS", 90)
    assert len(plan_patches(copies, grid(), LabelRule()).table) == 9


def test_centre_in_half_pixels():
    table = plan_patches(
        [box("1", "A", 2.5, 2.5, 9, 9)], grid(5, (10, 10)), LabelRule(rule="centre")
    ).table
    assert table.boxes[:, :2].tolist() == [[0, 0], [5, 0], [0, 5], [5, 5]]


# --- reasons ---


def test_dropped_patches_count_for_their_first_reason():
    """One box for each reason, and each of those would also fail all later ones."""
    shapes = [
        box("1", "Ignore*", 10, 0, 20, 10),
        box("2", "Region*", 30, 0, 100, 10),
        box("3", "Tumor", 90, 0, 100, 10),
    ]
    asked = []

    def tissue(boxes):
        asked.append(boxes.tolist())
        return np.where(boxes[:, 0] < 60, 0.1, 0.9)

    rule = LabelRule(within=("Region*",), min_tissue=0.5)
    planned = plan_patches(shapes, grid(10, (104, 10)), rule, tissue=tissue)
    assert planned.dropped == {
        Reason.REJECTED: 0,
        Reason.EDGE: 1,  # x = 100
        Reason.EXCLUDED: 1,  # x = 10
        Reason.OUTSIDE: 2,  # x = 0, 20
        Reason.NO_TISSUE: 3,  # x = 30, 40, 50
        Reason.AMBIGUOUS: 0,
        Reason.NO_LABEL: 3,  # x = 60, 70, 80
        Reason.NOT_SAMPLED: 0,
        Reason.QUALITY: 0,
    }
    assert list(planned.dropped) == list(Reason)
    table = planned.table
    assert table.boxes.tolist() == [[90, 0, 10, 10]]
    assert (table.within_share[0], table.excluded_share[0], table.tissue_share[0]) == (1, 0, 0.9)
    # Nobody looks for tissue where a box is dropped anyway.
    assert [[b[0] for b in boxes] for boxes in asked] == [[30, 40, 50, 60, 70, 80, 90]]
    assert planned.by_label == {"Tumor": 1}


def test_plan_limits_have_a_tolerance_of_epsilon():
    shapes = [
        box("1", "Tumor", 0, 0, 10, 10),
        box("2", "Ignore*", 0, 0, 3, 10),
        box("3", "Region*", 0, 0, 10, 7),
    ]

    def kept(**limits):
        rule = LabelRule(within=("Region*",), **limits)
        tissue = lambda boxes: np.full(len(boxes), 0.6)  # noqa: E731
        return len(plan_patches(shapes, grid(10, (10, 10)), rule, tissue=tissue).table)

    limits = {"max_excluded_share": 0.3, "min_within": 0.7, "min_tissue": 0.6}
    assert kept(**limits) == 1
    for name, sign in (("max_excluded_share", -1), ("min_within", 1), ("min_tissue", 1)):
        assert kept(**{**limits, name: limits[name] + sign * 0.5e-9}) == 1
        assert kept(**{**limits, name: limits[name] + sign * 2e-9}) == 0


def test_tissue_share_nan_counts_as_no_tissue():
    planned = plan_patches(
        [box("1", "A", 0, 0, 10, 10)],
        grid(10, (10, 10)),
        LabelRule(min_tissue=0.0),
        tissue=lambda boxes: np.full(len(boxes), np.nan),
    )
    assert dropped(planned) == {"no_tissue": 1}


def test_tissue_share_without_a_limit_is_only_recorded():
    planned = plan_patches(
        [box("1", "A", 0, 0, 10, 10)],
        grid(10, (10, 10)),
        LabelRule(),
        tissue=lambda boxes: np.full(len(boxes), 0.01),
    )
    assert planned.table.tissue_share.tolist() == [0.01]


def test_plan_columns_are_null_if_not_requested():
    table = plan_patches([box("1", "A", 0, 0, 10, 10)], grid(), LabelRule()).table
    assert np.isnan(table.within_share).all()
    assert np.isnan(table.tissue_share).all()
    assert table.excluded_share.tolist() == [0.0]
    assert table.valid_share.tolist() == [1.0]
    assert table.tma_core.tolist() == [-1]
    assert table.core_of(0) is None


def test_label_shares_are_not_reduced_by_exclusions():
    shapes = [box("1", "A", 0, 0, 10, 10), box("2", "Ignore*", 0, 0, 4, 10)]
    rule = LabelRule(max_excluded_share=0.5)
    table = plan_patches(shapes, grid(), rule).table
    assert table.shares_of(0) == {"A": 1.0}
    assert table.excluded_share[0] == 0.4
    assert table.regions_of(0) == ["1"]


def test_excluded_share_counts_overlapping_exclusions_once():
    shapes = [
        box("1", "A", 0, 0, 10, 10),
        box("2", "Ignore*", 0, 0, 4, 10),
        box("3", "Ignore*", 2, 0, 6, 10),
        box("4", "Fold", 3, 0, 5, 10),
    ]
    rule = LabelRule(max_excluded_share=0.6, exclude=("Fold",))
    assert plan_patches(shapes, grid(), rule).table.excluded_share.tolist() == [0.6]


def test_within_any_is_the_union_of_all_areas():
    shapes = [
        box("1", None, 0, 0, 10, 10),
        box("2", "Ignore*", 10, 0, 20, 10),
        box("3", "Region*", 20, 0, 30, 10),
        box("4", "Else*", 30, 0, 40, 10),
        box("5", "A", 40, 0, 50, 10),
        annotation("6", shapely.Point(55, 5), "A"),
    ]
    rule = LabelRule(within_any=True, background="Rest", max_excluded_share=1.0)
    planned = plan_patches(shapes, grid(10, (60, 10)), rule)
    assert planned.table.within_share.tolist() == [1.0] * 5
    assert dropped(planned) == {"outside": 1}
    assert planned.by_label == {"Rest": 4, "A": 1}


def test_min_within_0_keeps_all_patches():
    rule = LabelRule(within=("Region*",), min_within=0.0, background="Rest")
    planned = plan_patches([], grid(), rule)
    assert planned.table.within_share.tolist() == [0.0] * 100


# --- no labels, background ---


def test_plan_without_labels_keeps_every_patch_that_passes():
    shapes = [box("1", "A", 0, 0, 10, 10), box("2", "Ignore*", 10, 0, 20, 10)]
    planned = plan_patches(shapes, grid(10, (40, 10)), LabelRule(labels=False, background="B"))
    table = planned.table
    assert len(table) == 3
    assert dropped(planned) == {"excluded": 1}
    assert table.label_counts() == {}
    assert [table.label_of(k) for k in range(3)] == [None] * 3
    assert [table.label_source_of(k) for k in range(3)] == [None] * 3
    assert np.isnan(table.label_share).all()
    assert np.isnan(table.margin).all()
    assert table.shares_of(0) == {}
    assert table.regions_of(0) == []
    assert (table.label_names, table.region_names) == ((), ())


def test_background_label_in_a_plan():
    shapes = [box("1", "A", 0, 0, 12, 10)]
    table = plan_patches(shapes, grid(10, (30, 10)), LabelRule(background="Rest")).table
    assert [r["label"] for r in rows(table)] == ["A", "Rest", "Rest"]
    assert [table.label_source_of(k) for k in range(3)] == ["rule", "background", "background"]
    assert table.shares_of(1) == {"A": 0.2}
    assert table.regions_of(1) == ["1"]
    assert np.isnan(table.label_share[1:]).all()
    rule = LabelRule(rule="any", background="Rest")
    table = plan_patches(shapes, grid(10, (30, 10)), rule).table
    assert [r["label"] for r in rows(table)] == [["A"], ["A"], ["Rest"]]


# --- planes ---


def test_planes_of_a_plan():
    shapes = [
        box("1", "A", 0, 0, 10, 10),
        box("2", "B", 0, 0, 10, 10, plane=(1, 0)),
        box("3", "C", 10, 0, 20, 10, plane=(0, 2)),
        box("4", "D", 0, 0, 20, 10, plane=(9, 9)),
    ]
    planes = [Plane(1, 0), Plane(0, 2), Plane(0, 0), Plane(1, 0)]
    planned = plan_patches(shapes, grid(10, (25, 10)), LabelRule(), planes=planes)
    table = planned.table
    assert [(r["plane"], r["place"], r["label"]) for r in rows(table)] == [
        ((0, 0), (0, 0), "A"),
        ((0, 2), (1, 0), "C"),
        ((1, 0), (0, 0), "B"),
    ]
    assert dropped(planned) == {"edge": 3, "no_label": 3}
    assert planned.report.skipped == {"other plane": 1}
    assert planned.report.used == 3
    assert table.label_names == ("A", "B", "C")


def test_all_planes_option():
    shapes = [box("1", "A", 0, 0, 10, 10, plane=(7, 7)), box("2", "B", 10, 0, 20, 10)]
    calls = []
    planned = plan_patches(
        shapes,
        grid(10, (20, 10)),
        LabelRule(all_planes=True),
        planes=[Plane(0, 0), Plane(1, 0)],
        tissue=lambda boxes: calls.append(1) or np.ones(len(boxes)),
    )
    assert [(r["plane"], r["label"]) for r in rows(planned.table)] == [
        ((0, 0), "A"),
        ((0, 0), "B"),
        ((1, 0), "A"),
        ((1, 0), "B"),
    ]
    assert planned.report.skipped == {}


def test_plan_rows_are_sorted_by_plane_row_and_column():
    everywhere = [box(str(z), "A", 0, 0, 40, 40, plane=(z, t)) for z in (0, 1) for t in (0, 1)]
    planes = [Plane(z, t) for z in (1, 0) for t in (1, 0)]
    table = plan_patches(everywhere, grid(10, (40, 40), origin_x=20, origin_y=20), LabelRule(),
                         planes=planes).table  # fmt: skip
    order = list(zip(table.z, table.t, table.row, table.col, strict=True))
    assert order == sorted(order)
    assert len(order) == 64
    assert (table.col.min(), table.row.min()) == (-2, -2)
    assert (table.boxes[:, 0] == 20 + 10 * table.col).all()
    assert (table.boxes[:, 1] == 20 + 10 * table.row).all()


# --- report ---


def test_plan_report_counts_every_annotation():
    shapes = [
        box("01", "A", 0, 0, 10, 10),
        box("02", "Ignore*", 50, 0, 60, 10),
        box("03", "Region*", 0, 0, 10, 10),
        box("04", "Else*", 0, 0, 10, 10),
        box("05", "Else*", 0, 0, 10, 10),
        box("06", None, 0, 0, 10, 10),
        box("07", "A", 500, 0, 510, 10),
        box("08", "A", 0, 0, 10, 10, plane=(3, 0)),
        annotation("09", shapely.Point(1, 1)),
        annotation("10", shapely.MultiPoint([(1, 1), (2, 2)])),
        annotation("11", shapely.LineString([(1, 1), (2, 2)])),
        annotation("12", shapely.Polygon()),
        annotation("13", None),
        annotation("14", shapely.Polygon([(0, 0), (5, 5), (9, 9)])),
    ]
    report = plan_patches(shapes, grid(), LabelRule()).report
    assert report.used == 2
    assert report.skipped == {
        "context": 1,
        "empty": 3,
        "ignored: Else*": 2,
        "lines": 1,
        "other plane": 1,
        "outside image": 1,
        "points": 2,
        "unclassified": 1,
    }
    assert report.used + sum(report.skipped.values()) == len(shapes)
    assert [r.annotation_id for r in report.repairs] == ["14"]
    assert report.as_dict()["skipped"] == report.skipped


def test_plan_report_has_areas_before_and_after_repair():
    bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    fold = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    shapes = [
        annotation("b", bow_tie),
        annotation("a", fold, "Ignore*"),
        annotation("c", fold, "Else*"),
        box("d", "A", 0, 0, 9, 9),
    ]
    planned = plan_patches(shapes, grid(), LabelRule())
    first, second = planned.report.repairs
    assert (first.annotation_id, second.annotation_id) == ("a", "b")
    assert (first.area_before, first.area_after, first.change) == (5000.0, 5000.0, 0.0)
    assert planned.report.as_dict()["repairs"][0] == {
        "annotation": "a",
        "area_before": 5000.0,
        "area_after": 5000.0,
    }


def test_polygon_that_cannot_be_repaired_is_named():
    with np.errstate(invalid="ignore"):
        broken = shapely.Polygon([(0, 0), (np.inf, 0), (5, 5)])
    with pytest.raises(PlanError, match="Annotation the-one: .*not a number, or farther") as error:
        plan_patches([annotation("the-one", broken)], grid(), LabelRule())
    assert isinstance(error.value.__cause__, GeometryError)
    assert error.value.hint


def test_regions_that_cannot_be_separated_are_a_plan_error(monkeypatch):
    def lose(*_, **__):
        return shapely.Polygon()

    monkeypatch.setattr("qupath_bridge.geometry.validity.shapely.difference", lose)
    crossing = [box("1", "A", 0, 0, 10, 10), box("2", "B", 5, 5, 15, 14)]
    with pytest.raises(PlanError, match="cannot be separated") as error:
        plan_patches(crossing, grid(), LabelRule())
    assert "redraw" in error.value.hint


def test_unclassified_regions():
    shapes = [box("1", None, 0, 0, 10, 10), annotation("2", shapely.Point(5, 5), None)]
    assert plan_patches(shapes, grid(), LabelRule()).report.skipped["unclassified"] == 1
    with pytest.raises(PlanError, match=r"1 region\(s\) have no class, the first is 1"):
        plan_patches(shapes, grid(), LabelRule(unclassified="error"))
    # also where they would count for `within`, and not where there are only points
    with pytest.raises(PlanError):
        plan_patches(shapes, grid(), LabelRule(unclassified="error", within_any=True))
    assert len(plan_patches(shapes[1:], grid(), LabelRule(unclassified="error")).table) == 0
    rule = LabelRule(unclassified="as", unclassified_as="Unknown")
    assert plan_patches(shapes, grid(), rule).by_label == {"Unknown": 1}


def test_geos_failure_is_a_plan_error(monkeypatch):
    def fail(*_, **__):
        raise shapely.errors.GEOSException("TopologyException: side location conflict")

    monkeypatch.setattr("qupath_bridge.geometry.validity.shapely.difference", fail)
    crossing = [box("1", "A", 0, 0, 10, 10), box("2", "B", 5, 5, 15, 14)]
    with pytest.raises(PlanError, match="TopologyException"):
        plan_patches(crossing, grid(), LabelRule())


# --- tissue microarrays ---


def test_tma_cores_of_a_plan():
    cores = [
        core("A-1", 0, 0, 30, 30, core_id="x"),
        core("A-2", 30, 0, 60, 30, missing=True, core_id="y"),
        core(None, 60, 0, 75, 30, core_id="unnamed"),
        PathObject("z", ObjectType.TMA_CORE, name="A-4"),
    ]
    everywhere = [box("1", "A", 0, 0, 100, 30)]
    a_grid = grid(10, (100, 30))
    planned = plan_patches(everywhere, a_grid, LabelRule(), tma_cores=cores)
    table = planned.table
    assert dropped(planned) == {"outside": 9}
    names = Counter(table.core_of(k) for k in range(len(table)))
    # The centre at x = 75 is on the right border of the core: it is not in it.
    assert names == {"A-1": 9, "unnamed": 3, None: 9}
    assert table.core_names == ("A-1", "A-2", "unnamed")
    again = plan_patches(everywhere, a_grid, LabelRule(), tma_cores=cores[::-1])
    same_bytes(table, again.table)


def test_tma_core_of_a_box_in_two_cores_is_the_first_by_name():
    cores = [core("B", 0, 0, 20, 20), core("A", 0, 0, 10, 20)]
    table = plan_patches([box("1", "T", 0, 0, 20, 20)], grid(), LabelRule(), tma_cores=cores).table
    assert [table.core_of(k) for k in range(4)] == ["A", "B", "A", "B"]


# --- the table ---


def some_table():
    shapes = [box("i1", "A", 0, 0, 25, 25), box("i2", "B", 20, 0, 60, 30)]
    return plan_patches(shapes, grid(), LabelRule(rule="any")).table


def test_patch_table_take_by_slice_mask_and_numbers():
    table = some_table()
    all_rows = rows(table)
    assert rows(table.take(slice(2, 5))) == all_rows[2:5]
    mask = np.arange(len(table)) % 2 == 0
    assert rows(table.take(mask)) == all_rows[::2]
    assert rows(table.take(np.array([4, 0, 4]))) == [all_rows[4], all_rows[0], all_rows[4]]
    assert rows(table.take(slice(0, 0))) == []
    assert table.take(slice(0, 0)).label_counts() == {}


def test_patch_table_concatenate_inverts_take():
    table = some_table()
    parts = [table.take(slice(0, 3)), table.take(slice(3, 3)), table.take(slice(3, None))]
    same_bytes(PatchTable.concatenate(parts), table)


def test_patch_table_counts_and_ids():
    table = some_table()
    assert table.label_counts() == {"B": 12, "A": 9}
    assert table.patch_id("s", 1) == "s_x10_y0"
    assert table.labels_of(2) == table.label_of(2) == ["A", "B"]
    tied = replace(table, labels=Ragged.of(np.array([0, 1]), np.array([1, 0]), len(table)))
    assert list(tied.label_counts()) == ["A", "B"]


def test_ragged_lists_without_numbers():
    lists = Ragged.of(np.array([0, 2, 2]), np.array([5, 6, 7]), 3)
    assert len(lists) == 3
    assert lists.row(2).tolist() == [6, 7]
    assert lists.amounts.tolist() == [0, 0, 0]
    assert lists.values is None
    assert lists.take(np.array([2, 1])).offsets.tolist() == [0, 2, 2]


def test_plan_of_an_image_without_boxes_or_annotations():
    empty = plan_patches([], grid(10, (5, 5)), LabelRule())
    assert len(empty.table) == 0
    assert dropped(empty) == {"edge": 1}
    assert dropped(plan_patches([], grid(), LabelRule())) == {"no_label": 100}
    some = [box("1", "A", 0, 0, 5, 5)]
    for rule in ("majority", "centre", "any"):
        assert len(plan_patches(some, grid(10, (5, 5)), LabelRule(rule=rule)).table) == 0
