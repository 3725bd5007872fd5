"""Reads a project's list of images, and all of a data file but its objects, with QuPath's classes.

QuPath's own ``readImageData`` is not used: it adds steps to the workflow, opens the slide where
its size is not known, and refuses stains of an image that is not brightfield. The items of a file
are read here as it reads them, each by QuPath's own class.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jpype import JArray, JByte, JClass  # type: ignore[import-untyped]  # noqa: TID253
from paquo.java import GsonTools, PathIO  # noqa: TID253
from paquo.projects import QuPathProject  # noqa: TID253

from .java import (
    METADATA,
    NOT_NULL,
    RESET_CLASSES,
    ByteOutput,
    Category,
    HashMap,
    Hierarchy,
    ImageType,
    Locale,
    Object,
    ObjectOutput,
    Paths,
    String,
    Workflow,
    java_map,
    select_where,
)

__all__ = ["Stored", "entries", "has_ids", "metadata_values", "read_stored", "stains_text"]

_Boolean = JClass("java.lang.Boolean")
_BufferedInput = JClass("java.io.BufferedInputStream")
_BytesIn = JClass("java.io.ByteArrayInputStream")
_ClassNotFound = JClass("java.lang.ClassNotFoundException")
_Collection = JClass("java.util.Collection")
_ColorTransform = JClass("qupath.lib.images.servers.ColorTransforms$ColorTransform")
_ColorTransformAdapter = JClass(
    "qupath.lib.images.servers.ColorTransforms$ColorTransformTypeAdapter"
)
_DataInput = JClass("java.io.DataInputStream")
_EOF = JClass("java.io.EOFException")
_Enum = JClass("java.lang.Enum")
_Files = JClass("java.nio.file.Files")
_InvocationTarget = JClass("java.lang.reflect.InvocationTargetException")
_IOException = JClass("java.io.IOException")
_Map = JClass("java.util.Map")
_Modifier = JClass("java.lang.reflect.Modifier")
_Number = JClass("java.lang.Number")
_ObjectInput = JClass("java.io.ObjectInputStream")
_Stains = JClass("qupath.lib.color.ColorDeconvolutionStains")

# As QuPath does where it starts; without it no project opens that has images of computed channels.
GsonTools.getDefaultBuilder().registerTypeAdapter(_ColorTransform.class_, _ColorTransformAdapter())

# Called by reflection, so that a class loader that knows QuPath's classes is on Java's stack.
_READ_OBJECT = _ObjectInput.class_.getMethod("readObject")
_STEPS = "qupath.lib.plugins.workflow."
_CASE = "Case ID"
_HEAD = 1 << 20  # bytes of a file in which its stains are looked for
_LONGEST = 2 + 0xFFFF  # bytes of a text with its length
_STAINS = re.compile(rb"w\x04\x00\x00\x00\x01t")  # their version, and the beginning of a text
_MAX_DEPTH = 8  # of lists and maps in properties and workflow steps


def entries(path: str) -> list[dict[str, Any]]:
    """Open a project through paquo, for reading, and return its list of images."""
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
    """Return the tags of an entry; None for QuPath < 0.6, which has no tags."""
    return [str(tag) for tag in entry.getTags()] if hasattr(entry, "getTags") else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@dataclass(slots=True)
class Stored:
    """The items of a data file, as QuPath's classes hold them.

    ``first_line`` and ``server`` are the texts at its beginning.
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
        """Version of the file's format; None if the file does not state it."""
        number = re.match(r"Data file version (\d{1,4})\b", self.first_line)
        return int(number[1]) if number else None

    @property
    def qupath_version(self) -> str | None:
        """Version of the QuPath that wrote the file (QuPath >= 0.3)."""
        try:
            version = json.loads(self.server).get("qupathVersion")
        except (ValueError, AttributeError):
            return None
        return version if isinstance(version, str) else None


def has_ids(version: str | None) -> bool:
    """Return whether a QuPath of this version stores the ids of objects.

    Earlier versions do not, and QuPath then gives every object a new id at each reading.
    """
    number = re.match(r"(\d+)\.(\d+)", version or "")
    return number is not None and (int(number[1]), int(number[2])) >= (0, 4)


