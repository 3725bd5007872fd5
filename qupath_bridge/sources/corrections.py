"""The corrections of a project: immutable files, one per collection, read as a union."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import ProjectInfo
from qupath_bridge.patches.corrections import Correction, from_lines
from qupath_bridge.stores import open_store
from qupath_bridge.stores.files import files_in
from qupath_bridge.urls import shown, url_of

from .base import project_errors

__all__ = [
    "CORRECTIONS",
    "ENDING",
    "CorrectionFile",
    "corrected_entries",
    "correction_files",
    "corrections_folder",
    "read_corrections",
]

CORRECTIONS = "corrections"
"""Name of the folder with a folder per slide, in the project or beside the patches."""

ENDING = ".jsonl"


@dataclass(frozen=True, slots=True, repr=False)
class CorrectionFile(OneLine):
    """The statements of one collection.

    Attributes
    ----------
    key : str
        A ULID; files of a slide are ordered by it.
    corrections : tuple of Correction
    """

    key: str
    corrections: tuple[Correction, ...]


def corrections_folder(project: ProjectInfo) -> Path:
    """Return the folder of the corrections of a project."""
    return project.bridge_folder / CORRECTIONS


def read_corrections(
    project: ProjectInfo, entry_id: str, *, beside: Iterable[Path] = ()
) -> tuple[Correction, ...]:
    """Return all statements about a slide, in the order in which they were collected.

    Parameters
    ----------
    project : ProjectInfo
    entry_id : str
    beside : iterable of Path
        Other folders of the same form, as ``OUT/provenance/corrections``, where those of a
        project that cannot be written are.

    Returns
    -------
    tuple of Correction
        ``fingerprint`` of each is that of :attr:`~qupath_bridge.readers.base.Fingerprint.digest`.

    Raises
    ------
    ProjectError
        If a file is damaged; it is named, with the line.
    """
    files = correction_files(project, entry_id, beside=beside)
    return tuple(correction for file in files for correction in file.corrections)


def correction_files(
    project: ProjectInfo, entry_id: str, *, beside: Iterable[Path] = ()
) -> tuple[CorrectionFile, ...]:
    """Return the files of a slide's corrections, oldest first; see :func:`read_corrections`.

    A file that is in several folders counts once.
    """
    places: dict[str, Path] = {}
    with project_errors(project.path) if project.is_stored else nullcontext():
        for folder in (corrections_folder(project), *beside):
            for path in _files(folder / entry_id):
                places.setdefault(path.stem, path)
        return tuple(_read(places[key], entry_id) for key in sorted(places))


def corrected_entries(project: ProjectInfo, entry_ids: Iterable[str]) -> frozenset[str]:
    """Return those of some entries of which a project may have corrections.

    A project in object storage is asked once, and not for each of its slides. Slides without a
    project have none.
    """
    if project.plain:
        return frozenset()
    if not project.is_stored:
        return frozenset(entry_ids)
    with project_errors(project.path):
        found = open_store(shown(project.bridge_folder)).children(f"{CORRECTIONS}/")
        return frozenset(entry_ids) & {name.split("/")[1] for name in found}


def _files(folder: Path) -> Iterator[Path]:
    if url_of(folder) or folder.is_dir():
        yield from (path for path in files_in(folder) if path.suffix == ENDING)


def _read(path: Path, entry_id: str) -> CorrectionFile:
    lines = from_lines(open_store(shown(path.parent)).get(path.name), shown(path))
    other = next((i for i, (found, _) in enumerate(lines, 1) if found != entry_id), None)
    if other is not None:
        raise ProjectError(
            f"line {other} is of the slide {lines[other - 1][0]}, not of {entry_id}",
            path=path,
            hint="Put the file into the folder of its slide; nothing of it was used.",
        )
    return CorrectionFile(path.stem, tuple(correction for _, correction in lines))
