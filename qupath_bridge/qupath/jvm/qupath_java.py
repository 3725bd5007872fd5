"""All that is asked of QuPath's Java objects themselves, because paquo does not hand it on.

paquo starts Java and opens the project. It has no pixel size, no derived classes, TMA cores,
planes, nuclei, probabilities, metadata, stains or workflow, and goes through objects one by one.
This is the one file that reaches past it; only the child process imports it.

QuPath's own ``readImageData`` is not used either: it adds steps to the workflow, opens the slide
where its size is not known, and refuses stains of an image that is not brightfield. The items of
a file are read here as it reads them, each by QuPath's own class.

QuPath 0.4 to 0.7 have all that is used here in the same places, but for tags (>= 0.6). Where 0.6
has a new name for a thing, the old one is asked for, which 0.7 has too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jpype import (  # type: ignore[import-untyped]  # noqa: TID253
    JArray,
    JByte,
    JClass,
    JDouble,
    JInt,
    JString,
)
from numpy.typing import NDArray
from paquo.java import GeneralTools, GsonTools, PathIO, System  # noqa: TID253
from paquo.projects import QuPathProject  # noqa: TID253

from .messages import Message, pack, unpack

__all__ = [
    "Stored",
    "edit",
    "entries",
    "has_ids",
    "metadata_values",
    "object_messages",
    "read_stored",
    "versions",
]

BATCH = 20_000  # objects in one message

_ArrayType = JClass("java.lang.reflect.Array")
_Boolean = JClass("java.lang.Boolean")
_BufferedInput = JClass("java.io.BufferedInputStream")
_Category = JClass("java.util.Locale$Category")
_ClassNotFound = JClass("java.lang.ClassNotFoundException")
_Collection = JClass("java.util.Collection")
_DoubleStream = JClass("java.util.stream.DoubleStream")
_EOF = JClass("java.io.EOFException")
_Enum = JClass("java.lang.Enum")
_Files = JClass("java.nio.file.Files")
_Function = JClass("java.util.function.Function")
_HashMap = JClass("java.util.HashMap")
_Hierarchy = JClass("qupath.lib.objects.hierarchy.PathObjectHierarchy")
_ImageType = JClass("qupath.lib.images.ImageData$ImageType")
_IntFunction = JClass("java.util.function.IntFunction")
_IntStream = JClass("java.util.stream.IntStream")
_Integer = JClass("java.lang.Integer")
_Locale = JClass("java.util.Locale")
_Map = JClass("java.util.Map")
_Modifier = JClass("java.lang.reflect.Modifier")
_Number = JClass("java.lang.Number")
_Object = JClass("java.lang.Object")
_ObjectOutput = JClass("java.io.ObjectOutputStream")
_ObjectInput = JClass("java.io.ObjectInputStream")
_Bytes = JClass("java.io.ByteArrayOutputStream")
_BytesIn = JClass("java.io.ByteArrayInputStream")
_InvocationTarget = JClass("java.lang.reflect.InvocationTargetException")
_IOException = JClass("java.io.IOException")
_DataInput = JClass("java.io.DataInputStream")
_DataOutput = JClass("java.io.DataOutputStream")
_Paths = JClass("java.nio.file.Paths")
_Proxies = JClass("java.lang.invoke.MethodHandleProxies")
_Stains = JClass("qupath.lib.color.ColorDeconvolutionStains")
_String = JClass("java.lang.String")
_ToDouble = JClass("java.util.function.ToDoubleFunction")
_ToInt = JClass("java.util.function.ToIntFunction")
_WKBWriter = JClass("org.locationtech.jts.io.WKBWriter")
_Workflow = JClass("qupath.lib.plugins.workflow.Workflow")

_LOOKUP = JClass("java.lang.invoke.MethodHandles").publicLookup()
# Called by reflection, so that a class loader that knows QuPath's classes is on Java's stack.
_READ_OBJECT = _ObjectInput.class_.getMethod("readObject")

_STEPS = "qupath.lib.plugins.workflow."
_CASE = "Case ID"
_HEAD = 1 << 20  # bytes of a file in which its stains are looked for
_LONGEST = 2 + 0xFFFF  # bytes of a text with its length
_STAINS = re.compile(rb"w\x04\x00\x00\x00\x01t")  # their version, and the beginning of a text
_MAX_DEPTH = 8  # of lists and maps in properties and workflow steps
_DETECTIONS = {"detection", "cell", "tile"}
_TYPES = {
    "TMACoreObject": "tmaCore",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "PathDetectionObject": "detection",
    "PathAnnotationObject": "annotation",
    "PathROIObject": "detection",
}
_ROIS = {
    "RectangleROI": "Rectangle",
    "EllipseROI": "Ellipse",
    "LineROI": "Line",
    "PolylineROI": "Polyline",
    "PolygonROI": "Polygon",
    "PointsROI": "Points",
    "GeometryROI": "Geometry",
    "AreaROI": "Area",  # QuPath < 0.2
}


def versions() -> dict[str, str]:
    """Return the versions of QuPath and Java, and the architecture that Java is for."""
    return {
        "qupath": str(GeneralTools.getVersion()),
        "java": str(System.getProperty("java.version")),
        "jvm_architecture": str(System.getProperty("os.arch")),
    }


def entries(path: str) -> list[dict[str, Any]]:
    """Open a project through paquo, for reading, and return what QuPath has in its list."""
    project = QuPathProject(path, mode="r")
    gson = GsonTools.getInstance()
    return [
        {
            "id": str(entry.getID()),
            "name": _text(entry.getOriginalImageName()),
            "description": _text(entry.getDescription()),
            # Called getMetadata by QuPath >= 0.6, which has the old name too.
            "metadata": json.loads(str(gson.toJson(entry.getMetadataMap()))),
            "tags": _tags(entry),
        }
        for entry in (image.java_object for image in project.images)
    ]


def _tags(entry: Any) -> list[str] | None:
    """Return the tags of an entry; None for a QuPath < 0.6, which knows no tags."""
    return [str(tag) for tag in entry.getTags()] if hasattr(entry, "getTags") else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


# --- a data file --------------------------------------------------------------------------------


@dataclass(slots=True)
class Stored:
    """The items of a data file, as QuPath's classes hold them.

    ``first_line`` and ``server`` are the texts that it begins with.
    """

    first_line: str
    server: str
    hierarchy: Any = None
    locale: Any = None
    image_type: Any = None
    stains: Any = None
    workflow: Any = None
    properties: Any = None
    stains_text: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def version(self) -> int | None:
        """The number of the file's format, None where it names none."""
        number = re.match(r"Data file version (\d{1,4})\b", self.first_line)
        return int(number[1]) if number else None

    @property
    def qupath_version(self) -> str | None:
        """The QuPath that wrote it (QuPath >= 0.3)."""
        try:
            version = json.loads(self.server).get("qupathVersion")
        except (ValueError, AttributeError):
            return None
        return version if isinstance(version, str) else None


