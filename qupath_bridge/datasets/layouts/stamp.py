"""STAMP: bags of features with coordinates in µm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge._version import __version__
from qupath_bridge.errors import UsageError

from .bags import bags_of, write_arrays, written_of
from .base import RunRows, Written
from .features import open_features

__all__ = ["write_stamp"]

STAMP_VERSION = "2.1.0"
"""First version whose files have these attributes; one that is newer than the reader is refused."""


def write_stamp(run: RunRows, folder: Path, *, features: Path) -> Written:
    """Write ``<slide>.h5``: ``feats`` (N, D), float16, and ``coords`` (N, 2), float32, µm.

    Parameters
    ----------
    run : RunRows
    folder : Path
    features : Path
        See :mod:`.features`.

    Raises
    ------
    UsageError
        If the pixel size of a slide is not known, or features do not fit, also into 16 bits.
    """
    found = open_features(features)
    numbers = []
    for bag in bags_of(run, found):
        if bag.pixel_size is None or bag.mpp is None or bag.features is None:
            raise UsageError(
                f"{bag.slide_id}: STAMP wants coordinates in µm, and the pixel size of the slide "
                "is not known.",
                hint="Set it in QuPath, or give it to the export with pixel-size.",
            )
        if np.abs(bag.features).max(initial=0) > np.finfo(np.float16).max:
            raise UsageError(
                f"{bag.slide_id}: features above 65,504 do not fit into STAMP's 16 bits.",
                hint="Normalise them.",
            )
        about = {
            "stamp_version": STAMP_VERSION,
            "extractor": found.name,
            "unit": "um",
            "tile_size_um": bag.size * bag.mpp,
            "tile_size_px": bag.size,
            "code_hash": f"qupath-bridge {__version__}",
            "feat_type": "tile",
        }
        arrays: dict[str, NDArray[Any]] = {
            "coords": (bag.corners * bag.pixel_size).astype(np.float32),
            "feats": bag.features.astype(np.float16),
        }
        write_arrays(folder / f"{bag.stem}.h5", arrays, {}, about=about)
        numbers.append(len(bag.corners))
    return written_of(numbers, "a layout of STAMP", ())
