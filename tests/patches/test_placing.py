"""Boxes around objects and from the corners of regions."""

import math
import random

import numpy as np
import pytest
import shapely

from qupath_bridge.errors import PlanError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import (
    Box,
    LabelRule,
    ObjectType,
    PathObject,
    PlacementSpec,
    Plane,
    Reason,
    SampleSpec,
)
from qupath_bridge.patches.correcting import Statement, Statements
from qupath_bridge.patches.grid import Grid, written_sizes
from qupath_bridge.patches.placed import PlacedBoxes, Placement
from qupath_bridge.patches.placing import place_around, place_region_grids
from qupath_bridge.patches.planning import plan_patches
from qupath_bridge.patches.regions import select_regions
from qupath_bridge.patches.sampling import sample_patches
from qupath_bridge.patches.table import Ragged
from qupath_bridge.qupath.rois import make_roi

FIRST = (Plane(0, 0),)


def thing(name, kind, class_path, shape, plane=(0, 0)):
    geometry = shapely.from_wkt(shape) if isinstance(shape, str) else shape
    return PathObject(name, kind, class_path, roi=make_roi(geometry, plane=Plane(*plane)))


def cell(name, class_path, x, y, radius=3, kind=ObjectType.CELL, plane=(0, 0)):
    shape = shapely.box(x - radius, y - radius, x + radius, y + radius)
    return thing(name, kind, class_path, shape, plane)


def drawn(name, class_path, *limits, plane=(0, 0)):
    return thing(name, ObjectType.ANNOTATION, class_path, shapely.box(*limits), plane)


def grid(size=10, image=(100, 80), written=None, **more):
    return Grid(size, size, size, size, *image, size=written or size, **more)


def around(objects, *names, a_grid=None, rule=None, margin=None, planes=FIRST, **more):
    spec = PlacementSpec("objects", names, margin)
    return place_around(objects, a_grid or grid(), spec, rule or LabelRule(), planes, **more)


def plan(placement, annotations=(), rule=None, planes=FIRST, **more):
    return plan_patches(annotations, placement, rule or LabelRule(), planes=planes, **more)


def rows(planned):
    table = planned.table
    names = [[table.object_names[code] for code in codes] for codes in table.objects.lists()]
    return [(*table.boxes[k].tolist(), table.label_of(k), names[k]) for k in range(len(table))]


def dropped(planned):
    return {str(reason): n for reason, n in planned.dropped.items() if n}


# --- which objects, and where ---


def test_each_point_has_a_box_around_it():
    points = thing(
        "p", ObjectType.ANNOTATION, "Mitosis", "MULTIPOINT ((50 40), (20.5 30.25), (4 70))"
    )
    other = thing("q", ObjectType.ANNOTATION, "Other", "POINT (90 6)")
    found = plan(around([points, other], "points"))
    assert rows(found) == [
        (85, 1, 10, 10, "Other", ["q"]),
        (16, 25, 10, 10, "Mitosis", ["p"]),  # 15.5 and 25.25, halves up
        (45, 35, 10, 10, "Mitosis", ["p"]),
    ]
    assert dropped(found) == {"edge": 1}
    padded = plan(around([points, other], "points", a_grid=grid(edge="pad")))
    assert (-1, 65, 10, 10, "Mitosis", ["p"]) in rows(padded)
    assert padded.table.valid_share.min() == 0.9
    assert {padded.table.label_source_of(k) for k in range(4)} == {"object"}


OBJECTS = [
    cell("1", "Tumor", 20, 20),
    cell("2", "Tumor: Positive", 40, 20),
    cell("3", None, 60, 20),
    cell("4", "Immune", 20, 50, kind=ObjectType.DETECTION),
    cell("5", "Tumor", 40, 50, kind=ObjectType.TILE),
    cell("6", "Tumor", 60, 50, kind=ObjectType.TMA_CORE),
    cell("7", "Tumor", 80, 50, kind=ObjectType.ANNOTATION),
    thing("8", ObjectType.ANNOTATION, "Tumor", "LINESTRING (10 10, 20 20)"),
    thing("9", ObjectType.ANNOTATION, "Tumor", "POINT (70 70)"),
]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["cells"], "12"),
        (["detections"], "124"),
        (["annotations"], "7"),
        (["points"], "9"),
        (["cells:Tumor"], "1"),
        (["cells:Tumor: *"], "2"),
        (["cells:Tumor: Positive", "points"], "29"),
        (["cells:Immune"], ""),
    ],
)
def test_objects_are_chosen_by_kind_and_class(names, ids):
    found = around(OBJECTS, *names)
    assert "".join(sorted(found.object_names)) == ids
    assert found.counts.get("used", 0) == len(ids)
    assert around(OBJECTS[::-1], *names).digest == found.digest