def has_ids(version: str | None) -> bool:
    """Return whether a QuPath of this version stores the ids of objects.

    Earlier ones do not, and QuPath then gives every object a new one at each reading.
    """
    number = re.match(r"(\d+)\.(\d+)", version or "")
    return number is not None and (int(number[1]), int(number[2])) >= (0, 4)


def read_stored(path: str) -> Stored:
    """Read a data file: its items one by one, by class and not by order, as QuPath does.

    Classes are those of this file alone: QuPath keeps one colour for each name, that of the first
    file it saw it in.
    """
    _RESET_CLASSES.invokeWithArguments()
    before = _Locale.getDefault(_Category.FORMAT)
    stream = PathIO.createObjectInputStream(_BufferedInput(_Files.newInputStream(_Paths.get(path))))
    try:
        first_line = str(stream.readUTF())
        if not first_line.startswith("Data file version"):
            raise ValueError("not a QuPath data file")
        stored = Stored(first_line, str(_read_object(stream)))
        while _read_item(stored, stream):
            pass
        if stored.stains is not None:
            stored.stains_text = _stored_stains(path, stored.stains)
    finally:
        stream.close()
        _Locale.setDefault(_Category.FORMAT, before)
    if stored.hierarchy is None:
        raise ValueError("a file without a hierarchy of objects")
    _undo_case_ids(stored.hierarchy.getTMAGrid(), Path(path))
    return stored


