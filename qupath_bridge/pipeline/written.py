"""Names, places and digests of written patches: arrays, so that a million of them fit."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from qupath_bridge.config.masks import INSTANCE_MASK, MaskKind
from qupath_bridge.errors import PlanError
from qupath_bridge.model import FloatArray, IntArray
from qupath_bridge.outputs.base import Location
from qupath_bridge.patches import ids
from qupath_bridge.patches.table import Ragged

from .masks import NO_OBJECTS, MadeMask, SlideObjects

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["PatchNames", "WrittenBatch", "WrittenFiles", "WrittenPatches"]

MASK_EXTENSION = ".png"
"""Ending of the files of masks."""

_OPEN = "\0"
"""Stands for the patch id in a file name; no file name has it."""


class PatchNames:
    """File name of each patch of a plan, relative to the output.

    Parameters
    ----------
    folders : mapping of str to str
        Folder name of each label of the run.
    extension : str
        Ending of the files, with its dot.

    Raises
    ------
    PlanError
        If a label has no folder: its class was not there when the run began.
    """

    def __init__(self, plan: Plan, folders: Mapping[str, str], extension: str) -> None:
        slide, table = plan.slide, plan.table
        new = () if table.multi else sorted(set(table.label_counts()) - folders.keys())
        if new:
            raise PlanError(
                f"{slide.name}: {', '.join(new)} came as a label after the run began.",
                hint="Resume the run.",
            )
        self._plan = plan
        self._extension = extension
        # One template for each label, the last for none; only the patch id is open in it.
        self._templates = [
            ids.patch_name(
                plan.config.layout,
                slide_id=plan.slide_id,
                entry_id=slide.entry_id,
                project=slide.project.folder.name,
                label_folder=folder,
                patch_id=_OPEN,
            )
            + extension
            for folder in (*(folders.get(name, "") for name in table.label_names), "_")
        ]

    def of(self, rows: IntArray) -> list[str]:
        """Return the names of some rows."""
        return self.of_ids(rows, self._plan.table.patch_ids_of(self._plan.slide_id, rows))

    def mask_of(self, name: str, kind: MaskKind) -> str:
        """Return the name of a mask of the patch that has a name."""
        _, _, below = name.removesuffix(self._extension).partition("/")
        return f"{kind.folder}/{below}{MASK_EXTENSION}"

    def of_ids(self, rows: IntArray, patch_ids: Sequence[str]) -> list[str]:
        """Return the names of some rows, of which the patch ids are known."""
        table = self._plan.table
        codes = np.full(len(rows), -1)
        if not table.multi:
            first = table.labels.offsets[rows]
            labelled = table.labels.offsets[rows + 1] > first
            codes[labelled] = table.labels.codes[first[labelled]]
        return [
            self._templates[code].replace(_OPEN, patch_id)
            for code, patch_id in zip(codes.tolist(), patch_ids, strict=True)
        ]


class _Places:
    """Places and digests of files that were written, some 40 bytes each."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._paths: dict[str, int] = {}
        self._codes = array("i")
        self._offsets, self._lengths = array("q"), array("q")

    def add(self, location: Location, name: str, digest: bytes) -> None:
        path, offset, length = location
        self._digests += digest
        # Where the path is the layout's name, it is made again when it is needed.
        code = -1 if path == name else self._paths.setdefault(path, len(self._paths))
        self._codes.append(code)
        self._offsets.append(-1 if offset is None else offset)
        self._lengths.append(-1 if length is None else length)

    def take(self, part: IntArray, names: Sequence[str]) -> WrittenFiles:
        """Return some of them, in this order, of which the names by the layout are known."""
        # Views: copies of a million patches would take as much again.
        codes, offsets, lengths = map(np.asarray, (self._codes, self._offsets, self._lengths))
        paths = list(self._paths)
        return WrittenFiles(
            paths=[
                name if code < 0 else paths[code]
                for name, code in zip(names, codes[part].tolist(), strict=True)
            ],
            offsets=offsets[part],
            lengths=lengths[part],
            digests=[
                f"xxh3_128:{self._digests[at : at + 16].hex()}" for at in (part * 16).tolist()
            ],
        )


