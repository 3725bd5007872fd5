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
from .database.models import IndexedRun, IndexedSlide, Patch, Provenance
from .jobs import JobState, NoSuchError
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
    job: JobState,
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
    job : JobState
    label : str, optional
        Only patches with this label, also as one of several.
    slide : str, optional
        Only patches of the slide with this id.
    after : int
        Number of the last patch of the page before.
    limit : int
    """
    query = sa.select(*SHOWN).where(Patch.number > after)
    with database.read() as connection:
        run = connection.scalar(
            sa.select(IndexedRun.number).where(
                IndexedRun.output == job.url, IndexedRun.run_id == job.run_id
            )
        )
        if run is None:
            return ()
        query = query.where(Patch.run == run)
        if slide is not None:
            query = query.where(Patch.slide_id == slide)
        if label is not None:
            config = JobRequest.from_json(job.request).settings().config
            query = query.where(_has_label(connection, label, multi=config.label_rule().multi))
        page = query.order_by(Patch.number).limit(limit)
        return connection.execute(page).mappings().all()


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
