"""Repair of polygons by their structure, and the change of area that it causes."""

from __future__ import annotations

from functools import reduce
from typing import TypeAlias

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import GeometryError

from .edges import GeometryArray

__all__ = ["Polygonal", "area_change", "clip", "polygons_only", "repair", "split"]

Polygonal: TypeAlias = Polygon | MultiPolygon

FINE = 1e-9
"""Grid to which coordinates are rounded if GEOS fails without one, pixels."""

LOST, LOST_SHARE = 1e-6, 1e-12
"""Area in px², and as a share, by which the sum of parts may differ from the whole."""


def repair(geometry: BaseGeometry) -> tuple[Polygonal, float, float]:
    """Return a valid polygon in place of a possibly invalid one, and both areas.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon, QuPath pixels

    Returns
    -------
    polygonal : Polygon or MultiPolygon
        The same object if it is valid; may be empty.
    area_before : float, px²
        Area that the outline *as drawn* encloses, with its sign: the sum over polygons of the
        exterior's shoelace area minus those of its holes, which is also what QuPath shows. Where
        an outline crosses itself, lobes that turn opposite ways cancel and area wound twice
        counts twice; so a bow-tie of two equal halves has 0.
    area_after : float, px²

    Raises
    ------
    GeometryError
        If it is not a polygon, or a coordinate is not finite.

    Notes
    -----
    ``make_valid(method="structure")``: rings are made valid, shells united, holes subtracted.
    Remaining lines and points are dropped. Never ``buffer(0)``, which loses lobes.

    Examples
    --------
    >>> bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    >>> shape, before, after = repair(bow_tie)
    >>> shape.is_valid, before, after, area_change(before, after)
    (True, 0.0, 5000.0, 1.0)
    """
    if not isinstance(geometry, Polygon | MultiPolygon):
        raise GeometryError(f"A {geometry.geom_type} is not a polygon and has no area.")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise GeometryError(
            "A polygon has a coordinate that is not a finite number.",
            hint="Delete the annotation in QuPath and draw it again.",
        )
    before = float(geometry.area)
    if geometry.is_valid:
        return geometry, before, before
    shape = _make_valid(geometry)
    if not shape.is_valid:
        # GEOS returns parts that share an edge; united they are one valid part.
        parts = [_make_valid(part) for part in shapely.get_parts(shape)]
        shape = polygons_only(reduce(shapely.union, parts))
    return shape, before, float(shape.area)


def _make_valid(geometry: BaseGeometry) -> Polygonal:
    return polygons_only(shapely.make_valid(geometry, method="structure", keep_collapsed=False))


def area_change(before: float, after: float) -> float:
    """Return the change of area by a repair, as a share of the larger area, in [0, 1].

    Examples
    --------
    >>> area_change(100.0, 99.0), area_change(0.0, 0.0)
    (0.01, 0.0)
    """
    largest = max(abs(before), abs(after))
    return abs(after - before) / largest if largest else 0.0


def polygons_only(geometry: BaseGeometry) -> Polygonal:
    """Return the polygons of any geometry; lines and points are dropped.

    Examples
    --------
    >>> polygons_only(shapely.LineString([(0, 0), (1, 1)])).is_empty
    True
    """
    if isinstance(geometry, Polygon | MultiPolygon):
        return geometry
    # A multipolygon is one part of a collection: split twice.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return parts[0] if len(parts) == 1 else MultiPolygon(list(parts))


def split(polygon: Polygonal, other: Polygonal) -> tuple[Polygonal, Polygonal]:
    """Return the parts of a polygon inside and outside another one.

    Parameters
    ----------
    polygon, other : valid Polygon or MultiPolygon

    Raises
    ------
    GeometryError
        If both parts together are not the polygon, as happens in GEOS if points nearly coincide.

    Examples
    --------
    >>> inside, outside = split(shapely.box(0, 0, 4, 4), shapely.box(1, 0, 9, 9))
    >>> inside.area, outside.area
    (12.0, 4.0)
    """
    area = polygon.area
    for grid_size in (None, FINE):
        inside = polygons_only(shapely.intersection(polygon, other, grid_size=grid_size))
        outside = polygons_only(shapely.difference(polygon, other, grid_size=grid_size))
        if abs(inside.area + outside.area - area) <= LOST + LOST_SHARE * area:
            return inside, outside
    raise GeometryError(
        f"Two regions cannot be separated: of {area:.2f} px² there are "
        f"{inside.area:.2f} inside and {outside.area:.2f} outside the other.",
        hint="Simplify or redraw the regions that cross one another in QuPath.",
    )


def clip(polygons: GeometryArray, width: float, height: float) -> GeometryArray:
    """Clip polygons to an image, ``[0, width] x [0, height]``.

    Parameters
    ----------
    polygons : array of valid Polygon and MultiPolygon, shape (K,)

    Returns
    -------
    array, shape (K,)
        The same objects where nothing is cut; empty where no part is inside.
    """
    limits = shapely.bounds(polygons)
    outside = (limits < 0).any(axis=1) | (limits[:, 2] > width) | (limits[:, 3] > height)
    clipped = polygons.copy()
    for k in np.flatnonzero(outside):
        clipped[k], _ = split(polygons[k], shapely.box(0, 0, width, height))
    return clipped