class WrittenPatches:
    """Place, digest and measured columns of the patches that were written, as arrays.

    A patch takes some 50 bytes here, and each of its masks 40, so that a million of them fit.

    Parameters
    ----------
    measured : iterable of str
        Columns of what reading found out about each patch.
    masks : iterable of MaskKind
        Kinds of masks that each patch has.
    objects : SlideObjects
        What instance masks can show.
    """

    def __init__(
        self,
        measured: Iterable[str] = (),
        masks: Iterable[MaskKind] = (),
        objects: SlideObjects = NO_OBJECTS,
    ) -> None:
        self._rows = array("q")
        self._known = [pa.array(names, pa.string()) for names in objects]
        self._objects, self._ends = array("i"), array("q", [0])
        self._patches = _Places()
        self._masks = {kind: _Places() for kind in masks}
        self._measured = {name: array("d") for name in measured}

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        row: int,
        location: Location,
        name: str,
        digest: bytes,
        measured: Mapping[str, float],
    ) -> None:
        """Add a patch: its row in the plan, its place, its name by the layout, its digest."""
        self._rows.append(row)
        self._patches.add(location, name, digest)
        for key, values in self._measured.items():
            values.append(measured[key])

    def add_mask(self, mask: MadeMask, location: Location, name: str) -> None:
        """Add a mask of the patch that was added last."""
        self._masks[mask.kind].add(location, name, mask.digest)
        if mask.kind is INSTANCE_MASK:
            self._objects.extend(mask.objects)
            self._ends.append(len(self._objects))

    @property
    def measured(self) -> tuple[str, ...]:
        """The measured columns."""
        return tuple(self._measured)

    def values(self, column: str) -> FloatArray:
        """Return a measured column, in the order of writing."""
        return np.array(self._measured[column], np.float64)

    def batches(self, names: PatchNames, size: int) -> Iterator[WrittenBatch]:
        """Yield the patches in plan order, some at a time, with their whole paths."""
        rows = np.asarray(self._rows)
        measured = {key: np.asarray(values) for key, values in self._measured.items()}
        order = np.argsort(rows)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            own = names.of(rows[part])
            yield WrittenBatch(
                rows=rows[part],
                patches=self._patches.take(part, own),
                masks={
                    kind: places.take(part, [names.mask_of(name, kind) for name in own])
                    for kind, places in self._masks.items()
                },
                objects=self._objects_of(part) if INSTANCE_MASK in self._masks else (),
                measured={key: values[part] for key, values in measured.items()},
            )

    def _objects_of(self, part: IntArray) -> tuple[pa.Array, ...]:
        """Return ids and classes of the objects of some instance masks, as lists."""
        numbers = np.asarray(self._objects, np.int32)
        lists = Ragged(np.asarray(self._ends, np.int64), numbers).take(part)
        return tuple(
            pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), names.take(lists.codes))
            for names in self._known
        )


class WrittenFiles(NamedTuple):
    """Places and digests of N files; -1 is null in offsets and lengths."""

    paths: Sequence[str]
    offsets: IntArray
    lengths: IntArray
    digests: Sequence[str]

    def columns(self, path: str, offset: str, length: str, digest: str) -> dict[str, Any]:
        """Return them as columns of the index, with these names."""
        return {
            path: self.paths,
            offset: pa.array(self.offsets, pa.int64(), mask=self.offsets < 0),
            length: pa.array(self.lengths, pa.int64(), mask=self.lengths < 0),
            digest: self.digests,
        }


class WrittenBatch(NamedTuple):
    """Some patches that were written: N rows of the plan, their files and those of their masks.

    ``objects`` are the columns :data:`~qupath_bridge.config.masks.OBJECT_COLUMNS`, where there
    are instance masks.
    """

    rows: IntArray
    patches: WrittenFiles
    masks: Mapping[MaskKind, WrittenFiles]
    objects: Sequence[pa.Array]
    measured: Mapping[str, FloatArray]
