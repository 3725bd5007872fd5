"""Ids for objects without an id: QuPath stores ids from version 0.4 on."""

from __future__ import annotations

import uuid
from collections import Counter

import shapely
import xxhash

from qupath_bridge.model import FIRST_PLANE, ObjectType, Roi

__all__ = ["DerivedIds"]

_VERSION_8 = 8 << 76
_VARIANT = 0b10 << 62
_KEEP = ~(0xF << 76 | 0b11 << 62) & (1 << 128) - 1


class DerivedIds:
    """Derives ids from the content of objects; each reading of an image gives the same ids.

    Parameters
    ----------
    entry_id : str
        The image's entry ID in its project.

    Examples
    --------
    >>> ids = DerivedIds("1")
    >>> first = ids.make(ObjectType.ANNOTATION, "Tumor", None)
    >>> first, first == ids.make(ObjectType.ANNOTATION, "Tumor", None)
    ('1569ebef-9b92-8e4f-a122-09b81747bc3c', False)
    """

    def __init__(self, entry_id: str) -> None:
        self._entry_id = entry_id
        self._counts: Counter[bytes] = Counter()

    def make(self, object_type: ObjectType, class_path: str | None, roi: Roi | None) -> str:
        """Return a UUID text (version 8) for the next object of an image.

        It is the hash of entry ID, type, class, plane, canonical geometry (rings with a fixed
        direction and first point) and a running number among equals, so equal objects need a
        fixed order.
        """
        plane = roi.plane if roi else FIRST_PLANE
        facts = (self._entry_id, object_type.value, class_path or "", f"{plane.z}", f"{plane.t}")
        shape = b""
        if roi is not None:
            shape = shapely.to_wkb(shapely.normalize(roi.geometry), byte_order=1)
        content = xxhash.xxh3_128("\0".join(facts).encode() + b"\0" + shape).digest()
        number = self._counts[content]
        self._counts[content] += 1
        value = xxhash.xxh3_128(content + number.to_bytes(8, "little")).intdigest()
        return str(uuid.UUID(int=value & _KEEP | _VERSION_8 | _VARIANT))
