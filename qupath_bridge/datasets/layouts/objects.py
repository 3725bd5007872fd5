"""Pictures of patches with the single objects that their masks show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qupath_bridge.codecs import Contents
from qupath_bridge.config.masks import INSTANCE_MASK, MaskKind, mask_kinds
from qupath_bridge.datasets.mask_pixels import read_mask
from qupath_bridge.datasets.patch_reading import PATCH_COLUMNS
from qupath_bridge.errors import UsageError
from qupath_bridge.model import MaskArray

from .base import RunRows, no_patches
from .folds import NO_FOLD, Folds
from .pictures import PictureFiles

__all__ = [
    "NO_CLASS",
    "ObjectPatch",
    "check_masks",
    "classes_of",
    "object_patches",
    "written_pictures",
]

IMAGES = "images"
"""Folder of the pictures."""

NO_CLASS = "unclassified"
"""Name of the class of objects without one."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPatch:
    """A patch whose picture is written.

    Attributes
    ----------
    slide_id : str
    row : mapping
        Of the index.
    fold : str
        Folder of its fold, empty without a split.
    file : str
        Its picture, relative to the folder of all pictures.
    objects : list of (str or None, str, array)
        Class, id in QuPath and pixels (H, W) of each object.
    """

    slide_id: str
    row: Mapping[str, Any]
    fold: str
    file: str
    objects: list[tuple[str, str, MaskArray]]


def check_masks(run: RunRows, kind: MaskKind, layout: str) -> None:
    """Refuse a run without the masks that a layout is made from.

    Raises
    ------
    UsageError
    """
    if kind not in mask_kinds(run.config.masks):
        raise UsageError(
            f"The layout {layout} needs masks, and this run has none of the kind {kind.name}.",
            hint=f"Export with masks = {kind.name} or both.",
        )


def classes_of(run: RunRows) -> list[str]:
    """Return the classes of all objects of a run, sorted."""
    lists = (
        slide.table.column("instance_classes").combine_chunks().flatten().unique().to_pylist()
        for slide in run.slides()
    )
    return sorted({name or NO_CLASS for names in lists for name in names})


def object_patches(
    run: RunRows, folder: Path, folds: Folds, left_out: Counter[str]
) -> Iterator[ObjectPatch]:
    """Write the picture of each patch, and yield it with its objects.

    Parameters
    ----------
    folder : Path
        Of the layout; pictures are below ``images``, in the folder of their fold.
    left_out : Counter
        Counts patches that are in no fold.

    Raises
    ------
    UsageError
        If the patches are not pictures, or none is in a fold.
    OutputError
        If a patch or mask cannot be read.
    """
    columns = [*PATCH_COLUMNS, *INSTANCE_MASK.columns]
    for slide_id, row, place, file in written_pictures(run, folder, folds, columns, left_out):
        yield ObjectPatch(slide_id, row, place, file, _objects(run, row))


def written_pictures(
    run: RunRows, folder: Path, folds: Folds, columns: Sequence[str], left_out: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any], str, str]]:
    """Write the picture of each patch that is in a fold; see :func:`object_patches`.

    Yields
    ------
    slide_id : str
    row : mapping
        The columns of the index that were asked for.
    place : str
        Folder of its fold.
    file : str
        The picture, relative to the folder of all pictures.
    """
    for name in set(folds.folders.values()):
        (folder / IMAGES / name).mkdir(parents=True)
    number = 0
    for slide in run.slides():
        rows = slide.table.select(columns).to_pylist()
        files = PictureFiles.of(run.output, run.config, Contents.of_row(rows[0]))
        for row, fold in zip(rows, folds.of_rows(slide), strict=True):
            if fold is None:
                left_out[NO_FOLD] += 1
                continue
            place = folds.folders[fold]
            file = f"{place}/{row['patch_id']}{files.extension}".lstrip("/")
            files.write(row, folder / IMAGES / file)
            number += 1
            yield slide.slide_id, row, place, file
    if not number:
        raise no_patches("pictures with masks", left_out)


def _objects(run: RunRows, row: Mapping[str, Any]) -> list[tuple[str, str, MaskArray]]:
    if not row["instances"]:
        return []
    pixels = read_mask(run.output, row, INSTANCE_MASK)
    named = zip(row["instance_classes"], row["instances"], strict=True)
    return [
        (name or NO_CLASS, object_id, np.equal(pixels, number))
        for number, (name, object_id) in enumerate(named, 1)
    ]
