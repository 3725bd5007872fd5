"""Pixels from slide files.

:func:`open_reader` picks the reader. The protocol of a reader is in
:mod:`qupath_bridge.readers.base`; other packages add readers to the registry
(:mod:`qupath_bridge.registry`), and ``auto`` asks them like the built-in ones.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from qupath_bridge import registry
from qupath_bridge.errors import BridgeError, ReadError
from qupath_bridge.regular_files import check_regular
from qupath_bridge.stores.staging import Fetch, fetch_of_process
from qupath_bridge.urls import url_of

from .base import RGB_CHANNELS, Fingerprint, Level, Pixels, Reader
from .fingerprints import slide_files
from .in_place import slide_object
from .other_formats import CONVERT, other_format
from .staged import slide_version, stage_slide
from .tiff_layout import TIFF_HEADERS

__all__ = [
    "RGB_CHANNELS",
    "Fingerprint",
    "Level",
    "Pixels",
    "Reader",
    "fetched_as",
    "is_slide",
    "open_reader",
    "reader_name",
    "slide_version",
]

Factory = Callable[[Path], Reader]

IN_PLACE = "tiles"
"""The reader that reads slides in object storage where they are."""

log = logging.getLogger("qupath_bridge")


def open_reader(
    path: Path | str, *, name: str = "auto", on_bad_tile: Literal["fail", "background"] = "fail"
) -> Reader:
    """Open a slide.

    Parameters
    ----------
    path : path
        A file, or the URL of a slide in object storage. Of that a copy in the cache of this
        machine is read, which is made if it is not there; or it is read in place, if this process
        was told so (:func:`~qupath_bridge.stores.staging.use_cache`) and its format allows it.
    name : str
        A reader's name. ``"auto"`` asks every registered reader whether it can open the file,
        and takes the first that does; those that know the format best come first.
    on_bad_tile : "fail" or "background"
        What readers that can go on after a damaged file tile do with one; the others fail.

    Returns
    -------
    Reader
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    ReadError
        If there is no such file, or it cannot be read; for ``"auto"`` with what each reader said.
    MissingDependencyError
        If the reader that is named cannot be loaded.
    UsageError
        If there is no reader of that name.
    """
    path = Path(path)
    reader = _open(path, name) if url_of(path) is None else _open_object(path, name)
    if hasattr(reader, "on_bad_tile"):
        reader.on_bad_tile = on_bad_tile
    return reader


def fetched_as(path: Path, reader: Reader) -> Fetch | None:
    """Return how an open slide came from object storage; None for a file of this machine."""
    if url_of(path) is None:
        return None
    return "ranges" if getattr(reader, "in_place", False) else "copy"


def _open_object(path: Path, name: str) -> Reader:
    """Open a slide in object storage: in place where that is wanted and possible, else a copy."""
    if fetch_of_process() == "ranges" and name in ("auto", IN_PLACE):
        try:
            reader = _open_in_place(path, name)
        except ReadError as error:  # the copy will say what is wrong, or another reader reads it
            log.info("%s: not read in place: %s", url_of(path), error)
        else:
            if reader is not None:
                return reader
            log.info("%s: not read in place: another reader is the one for it.", url_of(path))
    return _open_staged(path, name)


def _open_in_place(path: Path, name: str) -> Reader | None:
    """Open a slide in place; None if ``auto`` takes another reader for such a file."""
    if len(slide_files(path)) > 1:
        return None
    slide = slide_object(path)
    if slide.header(0, 4) not in TIFF_HEADERS:
        return None
    reader: Reader = registry.load("reader", IN_PLACE)(path)
    if name == "auto" and slide.suits is None:
        # All readers are asked about a file with what was just read of the slide.
        with TemporaryDirectory() as folder:
            header = Path(folder, path.name)
            slide.write_header(header)
            slide.suits = [each.name for each in _rank(header, [])[:1]] == [IN_PLACE]
    if name == "auto" and not slide.suits:
        reader.close()
        return None
    return reader


def _open_staged(path: Path, name: str) -> Reader:
    """Open a copy of a slide in object storage, which stays as long as the reader exists."""
    staged = stage_slide(path)
    try:
        reader = _open(staged.path, name)
        weakref.finalize(reader, staged.lease.release)
    except BaseException:
        staged.lease.release()
        raise
    return reader


def _open(path: Path, name: str) -> Reader:
    if not path.exists():
        raise ReadError(
            f"{path}: no such file.",
            hint="Was the slide moved or renamed? Is the drive connected?",
        )
    if not path.is_dir():
        _check_regular(path)
    if name != "auto":
        reader: Reader = registry.load("reader", name)(path)
        return reader
    problems: list[_Problem] = []
    for candidate in _rank(path, problems):
        try:
            return candidate.factory(path)
        except Exception as error:  # noqa: BLE001  # one reader's fault must not hide the others
            problems.append(_Problem(candidate.name, error))
    raise _refusal(path, problems)


ENDINGS = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".qptiff", ".vms",
    ".vmu", ".dcm", ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip
"""Endings of slides in object storage, where looking into each object would take long."""


def is_slide(path: Path | str) -> bool:
    """Return whether any reader says that it may open a file.

    Of a URL the ending is all that is looked at.
    """
    if url_of(path) is not None:
        return Path(path).suffix.lower() in ENDINGS
    return bool(_rank(Path(path), []))


def reader_name(reader: Reader) -> str:
    """Return the name of the registered reader that a reader was made by; else that of its class.

    For records, and for digests that change when another reader reads a slide.
    """
    kind = type(reader)
    for part in registry.parts("reader"):
        try:
            if registry.load("reader", part.name) is kind:
                return part.name
        except BridgeError:
            continue  # a part that cannot be loaded did not make it
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_regular(path: Path) -> None:
    try:
        check_regular(path)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}.", hint="Name a slide file.") from error


class _Candidate(NamedTuple):
    name: str
    factory: Factory


class _Problem(NamedTuple):
    """A reader that cannot be used for a file, and why."""

    name: str
    error: Exception


def _rank(path: Path, problems: list[_Problem]) -> Sequence[_Candidate]:
    """Return the readers that may open a file, the best first; note those that cannot be asked."""
    found = []
    for name in registry.names("reader"):
        try:
            factory = registry.load("reader", name)
            score = _score(factory, path)
        except Exception as error:  # noqa: BLE001  # other packages raise what they like
            problems.append(_Problem(name, error))
        else:
            if score > (0, 0):
                found.append((score, _Candidate(name, factory)))
    found.sort(key=lambda pair: pair[0], reverse=True)  # stable: ties stay in registry order
    return [candidate for _, candidate in found]


def _score(factory: Any, path: Path) -> tuple[int, int]:
    """Return how well a factory knows a file, and whether it said so itself."""
    can_open = getattr(factory, "can_open", None)
    if can_open is None:
        return 1, 0
    rank = int(can_open(path))
    return rank, int(rank > 0)


def _refusal(path: Path, problems: Sequence[_Problem]) -> ReadError:
    """Return the error for a file that no reader opens, with the advice of each."""
    if not problems:
        other = other_format(path)
        if other is not None:
            return ReadError(f"{path}: the format {other} cannot be read.", hint=CONVERT)
        if path.is_dir():
            return ReadError(f"{path}: a folder, not a slide file.", hint="Name the file in it.")
        return ReadError(
            f"{path}: no reader knows this format; asked: {', '.join(registry.names('reader'))}.",
            hint="Is it a complete copy of a slide?",
        )
    if len(problems) == 1 and isinstance(problems[0].error, ReadError):
        return problems[0].error
    lines = "".join(f"\n  {line}" for line in _lines(path, problems))
    failure = ReadError(f"{path}: no reader can open it.{lines}")
    failure.__cause__ = problems[0].error
    return failure


def _lines(path: Path, problems: Sequence[_Problem]) -> Iterator[str]:
    for name, error in problems:
        known = isinstance(error, BridgeError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        yield f"{name}: {text.removeprefix(f'{path}: ')}"
