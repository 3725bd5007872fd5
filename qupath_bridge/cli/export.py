"""``plan`` and ``export``."""

from __future__ import annotations

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge import api
from qupath_bridge.urls import shown

from .options import Given
from .output import is_quiet, print_json, print_table, say, show

if TYPE_CHECKING:
    from qupath_bridge.config import Settings

__all__ = ["run_export", "run_plan"]

SHOWN = 4
"""Names of channels that are listed."""

SCHEMA_VERSION = 1


def run_plan(sources: Sequence[Path], given: Given, *, as_json: bool) -> int:
    """Plan, estimate, draw; nothing but the preview is written."""
    settings = given.settings()
    plans = api.plan(
        sources,
        settings.config,
        selection=settings.selection,
        options=settings.options.only(*api.OPENING, *api.INPUTS, "reader", *api.FETCHING),
    )
    previews, notes = api.draw_previews(plans, settings.options.preview)
    workers = settings.options.workers
    guess = api.estimate(plans, workers=workers)
    warnings = [
        *plans.warnings,
        *(f"{one.slide.name}: {text}" for one in plans for text in one.warnings),
        *notes,
    ]
    if as_json:
        print_json(_plan_record(plans, warnings, guess, previews))
    else:
        _print_plans(plans)
        _print_notes(warnings, plans.failures)
        if guess.sample:
            show()
            show(
                f"About {_size(guess.bytes)} and {_duration(guess.seconds)}, from "
                f"{guess.sample} patches that were tried."
            )
        for preview in previews:
            show(f"Preview: {preview}")
    return 1 if plans.failures else 0


def run_export(
    sources: Sequence[Path], out: str, given: Given, *, dry_run: bool, as_json: bool
) -> int:
    """Export, and write the provenance into the project."""
    if dry_run:
        return run_plan(sources, given, as_json=as_json)
    settings = given.settings()
    options = settings.options
    if is_quiet() and options.progress == "auto":
        options = options.replace(progress="none")
    command = ["qupath-bridge", *sys.argv[1:]]
    run = api.export(
        sources, out, settings.config,
        selection=settings.selection, options=options, command=command,
    )  # fmt: skip
    warnings = [
        *run.warnings,
        *(f"{slide['slide_name']}: {text}" for slide in run for text in slide["warnings"]),
    ]
    if as_json:
        print_json(_export_record(run, warnings))
    else:
        _print_run(run, warnings, settings, sources)
        if run.profile:
            _print_profile(run.profile)
    return 1 if run.failures else 0


def _print_profile(profile: api.Profile) -> None:
    """Show the seconds of each step, their share, and the patches per second that it allows."""
    show()
    rows = [
        (
            name,
            f"{profile.seconds.get(name, 0.0):.2f}" if name != "other" else "",
            f"{share:.0%}",
            _rate(profile.step_limit(name)),
        )
        for name, share in profile.shares.items()
    ]
    print_table(("step", "seconds", "share", "patches/s at most"), rows)
    workers = f"{profile.workers} worker{'s' if profile.workers > 1 else ''}"
    limit = _rate(profile.limit)
    show(
        f"{profile.rate:,.0f} patches/s with {workers}"
        + (f"; reading, encoding and writing alone allow {limit}." if limit else ".")
    )
    for line in profile.transfers():
        show(line)


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _plan_record(
    plans: api.Plans, warnings: Sequence[str], guess: api.Estimate, previews: Sequence[Path]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "patches": plans.patches,
        "labels": dict(sorted(plans.label_counts().items())),
        "dropped": plans.dropped_counts(),
        "estimate": {"bytes": guess.bytes, "seconds": round(guess.seconds, 2)},
        "slides": [
            {
                "entry_id": one.slide.entry_id,
                "slide_id": one.slide_id,
                "slide_name": one.slide.name,
                "patches": len(one),
                "mpp": one.mpp,
                "level": one.read_level,
                "native": one.native,
                "resampling": one.resampling,
                "channels": list(one.channels),
                "dtype": one.dtype,
                "projection": one.view.projection,
                "by_label": dict(sorted(one.label_counts().items())),
                "dropped": {str(reason): n for reason, n in one.dropped.items() if n},
                "regions": one.report.as_dict(),
            }
            for one in plans
        ],
        "failures": _failure_records(plans.failures),
        "previews": [str(path) for path in previews],
        "warnings": list(warnings),
    }


