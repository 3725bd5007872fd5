"""Data that QuPath stored for one slide of a project, read from its folder on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ImageData, ProjectInfo
from qupath_bridge.qupath.files.qpproj import read_json
from qupath_bridge.qupath.qpdata.reading import read_image_data
from qupath_bridge.urls import absolute

from .base import check_link, missing_data

__all__ = ["BACKUP", "DATA", "PAUSES", "SUMMARY", "ReadFile", "missing_everything", "read_entry"]

DATA, BACKUP, SUMMARY = "data.qpdata", "data.qpdata.bkp", "summary.json"
"""Names of the files of an entry that are read."""

PAUSES = (0.1, 0.3)  # seconds between looks at a data file that QuPath may be writing


def missing_everything(info: ProjectInfo) -> ProjectError:
    """Return what is wrong with a project without ``data``; each slide fails with it, too."""
    return missing_data(absolute(info.folder) / "data" / "0", whole=True)


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
    data, backup = folder / DATA, folder / BACKUP
    pauses = iter(PAUSES)
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
    summary = data.with_name(SUMMARY)
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
