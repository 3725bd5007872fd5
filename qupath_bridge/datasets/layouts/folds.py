"""Folds of a split as folders of a layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qupath_bridge.datasets.fold_tables import FoldTable, check_fresh, fold_column, read_folds
from qupath_bridge.datasets.split_summary import TEST
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches.ids import label_folders

from .base import SlideRows

__all__ = ["NO_FOLD", "Folds"]

NO_FOLD = "in no fold"
_WHOLE = ""
"""The one fold of a run without a split."""


@dataclass(frozen=True, slots=True)
class Folds:
    """Folders of folds; the fold of a patch is None if it is in no fold.

    Attributes
    ----------
    folders : mapping of str to str
        By fold; the one of a run without a split is the empty name.
    table : FoldTable or None
        None without a split.
    """

    folders: Mapping[str, str]
    table: FoldTable | None = None

    @classmethod
    def of(cls, output: Output, split: str | None, val: str | None) -> Folds:
        """Read the folds of a split; with ``val``, they become train, val and test."""
        if split is None:
            if val is not None:
                raise UsageError("A fold was named (val), but no split.", hint="Name both.")
            return cls(FrozenDict({_WHOLE: ""}))
        table = read_folds(output, split)
        check_fresh(output, table)
        names = set(table.folds.values()) - {""}
        if val is None:
            return cls(FrozenDict(label_folders(names)), table)
        if val not in names:
            known = ", ".join(sorted(names))
            raise UsageError(f"The split {split!r} has no fold {val!r}.", hint=f"It has {known}.")
        folders = dict.fromkeys(names, "train") | {val: "val"}
        if TEST in names - {val}:
            folders[TEST] = TEST
        return cls(FrozenDict(folders), table)

    @property
    def recorded(self) -> Mapping[str, str] | None:
        """The folder of each fold; None without a split."""
        return None if self.table is None else dict(sorted(self.folders.items()))

    def of_rows(self, slide: SlideRows) -> list[str | None]:
        """Return the fold of each patch of a slide."""
        if self.table is None:
            return [_WHOLE] * slide.table.num_rows
        folds: list[str | None] = fold_column(slide.with_id(), self.table).to_pylist()
        return folds
