"""Backups of data files before they are changed, and a journal of the changes.

``<project>/qupath_bridge/backups/<time>-<action>-<run id>/`` has the files as they were, one per
slide, and ``record.json``. The record is written before the data file is replaced, so that it
shows for each slide whether that happened, whenever the process was interrupted.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import xxhash

from qupath_bridge.errors import OutputError
from qupath_bridge.pipeline.places import BRIDGE_FOLDER
from qupath_bridge.pipeline.records import dump_json, load_record, timestamp
from qupath_bridge.schemas import BackupRecord
from qupath_bridge.stores.local import LocalStore

__all__ = ["DATA_FILE", "Action", "Backup", "Change", "backups_of", "content_digest", "prune"]

DATA_FILE = "data.qpdata"
RECORD = "record.json"
SCHEMA_VERSION = 1
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-(write|undo)-")
Action = Literal["write", "undo"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the data file of one slide that was made, or was about to be made.

    ``before`` and ``after`` are digests of the file; ``before`` is None if there was none, and
    ``after`` is None if it was removed again. ``removed`` and ``added`` are ids of tiles.
    """

    entry_id: str
    slide_name: str
    before: str | None
    after: str | None
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backup:
    """The old data files of one write-back, or of undoing one, with its record."""

    folder: Path
    action: Action
    run_id: str
    started: str
    engine: str
    changes: Mapping[str, Change] = field(default_factory=dict)

    @classmethod
    def new(cls, project: Path, action: Action, run_id: str, engine: str) -> Backup:
        """Return an empty one; its folder is made when something is kept."""
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        folder = project / BRIDGE_FOLDER / "backups" / f"{now}-{action}-{run_id}"
        return cls(folder, action, run_id, timestamp(), engine)

    def keep(self, change: Change, content: bytes | None) -> Backup:
        """Keep a data file as it was, with the change to be made; return the new record."""
        store = LocalStore(self.folder)
        if content is not None:
            store.put(_file(change.entry_id), content, durable=True)
        kept = replace(self, changes={**self.changes, change.entry_id: change})
        record = {
            "schema_version": SCHEMA_VERSION,
            "action": self.action,
            "run_id": self.run_id,
            "started": self.started,
            "engine": self.engine,
            "changes": {name: asdict(each) for name, each in kept.changes.items()},
        }
        store.put(RECORD, dump_json(record), durable=True)
        return kept

    def file(self, entry_id: str) -> Path:
        """Return the place of the kept data file of a slide."""
        return self.folder / _file(entry_id)

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
        content = LocalStore(self.folder).get(_file(entry_id))
        if content_digest(content) != before:
            raise OutputError(
                f"{self.file(entry_id)} was changed since it was kept; it is not restored."
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
    root = project / BRIDGE_FOLDER / "backups"
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
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
    root = project / BRIDGE_FOLDER / "backups"
    for folder in root.iterdir() if root.is_dir() else ():
        if _NAME.match(folder.name) and not (folder / RECORD).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return old


def _file(entry_id: str) -> str:
    return f"{entry_id}.qpdata"


def _load(folder: Path) -> Backup:
    record = load_record(LocalStore(folder), RECORD, BackupRecord)
    changes = {
        name: Change(**{**each, "removed": tuple(each["removed"]), "added": tuple(each["added"])})
        for name, each in record["changes"].items()
    }
    return Backup(
        folder, record["action"], record["run_id"], record["started"], record["engine"], changes
    )
