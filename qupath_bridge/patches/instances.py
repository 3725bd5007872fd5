"""Objects that masks of single objects show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from qupath_bridge.model import LabelRule, ObjectType, PathObject, Plane

from .regions import ActiveRegion, select_regions

__all__ = ["active_instances", "class_of", "instance_objects"]

_TYPES = {
    "annotations": {ObjectType.ANNOTATION},
    "detections": {ObjectType.DETECTION, ObjectType.CELL},
    "cells": {ObjectType.CELL},
    "nuclei": {ObjectType.CELL},
}


def instance_objects(objects: Iterable[PathObject], wanted: str) -> tuple[PathObject, ...]:
    """Return the objects of a slide that the option ``instances`` names.

    Cells are detections, too; tiles are not, whoever made them. Of ``nuclei``, each is the cell
    with the nucleus as its shape; a cell without one is left out.
    """
    chosen = [each for each in objects if each.object_type in _TYPES[wanted]]
    if wanted == "nuclei":
        return tuple(replace(each, roi=each.nucleus) for each in chosen if each.nucleus)
    return tuple(chosen)


def active_instances(
    objects: Sequence[PathObject],
    wanted: str,
    rule: LabelRule,
    planes: Sequence[Plane],
    image_size: tuple[int, int],
) -> tuple[ActiveRegion, ...]:
    """Return the objects that masks show, repaired and clipped to the image, sorted by id.

    Annotations are those that label. Detections need no class; those of a class that is
    excluded, or that ends in ``*``, are left out. The smaller of two that overlap is on top.
    """
    if wanted != "annotations":
        rule = replace(rule, unclassified="as", unclassified_as=_NO_CLASS, overlap="innermost")
    regions, _ = select_regions(objects, rule, planes, image_size)
    return tuple(region for region in regions if region.role.kind == "label")


def class_of(region: ActiveRegion) -> str | None:
    """Return the label of an object, None without a class."""
    return region.role.label or None


_NO_CLASS = ""
"""Stands for the class of a detection that has none; no class is called so."""
