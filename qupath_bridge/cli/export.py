"""``plan`` and ``export``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge import api
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import SlideError
from qupath_bridge.pipeline.estimate import Estimate, estimate
from qupath_bridge.pipeline.plan import (
    Failure,
    Plan,
    check_classes,
    pixel_size_warning,
    plan_slides,
    total_counts,
)
from qupath_bridge.pipeline.records import counts_record
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.runners.local import available_cores
from qupath_bridge.sources.base import Project

from .options import configuration
from .output import print_json, print_table, say

if TYPE_CHECKING:
    from qupath_bridge.pipeline.run import Run
    from qupath_bridge.roundtrip.provenance import Provenance

__all__ = ["run_export", "run_plan"]

SCHEMA_VERSION = 1
Given = tuple[Path | None, Mapping[str, Any]]


def run_plan(path: Path, given: Given, *, as_json: bool) -> int:
    """Plan, estimate, draw; nothing but the preview is written."""
    config = configuration(given)
    with _open(path, config) as project:
        plans, failures, warnings = _plans(project, config)
        previews, troubles = _previews(plans, config)
        warnings = (*warnings, *troubles)
        workers = config.workers or available_cores()
        guess = estimate(plans, workers=workers)
    if as_json:
        print_json(_plan_record(plans, failures, warnings, guess, previews))
    else:
        _print_plans(plans, failures, warnings)
        if guess.sample:
            print(
                f"\nAbout {_size(guess.bytes)} and {_duration(guess.seconds)} on {workers} "
                f"worker(s), from {guess.sample} patches that were tried."
            )
        for preview in previews:
            print(f"Preview: {preview}")
    return 1 if failures else 0


def run_export(path: Path, out: Path, given: Given, *, as_json: bool) -> int:
    """Plan and export; lay the provenance into the project."""
    config = configuration(given)
    with _open(path, config) as project:
        plans, failures, warnings = _plans(project, config)
        if not plans:
            if as_json:
                print_json(_nothing(failures, warnings))
            else:
                _print_failures(failures)
                say("Nothing was exported: no image could be planned.")
            return 1
        run = api.export(
            plans,
            out,
            failures=failures,
            progress=config.progress,
            command=["qupath-bridge", *sys.argv[1:]],
            engine={**project.engine_record, "asked": config.engine},
        )
        provenance = api.write_provenance(project, run) if config.provenance else None
    if provenance and provenance.warning:
        warnings = (*warnings, provenance.warning)
    previews, troubles = _previews(plans, config)
    warnings = (*warnings, *troubles)
    if as_json:
        print_json(_export_record(run, plans, warnings, provenance, previews))
    else:
        _print_run(run, plans, warnings, provenance)
    return 1 if run.failures else 0


def _open(path: Path, config: ExportConfig) -> Project:
    return api.open_project(
        path,
        engine=config.engine,
        qupath=config.qupath,
        slide_map=config.slide_map,
        search=config.search,
    )


def _plans(
    project: Project, config: ExportConfig
) -> tuple[tuple[Plan, ...], tuple[Failure, ...], tuple[str, ...]]:
    """Plan the slides that were asked for; return plans, failures and warnings."""
    slides = select_slides(project.slides, config)
    plans, failures = plan_slides(slides, config)
    # With an image unread nobody knows which classes it holds.
    notes = () if failures else check_classes(plans, config)
    warnings = [*project.problems, *notes]
    if note := pixel_size_warning(plans):
        warnings.append(note)
    warnings += [f"{one.slide.name}: {text}" for one in plans for text in one.warnings]
    if plans and not any(len(one) for one in plans):
        _, reasons = total_counts(plans)
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n) or "none fits"
        warnings.append(f"No patch is kept: {why}.")
    return plans, failures, tuple(warnings)


def _previews(plans: Sequence[Plan], config: ExportConfig) -> tuple[list[Path], list[str]]:
    """Draw one picture a slide; the name of the slide is added where there are several.

    Returns the pictures, and what went wrong with slides that cannot be read.
    """
    if config.preview is None:
        return [], []
    path = config.preview
    several = len(plans) > 1
    paths = [
        path.with_name(f"{path.stem}-{one.slide_id}{path.suffix}") if several else path
        for one in plans
    ]
    drawn, troubles = [], []
    for one, target in zip(plans, paths, strict=True):
        try:
            one.preview(target)
            drawn.append(target)
        except SlideError as error:
            troubles.append(f"{one.slide.name}: no preview: {error}")
    return drawn, troubles


def _plan_record(
    plans: Sequence[Plan],
    failures: Sequence[Failure],
    warnings: Sequence[str],
    guess: Estimate,
    previews: Sequence[Path],
) -> dict[str, Any]:
    labels, reasons = total_counts(plans)
    return {
        "schema_version": SCHEMA_VERSION,
        "patches": sum(len(one) for one in plans),
        "labels": dict(sorted(labels.items())),
        "dropped": dict(reasons),
        "estimate": {"bytes": guess.bytes, "seconds": round(guess.seconds, 2)},
        "slides": [
            {
                "entry_id": one.slide.entry_id,
                "slide_name": one.slide.name,
                "patches": len(one),
                "mpp": one.mpp,
                **counts_record(one),
                "regions": one.report.as_dict(),
            }
            for one in plans
        ],
        "failures": _failure_records(failures),
        "previews": [str(path) for path in previews],
        "warnings": list(warnings),
    }


def _export_record(
    run: Run,
    plans: Sequence[Plan],
    warnings: Sequence[str],
    provenance: Provenance | None,
    previews: Sequence[Path],
) -> dict[str, Any]:
    labels, reasons = total_counts(plans)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "out": str(run.out.resolve()),
        "written": run.written,
        "labels": dict(sorted(labels.items())),
        "dropped": dict(reasons),
        "slides": run.report["slides"],
        "failures": _failure_records(run.failures),
        "provenance": None if provenance is None else str(provenance.folder),
        "previews": [str(path) for path in previews],
        "warnings": list(warnings),
    }


def _nothing(failures: Sequence[Failure], warnings: Sequence[str]) -> dict[str, Any]:
    """Return the result of an export that had nothing to do: the same keys, no run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": None,
        "out": None,
        "written": 0,
        "labels": {},
        "dropped": {},
        "slides": [],
        "failures": _failure_records(failures),
        "provenance": None,
        "previews": [],
        "warnings": list(warnings),
    }


