"""Features of patches, from files that another program wrote: one vector per patch.

A folder has one file per slide, named by its ``slide_id``:

============ =======================================================================================
``.parquet`` columns ``patch_id`` and ``features`` (a list of numbers per patch), in any order
``.h5``      datasets ``patch_id`` (texts) and ``features`` (N, D), in any order
``.npy``     an array (N, D) whose rows are in the order of the slide's rows in the index
============ =======================================================================================

One Parquet file with the patches of all slides will do, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.sources.table_files import listed

from .base import SlideRows

__all__ = ["FeatureArray", "Features", "open_features"]

FeatureArray = NDArray[np.float32]

_HINT = "Give a folder with SLIDE_ID.parquet, .h5 or .npy, or one Parquet file."


@dataclass(frozen=True, slots=True)
class Features:
    """Features in a place.

    Attributes
    ----------
    name : str
        Name of the folder or file, which stands for the encoder.
    read : callable
        Returns what there is for a slide: ids of patches (None if the order is that of the index)
        and an array (N, D).
    """

    name: str
    read: Callable[[str], tuple[Sequence[str] | None, FeatureArray]]

    def of(self, slide: SlideRows) -> FeatureArray:
        """Return the features of a slide in the order of its rows, shape (N, D), float32.

        Raises
        ------
        UsageError
            If there is a patch without features, or features without a patch; if they are not
            finite numbers.
        """
        ids, found = self.read(slide.slide_id)
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
        return found


def open_features(place: Path | str) -> Features:
    """Open the features in a folder or a Parquet file.

    Raises
    ------
    UsageError
        If there is nothing of this kind; later, if files are not as the module says.
    """
    path = Path(place)
    if path.is_dir():
        return Features(path.name, lambda slide_id: _read_file(_file_of(path, slide_id)))
    if path.is_file() and path.suffix == ".parquet":
        return Features(path.stem, _Whole(*_read_parquet(path)))
    raise UsageError(f"There are no features in {path}.", hint=_HINT)


class _Whole:
    """Features of all slides; a patch id begins with the slide id."""

    def __init__(self, ids: Sequence[str], values: FeatureArray) -> None:
        self._ids, self._values = ids, values
        self._rows: defaultdict[str | None, list[int]] = defaultdict(list)
        for number, patch_id in enumerate(ids):
            self._rows[slide_of_patch(patch_id)].append(number)

    def __call__(self, slide_id: str) -> tuple[Sequence[str], FeatureArray]:
        rows = self._rows.get(slide_id, [])
        return [self._ids[row] for row in rows], self._values[rows]


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
    found = [path for ending in _READERS if (path := folder / f"{slide_id}{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    problem = "no file" if not found else "several files"
    raise UsageError(f"{folder} has {problem} for the slide {slide_id}.", hint=_HINT)


def _read_file(path: Path) -> tuple[Sequence[str] | None, FeatureArray]:
    return _READERS[path.suffix](path)


def _read_npy(path: Path) -> tuple[None, FeatureArray]:
    try:
        return None, _checked(np.load(path, allow_pickle=False), path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_parquet(path: Path) -> tuple[Sequence[str], FeatureArray]:
    try:
        table = pq.read_table(path, columns=["patch_id", "features"], partitioning=None)
        ids, column = table.column("patch_id").to_pylist(), table.column("features")
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        width, rest = divmod(len(flat), max(len(ids), 1))
        lengths = pc.list_value_length(column).unique().to_pylist()
        if rest or lengths not in ([width], []):
            raise ValueError("lists of different lengths")
        return ids, _checked(flat.reshape(len(ids), width), path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_h5(path: Path) -> tuple[Sequence[str], FeatureArray]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "h5py is not installed.", hint="pip install 'qupath-bridge[h5]'."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            ids = [str(each) for each in file["patch_id"].asstr()[:]]
            return ids, _checked(file["features"][:], path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


_READERS: Mapping[str, Callable[[Path], tuple[Sequence[str] | None, FeatureArray]]] = {
    ".parquet": _read_parquet,
    ".h5": _read_h5,
    ".npy": _read_npy,
}


def _checked(values: np.ndarray, path: Path) -> FeatureArray:
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(f"an array of {values.dtype} of the shape {values.shape}")
    return values.astype(np.float32)


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path} does not hold features: {error}.", hint=_HINT)
