"""Folders of pictures, as torchvision's ``ImageFolder`` reads them: ``[fold/]label/patch``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from qupath_bridge.codecs import Contents
from qupath_bridge.datasets.patch_reading import PATCH_COLUMNS
from qupath_bridge.errors import UsageError
from qupath_bridge.patches.ids import label_folders

from .base import RunRows, SlideRows, Written, no_patches
from .folds import NO_FOLD, Folds
from .pictures import PictureFiles

__all__ = ["write_image_folder"]

COLUMNS = (*PATCH_COLUMNS, "label")
NO_LABEL = "without a label"


def write_image_folder(
    run: RunRows, folder: Path, *, split: str | None = None, val: str | None = None
) -> Written:
    """Write each patch as one picture in the folder of its label, below that of its fold.

    Every fold has a folder of every label, so that classes have the same numbers in all of them.

    Parameters
    ----------
    run : RunRows
    folder : Path
    split : str, optional
        Name of a split: the folds become folders.
    val : str, optional
        Fold that becomes ``val``; then the fold ``test`` stays, and all others become ``train``.

    Raises
    ------
    UsageError
        If patches have lists of labels, none has a label, or they are not pictures; if there is no
        such fold.
    OutputError
        If a patch cannot be read or written; if there is no such split, or it is stale.
    """
    if run.multi_label:
        raise UsageError(
            "The patches have lists of labels; a folder of pictures has one label for each.",
            hint="Export with the rule majority or centre.",
        )
    labels = label_folders(run.column_values("label") - {None})
    folds = Folds.of(run.output, split, val)
    for fold in set(folds.folders.values()):
        for label in labels.values():
            (folder / fold / label).mkdir(parents=True)
    left_out: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    numbers = []
    for slide in run.slides():
        before = counts.total()
        _write_slide(run, slide, folder, labels, folds, counts, left_out)
        numbers.append(counts.total() - before)
    if not counts:
        raise no_patches("a folder of pictures", left_out)
    gaps = [
        f"no patch with the label {label} is in {fold}"
        for fold in sorted(set(folds.folders.values()))
        for label in labels
        if not counts[fold, label]
    ]
    return Written.of(
        numbers, left_out, gaps, labels=labels, split=split, folds=folds.recorded
    )  # fmt: skip


def _write_slide(
    run: RunRows,
    slide: SlideRows,
    folder: Path,
    labels: Mapping[str, str],
    folds: Folds,
    counts: Counter[tuple[str, str]],
    left_out: Counter[str],
) -> None:
    """Write the patches of a slide, and count them by folder of the fold and label."""
    rows = slide.table.select(COLUMNS).to_pylist()
    files = PictureFiles.of(run.output, run.config, Contents.of_row(rows[0]))
    for row, fold in zip(rows, folds.of_rows(slide), strict=True):
        if row["label"] is None:
            left_out[NO_LABEL] += 1
        elif fold is None:
            left_out[NO_FOLD] += 1
        else:
            place = folder / folds.folders[fold] / labels[row["label"]]
            files.write(row, place / f"{row['patch_id']}{files.extension}")
            counts[folds.folders[fold], row["label"]] += 1
