"""Masks hold the contract of labels: checked by the worked cases, and alone."""

import numpy as np
import pytest
import shapely

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.model import FIRST_PLANE, Box, ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.patches import masks as masks_module
from qupath_bridge.patches.instances import active_instances, class_of, instance_objects
from qupath_bridge.patches.mask_classes import (
    MaskClass,
    classes_json,
    number_classes,
    palette_of,
    read_classes,
)
from qupath_bridge.patches.masks import class_layer, instance_layer, outside_image
from qupath_bridge.patches.regions import select_regions

from .test_label_cases import CASES, annotation

PIXELS = 400
"""Across a box: a border of 4 box sides crosses 1 % of the pixels, of which half are in."""


def drawn(class_path, shape, name, kind=ObjectType.ANNOTATION, plane=FIRST_PLANE, nucleus=None):
    roi, inner = (
        None if geometry is None else Roi(RoiKind.POLYGON, geometry, plane)
        for geometry in (shape, nucleus)
    )
    return PathObject(name, kind, class_path=class_path, roi=roi, nucleus=inner)


def regions_of(annotations, config, plane, image):
    """The regions that act on a plane."""
    rule = config.label_rule()
    regions, _ = select_regions(annotations, rule, [plane], image)
    return [each for each in regions if rule.all_planes or each.plane == plane], rule


def class_pixels(annotations, config, box, plane=FIRST_PLANE, image=(1000, 1000), pixels=PIXELS):
    regions, rule = regions_of(annotations, config, plane, image)
    names = sorted({each.role.label for each in regions if each.role.label})
    values = {name: number for number, name in enumerate(names, 1)}
    layer = class_layer(regions, rule, values, float(box.h))
    return layer.pixels(box, (pixels, pixels)), values


def labelled_boxes():
    """The boxes of the worked cases that become patches with shares, as masks can show them."""
    for case in CASES:
        if case["config"].get("overlap") == "independent":
            continue  # a pixel has one class
        for number, (box, expected) in enumerate(zip(case["boxes"], case["expected"], strict=True)):
            if expected["reason"] is None and expected.get("shares") is not None:
                yield pytest.param(case, box, expected, id=f"{case['name']}-{number}")


@pytest.mark.parametrize("order", [1, -1], ids=["as-drawn", "reversed"])
@pytest.mark.parametrize(("case", "box", "expected"), list(labelled_boxes()))
def test_mask_has_the_shares_of_the_worked_case(case, box, expected, order):
    config = ExportConfig.parse(case["config"])
    annotations = [annotation(record) for record in case["annotations"]][::order]
    found, values = class_pixels(
        annotations, config, Box(*box[:4]), Plane(*box[4:]), tuple(case["image"])
    )
    shares = {name: float((found == value).mean()) for name, value in values.items()}
    wanted = {name: expected["shares"].get(name, 0.0) for name in values}
    assert expected["shares"].keys() <= values.keys()
    excluded = expected.get("excluded_share") or 0.0  # shares are not reduced by it, pixels are
    assert shares == pytest.approx(wanted, abs=0.01 + excluded)
    assert float((found == 255).mean()) == pytest.approx(excluded, abs=0.01)


def test_enough_worked_cases_have_a_mask():
    assert len(list(labelled_boxes())) > 30


def test_excluded_regions_are_ignored_on_top_of_everything():
    tumor, fold = shapely.box(0, 0, 8, 8), shapely.box(4, 0, 6, 9)
    small = shapely.box(4, 2, 5, 3)
    annotations = [
        drawn("Ignore*", fold, "a"), drawn("Tumor", tumor, "b"), drawn("Vessel", small, "c"),
        drawn("Region*", shapely.box(0, 0, 9, 9), "d"), drawn(None, small, "e"),
        drawn("Other*", shapely.box(6, 0, 7, 1), "f"),
    ]  # fmt: skip
    found, values = class_pixels(annotations, ExportConfig(), Box(0, 0, 9, 9), pixels=9)
    assert values == {"Tumor": 1, "Vessel": 2}
    assert found[2].tolist() == [1, 1, 1, 1, 255, 255, 1, 1, 0]
    assert found[0].tolist() == found[2].tolist()
    assert found[8].tolist() == [0, 0, 0, 0, 255, 255, 0, 0, 0]
    named = ExportConfig(exclude=("Vessel",), map={"Ignore*": "Fold"}, unclassified="as=Other")
    found, values = class_pixels(annotations, named, Box(0, 0, 9, 9), pixels=9)
    assert values == {"Fold": 1, "Other": 2, "Tumor": 3}
    assert found[2].tolist() == [3, 3, 3, 3, 255, 1, 3, 3, 0]


