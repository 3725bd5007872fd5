"""Objects around which patches are made: which they are, and their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import shapely
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import PlanError
from qupath_bridge.model import LabelRule, ObjectType, PathObject, PlacementSpec, Plane, Roi

from .roles import is_child, role_of

__all__ = ["Anchor", "select_objects"]


class Anchor(NamedTuple):
    """An object around which a patch is made, or a point of one.

    ``label`` is that of its class; None if objects do not label.
    """

    id: str
    label: str | None
    plane: Plane
    geometry: BaseGeometry
    class_path: str | None = None


def select_objects(
    objects: Sequence[PathObject],
    spec: PlacementSpec,
    rule: LabelRule,
    planes: Sequence[Plane],
    image_size: tuple[int, int],
) -> tuple[list[Anchor], Counter[str]]:
    """Select the objects around which patches are made.

    Tiles and TMA cores never count. Where objects label, those whose class does not are left out.

    Returns
    -------
    list of Anchor
        Sorted by id.
    Counter of str
        Number of objects by what became of them: ``used``, ``empty``, ``lines``, ``other plane``,
        ``outside image``, ``unclassified``, ``excluded``, ``context``, ``ignored: <class>``.

    Raises
    ------
    PlanError
        If there are objects without a class and ``rule.unclassified`` is ``error``.
    """
    wanted = _Wanted(spec, rule)
    counts: Counter[str] = Counter()
    anchors: list[Anchor] = []
    nameless: list[str] = []
    for each in objects:
        if not wanted.has(each):
            continue
        label, cause = wanted.label(each.class_path)
        if cause == "unclassified":
            nameless.append(each.id)
        cause = _roi_cause(each.roi, rule, planes) or cause
        if cause or each.roi is None:
            counts[cause or "empty"] += 1
            continue
        parts = _parts_inside(each.roi, image_size)
        counts["used" if parts else "outside image"] += 1
        anchors += [Anchor(each.id, label, each.roi.plane, part, each.class_path) for part in parts]
    if nameless and rule.labels and rule.unclassified == "error":
        raise PlanError(
            f"{len(nameless)} object(s) have no class, the first is {min(nameless)}.",
            hint="Give them a class in QuPath, or set unclassified to skip, name or as=LABEL.",
        )
    return sorted(anchors, key=lambda one: (one.id, one.plane, one.label or "")), counts


class _Wanted:
    """The objects that a specification names, and the label of each class."""

    def __init__(self, spec: PlacementSpec, rule: LabelRule) -> None:
        self._classes: dict[str, set[str | None]] = {}
        for name in spec.around:
            kind, _, path = name.partition(":")
            self._classes.setdefault(kind, set()).add(path.strip() or None)
        self._rule = rule
        self._known: dict[str | None, tuple[str | None, str | None]] = {}

    def has(self, each: PathObject) -> bool:
        """Return whether the specification names an object."""
        return any(
            None in classes
            or each.class_path in classes
            or any(path and is_child(each.class_path or "", path) for path in classes)
            for kind in _kinds(each)
            if (classes := self._classes.get(kind))
        )

    def label(self, path: str | None) -> tuple[str | None, str | None]:
        """Return the label of a class, and why objects of it have no patch."""
        if not self._rule.labels or self._rule.slide_label is not None:
            return None, None
        if path not in self._known:
            role = role_of(path, self._rule)
            named = f"ignored: {path}" if role.kind == "ignored" else role.kind
            self._known[path] = (role.label, None if role.kind == "label" else named)
        return self._known[path]


def _kinds(each: PathObject) -> tuple[str, ...]:
    """Return the kinds of an object; none for tiles and TMA cores."""
    if each.object_type is ObjectType.CELL:
        return ("cells", "detections")
    if each.object_type is ObjectType.DETECTION:
        return ("detections",)
    if each.object_type is not ObjectType.ANNOTATION:
        return ()
    points = each.roi is not None and each.roi.geometry.geom_type.endswith("Point")
    return ("points",) if points else ("annotations",)


def _roi_cause(roi: Roi | None, rule: LabelRule, planes: Sequence[Plane]) -> str | None:
    """Return why there is no patch around a ROI; None if there is one."""
    if roi is None or roi.geometry.is_empty:
        return "empty"
    if not (roi.has_area or roi.geometry.geom_type.endswith("Point")):
        return "lines"
    return None if rule.all_planes or roi.plane in planes else "other plane"


def _parts_inside(roi: Roi, size: tuple[int, int]) -> list[BaseGeometry]:
    """Return the points of a ROI of points, or its shape, if they meet the image."""
    geometry = roi.geometry
    if not roi.has_area:
        return [
            point
            for point in shapely.get_parts(geometry)
            if 0 <= point.x < size[0] and 0 <= point.y < size[1]
        ]
    left, top, right, bottom = geometry.bounds
    meets = left < size[0] and top < size[1] and right > 0 and bottom > 0
    return [geometry] if meets else []