def read_stored(path: str) -> Stored:
    """Read the items of a data file by class, not by order, as QuPath does.

    Classes are those of this file alone: QuPath keeps one colour per class name, that of the
    first file with that class.
    """
    RESET_CLASSES.invokeWithArguments()
    before = Locale.getDefault(Category.FORMAT)
    stream = PathIO.createObjectInputStream(_BufferedInput(_Files.newInputStream(Paths.get(path))))
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
        Locale.setDefault(Category.FORMAT, before)
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
    """Read the next item; return False after the last one."""
    try:
        item = _read_object(stream)
    except _EOF:
        # The properties come last: a file that ends after them is complete.
        if stored.properties is None:
            raise ValueError("the file ends too early") from None
        stored.problems.append("the file ends without its end mark, after the properties")
        return False
    except _ClassNotFound as error:
        stored.problems.append(f"an item of class {error.getMessage()} was skipped")
        return True
    if item is None:
        return True
    if isinstance(item, Hierarchy):
        if stored.hierarchy is not None:
            raise ValueError("a second hierarchy of objects")
        stored.hierarchy = item
    elif isinstance(item, ImageType):
        stored.image_type = item
    elif isinstance(item, _Stains):
        stored.stains = item
    elif isinstance(item, Workflow):
        stored.workflow = item
    elif isinstance(item, HashMap):
        stored.properties = item
    elif isinstance(item, Locale):
        stored.locale = item
        Locale.setDefault(Category.FORMAT, item)  # texts with numbers are read by it
    elif isinstance(item, String):
        return str(item) != "EOF"
    else:
        stored.problems.append(f"an item of class {item.getClass().getName()} was skipped")
    return True


def metadata_values(stored: Stored) -> dict[str, Any]:
    """Return everything of a file except its objects."""
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


def stains_text(stains: Any) -> str:
    """Return the text that QuPath would store for stains."""
    written = ByteOutput()
    out = ObjectOutput(written)
    stains.writeExternal(out)
    out.close()
    stream = _ObjectInput(_BytesIn(written.toByteArray()))
    stream.readInt()
    return str(stream.readObject())


def _stored_stains(path: str, stains: Any) -> str:
    """Return the stored text of stains, or QuPath's own text of them if it is not found.

    QuPath makes every vector one unit long when it reads it, which changes the last digits. The
    text is searched for after its class, and used if QuPath makes exactly these stains from it.
    """
    expected = stains_text(stains)
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    start = max(head.find(str(_Stains.class_.getName()).encode("ascii")), 0)
    for found in _STAINS.finditer(head, start):
        stream = _DataInput(_BytesIn(JArray(JByte)(head[found.end() : found.end() + _LONGEST])))
        text = _utf(stream)
        if (
            text is not None
            and stains_text(_Stains.parseColorDeconvolutionStainsArg(text)) == expected
        ):
            return text
    return expected


def _utf(stream: Any) -> str | None:
    try:
        text = str(stream.readUTF())
    except _IOException:
        return None
    return text if text.startswith("{") else None


def _undo_case_ids(grid: Any, path: Path) -> None:
    """Remove the case ID that QuPath >= 0.4 adds to TMA cores on reading, equal to the unique ID.

    A case ID is stored in the file if its key is anywhere in it; then nothing is removed.
    """
    if grid is None:
        return
    _, maps = select_where(java_map(grid.getTMACoreList(), METADATA), NOT_NULL)
    added = [each for each in maps if each.containsKey(_CASE)]
    if added and _CASE.encode("ascii") not in path.read_bytes():
        for metadata in added:
            metadata.remove(_CASE)


def _step(step: Any) -> dict[str, Any]:
    """Return the stored fields of a workflow step."""
    shown = {"class": str(step.getClass().getName()).removeprefix(_STEPS)}
    for each in step.getClass().getDeclaredFields():
        if not each.getModifiers() & (_Modifier.STATIC | _Modifier.TRANSIENT):
            each.setAccessible(True)
            shown[str(each.getName())] = _plain(each.get(step))
    return shown


def _property(value: Any) -> Any:
    """Return a property of an image; for QuPath's own objects, only the class."""
    if value is not None and not _class_name(value).startswith("java."):
        return {"class": _class_name(value)}
    return _plain(value)


def _plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Return a Java value as text, number, list or dict; for others, the name of its class."""
    if value is None or isinstance(value, bool | int | float | str):
        return None if value is None else _to_python(value)
    if isinstance(value, String):
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
    """Return a number or text of JPype, a subclass of Python's type, as the plain type."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _class_name(value: Any) -> str:
    return str(Object.getClass(value).getName())
