"""Runs in which a lineage looks: of an output, or of a project that has a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc

from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.outputs.row_batches import Rows, places_in
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.pipeline.records import RUN_FILE, load_facts, load_finished
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.roundtrip.runs import ProjectRuns
from qupath_bridge.roundtrip.tile_files import RULE_KEY

from .lineage_subject import Subject

__all__ = ["FoundPatch", "KnownRun", "OutputRun", "ProjectRun", "known_keys", "open_recorded"]


@dataclass(frozen=True, slots=True, eq=False)
class FoundPatch:
    """A patch of a run: the facts of its slide, and its row as the index has it.

    ``intact`` says whether the bytes of the file that was asked about are those that the run
    wrote; None if no file was given, or several patches are in it.
    """

    facts: Mapping[str, Any]
    row: Mapping[str, Any]
    intact: bool | None = None


class KnownRun(Protocol):
    """A run whose records are there."""

    @property
    def record(self) -> Mapping[str, Any]:
        """``run.json``."""

    @property
    def place(self) -> str:
        """The place of its records, as messages call it."""

    def slides(self) -> Iterator[Mapping[str, Any]]:
        """Yield the facts of each slide."""

    def find(self, subject: Subject) -> tuple[FoundPatch, ...]:
        """Return the patches that are meant: none, one, or those of a file with several."""

    def rows(self, slide_id: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield some columns of the rows of a slide."""


class OutputRun:
    """The run of an output.

    Raises
    ------
    OutputError
        If there is no finished run.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self.record: Mapping[str, Any] = load_finished(output)
        self.place = output.describe()

    def slides(self) -> Iterator[Mapping[str, Any]]:
        """Yield the facts of each slide."""
        for slide_id, rows in rows_of(self.output):
            yield load_facts(rows, slide_id)

    def rows(self, slide_id: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield some columns of the rows of a slide."""
        rows = self.output.rows(slide_id)
        for batch in () if rows is None else rows.batches(columns):
            yield from batch.to_pylist()

    def find(self, subject: Subject) -> tuple[FoundPatch, ...]:
        """Return the patches that are meant, by path, id, or bytes."""
        found: list[FoundPatch] = []
        for slide_id, rows in self._likely(subject):
            at = _rows_at(rows, subject)
            if not at:
                continue
            facts = load_facts(rows, slide_id)
            meant = rows.table().take(at).to_pylist()
            found += [FoundPatch(facts, row, _intact(row, subject)) for row in meant]
        return tuple(found)

    def _likely(self, subject: Subject) -> Iterator[tuple[str, Rows]]:
        """Yield the slides that can have the patch: an id of a patch names its slide."""
        slide_id = slide_of_patch(subject.key or "")
        own = None if slide_id is None else self.output.rows(slide_id)
        if slide_id is not None and own is not None:
            yield slide_id, own
        elif slide_id is None:
            yield from rows_of(self.output)


def _rows_at(rows: Rows, subject: Subject) -> list[int]:
    """Return the numbers of the rows that are meant: by path, by id, or by bytes."""
    paths = [path for path, _, _ in places_in(rows.schema.names)]
    wanted = [(name, subject.path) for name in paths] if subject.path else []
    if subject.key is not None:
        wanted += [(name, subject.key) for name in ("patch_id", "tile_uuid")]
    elif not wanted and subject.digest is not None:
        wanted = [(name, subject.digest) for name in rows.schema.names if name.endswith("digest")]
        wanted = [each for each in wanted if each[0] != "slide_digest"]
    for name, value in wanted:
        column = rows.table([name]).column(0)
        if at := pc.indices_nonzero(pc.equal(column, value)).to_pylist():
            return [int(number) for number in at]
    return []


def _intact(row: Mapping[str, Any], subject: Subject) -> bool | None:
    """Return whether the bytes of a file are those of the patch, or of a mask of it."""
    if subject.digest is None:
        return None
    digests = {value for name, value in row.items() if name.endswith("digest")}
    return subject.digest in digests - {row["slide_digest"]}


class ProjectRun:
    """A run as its project has it: without its output, as where a newer run replaced it."""

    def __init__(self, runs: ProjectRuns, run_id: str) -> None:
        self.runs = runs
        self.run_id = run_id
        self.place = str(runs.folders[run_id])
        if problem := runs.problem(run_id):
            raise OutputError(problem)
        self.record: Mapping[str, Any] = runs.record(run_id)

    def slides(self) -> Iterator[Mapping[str, Any]]:
        """Yield the facts of each slide."""
        for slide in self.record["slides"]:
            if facts := self._facts(slide["entry_id"], slide["slide_id"]):
                yield facts

    def rows(self, slide_id: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield some columns of the rows of a slide, as far as tiles have them."""
        for facts in self.slides():
            if facts["slide_id"] == slide_id:
                for tile in self.runs.written_tiles(self.run_id, facts["entry_id"]):
                    row = _row_of(tile, facts)
                    yield {name: row.get(name) for name in columns}

    def find(self, subject: Subject) -> tuple[FoundPatch, ...]:
        """Return the patch that is meant, by path, id or bytes."""
        slide_id = slide_of_patch(subject.key or "")
        if subject.key is None and subject.path is None:
            wanted = {subject.digest}
        else:
            wanted = {value for value in (subject.key, subject.path) if value is not None}
        for facts in self.slides():
            if slide_id not in (None, facts["slide_id"]):
                continue
            for tile in self.runs.written_tiles(self.run_id, facts["entry_id"]):
                row = _row_of(tile, facts)
                if wanted & {row["patch_id"], row["tile_uuid"], row["path"], row["digest"]}:
                    return (FoundPatch(facts, row, _intact(row, subject)),)
        return ()

    def _facts(self, entry_id: str, slide_id: str | None) -> Mapping[str, Any]:
        facts = self.runs.facts(self.run_id, entry_id)
        return facts if facts and facts["slide_id"] == slide_id else {}


_PLACE = ("x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t")


def _row_of(tile: Tile, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tile says of its patch, as a row of the index; no key for what it lacks."""
    rule = tile.metadata.get(RULE_KEY)
    return {
        "patch_id": tile.name,
        "tile_uuid": tile.id,
        "run_id": facts["run_id"],
        "path": tile.metadata.get("qb.path"),
        "digest": tile.metadata.get("qb.digest"),
        "label": tile.class_path,
        "label_source": None if rule is None else "corrected",
        "rule_label": rule or None,
        "slide_digest": facts["fingerprint"]["digest"],
        **dict(zip(_PLACE, (*tile.box, *tile.plane), strict=True)),
    }


def open_recorded(runs: ProjectRuns, run_id: str) -> KnownRun:
    """Return a run of a project: its output, if that still has it, else what the project has.

    Raises
    ------
    OutputError
        If its record in the project is damaged.
    """
    out = runs.record(run_id).get("out")
    if out and (not Path(out).is_absolute() or (Path(out) / RUN_FILE).is_file()):
        with suppress(BridgeError):
            found = OutputRun(open_output(out))
            if found.record["run_id"] == run_id:
                return found
    return ProjectRun(runs, run_id)


def known_keys(run: KnownRun, subject: Subject) -> dict[str, set[str]]:
    """Return the patches of a table that a run has, by slide id."""
    column = subject.column
    if column is None:
        return {}
    return {
        facts["slide_id"]: {row[column] for row in run.rows(facts["slide_id"], [column])}
        & subject.keys
        for facts in run.slides()
    }
