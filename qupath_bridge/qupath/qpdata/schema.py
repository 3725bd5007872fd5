"""The Java classes that are written, with names, versions, flags and fields as in QuPath.

QuPath refuses a file whose classes differ in any of these. They are the same in all versions
from 0.2 to 0.7.
"""

from __future__ import annotations

from qupath_bridge.model import ObjectType, RoiKind
from qupath_bridge.qupath.javaio.descriptors import (
    BLOCK_DATA,
    ENUM,
    EXTERNALIZABLE,
    SERIALIZABLE,
    WRITE_METHOD,
    ClassSpec,
)

__all__ = [
    "ARRAY_LIST",
    "BOOLEAN",
    "BYTES",
    "DOUBLES",
    "DOUBLE_LIST",
    "FLOATS",
    "GRID",
    "HASH_MAP",
    "HIERARCHY",
    "IMAGE_TYPE",
    "INTEGER",
    "LOCALE",
    "METADATA",
    "OBJECTS",
    "OBJECT_CLASSES",
    "PATH_CLASS",
    "ROI_CLASSES",
    "STAINS",
    "WORKFLOW",
]

_PLAIN, _OWN, _WRITTEN = (
    SERIALIZABLE,
    EXTERNALIZABLE | BLOCK_DATA,
    SERIALIZABLE | WRITE_METHOD,
)
_STRING = "Ljava/lang/String;"
_QUPATH = "qupath.lib."


def _qupath(
    name: str,
    *fields: tuple[str, str],
    flags: int = _PLAIN,
    parent: ClassSpec | None = None,
) -> ClassSpec:
    return ClassSpec(_QUPATH + name, 1, flags, fields, parent)


BYTES = ClassSpec("[B", -5984413125824719648)
FLOATS = ClassSpec("[F", 836686056779680834)
DOUBLES = ClassSpec("[D", 4514449696888150558)
OBJECTS = ClassSpec("[Ljava.lang.Object;", -8012369246846506644)

_NUMBER = ClassSpec("java.lang.Number", -8742448824652078965)
INTEGER = ClassSpec("java.lang.Integer", 1360826667806852920, _PLAIN, (("value", "I"),), _NUMBER)
BOOLEAN = ClassSpec("java.lang.Boolean", -3665804199014368530, _PLAIN, (("value", "Z"),))
ARRAY_LIST = ClassSpec("java.util.ArrayList", 8683452581122892189, _WRITTEN, (("size", "I"),))
HASH_MAP = ClassSpec(
    "java.util.HashMap",
    362498820763181265,
    _WRITTEN,
    (("loadFactor", "F"), ("threshold", "I")),
)
LOCALE = ClassSpec(
    "java.util.Locale",
    9149081749638150636,
    _WRITTEN,
    (
        ("hashcode", "I"),
        ("country", _STRING),
        ("extensions", _STRING),
        ("language", _STRING),
        ("script", _STRING),
        ("variant", _STRING),
    ),
)
_ENUM = ClassSpec("java.lang.Enum", 0, SERIALIZABLE | ENUM)
IMAGE_TYPE = ClassSpec(f"{_QUPATH}images.ImageData$ImageType", 0, SERIALIZABLE | ENUM, (), _ENUM)

STAINS = _qupath("color.ColorDeconvolutionStains", flags=_OWN)
WORKFLOW = _qupath("plugins.workflow.Workflow", flags=_OWN)
HIERARCHY = _qupath(
    "objects.hierarchy.PathObjectHierarchy",
    ("rootObject", "Lqupath/lib/objects/PathObject;"),
    ("tmaGrid", "Lqupath/lib/objects/hierarchy/TMAGrid;"),
)
GRID = _qupath(
    "objects.hierarchy.DefaultTMAGrid",
    ("gridHeight", "I"),
    ("gridWidth", "I"),
    ("cores", "Ljava/util/List;"),
)
METADATA = _qupath("objects.MetadataMap", flags=_OWN)
PATH_CLASS = _qupath(
    "objects.classes.PathClass",
    ("colorRGB", "Ljava/lang/Integer;"),
    ("name", _STRING),
    ("parentClass", "Lqupath/lib/objects/classes/PathClass;"),
)

_PATH = _qupath("objects.PathObject", flags=_OWN)
_WITH_ROI = _qupath("objects.PathROIObject", flags=_OWN, parent=_PATH)
_DETECTION = _qupath("objects.PathDetectionObject", flags=_OWN, parent=_WITH_ROI)
OBJECT_CLASSES = {
    ObjectType.ROOT: _qupath("objects.PathRootObject", flags=_OWN, parent=_PATH),
    ObjectType.ANNOTATION: _qupath("objects.PathAnnotationObject", flags=_OWN, parent=_WITH_ROI),
    ObjectType.TMA_CORE: _qupath("objects.TMACoreObject", flags=_OWN, parent=_WITH_ROI),
    ObjectType.DETECTION: _DETECTION,
    ObjectType.TILE: _qupath("objects.PathTileObject", flags=_OWN, parent=_DETECTION),
    ObjectType.CELL: _qupath("objects.PathCellObject", flags=_OWN, parent=_DETECTION),
}

_MEASUREMENTS = "measurements.NumericMeasurementList$"
DOUBLE_LIST = _qupath(
    f"{_MEASUREMENTS}DoubleList",
    ("values", "[D"),
    parent=_qupath(
        f"{_MEASUREMENTS}AbstractNumericMeasurementList",
        ("isClosed", "Z"),
        ("map", "Ljava/util/Map;"),
        ("names", "Ljava/util/List;"),
    ),
)

_BOX = (
    ("c", "I"),
    ("t", "I"),
    ("x", "D"),
    ("x2", "D"),
    ("y", "D"),
    ("y2", "D"),
    ("z", "I"),
    ("name", _STRING),
)
_PLANE = (("c", "I"), ("t", "I"), ("z", "I"))
_POINTS = (("x", "[F"), ("y", "[F"))
_PROXY = "ROI$SerializationProxy"
ROI_CLASSES = {
    RoiKind.RECTANGLE: _qupath(f"roi.Rectangle{_PROXY}", *_BOX),
    RoiKind.ELLIPSE: _qupath(f"roi.Ellipse{_PROXY}", *_BOX),
    RoiKind.LINE: _qupath(f"roi.Line{_PROXY}", *_BOX),
    RoiKind.POLYGON: _qupath(
        f"roi.Polygon{_PROXY}",
        *_PLANE,
        ("name", _STRING),
        ("stats", "Lqupath/lib/roi/ClosedShapeStatistics;"),
        *_POINTS,
    ),
    RoiKind.POLYLINE: _qupath(f"roi.Polyline{_PROXY}", *_PLANE, *_POINTS),
    RoiKind.POINTS: _qupath(f"roi.Points{_PROXY}", *_PLANE, ("name", _STRING), *_POINTS),
    RoiKind.GEOMETRY: _qupath(
        "roi.GeometryROI$WKBSerializationProxy",
        *_PLANE,
        ("stats", "Lqupath/lib/roi/GeometryROI$GeometryStats;"),
        ("wkb", "[B"),
    ),
}