def _read_object(stream: Any) -> Any:
    try:
        return _READ_OBJECT.invoke(stream)
    except _InvocationTarget as error:
        raise error.getTargetException() from None


def _read_item(stored: Stored, stream: Any) -> bool:
    """Read the next item; return False behind the last one."""
    try:
        item = _read_object(stream)
    except _EOF:
        # The properties come last: a file that ends behind them is whole.
        if stored.properties is None:
            raise ValueError("the file ends before its end") from None
        stored.problems.append("the file ends without its end mark, behind the properties")
        return False
    except _ClassNotFound as error:
        stored.problems.append(f"an item of class {error.getMessage()} was parsed past")
        return True
    if item is None:
        return True
    if isinstance(item, _Hierarchy):
        if stored.hierarchy is not None:
            raise ValueError("a second hierarchy of objects")
        stored.hierarchy = item
    elif isinstance(item, _ImageType):
        stored.image_type = item
    elif isinstance(item, _Stains):
        stored.stains = item
    elif isinstance(item, _Workflow):
        stored.workflow = item
    elif isinstance(item, _HashMap):
        stored.properties = item
    elif isinstance(item, _Locale):
        stored.locale = item
        _Locale.setDefault(_Category.FORMAT, item)  # texts with numbers are read by it
    elif isinstance(item, _String):
        return str(item) != "EOF"
    else:
        stored.problems.append(f"an item of class {item.getClass().getName()} was parsed past")
    return True


def metadata_values(stored: Stored) -> dict[str, Any]:
    """Return all of a file but its objects."""
    steps = [] if stored.workflow is None else stored.workflow.getSteps()
    properties = stored.properties or {}
    return {
        "version": stored.version,
        "qupath_version": stored.qupath_version,
        "image_type": None if stored.image_type is None else str(stored.image_type.name()),
        "stains": stored.stains_text,
        "workflow": [_step(step) for step in steps],
        "properties": {str(key): _property(properties[key]) for key in properties},
        "problems": stored.problems,
    }


def _stains_text(stains: Any) -> str:
    """Return the text that QuPath would store for stains."""
    written = _Bytes()
    out = _ObjectOutput(written)
    stains.writeExternal(out)
    out.close()
    stream = _ObjectInput(_BytesIn(written.toByteArray()))
    stream.readInt()
    return str(stream.readObject())


def _stored_stains(path: str, stains: Any) -> str:
    """Return the text that is stored for stains, or what QuPath makes of it if it is not found.

    QuPath makes every vector one unit long when it reads it, which changes the last digits. The
    text is looked for behind its class, and taken if QuPath makes exactly these stains of it.
    """
    made = _stains_text(stains)
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    start = max(head.find(str(_Stains.class_.getName()).encode("ascii")), 0)
    for found in _STAINS.finditer(head, start):
        stream = _DataInput(_BytesIn(JArray(JByte)(head[found.end() : found.end() + _LONGEST])))
        text = _utf(stream)
        if (
            text is not None
            and _stains_text(_Stains.parseColorDeconvolutionStainsArg(text)) == made
        ):
            return text
    return made


def _utf(stream: Any) -> str | None:
    try:
        text = str(stream.readUTF())
    except _IOException:
        return None
    return text if text.startswith("{") else None


def _undo_case_ids(grid: Any, path: Path) -> None:
    """Take back what QuPath >= 0.4 adds to TMA cores on reading: a case ID like their unique ID.

    It is stored if its name is anywhere in the file.
    """
    if grid is None:
        return
    _, maps = _select(_java_map(grid.getTMACoreList(), _METADATA), _NOT_NULL)
    added = [each for each in maps if each.containsKey(_CASE)]
    if added and _CASE.encode("ascii") not in path.read_bytes():
        for metadata in added:
            metadata.remove(_CASE)