def test_pixels_outside_the_image_are_known():
    found = outside_image(Box(-2, 6, 4, 4), (4, 4), (100, 8))
    assert found.tolist() == [[True, True, False, False]] * 2 + [[True] * 4] * 2


def test_values_of_classes_stay_when_new_ones_come():
    first = number_classes({"B": (1, 2, 3), "A": (4, 5, 6)})
    assert first == (MaskClass("A", 1, (4, 5, 6)), MaskClass("B", 2, (1, 2, 3)))
    later = number_classes({"B": (9, 9, 9), "0": (7, 7, 7)}, first)
    assert later == (*first, MaskClass("0", 3, (7, 7, 7)))
    assert read_classes(classes_json(later)) == later
    palette = palette_of(later)
    assert palette[[0, 1, 3, 255]].tolist() == [[0, 0, 0], [4, 5, 6], [7, 7, 7], [255, 255, 255]]


def test_a_mask_has_254_values_for_labels():
    colors = {f"{k:03}": (k, 0, 0) for k in range(254)}
    assert number_classes(colors)[-1].value == 254
    with pytest.raises(UsageError, match="254 labels, and there are 255"):
        number_classes({**colors, "x": (0, 0, 0)})


def instance_pixels(objects, wanted="annotations", box=None, pixels=9, **changes):
    rule = ExportConfig(**changes).label_rule()
    regions = active_instances(objects, wanted, rule, [FIRST_PLANE], (1000, 1000))
    layer = instance_layer(regions, range(1, len(regions) + 1), rule, 9.0)
    found, numbers = layer.instances(box or Box(0, 0, 9, 9), (pixels, pixels))
    return found, [(regions[k - 1].id, class_of(regions[k - 1])) for k in numbers.tolist()]


def test_each_annotation_is_one_object_whatever_parts_it_has():
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(7, 7, 9, 9)])
    objects = [
        drawn("Tumor", parts, "two parts"),
        drawn("Tumor", shapely.box(1, 0, 9, 8), "large"),
        drawn("Stroma", shapely.box(500, 0, 600, 10), "elsewhere"),
        drawn(None, shapely.box(4, 4, 5, 5), "no class"),
    ]
    found, known = instance_pixels(objects)
    assert known == [("large", "Tumor"), ("two parts", "Tumor")]
    assert found.dtype == np.uint16
    assert found[0].tolist() == [2, 2, 1, 1, 1, 1, 1, 1, 1]  # the smaller part is on top
    assert found[8].tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 2]


def test_objects_that_are_not_seen_have_no_number():
    objects = [
        drawn("A", shapely.box(2, 2, 3, 3), "a hidden"),
        drawn("B", shapely.box(2, 2, 4, 4), "b"),
        drawn("A", shapely.box(5.6, 5.6, 5.9, 5.9), "c between centres"),
        drawn("A", shapely.box(6, 6, 9, 9), "d"),
    ]
    found, known = instance_pixels(objects, overlap="priority", priority=("B", "A"))
    assert [name for name, _ in known] == ["b", "d"]
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert found[2, 2] == 1
    assert found[7, 7] == 2


def test_detections_cells_and_nuclei_are_told_apart():
    square = shapely.box
    objects = [
        drawn("Tumor", square(0, 0, 9, 9), "annotation"),
        drawn(None, square(0, 0, 2, 2), "detection", ObjectType.DETECTION),
        drawn("Tumor", square(3, 0, 6, 3), "cell", ObjectType.CELL, nucleus=square(4, 1, 5, 2)),
        drawn(None, square(6, 0, 9, 3), "no nucleus", ObjectType.CELL),
        drawn("Ignore*", square(0, 6, 3, 9), "z", ObjectType.CELL, nucleus=square(1, 7, 2, 8)),
        drawn("Tumor", square(0, 0, 9, 9), "tile", ObjectType.TILE),
    ]

    def seen(wanted):
        found, known = instance_pixels(instance_objects(objects, wanted), wanted)
        return dict(known), np.count_nonzero(found)

    assert seen("annotations") == ({"annotation": "Tumor"}, 81)
    assert seen("detections") == ({"cell": "Tumor", "detection": None, "no nucleus": None}, 22)
    assert seen("cells") == ({"cell": "Tumor", "no nucleus": None}, 18)
    assert seen("nuclei") == ({"cell": "Tumor"}, 1)


def test_more_objects_than_16_bits_are_refused(monkeypatch):
    monkeypatch.setattr(masks_module, "MOST_INSTANCES", 2)
    objects = [drawn("A", shapely.box(3 * k, 0, 3 * k + 2, 2), str(k)) for k in range(3)]
    with pytest.raises(PlanError, match="has 3 objects, and its mask has values for 2"):
        instance_pixels(objects)
