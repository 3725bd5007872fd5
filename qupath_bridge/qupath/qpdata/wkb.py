"""Check of Well-Known Binary before a native library parses it.

The bytes are not trusted, and GEOS reads nested collections recursively: structure, counts and
coordinates are checked here first, without recursion.
"""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["MAX_COORDINATE", "check_wkb"]

MAX_DEPTH = 16
MAX_COORDINATE = 1e9
"""Largest coordinate, larger than any image, pixels."""

_POINT, _LINE, _POLYGON = 1, 2, 3
_COLLECTIONS = (4, 5, 6, 7)
_EWKB_Z, _EWKB_M, _EWKB_SRID = 0x80000000, 0x40000000, 0x20000000


def check_wkb(raw: bytes) -> str | None:
    """Return the problem of a geometry's WKB; None if it is valid.

    Parameters
    ----------
    raw : bytes
        OGC or extended WKB of a point, line, polygon or collection, in 2 to 4 dimensions.

    Examples
    --------
    >>> import shapely
    >>> check_wkb(shapely.to_wkb(shapely.box(0, 0, 1, 1)))
    >>> check_wkb(shapely.to_wkb(shapely.box(0, 0, 1, 1))[:-1])
    'it ends too early'
    """
    try:
        return _find_problem(raw)
    except struct.error:
        return "it ends too early"


def _find_problem(raw: bytes) -> str | None:
    pos = 0
    pending = [1]  # geometries left on each level
    while pending:
        if not pending[-1]:
            pending.pop()
            continue
        pending[-1] -= 1
        order = {0: ">", 1: "<"}.get(raw[pos]) if pos < len(raw) else ">"
        if order is None:
            return f"byte order {raw[pos]}"
        (code,) = struct.unpack_from(order + "I", raw, pos + 1)
        pos += 5
        if code & _EWKB_SRID:
            pos += 4
        thousands, kind = divmod(code & 0x0FFFFFFF, 1000)
        if thousands > 3:
            return f"geometry type {code}"
        dims = (
            2
            + (bool(code & _EWKB_Z) or thousands in (1, 3))
            + (bool(code & _EWKB_M) or thousands in (2, 3))
        )
        if kind == _POINT:
            counts, pos = [1], pos
        elif kind == _LINE:
            (count,) = struct.unpack_from(order + "I", raw, pos)
            counts, pos = [count], pos + 4
        elif kind == _POLYGON:
            (rings,) = struct.unpack_from(order + "I", raw, pos)
            pos += 4
            if rings * 4 > len(raw) - pos:
                return f"{rings} rings in {len(raw)} bytes"
            counts = [-1] * rings
        elif kind in _COLLECTIONS:
            (count,) = struct.unpack_from(order + "I", raw, pos)
            pos += 4
            if count * 9 > len(raw) - pos:
                return f"{count} parts in {len(raw)} bytes"
            pending.append(count)
            if len(pending) > MAX_DEPTH:
                return "collections within collections, too deep"
            continue
        else:
            return f"geometry type {code}"
        for count in counts:
            if count < 0:
                (count,) = struct.unpack_from(order + "I", raw, pos)
                pos += 4
            end = pos + count * dims * 8
            if end > len(raw):
                return "it ends too early"
            values = np.frombuffer(raw, order + "f8", count * dims, pos).reshape(-1, dims)
            empty_point = kind == _POINT and np.isnan(values).all()
            if not empty_point and not (np.abs(values[:, :2]) <= MAX_COORDINATE).all():
                return "invalid pixel coordinates"
            if kind == _LINE and count == 1:
                return "a line of one point"
            if kind == _POLYGON and count and (count < 4 or (values[0] != values[-1])[:2].any()):
                return "a ring that is not closed"
            pos = end
    return None if pos == len(raw) else f"{len(raw) - pos} bytes too many"
