"""Selection of the annotations that affect a plan, with their roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from qupath_bridge.errors import GeometryError, PlanError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.geometry.edges import GeometryArray, as_array
from qupath_bridge.geometry.validity import Polygonal, area_change, clip, repair
from qupath_bridge.model import LabelRule, PathObject, Plane, Roi

from .roles import Role, role_of

__all__ = ["ActiveRegion", "PlanReport", "Repair", "select_regions"]


@dataclass(frozen=True, slots=True)
class Repair:
    """An annotation whose polygon was not valid, and its area before and after (px²)."""

    annotation_id: str
    area_before: float
    area_after: float

    @property
    def change(self) -> float:
        """Change of the area, as a share of the larger area."""
        return area_change(self.area_before, self.area_after)


@dataclass(frozen=True, slots=True, repr=False)
class PlanReport(OneLine):
    """Use of the annotations of an image.

    Attributes
    ----------
    used : int
        Regions that label, exclude, or count for ``within``.
    skipped : mapping of str to int
        Number of annotations that are not used, by cause: ``points``, ``lines``, ``empty``,
        ``outside image``,
        ``other plane``, ``unclassified``, ``context``, and ``ignored: <class>``.
    repairs : tuple of Repair
        By annotation id.
    warnings : tuple of str
    """

    used: int = 0
    skipped: Mapping[str, int] = FrozenDict()
    repairs: tuple[Repair, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "skipped", FrozenDict(self.skipped))

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return {
            "used": self.used,
            "skipped": dict(self.skipped),
            "repairs": [
                {
                    "annotation": repair.annotation_id,
                    "area_before": repair.area_before,
                    "area_after": repair.area_after,
                }
                for repair in self.repairs
            ],
        }


@dataclass(frozen=True, slots=True, repr=False)
class ActiveRegion(OneLine):
    """An annotation that affects a plan: its role, plane, and valid shape.

    Attributes
    ----------
    drawn : Polygon or MultiPolygon
        The shape as drawn, repaired.
    polygon : Polygon or MultiPolygon
        Its part inside the image; ``drawn`` itself if all of it is. Where the image's border
        cuts an edge, the edge is moved by a rounding error.
    area : float, px²
        Area of ``polygon``.
    """

    id: str
    role: Role
    plane: Plane
    drawn: Polygonal
    polygon: Polygonal
    area: float


def select_regions(
    annotations: Sequence[PathObject],
    rule: LabelRule,
    planes: Sequence[Plane],
    image_size: tuple[int, int],
) -> tuple[tuple[ActiveRegion, ...], PlanReport]:
    """Select the annotations that affect a plan, repair them and clip them to the image.

    Returns
    -------
    regions : tuple of ActiveRegion
        Sorted by id, so that no later result depends on the order of the annotations.
    report : PlanReport

    Raises
    ------
    PlanError
        If there are unclassified regions and ``rule.unclassified`` is ``error``, or if a polygon
        has coordinates that are not finite.
    """
    skipped: Counter[str] = Counter()
    chosen: list[tuple[PathObject, Roi, Role]] = []
    nameless: list[str] = []
    for annotation in _sort_canonically(annotations):
        role = role_of(annotation.class_path, rule)
        cause = _skip_cause(annotation.roi, rule, planes)
        if annotation.roi is None or cause:
            skipped[cause or "empty"] += 1
            continue
        if role.kind == "unclassified":
            nameless.append(annotation.id)
        if role.acts:
            chosen.append((annotation, annotation.roi, role))
        else:
            suffix = f": {annotation.class_path}" if role.kind == "ignored" else ""
            skipped[role.kind + suffix] += 1
    if nameless and rule.unclassified == "error":
        raise PlanError(
            f"{len(nameless)} region(s) have no class, the first is {nameless[0]}.",
            hint="Give them a class in QuPath, or set unclassified to skip, name or as=LABEL.",
        )

    polygons, repairs = _repair_polygons(
        as_array([roi.geometry for _, roi, _ in chosen]), [a.id for a, _, _ in chosen]
    )
    clipped = clip(polygons, *image_size)
    areas = shapely.area(clipped)
    regions = tuple(
        ActiveRegion(annotation.id, role, roi.plane, drawn, polygon, area)
        for (annotation, roi, role), drawn, polygon, area in zip(
            chosen, polygons, clipped, areas.tolist(), strict=True
        )
        if area > 0
    )
    empty_count = int((shapely.area(polygons) == 0).sum())
    outside = len(chosen) - len(regions) - empty_count
    skipped.update({"empty": empty_count, "outside image": outside})
    counts = {cause: n for cause, n in sorted(skipped.items()) if n}
    return regions, PlanReport(len(regions), counts, repairs)


def _repair_polygons(
    polygons: GeometryArray, names: Sequence[str]
) -> tuple[GeometryArray, tuple[Repair, ...]]:
    repairs = []
    for k in np.flatnonzero(~shapely.is_valid(polygons)).tolist():
        try:
            polygons[k], before, after = repair(polygons[k])
        except GeometryError as error:
            raise PlanError(f"Annotation {names[k]}: {error.message}", hint=error.hint) from error
        repairs.append(Repair(names[k], before, after))
    return polygons, tuple(repairs)


def _sort_canonically(annotations: Sequence[PathObject]) -> list[PathObject]:
    """Sort by id; the other values decide only between annotations with the same id."""
    uses = Counter(annotation.id for annotation in annotations)

    def key(annotation: PathObject) -> tuple[str, str, bytes]:
        if uses[annotation.id] == 1:
            return annotation.id, "", b""
        shape = b"" if annotation.roi is None else annotation.roi.geometry.wkb
        plane = None if annotation.roi is None else annotation.roi.plane
        return annotation.id, f"{annotation.class_path}|{plane}", shape

    return sorted(annotations, key=key)


def _skip_cause(roi: Roi | None, rule: LabelRule, planes: Sequence[Plane]) -> str | None:
    """Return why an object is not a region of these planes; None if it is one."""
    if roi is None or roi.geometry.is_empty:
        return "empty"
    if not roi.has_area:
        return "points" if roi.geometry.geom_type.endswith("Point") else "lines"
    if not rule.all_planes and roi.plane not in planes:
        return "other plane"
    return None