def _failure_records(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    return [
        {"entry_id": f.entry_id, "slide_name": f.slide_name, "error": f.error, "next": f.hint}
        for f in failures
    ]


def _print_plans(
    plans: Sequence[Plan], failures: Sequence[Failure], warnings: Sequence[str]
) -> None:
    labels, reasons = total_counts(plans)
    total = sum(labels.values())
    print_table(
        ("image", "patches", "µm/px", "labels"),
        [
            (
                one.slide.name,
                len(one),
                "-" if one.mpp is None else f"{one.mpp:.4g}",
                ", ".join(f"{label} {n}" for label, n in one.label_counts().items()) or "-",
            )
            for one in plans
        ],
    )
    print()
    if labels:
        print_table(
            ("label", "patches", "share"),
            [(label, n, f"{n / total:.1%}") for label, n in sorted(labels.items())],
        )
        print()
    print_table(("not written because", "patches"), [(r, n) for r, n in reasons.items() if n])
    _print_notes(failures, warnings)


def _print_run(
    run: Run, plans: Sequence[Plan], warnings: Sequence[str], provenance: Provenance | None
) -> None:
    failed = {failure.entry_id for failure in run.failures}
    _print_plans([one for one in plans if one.slide.entry_id not in failed], run.failures, warnings)
    print(f"\n{run.written} patches in {run.out}")
    if provenance:
        print(f"Provenance for QuPath in {provenance.folder}")


def _print_notes(failures: Sequence[Failure], warnings: Sequence[str]) -> None:
    for warning in warnings:
        say(f"warning: {warning}")
    _print_failures(failures)


def _print_failures(failures: Sequence[Failure]) -> None:
    for failure in failures:
        name = "" if failure.slide_name in failure.error else f"{failure.slide_name}: "
        say(f"failed: {name}{failure.error}" + (f" {failure.hint}" if failure.hint else ""))


def _size(count: float) -> str:
    """Return bytes in words.

    >>> _size(1536), _size(512)
    ('1.5 KiB', '512 bytes')
    """
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} PiB"


def _duration(seconds: float) -> str:
    """Return a time in words.

    >>> _duration(0.3), _duration(95), _duration(7300)
    ('a second', '2 minutes', '2.0 hours')
    """
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
