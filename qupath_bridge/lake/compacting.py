"""A copy of the patches of a lake in few files, made from its runs, which stay as they are.

The files of a copy are below ``data/<version>/``; the version is a digest of the runs, their rows
and the options. ``lake.json`` is the commit: it is written when all files are there, and the files
of the version before are removed after it. Until then ``parts/<version>/`` has a record of each
partition that is finished, with which a copy that was interrupted goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import in_order
from qupath_bridge.outputs.lock import LOCK_FILE, hold_lock, is_lock
from qupath_bridge.outputs.parquet import PICTURE
from qupath_bridge.patches.ids import json_digest
from qupath_bridge.pipeline.records import (
    RUN_SCHEMA_VERSION,
    dump_json,
    timestamp,
)
from qupath_bridge.stores import open_store

from .catalog import Catalog
from .copies import LAKE_FILE, is_whole, load_copy
from .partitions import check_by, complete_runs, label_keys, parts_of, project_key
from .values import CatalogRun
from .writing import IMAGE, PartWriter, rows_of

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = ["Compacted", "compact_lake"]

_FOLDER = re.compile(r"data/[0-9a-f]{16}/")
_DATA = re.compile(r"data/[0-9a-f]{16}/(?:[a-z]+_key=[^/]+/)*part-[0-9]{6}\.parquet")
_PART = re.compile(r"parts/[0-9a-f]{16}/[0-9a-f]{16}\.json")
"""Names that copies have, and no others are removed."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """A copy that was made.

    ``files`` and ``rows`` are numbers. ``reused`` is the number of files that were there already:
    all, if nothing changed since.
    """

    place: str
    version: str
    runs: tuple[str, ...]
    files: int
    rows: int
    reused: int


def compact_lake(
    lake: Catalog, out: str, *, by: Sequence[str], file_size: int, images: bool
) -> Compacted:
    """Write the patches of all complete runs of a lake into few Parquet files.

    Parameters
    ----------
    lake : Catalog
    out : str
        Path or URL of a new place, or of an earlier copy, which is replaced.
    by : sequence of str
        ``project``, ``label``, both or neither.
    file_size : int
        Bytes at which a file ends.
    images : bool
        Whether the bytes of the patches are copied too.

    Raises
    ------
    OutputError
        If a run is there twice, or changes meanwhile; if its rows or patches are damaged; if the
        place holds something else.
    UsageError
        If ``label`` is asked for, and patches of a run have several labels.
    """
    by = check_by(by)
    if lake.damaged:
        raise OutputError(
            f"{lake.damaged[0].place} cannot be copied: {lake.damaged[0].problem}",
            hint="Mend it, or move it out of the lake; `qupath-bridge catalog` lists all.",
        )
    runs = complete_runs(lake)
    store = open_store(out)
    _check_place(store, out)
    columns = _columns_of_runs(runs, by, images=images)
    options: dict[str, Any] = {"by": list(by), "file_size": file_size, "images": images}
    version = _version_of(runs, options, columns)
    ids = tuple(run.run_id for run in runs)
    with hold_lock(store, out, f"compact-{version}"):
        there = _whole_copy(store, version)
        if there is not None:
            _remove_leftovers(store, version)
            number = len(there["files"])
            return Compacted(out, version, ids, number, there["rows"], number)
        made = PartWriter(store, version, columns, file_size)
        parts = list(parts_of(runs, by))
        files = [file for part in parts for file in made.files_of(part)]
        rows = sum(file["rows"] for file in files)
        record = {
            "schema_version": RUN_SCHEMA_VERSION,
            "version": version,
            "written": timestamp(),
            "root": lake.root,
            **options,
            "projects": {project_key(p): p for run in runs for p in _projects_of(run)},
            "labels": {key: label for label, key in label_keys(runs).items()},
            "runs": [
                {"run_id": run.run_id, "place": run.place, "rows": dict(run.rows)} for run in runs
            ],
            "files": files,
            "rows": rows,
        }
        _remove_strangers(store, version, {file["name"] for file in files})
        store.put(LAKE_FILE, dump_json(record), durable=True)
        _remove_leftovers(store, version)
    return Compacted(out, version, ids, len(files), rows, made.reused)


def _check_place(store: Store, out: str) -> None:
    """Refuse a place in which something else is than a copy, whole or not.

    Files of an old copy are removed in the end, and nobody else's may be among them.
    """
    own = {LAKE_FILE, LOCK_FILE, "data/", "parts/"}
    found = [name for name in store.children() if name not in own and not is_lock(name)]
    if not store.exists(LAKE_FILE):
        found += [name for name in store.children("data/") if not _FOLDER.fullmatch(name)]
    if found:
        raise OutputError(
            f"{out} holds something else than a copy of a lake: {found[0]}.",
            hint="Name a new place for the copy.",
        )


def _whole_copy(store: Store, version: str) -> dict[str, Any] | None:
    """Return the record of the copy that is there, if it is this version with all files."""
    if not store.exists(LAKE_FILE):
        return None
    record = load_copy(store)
    whole = record["version"] == version and all(
        is_whole(store, version, file) for file in record["files"]
    )
    return record if whole else None


def _projects_of(run: CatalogRun) -> list[str | None]:
    return [slide.project for slide in run.slides]


def _version_of(runs: Sequence[CatalogRun], options: Mapping[str, Any], columns: pa.Schema) -> str:
    facts = {
        "runs": [[run.run_id, run.place, run.run_digest, sorted(run.rows.items())] for run in runs],
        "options": options,
        "columns": [[each.name, str(each.type)] for each in columns],
    }
    return xxhash.xxh3_64_hexdigest(json_digest(facts).encode())


def _columns_of_runs(runs: Sequence[CatalogRun], by: Sequence[str], *, images: bool) -> pa.Schema:
    """Return the columns that hold the rows of all runs."""
    found: dict[str, pa.DataType] = {}
    for run in runs:
        first = next((slide for slide in run.slides if slide.patches), None)
        if first is None:
            continue
        columns = rows_of(open_output(run.place), run, first.slide_id).schema
        if "label" in by and pa.types.is_list(columns.field("label").type):
            raise UsageError(
                f"Patches of {run.place} have several labels, so that they cannot be partitioned "
                "by label.",
                hint="Partition by project alone.",
            )
        for column in columns:
            if found.setdefault(column.name, column.type) != column.type:
                raise UsageError(
                    f"Patches of {run.place} have several labels, and those of other runs have "
                    f"one: the column {column.name} cannot hold both.",
                    hint="Make one copy of the runs of each kind.",
                )
    names = in_order(found) if found else []
    own = [("place", pa.string()), ("slide_id", pa.string())]
    image = [(IMAGE, PICTURE)] if images else []
    return pa.schema([*own, *((name, found[name]) for name in names), *image])


def _remove_strangers(store: Store, version: str, names: set[str]) -> None:
    """Remove files that an interrupted copy of this version left, and that are not of it."""
    folder = f"data/{version}/"
    for name in store.list(folder):
        if _DATA.fullmatch(name) and name.removeprefix(folder) not in names:
            store.delete(name)


def _remove_leftovers(store: Store, version: str) -> None:
    """Remove the files of other versions, and the records of partitions."""
    for name in store.list("data/"):
        if _DATA.fullmatch(name) and not name.startswith(f"data/{version}/"):
            store.delete(name)
    for name in store.list("parts/"):
        if _PART.fullmatch(name):
            store.delete(name)
