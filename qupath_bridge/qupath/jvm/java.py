"""Java with QuPath's classes, and what the modules around it share to use them.

Importing this module starts Java, through paquo; only the child process imports it and the other
``java_*`` modules.

paquo opens the project. It has no pixel size, no derived classes, TMA cores, planes, nuclei,
probabilities, metadata, stains or workflow, and goes through objects one by one. So these modules
use QuPath's Java API directly for what paquo does not expose.

QuPath 0.4 to 0.7 have all that is used here in the same places, except tags (>= 0.6). Where 0.6
has a new name for a method, the old one is called, which 0.7 has too.

One call from Python to Java takes as long as a hundred in Java. So Java's streams go through the
objects, with QuPath's methods as they are; what comes back is one array or one JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jpype import JArray, JClass, JInt  # type: ignore[import-untyped]  # noqa: TID253
from numpy.typing import NDArray
from paquo.java import GeneralTools, GsonTools, System  # noqa: TID253

__all__ = [
    "METADATA",
    "NOT_NULL",
    "OBJECT_TYPES",
    "PATH_OBJECT",
    "RESET_CLASSES",
    "ByteOutput",
    "Category",
    "Function",
    "HashMap",
    "Hierarchy",
    "ImageType",
    "Integer",
    "Locale",
    "Object",
    "ObjectOutput",
    "Paths",
    "String",
    "Workflow",
    "as_interface",
    "doubles",
    "field_getter",
    "index_distinct",
    "ints",
    "java_map",
    "json_values",
    "method_handle",
    "select_items",
    "select_where",
    "type_names",
    "versions",
]

ByteOutput = JClass("java.io.ByteArrayOutputStream")
Category = JClass("java.util.Locale$Category")
Function = JClass("java.util.function.Function")
HashMap = JClass("java.util.HashMap")
Hierarchy = JClass("qupath.lib.objects.hierarchy.PathObjectHierarchy")
ImageType = JClass("qupath.lib.images.ImageData$ImageType")
Integer = JClass("java.lang.Integer")
Locale = JClass("java.util.Locale")
Object = JClass("java.lang.Object")
ObjectOutput = JClass("java.io.ObjectOutputStream")
Paths = JClass("java.nio.file.Paths")
String = JClass("java.lang.String")
Workflow = JClass("qupath.lib.plugins.workflow.Workflow")

_IntFunction = JClass("java.util.function.IntFunction")
_IntStream = JClass("java.util.stream.IntStream")
_Proxies = JClass("java.lang.invoke.MethodHandleProxies")
_ToDouble = JClass("java.util.function.ToDoubleFunction")
_ToInt = JClass("java.util.function.ToIntFunction")
_LOOKUP = JClass("java.lang.invoke.MethodHandles").publicLookup()

PATH_OBJECT = "qupath.lib.objects.PathObject"
OBJECT_TYPES = {
    "TMACoreObject": "tmaCore",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "PathDetectionObject": "detection",
    "PathAnnotationObject": "annotation",
    "PathROIObject": "detection",
}


def versions() -> dict[str, str]:
    """Return the versions of QuPath and Java, and the architecture that Java is for."""
    return {
        "qupath": str(GeneralTools.getVersion()),
        "java": str(System.getProperty("java.version")),
        "jvm_architecture": str(System.getProperty("os.arch")),
    }


def method_handle(owner: str, name: str, *parameters: Any) -> Any:
    """Return a handle of a method of a class, private ones too."""
    method = JClass(owner).class_.getDeclaredMethod(name, *parameters)
    method.setAccessible(True)
    return _LOOKUP.unreflect(method)


def field_getter(owner: str, name: str) -> Any:
    """Return a handle that reads a field of a class, private ones too."""
    field = JClass(owner).class_.getDeclaredField(name)
    field.setAccessible(True)
    return _LOOKUP.unreflectGetter(field)


def as_interface(interface: Any, handle: Any) -> Any:
    """Return a method handle as an instance of a Java interface with one method."""
    return _Proxies.asInterfaceInstance(interface, handle)


RESET_CLASSES = method_handle("qupath.lib.objects.classes.PathClass", "resetCaches")
_CLASS_OF = method_handle("java.lang.Object", "getClass")
_GET = method_handle("java.util.List", "get", JInt)
_LOOK_UP = method_handle("java.util.Map", "get", Object.class_)
NOT_NULL = method_handle("java.util.Objects", "nonNull", Object.class_)
# QuPath 0.4 has no getMetadata and 0.5 no hasMetadata; this field and method are in all of them.
METADATA = field_getter(PATH_OBJECT, "metadata")


def java_map(items: Any, handle: Any) -> Any:
    """Return a Java list with the result of a method for each item; None gives None."""
    return items.stream().map(as_interface(Function, handle)).toList()


def ints(items: Any, handle: Any) -> NDArray[np.int32]:
    """Return the whole number that a method gives for each item."""
    return np.array(items.stream().mapToInt(as_interface(_ToInt, handle)).toArray(), np.int32)


def doubles(items: Any, handle: Any) -> NDArray[np.float64]:
    """Return the number that a method gives for each item."""
    return np.array(
        items.stream().mapToDouble(as_interface(_ToDouble, handle)).toArray(), np.float64
    )


def json_values(items: Any) -> list[Any]:
    """Return a Java list of texts, ids, flags, whole numbers or maps of texts."""
    values: list[Any] = json.loads(str(GsonTools.getInstance().toJson(items)))
    return values


def select_items(items: Any, places: NDArray[Any]) -> Any:
    """Return a Java list of the items at some places."""
    wanted = JArray(JInt)(places.astype(np.int32))
    return _IntStream.of(wanted).mapToObj(as_interface(_IntFunction, _GET.bindTo(items))).toList()


def select_where(objects: Any, flag: Any) -> tuple[NDArray[np.int64], Any]:
    """Return the places of the objects for which a flag is true, and the objects."""
    places = np.flatnonzero(np.array(json_values(java_map(objects, flag)), bool))
    return places, select_items(objects, places)


def index_distinct(items: Any) -> tuple[list[Any], NDArray[np.int32]]:
    """Return the different items, and the place of each one among them."""
    different = items.stream().distinct().toList()
    places = HashMap()
    for i, item in enumerate(different):
        places.put(item, Integer.valueOf(i))
    return list(different), ints(items, _LOOK_UP.bindTo(places))


def type_names(items: Any, names: Mapping[str, str]) -> NDArray[np.str_]:
    """Return the name of each item's class, or of its nearest super class that has one."""
    classes, index = index_distinct(java_map(items, _CLASS_OF))
    return np.array([_type_name(each, names) for each in classes], np.str_)[index]


def _type_name(java_class: Any, names: Mapping[str, str]) -> str:
    ancestor = java_class
    while ancestor is not None:
        name = str(ancestor.getSimpleName())
        if name in names:
            return names[name]
        ancestor = ancestor.getSuperclass()
    raise ValueError(f"found {java_class.getName()} in the hierarchy")