def test_objects_without_a_patch_are_counted():
    objects = [
        *OBJECTS,
        cell("a", "Ignore*", 30, 30),
        cell("b", "Necrosis*", 30, 30),
        cell("c", "Tumor", 30, 30, plane=(1, 0)),
        cell("d", "Tumor", 300, 30),
    ]
    assert around(objects, "cells", "annotations").counts == {
        "used": 3, "unclassified": 1, "lines": 1, "excluded": 1, "ignored: Necrosis*": 1,
        "other plane": 1, "outside image": 1,
    }  # fmt: skip
    everything = around(objects, "cells", rule=LabelRule(labels=False))
    assert everything.counts == {"used": 5, "other plane": 1, "outside image": 1}
    assert everything.label_names == ()
    assert len(plan(everything, rule=LabelRule(labels=False)).table) == 4  # a and b are one


def test_classes_become_labels_by_the_rule():
    rule = LabelRule(rename={"Tumor: *": "T+"}, unclassified="as", unclassified_as="None")
    found = plan(around(OBJECTS, "cells", rule=rule), rule=rule)
    assert [row[4] for row in rows(found)] == ["Tumor", "T+", "None"]
    rule = LabelRule(rollup=True)
    assert [row[4] for row in rows(plan(around(OBJECTS, "cells", rule=rule), rule=rule))] == [
        "Tumor", "Tumor",
    ]  # fmt: skip
    with pytest.raises(PlanError, match=r"1 object\(s\) have no class, the first is 3"):
        around(OBJECTS, "cells", rule=LabelRule(unclassified="error"))


def test_equal_boxes_are_one_patch_of_all_their_objects():
    objects = [
        cell("b", "Tumor", 20, 20),
        cell("a", "Tumor", 20, 20, radius=4),
        cell("c", "Stroma", 50, 50),
        cell("d", "Tumor", 50.2, 50),
        cell("e", "Tumor: Positive", 70, 20),
        cell("f", "Tumor", 70, 20),
    ]
    found = plan(around(objects, "cells"))
    assert rows(found) == [(15, 15, 10, 10, "Tumor", ["a", "b"])]
    assert dropped(found) == {"ambiguous": 2}
    rule = LabelRule(rollup=True)  # then the classes of e and f are one label
    assert rows(plan(around(objects, "cells", rule=rule), rule=rule))[1] == (
        65, 15, 10, 10, "Tumor", ["e", "f"],
    )  # fmt: skip


def test_a_correction_settles_what_is_ambiguous():
    objects = [cell("a", "Tumor", 20, 20), cell("b", "Stroma", 20, 20), cell("c", "Tumor", 50, 50)]
    said = Statements(
        (
            Statement("corrected", Box(15, 15, 10, 10), Plane(0, 0), ("Fat",), ()),
            Statement("rejected", Box(45, 45, 10, 10), Plane(0, 0), (), ("Tumor",)),
            Statement("rejected", Box(44, 45, 10, 10), Plane(0, 0), (), ("Tumor",)),
        )
    )
    found = plan(around(objects, "cells"), statements=said)
    assert rows(found) == [(15, 15, 10, 10, "Fat", ["a", "b"])]
    assert found.table.label_source_of(0) == "corrected"
    assert dropped(found) == {"rejected": 1}
    report = found.corrections
    assert (report.corrected, report.rejected, report.other_grid) == (1, 1, 1)


def test_regions_limit_patches_around_objects():
    objects = [cell(str(n), "Tumor", x, 20) for n, x in enumerate((20, 40, 60, 80))]
    regions = [
        drawn("i", "Ignore*", 36, 0, 44, 80),
        drawn("r", "Region*", 0, 0, 60, 80),
        drawn("s", "Stroma", 0, 0, 100, 80),
        drawn("n", None, 0, 0, 100, 80),
    ]
    rule = LabelRule(within=("Region*",), min_within=0.4, unclassified="error")
    found = plan(around(objects, "cells"), regions, rule)
    assert [row[0] for row in rows(found)] == [15, 55]
    assert dropped(found) == {"excluded": 1, "outside": 1}
    assert found.table.within_share.tolist() == [1.0, 0.5]
    assert found.by_label == {"Tumor": 2}
    assert found.table.shares.lengths.tolist() == [0, 0]


def test_objects_of_planes_have_their_own_patches():
    objects = [cell("a", "T", 20, 20), cell("b", "T", 50, 50, plane=(1, 0))]
    planes = [Plane(0, 0), Plane(1, 0)]
    table = plan(around(objects, "cells", planes=planes), planes=planes).table
    assert list(zip(table.z.tolist(), table.boxes[:, 0].tolist(), strict=True)) == [
        (0, 15),
        (1, 45),
    ]
    rule = LabelRule(all_planes=True)
    table = plan(around(objects, "cells", planes=planes, rule=rule), rule=rule, planes=planes).table
    assert table.z.tolist() == [0, 0, 1, 1]


