"""Files of features: one vector per patch of a slide, keyed by ``patch_id``.

============ =======================================================================================
``.h5``      datasets ``patch_id`` (texts) and ``features`` (N, D)
``.parquet`` columns ``patch_id`` and ``features`` (a list of numbers per patch)
``.pt``      a dictionary of torch with ``patch_id`` (a list) and ``features``, a tensor (N, D)
``.npy``     an array (N, D) whose rows are in the order of the slide's rows in the index
============ =======================================================================================

Those that we write carry a note: which patches and which encoder they are of. Others need none.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray
from pydantic import ValidationError

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.schemas import Record, first_fault

__all__ = [
    "ENDINGS", "FeatureFormat", "FeatureNote", "StoredFeatures", "check_format", "patches_digest",
    "read_features", "write_features",
]  # fmt: skip

FeatureFormat = Literal["h5", "parquet", "pt"]
NOTE = "qupath_bridge.features"
"""Key of the note: an attribute of HDF5, metadata of Parquet, an item of the dictionary."""
_NEEDED = {"h5": ("h5py", "h5"), "pt": ("torch", "torch")}
_GROUP = 4096
"""Patches of a row group of Parquet."""

Source: TypeAlias = Path | IO[bytes]


class FeatureNote(Record):
    """Note in a file of features: where they are from.

    ``patches_digest`` and ``encoder_digest`` tell whether it is up to date; ``encoder`` is the
    description as it was given, and ``mpp`` the resolution of the patches.
    """

    run_id: str
    slide_id: str
    patches_digest: str
    encoder_digest: str
    encoder: dict[str, Any]
    mpp: list[float]
    dtype: str
    tool: str
    runtime: str
    provider: str


class StoredFeatures(NamedTuple):
    """Content of a file of features.

    Attributes
    ----------
    ids : sequence of str or None
        Patch id of each row; None if they are in the order of the index.
    values : array, shape (N, D)
    note : FeatureNote or None
        None if another program wrote it.
    """

    ids: Sequence[str] | None
    values: NDArray[Any]
    note: FeatureNote | None = None


def patches_digest(rows: pa.Table) -> str:
    """Return the digest of the ids and bytes of patches, from rows of the index in their order."""
    digest = xxhash.xxh3_128()
    for batch in rows.select(["patch_id", "digest"]).to_batches():
        for patch in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update("\0".join((*patch, "")).encode())
    return f"xxh3_128:{digest.hexdigest()}"


def check_format(format: str) -> None:  # noqa: A002
    """Refuse a format that there is not, or whose library is not installed.

    Raises
    ------
    UsageError, MissingDependencyError
    """
    if format not in _WRITERS:
        raise UsageError(
            f"Features are not written as {format!r}.", hint=f"Use {', '.join(_WRITERS)}."
        )
    _need(format)


def write_features(file: IO[bytes], stored: StoredFeatures, format: FeatureFormat) -> None:  # noqa: A002
    """Write features with their note into a new file that is open for reading and writing."""
    assert stored.note is not None and stored.ids is not None  # noqa: S101  # ours have both
    _WRITERS[format](file, stored.ids, stored.values, stored.note.model_dump_json())


def read_features(source: Source, ending: str, shown: str) -> StoredFeatures:
    """Return the features in a file.

    Parameters
    ----------
    source : Path or open file
    ending : str
        One of :data:`ENDINGS`.
    shown : str
        What messages call it.

    Raises
    ------
    UsageError
        If it does not hold features.
    MissingDependencyError
        If the library that reads it is not installed.
    """
    _need(ending[1:])
    try:
        ids, values, note = _READERS[ending](source)
        if values.ndim != 2 or values.dtype.kind != "f":
            raise ValueError(f"an array of {values.dtype} of the shape {values.shape}")
        if ids is not None and len(ids) != len(values):
            raise ValueError(f"{len(ids)} ids and {len(values)} vectors")
        return StoredFeatures(ids, values, None if note is None else _note(note))
    except _faults(ending) as error:
        raise UsageError(
            f"{shown} does not hold features: {error}.",
            hint="docs/other-tools.md says what a file of features has.",
        ) from error


def _faults(ending: str) -> tuple[type[Exception], ...]:
    """Return the kinds of errors that the library of a kind of files raises."""
    usual = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, EOFError)
    return (*usual, pickle.UnpicklingError if ending == ".pt" else pa.ArrowException)


def _need(format: str) -> None:  # noqa: A002
    package, extra = _NEEDED.get(format, (None, None))
    if package is not None and find_spec(package) is None:
        raise MissingDependencyError(
            f"{package} is not installed.", hint=f"pip install 'qupath-bridge[{extra}]'."
        )


def _note(text: str) -> FeatureNote:
    try:
        return FeatureNote.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"its note is damaged: {first_fault(error)}") from error


# --- HDF5 ---------------------------------------------------------------------------------------


def _write_h5(file: IO[bytes], ids: Sequence[str], values: NDArray[Any], note: str) -> None:
    import h5py

    with h5py.File(file, "w") as made:
        made.create_dataset("patch_id", data=list(ids), dtype=h5py.string_dtype())
        made.create_dataset("features", data=values)
        made.attrs[NOTE] = note


def _read_h5(source: Source) -> tuple[Sequence[str], NDArray[Any], str | None]:
    import h5py

    with h5py.File(source, "r") as file:
        ids = [str(each) for each in file["patch_id"].asstr()[:]]
        return ids, np.asarray(file["features"]), file.attrs.get(NOTE)


# --- Parquet ------------------------------------------------------------------------------------


def _write_parquet(file: IO[bytes], ids: Sequence[str], values: NDArray[Any], note: str) -> None:
    numbers = pa.array(values.reshape(-1))
    starts = np.arange(len(ids) + 1, dtype=np.int64) * values.shape[1]
    lists = pa.LargeListArray.from_arrays(pa.array(starts), numbers)
    made = pa.table({"patch_id": pa.array(ids, pa.string()), "features": lists})
    made = made.replace_schema_metadata({NOTE: note})
    pq.write_table(made, file, compression="zstd", version="2.6", row_group_size=_GROUP)


def _read_parquet(source: Source) -> tuple[Sequence[str], NDArray[Any], str | None]:
    table = pq.read_table(source, columns=["patch_id", "features"], partitioning=None)
    ids, column = table.column("patch_id").to_pylist(), table.column("features")
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    width, rest = divmod(len(flat), max(len(ids), 1))
    lengths = pc.list_value_length(column).unique().to_pylist()
    if rest or lengths not in ([width], []):
        raise ValueError("lists of different lengths")
    note = (table.schema.metadata or {}).get(NOTE.encode())
    return ids, flat.reshape(len(ids), width), None if note is None else note.decode()


# --- torch and numpy ----------------------------------------------------------------------------


def _write_pt(file: IO[bytes], ids: Sequence[str], values: NDArray[Any], note: str) -> None:
    import torch

    made = {"patch_id": list(ids), "features": torch.from_numpy(values), NOTE: note}
    torch.save(made, file)


def _read_pt(source: Source) -> tuple[Sequence[str], NDArray[Any], str | None]:
    import torch

    found = torch.load(source, map_location="cpu", weights_only=True)
    ids = [str(each) for each in found["patch_id"]]
    return ids, found["features"].numpy(), found.get(NOTE)


def _read_npy(source: Source) -> tuple[None, NDArray[Any], None]:
    return None, np.load(source, allow_pickle=False), None


_WRITERS: Mapping[str, Callable[[IO[bytes], Sequence[str], NDArray[Any], str], None]] = {
    "h5": _write_h5,
    "parquet": _write_parquet,
    "pt": _write_pt,
}
_READERS: Mapping[str, Callable[[Source], tuple[Sequence[str] | None, NDArray[Any], str | None]]]
_READERS = {".parquet": _read_parquet, ".h5": _read_h5, ".pt": _read_pt, ".npy": _read_npy}

ENDINGS = tuple(_READERS)
