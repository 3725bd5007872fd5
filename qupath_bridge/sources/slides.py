"""Slide files without a QuPath project: one file, or a folder of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import xxhash

from qupath_bridge.errors import BridgeError, ProjectError, UsageError
from qupath_bridge.model import ProjectInfo, Slide
from qupath_bridge.readers import is_slide, open_reader

from .base import Project, file_ref
from .memory import memory_slide

__all__ = ["SlidesSource", "is_plain"]


def is_plain(place: Path) -> bool:
    """Return whether a place is a slide, or a folder without a QuPath project in or below it."""
    if place.is_dir():
        return not any(place.glob("*.qpproj")) and not any(place.glob("*/*.qpproj"))
    return place.suffix.lower() != ".qpproj"


def has_slides(folder: Path) -> bool:
    """Return whether any file that is directly in a folder may be a slide."""
    return any(is_slide(path) for path in _files(folder))


class SlidesSource:
    """Lists one slide file, or those that are directly in a folder; nobody has drawn on them.

    The entry ID of a slide is a whole number that is made from its fingerprint: it stays when
    the file is moved or renamed, or others are added. It fits QuPath's own IDs.
    ``qupath`` is taken as by every source; this one needs no QuPath.
    """

    name = "slides"

    def __init__(self, *, qupath: Path | str | None = None) -> None:
        pass

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a slide, or a folder of slides.

        Raises
        ------
        ProjectError
            If there is no slide, or two files are the same slide.
        ReadError
            If the one slide that is named cannot be read.
        UsageError
            If places to look for slides are given: these are the slides.
        """
        place = Path(location).absolute()
        if slide_map or search:
            raise UsageError(
                f"{place} is not a QuPath project: slide_map and search would not be used.",
                hint="Name the slides at the place where they are now.",
            )
        if place.is_dir():
            slides, problems = _list(place)
        else:
            slides, problems = (_slide(place),), ()
        info = ProjectInfo(place, place.name, None, plain=True)
        return Project(
            info,
            tuple(replace(slide, project=info) for slide in slides),
            file_ref(place, self.name),
            problems,
        )


def _list(folder: Path) -> tuple[tuple[Slide, ...], tuple[str, ...]]:
    """Return the slides of a folder in the order of their names, and what could not be read."""
    slides, problems = [], []
    for path in _files(folder):
        if not is_slide(path):
            continue
        try:
            slides.append(_slide(path))
        except BridgeError as error:
            problems.append(f"{path.name} is left out: {error}")
    if not slides:
        more = f": {problems[0]}" if problems else ""
        raise ProjectError(
            f"no QuPath project and no slide is in this folder{more}",
            path=folder,
            hint="Name a .qpproj file, a slide, or the folder of one of them.",
        )
    _refuse_equal(slides)
    return tuple(slides), tuple(problems)


def _files(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ProjectError(f"cannot be listed: {error.strerror}", path=folder) from error
    return (path for path in paths if path.is_file() and not path.name.startswith("."))


def _slide(path: Path) -> Slide:
    with open_reader(path) as reader:
        found = reader.fingerprint
    # QuPath counts with 63 bits.
    entry_id = xxhash.xxh3_64_intdigest(f"{found.size}:{found.digest}".encode()) >> 1
    return memory_slide(str(entry_id), path.name, path=path)


def _refuse_equal(slides: Iterable[Slide]) -> None:
    seen: dict[str, Slide] = {}
    for slide in slides:
        other = seen.setdefault(slide.entry_id, slide)
        if other is not slide:
            raise ProjectError(
                f"{other.name} and {slide.name} are the same slide",
                path=slide.path and slide.path.parent,
                hint="Remove one of them, or name the slides one by one.",
            )
