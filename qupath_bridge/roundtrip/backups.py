"""Journal of the write-backs of a project, with the data files as they were.

``<project>/qupath_bridge/backups/<number>-<write or undo>-<run id>/`` is one call::

    record.json          what was done, by which engine, from which output
    <entry id>.json      the change of one slide
    <entry id>.qpdata    its data file as it was

The number orders them; no clock takes part. A slide has files of its own, so that the cost of a
call grows with its slides. They are written before the data file is replaced: they show whether
that happened, whenever the process was interrupted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import xxhash

from qupath_bridge.errors import OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import BRIDGE_FOLDER
from qupath_bridge.pipeline.records import check_named, dump_json, load_record, timestamp
from qupath_bridge.schemas import BackupRecord, ChangeRecord
from qupath_bridge.stores.local import LocalStore, copy_permissions

__all__ = ["DATA_FILE", "Action", "Backup", "Change", "backups_of", "content_digest", "prune"]

DATA_FILE = "data.qpdata"
RECORD = "record.json"
SCHEMA_VERSION = 1
_NAME = re.compile(r"(\d{6,})-(write|undo)-.+")
Action = Literal["write", "undo"]
_HEAD = ("action", "run_id", "out", "replace", "started", "engine")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the data file of one slide that was made, or was about to be made.

    ``before`` and ``after`` are digests of the file; ``before`` is None if there was none, and
    ``after`` is None if it was removed again. ``removed`` and ``added`` are ids of tiles. Equal
    digests are an event without a change: a run was taken out whose tiles others had replaced.
    """

    entry_id: str
    slide_name: str
    before: str | None
    after: str | None
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backup:
    """One write-back, or one undo: the changes of slides and their old data files.

    Attributes
    ----------
    folder : Path
        Its name has the number, by which backups are ordered.
    out : str
        Output of the run, if it is known.
    replace : bool
        True if the tiles of all other runs were to be removed.
    changes : mapping of str to Change
        By entry ID; empty for one that is being made.
    """

    folder: Path
    action: Action
    run_id: str
    started: str
    engine: str
    out: str = ""
    replace: bool = False
    changes: Mapping[str, Change] = field(default_factory=FrozenDict)

    @classmethod
    def new(
        cls, project: Path, action: Action, run_id: str, engine: str, *, out: str, replace: bool
    ) -> Backup:
        """Return the next one; its folder is made with its first change."""
        root = project / BRIDGE_FOLDER / "backups"
        number = max(map(_number, _folders(root)), default=0) + 1
        folder = root / f"{number:06d}-{action}-{run_id}"
        return cls(folder, action, run_id, timestamp(), engine, out, replace)

    def store(self, change: Change, content: bytes | None, permissions: Path) -> None:
        """Store a change that is going to be made, and the data file as it was.

        ``content`` is None if there is no file to store; ``permissions`` is a file whose mode and
        group the stored one gets.
        """
        store = LocalStore(self.folder)
        if not store.exists(RECORD):
            head = {name: getattr(self, name) for name in _HEAD}
            store.put(RECORD, dump_json({"schema_version": SCHEMA_VERSION, **head}), durable=True)
        if content is not None:
            with store.staged(_data(change.entry_id), durable=True) as path:
                path.write_bytes(content)
                copy_permissions(permissions, path)
        record = {"schema_version": SCHEMA_VERSION, **asdict(change)}
        store.put(f"{change.entry_id}.json", dump_json(record), durable=True)

    def drop(self, entry_id: str) -> None:
        """Remove a change that was stored and then not made."""
        store = LocalStore(self.folder)
        store.delete(f"{entry_id}.json")
        store.delete(_data(entry_id))

    def file(self, entry_id: str) -> Path:
        """Return the place of the stored data file of a slide."""
        return self.folder / _data(entry_id)

    def content(self, entry_id: str) -> bytes | None:
        """Return the data file as it was; None if there was none.

        Raises
        ------
        OutputError
            If it is missing or damaged.
        """
        before = self.changes[entry_id].before
        if before is None:
            return None
        content = LocalStore(self.folder).get(_data(entry_id))
        if content_digest(content) != before:
            raise OutputError(
                f"{self.file(entry_id)} was changed since it was stored; it is not restored.",
                hint="Put the right file there, or import the patches in QuPath.",
            )
        return content

    def state(self, entry_id: str, now: str | None) -> str:
        """Return the state of a change, from the digest that the data file has now."""
        change = self.changes[entry_id]
        if now == change.after:
            return "in place"
        return "not written" if now == change.before else "changed since"


def content_digest(content: bytes | None) -> str | None:
    """Return the digest of a file's bytes; None if there is no file."""
    return None if content is None else f"xxh3_128:{xxhash.xxh3_128(content).hexdigest()}"


def backups_of(project: Path) -> Iterator[Backup]:
    """Yield the backups in a project's folder, oldest first; damaged records are skipped."""
    for folder in _folders(project / BRIDGE_FOLDER / "backups"):
        if (folder / RECORD).is_file():
            try:
                yield _load(folder)
            except OutputError:
                continue


def prune(project: Path, keep: int) -> list[Path]:
    """Remove the oldest backups, so that ``keep`` are left (all if 0); return their folders.

    Folders without a record, which killed write-backs left, are removed too. The caller has to
    hold the project's lock.

    Raises
    ------
    OutputError
        If a record cannot be removed.
    """
    known = [backup.folder for backup in backups_of(project)]
    old = known[:-keep] if keep else []
    for folder in old:
        LocalStore(folder).delete(RECORD)  # first: without it the folder is not a backup
    for folder in _folders(project / BRIDGE_FOLDER / "backups"):
        if not (folder / RECORD).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return old


def _folders(root: Path) -> list[Path]:
    """Return the folders of backups by their numbers, whole or not."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted((folder for folder in found if _NAME.fullmatch(folder.name)), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def _data(entry_id: str) -> str:
    return f"{entry_id}.qpdata"


def _load(folder: Path) -> Backup:
    store = LocalStore(folder)
    record = load_record(store, RECORD, BackupRecord)
    changes = {}
    for name in store.list():
        entry_id, _, ending = name.rpartition(".")
        if ending == "json" and name != RECORD:
            facts = load_record(store, name, ChangeRecord)
            check_named(facts, entry_id=entry_id, path=folder / name)
            del facts["schema_version"]
            lists = {key: tuple(facts[key]) for key in ("removed", "added")}
            changes[entry_id] = Change(**{**facts, **lists})
    return Backup(folder, **{name: record[name] for name in _HEAD}, changes=FrozenDict(changes))
