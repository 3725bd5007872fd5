"""The slides of a run as folds see them: file, metadata, and patches by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, count
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.outputs.row_batches import Rows
from qupath_bridge.sources.table_files import listed

__all__ = ["SLIDE_COLUMNS", "RunSlide", "label_texts", "read_slides", "values_of"]

SLIDE_COLUMNS = ("slide_id", "slide_name", "slide_file", "project")
"""Columns of the index that can be a key, as metadata can."""


@dataclass(frozen=True, slots=True, repr=False)
class RunSlide(OneLine):
    """A slide of a run that has patches.

    Attributes
    ----------
    slide_id, slide_name : str
    project, slide_file : str or None
        Folder name of the project, and base name of the slide file.
    slide_digest : str or None
        Fingerprint of the slide file; None if it is not known.
    metadata : mapping of str to str
    labels : mapping of str to int
        Number of patches by label; see :func:`label_texts`.
    """

    slide_id: str
    slide_name: str
    project: str | None
    slide_file: str | None
    slide_digest: str | None
    metadata: Mapping[str, str]
    labels: Mapping[str, int]

    @property
    def patches(self) -> int:
        """Number of patches."""
        return sum(self.labels.values())

    @property
    def shown(self) -> str:
        """The slide as messages call it."""
        return f"{self.slide_name} ({self.slide_id})"


def read_slides(output: Output) -> tuple[RunSlide, ...]:
    """Return the slides of a run that have patches, by slide id.

    Raises
    ------
    OutputError
        If the rows of a slide are damaged.
    """
    found = (_slide(slide_id, rows) for slide_id, rows in rows_of(output) if rows.num_rows)
    return tuple(sorted(found, key=lambda slide: slide.slide_id))


def _slide(slide_id: str, rows: Rows) -> RunSlide:
    labels: Counter[str] = Counter()
    for batch in rows.batches(["label"]):
        labels.update(label_texts(batch.column(0)))
    names = ["slide_name", "project", "slide_file", "slide_digest", "metadata"]
    first = next(rows.batches(names)).slice(0, 1).to_pylist()[0]  # one value for all rows
    metadata = FrozenDict(first.pop("metadata") or ())
    return RunSlide(slide_id, **first, metadata=metadata, labels=FrozenDict(sorted(labels.items())))


def label_texts(column: pa.Array) -> list[str]:
    """Return labels as texts: several labels of a patch are joined by ``+``, none is empty.

    >>> label_texts(pa.array([["Tumor", "Stroma"], [], None]))
    ['Stroma+Tumor', '', '']
    """
    values: list[Any] = column.to_pylist()
    if pa.types.is_list(column.type):
        return ["+".join(sorted(value or ())) for value in values]
    return [value or "" for value in values]


def values_of(slides: Sequence[RunSlide], key: str) -> dict[str, str]:
    """Return the value of each slide for a key, by slide id.

    A key is metadata of the slides or, if no slide has such metadata, one of
    :data:`SLIDE_COLUMNS`.

    Raises
    ------
    UsageError
        If no slide has the key, or some have no value; all of these are listed.
    """
    if any(key in slide.metadata for slide in slides):
        found = {slide.slide_id: slide.metadata.get(key, "").strip() for slide in slides}
    elif key in SLIDE_COLUMNS:
        found = {slide.slide_id: (getattr(slide, key) or "").strip() for slide in slides}
    else:
        known = sorted({name for slide in slides for name in slide.metadata})
        there = ", ".join(map(repr, known)) if known else "no metadata at all"
        raise UsageError(
            f"No slide of the run has the metadata {key!r}; there is {there}.",
            hint="Join a table when you export, with the option metadata. A run with pseudonyms "
            f"has what the option metadata_keep names. Other keys: {', '.join(SLIDE_COLUMNS)}.",
        )
    missing = [slide.shown for slide in slides if not found[slide.slide_id]]
    if missing:
        raise UsageError(
            listed(f"{count(len(missing), 'slide')} without a value of {key!r}", missing),
            hint="\nFill it in where the metadata come from, and export again with update.",
        )
    return found
