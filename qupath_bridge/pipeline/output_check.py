"""Whether a run may use an output folder, and which run it goes on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.config import GROUPS, ExportConfig
from qupath_bridge.errors import OutputError

from . import records

if TYPE_CHECKING:
    from qupath_bridge.stores.local import LocalStore

__all__ = ["BRIDGE_FOLDER", "check_output", "check_place"]


BRIDGE_FOLDER = "qupath_bridge"
"""The only folder that is written inside a project."""
QUPATH_FOLDERS = {"data", "classifiers", "scripts", "resources"}


def check_output(
    store: LocalStore, config: ExportConfig, record: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Decide whether a run may use a folder.

    Returns
    -------
    dict
        The record to go on with: the new one, or one that continues the run that is there.
    dict or None
        The record of the run that is there.

    Raises
    ------
    OutputError
        If the folder holds anything that this run does not go on with.
    """
    if store.is_empty():
        if config.resume or config.update:
            raise OutputError(
                f"{store.root} holds no run to go on with.",
                hint="Leave --resume and --update out.",
            )
        return record, None
    if not store.exists(records.RUN_FILE):
        raise OutputError(
            f"{store.root} is not empty, and what is in it is not a run of qupath-bridge.",
            hint="Name a new folder.",
        )
    old = records.load_record(store, records.RUN_FILE)
    same = old["plan_digest"] == record["plan_digest"]
    if config.update:
        _check_same_options(store, old, record)
        # An update that was itself cut off goes on under its own id.
        cut_off = same and old["state"] == "running"
        return _continued(record, old) if cut_off else record, old
    if not config.resume:
        raise OutputError(
            f"{store.root} holds a run already ({old['run_id']}, {old['state']}).",
            hint="Continue it with --resume, bring it up to date with --update, "
            "or name a new folder.",
        )
    if not same:
        changed = "; ".join(_differences(old, record)) or "the images that took part"
        raise OutputError(
            f"The run in {store.root} was planned differently: {changed}.",
            hint="Use the same options to resume it, --update to bring it up to date, "
            "or a new folder.",
        )
    return _continued(record, old), old


def check_place(path: Path, project: Path) -> None:
    """Refuse a place inside a project that belongs to QuPath, or to the runs of the project.

    Raises
    ------
    OutputError
        If ``path`` is the project folder, lies in one of QuPath's own folders, or among the runs.
    """
    try:
        inside = path.resolve().relative_to(project.resolve()).parts
    except ValueError:
        return
    if (
        not inside
        or inside[0] in QUPATH_FOLDERS
        or inside[:2] in {(BRIDGE_FOLDER,), (BRIDGE_FOLDER, "runs")}
    ):
        raise OutputError(
            f"{path} is a place of the QuPath project itself.",
            hint="Name a folder outside, or a new one such as "
            f"{project / BRIDGE_FOLDER / 'patches'}.",
        )


def _check_same_options(store: LocalStore, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse an update with other options: it would replace or remove what was asked for before."""
    changed = list(_changed_options(old, new))
    if changed:
        raise OutputError(
            f"The run in {store.root} was made with other options: {'; '.join(changed)}.",
            hint="Update it with the same options (run.json has its command), or export into a "
            "new folder.",
        )


def _continued(record: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "run_id": old["run_id"], "started": old["started"]}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Name what differs between two runs that should be the same."""
    yield from _changed_options(old, new)
    before = {slide["entry_id"]: slide for slide in old["slides"]}
    after = {slide["entry_id"]: slide for slide in new["slides"]}
    for entry_id in sorted({*before, *after}):
        if entry_id not in after:
            yield f"image {before[entry_id]['slide_name']} is missing now"
        elif entry_id not in before:
            yield f"image {after[entry_id]['slide_name']} is new"
        elif before[entry_id]["digest"] != after[entry_id]["digest"]:
            yield f"{_what(before[entry_id], after[entry_id])} changed"


def _changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    running = {*GROUPS["files"], *GROUPS["running"]}
    for key, value in new["config"].items():
        if key not in running and old["config"].get(key) != value:
            yield f"{key} was {old['config'].get(key)!r} and is {value!r}"


def _what(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Name the parts of a slide that changed."""
    parts = [
        name
        for name, key in (
            ("the slide file", "fingerprint"),
            ("the annotations", "annotation_digest"),
            ("the coordinate map or pixel size", "coordinates"),
        )
        if _content(before[key]) != _content(after[key])
    ]
    return f"{' and '.join(parts) or 'something'} of {after['slide_name']}"


def _content(value: object) -> object:
    """Leave out what is only a hint."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if key != "mtime_ns"}
    return value
