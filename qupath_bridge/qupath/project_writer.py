"""Writes new QuPath projects as QuPath 0.6 and 0.7 write them.

New projects and copies only: no function here changes an existing project.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, thaw
from qupath_bridge.model import ClassInfo, ImageData, ObjectType
from qupath_bridge.qupath.files.classes import class_problem
from qupath_bridge.qupath.files.uris import resolve
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.stores.new_folder import whole_folder

__all__ = ["CREATED", "NewEntry", "copy_project", "create_project", "stored_uri"]

CREATED = 1735689600000
"""Default time stamp of a project, ms since 1970: the first second of 2025, UTC."""

_COUNTED = {
    ObjectType.ROOT: "Root objects",
    ObjectType.ANNOTATION: "Annotations",
    ObjectType.DETECTION: "Detections",
    ObjectType.CELL: "Cells",
    ObjectType.TILE: "Tiles",
    ObjectType.TMA_CORE: "TMA cores",
}
"""Keys of object counts in QuPath's summary.json."""


@dataclass(frozen=True, slots=True, repr=False)
class NewEntry(OneLine):
    """An image of a new project.

    Attributes
    ----------
    name : str
        Name that QuPath shows.
    builder : mapping
        QuPath's ``serverBuilder`` (see :mod:`~qupath_bridge.qupath.files.builders`).
    data : ImageData or None
        Objects and image type; None for an image that was never saved.
    entry_id : int or None
        The next free number when not given.
    """

    name: str
    builder: Mapping[str, Any]
    data: ImageData | None = None
    entry_id: int | None = None
    description: str | None = None
    metadata: Mapping[str, str] = FrozenDict()
    tags: Sequence[str] = ()


def create_project(
    folder: Path | str,
    entries: Iterable[NewEntry],
    classes: Sequence[ClassInfo] = (),
    *,
    metadata: Mapping[str, str] | None = None,
    stored_at: str | None = None,
    version: str = "0.7.0",
    created: int = CREATED,
) -> Path:
    """Write a new project, whole or not at all, and return its ``project.qpproj``.

    Parameters
    ----------
    folder : path
        Created if it does not exist; must be empty otherwise.
    entries : iterable of NewEntry
    classes : sequence of ClassInfo
        The class list that QuPath shows.
    metadata : mapping of str to str, optional
        The project's own key and values.
    stored_at : str, optional
        Absolute folder, with ``/``, that the project states as its place; its real folder when
        not given. With slides placed relative to it (:func:`stored_uri`) the files are the same
        on every machine, and QuPath finds the slides relative to the project.
    version : str
        QuPath version that the files state.
    created : int
        Time stamp, ms since 1970; written into the files and their modification times.

    Raises
    ------
    OutputError
        If the folder is not empty, or cannot be written.
    UsageError
        If QuPath cannot open the entries or classes.
    """
    folder = Path(folder).absolute()
    place = stored_at.rstrip("/") if stored_at else folder.as_posix()
    numbered = _assign_entry_ids(entries)
    files: dict[str, bytes] = {}
    for entry_id, entry in numbered:
        files |= _entry_files(entry_id, entry, f"{place}/project.qpproj", version, created)
    if classes:
        files["classifiers/classes.json"] = _classes(classes)
    files["data/metadata.json"] = _json(dict(metadata or {}), indent=None)
    files["project.qpproj"] = _json(
        {
            "version": version,
            "createTimestamp": created,
            "modifyTimestamp": created,
            "uri": _file_uri(f"{place}/project.qpproj"),
            "lastID": max((entry_id for entry_id, _ in numbered), default=0),
            "images": [_entry_json(entry_id, entry) for entry_id, entry in numbered],
        }
    )
    with whole_folder(folder) as new:
        store = LocalStore(new)
        for name, content in files.items():
            store.put(name, content, durable=name == "project.qpproj")
            if name.endswith("data.qpdata"):
                # summary.json has this time; a later one would mean that another program wrote it.
                os.utime(new / name, ns=(created * 1_000_000,) * 2)
    return folder / "project.qpproj"


def copy_project(source: Path | str, folder: Path | str) -> Path:
    """Copy a project with the slides in its folder; return the ``project.qpproj`` of the copy.

    The copy names its real place, and the real places of its slides, so that QuPath finds them
    whatever it saves.

    Parameters
    ----------
    source : path
        Folder of a project with ``project.qpproj``.
    folder : path
        Must not exist.

    Raises
    ------
    OutputError
        If the folder exists or cannot be written.
    """
    source, folder = Path(source).absolute(), Path(folder).absolute()
    try:
        shutil.copytree(source, folder)
        project = folder / "project.qpproj"
        content = json.loads(project.read_text(encoding="utf-8"))
        uri = content["uri"]

        def find(slide: str) -> str:
            found = resolve(slide, project_folder=source, project_uri=uri).path
            if found is None:
                return slide
            if found.is_relative_to(source):
                found = folder / found.relative_to(source)
            return _file_uri(found.as_posix())

        content = {**_with_uris(content, find), "uri": _file_uri(project.as_posix())}
        project.write_bytes(_json(content))
        for server in folder.glob("data/*/server.json"):
            content = json.loads(server.read_text(encoding="utf-8"))
            server.write_bytes(_json(_with_uris(content, find)))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return project


