"""Patches that jobs committed: found in the index, read from their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from qupath_bridge import registry
from qupath_bridge.codecs import Contents
from qupath_bridge.codecs.png import PngEncoder
from qupath_bridge.datasets.patch_reading import read_bytes, read_patch
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs import open_output

from .database import Database
from .database.models import IndexedRun, IndexedSlide, Job, Patch, Provenance
from .jobs import NoSuchError, no_such_job
from .requests import JobRequest

__all__ = ["find_patch", "find_patches", "read_picture"]

Row = sa.RowMapping

SHOWN = tuple(Patch.__table__.columns[name] for name in (
    "number", "tile_uuid", "patch_id", "slide_id", "label", "labels", "label_source", "x", "y", "w",
    "h", "z", "t", "mpp", "path", "digest", "shares",
))  # fmt: skip
"""Columns of a patch in a list; the others are read for a single patch."""


def find_patches(
    database: Database,
    job_id: str,
    *,
    label: str | None = None,
    slide: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> Sequence[Row]:
    """Return committed patches of a job in the order of the index.

    Parameters
    ----------
    database : Database
    job_id : str
    label : str, optional
        Only patches with this label, also as one of several.
    slide : str, optional
        Only patches of the slide with this id.
    after : int
        Number of the last patch of the page before.
    limit : int

    Raises
    ------
    NoSuchError
        If there is no such job.
    """
    mine = (IndexedRun.output == Job.url) & (IndexedRun.run_id == Job.run_id)
    found = sa.select(Job.request, IndexedRun.number).outerjoin_from(Job, IndexedRun, mine)
    with database.read() as connection:
        job = connection.execute(found.where(Job.job_id == job_id)).first()
        if job is None:
            raise no_such_job(job_id)
        if job.number is None:
            return ()
        multi = label is not None and _can_have_several(job.request)
        fixed: list[_Fixed] = [(Patch.run, job.number)]
        if slide is not None:
            fixed.append((Patch.slide_id, slide))
        elif label is not None and not multi:
            fixed.append((Patch.label, label))
        page = _page_after(connection, after, fixed)
        if label is not None and (slide is not None or multi):
            page = page.where(_has_label(connection, label, multi=multi))
        return connection.execute(page.limit(limit)).mappings().all()


_Fixed = tuple[sa.orm.InstrumentedAttribute[Any], Any]


def _page_after(connection: sa.Connection, after: int, fixed: Sequence[_Fixed]) -> sa.Select[Any]:
    """Select the patches behind a number that have fixed values in the first columns of an index.

    PostgreSQL would choose any index with the right order, and read all patches up to the first
    that fits: of another run, or with another label. So the order begins with a column that one
    index alone has there, and as a range, because a constant would be left out of the order.
    """
    if connection.dialect.name != "postgresql":
        query = sa.select(*SHOWN).where(*(column == value for column, value in fixed))
        return query.where(Patch.number > after).order_by(Patch.number)
    # Without statistics, as after COPY, every index would seem as good, and sorting cheap.
    connection.exec_driver_sql("SET LOCAL enable_sort = off")
    *others, (column, value) = fixed
    query = sa.select(*SHOWN).where(*(column == value for column, value in others))
    begin = sa.tuple_(column, Patch.number) > sa.tuple_(value, after)
    return query.where(begin, column <= value).order_by(column, Patch.number)


def _can_have_several(request: Mapping[str, Any]) -> bool:
    """Return whether a patch of a job can have several labels."""
    return JobRequest.from_json(request).settings().config.label_rule().multi


def find_patch(database: Database, tile_uuid: str) -> Row:
    """Return the newest patch with a tile id, with the run and slide that it comes from.

    Raises
    ------
    NoSuchError
        If there is none.
    """
    query = (
        sa.select(
            Patch.__table__,
            IndexedRun.run_id,
            IndexedRun.output,
            IndexedRun.record,
            IndexedSlide.slide_name,
            Provenance.project,
            Provenance.slide_file,
            Provenance.slide_digest,
            Provenance.annotations,
        )
        .join(IndexedRun, IndexedRun.number == Patch.run)
        .join(
            IndexedSlide,
            (IndexedSlide.run == Patch.run) & (IndexedSlide.slide_id == Patch.slide_id),
        )
        .join(
            Provenance,
            (Provenance.run == Patch.run) & (Provenance.slide_id == Patch.slide_id),
        )
        .where(Patch.tile_uuid == tile_uuid)
        .order_by(IndexedRun.run_id.desc())
        .limit(1)
    )
    with database.read() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise NoSuchError(f"No patch {tile_uuid!r} in any run that this service knows.")
    return row


def read_picture(row: Row) -> tuple[bytes, str]:
    """Return the bytes of a patch and their media type.

    Files are given as they are; of pixels in arrays a PNG is made.

    Raises
    ------
    OutputError
        If the patch is not there any more, or is not what its digest says.
    UsageError
        If its pixels are not RGB.
    """
    name = row["record"]["config"]["format"]
    output = open_output(row["output"], row["record"]["config"]["container"])
    place: Mapping[str, Any] = {
        "patch_id": row["patch_id"],
        "path": row["path"],
        "offset": row["offset"],
        "length": row["length"],
        "digest": row["digest"],
        "width": row["details"]["width"],
        "height": row["details"]["height"],
        "mpp": row["mpp"],
        "channels": row["details"]["channels"],
        "dtype": row["details"]["dtype"],
    }
    if name != "raw":
        encoder = registry.load("encoder", name)
        return read_bytes(output, place, f"patch {row['patch_id']}"), str(
            getattr(encoder, "media_type", "application/octet-stream")
        )
    if not Contents.of_row(place).is_rgb:
        raise UsageError(
            f"The pixels of patch {row['patch_id']} cannot be shown: they are not RGB.",
            hint="Read them from the output.",
        )
    return PngEncoder().encode(read_patch(output, place, raw=True)), PngEncoder.media_type


def _has_label(connection: sa.Connection, label: str, *, multi: bool) -> sa.ColumnElement[bool]:
    """Compare with the one label of a patch; with all of them only where there can be several."""
    if not multi:
        return Patch.label == label
    if connection.dialect.name == "postgresql":
        return sa.cast(Patch.labels, JSONB).contains([label])
    each = sa.func.json_each(Patch.labels).table_valued("value")
    return sa.exists(sa.select(each.c.value).where(each.c.value == label))
