"""``corrections``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.api.correction_records import KINDS, corrections_record
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, print_table, say, show

__all__ = ["correction_lines", "corrections_record", "run_corrections"]

SHOWN = 10
"""Patches of a slide that are listed for people; --json has them all."""


def run_corrections(
    path: Path,
    given: Given,
    *,
    collect: bool,
    accept: Sequence[str],
    dismiss: Sequence[str],
    reviewer: str | None,
    as_json: bool,
) -> int:
    """List what people said about patches in QuPath; store it if that is asked for."""
    if reviewer is not None and not (collect or accept):
        raise UsageError("--reviewer goes with --collect or --accept.")
    options = given.settings().options
    file = api.find_project_file(path)
    with api.open_project(file, engine=options.engine, qupath=options.qupath) as project:
        found = api.corrections(
            project, collect=collect, accept=accept, dismiss=dismiss, reviewer=reviewer
        )
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": str(project.info.path),
                **corrections_record(found),
            }
        )
    else:
        _print(found)
    return 1 if found.failed else 0


def _print(found: api.Corrections) -> None:
    if not found.slides:
        show("Nobody has said anything about the patches of this project yet.")
        return
    head = ("entry", "slide", *KINDS, "withdrawn", "contested", "unsure")
    rows = [
        (
            slide.entry_id, slide.slide_name, *map(slide.number, KINDS), slide.withdrawn,
            len(slide.contested), len(slide.unsure),
        )
        for slide in found.slides
    ]  # fmt: skip
    print_table(head, rows)
    for slide in found.slides:
        _print_slide(slide)
    for each in found.agreement:
        kappa = "no kappa" if each.kappa is None else f"kappa {each.kappa:.2f}"
        show(
            f"{' and '.join(each.reviewers)}: {each.patches} patches judged by both, "
            f"{each.disagreements} differently, {kappa}"
        )


def _print_slide(slide: api.SlideCorrections) -> None:
    name = f"{slide.slide_name} (entry {slide.entry_id})"
    if slide.problem:
        say(f"error: {name}: {slide.problem}", logging.ERROR)
    for message in slide.messages:
        show(f"{name}: {message}")
    for words, statements in (
        ("contested: the rule says something else by now", slide.contested),
        ("unsure", slide.unsure),
    ):
        if statements:
            more = f" and {len(statements) - SHOWN} more" if len(statements) > SHOWN else ""
            show(f"{name}: {words}: {', '.join(map(_words, statements[:SHOWN]))}{more}")
    if slide.unsure:
        show(
            f"{name}: nothing of what is unsure is applied. Look at the slide in QuPath, then "
            f"use --accept {slide.entry_id} or --dismiss {slide.entry_id}."
        )
    for (w, h), number in slide.other_grids.items():
        show(f"{name}: {number} boxes of {w} x {h} pixels are not in the grid of the newest run.")
    if slide.other_file:
        show(
            f"{name}: {slide.other_file} corrections were made on another slide file; they are "
            "not applied."
        )
    if slide.collected:
        show(f"{name}: stored {count(slide.collected, 'statement')}.")


def _words(statement: api.JudgedPatch) -> str:
    said = statement.correction
    before, after = (each or "no class" for each in (said.before, said.after))
    if said.kind == "rejected":
        return f"{statement.patch} ({before}, rejected)"
    return f"{statement.patch} ({before} → {after})"


def correction_lines(found: api.Corrections) -> Iterator[str]:
    """Yield what ``status`` says of each slide: what the newest run does not know."""
    for slide in found.slides:
        name = f"{slide.slide_name} (entry {slide.entry_id})"
        new = [s for s in slide.patches if not s.applied and s.state != "unsure"]
        if parts := _numbers(new, len(slide.contested)):
            yield (
                f"{name}: {parts} since run {slide.run_id}"
                f"{'; export --update applies them' if new else ''}"
            )
        if slide.unsure:
            yield f"{name}: {len(slide.unsure)} patches unsure; see the command corrections"
        yield from (f"{name}: {message}" for message in slide.messages)
        if slide.problem:
            yield f"{name}: {slide.problem}"


def _numbers(new: Sequence[api.JudgedPatch], contested: int) -> str:
    """Return the numbers of patches: ``3 patches corrected, 1 rejected, 2 contested``."""
    kinds = Counter(str(statement.correction.kind) for statement in new)
    numbers = {**{kind: kinds[kind] for kind in KINDS}, "contested": contested}
    first, *more = [(number, kind) for kind, number in numbers.items() if number] or [(0, "")]
    if not first[0]:
        return ""
    words = [f"{first[0]} {'patch' if first[0] == 1 else 'patches'} {first[1]}"]
    return ", ".join([*words, *(f"{number} {kind}" for number, kind in more)])