def _step(step: Any) -> dict[str, Any]:
    """Return the fields of a workflow step that are stored."""
    shown = {"class": str(step.getClass().getName()).removeprefix(_STEPS)}
    for each in step.getClass().getDeclaredFields():
        if not each.getModifiers() & (_Modifier.STATIC | _Modifier.TRANSIENT):
            each.setAccessible(True)
            shown[str(each.getName())] = _plain(each.get(step))
    return shown


def _property(value: Any) -> Any:
    """Return a property of an image; of QuPath's own objects only the class."""
    if value is not None and not _class_name(value).startswith("java."):
        return {"class": _class_name(value)}
    return _plain(value)


def _plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Return a value as Python's own: text, number, list, dict; else its class."""
    if value is None or isinstance(value, bool | int | float | str):
        return None if value is None else _to_python(value)
    if isinstance(value, _String):
        return str(value)
    if isinstance(value, _Boolean):
        return bool(value)
    if isinstance(value, _Number):
        return _to_python(value)
    if isinstance(value, _Enum):
        return str(value.name())
    if depth and isinstance(value, _Map):
        return {
            str(_plain(entry.getKey(), 0)): _plain(entry.getValue(), depth - 1)
            for entry in value.entrySet()
        }
    if depth and isinstance(value, _Collection):
        return [_plain(item, depth - 1) for item in value]
    return {"class": _class_name(value)}


