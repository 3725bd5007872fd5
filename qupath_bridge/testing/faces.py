"""Areas of overlapping shapes without overlay operations: from the faces of all their outlines.

GEOS's unions and differences of shapes whose points nearly coincide can lose area silently. The
faces into which all outlines divide the plane are found from lines alone; areas of overlaps are
sums over faces. The sum of a shape's faces is compared with its area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import shapely
from shapely.geometry.base import BaseGeometry

__all__ = ["faces"]


def faces(shapes: Sequence[BaseGeometry]) -> list[tuple[float, tuple[bool, ...]]]:
    """Return the area of each face, and for each shape whether it contains the face.

    Raises
    ------
    ArithmeticError
        If the faces of a shape do not add up to its area, so that the case is not usable.

    Examples
    --------
    >>> sorted(faces([shapely.box(0, 0, 4, 4), shapely.box(3, 0, 9, 4)]))
    [(4.0, (True, True)), (12.0, (True, False)), (20.0, (False, True))]
    """
    lines = shapely.get_parts(shapely.union_all(shapely.boundary(list(shapes))))
    found = []
    for face in shapely.get_parts(shapely.polygonize(lines)):
        point = face.representative_point()
        holders = tuple(bool(shape.contains(point)) for shape in shapes)
        if any(holders):
            found.append((face.area, holders))
    for k, shape in enumerate(shapes):
        total = math.fsum(area for area, holders in found if holders[k])
        if not math.isclose(total, shape.area, rel_tol=1e-12, abs_tol=1e-10):
            raise ArithmeticError(f"The faces of shape {k} add up to {total}, not {shape.area}.")
    return found
