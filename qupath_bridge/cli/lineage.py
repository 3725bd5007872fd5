"""``lineage``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from qupath_bridge import api
from qupath_bridge.api.correction_records import statement_record
from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, show

__all__ = ["run_lineage"]

SHOWN = 20
"""Slides that people are shown; --json has them all."""
_WIDTH = 12


def run_lineage(
    subject: str, given: Given, *, out: str | None, project: str | None, as_json: bool
) -> int:
    """Print where a patch or a file comes from."""
    key = given.settings().options.pseudonymise
    found = api.lineage(subject, out=out, project=project, pseudonymise=key)
    if as_json:
        print_json({"schema_version": 1, **_record(found)})
        return 0
    for name, text in (*_patch_lines(found), *_slide_lines(found), *_more_lines(found)):
        show(f"{name:<{_WIDTH}}{text}")
    return 0


def _record(found: api.Lineage) -> dict[str, Any]:
    statements = [
        {
            **statement_record(said.correction),
            "in_run": said.in_run,
            "about_this_file": said.about_this_file,
        }
        for said in found.statements
    ]
    return {**asdict(found), "statements": statements}


def _patch_lines(found: api.Lineage) -> Iterator[tuple[str, str]]:
    patch = found.patch
    if patch is None:
        yield "made from", f"run {found.run.run_id}"
        return
    yield "patch", patch.patch_id
    yield "tile", patch.tile_uuid
    yield "file", f"{patch.path}{_CHANGED if patch.intact is False else ''}"
    x, y, w, h = patch.box
    plane = f", z {patch.plane.z}, t {patch.plane.t}" if any(patch.plane) else ""
    yield "box", f"{w} x {h} at {x}, {y} of the full-resolution slide{plane}"
    share = "" if patch.label_share is None else f", {patch.label_share:.0%} of the patch"
    yield "label", f"{_named(patch.label)} ({patch.label_source or 'no source'}{share})"
    if patch.rule_label is not None:
        yield "rule", f"says {_named(patch.rule_label)}"
    for region in patch.regions:
        yield "region", f"{_named(region.class_path)}, annotation {region.region_id}"
    for said in found.statements:
        yield "correction", _said(said)
    for name, value in patch.metadata.items():
        yield "metadata", f"{name} = {value}"


_CHANGED = ": the file that was named has OTHER bytes than the run wrote"


def _said(said: api.Statement) -> str:
    one = said.correction
    change = f"{_named(one.before)} -> {_named(one.after)}"
    known = "" if said.in_run else "; the run did not take it"
    other = "" if said.about_this_file else "; about another slide file"
    who = one.reviewer or "somebody without a name"
    return f"{one.kind} by {who}, {one.time}: {change} (shown: run {one.run_id}){known}{other}"


def _slide_lines(found: api.Lineage) -> Iterator[tuple[str, str]]:
    for slide in found.slides[:SHOWN]:
        project = "" if slide.project is None else f" in {slide.project}"
        patches = "" if slide.patches is None else f"; {count(slide.patches, 'patch', 'patches')}"
        folds = "".join(f"; fold {fold} of {name}" for name, fold in slide.folds.items())
        yield "slide", f"{slide.slide_name}, ID {slide.entry_id}{project}{patches}{folds}"
        yield "slide file", f"{slide.path}, {slide.fingerprint['digest']}"
    if len(found.slides) > SHOWN:
        yield "", f"and {len(found.slides) - SHOWN} more slides; --json lists all"


def _more_lines(found: api.Lineage) -> Iterator[tuple[str, str]]:
    run = found.run
    yield "run", f"{run.run_id}, {run.finished or run.started}, in {run.place}"
    if run.replaced_by is not None:
        yield "", f"replaced by run {run.replaced_by}"
    yield "command", " ".join(run.command)
    yield "tool", f"{run.tool.get('name')} {run.tool.get('version')}"
    yield "settings", run.config_digest
    for fold in found.folds:
        stale = "; STALE: the run was updated since" if fold.stale else ""
        group = f", group {fold.group}" if fold.group else ""
        yield "fold", f"{fold.fold or 'none'} of {fold.split}{group}{stale}"
    for made in found.predictions:
        values = ", ".join(f"{name} = {value:.4g}" for name, value in made.values.items())
        yield "prediction", f"{made.name}, {made.time}, from {made.table}{values and ': '}{values}"
    for text in found.not_found:
        yield "not found", text


def _named(label: str | tuple[str, ...] | None) -> str:
    return label if isinstance(label, str) else " + ".join(label or ()) or "no class"
