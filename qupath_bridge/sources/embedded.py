"""The engine that reads QuPath's own files, without Java and without QuPath."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import thaw
from qupath_bridge.model import ImageData, ProjectInfo, Slide
from qupath_bridge.qupath.files.qpproj import (
    ProjectFile,
    find_project_file,
    read_json,
    read_project,
)
from qupath_bridge.qupath.files.uris import (
    FileSearch,
    Resolution,
    check_search_folder,
    resolve,
)
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.qpdata.reading import read_bytes, read_image_data

from .base import Project, check_link, file_ref, missing_data

__all__ = ["EmbeddedSource", "ReadFile", "data_problems", "read_entry", "resolved_slides"]

_PAUSES = (0.1, 0.3)  # seconds between looks at a data file that QuPath may be writing


class EmbeddedSource:
    """Reads projects of QuPath 0.2.3 to 0.7.0 from their files.

    ``qupath`` is taken as by every source; this one needs no QuPath.
    """

    name = "embedded"

    def __init__(self, *, qupath: Path | str | None = None) -> None:
        pass

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a project file, or the folder that holds exactly one.

        Parameters
        ----------
        location : path
            ``project.qpproj``, or its folder.
        slide_map : mapping of str to str, optional
            Beginnings of slide URIs or paths, and what to put in their place.
        search : sequence of paths, optional
            Folders in which to look for slides that are not found otherwise.

        Raises
        ------
        ProjectError
            If the project cannot be read.
        """
        file = read_project(find_project_file(Path(location)))
        slides, problems = resolved_slides(file, slide_map=slide_map, search=search)
        folder = file.info.folder.absolute() / "data"
        slides = tuple(
            replace(slide, _load=partial(read_entry, folder / slide.entry_id, slide.entry_id))
            for slide in slides
        )
        ref = file_ref(file.info.path, self.name, slide_map=slide_map, search=search)
        return Project(file.info, slides, ref, problems)

    def read_file(self, path: Path, *, entry_id: str = "") -> ImageData:
        """Read all objects of one data file, in any folder."""
        return read_image_data(path, entry_id=entry_id, detections=True)

    def edit(
        self,
        source: Path | None,
        target: Path,
        *,
        slide: Slide,
        remove: Collection[str] = (),
        add: Iterable[Tile] = (),
    ) -> None:
        """Write a copy of a data file with tiles removed and added; see :class:`Editor`."""
        from qupath_bridge.qupath.qpdata.splice import splice_tiles

        if source is not None:
            content = splice_tiles(read_bytes(source), remove=remove, add=add, path=source)
        else:
            content = splice_tiles(_new_file(slide), add=add, path=target)
        target.write_bytes(content)

    def start(self) -> None:
        """Do nothing: no process has to start."""

    def close(self) -> None:
        """Do nothing: no process is running."""


def _new_file(slide: Slide) -> bytes:
    """Return the data of a slide that QuPath never saved."""
    from qupath_bridge.qupath.qpdata.splice import WRITABLE
    from qupath_bridge.qupath.qpdata.writing import encode_image_data

    version = slide.project.version or ""
    return encode_image_data(
        ImageData(image_type="UNSET"),
        server=thaw(slide.builder.json),
        qupath_version=version if WRITABLE.match(version) else "0.7.0",
    )


def resolved_slides(
    file: ProjectFile, *, slide_map: Mapping[str, str] | None, search: Sequence[Path | str]
) -> tuple[tuple[Slide, ...], tuple[str, ...]]:
    """Look for the files of a project's slides.

    Returns
    -------
    tuple of Slide
        A slide whose file was not found has no ``path``; ``tried`` says where it was looked for.
    tuple of str
        The project's problems; missing slide files are none, because nobody may ask for them.

    Raises
    ------
    UsageError
        If a folder to search does not exist.
    """
    info, places = file.info, slide_map or {}
    find = FileSearch([check_search_folder(place) for place in search]) if search else None
    used: set[str] = set()
    slides = []
    for slide in file.slides:
        slide = _with_size(slide, info.folder / "data" / slide.entry_id)
        found = Resolution()
        if slide.uri is not None:
            found = resolve(
                slide.uri,
                project_folder=info.folder.absolute(),
                project_uri=info.uri,
                slide_map=places,
                find=find,
            )
        used.update(found.mapped)
        path = None if found.path is None else Path(found.path)
        slides.append(replace(slide, path=path, path_origin=found.origin, tried=found.tried))
    problems = [*file.problems, *data_problems(file.info, file.slides)]
    problems += [
        f"No slide of {info.path} fits the option slide_map {old}={new}."
        for old, new in places.items()
        if old not in used
    ]
    return tuple(slides), tuple(problems)


