"""Domain model: immutable value types.

Values can be pickled and compared. Mappings that are given to them are kept as
:class:`~qupath_bridge.frozen.FrozenDict`.

Coordinates are *QuPath pixels* (full resolution, as the image is shown in QuPath, y down) unless
a name says ``slide``, which means the file's own level-0 pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .errors import UsageError
from .frozen import FrozenDict, OneLine, count, freeze, one_line
from .urls import absolute, place_text, shown, url_of

__all__ = [
    "BRIDGE_FOLDER",
    "CLASS_SEPARATOR",
    "FIRST_PLANE",
    "RGB_CHANNELS",
    "Box",
    "BoxArray",
    "ClassInfo",
    "FloatArray",
    "GridSpec",
    "ImageData",
    "IntArray",
    "LabelRule",
    "MaskArray",
    "ObjectType",
    "PathObject",
    "PixelArray",
    "PixelSize",
    "PlacementSpec",
    "Plane",
    "ProjectInfo",
    "Reason",
    "Roi",
    "RoiKind",
    "SampleSpec",
    "ServerBuilder",
    "Slide",
    "SourceRef",
    "TmaGrid",
]

BoxArray = NDArray[np.int64]
"""Integer boxes, shape (N, 4): x, y, width, height."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PixelArray = NDArray[Any]
"""Pixels, shape (H, W, C), in the slide's own type; RGB has C = 3 and the type uint8."""
MaskArray = NDArray[np.bool_]
"""True where a pixel is in the image, shape (H, W)."""


class Plane(NamedTuple):
    """A plane of an image: z slice and time point, both from 0."""

    z: int = 0
    t: int = 0


FIRST_PLANE = Plane()

RGB_CHANNELS = ("Red", "Green", "Blue")
"""Names of the channels of RGB pixels."""

BRIDGE_FOLDER = "qupath_bridge"
"""The only folder that is written inside a project."""

CLASS_SEPARATOR = ": "
"""Between the names of a class and its parents; and between several labels as one class."""


class Box(NamedTuple):
    """An integer box ``[x, x + w) x [y, y + h)`` in pixels."""

    x: int
    y: int
    w: int
    h: int


class ObjectType(StrEnum):
    """Types of QuPath objects, spelled as in QuPath's GeoJSON."""

    ANNOTATION = "annotation"
    DETECTION = "detection"
    CELL = "cell"
    TILE = "tile"
    TMA_CORE = "tmaCore"
    ROOT = "root"


class RoiKind(StrEnum):
    """Kinds of ROI, with the names that QuPath shows."""

    RECTANGLE = "Rectangle"
    ELLIPSE = "Ellipse"
    LINE = "Line"
    POLYLINE = "Polyline"
    POLYGON = "Polygon"
    POINTS = "Points"
    GEOMETRY = "Geometry"


@dataclass(frozen=True, slots=True, repr=False)
class Roi:
    """The shape of an object and the plane on which it was drawn.

    Attributes
    ----------
    kind : RoiKind
    geometry : shapely geometry, QuPath pixels
        Canonical: coordinates rounded to 0.01 px. An ellipse is QuPath's own polygon of
        100 points.
    plane : Plane
    channel : int
        -1 means all channels, as nearly always.
    """

    kind: RoiKind
    geometry: BaseGeometry
    plane: Plane = FIRST_PLANE
    channel: int = -1

    @property
    def has_area(self) -> bool:
        """True for a shape that can label: one polygon or several, not empty."""
        return self.geometry.geom_type in {"Polygon", "MultiPolygon"} and not self.geometry.is_empty

    def __repr__(self) -> str:
        points = shapely.get_num_coordinates(self.geometry)
        return one_line(
            "Roi",
            f"{self.kind}, {count(int(points), 'point')}",
            f"area {self.geometry.area:.10g} px²" if self.has_area else None,
            None if self.plane == FIRST_PLANE else f"z={self.plane.z}, t={self.plane.t}",
            None if self.channel == -1 else f"channel={self.channel}",
        )


_EMPTY: FrozenDict[Any, Any] = FrozenDict()