# --- sizes ---


@pytest.mark.parametrize("seed", range(6))
def test_a_box_with_a_margin_holds_the_object_in_whole_pixels(seed):
    """Against the words, one object at a time."""
    chance = random.Random(seed)
    size, written = chance.choice([(256, 256), (512, 256), (307, 256), (100, 30)])
    snap = 2 if size == 512 else 1
    margin, image = chance.choice([0, 1, 5]), (3000, 2000)
    a_grid = Grid(size, size, size, size, *image, size=written, edge="pad")
    unit = size / written
    objects = [
        drawn(
            f"{n:02}", "T", x, y, x + round(chance.uniform(1, 300), 2), y + chance.randint(1, 300)
        )
        for n in range(40)
        for x, y in [(round(chance.uniform(-50, 2950), 2), chance.randint(0, 1990))]
    ]
    found = around(objects, "annotations", a_grid=a_grid, margin=margin, snap=snap)
    assert found.sized
    boxes = found.on(Plane(0, 0))
    sizes = written_sizes(boxes.boxes(), a_grid)
    assert len(boxes) == found.counts["used"] > 30
    by_id = {each.id: each.roi.geometry.bounds for each in objects}
    for row, (box, (width, height)) in enumerate(
        zip(boxes.boxes().tolist(), sizes.tolist(), strict=True)
    ):
        left, top, right, bottom = by_id[found.object_names[boxes.objects.row(row)[0]]]
        limits = ((left, right, image[0]), (top, bottom, image[1]))
        for axis, (low, high, most) in enumerate(limits):
            start, length, count = box[axis], box[axis + 2], (width, height)[axis]
            low, high = max(low, 0), min(high, most)
            assert start % snap == 0
            assert low - margin * unit - snap < start <= low - margin * unit + 1e-6
            assert length == math.floor(count * unit + 0.5)
            end, wanted = start + length, high + margin * unit
            if wanted <= most < wanted + unit:  # it ends at the image's edge
                assert most - unit - 0.5 < end <= most
            else:
                assert wanted - 1e-6 <= end < wanted + unit + 1


def test_a_picture_of_the_whole_image_is_not_cut_at_the_edge():
    a_grid = Grid(300, 300, 300, 300, 1000, 700, size=100)
    found = around([drawn("a", "T", -5, 0, 1200, 700)], "annotations", a_grid=a_grid, margin=0)
    assert found.on(Plane(0, 0)).boxes().tolist() == [[0, 0, 999, 699]]


def test_patches_of_one_place_and_several_sizes_have_ids_of_their_own():
    objects = [drawn("a", "T", 10, 10, 30, 30), drawn("b", "T", 10, 10, 40, 30)]
    table = plan(around(objects, "annotations", margin=0)).table
    assert table.patch_ids_of("1_a", np.arange(2)) == ["1_a_x10_y10_w20_h20", "1_a_x10_y10_w30_h20"]
    assert table.patch_id("1_a", 1) == "1_a_x10_y10_w30_h20"


def test_a_picture_that_is_too_large_is_refused():
    a_grid = Grid(64, 64, 64, 64, 40000, 40000, size=64)
    with pytest.raises(PlanError, match="Object big would be a picture of 20000 x 10 px"):
        around([drawn("big", "T", 0, 0, 20000, 10)], "annotations", a_grid=a_grid, margin=0)


def test_boxes_start_at_the_pixels_of_a_level():
    a_grid = Grid(64, 64, 64, 64, 400, 400, size=16)
    found = around([cell("a", "T", 101, 99)], "cells", a_grid=a_grid, snap=4)
    assert found.on(Plane(0, 0)).boxes().tolist() == [[68, 68, 64, 64]]  # 69 and 67


# --- a grid from the corner of each region ---


RING = "POLYGON ((-9 30, 54 30, 54 90, -9 90, -9 30), (4 40, 30 40, 30 70, 4 70, 4 40))"


def region_grids(annotations, a_grid, rule=None, planes=FIRST):
    rule = rule or LabelRule()
    regions, _ = select_regions(annotations, rule, planes, (a_grid.width, a_grid.height))
    return place_region_grids([r for r in regions if r.role.kind == "label"], a_grid, planes)


SHAPES = [
    drawn("1", "Tumor", 13, 7, 44, 29),
    drawn("2", "Stroma", 30.5, 20, 71, 60),
    thing("3", ObjectType.ANNOTATION, "Tumor", "POLYGON ((60 40, 95 40, 60 75, 60 40))"),
    drawn("4", "Ignore*", 62, 42, 63, 43),
    drawn("5", None, 0, 0, 9, 9),
]


