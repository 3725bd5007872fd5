"""``split`` and ``check-leakage``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qupath_bridge import api
from qupath_bridge.frozen import count

from .output import print_json, print_table, say, show

if TYPE_CHECKING:
    from qupath_bridge.api import LeakCheck, Split

__all__ = ["run_check_leakage", "run_split"]

LISTED = 20
"""Leaks of a kind that people are shown."""
_LABELS = 8
"""Labels up to which each has a column."""


def run_split(out: str, *, as_json: bool, **wanted: Any) -> int:
    """Make or extend a split, and say what each fold has."""
    made = api.split(out, **wanted)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "split": made.name,
                "files": list(made.files),
                "method": made.method,
                "new": made.new,
                "folds": {fold: asdict(counts) for fold, counts in made.counts.items()},
                "joined": list(made.joined),
                "warnings": list(made.warnings),
            }
        )
        return 0
    _print_counts(made)
    for text in made.joined:
        show(f"joined: {text}.")
    for text in made.warnings:
        say(f"warning: {text}")
    show(f"{count(made.new, 'slide')} put into folds: {', '.join(made.files)} in {out}.")
    return 0


def _print_counts(made: Split) -> None:
    labels = sorted({label for counts in made.counts.values() for label in counts.by_label})
    if len(labels) > _LABELS or labels == [""]:
        labels = []
    print_table(
        ("fold", "groups", "slides", "patches", *(label or "no label" for label in labels)),
        [
            (fold, counts.groups, counts.slides, counts.patches,
             *(counts.by_label.get(label, 0) for label in labels))
            for fold, counts in made.counts.items()
        ],
    )  # fmt: skip


def run_check_leakage(
    out: str, split: str, by: str | None, pixels: int | None, *, as_json: bool
) -> int:
    """Look for leaks; 0 when none was found, else 1."""
    result = api.check_leakage(out, split, by=by, pixels=pixels)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "split": result.split,
                "patches": result.patches,
                "compared": result.compared,
                "flat": result.flat,
                "counts": dict(result.counts),
                "leaks": [asdict(leak) for leak in result.leaks],
                "not_checked": list(result.not_checked),
            }
        )
    else:
        _print_leaks(result)
    return 0 if result.ok else 1


def _print_leaks(result: LeakCheck) -> None:
    shown = [
        leak
        for kind in result.counts
        for leak in [each for each in result.leaks if each.kind == kind][:LISTED]
    ]
    if shown:
        print_table(
            ("kind", "fold", "place", "fold", "place", "shared"),
            [(k.kind, k.folds[0], k.first, k.folds[1], k.second, k.shared) for k in shown],
        )
    for kind, number in result.counts.items():
        if number > LISTED:
            listed = sum(leak.kind == kind for leak in result.leaks)
            which = "all of them" if listed == number else f"the first {listed} of them"
            show(f"and {number - LISTED} more of the kind {kind}; --json lists {which}")
    for text in result.not_checked:
        show(f"not checked: {text}.")
    total = sum(result.counts.values())
    show(
        f"{count(result.patches, 'patch', 'patches')} in folds, {result.compared} of them compared "
        "by what they show: " + ("no leak found." if result.ok else f"{count(total, 'leak')}.")
    )
