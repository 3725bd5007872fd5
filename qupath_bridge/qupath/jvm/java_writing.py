"""Writes a new data file with other tiles, with QuPath's classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jpype import JClass, JString  # type: ignore[import-untyped]  # noqa: TID253
from numpy.typing import NDArray

from .java import (
    OBJECT_TYPES,
    PATH_OBJECT,
    RESET_CLASSES,
    ByteOutput,
    Category,
    HashMap,
    Hierarchy,
    ImageType,
    Integer,
    Locale,
    ObjectOutput,
    Paths,
    String,
    Workflow,
    java_map,
    json_values,
    method_handle,
    select_items,
    type_names,
    versions,
)
from .java_data import Stored, read_stored, stains_text
from .java_objects import list_objects
from .messages import Message, unpack

__all__ = ["edit"]

_ArrayList = JClass("java.util.ArrayList")
_BufferedOutput = JClass("java.io.BufferedOutputStream")
_Channels = JClass("java.nio.channels.Channels")
_DataOutput = JClass("java.io.DataOutputStream")
_FileChannel = JClass("java.nio.channels.FileChannel")
_ImagePlane = JClass("qupath.lib.regions.ImagePlane")
_ListType = JClass("qupath.lib.measurements.MeasurementList$MeasurementListType")
_ListFactory = JClass("qupath.lib.measurements.MeasurementListFactory")
_Option = JClass("java.nio.file.StandardOpenOption")
_PathClass = JClass("qupath.lib.objects.classes.PathClass")
_PathObjects = JClass("qupath.lib.objects.PathObjects")
_ROIs = JClass("qupath.lib.roi.ROIs")
_UUID = JClass("java.util.UUID")

_STORE_METADATA = method_handle(PATH_OBJECT, "storeMetadataValue", String.class_, String.class_)
_DOUBLE_VALUES = JClass(
    "qupath.lib.measurements.NumericMeasurementList$DoubleList"
).class_.getDeclaredField("values")
_DOUBLE_VALUES.setAccessible(True)

_DATA_VERSION = 3  # of the files of QuPath 0.3 to 0.7


def edit(question: Message) -> None:
    """Write a new data file with other tiles, as the paquo engine's ``edit`` describes."""
    header = question.header
    if header["source"] is None:
        RESET_CLASSES.invokeWithArguments()
        stored = Stored("", "", Hierarchy(), properties=HashMap())
        stored.locale, stored.image_type, stored.workflow = (
            Locale.US,
            ImageType.UNSET,
            Workflow(),
        )
    else:
        stored = read_stored(header["source"])
    root = stored.hierarchy.getRootObject()
    flat = root.getDescendantObjects(None)
    for item, identity in zip(flat, header["ids"] or (), strict=bool(header["ids"])):
        item.setID(_UUID.fromString(identity))
    _remove_tiles(root, flat, set(header["remove"]))
    root.addChildObjects(_make_tiles(header, unpack(question)["boxes"].reshape(-1, 6)))
    _write(stored, header["target"], _server_text(stored.server, header["builder"]))


def _remove_tiles(root: Any, flat: Any, remove: set[str]) -> None:
    """Remove tiles; their children move up to their parents."""
    if not len(flat):
        return
    removed = np.array(
        [
            each in remove
            for each in json_values(java_map(flat, method_handle(PATH_OBJECT, "getID")))
        ]
    )
    removed &= type_names(flat, OBJECT_TYPES) == "tile"
    if not removed.any():
        return
    _, parents = list_objects(flat, np.full(len(removed), ""), detections=True)
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(parents.tolist()):
        children.setdefault(parent, []).append(i)
    owners = {
        parent for parent in set(parents[removed].tolist()) if parent < 0 or not removed[parent]
    }
    for parent in owners:
        new_children, stack = [], children[parent][::-1]
        while stack:
            child = stack.pop()
            if not removed[child]:
                new_children.append(child)
                continue
            stack.extend(children.get(child, [])[::-1])
            flat[child].clearChildObjects()
        owner = root if parent < 0 else flat[parent]
        owner.clearChildObjects()
        owner.addChildObjects(select_items(flat, np.array(new_children, np.int64)))


def _make_tiles(header: Mapping[str, Any], boxes: NDArray[Any]) -> Any:
    classes = [
        _PathClass.fromString(path, Integer.valueOf(color)) for path, color in header["classes"]
    ]
    tiles = _ArrayList(len(boxes))
    for i, (x, y, w, h, z, t) in enumerate(boxes.tolist()):
        roi = _ROIs.createRectangleROI(x, y, w, h, _ImagePlane.getPlane(z, t))
        class_number = header["class"][i]
        tile = _PathObjects.createTileObject(
            roi,
            None if class_number < 0 else classes[class_number],
            _measurement_list(header["measurements"][i]),
        )
        tile.setID(_UUID.fromString(header["id"][i]))
        if header["name"][i] is not None:
            tile.setName(header["name"][i])
        if header["metadata"][i]:
            for key, text in header["metadata"][i].items():
                _STORE_METADATA.invokeWithArguments(tile, JString(key), JString(text))
        tiles.add(tile)
    return tiles


def _measurement_list(measurements: Mapping[str, float]) -> Any:
    """Return a list of measurements with double precision; QuPath's own lists for tiles use single.

    QuPath's list of doubles rounds what is put into it to single precision, so the numbers are
    set directly in its array.
    """
    if not measurements:
        return None
    result = _ListFactory.createMeasurementList(len(measurements), _ListType.DOUBLE)
    for name in measurements:
        result.put(name, 0.0)
    result.close()
    _DOUBLE_VALUES.get(result)[:] = list(measurements.values())
    return result


def _server_text(stored: str, builder: Mapping[str, Any]) -> str:
    """Return the stored JSON about the image, with the version of this QuPath."""
    try:
        server = json.loads(stored)
    except ValueError:
        server = None
    if not isinstance(server, dict):
        server = {"server": builder}
    server |= {"dataVersion": _DATA_VERSION, "qupathVersion": versions()["qupath"]}
    return json.dumps(server, ensure_ascii=False, separators=(",", ":"))


def _write(stored: Stored, target: str, server: str) -> None:
    """Write the items in QuPath's order, each by its own class.

    QuPath's ``writeImageData`` needs an ``ImageData``, which adds steps to the workflow.
    """
    before = Locale.getDefault(Category.FORMAT)
    locale = stored.locale or before
    channel = _FileChannel.open(Paths.get(target), _Option.WRITE)
    try:
        Locale.setDefault(Category.FORMAT, locale)
        out = ObjectOutput(_BufferedOutput(_Channels.newOutputStream(channel)))
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
        Locale.setDefault(Category.FORMAT, before)


def _keep_stains(stored: Stored, target: str, channel: Any) -> None:
    """Replace the text of the stains that was just written by the original one.

    It is the last item in the file so far, and no Java stream counts bytes from its beginning.
    """
    file = Path(target)
    content = file.read_bytes()
    old, new = (_utf_bytes(text) for text in (stains_text(stored.stains), stored.stains_text))
    start = content.rindex(old)
    content = content[:start] + new + content[start + len(old) :]
    file.write_bytes(content)
    channel.position(len(content))


def _utf_bytes(text: str | None) -> bytes:
    """Return a text as Java writes it, with its length first."""
    written = ByteOutput()
    _DataOutput(written).writeUTF(text)
    return bytes(written.toByteArray())
