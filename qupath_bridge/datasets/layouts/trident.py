"""TRIDENT: coordinates of patches by magnification, and bags of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qupath_bridge.errors import UsageError

from .bags import Bag, bags_of, write_arrays, written_of
from .base import RunRows, Written
from .features import open_features

__all__ = ["write_trident"]

MAGNIFICATIONS = (80, 60, 40, 20, 10, 5)
NEAR = 0.15
"""Largest relative distance of 10 / mpp from a magnification that stands for it."""


def write_trident(run: RunRows, folder: Path, *, features: Path | None = None) -> Written:
    """Write ``<mag>x_<size>px_<overlap>px_overlap/patches/<slide>_patches.h5``, and features.

    TRIDENT cuts squares of ``size × level-0 magnification ÷ magnification`` pixels: a run whose
    boxes are others is refused.

    Parameters
    ----------
    run : RunRows
    folder : Path
    features : Path, optional
        See :mod:`.features`; they are written to ``features_<name>/<slide>.h5``.

    Raises
    ------
    UsageError
        If TRIDENT would cut other boxes; if the patches are not squares of one size, or features
        do not fit.
    OutputError
        If the size of a slide file is not known.
    """
    found = None if features is None else open_features(features)
    numbers, places = [], set()
    for bag in bags_of(run, found):
        about = _attributes(bag)
        place = (
            f"{about['target_magnification']}x_{about['patch_size']}px_{about['overlap']}px_overlap"
        )
        about["savetodir"] = place
        arrays = {"coords": bag.corners}
        file = folder / place / "patches" / f"{bag.name}_patches.h5"
        write_arrays(file, arrays, {"coords": about})
        if found is not None and bag.features is not None:
            own = f"{place}/features_{found.name}"
            described = {"name": bag.name, "savetodir": own, "encoder": found.name}
            write_arrays(
                folder / own / f"{bag.name}.h5",
                {"features": bag.features, **arrays},
                {"features": described, "coords": about},
            )
        numbers.append(len(bag.corners))
        places.add(place)
    return written_of(numbers, "a layout of TRIDENT", (), folders=sorted(places))


def _attributes(bag: Bag) -> dict[str, Any]:
    source, target = _magnifications(bag)
    overlap = (bag.side - bag.step) * target / source
    if overlap != int(overlap):
        raise UsageError(
            f"{bag.slide_id}: patches overlap by {overlap:g} of their pixels; TRIDENT wants "
            "a whole number.",
            hint="Choose another stride.",
        )
    width, height = bag.file_size()
    return {
        "patch_size": bag.size,
        "patch_size_level0": bag.side,
        "level0_magnification": source,
        "target_magnification": target,
        "overlap": max(int(overlap), 0),
        "name": bag.name,
        "savetodir": "",
        "level0_width": width,
        "level0_height": height,
    }


def _magnifications(bag: Bag) -> tuple[int, int]:
    """Return the magnification of level 0 and that of the patches.

    Raises
    ------
    UsageError
        If there is none that gives the boxes of the run.
    """
    mpp = None if bag.pixel_size is None else sum(bag.pixel_size) / 2
    near = [m for m in MAGNIFICATIONS if mpp and abs(10 / mpp / m - 1) <= NEAR]
    source = min(near, key=lambda m: abs(10 / (mpp or 1) - m), default=None)
    if source is None:
        found = "is not known" if mpp is None else f"is {mpp:g} µm"
        raise UsageError(
            f"{bag.slide_id}: TRIDENT knows magnifications, and a pixel {found}, near none of "
            "them.",
            hint="Magnifications are near 10 / µm per pixel: 80, 60, 40, 20, 10 and 5.",
        )
    target, rest = divmod(source * bag.size, bag.side)
    if rest:
        raise UsageError(
            f"{bag.slide_id}: a patch of {bag.size} pixels is {bag.side} pixels of the slide wide, "
            f"which a slide of {source}x has at no whole magnification: TRIDENT would cut others.",
            hint="Export at a resolution that the slide has: with a larger mpp-tolerance, or "
            "level-zero.",
        )
    return source, target
