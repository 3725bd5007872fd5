"""COCO: pictures, and one JSON file per fold with the outline of every object."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qupath_bridge.config.masks import INSTANCE_MASK
from qupath_bridge.datasets.outlines import outline_of, run_lengths
from qupath_bridge.model import MaskArray

from .base import RunRows, Written
from .folds import Folds
from .objects import check_masks, classes_of, object_patches

__all__ = ["segmentation", "write_coco"]

WHOLE = "instances"
"""Name of the file of a run without a split."""


def write_coco(
    run: RunRows, folder: Path, *, split: str | None = None, val: str | None = None
) -> Written:
    """Write ``images/[fold/]patch`` and ``annotations/<fold>.json``.

    An object is a list of polygons along the edges of its pixels, or run lengths if it has a hole,
    which COCO's polygons cannot hold.

    Parameters
    ----------
    run : RunRows
        With masks of single objects.
    folder : Path
    split, val : str, optional
        As of the layout ``imagefolder``.

    Raises
    ------
    UsageError
        If the run has no such masks, if the patches are not pictures, or there is no such fold.
    OutputError
        If a patch or mask cannot be read; if there is no such split, or it is stale.
    """
    check_masks(run, INSTANCE_MASK, "coco")
    numbers = {name: number for number, name in enumerate(classes_of(run), 1)}
    folds = Folds.of(run.output, split, val)
    images: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    by_slide: Counter[str] = Counter()
    object_ids = itertools.count(1)
    for patch in object_patches(run, folder, folds, left_out):
        by_slide[patch.slide_id] += 1
        image_id = by_slide.total()
        images[patch.fold].append(
            {
                "id": image_id, "file_name": patch.file, "width": patch.row["width"],
                "height": patch.row["height"], "patch_id": patch.row["patch_id"],
                "slide_id": patch.slide_id,
            }
        )  # fmt: skip
        for name, object_id, inside in patch.objects:
            found[patch.fold].append(
                {
                    "id": next(object_ids), "image_id": image_id,
                    "category_id": numbers[name], "object_id": object_id, **segmentation(inside),
                }
            )  # fmt: skip
    (folder / "annotations").mkdir()
    for fold in set(folds.folders.values()):
        about = _about(run.record, numbers, images[fold], found[fold])
        text = json.dumps(about, ensure_ascii=False)
        (folder / "annotations" / f"{fold or WHOLE}.json").write_text(text, encoding="utf-8")
    return Written.of([*by_slide.values()], left_out, categories=numbers, folds=folds.recorded)


def segmentation(inside: MaskArray) -> dict[str, Any]:
    """Return outline, area and bounding box of an object as COCO has them.

    >>> found = segmentation(np.ones((1, 2), bool))
    >>> found["area"], found["bbox"], len(found["segmentation"][0])
    (2, [0, 0, 2, 1], 8)
    """
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    parts = outline_of(inside)
    shape: Any = [np.asarray(part.exterior.coords)[:-1].ravel().tolist() for part in parts]
    if any(part.interiors for part in parts):
        shape = {"size": list(inside.shape), "counts": run_lengths(inside)}
    return {
        "segmentation": shape,
        "area": int(np.count_nonzero(inside)),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "iscrowd": 0,
    }


def _about(
    record: Mapping[str, Any],
    numbers: Mapping[str, int],
    images: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the content of a file."""
    return {
        "info": {"description": f"qupath-bridge run {record['run_id']}", "version": "1.0"},
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()
        ],
        "images": list(images),
        "annotations": list(found),
    }
