"""Placing the boxes of a slide where its options say: around objects, or from regions' corners."""

from __future__ import annotations

from collections.abc import Sequence

from qupath_bridge.config import ExportConfig
from qupath_bridge.model import ImageData, LabelRule, ObjectType, PathObject, PlacementSpec
from qupath_bridge.patches.placed import Placement
from qupath_bridge.patches.placing import place_around, place_listed, place_region_grids
from qupath_bridge.patches.regions import select_regions
from qupath_bridge.patches.unclassified import use_names

from .scale import SlideScale

__all__ = ["place_boxes", "placed_classes", "placement_notes"]


def place_boxes(
    data: ImageData,
    annotations: Sequence[PathObject],
    config: ExportConfig,
    rule: LabelRule,
    scale: SlideScale,
) -> Placement | None:
    """Return the boxes of a slide; None if they are those of one grid.

    Parameters
    ----------
    data : ImageData
        With detections, if the options ask for them.
    annotations : sequence of PathObject
        Those of ``data``, with names as classes where the options say so.

    Raises
    ------
    PlanError
        If a picture would be too large, objects without a class are an error, or listed boxes are
        outside the image.
    """
    spec, grid = config.placement(), scale.grid
    planes = sorted(set(config.grid_spec().planes))
    if scale.listed is not None:
        return place_listed(scale.listed, grid, planes)
    snap = grid.box_width // config.size if scale.native else 1
    if spec.kind == "grid":
        return None
    if spec.kind == "objects":
        objects = [*annotations, *use_names(_detections(data), rule)]
        return place_around(objects, grid, spec, rule, planes, snap=snap)
    regions, _ = select_regions(annotations, rule, planes, (grid.width, grid.height))
    labelling = [region for region in regions if region.role.kind == "label"]
    return place_region_grids(labelling, grid, planes, everywhere=rule.all_planes, snap=snap)


def placed_classes(data: ImageData, config: ExportConfig) -> frozenset[str]:
    """Return the classes of detections around which patches can be made; none if none were read."""
    objects = use_names(_detections(data), config.label_rule())
    return frozenset(each.class_path for each in objects if each.class_path)


def _detections(data: ImageData) -> list[PathObject]:
    wanted = (ObjectType.DETECTION, ObjectType.CELL)
    return [each for each in data.objects if each.object_type in wanted]


def placement_notes(placement: Placement | None, spec: PlacementSpec) -> tuple[str, ...]:
    """Return what became of objects that have no patch, in words."""
    if placement is None:
        return ()
    if spec.kind == "objects" and not sum(placement.counts.values()):
        return (f"There are no {' and no '.join(spec.around)} that could have patches.",)
    left = {cause: number for cause, number in placement.counts.items() if cause != "used"}
    if not left:
        return ()
    listed = ", ".join(f"{number} {cause}" for cause, number in left.items())
    return (f"Objects without a patch: {listed}.",)
