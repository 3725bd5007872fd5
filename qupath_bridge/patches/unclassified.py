"""Regions without a class: names in the place of classes, and advice where none has a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from qupath_bridge.model import LabelRule, PathObject

__all__ = ["NO_REGIONS", "RegionCounts", "count_regions", "unclassified_note", "use_names"]


class RegionCounts(NamedTuple):
    """Number of annotations with an area, of those without a class, and of these with a name."""

    regions: int = 0
    unclassified: int = 0
    named: int = 0


NO_REGIONS = RegionCounts()
"""Counts of a slide without regions, or one that was not read."""


def use_names(annotations: Sequence[PathObject], rule: LabelRule) -> tuple[PathObject, ...]:
    """Return annotations in which names are classes, if ``unclassified`` is ``name``.

    An annotation without a class gets its name as class, before anything else: what is said of
    classes holds for it. Without a name it stays unclassified.
    """
    if rule.unclassified != "name":
        return tuple(annotations)
    return tuple(
        replace(each, class_path=_name(each)) if each.class_path is None else each
        for each in annotations
    )


def count_regions(annotations: Iterable[PathObject]) -> RegionCounts:
    """Count regions, those without a class, and those of these that have a name."""
    regions = [each for each in annotations if each.roi is not None and each.roi.has_area]
    nameless = [each for each in regions if each.class_path is None]
    return RegionCounts(
        len(regions), len(nameless), sum(_name(each) is not None for each in nameless)
    )


def unclassified_note(counts: Iterable[RegionCounts], rule: LabelRule) -> str | None:
    """Return advice where no region of any slide has a class, and all are skipped for it.

    >>> unclassified_note([RegionCounts(2, 2, 1), RegionCounts(1, 1, 0)], LabelRule())
    'None of the 3 regions has a class, so all are skipped: label them with the option \
unclassified as=LABEL, or by their names with the option unclassified name (1 of them has a \
name).'
    """
    regions, unclassified, named = map(sum, zip(NO_REGIONS, *counts, strict=True))
    if not rule.labels or not regions or unclassified < regions:
        return None
    if rule.unclassified == "name":
        return (
            f"None of the {regions} regions has a class or a name, so all are skipped: label them "
            "with the option unclassified as=LABEL."
        )
    if rule.unclassified != "skip":
        return None
    by_name = ""
    if named:
        have = "1 of them has a name" if named == 1 else f"{named} of them have one"
        by_name = f", or by their names with the option unclassified name ({have})"
    return (
        f"None of the {regions} regions has a class, so all are skipped: label them with "
        f"the option unclassified as=LABEL{by_name}."
    )


def _name(annotation: PathObject) -> str | None:
    return (annotation.name or "").strip() or None
