"""Bags of features as a dataset: for multiple-instance learning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qupath_bridge.api.opening import output_of
from qupath_bridge.datasets.layouts.base import RunRows
from qupath_bridge.datasets.layouts.features import open_features
from qupath_bridge.datasets.reading import read_index
from qupath_bridge.datasets.run_slides import read_slides, values_of
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.pipeline.run import Run

from .items import Item, Targets, Transform, need_torch
from .patches import rows_in_folds

__all__ = ["BagDataset"]


class BagDataset:
    """One bag per slide or patient: an index gives ``(features, target)``, features (N, D).

    Parameters
    ----------
    run : Run, Output, path or URL
    features : path
        What an encoder made of the patches, as ``convert`` takes it.
    target : str
        Metadata that are the label of a bag, as ``diagnosis``.
    by : str
        Metadata of what is one bag, as ``patient``; ``slide_id`` for one bag per slide.
    split : str, optional
        Name of a split.
    fold : str or sequence of str, optional
        Which of its folds are in the dataset, by name; needs ``split``.
    transform : callable, optional
        Gets the tensor of a bag, (N, D), float32; its result is the item.

    Attributes
    ----------
    bags : tuple of str
        The value of ``by`` of each bag, in the order of the items.
    patch_ids : tuple of tuple of str
        The patches of each bag, in the order of its features.
    classes : tuple of str
        The label of each target. They are those of the whole run, whatever the folds.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    OutputError
        If there is no finished run; if there is no such split, or it is stale.
    UsageError
        If slides lack a value of a key, if a bag has slides with different targets or is in several
        folds, or if features do not fit.
    """

    def __init__(
        self,
        run: Run | Output | Path | str,
        features: Path | str,
        *,
        target: str,
        by: str = "slide_id",
        split: str | None = None,
        fold: str | Sequence[str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        need_torch()
        output = output_of(run)
        record = load_finished(output)
        slides = read_slides(output)
        labels, groups = values_of(slides, target), values_of(slides, by)
        index = read_index(output, split=split)
        rows = rows_in_folds(index, split, fold)
        inside = set(rows.column("slide_id").unique().to_pylist())
        self._targets = Targets(sorted(set(labels.values())), multi=False)
        members: defaultdict[str, list[str]] = defaultdict(list)
        for slide in slides:
            members[groups[slide.slide_id]].append(slide.slide_id)
        chosen = {bag: own for bag, own in members.items() if inside & set(own)}
        _check_bags(chosen, labels, inside, by)
        self.bags = tuple(sorted(chosen))
        found = open_features(features)
        tables = {slide.slide_id: slide for slide in RunRows(output, record).slides()}
        ids = {name: tables[name].table.column("patch_id").to_pylist() for name in inside}
        self.patch_ids = tuple(
            tuple(each for name in chosen[bag] for each in ids[name]) for bag in self.bags
        )
        self._arrays = [
            np.concatenate([found.of(tables[name]) for name in chosen[bag]]) for bag in self.bags
        ]
        self._labels = [labels[chosen[bag][0]] for bag in self.bags]
        self.transform = transform

    @property
    def classes(self) -> tuple[str, ...]:
        """The label of each target."""
        return self._targets.classes

    @property
    def targets(self) -> list[object]:
        """The target of each bag."""
        return [self._targets.of(label) for label in self._labels]

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, number: int) -> Item:
        import torch

        tensor = torch.from_numpy(self._arrays[number])
        made = tensor if self.transform is None else self.transform(tensor)
        return made, self._targets.of(self._labels[number])


def _check_bags(
    bags: dict[str, list[str]], labels: dict[str, str], inside: set[str], by: str
) -> None:
    """Refuse bags with several targets, and those of which some slides are in other folds."""
    for bag, slides in bags.items():
        values = sorted({labels[slide] for slide in slides})
        if len(values) > 1:
            raise UsageError(
                f"The slides of {by} {bag!r} have the targets {', '.join(values)}.",
                hint="Make one bag per slide, or choose another target.",
            )
        if outside := sorted(set(slides) - inside):
            raise UsageError(
                f"{by} {bag!r} is in several folds: {outside[0]} is in another one.",
                hint=f"Make the split by {by}.",
            )
