"""Pictures of patches, and their masks of classes as TIFF files with the same names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import tifffile

from qupath_bridge.config.masks import CLASS_MASK
from qupath_bridge.datasets.mask_pixels import read_mask
from qupath_bridge.datasets.patch_reading import PATCH_COLUMNS
from qupath_bridge.pipeline.records import CLASSES_FILE

from .base import RunRows, Written
from .folds import Folds
from .objects import check_masks, written_pictures

__all__ = ["write_semantic"]

MASKS = "masks"


def write_semantic(
    run: RunRows, folder: Path, *, split: str | None = None, val: str | None = None
) -> Written:
    """Write ``images/[fold/]patch``, ``masks/[fold/]patch.tif`` and ``classes.json``.

    Parameters
    ----------
    run : RunRows
        With masks of classes.
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
    check_masks(run, CLASS_MASK, "semantic")
    folds = Folds.of(run.output, split, val)
    left_out: Counter[str] = Counter()
    by_slide: Counter[str] = Counter()
    for name in set(folds.folders.values()):
        (folder / MASKS / name).mkdir(parents=True)
    columns = [*PATCH_COLUMNS, *CLASS_MASK.columns]
    for slide_id, row, place, _ in written_pictures(run, folder, folds, columns, left_out):
        target = folder / MASKS / place / f"{row['patch_id']}.tif"
        pixels = read_mask(run.output, row, CLASS_MASK)
        tifffile.imwrite(target, pixels, compression="deflate", photometric="minisblack")
        by_slide[slide_id] += 1
    (folder / CLASSES_FILE).write_bytes(run.output.get(CLASSES_FILE))
    return Written.of([*by_slide.values()], left_out, folds=folds.recorded)
