"""Slides in object storage: their files, their version, and copies of them on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from qupath_bridge.errors import OutputError, ReadError
from qupath_bridge.stores.files import open_binary, store_of
from qupath_bridge.stores.staging import Cache, StagedObject, cache_of_process, version_of
from qupath_bridge.urls import shown, url_of

from .fingerprints import slide_files

if TYPE_CHECKING:
    from qupath_bridge.stores.staging import Lease

__all__ = ["StagedSlide", "opened_by_openslide", "read_errors", "slide_version", "stage_slide"]

_HEAD = 64 << 10
"""Bytes that are read at once of a TIFF header and directory."""


@dataclass(frozen=True, slots=True)
class StagedSlide:
    """A slide of which a copy is on this machine, until its lease is given back.

    Attributes
    ----------
    path : Path
        The file to open.
    lease : Lease
    """

    path: Path
    lease: Lease


def stage_slide(path: Path, cache: Cache | None = None) -> StagedSlide:
    """Copy all files of a slide in object storage to this machine, unless they are there.

    Parameters
    ----------
    path : Path
        URL of the file that is opened.
    cache : Cache, optional
        That of the process when not given.

    Raises
    ------
    ReadError
        If the slide cannot be copied; the hint has the next step.
    """
    name = shown(path)
    with read_errors():
        lease = (cache or cache_of_process()).lease(_objects(path), name)
    return StagedSlide(lease.folder / path.name, lease)


def slide_version(path: Path) -> str | None:
    """Return what changes when any file of a slide in object storage is replaced.

    None for files of this machine: their fingerprint says it.

    Raises
    ------
    ReadError
        If the store cannot be asked, or has no such slide.
    """
    if url_of(path) is None:
        return None
    with read_errors():
        return version_of(_objects(path))


_BY_ENDING = (".mrxs", ".vms", ".vmu", ".ndpi", ".svs", ".scn", ".bif", ".dcm")
_TIFF = (".tif", ".tiff", ".svslide")
_TILE_WIDTH = 322


def opened_by_openslide(path: Path) -> bool:
    """Return whether OpenSlide would open a slide in object storage, from its first bytes.

    It opens every TIFF file that is tiled. A slide that cannot be read fails later.
    """
    if path.suffix.lower() in _BY_ENDING:
        return True
    if path.suffix.lower() not in _TIFF:
        return False
    import tifffile

    try:
        with open_binary(path) as file:
            buffered = BufferedReader(cast(Any, file), _HEAD)
            return bool(tifffile.TiffFile(buffered).pages.first.is_tiled)
    except Exception:  # noqa: BLE001  # damaged files raise whatever they raise
        return False


def _objects(path: Path) -> list[StagedObject]:
    found = []
    for file in slide_files(path):
        place = store_of(file)
        if place is None:  # not of a URL
            raise AssertionError(file)
        store, name = place
        relative = str(PurePosixPath(*file.relative_to(path.parent).parts))
        found.append(StagedObject(store, name, relative, store.state(name)))
    return found


@contextmanager
def read_errors() -> Iterator[None]:
    """Let trouble with a store be trouble of one slide: others of a run continue."""
    try:
        yield
    except OutputError as error:
        hint = error.hint or "Is the slide still there, and whole?"
        raise ReadError(error.message, hint=hint, may_heal=error.may_heal) from error