def _with_size(slide: Slide, folder: Path) -> Slide:
    """Add the sizes that QuPath recorded when it saved the slide, where the project lacks them.

    Without a size nothing tells one image of a file from another.
    """
    summary = folder / "summary.json"
    if slide.width is not None or not summary.is_file():
        return slide
    try:
        server = read_json(summary)["server"]
        sizes = [server["width"], server["height"], server.get("sizeZ", 1), server.get("sizeT", 1)]
    except (ProjectError, LookupError, TypeError, AttributeError):
        return slide  # reading the slide will say so
    if any(type(size) is not int or size < 1 for size in sizes):
        return slide
    width, height, size_z, size_t = sizes
    return replace(slide, width=width, height=height, size_z=size_z, size_t=size_t)


def data_problems(info: ProjectInfo, slides: Sequence[Slide]) -> tuple[str, ...]:
    """Say that what was drawn is missing; each slide that needs it fails with its own error."""
    data = info.folder.absolute() / "data"
    if not slides or data.is_dir():
        return ()
    return (str(missing_data(data / slides[0].entry_id)),)


class ReadFile(Protocol):
    """Reads one data file, as :func:`~.qpdata.read_image_data` does."""

    def __call__(self, path: Path, /, *, entry_id: str, detections: bool) -> ImageData:
        """Return the contents of the file."""
        ...


def read_entry(
    folder: Path,
    entry_id: str,
    detections: bool = False,
    *,
    read_file: ReadFile = read_image_data,
) -> ImageData:
    """Read what QuPath stored for one slide.

    Parameters
    ----------
    folder : Path
        The entry's folder, ``data/<entry id>``.
    entry_id : str
    detections : bool
        Whether detections, cells and tiles are wanted too.
    read_file : callable
        Reads a data file; another engine has its own way.

    Returns
    -------
    ImageData
        Empty for a slide that was never saved: its folder is there, without a data file.
        ``problems`` says if QuPath's backup was read in the place of a missing data file.

    Raises
    ------
    MissingDataError
        If the folder is missing: it was not copied.
    ProjectError
        If there is a data file that cannot be read, or one that has fewer annotations than QuPath
        counted when it wrote that very file: never an empty result in their place.
    """
    data, backup = folder / "data.qpdata", folder / "data.qpdata.bkp"
    pauses = iter(_PAUSES)
    while True:
        before = _modified(data)
        try:
            return _read(data, backup, partial(read_file, entry_id=entry_id, detections=detections))
        except ProjectError as error:
            pause = next(pauses, None)
            # QuPath saves by moving the old file to .bkp and writing a new one in its place.
            if pause is None or not (backup.exists() or _modified(data) != before):
                if backup.exists():
                    raise _with_way_out(error, backup) from error
                raise
        time.sleep(pause)


def _read(data: Path, backup: Path, read: Callable[[Path], ImageData]) -> ImageData:
    check_link(data)
    if data.exists():
        image = _counted(read(data), data)
        problem = f"{backup} exists: QuPath is saving the slide, or was interrupted while it did."
    elif backup.exists():
        image = read(backup)
        problem = f"{data} is missing; QuPath's backup {backup.name} was read in its place."
    elif data.parent.is_dir():
        return _counted(ImageData(), data)
    else:
        raise missing_data(data.parent)
    return replace(image, problems=(*image.problems, problem)) if backup.exists() else image


def _modified(path: Path) -> int | None:
    """Return when a file was written, ms as QuPath counts them; None if there is no file."""
    return path.stat().st_mtime_ns // 1_000_000 if path.exists() else None


def _counted(image: ImageData, data: Path) -> ImageData:
    """Compare the number of annotations with QuPath's own count, if that is of this very file."""
    summary = data.with_name("summary.json")
    if not summary.exists():
        return image
    try:
        stated = read_json(summary)
        written = stated["timestamp"]
        count = stated["hierarchy"]["objectTypeCounts"].get("Annotations", 0)
        fewer = len(image.annotations) < count
    except (ProjectError, LookupError, TypeError, AttributeError) as error:
        problem = f"{summary} cannot be used to check the number of annotations: {error!r}"
        return replace(image, problems=(*image.problems, problem))
    if fewer and _modified(data) in {written, None}:
        raise ProjectError(
            f"QuPath saved {count} annotations here, but only {len(image.annotations)} were found",
            path=data,
            hint=f"See {summary.name} beside it. Open the slide in QuPath and check it; if it is "
            "right, save it there.",
        )
    return image


def _with_way_out(error: ProjectError, backup: Path) -> ProjectError:
    """Return the error with a hint at the backup."""
    return ProjectError(
        error.problem,
        path=error.path,
        offset=error.offset,
        expected=error.expected,
        hint=f"QuPath's backup {backup} is there: close QuPath, copy the folder, then put the "
        "backup in the place of data.qpdata.",
    )
