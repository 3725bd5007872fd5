"""Comparison of a slide's data before and after tiles were added, object by object.

``==`` does not suffice: NaN differs from itself, and a rectangle is the same from whichever corner
it is listed. Only a hash of each object is kept, so that slides with very many objects can be
compared.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

import shapely

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ImageData, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.qpdata.measurements import Measurements

__all__ = ["Inventory", "differences", "take_inventory", "tile_hashes"]

_BATCH = 10_000
_NOT_COMPARED = ("objects", "skipped", "digest", "problems", "version", "qupath_version")


@dataclass(frozen=True, slots=True)
class Inventory:
    """The contents of a slide's data, in little space.

    Attributes
    ----------
    ids : tuple of str
        Of all objects, in QuPath's order.
    hashes : tuple of int
        Of everything that is known of each object, except its parent.
    parents : mapping of str to str or None
        Id of each object to that of its parent; None for the root.
    tiles : frozenset of str
        Ids of the objects that are tiles.
    image : ImageData
        Everything else; it has no objects.
    """

    ids: tuple[str, ...]
    hashes: tuple[int, ...]
    parents: Mapping[str, str | None]
    tiles: frozenset[str]
    image: ImageData

    def shown(self) -> dict[str, int]:
        """Return the hash of each tile."""
        pairs = zip(self.ids, self.hashes, strict=True)
        return {identity: value for identity, value in pairs if identity in self.tiles}


def take_inventory(image: ImageData) -> Inventory:
    """Return the inventory of a slide that was read with all its objects.

    Hashes are those of this process; they mean nothing elsewhere.
    """
    hashes: list[int] = []
    for start in range(0, len(image.objects), _BATCH):
        hashes += _hashes(image.objects[start : start + _BATCH])
    return Inventory(
        ids=tuple(o.id for o in image.objects),
        hashes=tuple(hashes),
        parents={o.id: o.parent_id for o in image.objects},
        tiles=frozenset(o.id for o in image.objects if o.object_type is ObjectType.TILE),
        image=replace(image, objects=()),
    )


def differences(
    before: Inventory,
    after: Inventory,
    *,
    removed: Collection[str] = (),
    added: Mapping[str, int] = FrozenDict(),
) -> Iterator[str]:
    """Describe differences from the expected data after tiles were removed and added.

    Parameters
    ----------
    before, after : Inventory
    removed : collection of str
        Ids of the tiles that should be removed.
    added : mapping of str to int
        Those that should be added, below the root; see :func:`tile_hashes`.

    Yields
    ------
    str
        One difference, in words; nothing if all is as expected.
    """
    gone = set(removed) & before.tiles
    kept = [i for i, identity in enumerate(before.ids) if identity not in gone]
    wanted = [*((before.ids[i], before.hashes[i]) for i in kept), *added.items()]
    there = list(zip(after.ids, after.hashes, strict=True))
    if wanted != there:  # collect the differences only if there are any
        more, less = Counter(wanted), Counter(there)
        yield from (f"object {identity} is missing or changed" for identity, _ in more - less)
        yield from (f"unexpected object {identity}" for identity, _ in less - more)
    old = {before.ids[i] for i in kept}
    if [i for i in after.ids if i in old] != [before.ids[i] for i in kept]:
        yield "the order of the objects changed"
    for identity, parent in after.parents.items():
        meant = before.parents[identity] if identity in old else None
        while meant in gone:
            meant = before.parents[meant]
        if parent != meant:
            yield f"object {identity} has parent {parent}, expected {meant}"
    for name in (f.name for f in fields(ImageData) if f.name not in _NOT_COMPARED):
        if name == "tma_grid" and (gone or before.ids != after.ids[: len(before.ids)]):
            continue  # it has positions in the list, which shifted; the cores were compared
        if getattr(before.image, name) != getattr(after.image, name):
            yield f"the {name.replace('_', ' ')} changed"


def tile_hashes(tiles: Iterable[Tile]) -> dict[str, int]:
    """Return the hash that each tile has in an inventory, by its id."""
    return {tile.id: _tile_hash(tile) for tile in tiles}


def _tile_hash(tile: Tile) -> int:
    x, y, w, h = tile.box
    shape = (RoiKind.RECTANGLE, tile.plane, -1, (float(x), float(y), float(x + w), float(y + h)))
    return hash(
        (ObjectType.TILE, tile.class_path, tile.name or None, shape, False, None,
         _numbers(tile.measurements, single=True), _texts(tile.metadata), None, None, None, None)
    )  # fmt: skip


def _hashes(objects: tuple[PathObject, ...]) -> Iterator[int]:
    shapes = _shapes([o.roi for o in objects])
    nuclei = _shapes([o.nucleus for o in objects])
    for o, shape, nucleus in zip(objects, shapes, nuclei, strict=True):
        yield hash(
            (o.object_type, o.class_path, o.name, shape, o.locked, o.color,
             _numbers(o.measurements, single=o.object_type is ObjectType.TILE), _texts(o.metadata),
             o.description, nucleus, o.missing, o.probability)
        )  # fmt: skip


def _shapes(rois: list[Roi | None]) -> list[Hashable]:
    """Return shapes in a form that does not depend on the first point of a ring."""
    shapes: list[Hashable] = [None] * len(rois)
    there = [(i, roi) for i, roi in enumerate(rois) if roi is not None]
    boxes = shapely.bounds([roi.geometry for _, roi in there]).reshape(-1, 4).tolist()
    for (i, roi), box in zip(there, boxes, strict=True):
        plain = roi.kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE)
        outline: Hashable = tuple(box) if plain else shapely.normalize(roi.geometry).wkb
        if roi.geometry.is_empty:
            outline = None  # its bounds are NaN, which differ from themselves
        shapes[i] = (roi.kind, roi.plane, roi.channel, outline)
    return shapes


def _numbers(measurements: Mapping[str, float], *, single: bool = False) -> Hashable:
    """Return measurements to be hashed; of tiles as QuPath stores them, with 32 bits."""
    if single:
        return tuple(measurements), array("f", measurements.values()).tobytes()
    if isinstance(measurements, Measurements):
        return measurements.packed()
    return tuple(measurements), array("d", measurements.values()).tobytes()


def _texts(metadata: Mapping[str, str]) -> Hashable:
    return frozenset(metadata.items())
