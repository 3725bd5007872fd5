"""The nouns of the library: values that do not change.

Coordinates are *QuPath pixels* (full resolution, as the image is shown in QuPath, y down) unless
a name says ``slide``, which means the file's own level-0 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = [
    "FIRST_PLANE",
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
    "Plane",
    "ProjectInfo",
    "Reason",
    "Roi",
    "RoiKind",
    "ServerBuilder",
    "Slide",
    "TmaGrid",
]

BoxArray = NDArray[np.int64]
"""Integer boxes, shape (N, 4): x, y, width, height."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PixelArray = NDArray[np.uint8]
"""RGB pixels, shape (H, W, 3), uint8."""
MaskArray = NDArray[np.bool_]
"""True where a pixel lies in the image, shape (H, W)."""


class Plane(NamedTuple):
    """A plane of an image: z slice and time point, both from 0."""

    z: int = 0
    t: int = 0


FIRST_PLANE = Plane()


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


@dataclass(frozen=True, slots=True)
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
        """Whether this is a shape that can label: a polygon or several, not empty."""
        return self.geometry.geom_type in {"Polygon", "MultiPolygon"} and not self.geometry.is_empty


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PathObject:
    """One object of a QuPath image: an annotation, detection, cell, tile or TMA core.

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
        Class probability, None where not set.
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
    measurements: Mapping[str, float] = field(default_factory=_empty)
    metadata: Mapping[str, str] = field(default_factory=_empty)
    description: str | None = None
    nucleus: Roi | None = None
    missing: bool | None = None
    probability: float | None = None
    id_origin: Literal["qupath", "derived"] = "qupath"


@dataclass(frozen=True, slots=True)
class TmaGrid:
    """A tissue microarray: cores in row-major order, as indices into the object list."""

    width: int
    height: int
    cores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageData:
    """What QuPath stores for one image.

    Attributes
    ----------
    objects : tuple of PathObject
        Depth first, each parent before its children, children in QuPath's order. Only
        annotations and TMA cores when detections were not asked for (``parent`` then points to
        the nearest ancestor that is listed).
    skipped : mapping of ObjectType to int
        Objects that were parsed past, by type.
    digest : str or None
        ``xxh3_128:<hex>`` of the data file, None where the image has none.
    stains, workflow, properties
        As stored; workflow steps are names and scripts as text, never run.
    problems : tuple of str
        What is odd about the data, though it could be read.
    """

    objects: tuple[PathObject, ...] = ()
    skipped: Mapping[ObjectType, int] = field(default_factory=_empty)
    image_type: str | None = None
    stains: Mapping[str, Any] | None = None
    workflow: tuple[Mapping[str, Any], ...] = ()
    properties: Mapping[str, Any] = field(default_factory=_empty)
    tma_grid: TmaGrid | None = None
    digest: str | None = None
    version: int | None = None
    qupath_version: str | None = None
    problems: tuple[str, ...] = ()

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


@dataclass(frozen=True, slots=True)
class ServerBuilder:
    """How QuPath says it opens an image: its builder chain, as stored in the project.

    ``json`` is the JSON object as it stands (QuPath's ``serverBuilder``); it is interpreted
    by :mod:`qupath_bridge.geometry.coordinates` once the file's size and bounds are known.
    """

    json: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """What all slides of a project share.

    ``version`` is the QuPath that saved it last, ``uri`` where the project file was then, and
    ``metadata`` the project's own key and values (QuPath >= 0.6).
    """

    path: Path
    name: str
    version: str | None
    classes: tuple[ClassInfo, ...] = ()
    uri: str | None = None
    metadata: Mapping[str, str] = field(default_factory=_empty)

    @property
    def folder(self) -> Path:
        """The folder that holds the project file."""
        return self.path.parent


@dataclass(frozen=True, slots=True)
class Slide:
    """One entry of a project.

    Attributes
    ----------
    entry_id : str
        QuPath's entry ID, the folder name under ``data/``.
    name : str
        The image name as the user sees it (also when names are masked in QuPath).
    uri : str or None
        The image's URI as stored in the project; None for builders without one.
    path : Path or None
        Where the file was found on this machine; ``path_origin`` says how
        (``as stored``, ``relative``, ``mapped``, ``searched``), ``tried`` where it was looked for.
    width, height : int or None
        Size recorded by QuPath, full resolution; None where it never stored one.
    pixel_size : PixelSize or None
        As stored in the project; None when uncalibrated.
    load : callable
        ``load(detections)`` reads the entry's data file. Use :meth:`read`.
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
    pixel_type: str | None = None
    is_rgb: bool | None = None
    levels: tuple[tuple[float, int, int], ...] = ()
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=_empty)
    tags: tuple[str, ...] = ()
    load: Callable[[bool], ImageData] = field(
        default=lambda detections: ImageData(), repr=False, compare=False
    )

    def read(self, *, detections: bool = False) -> ImageData:
        """Read the objects of this image; detections, cells and tiles only when asked for."""
        return self.load(detections)


@dataclass(frozen=True, slots=True)
class GridSpec:
    """Which patches the user asked for, before it meets a slide.

    At most one of ``mpp`` (µm per output pixel) and ``magnification`` is set; with neither, a box
    is ``size`` full-resolution pixels.
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


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The label contract of a run (docs/labels.md).

    ``within_any`` stands for ``within = "any"``; ``background`` None means drop;
    ``unclassified_as`` is the label that unclassified regions get (``unclassified = "as"``).
    """

    rule: Literal["majority", "centre", "threshold", "any"] = "majority"
    min_share: float = 0.5
    overlap: Literal["innermost", "priority", "independent"] = "innermost"
    priority: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=_empty)
    rollup: bool = False
    unclassified: Literal["skip", "error", "as"] = "skip"
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

    @property
    def multi(self) -> bool:
        """Whether a patch may carry several labels."""
        return self.rule in {"threshold", "any"}


class Reason(StrEnum):
    """Why a patch is not written; the first that holds, in this order."""

    EDGE = "edge"
    EXCLUDED = "excluded"
    OUTSIDE = "outside"
    NO_TISSUE = "no_tissue"
    NO_LABEL = "no_label"
    QUALITY = "quality"
