"""Whatever a lineage is asked of: a patch file, an id, a file made from a run, or a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qupath_bridge.errors import BridgeError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.outputs.row_batches import is_patch_path
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.pipeline.inputs import digest_of
from qupath_bridge.pipeline.records import RUN_FILE
from qupath_bridge.regular_files import MAX_RECORD_BYTES, read_regular
from qupath_bridge.schemas import parse_json
from qupath_bridge.sources.table_files import is_table, read_table

from .converting import RECORD as CONVERTED

__all__ = ["Subject", "read_subject"]

KEYS = ("patch_id", "tile_uuid")
"""Columns of tables that say which patches their rows are about."""

_BESIDE = ("record.json", CONVERTED)
"""Records that stand beside files which were made from a run."""
_BRIDGE = "qupath_bridge"


@dataclass(frozen=True, slots=True, repr=False)
class Subject(OneLine):
    """A subject of a lineage, as far as it says itself what it is.

    Attributes
    ----------
    text : str
        As it was given.
    out : Path or None
        The output that it is in.
    project : Path or None
        Folder of the project that it is in.
    run_id : str or None
        The run that it names.
    path : str or None
        Path of a file of patches in its output.
    key : str or None
        Patch id or tile id.
    digest : str or None
        Digest of the bytes of a file, as the index has that of a patch.
    column : str or None
        Key of the rows of a table: ``patch_id`` or ``tile_uuid``.
    keys : frozenset of str
        Patches that a table is about.
    """

    text: str
    out: Path | None = None
    project: Path | None = None
    run_id: str | None = None
    path: str | None = None
    key: str | None = None
    digest: str | None = None
    column: str | None = None
    keys: frozenset[str] = frozenset()

    @property
    def is_patch(self) -> bool:
        """True if it is one patch, and not a whole run or a table."""
        return not self.keys and (self.path or self.key or self.digest) is not None


def read_subject(text: str, *, named: bool = False) -> Subject:
    """Return what a text says: the path of a file or folder, or else an id.

    Parameters
    ----------
    text : str
    named : bool
        Whether it is known where to look: then a file can also be found by its bytes.

    Raises
    ------
    UsageError
        If the file names neither a run nor a patch; the message says where was looked.
    """
    place = Path(text)
    if not place.exists():
        inside = text.replace("\\", "/")
        if is_patch_path(inside):
            return Subject(text, path=inside, key=_patch_id(Path(inside)))
        return Subject(text, key=text)
    place = place.resolve()
    home = _home_of(place)
    if home is None:
        return _stray(text, place, named)
    inside = place.relative_to(home).as_posix()
    if home.parent.name == "runs" and home.parent.parent.name == _BRIDGE:
        return _with_keys(Subject(text, project=home.parents[2], run_id=home.name), place)
    if not is_patch_path(inside):
        # Features can be of an earlier run of the output: their own record says of which.
        own = None if place == home else next(_named_runs(place, home), None)
        return _with_keys(Subject(text, out=home, run_id=own), place)
    key = _patch_id(place)
    return Subject(text, out=home, path=inside, key=key, digest=_digest(place) if key else None)


def _home_of(place: Path) -> Path | None:
    """Return the folder with the record of a run at a place or above it."""
    return next((each for each in (place, *place.parents) if (each / RUN_FILE).is_file()), None)


def _stray(text: str, place: Path, named: bool) -> Subject:
    """Return what a file says that is not in the folder of a run."""
    run_id = next(_named_runs(place), None)
    key = _patch_id(place)
    if key is not None:
        return Subject(text, run_id=run_id, key=key, digest=_digest(place))
    found = _with_keys(Subject(text, run_id=run_id), place)
    if found.run_id is not None or found.keys:
        return found
    if named and place.is_file():
        found = replace(found, digest=_digest(place))
    if found.digest is None:
        beside = ", ".join([f"{place.name}.json", *_BESIDE])
        raise UsageError(
            f"{place} does not say from which run it was made.",
            hint=f"It has neither the id of a patch as its name, nor a key run_id (looked for in "
            f"the file, and in {beside} beside it), nor a column patch_id or tile_uuid.",
        )
    return found


def _patch_id(place: Path) -> str | None:
    """Return the patch id that is the name of a file; the ending may have several parts."""
    slide = None if place.is_dir() else slide_of_patch(place.name)
    if slide is None:
        return None
    return slide + place.name.removeprefix(slide).split(".", 1)[0]


def _digest(place: Path) -> str | None:
    """Return the digest of the bytes of a file; None if it is too large for a patch."""
    try:
        return digest_of(read_regular(place))
    except OSError:
        return None


def _named_runs(place: Path, home: Path | None = None) -> Iterator[str]:
    """Yield the runs that a file, or a record beside or above it and below ``home``, names."""
    beside = [place.with_name(f"{place.name}.json")] if place.is_file() else []
    folders = [place, *place.parents] if place.is_dir() else list(place.parents)
    above = [folder / CONVERTED for folder in folders[1:]]
    records = [place, *beside, *(folders[0] / name for name in _BESIDE), *above]
    for record in records:
        if home is not None and (record.parent == home or not record.is_relative_to(home)):
            continue
        if record.suffix == ".json" and record.is_file():
            try:
                values: Any = parse_json(read_regular(record, MAX_RECORD_BYTES))
            except (OSError, ValueError):
                continue
            if isinstance(values, dict) and isinstance(values.get("run_id"), str):
                yield values["run_id"]


def _with_keys(subject: Subject, place: Path) -> Subject:
    """Return the subject with the patches that a table is about."""
    if not is_table(place):
        return subject
    try:
        column, keys = _keys_of(place)
    except (BridgeError, pa.ArrowException, OSError):
        return subject
    return replace(subject, column=column, keys=keys)


def _keys_of(place: Path) -> tuple[str | None, frozenset[str]]:
    if place.suffix.lower() == ".parquet":
        names = pq.read_schema(place).names
        column = next((name for name in KEYS if name in names), None)
        if column is None:
            return None, frozenset()
        values = pq.ParquetFile(place).read([column]).column(0).unique().to_pylist()
        return column, frozenset(str(value) for value in values if value is not None)
    table = read_table(place)
    column = next((name for name in KEYS if name in table.columns), None)
    cells = (row.cells.get(column) for row in table.rows) if column else ()
    return column, frozenset(cell for cell in cells if cell)
