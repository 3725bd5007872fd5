"""Slide files without a QuPath project: one file, a folder of them, or a table that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import xxhash

from qupath_bridge.errors import BridgeError, OutputError, ProjectError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ProjectInfo, ServerBuilder, Slide
from qupath_bridge.qupath.files.builders import OPENSLIDE, uri_builder
from qupath_bridge.qupath.files.finding import NAME_ONE
from qupath_bridge.qupath.files.uris import FileSearch, check_search_folder, parse_path, resolve
from qupath_bridge.readers import is_slide
from qupath_bridge.readers.fingerprints import file_fingerprint, slide_files
from qupath_bridge.readers.staged import opened_by_openslide
from qupath_bridge.stores.files import ListedFiles, files_in, is_object
from qupath_bridge.urls import absolute, place_text, url_of

from .base import Project, file_ref, project_errors
from .memory import memory_slide
from .table_files import Table, TableRow, is_table, listed, read_table

__all__ = ["PATH_COLUMN", "SlidesSource", "has_slides", "is_plain", "is_table"]

PATH_COLUMN = "path"
"""Column of a table that says where the slides are."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
"""Endings of files that are in many folders, whether or not these are folders of slides."""

_AT_ONCE = 8
"""Files that are looked at together: on a network drive most of the time is waiting."""


def is_plain(place: Path) -> bool:
    """Return whether a place is a slide, or a folder without a QuPath project in or below it."""
    if place.is_dir():
        return not any(place.glob("*.qpproj")) and not any(place.glob("*/*.qpproj"))
    return place.suffix.lower() != ".qpproj"


def has_slides(folder: Path, *, pictures: bool = True) -> bool:
    """Return whether any file that is directly in a folder may be a slide.

    Without ``pictures`` PNG, JPEG and BMP files do not count.
    """
    return any(
        is_slide(path) for path in _files(folder) if pictures or path.suffix.lower() not in PICTURES
    )