def test_each_region_has_a_grid_from_its_corner():
    """Against one grid for each region, planned as any other."""
    a_grid = grid(8, edge="pad")
    found = plan(region_grids(SHAPES, a_grid), SHAPES)
    expected = {}
    for shape in SHAPES[:3]:
        left, top, _, _ = (math.floor(limit) for limit in shape.roi.geometry.bounds)
        own = grid(8, edge="pad", origin_x=left, origin_y=top)
        table = plan_patches(SHAPES, own, LabelRule()).table
        for k, box in enumerate(table.boxes.tolist()):
            rectangle = shapely.box(box[0], box[1], box[0] + 8, box[1] + 8)
            if shape.roi.geometry.intersection(rectangle).area > 0:
                label, owners = expected.setdefault(tuple(box), (table.label_of(k), []))
                assert label == table.label_of(k)
                owners.append(shape.id)
    assert {row[:4]: row[4:] for row in rows(found)} == expected
    assert len(found.table) == len(expected) > 40
    assert dropped(found)["excluded"] > 0


L_SHAPE = "POLYGON ((0 0, 16 0, 16 8, 8 8, 8 16, 0 16, 0 0))"


def test_a_box_that_a_region_only_touches_is_not_of_its_grid():
    shapes = [
        thing("l", ObjectType.ANNOTATION, "Tumor", L_SHAPE), drawn("s", "Stroma", 8, 8, 16, 16),
    ]  # fmt: skip
    assert rows(plan(region_grids(shapes, grid(8)), shapes)) == [
        (0, 0, 8, 8, "Tumor", ["l"]), (8, 0, 8, 8, "Tumor", ["l"]), (0, 8, 8, 8, "Tumor", ["l"]),
        (8, 8, 8, 8, "Stroma", ["s"]),
    ]  # fmt: skip


def test_a_patch_is_centred_on_the_centroid():
    """Three squares of 8 px: 4 + 12 + 4 by three is 6.67, and half of 10 px less is 1.67."""
    found = around([thing("l", ObjectType.ANNOTATION, "Tumor", L_SHAPE)], "annotations")
    assert found.on(Plane(0, 0)).boxes().tolist() == [[2, 2, 10, 10]]


def test_the_corner_of_a_region_begins_at_a_pixel_of_a_level():
    regions, _ = select_regions(SHAPES[:1], LabelRule(), FIRST, (100, 80))
    found = place_region_grids(regions, grid(8), FIRST, snap=4).on(Plane(0, 0)).boxes()
    assert found[0].tolist() == [12, 4, 8, 8]


@pytest.mark.parametrize("overlap", ["innermost", "independent"])
@pytest.mark.parametrize("kind", ["majority", "centre", "any"])
def test_boxes_anywhere_are_measured_as_those_of_a_grid(kind, overlap):
    rule = LabelRule(rule=kind, overlap=overlap, min_share=0.3, within_any=True, min_within=0.0)
    annotations = [
        *SHAPES,
        thing("6", ObjectType.ANNOTATION, "Fat", RING),
        thing("7", ObjectType.ANNOTATION, "Stroma", "POLYGON ((8 44, 24 36, 40 44, 24 68, 8 44))"),
    ]
    a_grid = Grid(8, 8, 4, 4, 100, 80, edge="pad")
    count = len(a_grid)
    order = np.lexsort((a_grid.boxes()[:, 0], a_grid.boxes()[:, 1]))
    boxes = PlacedBoxes(a_grid.boxes()[order], Ragged.empty(count), Ragged.empty(count), a_grid)
    placement = Placement("regions", a_grid, FrozenDict({Plane(0, 0): boxes}))
    by_grid, anywhere = plan_patches(annotations, a_grid, rule), plan(placement, annotations, rule)
    one, other = by_grid.table, anywhere.table
    assert by_grid.dropped == anywhere.dropped
    assert by_grid.reasons == anywhere.reasons
    for name in ("boxes", "label_source", "valid_share"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("label_share", "margin", "within_share", "excluded_share"):
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-9, equal_nan=True)
    assert one.labels == other.labels
    assert one.shares.codes.tolist() == other.shares.codes.tolist()
    assert np.allclose(one.shares.amounts, other.shares.amounts, atol=1e-9)
    assert [set(r) for r in one.regions.lists()] == [set(r) for r in other.regions.lists()]


def test_a_sample_of_patches_around_objects():
    objects = [cell(f"{n:03}", "AB"[n % 2], 5 + 2 * n, 40) for n in range(40)]
    whole = plan(around(objects, "cells"))
    for method in ("random", "grid"):
        spec = SampleSpec(max_per_label=3, method=method)
        found = sample_patches(whole, spec, step=(10, 10), slide="a")
        assert found.by_label == {"A": 3, "B": 3}
        assert found.dropped[Reason.NOT_SAMPLED] == 34
        assert found.table.objects.lengths.tolist() == [1] * 6
