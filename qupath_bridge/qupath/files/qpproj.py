"""Reader of ``project.qpproj`` and the small JSON files around it, of QuPath 0.2.3 to 0.7.0.

Only these are read; the images' folders under ``data/`` are not. Unknown keys are ignored, as in
QuPath; keys that are used must have the type that QuPath writes.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import ClassInfo, PixelSize, ProjectInfo, ServerBuilder, Slide
from qupath_bridge.pixels.channels import RGB, default_colors
from qupath_bridge.regular_files import read_regular
from qupath_bridge.schemas import first_fault, parse_json

from .builders import builder_uris, check_depth
from .classes import class_from_text, unpack_rgb
from .finding import backup_of

__all__ = [
    "ProjectFile",
    "project_name",
    "read_json",
    "read_project",
]

OLDEST, NEWEST = (0, 2), (0, 7)
"""Minor versions of QuPath whose projects are tested."""

_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds between looks at a file that QuPath may be writing
_MICROMETRE = {"µm", "\u03bcm", "um"}  # micro sign, Greek mu, and plain letters


@dataclass(frozen=True, slots=True, repr=False)
class ProjectFile(OneLine):
    """Content of the JSON files of a project.

    The slides have no ``path`` and cannot be read yet: finding files and reading data is the
    engine's work.
    """

    info: ProjectInfo
    slides: tuple[Slide, ...]
    problems: tuple[str, ...] = ()


class _Json(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Quantity(_Json):
    value: float | None = None
    unit: str | None = None


class _Calibration(_Json):
    width: _Quantity = Field(alias="pixelWidth", default=_Quantity())
    height: _Quantity = Field(alias="pixelHeight", default=_Quantity())


class _Level(_Json):
    downsample: float
    width: int
    height: int


class _Channel(_Json):
    name: str | None = None
    color: int | None = None


class _ImageMetadata(_Json):
    name: str | None = None
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    size_z: int = Field(alias="sizeZ", default=1, gt=0)
    size_t: int = Field(alias="sizeT", default=1, gt=0)
    is_rgb: bool | None = Field(alias="isRGB", default=None)
    pixel_type: str | None = Field(alias="pixelType", default=None)
    levels: list[_Level] | None = None
    channels: list[_Channel] | None = None
    calibration: _Calibration | None = Field(alias="pixelCalibration", default=None)
    magnification: float | None = None


class _Builder(_Json):
    type: str = Field(alias="builderType")
    metadata: _ImageMetadata | None = None


class _Entry(_Json):
    # Users' texts: QuPath reads a number there as its digits.
    model_config = ConfigDict(strict=False, coerce_numbers_to_str=True)

    id: int = Field(alias="entryID", strict=True)
    builder: _Builder | None = Field(alias="serverBuilder", default=None)
    name: str | None = Field(alias="imageName", default=None)
    description: str | None = None
    metadata: dict[str, str] | None = None
    tags: list[str] | None = None


class _Project(_Json):
    version: str | None = None
    last_id: int | None = Field(alias="lastID", default=None)
    uri: str | None = None
    images: list[_Entry] | None = None


class _Class(_Json):
    name: str
    color: int | None = None


class _Classes(_Json):
    classes: list[_Class] | None = Field(alias="pathClasses", default=None)


def read_project(path: Path) -> ProjectFile:
    """Read a project file, its classes and its metadata.

    Parameters
    ----------
    path : Path
        The ``.qpproj`` file.

    Raises
    ------
    ProjectError
        If a file does not have the expected content; the error names the file and the place.
    """
    raw = read_json(path)
    project = _validate(_Project, raw, path)
    if project.version is None and project.last_id is None:
        raise ProjectError(
            "not a QuPath project, or of a version that cannot be read",
            path=path,
            expected='a key "version" or "lastID"',
        )
    if project.version in {"v0.2.0-m1", "v0.2.0-m2"}:
        raise ProjectError(
            f"the project was saved by QuPath {project.version}, which no later QuPath can read",
            path=path,
        )
    metadata, metadata_problems = _read_metadata(path.parent / "data" / "metadata.json")
    info = ProjectInfo(
        path=path,
        name=project_name(path),
        version=project.version,
        classes=_read_classes(path.parent / "classifiers" / "classes.json"),
        uri=project.uri,
        metadata=metadata,
    )
    entries = project.images or []
    _check_ids([entry.id for entry in entries], path)
    slides = tuple(
        _make_slide(entry, raw["images"][index].get("serverBuilder") or {}, info)
        for index, entry in enumerate(entries)
    )
    return ProjectFile(info, slides, (*_version_problems(project.version), *metadata_problems))


def project_name(path: Path) -> str:
    """Return the name of the project of a file, as QuPath shows it."""
    return path.parent.name if path.name == "project.qpproj" else path.stem


def _make_slide(entry: _Entry, raw_builder: dict[str, Any], info: ProjectInfo) -> Slide:
    check_depth(raw_builder, path=info.path, place=f"serverBuilder of image {entry.id}")
    uri = next(builder_uris(raw_builder), None)
    metadata = entry.builder.metadata if entry.builder else None
    names = (entry.name, metadata and metadata.name, uri and unquote(PurePosixPath(uri).name))
    slide = Slide(
        entry_id=str(entry.id),
        name=next((name for name in names if name), f"image {entry.id}"),
        project=info,
        builder=ServerBuilder(raw_builder),
        uri=uri,
        description=entry.description,
        metadata=FrozenDict(entry.metadata or {}),
        tags=tuple(entry.tags or ()),
    )
    return slide if metadata is None else _with_metadata(slide, metadata)


def _with_metadata(slide: Slide, metadata: _ImageMetadata) -> Slide:
    return replace(
        slide,
        width=metadata.width,
        height=metadata.height,
        size_z=metadata.size_z,
        size_t=metadata.size_t,
        is_rgb=metadata.is_rgb,
        pixel_type=metadata.pixel_type,
        pixel_size=_pixel_size(metadata.calibration),
        magnification=_positive_or_none(metadata.magnification),
        channels=tuple(channel.name or "" for channel in metadata.channels or ()),
        channel_colors=_channel_colors(metadata.channels or ()),
        levels=tuple((lv.downsample, lv.width, lv.height) for lv in metadata.levels or ()),
    )


def _channel_colors(channels: Sequence[_Channel]) -> tuple[RGB, ...]:
    """Return the colours of channels, QuPath's default where none is stored."""
    return tuple(
        default if channel.color is None else unpack_rgb(channel.color)
        for channel, default in zip(channels, default_colors(len(channels)), strict=True)
    )


