"""``features/<name>/record.json``: which encoder made the features of a run, and how."""

from __future__ import annotations

from typing import Any, Literal

from qupath_bridge.errors import OutputError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.records import dump_json, load_record
from qupath_bridge.schemas import FileName, Record

__all__ = ["FeatureRecord", "check_same", "file_of", "read_record", "write_record"]

FOLDER = "features/"
_AGAIN = "Delete the folder, and make the features again."


class FeatureRecord(Record):
    """Record of the features that one encoder made of a run.

    ``slides`` has the number of patches of each slide that has a file; ``state`` is ``running``
    until all have one.
    """

    name: str
    state: Literal["running", "complete"]
    run_id: str
    index_digest: str
    encoder: dict[str, Any]
    encoder_digest: str
    mpp: list[float]
    format: str
    dtype: str
    tool: str
    runtime: str
    provider: str
    width: int | None
    slides: dict[FileName, int]
    finished: str | None


def file_of(name: str, file: str) -> str:
    """Return the name in the output of a file of features."""
    return f"{FOLDER}{name}/{file}"


def read_record(output: Output, name: str) -> FeatureRecord | None:
    """Return the record of features; None if there are none of this name.

    Raises
    ------
    OutputError
        If it is damaged.
    """
    place = file_of(name, "record.json")
    if not output.has(place):
        return None
    return FeatureRecord.model_validate(load_record(output, place, FeatureRecord, hint=_AGAIN))


def write_record(output: Output, record: FeatureRecord) -> None:
    """Write a record; an earlier one is replaced."""
    place = file_of(record.name, "record.json")
    output.put(place, dump_json(record.model_dump(mode="json")), durable=True)


def check_same(before: FeatureRecord | None, now: FeatureRecord) -> None:
    """Refuse to mix features of two encoders, formats or types in one folder.

    Raises
    ------
    OutputError
    """
    if before is None:
        return
    for key, what in (("encoder_digest", "encoder"), ("format", "format"), ("dtype", "dtype")):
        old, new = getattr(before, key), getattr(now, key)
        if old != new:
            raise OutputError(
                f"The features {now.name!r} were made with another {what}: {old}, not {new}.",
                hint="Give these another name, or delete the folder of the others.",
            )