class SlidesSource:
    """Lists one slide file, those directly in a folder, or those of a table.

    Nobody has drawn on them. The entry ID of a slide is a whole number that is made from its
    fingerprint: it stays when the file is moved or renamed, or others are added. It fits QuPath's
    own IDs. The files are not opened: one that cannot be read as a slide fails later.
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
        """Open a slide, a folder of slides, or a table.

        The column ``path`` of a table names the files, relative to the table; its other columns
        are the metadata of the slides. ``slide_map`` and ``search`` are for the paths of a table.

        Raises
        ------
        ProjectError
            If there is no slide, no such place, or two files are the same slide.
        UsageError
            If a table has faults, all of which are listed; or if places to look for slides are
            given, and there is no table.
        """
        place = absolute(Path(location))
        if (slide_map or search) and not is_table(place):
            raise UsageError(
                f"{place} is not a QuPath project: slide_map and search would not be used.",
                hint="Name the slides at the place where they are now.",
            )
        problems: tuple[str, ...] = ()
        kind = _kind_of(place)
        if kind == "folder":
            slides = _of_folder(place)
        elif kind == "table":
            slides, problems = _of_table(read_table(place), slide_map or {}, search)
        elif kind is None:
            raise ProjectError("no such file or folder", path=place, hint="Name a slide.")
        else:
            slides = (_slide(place),)
        info = ProjectInfo(place, place.name, None, plain=True)
        return Project(
            info,
            tuple(replace(slide, project=info) for slide in slides),
            file_ref(place, self.name, slide_map=slide_map, search=search),
            problems,
        )


def _kind_of(place: Path) -> str | None:
    """Return whether a place is a folder, a table or a file; None if nothing is there.

    A folder of a store exists only as the beginning of names: one that lists nothing is refused.
    """
    if is_table(place):
        return "table"
    if url_of(place) is None:
        return "folder" if place.is_dir() else "file" if place.exists() else None
    with project_errors(place):
        return "file" if is_object(place) else "folder"


def _of_folder(folder: Path) -> tuple[Slide, ...]:
    """Return the slides of a folder in the order of their names."""
    paths = [path for path in _files(folder) if is_slide(path)]
    if not paths:
        raise ProjectError(
            "no QuPath project and no slide is in this folder",
            path=place_text(folder),
            hint=NAME_ONE,
        )
    companions = _companions(paths)
    slides = _in_parallel([path for path in paths if path not in companions])
    same = [f"{first.name} and {other.name} are the same slide" for first, other in _equal(slides)]
    if same:
        raise ProjectError(
            "; ".join(same),
            path=place_text(folder),
            hint="Remove one of them, or name the slides one by one.",
        )
    return slides


def _files(folder: Path) -> Iterator[Path]:
    try:
        with project_errors(folder):
            paths = sorted(files_in(folder))
    except OSError as error:
        raise ProjectError(f"cannot be listed: {error.strerror}", path=folder) from error
    return (path for path in paths if not path.name.startswith("."))


def _companions(paths: Sequence[Path]) -> set[Path]:
    """Return the files of slides of several files that are not the first one of theirs."""
    found: set[Path] = set()
    for path in paths:
        if path not in found:
            try:
                found.update(file for file in slide_files(path) if file != path)
            except (OSError, OutputError):
                continue  # it fails when it is read
    return found


def _of_table(
    table: Table, slide_map: Mapping[str, str], search: Sequence[Path | str]
) -> tuple[tuple[Slide, ...], tuple[str, ...]]:
    """Return the slides of a table in its order, and what is odd about the options."""
    column = table.column(PATH_COLUMN)
    find = FileSearch([check_search_folder(place) for place in search]) if search else None
    exists = ListedFiles()
    rows: list[tuple[TableRow, Slide]] = []
    faults: list[str] = []
    used: set[str] = set()
    for row in table.rows:
        text = row.cells.get(column)
        if text is None:
            faults.append(f"row {row.number}: no {column}")
            continue
        place = _absolute(text, table.path.parent)
        found = resolve(
            place, project_folder=table.path.parent, slide_map=slide_map, find=find, exists=exists
        )
        used.update(found.mapped)
        path = None if found.path is None else Path(found.path)
        slide = memory_slide("", _name(place), path=path)
        metadata = FrozenDict({k: v for k, v in row.cells.items() if k != column})
        rows.append(
            (
                row,
                replace(
                    slide,
                    uri=slide.uri or place,
                    path_origin=found.origin,
                    tried=found.tried,
                    metadata=metadata,
                ),
            )
        )
    slides = _in_parallel([slide for _, slide in rows])
    numbers = {id(slide): row.number for (row, _), slide in zip(rows, slides, strict=True)}
    faults += [
        f"rows {numbers[id(first)]} and {numbers[id(other)]}: {_same(first, other)}"
        for first, other in _equal(slides)
    ]
    if faults:
        raise UsageError(listed(f"{table.path} cannot be used", faults))
    if not slides:
        raise ProjectError("the table lists no slide", path=table.path)
    missed = [
        f"No row of {table.path} fits the option slide_map {old}={new}."
        for old, new in slide_map.items()
        if old not in used
    ]
    return slides, tuple(missed)


def _same(first: Slide, other: Slide) -> str:
    if first.uri == other.uri:
        return f"{first.name} is listed twice"
    return f"{first.name} and {other.name} are the same slide"


def _absolute(text: str, folder: Path) -> str:
    """Return the place that a cell names: absolute, as a path of this system or of another."""
    if parse_path(text) is not None or "://" in text:
        return text
    if url := url_of(folder):
        return f"{url}/{text}"
    # A table made on Windows has relative paths that no other system understands.
    return str(folder / (text if (folder / text).exists() else text.replace("\\", "/")))


def _name(place: str) -> str:
    path = parse_path(place)
    return place.rpartition("/")[2] if path is None else path.name


def _in_parallel(files: Sequence[Path] | Sequence[Slide]) -> tuple[Slide, ...]:
    """Return slides with their entry IDs, for which each file has to be looked at."""
    if len(files) < 2:
        return tuple(map(_slide, files))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return tuple(pool.map(_slide, files))


def _slide(file: Path | Slide) -> Slide:
    """Return a file as a slide; without a fingerprint its ID is made from its place."""
    slide = memory_slide("", file.name, path=file) if isinstance(file, Path) else file
    try:
        found = None if slide.path is None else file_fingerprint(slide.path)
    except BridgeError:
        found = None  # it fails when it is read
    what = f"{found.size}:{found.digest}" if found else f"no file:{slide.uri}"
    # QuPath counts with 63 bits.
    entry_id = xxhash.xxh3_64_intdigest(what.encode("utf-8", "surrogateescape")) >> 1
    return replace(slide, entry_id=str(entry_id), builder=_builder(slide))


def _builder(slide: Slide) -> ServerBuilder:
    """Return the way in which QuPath would open a file: it crops those of OpenSlide to bounds."""
    import openslide

    if slide.path is None:
        by_openslide = False
    elif url_of(slide.path):
        by_openslide = opened_by_openslide(slide.path)
    else:
        by_openslide = openslide.OpenSlide.detect_format(str(slide.path)) is not None
    return ServerBuilder(uri_builder(slide.uri or "", provider=OPENSLIDE if by_openslide else None))


def _equal(slides: Iterable[Slide]) -> Iterator[tuple[Slide, Slide]]:
    """Yield each slide that is the same as an earlier one, behind that one."""
    seen: dict[str, Slide] = {}
    for slide in slides:
        other = seen.setdefault(slide.entry_id, slide)
        if other is not slide:
            yield other, slide
