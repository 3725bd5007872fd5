"""Files of the partitions of a copy: rows of runs, with their images where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Location, Output, patch_digest
from qupath_bridge.outputs.draft_files import parquet_writer
from qupath_bridge.outputs.parquet import PICTURE
from qupath_bridge.outputs.row_batches import Rows
from qupath_bridge.parallel import ordered_map
from qupath_bridge.pipeline.records import (
    RUN_FILE,
    RUN_SCHEMA_VERSION,
    dump_json,
    load_facts,
    load_record,
)
from qupath_bridge.pipeline.rows import rows_digest
from qupath_bridge.schemas import LakePartRecord

from .copies import is_whole
from .partitions import Part
from .values import CatalogRun

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft, Store

__all__ = ["IMAGE", "PartWriter", "rows_of"]

GROUP_ROWS, GROUP_BYTES = 1 << 14, 32 << 20
"""Rows, and bytes of their images, after which a row group is written: what is held in memory."""

WRITE_BYTES = 1 << 12
"""Bytes by which the size of a file that is being written may be behind."""

IMAGE, IMAGES_AT_ONCE = "image", 64


def rows_of(output: Output, run: CatalogRun, slide_id: str) -> Rows:
    """Open the rows of a slide that a run lists.

    Raises
    ------
    OutputError
        If they are gone or damaged.
    """
    rows = output.rows(slide_id)
    if rows is None:
        raise _changed(run, slide_id)
    return rows


def _changed(run: CatalogRun, slide_id: str) -> OutputError:
    return OutputError(
        f"The rows of {slide_id} in {run.place} are not those that its {RUN_FILE} lists.",
        hint="Wait until the run is finished, or check it with `qupath-bridge verify`.",
    )


@dataclass(slots=True)
class PartWriter:
    """Writes the partitions of one version, or finds them written."""

    store: Store
    version: str
    columns: pa.Schema
    file_size: int
    reused: int = 0
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def files_of(self, part: Part) -> list[dict[str, Any]]:
        """Return the files of a partition as ``lake.json`` lists them."""
        record = f"parts/{self.version}/{xxhash.xxh3_64_hexdigest(part.folder.encode())}.json"
        known = self._known(record)
        if known is not None:
            self.reused += len(known)
            return known
        files = list(self._write(part))
        written = sum(file["rows"] for file in files)
        if written != part.rows:
            raise OutputError(
                f"{part.folder or 'The copy'} got {written} rows; the reports of the runs have "
                f"{part.rows}.",
                hint="`qupath-bridge verify` of each run lists what is wrong.",
            )
        found = {"schema_version": RUN_SCHEMA_VERSION, "files": files}
        self.store.put(record, dump_json(found), durable=True)
        return files

    def _known(self, record: str) -> list[dict[str, Any]] | None:
        """Return the files of a partition that an interrupted copy finished, None if not whole."""
        if not self.store.exists(record):
            return None
        files: list[dict[str, Any]] = load_record(self.store, record, LakePartRecord)["files"]
        whole = all(is_whole(self.store, self.version, file) for file in files)
        return files if whole else None

    def _write(self, part: Part) -> Iterator[dict[str, Any]]:
        """Write the files of a partition, and yield what is to be known of each."""
        groups = self._groups(part)
        group = next(groups, None)
        number = 0
        while group is not None:
            name = f"{part.folder}part-{number:06d}.parquet"
            full = f"data/{self.version}/{name}"
            draft = _Counted(self.store.draft(full.rpartition("/")[0]))
            try:
                rows = 0
                with parquet_writer(draft, self.columns, write_bytes=WRITE_BYTES) as parquet:
                    while group is not None and (not rows or draft.size < self.file_size):
                        parquet.write_table(group, len(group))
                        rows += len(group)
                        group = next(groups, None)
                draft.publish(full, durable=True)
            finally:
                draft.discard()
            yield {
                "name": name,
                "rows": rows,
                "size": draft.size,
                "digest": f"xxh3_128:{draft.digest.hexdigest()}",
            }
            number += 1

    def _groups(self, part: Part) -> Iterator[pa.Table]:
        """Yield the rows of a partition, as many as are a row group."""
        held: list[pa.Table] = []
        rows = size = 0
        for piece in self._pieces(part):
            held.append(piece)
            rows += len(piece)
            size += piece.nbytes
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
        if held:
            yield pa.concat_tables(held)

    def _pieces(self, part: Part) -> Iterator[pa.Table]:
        outputs: dict[str, Output] = {}
        for run, slide, _ in part.slides:
            if run.place not in outputs:
                outputs[run.place] = open_output(run.place)
            output = outputs[run.place]
            rows = rows_of(output, run, slide.slide_id)
            self._check(rows, run, slide.slide_id)
            for batch in rows.batches():
                table = pa.Table.from_batches([batch])
                if part.by_label:
                    table = table.filter(_is_label(table.column("label"), part.label))
                if len(table):
                    yield from self._completed(table, output, run.place, slide.slide_id)

    def _check(self, rows: Rows, run: CatalogRun, slide_id: str) -> None:
        """Compare rows with what the run recorded, once per slide."""
        if (run.run_id, slide_id) in self._checked:
            return
        if rows_digest(rows, load_facts(rows, slide_id)) != run.rows.get(slide_id):
            raise _changed(run, slide_id)
        self._checked.add((run.run_id, slide_id))

    def _completed(
        self, table: pa.Table, output: Output, place: str, slide_id: str
    ) -> Iterator[pa.Table]:
        """Yield rows with all columns of the copy: in one piece, or a few images at a time."""
        step = IMAGES_AT_ONCE if IMAGE in self.columns.names else len(table)
        for begin in range(0, len(table), step):
            part = table.slice(begin, step)
            same = {"place": place, "slide_id": slide_id}
            columns = {
                **{name: pa.array([text] * len(part)) for name, text in same.items()},
                **{name: part.column(name) for name in part.column_names},
            }
            if IMAGE in self.columns.names:
                columns[IMAGE] = pa.array(_images(output, part), PICTURE)
            yield pa.table(
                [
                    columns[each.name].cast(each.type)
                    if each.name in columns
                    else pa.nulls(len(part), each.type)
                    for each in self.columns
                ],
                schema=self.columns,
            )


def _images(output: Output, rows: pa.Table) -> list[dict[str, Any]]:
    wanted = ("patch_id", "path", "offset", "length", "digest")
    images = []
    listed = rows.select(list(wanted)).to_pylist()
    places = (Location(row["path"], row["offset"], row["length"]) for row in listed)
    read = ordered_map(output.read, places, workers=output.at_once)
    for row, data in zip(listed, read, strict=True):
        if patch_digest(data) != row["digest"]:
            raise OutputError(
                f"The patch {row['patch_id']} in {output.describe()} is damaged.",
                hint="`qupath-bridge verify` lists everything that is wrong.",
            )
        images.append({"bytes": data, "path": row["patch_id"]})
    return images


def _is_label(labels: pa.ChunkedArray, label: str | None) -> pa.ChunkedArray:
    return pc.is_null(labels) if label is None else pc.fill_null(pc.equal(labels, label), False)


class _Counted:
    """A draft of which size and digest are known."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.size = 0
        self.digest = xxhash.xxh3_128()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._draft.write(data)
        self.digest.update(data)
        self.size += len(data)

    def publish(self, name: str, *, durable: bool = False) -> None:
        """Put the file under its name."""
        self._draft.publish(name, durable=durable)

    def discard(self) -> None:
        """Forget the file."""
        self._draft.discard()
