"""Patches of a run as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from qupath_bridge.api.opening import output_of
from qupath_bridge.datasets.mask_pixels import read_mask
from qupath_bridge.datasets.patch_reading import PATCH_COLUMNS, read_patch
from qupath_bridge.datasets.reading import read_index
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.pipeline.run import Run

from .items import Item, Targets, need_torch, to_tensor
from .masks import find_kind, mask_tensor

__all__ = ["PatchDataset", "rows_in_folds"]


class PatchDataset:
    """Patches of a finished run, in whatever container: an index gives ``(tensor, target)``.

    With masks, it gives ``(tensor, mask)``; a mask is a tensor (H, W) of int64.

    Parameters
    ----------
    run : Run, Output, path or URL
    split : str, optional
        Name of a split.
    fold : str or sequence of str, optional
        Which of its folds are in the dataset, by name; needs ``split``.
    transform : callable, optional
        Gets the tensor (C, H, W) in the type of the patch, uint8 for RGB; its result is the item.
        With masks it gets tensor and mask, and its result is both.
    masks : str, optional
        ``class``: values are those of ``OUT/classes.json``, 0 for background and 255 for what is
        ignored. ``instance``: values are those of single objects.
    classes : sequence of str, optional
        Labels in the order of their numbers; those of the run, sorted, when not given.

    Attributes
    ----------
    rows : pyarrow.Table
        The rows of the index, in the order of the items.
    classes : tuple of str
        The label of each target. They are those of the whole run, whatever the folds.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    OutputError
        If there is no finished run; if there is no such split, or it is stale.
    UsageError
        If the split has no such fold, or the run no such masks.

    Examples
    --------
    >>> train = PatchDataset("patches", split="folds", fold=["1", "2"])  # doctest: +SKIP
    >>> tensor, target = train[0]                                      # doctest: +SKIP
    """

    def __init__(
        self,
        run: Run | Output | Path | str,
        *,
        split: str | None = None,
        fold: str | Sequence[str] | None = None,
        transform: Callable[..., Any] | None = None,
        masks: Literal["class", "instance"] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        need_torch()
        self._output = output_of(run)
        self._raw = load_finished(self._output)["config"].get("format") == "raw"
        index = read_index(self._output, split=split)
        self._targets = _targets_of(index, classes)
        self.rows = rows_in_folds(index, split, fold).combine_chunks()
        self._mask = None if masks is None else find_kind(index, masks)
        masks_of = () if self._mask is None else (*self._mask.place, self._mask.digest)
        self._wanted = self.rows.select([*PATCH_COLUMNS, "label", *masks_of])
        self.transform = transform

    @property
    def classes(self) -> tuple[str, ...]:
        """The label of each target."""
        return self._targets.classes

    @property
    def targets(self) -> list[object]:
        """The target of each item, for samplers and weights."""
        return [self._targets.of(label) for label in self.rows.column("label").to_pylist()]

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __getitem__(self, number: int) -> Item:
        if not -len(self) <= number < len(self):
            raise IndexError(f"There are {len(self)} patches, and no patch {number}.")
        (row,) = self._wanted.slice(number % len(self), 1).to_pylist()
        tensor = to_tensor(read_patch(self._output, row, raw=self._raw))
        if self._mask is not None:
            mask = mask_tensor(read_mask(self._output, row, self._mask))
            return (tensor, mask) if self.transform is None else self.transform(tensor, mask)
        made = tensor if self.transform is None else self.transform(tensor)
        return made, self._targets.of(row["label"])


def _targets_of(index: pa.Table, classes: Sequence[str] | None) -> Targets:
    column = index.column("label")
    multi = pa.types.is_list(column.type)
    if classes is not None:
        if len(set(classes)) < len(classes):
            raise UsageError("A class is given twice.", hint="Name each once.")
        return Targets(classes, multi=multi)
    found = pc.list_flatten(column) if multi else column
    return Targets(sorted(found.drop_null().unique().to_pylist()), multi=multi)


def rows_in_folds(index: pa.Table, split: str | None, fold: str | Sequence[str] | None) -> pa.Table:
    """Return the rows of some folds; all rows if there is no split.

    Raises
    ------
    UsageError
        If there is a fold without a split or a split without a fold, or it has no such fold.
    """
    if (split is None) != (fold is None):
        given, other = ("split", "fold") if fold is None else ("fold", "split")
        raise UsageError(
            f"A {given} was named, but no {other}.",
            hint="As in split='folds', fold=['1', '2'].",
        )
    if split is None or fold is None:
        return index
    folds = [fold] if isinstance(fold, str) else list(fold)
    known = sorted(index.column("fold").drop_null().unique().to_pylist())
    if unknown := [each for each in folds if each not in known]:
        raise UsageError(
            f"The split {split!r} has no fold {unknown[0]!r}.", hint=f"It has {', '.join(known)}."
        )
    return index.filter(pc.is_in(index.column("fold"), pa.array(folds, pa.string())))
