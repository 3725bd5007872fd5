"""The index of what runs committed, made from their outputs and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
import xxhash

from qupath_bridge.errors import InterruptedRunError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.row_batches import Rows
from qupath_bridge.pipeline.records import REPORT_FILE, RUN_FILE, load_facts, load_record
from qupath_bridge.schemas import RunRecord

from .engine import Database
from .models import Artifact, Correction, IndexedRun, IndexedSlide, Patch, Provenance

__all__ = ["index_run", "index_slide"]

RECORDS = (RUN_FILE, REPORT_FILE, "index.csv", "classes.json")
"""Files of a run that are listed as artifacts, where they are there."""

CORRECTED = "corrected"
"""Source of a label that a person gave."""

BATCH = 2_000
"""Rows that are inserted at once."""

DETAILS = (
    "col", "row", "x_slide", "y_slide", "w_slide", "h_slide", "width", "height", "downsample",
    "label_share", "margin", "tissue_share", "rule_label", "region_ids", "tma_core", "channels",
    "dtype", "metadata",
)  # fmt: skip
"""Columns of the index that are kept together, as one JSON object."""


def index_run(
    database: Database, out: str, *, anew: bool = True, go_on: Callable[[], bool] = lambda: True
) -> int:
    """Index a run: its record, slides, patches, corrections, provenance and artifacts.

    Each slide is a transaction of its own: a run may have so many that others would wait long.

    Parameters
    ----------
    database : Database
    out : str
        Path or URL of the output.
    anew : bool
        Whether slides are indexed again that were indexed since they were committed. A run of a
        million patches takes minutes, and its patches get other numbers.
    go_on : callable
        Called before each slide; when it returns False, those that follow stay as they were.

    Returns
    -------
    int
        Number of its patches.

    Raises
    ------
    OutputError
        If there is no run, or a record is damaged.
    InterruptedRunError
        If ``go_on`` returned False.
    """
    output = open_output(out)
    record = load_record(output, RUN_FILE, RunRecord)
    with database.write() as connection:
        run = _run_number(connection, output, record)
    there = sorted(output.slides())
    patches = 0
    for slide_id in there:
        if not go_on():
            raise InterruptedRunError(f"The index of {output.describe()} is not complete.")
        indexed = None if anew else _indexed_patches(database, run, output, slide_id)
        if indexed is None:
            with database.write(is_long=True) as connection:
                indexed = _index_slide(connection, run, output, slide_id)
        patches += indexed
    with database.write(is_long=True) as connection:
        known = set(
            connection.scalars(sa.select(IndexedSlide.slide_id).where(IndexedSlide.run == run))
        )
        for slide_id in known.difference(there):
            _forget(connection, run, slide_id)
        _index_artifacts(connection, run, output)
    return patches


def index_slide(database: Database, out: str, container: str, slide_id: str) -> int:
    """Index one committed slide of a run anew; return the number of its patches."""
    output = open_output(out, container)
    record = load_record(output, RUN_FILE, RunRecord)
    with database.write(is_long=True) as connection:
        mine = (IndexedRun.output == output.url) & (IndexedRun.run_id == record["run_id"])
        run = connection.scalar(sa.select(IndexedRun.number).where(mine))
        if run is None:  # else its record is left to the end: it may list very many slides
            run = _run_number(connection, output, record)
        return _index_slide(connection, run, output, slide_id)


def _run_number(connection: sa.Connection, output: Output, record: Mapping[str, Any]) -> int:
    """Return the number of the run in an output, with its record as it is now."""
    values = {
        "run_id": record["run_id"],
        "state": record["state"],
        "started": record["started"],
        "finished": record["finished"],
        "run_digest": record["run_digest"],
        "record": dict(record),
    }
    mine = IndexedRun.output == output.url
    known = connection.execute(sa.select(IndexedRun.__table__).where(mine)).mappings().first()
    if known is not None and all(known[name] == value for name, value in values.items()):
        return int(known["number"])  # not changed: that would lock it, and workers would wait
    if connection.execute(sa.update(IndexedRun).where(mine).values(**values)).rowcount == 0:
        insert = sa.insert(IndexedRun).values(output=output.url, **values)
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as pg_insert

            insert = pg_insert(IndexedRun).values(output=output.url, **values)
            insert = insert.on_conflict_do_update(index_elements=["output"], set_=values)
        connection.execute(insert)
    number = connection.scalar(sa.select(IndexedRun.number).where(mine))
    return int(number)  # type: ignore[arg-type]


def _forget(connection: sa.Connection, run: int, slide_id: str) -> None:
    for table in (IndexedSlide, Patch, Correction, Provenance):
        connection.execute(sa.delete(table).where(table.run == run, table.slide_id == slide_id))


def _indexed_patches(database: Database, run: int, output: Output, slide_id: str) -> int | None:
    """Return the number of patches of a slide that is indexed as it is; None for any other.

    Nothing is locked for that: at the end of a job nearly all are.
    """
    rows = output.rows(slide_id)
    if rows is None:
        return None
    mine = (IndexedSlide.run == run) & (IndexedSlide.slide_id == slide_id)
    with database.read() as connection:
        known = connection.scalar(sa.select(IndexedSlide.facts).where(mine))
    return rows.num_rows if known == load_facts(rows, slide_id) else None


def _index_slide(connection: sa.Connection, run: int, output: Output, slide_id: str) -> int:
    """Index a slide; return the number of its patches."""
    if connection.dialect.name == "postgresql":  # a worker that was thought dead may do it, too
        place = sa.func.hashtextextended(f"{run}/{slide_id}", 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(place)))
    rows = output.rows(slide_id)
    facts = None if rows is None else load_facts(rows, slide_id)
    _forget(connection, run, slide_id)
    if rows is None or facts is None:
        return 0
    connection.execute(
        sa.insert(IndexedSlide).values(
            run=run, slide_id=slide_id, entry_id=facts["entry_id"],
            slide_name=facts["slide_name"], plan_digest=facts["plan_digest"],
            patches=rows.num_rows, facts=dict(facts),
        )
    )  # fmt: skip
    connection.execute(
        sa.insert(Provenance).values(
            run=run, slide_id=slide_id, project=facts["project"], slide_file=facts["path"],
            slide_digest=facts["fingerprint"]["digest"], annotations=facts["annotation_digest"],
        )
    )  # fmt: skip
    _insert_patches(connection, (_patch(run, slide_id, row) for row in _rows(rows)))
    corrections = [
        {
            "run": run,
            "slide_id": slide_id,
            "patch_id": row["patch_id"],
            "labels": _list(row["label"]),
            "rule_labels": _list(row["rule_label"]),
            "source": row["label_source"],
        }
        for row in _rows(rows)
        if row["label_source"] == CORRECTED
    ]
    if corrections:
        connection.execute(sa.insert(Correction), corrections)
    return int(rows.num_rows)


def _rows(rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield the rows of a slide, some thousand in memory at a time."""
    for batch in rows.batches():
        yield from batch.to_pylist(maps_as_pydicts="strict")


