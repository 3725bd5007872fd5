"""Records of objects that are read, but have no shapes yet.

Shapes are made for many objects at once, and ids of objects without an id depend on shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ObjectType, PathObject
from qupath_bridge.qupath.identity import DerivedIds
from qupath_bridge.qupath.javaio.stream import JavaStream

from .rois import RawRoi, build_rois
from .values import PathClass

__all__ = ["DESCRIPTION", "OBJECT_ID", "Record", "objects_from_records"]

DESCRIPTION = "ANNOTATION_DESCRIPTION"
"""Metadata key of an annotation's description."""

OBJECT_ID = "Object ID"
"""Metadata key of an object's id."""

BATCH = 20_000  # objects whose shapes are made at once


@dataclass(slots=True, eq=False)
class Record:
    """The values of a listed object before its shape is made."""

    type: ObjectType
    parent: int
    id: str | None = None
    name: str | None = None
    color: int | None = None
    metadata: Mapping[str, str] = FrozenDict()
    measurements: Mapping[str, float] = FrozenDict()
    locked: bool = False
    path_class: PathClass | None = None
    roi: RawRoi | None = None
    nucleus: RawRoi | None = None
    missing: bool | None = None
    probability: float | None = None


def objects_from_records(
    stream: JavaStream, records: list[Record], entry_id: str
) -> tuple[PathObject, ...]:
    """Make the objects of an image from their records. Empties the list.

    Raises
    ------
    ProjectError
        If coordinates are not in pixels, or WKB is not a geometry.
    """
    ids = DerivedIds(entry_id)
    objects: list[PathObject] = []
    records.reverse()
    while records:
        batch = records[: -BATCH - 1 : -1]
        del records[-BATCH:]
        rois = build_rois(stream, [record.roi for record in batch])
        nuclei = build_rois(stream, [record.nucleus for record in batch])
        for record, roi, nucleus in zip(batch, rois, nuclei, strict=True):
            path, color = record.path_class or (None, None)
            objects.append(
                PathObject(
                    id=record.id or ids.make(record.type, path, roi),
                    object_type=record.type,
                    class_path=path,
                    name=record.name,
                    roi=roi,
                    parent=record.parent,
                    parent_id=objects[record.parent].id if record.parent >= 0 else None,
                    locked=record.locked,
                    color=record.color,
                    class_color=color,
                    measurements=record.measurements,
                    metadata=record.metadata,
                    description=record.metadata.get(DESCRIPTION),
                    nucleus=nucleus,
                    missing=record.missing,
                    probability=record.probability,
                    id_origin="qupath" if record.id else "derived",
                )
            )
    return tuple(objects)