def _export_record(run: api.Run, warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "out": run.place,
        "written": run.written,
        "labels": dict(sorted(run.label_counts().items())),
        "dropped": run.dropped_counts(),
        "corrections": run.correction_counts(),
        "slides": run.report["slides"],
        "failures": _failure_records(run.failures),
        "provenance": [shown(folder) for folder in run.provenance],
        "previews": list(run.previews),
        "warnings": list(warnings),
        **({"profile": run.profile.as_json()} if run.profile else {}),
    }


def _failure_records(failures: Sequence[api.Failure]) -> list[dict[str, Any]]:
    return [
        {"entry_id": f.entry_id, "slide_name": f.slide_name, "error": f.error, "next": f.hint}
        for f in failures
    ]


def _print_plans(plans: api.Plans) -> None:
    names = _names([(one.slide.name, one.slide.entry_id) for one in plans])
    rows = [
        (
            name,
            len(one),
            "-" if one.mpp is None else f"{one.mpp:.4g}",
            _pixels(one),
            _channels(one),
            _listed(one.label_counts()),
        )
        for name, one in zip(names, plans, strict=True)
    ]
    if len(rows) > 1:
        rows.append(("total", plans.patches, "", "", "", _listed(plans.label_counts())))
    _print_filled(("slide", "patches", "µm/px", "pixels", "channels", "labels"), rows)
    _print_counts(plans.label_counts(), plans.dropped_counts())


def _pixels(plan: api.Plan) -> str:
    """Return where the pixels of a plan come from, and how far they are resampled."""
    how = "native" if plan.native else f"resampled {plan.resampling:.4g}x"
    return f"level {plan.read_level}, {how}"


def _channels(plan: api.Plan) -> str:
    """Return which channels are exported; nothing for RGB."""
    if plan.view.is_rgb:
        return ""
    names, more = plan.channels[:SHOWN], len(plan.channels) - SHOWN
    listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    projected = "" if plan.view.projection is None else f", {plan.view.projection} over z"
    return f"{listed} ({plan.dtype}{projected})"


def _names(slides: Sequence[tuple[str, str]]) -> list[str]:
    """Return the name of each slide, with its entry ID where several slides have the name."""
    times = Counter(name for name, _ in slides)
    return [name if times[name] == 1 else f"{name} (entry {entry})" for name, entry in slides]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {n}" for label, n in counts.items()) or "-"


def _print_filled(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table unless it has no rows."""
    if rows:
        print_table(head, rows)


def _print_counts(labels: Mapping[str, int], reasons: Mapping[str, int]) -> None:
    total = sum(labels.values())
    if labels:
        show()
        rows = [(label, n, f"{n / total:.1%}") for label, n in sorted(labels.items())]
        print_table(("label", "patches", "share"), rows)
    dropped = Counter(reasons)
    if dropped.total():
        show()
        print_table(("not written because", "patches"), [(r, n) for r, n in dropped.items() if n])


def _print_corrections(counts: Mapping[str, int]) -> None:
    if any(counts.values()):
        show()
        show(f"Corrections: {', '.join(f'{n} {kind}' for kind, n in counts.items() if n)}.")
        if counts["contested"]:
            show("Contested: the rule says something else now; `qupath-bridge status` lists them.")


def _print_run(
    run: api.Run, warnings: Sequence[str], settings: Settings, sources: Sequence[Path]
) -> None:
    names = _names([(slide["slide_name"], slide["entry_id"]) for slide in run])
    rows = [
        (name, slide["written"], _listed(slide["by_label"]))
        for name, slide in zip(names, run, strict=True)
    ]
    if len(rows) > 1:
        rows.append(("total", run.written, _listed(run.label_counts())))
    _print_filled(("slide", "patches", "labels"), rows)
    _print_counts(run.label_counts(), run.dropped_counts())
    _print_corrections(run.correction_counts())
    _print_notes(warnings, run.failures)
    show()
    show(f"{run.written} patches in {run.place}")
    for folder in run.provenance:
        show(f"Provenance for QuPath in {shown(folder)}")
    if len(run):
        show(f"Next: {shlex.join(['qupath-bridge', 'verify', run.place])}")


def _print_notes(warnings: Sequence[str], failures: Sequence[api.Failure]) -> None:
    for warning in warnings:
        say(f"warning: {warning}")
    for line in api.failure_lines(failures):
        say(f"failed: {line}", logging.ERROR)


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
