"""The record of a copy of a lake, and what changed since it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qupath_bridge.pipeline.records import load_record
from qupath_bridge.schemas import LakeRecord

from .values import CatalogRun, LakeCopy

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = ["LAKE_FILE", "is_whole", "load_copy", "read_copy"]

LAKE_FILE = "lake.json"

HINT = "Make the copy again: `qupath-bridge compact`."


def load_copy(store: Store, folder: str = "") -> dict[str, Any]:
    """Return ``lake.json`` of a copy.

    Raises
    ------
    OutputError
        If it is missing or damaged.
    """
    return load_record(store, f"{folder}{LAKE_FILE}", LakeRecord, hint=HINT)


def is_whole(store: Store, version: str, file: Mapping[str, Any]) -> bool:
    """Return whether a file is there. A store has files whole or not at all, so size will do."""
    name = f"data/{version}/{file['name']}"
    return store.exists(name) and store.size(name) == file["size"]


def read_copy(store: Store, folder: str, place: str, runs: Sequence[CatalogRun]) -> LakeCopy:
    """Return a copy, compared with the runs that are there now.

    Raises
    ------
    OutputError
        If its record is damaged.
    """
    record = load_copy(store, folder)
    stale = tuple(_changes(record, runs))
    return LakeCopy(place, record["version"], record["written"], record["rows"], stale)


def _changes(record: Mapping[str, Any], runs: Sequence[CatalogRun]) -> Iterator[str]:
    now = {run.run_id: run for run in runs if run.state == "complete"}
    copied = {each["run_id"]: each for each in record["runs"]}
    for run_id, each in copied.items():
        if run_id not in now:
            yield f"run {run_id} of {each['place']} is not there, or not complete"
        elif each["rows"] != now[run_id].rows:
            yield f"rows of run {run_id} changed"
    for run_id, run in now.items():
        if run_id not in copied and _is_below(run.place, record["root"]):
            yield f"run {run_id} in {run.place} is not in it"


def _is_below(place: str, root: str) -> bool:
    return place == root or place.replace("\\", "/").startswith(
        root.replace("\\", "/").rstrip("/") + "/"
    )
