"""From a plan and what was written to the rows of the index, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from qupath_bridge.outputs import index
from qupath_bridge.patches import ids
from qupath_bridge.patches.table import LABEL_SOURCES, PatchTable, Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .plan import Plan

__all__ = [
    "ReusablePatch",
    "find_reusable",
    "index_table",
    "patch_paths",
    "pixels_digest",
    "run_id_of",
]


class ReusablePatch(NamedTuple):
    """A patch that an earlier run wrote with the same pixels: where, and the file's digest."""

    path: str
    digest: str


def pixels_digest(plan: Plan) -> str:
    """Return the digest of what decides the bytes of a patch of this slide, its box aside."""
    config = plan.config
    return ids.json_digest(
        {
            "fingerprint": [plan.fingerprint.size, plan.fingerprint.digest],
            "coordinates": plan.coordinates.digest_values(),
            "size": config.size,
            "format": config.format,
            "quality": config.quality if config.format == "jpeg" else None,
            "stain": config.stain,
            "mpp": plan.mpp if config.format == "tiff" else None,
        }
    )


def patch_paths(plan: Plan, folders: Mapping[str, str], extension: str) -> list[str]:
    """Return where each patch goes, relative to the output; ``folders`` by label."""
    table = plan.table
    return [
        f"patches/{plan.slide_id}/{folder}/{name}{extension}"
        for name, folder in zip(_patch_ids(plan), _folders(table, folders), strict=True)
    ]


def _folders(table: PatchTable, folders: Mapping[str, str]) -> list[str]:
    if table.multi:
        return ["_"] * len(table)
    names = [folders[name] for name in table.label_names]
    return [
        names[codes[0]] if len(codes) else "_" for codes in map(table.labels.row, range(len(table)))
    ]


def _patch_ids(plan: Plan) -> list[str]:
    table = plan.table
    return [
        ids.patch_id(plan.slide_id, x, y, z, t)
        for (x, y), z, t in zip(
            table.boxes[:, :2].tolist(), table.z.tolist(), table.t.tolist(), strict=True
        )
    ]


def index_table(
    plan: Plan, run_id: str, *, paths: Sequence[str], digests: Sequence[str]
) -> pa.Table:
    """Return the index rows of a slide whose patches are written."""
    table, count = plan.table, len(plan)
    boxes, slide_boxes = table.boxes, plan.coordinates.slide_boxes(table.boxes)
    columns = {
        "run_id": [run_id] * count,
        "entry_id": [plan.slide.entry_id] * count,
        "slide_name": [plan.slide.name] * count,
        "patch_id": _patch_ids(plan),
        "tile_uuid": ids.tile_uuids(plan.slide.entry_id, boxes, table.z, table.t),
        "col": table.col,
        "row": table.row,
        **{f"{side}_qupath": boxes[:, i] for i, side in enumerate("xywh")},
        **{f"{side}_slide": slide_boxes[:, i] for i, side in enumerate("xywh")},
        "z": table.z,
        "t": table.t,
        "width": [plan.config.size] * count,
        "height": [plan.config.size] * count,
        "mpp": [plan.mpp] * count,
        "downsample": [plan.downsample] * count,
        "read_level": [plan.read_level] * count,
        "label": _lists(table.labels, table.label_names) if table.multi else _labels(table),
        "label_source": _names(table.label_source, LABEL_SOURCES),
        "label_share": table.label_share,
        "margin": table.margin,
        "within_share": table.within_share,
        "excluded_share": table.excluded_share,
        "valid_share": table.valid_share,
        "tissue_share": table.tissue_share,
        "shares": _shares(table),
        "region_ids": _lists(table.regions, table.region_names),
        "tma_core": _names(table.tma_core, table.core_names),
        "path": list(paths),
        "digest": list(digests),
    }
    derived = any(a.id_origin == "derived" for a in plan.annotations)
    notes = {
        "run_id": run_id,
        "rule": plan.config.rule,
        "overlap": plan.config.overlap,
        "id_origin": "derived" if derived else "qupath",
        "pixels": pixels_digest(plan),
    }
    return index.make_table(columns, multi=table.multi, metadata=notes)


def _labels(table: PatchTable) -> pa.Array:
    codes = np.full(len(table), -1, np.int64)
    codes[table.labels.lengths > 0] = table.labels.codes
    return _names(codes, table.label_names)


def _names(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """Return codes as names, -1 as null."""
    return pa.array(names, pa.string()).take(pa.array(codes, pa.int64(), mask=codes < 0))


def _lists(lists: Ragged, names: Sequence[str]) -> pa.Array:
    offsets = pa.array(lists.offsets, pa.int32())
    return pa.ListArray.from_arrays(offsets, _names(lists.codes, names))


def _shares(table: PatchTable) -> pa.Array:
    values = np.zeros(0) if table.shares.values is None else table.shares.values
    return pa.MapArray.from_arrays(
        pa.array(table.shares.offsets, pa.int32()),
        _names(table.shares.codes, table.label_names),
        pa.array(values, pa.float64()),
    )


def run_id_of(table: pa.Table) -> str | None:
    """Return the run that wrote these rows."""
    return index.metadata_of(table).get("run_id")


BOX_COLUMNS = ("x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t")


def find_reusable(plan: Plan, old: pa.Table) -> dict[int, ReusablePatch]:
    """Return which patches of a plan stand in older rows with the same pixels, by row."""
    if index.metadata_of(old).get("pixels") != pixels_digest(plan):
        return {}
    columns = [old.column(name).to_pylist() for name in (*BOX_COLUMNS, "path", "digest")]
    known = {tuple(row[:6]): ReusablePatch(*row[6:]) for row in zip(*columns, strict=True)}
    table = plan.table
    keys = zip(*table.boxes.T.tolist(), table.z.tolist(), table.t.tolist(), strict=True)
    return {row: known[key] for row, key in enumerate(keys) if key in known}
