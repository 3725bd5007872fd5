"""Values that layouts are made from, and their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import facts_of, rows_of

__all__ = ["RunRows", "SlideRows", "Written", "no_patches"]


@dataclass(frozen=True, slots=True, eq=False)
class SlideRows:
    """A slide of a run that has patches.

    Attributes
    ----------
    slide_id : str
    table : pyarrow.Table
        Its rows in the index, in their order.
    facts : mapping
        What its partition says of the slide.
    """

    slide_id: str
    table: pa.Table
    facts: Mapping[str, Any]

    def with_id(self) -> pa.Table:
        """Return the rows with the column ``slide_id``, as the whole index has it."""
        ids = pa.array([self.slide_id] * self.table.num_rows, pa.string())
        return self.table.add_column(0, "slide_id", ids)


@dataclass(frozen=True, slots=True, eq=False)
class RunRows:
    """A finished run that is converted.

    Attributes
    ----------
    output : Output
    record : mapping
        ``run.json``.
    """

    output: Output
    record: Mapping[str, Any]

    @property
    def config(self) -> ExportConfig:
        """The options that decided the bytes of the patches."""
        return ExportConfig.parse(self.record["config"], source="run.json")

    @property
    def multi_label(self) -> bool:
        """True if the label of a patch is a list."""
        return any(
            pa.types.is_list(rows.schema.field("label").type) for _, rows in rows_of(self.output)
        )

    def slides(self) -> Iterator[SlideRows]:
        """Yield the slides that have patches, one at a time, by slide id."""
        for slide_id, rows in rows_of(self.output):
            if rows.num_rows:
                yield SlideRows(slide_id, rows.table(), facts_of(rows))

    def column_values(self, name: str) -> set[Any]:
        """Return the values that a column has in any row."""
        return {
            value
            for _, rows in rows_of(self.output)
            for value in rows.table([name]).column(name).unique().to_pylist()
        }


@dataclass(frozen=True, slots=True)
class Written:
    """Result of a layout.

    Attributes
    ----------
    patches, slides : int
        Numbers of those that are in it.
    left_out : mapping of str to int
        Patches that are not in it, by the reason.
    warnings : tuple of str
    record : mapping
        What stands in ``convert.json`` besides: JSON values.
    """

    patches: int
    slides: int
    left_out: Mapping[str, int] = FrozenDict()
    warnings: tuple[str, ...] = ()
    record: Mapping[str, Any] = FrozenDict()

    @classmethod
    def of(
        cls,
        patches_by_slide: Sequence[int],
        left_out: Counter[str],
        warnings: Sequence[str] = (),
        **record: Any,
    ) -> Written:
        """Return what was written, from the number of patches of each slide."""
        return cls(
            sum(patches_by_slide),
            sum(number > 0 for number in patches_by_slide),
            FrozenDict(sorted(left_out.items())),
            tuple(warnings),
            FrozenDict(record),
        )


def no_patches(what: str, left_out: Mapping[str, int]) -> UsageError:
    """Return the error that says why nothing can be written."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
    found = reasons or "the run has no patches"
    return UsageError(f"No patch of the run has a place in {what}: {found}.")