def _list(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _patch(run: int, slide_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    labels = _list(row["label"])
    return {
        "run": run,
        "slide_id": slide_id,
        "patch_id": row["patch_id"],
        "tile_uuid": row["tile_uuid"],
        "label": labels[0] if labels else None,
        "labels": labels,
        "label_source": row["label_source"],
        "x": row["x_qupath"],
        "y": row["y_qupath"],
        "w": row["w_qupath"],
        "h": row["h_qupath"],
        "z": row["z"],
        "t": row["t"],
        "mpp": row["mpp"],
        "path": row["path"],
        "offset": row["offset"],
        "length": row["length"],
        "digest": row["digest"],
        "shares": row["shares"] or {},
        "details": {name: row[name] for name in DETAILS if row.get(name) is not None},
    }


def _insert_patches(connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Insert very many rows: by COPY where the database has it."""
    columns = [column.name for column in Patch.__table__.columns if column.name != "number"]
    if connection.dialect.name != "postgresql":
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                connection.execute(sa.insert(Patch), batch)
                batch = []
        if batch:
            connection.execute(sa.insert(Patch), batch)
        return
    from psycopg.types.json import Jsonb

    def packed(value: Any) -> Any:
        return Jsonb(value) if isinstance(value, list | dict) else value

    cursor = connection.connection.cursor()
    quoted = ", ".join(f'"{name}"' for name in columns)
    with cursor.copy(f"COPY patches ({quoted}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([packed(row[name]) for name in columns])


def _index_artifacts(connection: sa.Connection, run: int, output: Output) -> None:
    connection.execute(sa.delete(Artifact).where(Artifact.run == run))
    found = [(name, output.get(name)) for name in RECORDS if output.has(name)]
    if found:
        connection.execute(
            sa.insert(Artifact),
            [
                {
                    "run": run,
                    "name": name,
                    "bytes": len(content),
                    "digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(content)}",
                }
                for name, content in found
            ],
        )
