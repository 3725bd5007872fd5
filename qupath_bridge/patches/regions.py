"""Which annotations act on a plan, as what, and why the others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from qupath_bridge.errors import GeometryError, PlanError
from qupath_bridge.geometry.edges import GeometryArray, as_array
from qupath_bridge.geometry.validity import Polygonal, area_change, clip, repair
from qupath_bridge.model import LabelRule, PathObject, Plane, Roi

from .roles import Role, role_of

__all__ = ["PlanReport", "Region", "Repair", "select_regions"]


@dataclass(frozen=True, slots=True)
class Repair:
    """An annotation whose polygon was not valid, and its area before and after (px²)."""

    annotation_id: str
    area_before: float
    area_after: float

    @property
    def change(self) -> float:
        """How much the area changed, as a share of the larger one."""
        return area_change(self.area_before, self.area_after)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What became of the annotations of an image.

    Attributes
    ----------
    used : int
        Regions that label, exclude, or count for ``within``.
    skipped : mapping of str to int
        The others by cause: ``points``, ``lines``, ``empty``, ``outside image``,
        ``other plane``, ``unclassified``, ``context``, and ``ignored: <class>``.
    repairs : tuple of Repair
        By annotation id.
    warnings : tuple of str
    """

    used: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    repairs: tuple[Repair, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return it as plain JSON values."""
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


@dataclass(frozen=True, slots=True)
class Region:
    """An annotation that acts: its role, its plane, and its shape, valid and in the image."""

    id: str
    role: Role
    plane: Plane
    polygon: Polygonal
    area: float


def select_regions(
    annotations: Sequence[PathObject],
    rule: LabelRule,
    planes: Sequence[Plane],
    image_size: tuple[int, int],
) -> tuple[tuple[Region, ...], PlanReport]:
    """Pick the annotations that act, repair them and clip them to the image.

    Returns
    -------
    regions : tuple of Region
        Sorted by id: nothing after this depends on the order of the annotations.
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
    for annotation in _canonical_order(annotations):
        role = role_of(annotation.class_path, rule)
        cause = _no_region(annotation.roi, rule, planes)
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
            hint="Give them a class in QuPath, or use --unclassified skip or as=LABEL.",
        )

    polygons, repairs = _repaired(
        as_array([roi.geometry for _, roi, _ in chosen]), [a.id for a, _, _ in chosen]
    )
    clipped = clip(polygons, *image_size)
    areas = shapely.area(clipped)
    regions = tuple(
        Region(annotation.id, role, roi.plane, polygon, area)
        for (annotation, roi, role), polygon, area in zip(
            chosen, clipped, areas.tolist(), strict=True
        )
        if area > 0
    )
    empty_count = int((shapely.area(polygons) == 0).sum())
    outside = len(chosen) - len(regions) - empty_count
    skipped.update({"empty": empty_count, "outside image": outside})
    counts = {cause: n for cause, n in sorted(skipped.items()) if n}
    return regions, PlanReport(len(regions), counts, repairs)


def _repaired(
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


def _canonical_order(annotations: Sequence[PathObject]) -> list[PathObject]:
    """Sort by id; what else there is decides only between annotations that share one."""
    uses = Counter(annotation.id for annotation in annotations)

    def key(annotation: PathObject) -> tuple[str, str, bytes]:
        if uses[annotation.id] == 1:
            return annotation.id, "", b""
        shape = b"" if annotation.roi is None else annotation.roi.geometry.wkb
        plane = None if annotation.roi is None else annotation.roi.plane
        return annotation.id, f"{annotation.class_path}|{plane}", shape

    return sorted(annotations, key=key)


def _no_region(roi: Roi | None, rule: LabelRule, planes: Sequence[Plane]) -> str | None:
    """Say why an object is no region of these planes; None where it is one."""
    if roi is None or roi.geometry.is_empty:
        return "empty"
    if not roi.has_area:
        return "points" if roi.geometry.geom_type.endswith("Point") else "lines"
    if not rule.all_planes and roi.plane not in planes:
        return "other plane"
    return None