def _to_python(value: Any) -> Any:
    """Return a number or text of Java's, which JPype derives from Python's, as plain Python."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _class_name(value: Any) -> str:
    return str(_Object.getClass(value).getName())


# --- objects, many at once ----------------------------------------------------------------------
# One call from Python to Java takes as long as a hundred in Java. So Java's streams go through
# the objects, with QuPath's methods as they are; what comes back is one array or one JSON text.


def _handle(owner: str, name: str, *parameters: Any) -> Any:
    method = JClass(owner).class_.getDeclaredMethod(name, *parameters)
    method.setAccessible(True)
    return _LOOKUP.unreflect(method)


def _getter(owner: str, name: str) -> Any:
    owned = JClass(owner).class_.getDeclaredField(name)
    owned.setAccessible(True)
    return _LOOKUP.unreflectGetter(owned)


def _as(interface: Any, handle: Any) -> Any:
    return _Proxies.asInterfaceInstance(interface, handle)


_OBJECT = "qupath.lib.objects.PathObject"
_MEASUREMENTS = "qupath.lib.measurements.MeasurementList"
_ROI = "qupath.lib.roi.interfaces.ROI"
_BOUNDED = "qupath.lib.roi.AbstractPathBoundedROI"
_LINE = "qupath.lib.roi.LineROI"
_RING = "qupath.lib.roi.Vertices"
_POINT = "qupath.lib.geom.Point2"

_RESET_CLASSES = _handle("qupath.lib.objects.classes.PathClass", "resetCaches")
_CLASS_OF = _handle("java.lang.Object", "getClass")
_GET = _handle("java.util.List", "get", JInt)
_LOOK_UP = _handle("java.util.Map", "get", _Object.class_)
_STREAM = _handle("java.util.Collection", "stream")
_LENGTH = _handle("java.lang.reflect.Array", "getLength", _Object.class_)
_DOUBLES = _handle("java.util.Arrays", "stream", JArray(JDouble).class_)
_NOT_NULL = _handle("java.util.Objects", "nonNull", _Object.class_)
# QuPath 0.4 has no getMetadata and 0.5 no hasMetadata; this field and method are in all of them.
_METADATA = _getter(_OBJECT, "metadata")
_STORE_METADATA = _handle(_OBJECT, "storeMetadataValue", _String.class_, _String.class_)


def _java_map(items: Any, handle: Any) -> Any:
    """Return a Java list of what a method gives for each item; None gives None."""
    return items.stream().map(_as(_Function, handle)).toList()


def _ints(items: Any, handle: Any) -> NDArray[np.int32]:
    return np.array(items.stream().mapToInt(_as(_ToInt, handle)).toArray(), np.int32)


def _doubles(items: Any, handle: Any) -> NDArray[np.float64]:
    return np.array(items.stream().mapToDouble(_as(_ToDouble, handle)).toArray(), np.float64)


def _json(items: Any) -> list[Any]:
    """Return texts, ids, flags, whole numbers or maps of texts."""
    found: list[Any] = json.loads(str(GsonTools.getInstance().toJson(items)))
    return found


def _picked(items: Any, places: NDArray[Any]) -> Any:
    """Return a Java list of the items at some places."""
    wanted = JArray(JInt)(places.astype(np.int32))
    return _IntStream.of(wanted).mapToObj(_as(_IntFunction, _GET.bindTo(items))).toList()


def _indexed(items: Any) -> tuple[list[Any], NDArray[np.int32]]:
    """Return the different items, and the place of each one among them."""
    different = items.stream().distinct().toList()
    places = _HashMap()
    for i, item in enumerate(different):
        places.put(item, _Integer.valueOf(i))
    return list(different), _ints(items, _LOOK_UP.bindTo(places))


def _kinds(items: Any, names: Mapping[str, str]) -> NDArray[np.str_]:
    """Return what the class of each item, or one that it comes from, is called here."""
    classes, index = _indexed(_java_map(items, _CLASS_OF))
    return np.array([_kind(each, names) for each in classes], np.str_)[index]


def _kind(found: Any, names: Mapping[str, str]) -> str:
    each = found
    while each is not None:
        name = str(each.getSimpleName())
        if name in names:
            return names[name]
        each = each.getSuperclass()
    raise ValueError(f"found {found.getName()} in the hierarchy")


def object_messages(stored: Stored, detections: bool) -> Iterator[Message]:
    """Yield the objects of a file, depth first, some thousands in each message."""
    flat = stored.hierarchy.getRootObject().getDescendantObjects(None)
    kinds = _kinds(flat, _TYPES) if len(flat) else np.zeros(0, np.str_)
    kept, parents = _listed(flat, kinds, detections)
    skipped: dict[str, int] = {}
    if not detections:
        names, counts = np.unique(kinds[np.isin(kinds, list(_DETECTIONS))], return_counts=True)
        skipped = dict(zip(names.tolist(), counts.tolist(), strict=True))
    with_ids = has_ids(stored.qupath_version)
    yield Message({
        "more": bool(len(kept)),
        "skipped": skipped,
        "grid": _grid(stored.hierarchy.getTMAGrid(), flat, kinds, kept),
    })  # fmt: skip
    for start in range(0, len(kept), BATCH):
        part = slice(start, start + BATCH)
        message = _batch(_picked(flat, kept[part]), kinds[kept[part]], with_ids)
        header = {**message.header, "more": start + BATCH < len(kept)}
        yield pack(header, {**message.arrays, "parent": parents[part]})


def _listed(
    flat: Any, kinds: NDArray[np.str_], detections: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return which objects are wanted, and the nearest ancestor of each among these."""
    if not len(flat):
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    counts = _ints(flat, _handle(_OBJECT, "nChildObjects")).tolist()
    wanted = np.ones(len(kinds), bool) if detections else ~np.isin(kinds, list(_DETECTIONS))
    parents: list[int] = []
    above: list[list[int]] = [[-1, len(counts) + 1]]  # the place of an object, children to come
    number = 0
    for count, listed in zip(counts, wanted.tolist(), strict=True):
        while not above[-1][1]:
            above.pop()
        above[-1][1] -= 1
        place = above[-1][0]
        if listed:
            parents.append(place)
            place = number
            number += 1
        if count:
            above.append([place, count])
    return np.flatnonzero(wanted), np.array(parents, np.int32)


def _grid(
    grid: Any, flat: Any, kinds: NDArray[np.str_], kept: NDArray[np.int64]
) -> dict[str, Any] | None:
    if grid is None:
        return None
    places = np.flatnonzero(kinds == "tmaCore")
    cores = _picked(flat, places)
    found = [cores.indexOf(core) for core in grid.getTMACoreList()]
    if -1 in found:
        raise ValueError("a TMA grid with cores that are not in the hierarchy")
    index = np.searchsorted(kept, places[found])
    return {
        "width": int(grid.getGridWidth()),
        "height": int(grid.getGridHeight()),
        "cores": index.tolist(),
    }


