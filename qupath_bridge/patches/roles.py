"""Roles of classes in a run: label, exclusion, context, or no effect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from qupath_bridge.errors import ConfigError, Fault
from qupath_bridge.model import CLASS_SEPARATOR, LabelRule
from qupath_bridge.pixels.tissue.annotated import HOW_TO_ANNOTATE

__all__ = [
    "CONTEXT",
    "EXCLUDED",
    "Role",
    "check_class_names",
    "is_child",
    "label_of",
    "label_ranks",
    "role_of",
]

EXCLUDED = "Ignore*"
"""The class that excludes unless it is renamed. A literal name."""

CONTEXT = "Region*"
"""The class that never labels unless it is renamed. A literal name."""

CHILDREN = ": *"
"""Suffix of a wildcard, which matches the children of a class, but not the class itself."""


@dataclass(frozen=True, slots=True)
class Role:
    """Effect of the regions of a class.

    Attributes
    ----------
    kind : str
        ``label``, ``excluded``, ``context``, ``ignored`` (any other class that ends in ``*``)
        or ``unclassified``.
    label : str or None
        For kind ``label`` only.
    within : bool
        True if the region counts for ``within``, for any kind.
    """

    kind: Literal["label", "excluded", "context", "ignored", "unclassified"]
    label: str | None = None
    within: bool = False

    @property
    def acts(self) -> bool:
        """True if the region has any effect."""
        return self.within or self.kind in {"label", "excluded"}


def role_of(class_path: str | None, rule: LabelRule) -> Role:
    """Return the role of a class path; None means unclassified.

    Unclassified regions that get a label by ``unclassified = as`` are treated as if this label
    were their class.

    Examples
    --------
    >>> role_of("Tumor", LabelRule()).label, role_of("Ignore*", LabelRule()).kind
    ('Tumor', 'excluded')
    """
    path = class_path
    if path is None and rule.unclassified == "as":
        path = rule.unclassified_as
    within = rule.within_any or path in rule.within
    if path is None:
        return Role("unclassified", within=within)
    default = path not in rule.rename
    if path in rule.exclude or (default and path == EXCLUDED):
        return Role("excluded", within=within)
    if default and path in (CONTEXT, rule.tissue_class):
        return Role("context", within=within)
    if default and path.endswith("*"):
        return Role("ignored", within=within)
    return Role("label", label_of(path, rule), within)


def label_of(class_path: str, rule: LabelRule) -> str:
    """Return the label of an ordinary class: exact name, then wildcard, then roll-up.

    If several wildcards match, the longest one is used.

    Examples
    --------
    >>> rule = LabelRule(rename={"Tumor: *": "T", "Tumor: Edge": "E"}, rollup=True)
    >>> [label_of(name, rule) for name in ("Tumor: Edge", "Tumor: In", "Tumor", "Gland: In")]
    ['E', 'T', 'Tumor', 'Gland']
    """
    if class_path in rule.rename:
        return rule.rename[class_path]
    wildcards = [name for name in rule.rename if is_child(class_path, name)]
    if wildcards:
        return rule.rename[max(wildcards, key=len)]
    return class_path.split(CLASS_SEPARATOR, 1)[0] if rule.rollup else class_path


def is_child(class_path: str, wildcard: str) -> bool:
    """Return whether a wildcard (``Tumor: *``) means a class."""
    return wildcard.endswith(CHILDREN) and class_path.startswith(wildcard.removesuffix("*"))


def label_ranks(labels: Sequence[str], rule: LabelRule) -> list[int]:
    """Return the rank of each label: the ``priority`` order, then by code point.

    ``priority`` may name a label, or a class, which means its label.

    Examples
    --------
    >>> label_ranks(["A", "B", "C"], LabelRule(priority=("C",)))
    [1, 2, 0]
    """
    known = set(labels)
    first: dict[str, int] = {}
    for place, name in enumerate(rule.priority):
        first.setdefault(name if name in known else label_of(name, rule), place)
    order = sorted(labels, key=lambda label: (first.get(label, len(rule.priority)), label))
    place_of = {label: place for place, label in enumerate(order)}
    return [place_of[label] for label in labels]


def check_class_names(
    rule: LabelRule,
    present: Iterable[str],
    known: Iterable[str] = (),
    around: Iterable[str] = (),
) -> tuple[str, ...]:
    """Check the classes that ``map``, ``exclude``, ``within`` and ``around`` name.

    Parameters
    ----------
    rule : LabelRule
    present : iterable of str
        Class paths of the annotations of all selected images.
    known : iterable of str
        Class paths of the project's class list.
    around : iterable of str
        Classes of the objects around which patches are made, or wildcards.

    Returns
    -------
    tuple of str
        Warnings: names of the project's classes without an annotation in any selected image;
        names in ``priority`` that are neither a class nor a label.

    Raises
    ------
    ConfigError
        With one fault for each unknown name; it lists close matches.

    Examples
    --------
    >>> check_class_names(LabelRule(exclude=("Fold",)), ["Tumor"], ["Fold"])
    ("exclude: no selected image has an annotation of the class 'Fold'.",)
    >>> check_class_names(LabelRule(within=("Tumour",)), ["Tumor", "Stroma"])
    Traceback (most recent call last):
    ...
    qupath_bridge.errors.ConfigError: within: no class 'Tumour'; did you mean 'Tumor'?
    """
    used = set(present)
    listed = used | set(known)
    faults, warnings = [], []
    named = (
        ("map", rule.rename),
        ("exclude", rule.exclude),
        ("within", rule.within),
        ("around", around),
    )
    for place, names in named:
        for name in names:
            if _matches(name, used, wildcard=place in {"map", "around"}):
                continue
            if _matches(name, listed, wildcard=place in {"map", "around"}):
                warnings.append(
                    f"{place}: no selected image has an annotation of the class {name!r}."
                )
            elif name != rule.unclassified_as:
                faults.append(Fault(place, f"no class {name!r}{_suggest(name, listed)}"))
    if rule.tissue_class is not None and rule.tissue_class not in used:
        others = _suggest(rule.tissue_class, used) or "."
        faults.append(
            Fault(
                "tissue",
                f"no slide has an annotation of the class {rule.tissue_class!r}{others} "
                f"{HOW_TO_ANNOTATE}",
            )
        )
    if faults:
        raise ConfigError(faults)
    labels = {label_of(name, rule) for name in listed} | {rule.background, rule.unclassified_as}
    warnings += [
        f"priority: {name!r} is neither a class nor a label{_suggest(name, listed)}"
        for name in rule.priority
        if name not in listed and name not in labels
    ]
    return tuple(warnings)


def _matches(name: str, classes: set[str], *, wildcard: bool) -> bool:
    return name in classes or (wildcard and any(is_child(path, name) for path in classes))


def _suggest(name: str, classes: set[str]) -> str:
    lowered = {path.lower(): path for path in sorted(classes)}
    close = difflib.get_close_matches(name.lower(), lowered, n=3)
    if close:
        return f"; did you mean {' or '.join(repr(lowered[key]) for key in close)}?"
    if not classes:
        return "; no classes are defined"
    return f"; the classes are {', '.join(map(repr, sorted(classes)))}"
