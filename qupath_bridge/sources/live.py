"""Annotations that a QuPath window shows and nobody has saved, in place of the saved ones.

A file of them has the entry ID of its slide as its name: ``<entry id>.geojson`` or
``<entry id>.geojson.gz``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from qupath_bridge.errors import MissingDataError, ProjectError, UsageError
from qupath_bridge.model import ImageData, ObjectType, Slide
from qupath_bridge.qupath.geojson import loads
from qupath_bridge.qupath.geojson.files import UNREADABLE, open_entries

from .lookup import instead

__all__ = ["read_live_files", "with_live_annotations"]

ENDINGS = (".geojson", ".geojson.gz")


def read_live_files(folder: Path, entry_ids: Iterable[str]) -> Mapping[str, bytes]:
    """Return the GeoJSON texts of a folder by entry ID.

    Parameters
    ----------
    folder : Path
    entry_ids : iterable of str
        Of all slides of the project.

    Raises
    ------
    UsageError
        If there is no such folder, it has no such file, or a file is of no slide.
    ProjectError
        If a file cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(ENDINGS))
    except OSError as error:
        raise UsageError(
            f"live_annotations: {folder}: {error.strerror}.",
            hint="Name a folder with a file ENTRY_ID.geojson per slide.",
        ) from error
    known, found = sorted(entry_ids), dict[str, bytes]()
    for path in paths:
        entry_id = path.name.partition(".geojson")[0]
        if entry_id not in known:
            raise UsageError(
                f"live_annotations: {path}: no slide of the project has the entry ID {entry_id}"
                f"{instead(entry_id, known)}.",
                hint="The name of each file is the entry ID of a slide.",
            )
        if entry_id in found:
            raise UsageError(
                f"live_annotations: {folder} has two files of the slide {entry_id}.",
                hint="Keep one of them there.",
            )
        found[entry_id] = _read(path)
    if not found:
        raise UsageError(
            f"live_annotations: {folder} has no file ENTRY_ID.geojson.",
            hint="Leave the option out to export what is saved.",
        )
    return found


def _read(path: Path) -> bytes:
    try:
        with open_entries(path) as (entry,):
            return entry.read()
    except UNREADABLE as error:
        raise ProjectError(f"cannot be read: {error}", path=path) from error


def with_live_annotations(slide: Slide, content: bytes) -> Slide:
    """Return a slide with the annotations of a GeoJSON text, and no others.

    Detections are those that are saved, and so are TMA cores unless the text has some.
    """
    return replace(slide, _load=partial(_load, slide, content))


def _load(slide: Slide, content: bytes, detections: bool) -> ImageData:
    try:
        live = loads(content, entry_id=slide.entry_id)
    except ProjectError as error:
        raise ProjectError(
            f"{slide.name} (entry {slide.entry_id}): its live annotations {error.problem}",
            hint="Export it again from QuPath.",
        ) from error
    try:
        saved = slide.read(detections=detections)
    except MissingDataError:
        saved = ImageData()
    wanted = (ObjectType.ANNOTATION, ObjectType.TMA_CORE)
    objects = [each for each in live if each.object_type in wanted]
    if not any(each.object_type is ObjectType.TMA_CORE for each in objects):
        objects += saved.tma_cores
    objects += [each for each in saved.objects if each.object_type not in wanted]
    # Nobody asks for parents among annotations from two places.
    flat = tuple(replace(each, parent=-1, parent_id=None) for each in objects)
    return replace(saved, objects=flat, tma_grid=None, digest=None)
