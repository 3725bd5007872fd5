"""YOLO's segmentation: pictures, and one text file each with the polygons of its objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from qupath_bridge.config.masks import INSTANCE_MASK
from qupath_bridge.datasets.outlines import bridged_ring, outline_of
from qupath_bridge.frozen import count

from .base import RunRows, Written
from .folds import Folds
from .objects import IMAGES, ObjectPatch, check_masks, classes_of, object_patches

__all__ = ["polygon_lines", "write_yolo"]

LABELS = "labels"
_TRAIN, _VAL, _TEST = "train", "val", "test"


def write_yolo(
    run: RunRows, folder: Path, *, split: str | None = None, val: str | None = None
) -> Written:
    """Write ``images/[fold/]patch``, ``labels/[fold/]patch.txt`` and ``data.yaml``.

    YOLO's polygons have one ring. A hole is joined to the outline by a bridge without width; of an
    object in several parts, each is a polygon of its own, and a warning counts them.

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
    check_masks(run, INSTANCE_MASK, "yolo")
    names = classes_of(run)
    folds = Folds.of(run.output, split, val)
    left_out: Counter[str] = Counter()
    by_slide: Counter[str] = Counter()
    bridged = parted = 0
    for name in set(folds.folders.values()):
        (folder / LABELS / name).mkdir(parents=True)
    for patch in object_patches(run, folder, folds, left_out):
        by_slide[patch.slide_id] += 1
        lines, holes, parts = polygon_lines(patch, names)
        bridged, parted = bridged + holes, parted + parts
        file = PurePosixPath(patch.file).name.removesuffix(PurePosixPath(patch.file).suffix)
        target = folder / LABELS / patch.fold / f"{file}.txt"
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "data.yaml").write_text(_about(folds.folders, names), encoding="utf-8")
    warnings = []
    if bridged:
        warnings.append(
            f"{count(bridged, 'object')} with holes: the holes are joined to the outline by "
            "bridges without width."
        )
    if parted:
        warnings.append(f"{count(parted, 'object')} in several parts: each part is a polygon.")
    return Written.of(
        [*by_slide.values()], left_out, warnings, names=names, folds=folds.recorded,
        bridged=bridged, parted=parted,
    )  # fmt: skip


def polygon_lines(patch: ObjectPatch, names: Sequence[str]) -> tuple[list[str], int, int]:
    """Return the lines of a patch, and how many of its objects have holes, and several parts."""
    width, height = patch.row["width"], patch.row["height"]
    lines, holes, parted = [], 0, 0
    for name, _, inside in patch.objects:
        parts = outline_of(inside)
        holes += any(part.interiors for part in parts)
        parted += len(parts) > 1
        for part in parts:
            points = bridged_ring(part) / (width, height)
            numbers = " ".join(f"{value:.6g}" for value in points.ravel().tolist())
            lines.append(f"{names.index(name)} {numbers}")
    return lines, holes, parted


def _about(folders: Mapping[str, str], names: Sequence[str]) -> str:
    """Return ``data.yaml``, whose texts are in JSON's quotes, which YAML reads too."""
    there = set(folders.values())
    train = sorted(there - {_VAL, _TEST}) if _TRAIN not in there else [_TRAIN]
    used = {
        _TRAIN: [f"{IMAGES}/{name}".rstrip("/") for name in train],
        _VAL: [f"{IMAGES}/{_VAL}" if _VAL in there else f"{IMAGES}/{train[0]}".rstrip("/")],
    }
    if _TEST in there:
        used[_TEST] = [f"{IMAGES}/{_TEST}"]
    lines = [f"{key}: {json.dumps(places)}" for key, places in used.items()]
    lines += ["names:", *(f"  {k}: {json.dumps(name)}" for k, name in enumerate(names))]
    return "\n".join([*lines, ""])
