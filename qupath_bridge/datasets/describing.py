"""Describe a run in the words of others: RO-Crate and Croissant, two JSON files in its output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, count
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.csv_file import CSV_FILE
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.outputs.row_batches import FOLDERS, Rows
from qupath_bridge.pipeline.records import (
    CLASSES_FILE,
    REPORT_FILE,
    RUN_FILE,
    dump_json,
    load_facts,
    load_finished,
)
from qupath_bridge.stores import open_store
from qupath_bridge.suggestions import similar_value

from .croissant import croissant
from .description import Column, DescribedFile, DescribedSlide, Description
from .ro_crate import ro_crate

__all__ = ["FORMATS", "Described", "describe"]

FORMATS: Mapping[str, tuple[str, Callable[[Description], dict[str, Any]]]] = FrozenDict(
    {
        "ro-crate": ("ro-crate-metadata.json", ro_crate),
        "croissant": ("croissant.json", croissant),
    }
)
"""File of each format in an output, and the function that makes its content."""

RECORDS = (RUN_FILE, REPORT_FILE, CSV_FILE, CLASSES_FILE)
"""Single files of a run that a description lists, where they are."""


@dataclass(frozen=True, slots=True, repr=False)
class Described(OneLine):
    """Descriptions that were written.

    Attributes
    ----------
    run_id : str
    files : tuple of str
        Their names in the output.
    warnings : tuple of str
        What others will miss in them.
    """

    run_id: str
    files: tuple[str, ...]
    warnings: tuple[str, ...]


def describe(
    output: Output,
    formats: Sequence[str] = (),
    *,
    name: str | None = None,
    description: str | None = None,
    license: str | None = None,  # noqa: A002  # as both formats call it
    creators: Sequence[str] = (),
) -> Described:
    """Write descriptions of a finished run into its output; see ``qupath_bridge.describe``.

    Raises
    ------
    UsageError
        If there is no such format.
    OutputError
        If there is no finished run, or a record of it is damaged.
    """
    wanted = tuple(dict.fromkeys(formats)) or tuple(FORMATS)
    for each in wanted:
        if each not in FORMATS:
            meant = similar_value(each, list(FORMATS))
            raise UsageError(
                f"A run cannot be described as {each!r}.",
                hint=f"Did you mean {meant}?" if meant else f"Known: {', '.join(FORMATS)}.",
            )
    made = _gather(output, name, description, license, tuple(creators))
    # All of them are made before the first is written.
    contents = {FORMATS[each][0]: dump_json(FORMATS[each][1](made)) for each in wanted}
    for file, content in contents.items():
        output.put(file, content)
    return Described(made.record["run_id"], tuple(contents), tuple(_warnings(made)))


def _warnings(made: Description) -> Iterator[str]:
    if made.license is None:
        yield "no licence is named: nobody else may use the patches. Name one with license."
    if not made.creators:
        yield "nobody is named who made the dataset. Name people or institutions with creators."


def _gather(
    output: Output,
    name: str | None,
    description: str | None,
    license_: str | None,
    creators: tuple[str, ...],
) -> Description:
    record = load_finished(output)
    slides: list[DescribedSlide] = []
    columns: dict[str, Column] = {}
    for slide_id, rows in rows_of(output):
        facts = load_facts(rows, slide_id)
        for column in _columns(rows):
            columns.setdefault(column.name, column)
        slides.append(
            DescribedSlide(
                slide_id, facts["slide_name"], facts["fingerprint"]["digest"],
                facts["fingerprint"]["size"], rows.num_rows,
            )
        )  # fmt: skip
    patches = sum(slide.patches for slide in slides)
    about = (
        f"{count(patches, 'patch', 'patches')} of {count(len(slides), 'whole-slide image')}, "
        f"exported from QuPath by qupath-bridge {record['tool']['version']}"
    )
    labels = ", ".join(record["labels"])
    return Description(
        name=name or f"Patches of run {record['run_id']}",
        description=description or about + (f"; labels: {labels}." if labels else "."),
        license=license_,
        creators=creators,
        record=record,
        slides=tuple(slides),
        files=tuple(_files(output)),
        folders=tuple(_folders(output)),
        columns=tuple(columns.values()),
        patches=patches,
    )


def _columns(rows: Rows) -> Iterator[Column]:
    """Yield the columns that have a value in some row."""
    table = rows.table()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count < table.num_rows:
            yield Column(name, column.type)


def _files(output: Output) -> Iterator[DescribedFile]:
    for name in RECORDS:
        if output.has(name):
            content = output.get(name)
            kind = "text/csv" if name == CSV_FILE else "application/json"
            digest = hashlib.sha256(content).hexdigest()
            yield DescribedFile(name, kind, len(content), digest)


def _folders(output: Output) -> Iterator[str]:
    store = open_store(output.url)
    for folder in ("index", *FOLDERS, "splits", "features", "tissue", "dropped", "inputs"):
        if next(iter(store.list(f"{folder}/")), None) is not None:
            yield folder