@dataclass(slots=True)
class _Batch:
    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def _batch(objects: Any, kinds: NDArray[np.str_], with_ids: bool) -> _Batch:
    classes, class_index = _indexed(_java_map(objects, _handle(_OBJECT, "getPathClass")))
    header: dict[str, Any] = {
        "type": kinds.tolist(),
        "id": _json(_java_map(objects, _handle(_OBJECT, "getID"))),
        "stored": with_ids,
        "name": _json(_java_map(objects, _handle(_OBJECT, "getName"))),
        "color": _json(_java_map(objects, _handle(_OBJECT, "getColor"))),
        "locked": _json(_java_map(objects, _handle(_OBJECT, "isLocked"))),
        "classes": [_path_class(each) for each in classes],
    }
    arrays: dict[str, NDArray[Any]] = {
        "class": class_index,
        "probability": _doubles(objects, _handle(_OBJECT, "getClassProbability")),
    }
    there, maps = _select(_java_map(objects, _METADATA), _NOT_NULL)
    header["metadata"] = _json(maps)
    arrays["has_metadata"] = there
    cores = np.flatnonzero(kinds == "tmaCore")
    header["missing"] = [bool(core.isMissing()) for core in _picked(objects, cores)]
    arrays["is_core"] = cores
    _add_measurements(objects, header, arrays)
    arrays |= _rois("roi", objects, _handle(_OBJECT, "getROI"))
    cells = np.flatnonzero(kinds == "cell")
    nucleus = _handle("qupath.lib.objects.PathCellObject", "getNucleusROI")
    arrays |= _rois("nucleus", _picked(objects, cells), nucleus, cells)
    return _Batch(header, arrays)


def _path_class(found: Any) -> list[Any] | None:
    if found is None or found.getName() is None:
        return None
    color = found.getColor()
    return [str(found.toString()), None if color is None else int(color)]


def _select(objects: Any, flag: Any) -> tuple[NDArray[np.int64], Any]:
    """Return the objects for which something holds, and their places."""
    places = np.flatnonzero(np.array(_json(_java_map(objects, flag)), bool))
    return places, _picked(objects, places)


