"""slideflow: bags of features as tensors, with the centres of the patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from qupath_bridge.errors import UsageError

from .bags import bags_of, written_of
from .base import RunRows, Written
from .features import open_features
from .tensors import write_tensor

__all__ = ["write_slideflow"]


def write_slideflow(run: RunRows, folder: Path, *, features: Path) -> Written:
    """Write ``<slide>.pt``, ``<slide>.index.npz`` and ``bags_config.json``.

    Locations are the centres of the patches, level-0 pixels, in the order of the features.

    Parameters
    ----------
    run : RunRows
    folder : Path
    features : Path
        See :mod:`.features`.

    Raises
    ------
    UsageError
        If features do not fit, or slides have patches of different sizes.
    """
    found = open_features(features)
    numbers, configs = [], []
    for bag in bags_of(run, found):
        if bag.features is None or bag.mpp is None:
            raise UsageError(
                f"{bag.slide_id}: slideflow wants patches of a known size in µm, and the pixel "
                "size of the slide is not known.",
                hint="Set it in QuPath, or give it to the export with pixel-size.",
            )
        write_tensor(folder / f"{bag.name}.pt", bag.features)
        np.savez(folder / f"{bag.name}.index.npz", arr_0=bag.corners + bag.side // 2)
        config = {
            "extractor": {"class": found.name, "kwargs": {}},
            "normalizer": None,
            "num_features": bag.features.shape[1],
            "tile_px": bag.size,
            "tile_um": round(bag.size * bag.mpp),
        }
        numbers.append(len(bag.corners))
        configs.append(config)
        if config != configs[0]:
            raise UsageError(
                f"The patches of {bag.slide_id} are {config['tile_um']} µm wide, those of other "
                f"slides {configs[0]['tile_um']}; bags of slideflow have one width.",
                hint="Export with mpp, so that all slides have one resolution.",
            )
    written = written_of(numbers, "bags of slideflow", ())
    text = json.dumps(configs[0], indent=2)
    (folder / "bags_config.json").write_text(text, encoding="utf-8")
    return written