def _freeze_fields(value: object, *names: str) -> None:
    """Replace mappings that could be changed, while a frozen dataclass is made."""
    for name in names:
        object.__setattr__(value, name, freeze(getattr(value, name)))


@dataclass(frozen=True, slots=True, repr=False)
class PathObject:
    """One object of a slide in QuPath: an annotation, detection, cell, tile or TMA core.

    Attributes
    ----------
    id : str
        UUID text. ``id_origin`` is ``"qupath"`` when QuPath stored it, ``"derived"`` when the
        file (QuPath < 0.4) has none and it was made from the object's content.
    class_path : str or None
        The whole QuPath class, ``"Tumor"`` or ``"Tumor: Positive"``; None when unclassified.
    roi : Roi or None
    parent : int
        Index of the parent in the list that holds this object, -1 for the root.
    color : int or None
        The object's own colour, packed ARGB; None when it follows its class.
    measurements : mapping of str to float
        NaN and infinities are kept.
    missing : bool or None
        For TMA cores only.
    probability : float or None
        Class probability; None if it is not set.
    """

    id: str
    object_type: ObjectType
    class_path: str | None = None
    name: str | None = None
    roi: Roi | None = None
    parent: int = -1
    parent_id: str | None = None
    locked: bool = False
    color: int | None = None
    class_color: int | None = None
    measurements: Mapping[str, float] = field(default=_EMPTY, hash=False)
    metadata: Mapping[str, str] = field(default=_EMPTY, hash=False)
    description: str | None = None
    nucleus: Roi | None = None
    missing: bool | None = None
    probability: float | None = None
    id_origin: Literal["qupath", "derived"] = "qupath"

    def __post_init__(self) -> None:
        # There are millions of objects: what cannot be changed stays as it is.
        for name in ("measurements", "metadata"):
            given = getattr(self, name)
            if isinstance(given, dict) and type(given) is not FrozenDict:
                object.__setattr__(self, name, FrozenDict(given))

    def __repr__(self) -> str:
        shape = "no ROI" if self.roi is None else repr(self.roi)
        return one_line(
            "PathObject",
            f"{self.object_type}, class={self.class_path!r}, {shape}",
            count(len(self.measurements), "measurement") if self.measurements else None,
            id=self.id,
            name=self.name,
        )


@dataclass(frozen=True, slots=True, repr=False)
class TmaGrid:
    """A tissue microarray: cores in row-major order, as indices into the object list."""

    width: int
    height: int
    cores: tuple[int, ...]

    def __repr__(self) -> str:
        return one_line("TmaGrid", f"{self.width} x {self.height}")


@dataclass(frozen=True, slots=True, repr=False)
class ImageData:
    """Everything that QuPath stores for one slide.

    Attributes
    ----------
    objects : tuple of PathObject
        Depth first, each parent before its children, children in QuPath's order. Only
        annotations and TMA cores when detections were not asked for (``parent`` then points to
        the nearest ancestor that is listed).
    skipped : mapping of ObjectType to int
        Objects that were skipped, by type.
    digest : str or None
        ``xxh3_128:<hex>`` of the data file; None if the slide has none.
    stains, workflow, properties
        As stored; workflow steps are names and scripts as text, never run.
    problems : tuple of str
        Oddities of data that could be read.
    """

    objects: tuple[PathObject, ...] = ()
    skipped: Mapping[ObjectType, int] = _EMPTY
    image_type: str | None = None
    stains: Mapping[str, Any] | None = None
    workflow: tuple[Mapping[str, Any], ...] = ()
    properties: Mapping[str, Any] = _EMPTY
    tma_grid: TmaGrid | None = None
    digest: str | None = None
    version: int | None = None
    qupath_version: str | None = None
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze_fields(self, "skipped", "stains", "workflow", "properties")

    def __repr__(self) -> str:
        counts = Counter(each.object_type for each in self.objects)
        shown = ", ".join(count(number, kind) for kind, number in counts.items())
        skipped = sum(self.skipped.values())
        return one_line(
            "ImageData",
            shown or "no objects",
            f"{skipped} skipped" if skipped else None,
            count(len(self.problems), "problem") if self.problems else None,
            image_type=self.image_type,
            qupath_version=self.qupath_version,
            digest=self.digest,
        )

    @property
    def annotations(self) -> tuple[PathObject, ...]:
        """The annotations, in QuPath's order."""
        return tuple(o for o in self.objects if o.object_type is ObjectType.ANNOTATION)

    @property
    def tma_cores(self) -> tuple[PathObject, ...]:
        """The TMA cores, in QuPath's order."""
        return tuple(o for o in self.objects if o.object_type is ObjectType.TMA_CORE)


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A class of a project: its whole path and its colour (packed ARGB), if it has one."""

    path: str
    color: int | None = None


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Micrometres per pixel along x and y, and where the numbers come from."""

    x: float
    y: float
    origin: Literal["user", "project", "slide"]

    @property
    def mean(self) -> float:
        """Mean of the two, in µm per pixel."""
        return (self.x + self.y) / 2