def _positive_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _pixel_size(calibration: _Calibration | None) -> PixelSize | None:
    if calibration is None:
        return None
    sides = (calibration.width, calibration.height)
    x, y = (_positive_or_none(side.value) if side.unit in _MICROMETRE else None for side in sides)
    return None if x is None or y is None else PixelSize(x, y, "project")


def _check_ids(ids: Sequence[int], path: Path) -> None:
    twice = [str(entry_id) for entry_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ProjectError(
            f"several images have the same entryID: {', '.join(twice)}",
            path=path,
            hint=f"They would share one data folder. QuPath's last backup is {path}.backup.",
        )


def _version_problems(version: str | None) -> tuple[str, ...]:
    match = re.match(r"v?(\d+)\.(\d+)", version or "")
    minor = (int(match[1]), int(match[2])) if match else None
    if minor is not None and OLDEST <= minor <= NEWEST:
        return ()
    return (
        f"The project was saved by QuPath {version or 'of an unknown version'}; "
        "0.2.3 to 0.7.0 are tested.",
    )


def _read_classes(path: Path) -> tuple[ClassInfo, ...]:
    if not path.exists():
        return ()
    classes: dict[str, int | None] = {}
    for each in _validate(_Classes, read_json(path), path).classes or ():
        try:
            name = class_from_text(each.name)
        except ValueError:
            continue  # QuPath has no such class, and no slide can
        if name is not None and name != "Unclassified":  # QuPath's word for no class
            classes[name] = classes.get(name) if each.color is None else each.color
    return tuple(ClassInfo(name, color) for name, color in classes.items())


def _read_metadata(path: Path) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Read the project's own metadata; it is not essential, so problems are only reported."""
    if not path.exists():
        return FrozenDict(), ()
    try:
        values = read_json(path)
    except ProjectError as error:
        return FrozenDict(), (str(error),)
    if not isinstance(values, dict):
        return FrozenDict(), (f"{path}: expected an object of keys and values.",)
    return FrozenDict({key: str(value) for key, value in values.items()}), ()


def read_json(path: Path) -> Any:
    """Read a JSON file of a QuPath project, which QuPath may be writing at this moment.

    ``NaN`` and ``Infinity`` are accepted, as QuPath writes them.

    Raises
    ------
    ProjectError
        If it is still not valid JSON after a short wait.
    """
    backup = backup_of(path)
    pauses = iter(_PAUSES)
    while True:
        try:
            return _parse(path)
        except (OSError, ValueError) as error:
            pause = next(pauses, None)
            # While QuPath saves, for a moment only the backup exists.
            if pause is None or (isinstance(error, FileNotFoundError) and not backup.exists()):
                raise ProjectError(
                    f"cannot be read as JSON: {_cause(error)}",
                    path=path,
                    hint=f"QuPath's last backup is {backup}." if backup.exists() else None,
                ) from error
        time.sleep(pause)


def _cause(error: Exception) -> str:
    return _lower(str(error.strerror if isinstance(error, OSError) else error))


def _parse(path: Path) -> Any:
    return parse_json(read_regular(path).decode("utf-8-sig"))


_Model = TypeVar("_Model", bound=BaseModel)


def _validate(model: type[_Model], value: Any, path: Path) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ProjectError(first_fault(error), path=path) from error


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
