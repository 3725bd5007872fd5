"""CLAM: coordinates of patches, and bags of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qupath_bridge.outputs.csv_file import csv_text

from .bags import Bag, bags_of, write_arrays, written_of
from .base import RunRows, Written
from .features import open_features
from .tensors import has_torch, write_tensor

__all__ = ["write_clam"]

NO_TORCH = (
    "pt_files, which CLAM trains from, were not written: they need torch, which is not installed"
)


def write_clam(run: RunRows, folder: Path, *, features: Path | None = None) -> Written:
    """Write ``patches/<slide>.h5``, and with features ``h5_files`` and ``pt_files``.

    Patches are squares of level 0 (``patch_level`` 0, ``patch_size`` in level-0 pixels), which is
    exact for every run: CLAM scales what it reads to the size that its encoder wants.

    Parameters
    ----------
    run : RunRows
    folder : Path
    features : Path, optional
        See :mod:`.features`.

    Raises
    ------
    UsageError
        If the patches are not squares of one size, or features do not fit.
    OutputError
        If the size of a slide file is not known.
    """
    found = None if features is None else open_features(features)
    warnings = [NO_TORCH] if found and not has_torch() else []
    numbers, files = [], []
    for bag in bags_of(run, found):
        write_arrays(
            folder / "patches" / f"{bag.stem}.h5",
            {"coords": bag.corners},
            {"coords": _attributes(bag)},
        )
        if bag.features is not None:
            corners = bag.corners.astype(np.int32)
            arrays = {"features": bag.features, "coords": corners}
            write_arrays(folder / "h5_files" / f"{bag.stem}.h5", arrays, {})
            if not warnings:
                write_tensor(folder / "pt_files" / f"{bag.stem}.pt", bag.features)
        numbers.append(len(bag.corners))
        files.append(bag.file)
    written = written_of(numbers, "a layout of CLAM", warnings)
    listing = {
        "slide_id": files,
        "process": ["0"] * len(files),
        "status": ["processed"] * len(files),
    }
    (folder / "process_list_autogen.csv").write_bytes(csv_text(listing))
    return written


def _attributes(bag: Bag) -> dict[str, Any]:
    size = bag.file_size()
    return {
        "patch_size": bag.side,
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "downsampled_level_dim": size,
        "level_dim": size,
        "name": bag.stem,
        "save_path": "patches",
    }