def _with_uris(value: Any, change: Callable[[str], str]) -> Any:
    """Return JSON with a function applied to the texts of all keys ``uri``."""
    if isinstance(value, list):
        return [_with_uris(item, change) for item in value]
    if isinstance(value, dict):
        return {
            key: change(item)
            if key == "uri" and isinstance(item, str)
            else _with_uris(item, change)
            for key, item in value.items()
        }
    return value


def stored_uri(slide: Path | str, folder: Path | str, stored_at: str | None = None) -> str:
    """Return the URI under which a project in ``folder`` stores a slide.

    With ``stored_at`` (see :func:`create_project`) it is the place of the slide if the project
    were in that folder: readers resolve it relative to the project.

    >>> stored_uri("/home/me/slides/My slide.svs", "/home/me/project", "/example/project")
    'file:/example/slides/My%20slide.svs'

    Raises
    ------
    UsageError
        If the slide is on another drive than the project.
    """
    slide, folder = Path(slide).absolute(), Path(folder).absolute()
    if stored_at is None:
        return _file_uri(slide.as_posix())
    try:
        steps = Path(os.path.relpath(slide, folder)).parts
    except ValueError as error:
        raise UsageError(f"{slide} cannot be placed relative to {folder}: {error}.") from error
    path = PurePosixPath(stored_at)
    for step in steps:
        path = path.parent if step == ".." else path / step
    return _file_uri(path.as_posix())


def _file_uri(path: str) -> str:
    """Return a URI as Java writes it: ``file:/C:/a%20b``, and ``file:////server/share``."""
    return f"file:{'' if path.startswith('/') else '/'}{quote(path, safe='/:')}"


def _assign_entry_ids(entries: Iterable[NewEntry]) -> list[tuple[int, NewEntry]]:
    entries = list(entries)
    fixed_ids = [entry.entry_id for entry in entries if entry.entry_id is not None]
    if len(set(fixed_ids)) < len(fixed_ids):
        raise UsageError(f"Two images have the same entry ID: {sorted(fixed_ids)}.")
    numbered = []
    last = max(fixed_ids, default=0)
    for entry in entries:
        last += entry.entry_id is None
        numbered.append((last if entry.entry_id is None else entry.entry_id, entry))
    return numbered


def _entry_json(entry_id: int, entry: NewEntry) -> dict[str, Any]:
    described = {} if entry.description is None else {"description": entry.description}
    return {
        "serverBuilder": thaw(entry.builder),
        "entryID": entry_id,
        "imageName": entry.name,
        **described,
        "metadata": dict(entry.metadata),
        "tags": list(entry.tags),
    }


def _entry_files(
    entry_id: int, entry: NewEntry, project: str, version: str, created: int
) -> dict[str, bytes]:
    folder = f"data/{entry_id}"
    files = {f"{folder}/server.json": _json(thaw(entry.builder))}
    if entry.data is not None:
        files[f"{folder}/data.qpdata"] = encode_image_data(
            entry.data,
            server=thaw(entry.builder),
            qupath_version=version,
            properties={"PROJECT_ENTRY_ID": f"{project}::{entry_id}"},
        )
        files[f"{folder}/summary.json"] = _json(_summary(entry, created), indent=None)
    return files


def _summary(entry: NewEntry, created: int) -> dict[str, Any]:
    """Return the summary that QuPath writes when it saves an image."""
    data = entry.data or ImageData()
    metadata = entry.builder.get("metadata") or {}
    objects = data.objects
    types = Counter([_COUNTED[ObjectType.ROOT], *(_COUNTED[o.object_type] for o in objects)])
    classes = {
        annotations: Counter(
            o.class_path or "Unclassified"
            for o in objects
            if o.object_type is not ObjectType.TMA_CORE
            and (o.object_type is ObjectType.ANNOTATION) is annotations
        )
        for annotations in (True, False)
    }
    return {
        "timestamp": created,
        "imageType": data.image_type or "UNSET",
        "server": {
            "width": metadata.get("width", 0),
            "height": metadata.get("height", 0),
            "sizeC": len(metadata.get("channels", ())),
            "sizeZ": metadata.get("sizeZ", 1),
            "sizeT": metadata.get("sizeT", 1),
        },
        "hierarchy": {
            "nObjects": len(objects) + 1,
            "objectTypeCounts": dict(types),
            "annotationClassificationCounts": dict(classes[True]),
            "detectionClassificationCounts": dict(classes[False]),
        },
    }


def _classes(classes: Sequence[ClassInfo]) -> bytes:
    problems = [problem for each in classes if (problem := class_problem(each.path))]
    if problems:
        raise UsageError(f"QuPath cannot have these classes: {'; '.join(problems)}.")
    return _json(
        {
            "pathClasses": [
                {"name": each.path, **({} if each.color is None else {"color": each.color})}
                for each in classes
            ]
        }
    )


def _json(value: Any, indent: int | None = 2) -> bytes:
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators).encode()
