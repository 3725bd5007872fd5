"""Validate the output and decide whether to start, resume or update a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qupath_bridge.config import RunOptions
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches.mask_classes import classes_json, number_classes, read_classes
from qupath_bridge.schemas import RunRecord

from . import records

__all__ = ["check_output"]


def check_output(output: Output, options: RunOptions, record: dict[str, Any]) -> dict[str, Any]:
    """Decide whether a run may use an output.

    Returns
    -------
    dict
        The record to use: the new one, or one that continues the run in the output.

    Raises
    ------
    OutputError
        If the output has anything that this run does not continue.
    """
    place = output.describe()
    if output.is_empty():
        if options.resume:
            raise OutputError(
                f"{place} contains no run to resume.", hint="Export without resume to start one."
            )
        return record
    if not output.has(records.RUN_FILE):
        raise OutputError(
            f"{place} is not empty, and its content is not a run of qupath-bridge.",
            hint="Name a new folder.",
        )
    old = records.load_record(output, records.RUN_FILE, RunRecord)
    if not options.resume and not options.update:
        raise OutputError(
            f"{place} contains run {old['run_id']} already ({old['state']}).",
            hint="Continue it with resume, bring it up to date with update, or name a new folder.",
        )
    if old["pseudonyms"] != record["pseudonyms"]:
        raise OutputError(
            f"The run in {place} was made {_named(old)}, and this one {_named(record)}.",
            hint="Give the key file of that run with pseudonymise, or name a new folder.",
        )
    before, after = _slide_ids(old), _slide_ids(record)
    # An update may name other slides as long as it loses none: that is how slides are added.
    parts = ("config",) if options.update and before <= after else ("config", "selection")
    changed = "; ".join([*_changes(old, record, parts), *_moved(old, options)])
    if changed:
        raise OutputError(
            f"The run in {place} was made with other options: {changed}.",
            hint="Use the same options (run.json has its command), or name a new folder.",
        )
    if before and not before & after:
        raise OutputError(
            f"The run in {place} is of other slides, which this export would remove: "
            f"{', '.join(sorted(before)[:3])}.",
            hint="Name the same project, or a new folder.",
        )
    # An update that was interrupted itself continues under its own id.
    if options.resume or old["state"] == "running":
        record = {**record, "run_id": old["run_id"], "started": old["started"]}
    if options.resume:
        record = {**record, "inputs": old["inputs"]}
    # Slides that fail now keep the rows that they have, and masks the values that are in them.
    return {**record, "rows": old["rows"], "classes": _classes(old, record)}


def _moved(old: Mapping[str, Any], options: RunOptions) -> Iterator[str]:
    """Say that an update would take patches from a grid, and the run took them as listed."""
    before, after = old["options"].get("coords"), options.coords
    if options.update and (before is None) != (after is None):
        yield f"coords was {before and str(before)!r} and is {after and str(after)!r}"


def _classes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes of masks: those of the run in the output, and the new ones behind."""
    colors = {each.label: each.color for each in read_classes(new["classes"])}
    return classes_json(number_classes(colors, read_classes(old["classes"])))


def _named(record: Mapping[str, Any]) -> str:
    key = record["pseudonyms"]
    return "with open names" if key is None else f"with pseudonyms of the key {key[:8]}"


def _slide_ids(record: Mapping[str, Any]) -> set[str]:
    return {slide["slide_id"] for slide in record["slides"]}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        for key in sorted({*old[part], *new[part]}):
            before, after = old[part].get(key), new[part].get(key)
            if before != after:
                yield f"{key} was {before!r} and is {after!r}"
    known = {project["path"]: project for project in old["projects"]}
    for project in new["projects"]:
        earlier = known.get(project["path"], project)
        for key in ("annotations", "skip_bad_features"):
            if earlier[key] != project[key]:
                yield f"{key} was {earlier[key]!r} and is {project[key]!r}"
