"""Features of patches for bags: those of this library, or files that another program wrote.

A folder has one file per slide, named by its ``slide_id``; the module ``feature_files`` lists the
kinds. One Parquet file with the patches of all slides will do, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.datasets.feature_files import (
    ENDINGS,
    StoredFeatures,
    patches_digest,
    read_features,
)
from qupath_bridge.errors import UsageError
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.sources.table_files import listed

from .base import SlideRows

__all__ = ["FeatureArray", "Features", "open_features"]

FeatureArray = NDArray[np.float32]

_HINT = f"Give a folder with SLIDE_ID{', '.join(ENDINGS)}, or one Parquet file."


@dataclass(frozen=True, slots=True)
class Features:
    """Features in a place.

    Attributes
    ----------
    name : str
        Name of the folder or file, which stands for the encoder.
    read : callable
        Returns what there is for a slide.
    """

    name: str
    read: Callable[[str], StoredFeatures]

    def of(self, slide: SlideRows) -> FeatureArray:
        """Return the features of a slide in the order of its rows, shape (N, D), float32.

        Raises
        ------
        UsageError
            If there is a patch without features, or features without a patch; if they are not
            finite numbers, or a note says that they are of other patches.
        """
        ids, found, note = self.read(slide.slide_id)
        if note is not None and note.patches_digest != patches_digest(slide.table):
            raise UsageError(
                f"The features of {slide.slide_id} in {self.name} are stale: its patches changed "
                "since they were made.",
                hint="Make them again with `qupath-bridge features`; it keeps what is up to date.",
            )
        wanted = slide.table.column("patch_id").to_pylist()
        if ids is not None:
            found = found[_order(ids, wanted, f"{self.name}: {slide.slide_id}")]
        elif len(found) != len(wanted):
            raise UsageError(
                f"{self.name} has {len(found)} rows for {slide.slide_id}, which has {len(wanted)} "
                "patches.",
                hint="Make the features of this run again.",
            )
        if not np.isfinite(found).all():
            raise UsageError(
                f"Features of {slide.slide_id} in {self.name} are not finite numbers.",
                hint="Look at the encoder; numbers of 16 bits overflow above 65,504.",
            )
        return found.astype(np.float32)


def open_features(place: Path | str) -> Features:
    """Open the features in a folder or a Parquet file.

    Raises
    ------
    UsageError
        If there is nothing of this kind; later, if files are not as the module says.
    """
    path = Path(place)
    if path.is_dir():
        return Features(path.name, lambda slide_id: _read(_file_of(path, slide_id)))
    if path.is_file() and path.suffix == ".parquet":
        return Features(path.stem, _Whole(_read(path)))
    raise UsageError(f"There are no features in {path}.", hint=_HINT)


class _Whole:
    """Features of all slides; a patch id begins with the slide id."""

    def __init__(self, stored: StoredFeatures) -> None:
        self._ids, self._values = stored.ids or (), stored.values
        self._rows: defaultdict[str | None, list[int]] = defaultdict(list)
        for number, patch_id in enumerate(self._ids):
            self._rows[slide_of_patch(patch_id)].append(number)

    def __call__(self, slide_id: str) -> StoredFeatures:
        rows = self._rows.get(slide_id, [])
        return StoredFeatures([self._ids[row] for row in rows], self._values[rows])


def _order(ids: Sequence[str], wanted: Sequence[str], place: str) -> NDArray[np.int64]:
    """Return which row each wanted patch has."""
    at = {patch_id: number for number, patch_id in enumerate(ids)}
    if len(at) < len(ids):
        raise UsageError(f"{place}: a patch has features twice.", hint="Keep one of them.")
    missing = [patch_id for patch_id in wanted if patch_id not in at]
    if missing:
        raise UsageError(listed(f"{place}: {len(missing)} patches have no features", missing))
    if len(ids) > len(wanted):
        strange = sorted(at.keys() - set(wanted))
        raise UsageError(
            listed(f"{place}: {len(strange)} features are of patches that the run lacks", strange)
        )
    return np.array([at[patch_id] for patch_id in wanted], np.int64)


def _file_of(folder: Path, slide_id: str) -> Path:
    found = [path for ending in ENDINGS if (path := folder / f"{slide_id}{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    problem = "no file" if not found else "several files"
    raise UsageError(f"{folder} has {problem} for the slide {slide_id}.", hint=_HINT)


def _read(path: Path) -> StoredFeatures:
    return read_features(path, path.suffix, str(path))