def _add_measurements(objects: Any, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    places, some = _select(objects, _handle(_OBJECT, "hasMeasurements"))
    lists = _java_map(some, _handle(_OBJECT, "getMeasurementList"))
    # Called getNames by QuPath >= 0.6, which has the old name too.
    names, index = _indexed(_java_map(lists, _handle(_MEASUREMENTS, "getMeasurementNames")))
    values = _java_map(lists, _handle(_MEASUREMENTS, "values"))
    header["measurement_names"] = [_json(each) for each in names]
    arrays["has_measurements"], arrays["measurement_names"] = places, index
    arrays["measurement_counts"] = _ints(values, _LENGTH)
    arrays["measurement_values"] = np.array(
        values.stream().flatMapToDouble(_as(_Function, _DOUBLES)).toArray(), np.float64
    )


def _rois(
    name: str, objects: Any, roi: Any, places: NDArray[np.int64] | None = None
) -> dict[str, NDArray[Any]]:
    """Return ROIs as numbers: their planes, and by kind who has them and their coordinates."""
    there, rois = _select(_java_map(objects, roi), _NOT_NULL)
    whose = there if places is None else places[there]
    arrays: dict[str, NDArray[Any]] = {f"{name}.of": whose}
    for axis in "ztc":
        arrays[f"{name}.{axis}"] = _ints(rois, _handle(_ROI, f"get{axis.upper()}"))
    kinds = _kinds(rois, _ROIS) if len(rois) else np.zeros(0, np.str_)
    for kind in np.unique(kinds).tolist():
        at = np.flatnonzero(kinds == kind)
        some = _picked(rois, at)
        arrays[f"{name}.{kind}.at"] = at
        if kind in ("Rectangle", "Ellipse", "Line"):
            owner = _LINE if kind == "Line" else _BOUNDED
            corners = [_doubles(some, _getter(owner, side)) for side in ("x", "y", "x2", "y2")]
            arrays[f"{name}.{kind}.box"] = np.stack(corners, axis=1).ravel()
        elif kind == "Geometry":
            written = _java_map(_java_map(some, _handle(_ROI, "getGeometry")), _WKB)
            arrays[f"{name}.{kind}.counts"] = _ints(written, _LENGTH)
            arrays[f"{name}.{kind}.wkb"] = np.concatenate(
                [np.frombuffer(bytes(each), np.uint8) for each in written]
            )
        else:
            if kind == "Area":
                rings = _java_map(some, _getter("qupath.lib.roi.AreaROI", "vertices"))
                arrays[f"{name}.{kind}.rings"] = _ints(rings, _handle("java.util.List", "size"))
                some = rings.stream().flatMap(_as(_Function, _STREAM)).toList()
            owner, points_of = (_ROI, "getAllPoints") if kind != "Area" else (_RING, "getPoints")
            lists = _java_map(some, _handle(owner, points_of))
            points = lists.stream().flatMap(_as(_Function, _STREAM)).toList()
            arrays[f"{name}.{kind}.counts"] = _ints(lists, _handle("java.util.List", "size"))
            for axis in "xy":
                arrays[f"{name}.{kind}.{axis}"] = _doubles(
                    points, _handle(_POINT, f"get{axis.upper()}")
                )
    return arrays


_WKB = _handle(
    "org.locationtech.jts.io.WKBWriter",
    "write",
    JClass("org.locationtech.jts.geom.Geometry").class_,
).bindTo(_WKBWriter(2))


# --- writing ------------------------------------------------------------------------------------

_ArrayList = JClass("java.util.ArrayList")
_BufferedOutput = JClass("java.io.BufferedOutputStream")
_Channels = JClass("java.nio.channels.Channels")
_FileChannel = JClass("java.nio.channels.FileChannel")
_ImagePlane = JClass("qupath.lib.regions.ImagePlane")
_ListType = JClass("qupath.lib.measurements.MeasurementList$MeasurementListType")
_ListFactory = JClass("qupath.lib.measurements.MeasurementListFactory")
_Option = JClass("java.nio.file.StandardOpenOption")
_PathClass = JClass("qupath.lib.objects.classes.PathClass")
_PathObjects = JClass("qupath.lib.objects.PathObjects")
_ROIs = JClass("qupath.lib.roi.ROIs")
_UUID = JClass("java.util.UUID")

_DOUBLE_VALUES = JClass(
    "qupath.lib.measurements.NumericMeasurementList$DoubleList"
).class_.getDeclaredField("values")
_DOUBLE_VALUES.setAccessible(True)

_DATA_VERSION = 3  # of the files of QuPath 0.3 to 0.7


def edit(question: Message) -> None:
    """Write a new data file with other tiles; :meth:`.engine.PaquoEngine.edit` says how."""
    asked = question.header
    if asked["source"] is None:
        _RESET_CLASSES.invokeWithArguments()
        stored = Stored("", "", _Hierarchy(), properties=_HashMap())
        stored.locale, stored.image_type, stored.workflow = (
            _Locale.US,
            _ImageType.UNSET,
            _Workflow(),
        )
    else:
        stored = read_stored(asked["source"])
    root = stored.hierarchy.getRootObject()
    flat = root.getDescendantObjects(None)
    for each, identity in zip(flat, asked["ids"] or (), strict=bool(asked["ids"])):
        each.setID(_UUID.fromString(identity))
    _remove(root, flat, set(asked["remove"]))
    root.addChildObjects(_tiles(asked, unpack(question)["boxes"].reshape(-1, 6)))
    _write(stored, asked["target"], _server_text(stored.server, asked["builder"]))


def _remove(root: Any, flat: Any, remove: set[str]) -> None:
    """Take tiles out; their children come to stand in their place."""
    if not len(flat):
        return
    gone = np.array([each in remove for each in _json(_java_map(flat, _handle(_OBJECT, "getID")))])
    gone &= _kinds(flat, _TYPES) == "tile"
    if not gone.any():
        return
    _, parents = _listed(flat, np.full(len(gone), ""), detections=True)
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(parents.tolist()):
        children.setdefault(parent, []).append(i)
    changed = {parent for parent in set(parents[gone].tolist()) if parent < 0 or not gone[parent]}
    for parent in changed:
        left, waiting = [], children[parent][::-1]
        while waiting:
            child = waiting.pop()
            if not gone[child]:
                left.append(child)
                continue
            waiting.extend(children.get(child, [])[::-1])
            flat[child].clearChildObjects()
        owner = root if parent < 0 else flat[parent]
        owner.clearChildObjects()
        owner.addChildObjects(_picked(flat, np.array(left, np.int64)))


def _tiles(asked: Mapping[str, Any], boxes: NDArray[Any]) -> Any:
    classes = [
        _PathClass.fromString(path, _Integer.valueOf(color)) for path, color in asked["classes"]
    ]
    tiles = _ArrayList(len(boxes))
    for i, (x, y, w, h, z, t) in enumerate(boxes.tolist()):
        roi = _ROIs.createRectangleROI(x, y, w, h, _ImagePlane.getPlane(z, t))
        which = asked["class"][i]
        tile = _PathObjects.createTileObject(
            roi, None if which < 0 else classes[which], _measurement_list(asked["measurements"][i])
        )
        tile.setID(_UUID.fromString(asked["id"][i]))
        if asked["name"][i] is not None:
            tile.setName(asked["name"][i])
        if asked["metadata"][i]:
            for key, text in asked["metadata"][i].items():
                _STORE_METADATA.invokeWithArguments(tile, JString(key), JString(text))
        tiles.add(tile)
    return tiles


def _measurement_list(measurements: Mapping[str, float]) -> Any:
    """Return measurements as double numbers; QuPath's own for tiles are single ones.

    Its list of doubles rounds to single ones what is put into it, so the numbers are set in its
    array.
    """
    if not measurements:
        return None
    made = _ListFactory.createMeasurementList(len(measurements), _ListType.DOUBLE)
    for name in measurements:
        made.put(name, 0.0)
    made.close()
    _DOUBLE_VALUES.get(made)[:] = list(measurements.values())
    return made


def _server_text(stored: str, builder: Mapping[str, Any]) -> str:
    """Return the JSON about the image: as it was stored, written by this QuPath."""
    try:
        about = json.loads(stored)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        about = {"server": builder}
    about |= {"dataVersion": _DATA_VERSION, "qupathVersion": versions()["qupath"]}
    return json.dumps(about, ensure_ascii=False, separators=(",", ":"))


def _write(stored: Stored, target: str, server: str) -> None:
    """Write the items in QuPath's order, each by its own class.

    QuPath's ``writeImageData`` wants an ``ImageData``, which adds to the workflow; see above.
    """
    before = _Locale.getDefault(_Category.FORMAT)
    locale = stored.locale or before
    channel = _FileChannel.open(_Paths.get(target), _Option.WRITE)
    try:
        _Locale.setDefault(_Category.FORMAT, locale)
        out = _ObjectOutput(_BufferedOutput(_Channels.newOutputStream(channel)))
        out.writeUTF(f"Data file version {_DATA_VERSION}")
        out.writeObject(JString(server))
        out.writeObject(locale)
        out.writeObject(stored.image_type)
        out.writeObject(stored.stains)
        if stored.stains is not None:
            out.flush()
            _keep_stains(stored, target, channel)
        out.writeObject(stored.workflow)
        out.writeObject(stored.hierarchy)
        out.writeObject(stored.properties)
        out.writeObject(JString("EOF"))
        out.close()
    finally:
        channel.close()
        _Locale.setDefault(_Category.FORMAT, before)


def _keep_stains(stored: Stored, target: str, channel: Any) -> None:
    """Put the text of the stains as it was in the place of the one that was just written.

    It is the last thing in the file so far, and nothing in a Java stream counts bytes from the
    beginning.
    """
    file = Path(target)
    content = file.read_bytes()
    made, kept = (_utf_bytes(text) for text in (_stains_text(stored.stains), stored.stains_text))
    start = content.rindex(made)
    content = content[:start] + kept + content[start + len(made) :]
    file.write_bytes(content)
    channel.position(len(content))


def _utf_bytes(text: str | None) -> bytes:
    """Return a text as Java writes it, with its length."""
    written = _Bytes()
    _DataOutput(written).writeUTF(text)
    return bytes(written.toByteArray())