@dataclass(frozen=True, slots=True, repr=False)
class ServerBuilder(OneLine):
    """The builder chain with which QuPath opens a slide file, as stored in the project.

    ``json`` is the JSON object as it stands (QuPath's ``serverBuilder``); it is interpreted
    by :mod:`qupath_bridge.geometry.coordinates` once the file's size and bounds are known.
    """

    json: Mapping[str, Any]

    def __post_init__(self) -> None:
        _freeze_fields(self, "json")


@dataclass(frozen=True, slots=True, repr=False)
class SourceRef(OneLine):
    """The origin of slides, so that another process can open the same source.

    ``open_source(ref)`` (:func:`qupath_bridge.sources.open_source`) opens it again.

    Attributes
    ----------
    location : str
        The project file, or the slides without a project, absolute; ``memory:...`` for a project
        in memory.
    engine : str
        Name of the source in the registry that read it: ``embedded``, ``paquo``, ``memory``,
        ``slides``.
    qupath : str or None
        Folder of the QuPath that the engine uses; None for an engine that uses none.
    slide_map : mapping of str to str
        Old place to new place of slides that moved.
    search : tuple of str
        Folders in which slides are looked for.
    annotations : str or None
        GeoJSON file, or folder of such files, absolute; what was drawn is read from there.
    skip_bad_features : bool
        Whether features of it that cannot be read are left out.
    """

    location: str
    engine: str
    qupath: str | None = None
    slide_map: Mapping[str, str] = _EMPTY
    search: tuple[str, ...] = ()
    annotations: str | None = None
    skip_bad_features: bool = False

    def __post_init__(self) -> None:
        _freeze_fields(self, "slide_map", "search")

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values.

        >>> ref = SourceRef("/study/project.qpproj", "embedded", slide_map={"Z:": "/mnt/z"})
        >>> SourceRef.from_json(ref.as_json()) == ref
        True
        """
        values = asdict(self)
        return {**values, "slide_map": dict(self.slide_map), "search": list(self.search)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what :meth:`as_json` returned.

        Raises
        ------
        UsageError
            If a key is missing or unknown.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(
                f"The source of the slides cannot be read from {dict(values)!r}.",
                hint="It needs location and engine, and may have qupath, slide_map, search, "
                "annotations and skip_bad_features.",
            ) from error


@dataclass(frozen=True, slots=True, repr=False)
class ProjectInfo:
    """The facts that all slides of a project share.

    Attributes
    ----------
    path : Path
        The project file.
    name : str
    version : str or None
        The QuPath that saved it last.
    classes : tuple of ClassInfo
        In the project's order.
    uri : str or None
        Place of the project file when it was saved.
    metadata : mapping of str to str
        The project's own keys and values (QuPath >= 0.6).
    source : SourceRef or None
        How the project was opened; not compared. None until a source has opened it.
    plain : bool
        True for slide files without a QuPath project; ``path`` is the file, or its folder.
    """

    path: Path
    name: str
    version: str | None
    classes: tuple[ClassInfo, ...] = ()
    uri: str | None = None
    metadata: Mapping[str, str] = _EMPTY
    source: SourceRef | None = field(default=None, compare=False)
    plain: bool = False

    def __post_init__(self) -> None:
        _freeze_fields(self, "metadata")

    @property
    def folder(self) -> Path:
        """The folder that holds the project file; its whole path, so that it has a name."""
        path = absolute(self.path)
        is_folder = not path.suffix if url_of(path) else path.is_dir()
        return path if self.plain and is_folder else path.parent

    @property
    def bridge_folder(self) -> Path:
        """The folder inside the project that holds what this library writes."""
        return self.folder / BRIDGE_FOLDER

    @property
    def place(self) -> str:
        """The project file as records name it: its whole path, or its URL."""
        return place_text(self.path)

    @property
    def shown(self) -> str:
        """The project file as messages name it: its path as it was given, or its URL."""
        return shown(self.path)

    @property
    def is_stored(self) -> bool:
        """True for a project in object storage, where this library only reads."""
        return url_of(self.path) is not None

    def __repr__(self) -> str:
        return one_line(
            "ProjectInfo",
            repr(self.name),
            f"QuPath {self.version or 'of an unknown version'}",
            count(len(self.classes), "class", "classes"),
            path=str(self.path),
        )


def _no_objects(detections: bool) -> ImageData:
    return ImageData()


@dataclass(frozen=True, slots=True, repr=False)
class Slide:
    """One entry of a project.

    Attributes
    ----------
    entry_id : str
        QuPath's entry ID, the folder name under ``data/``.
    name : str
        The image name as the user sees it (also when names are masked in QuPath).
    project : ProjectInfo
        What it shares with the other slides; ``project.source`` says how to open it again.
    builder : ServerBuilder
        The way in which QuPath opens the slide file.
    uri : str or None
        The image's URI as stored in the project; None for builders without one.
    path : Path or None
        Where the file was found on this machine; ``path_origin`` says how
        (``mapped``, ``as stored``, ``relative``, ``beside``, ``searched``), ``tried`` where it was
        looked for.
    width, height : int or None
        Size recorded by QuPath, full-resolution pixels; None if it never stored one.
    pixel_size : PixelSize or None
        As stored in the project; None when uncalibrated.
    magnification : float or None
        Objective power as stored in the project; None when unknown.
    size_z, size_t : int
        Number of z slices and time points.
    channels : tuple of str
        Names of the channels.
    channel_colors : tuple of (red, green, blue)
        QuPath's colours of the channels, from 0 to 255; empty where it stored none.
    pixel_type : str or None
        QuPath's word for it, as ``UINT8``.
    is_rgb : bool or None
    levels : tuple of (float, int, int)
        Downsample, width and height of each level, finest first.
    description : str or None
    metadata : mapping of str to str
        The image's own keys and values.
    tags : tuple of str
        QuPath >= 0.6.
    """

    entry_id: str
    name: str
    project: ProjectInfo
    builder: ServerBuilder
    uri: str | None = None
    path: Path | None = None
    path_origin: str | None = None
    tried: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    pixel_size: PixelSize | None = None
    magnification: float | None = None
    size_z: int = 1
    size_t: int = 1
    channels: tuple[str, ...] = ()
    channel_colors: tuple[tuple[int, int, int], ...] = ()
    pixel_type: str | None = None
    is_rgb: bool | None = None
    levels: tuple[tuple[float, int, int], ...] = ()
    description: str | None = None
    metadata: Mapping[str, str] = _EMPTY
    tags: tuple[str, ...] = ()
    _load: Callable[[bool], ImageData] = field(default=_no_objects, repr=False, compare=False)

    def __post_init__(self) -> None:
        _freeze_fields(self, "metadata")

    def read(self, *, detections: bool = False) -> ImageData:
        """Read the objects of this slide; detections, cells and tiles only when asked for.

        Raises
        ------
        ProjectError
            If its data file cannot be read.
        """
        return self._load(detections)

    def __repr__(self) -> str:
        known = self.width is not None and self.height is not None
        return one_line(
            "Slide",
            f"{self.entry_id!r}, {self.name!r}",
            f"{self.width} x {self.height} px" if known else None,
            f"{self.pixel_size.mean:.4g} µm/px" if self.pixel_size else None,
            "no file found" if self.path is None else None,
            path=None if self.path is None else str(self.path),
        )


@dataclass(frozen=True, slots=True, repr=False)
class GridSpec(OneLine):
    """The patches that the user asked for, independent of a slide.

    At most one of ``mpp`` (µm per output pixel) and ``magnification`` is set; with neither, a box
    is ``size`` full-resolution pixels. A ``box`` (width, height in QuPath pixels) that is known
    wins over all of them.
    """

    size: int = 256
    stride: int | None = None
    mpp: float | None = None
    magnification: float | None = None
    edge: Literal["drop", "pad"] = "drop"
    origin: tuple[int, int] = (0, 0)
    planes: tuple[Plane, ...] = (FIRST_PLANE,)
    pixel_size: float | None = None
    allow_upsampling: bool = False
    mpp_tolerance: float = 0.02
    box: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class LabelRule(OneLine):
    """The label contract of a run (docs/labels.md).

    ``within_any`` stands for ``within = "any"``; ``background`` None means drop;
    ``unclassified_as`` is the label that unclassified regions get (``unclassified = "as"``); with
    ``unclassified = "name"`` the name of an annotation takes the place of its class. Annotations
    of ``tissue_class`` say where the tissue is, and do not label unless ``rename`` names it.
    """

    rule: Literal["majority", "centre", "threshold", "any"] = "majority"
    min_share: float = 0.5
    overlap: Literal["innermost", "priority", "independent"] = "innermost"
    priority: tuple[str, ...] = ()
    rename: Mapping[str, str] = _EMPTY
    rollup: bool = False
    unclassified: Literal["skip", "error", "as", "name"] = "skip"
    unclassified_as: str | None = None
    background: str | None = None
    within: tuple[str, ...] = ()
    within_any: bool = False
    min_within: float = 0.5
    exclude: tuple[str, ...] = ()
    max_excluded_share: float = 0.0
    all_planes: bool = False
    labels: bool = True
    min_tissue: float | None = None
    slide_label: str | None = None
    tissue_class: str | None = None

    def __post_init__(self) -> None:
        _freeze_fields(self, "rename")

    @property
    def multi(self) -> bool:
        """True if a patch may have several labels."""
        return self.rule in {"threshold", "any"}


@dataclass(frozen=True, slots=True, repr=False)
class PlacementSpec(OneLine):
    """Places of the boxes of patches.

    ``kind`` ``grid`` is one grid over the slide, ``regions`` a grid from the corner of each region,
    ``objects`` a box around each object that ``around`` names (``KIND`` or ``KIND:CLASS``). A
    ``margin`` in written pixels is put around the bounds of an object; with None all boxes have the
    size of the patches of the grid.
    """

    kind: Literal["grid", "regions", "objects"] = "grid"
    around: tuple[str, ...] = ()
    margin: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that ``around`` names, or wildcards."""
        return tuple(path for name in self.around if (path := name.partition(":")[2].strip()))

    @property
    def needs_detections(self) -> bool:
        """True if detections have to be read."""
        return any(name.partition(":")[0] in {"detections", "cells"} for name in self.around)


@dataclass(frozen=True, slots=True, repr=False)
class SampleSpec(OneLine):
    """Limits of the patches of each slide, and which patches are taken where there are more.

    ``method`` ``random`` takes patches at random, the same ones for one ``seed``; ``grid`` spreads
    them evenly over the slide. A limit of None is none.
    """

    max_per_label: int | None = None
    max_per_slide: int | None = None
    method: Literal["random", "grid"] = "random"
    seed: int = 0

    @property
    def limits(self) -> bool:
        """True if there is a limit."""
        return self.max_per_label is not None or self.max_per_slide is not None


class Reason(StrEnum):
    """Reasons for not writing a patch; the first one that holds, in this order."""

    REJECTED = "rejected"
    EDGE = "edge"
    EXCLUDED = "excluded"
    OUTSIDE = "outside"
    NO_TISSUE = "no_tissue"
    AMBIGUOUS = "ambiguous"
    NO_LABEL = "no_label"
    NOT_SAMPLED = "not_sampled"
    QUALITY = "quality"
