"""Pixels from slide files.

:func:`open_reader` picks the reader; what a reader is stands in :mod:`qupath_bridge.readers.base`.
Other packages add readers through the entry point group ``qupath_bridge.readers``: a name, and a
class that is called with the path and raises :class:`~qupath_bridge.errors.ReadError` for files
that it cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from qupath_bridge.errors import MissingDependencyError, ReadError, UsageError

from .base import Fingerprint, Level, Pixels, Reader

__all__ = [
    "AUTO",
    "READERS",
    "Fingerprint",
    "Level",
    "Pixels",
    "Reader",
    "open_reader",
    "reader_names",
]

READERS: Mapping[str, tuple[str, str]] = {
    "openslide": (
        "qupath_bridge.readers.openslide:OpenSlideReader",
        "pip install openslide-python openslide-bin",
    ),
    "tiff": ("qupath_bridge.readers.tiff:TiffReader", "pip install tifffile imagecodecs"),
}
"""Name of each reader, where it is, and how to install what it needs."""

AUTO = ("openslide", "tiff")
"""What ``"auto"`` tries, in this order.

TIFF files without a vendor's layout go to ``"tiff"`` alone. OpenSlide opens them too, but turns
other pixels into 8-bit RGB without a word: of 16 bits it keeps the upper eight, of fluorescence
the first channel. Of OME-TIFF it sees neither lower levels nor planes.
"""

ENTRY_POINTS = "qupath_bridge.readers"


def reader_names() -> tuple[str, ...]:
    """Return the names of all readers: built in, and added by other packages."""
    others = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return (*READERS, *sorted(others - set(READERS)))


def open_reader(path: Path | str, *, name: str = "auto") -> Reader:
    """Open a slide.

    Parameters
    ----------
    path : path
    name : str
        A reader's name; ``"auto"`` takes the first of :data:`AUTO` that can open the file.
        The names are those of :func:`reader_names`.

    Returns
    -------
    Reader
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    ReadError
        If there is no such file, or it cannot be read; for ``"auto"`` with what each reader said.
    MissingDependencyError
        If the reader's package is not installed.
    UsageError
        If there is no reader of that name.
    """
    path = Path(path)
    if not path.exists():
        raise ReadError(
            f"{path}: there is no such file.",
            hint="Was the slide moved or renamed? Is the drive connected?",
        )
    if name != "auto":
        return _reader(name)(path)
    said = []
    for each in AUTO:
        try:
            reader = _reader(each)(path)
        except (ReadError, MissingDependencyError) as error:
            said.append(f"{each}: {error.message}")
            continue
        if not getattr(reader, "is_plain_tiff", False):
            return reader
        reader.close()
        said.append(f"{each}: {path}: TIFF without a vendor's layout, left to the reader 'tiff'.")
    raise ReadError(
        f"{path}: no reader can open it.\n  " + "\n  ".join(said),
        hint="Is it a complete copy of a slide, 8-bit RGB?",
    )


def _reader(name: str) -> Callable[[Path], Reader]:
    if name not in READERS:
        for point in entry_points(group=ENTRY_POINTS):
            if point.name == name:
                return cast("Callable[[Path], Reader]", point.load())
        raise UsageError(
            f"There is no reader {name!r}.",
            hint=f"The readers are auto, {', '.join(reader_names())}.",
        )
    place, install = READERS[name]
    module, _, attribute = place.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ImportError as error:
        raise MissingDependencyError(
            f"The reader {name!r} cannot be loaded: {error}.", hint=f"Install it with: {install}"
        ) from error
    return cast("Callable[[Path], Reader]", found)
