"""From a plan and what was written to the rows of the index, and back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from qupath_bridge.config.masks import OBJECT_COLUMNS, kinds_in, mask_kinds
from qupath_bridge.errors import OutputError
from qupath_bridge.model import IntArray
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import Location
from qupath_bridge.outputs.row_batches import (
    AnyRows,
    batches_of,
    flat_values,
    places_in,
    row_problem,
)
from qupath_bridge.patches import ids
from qupath_bridge.patches.lookup import PatchLookup
from qupath_bridge.patches.table import LABEL_SOURCES, PatchTable, Ragged

from .records import bad_tiles_of, facts_record, load_facts, slide_report
from .written import PatchNames, WrittenBatch, WrittenFiles, WrittenPatches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .plan import Plan

__all__ = [
    "DroppedPatch",
    "ReusablePatch",
    "ReusablePatches",
    "dropped_table",
    "equal_plan",
    "find_reusable",
    "index_rows",
    "index_table",
    "label_counts",
    "locations",
    "patch_records",
    "pixels_digest",
    "rows_digest",
    "run_id_of",
    "slide_report_of",
]


class DroppedPatch(NamedTuple):
    """A patch that was dropped while it was read: its row in the plan, and why."""

    row: int
    reason: str
    measured: Mapping[str, float]


class ReusablePatch(NamedTuple):
    """A patch that an earlier run wrote with the same pixels."""

    location: Location
    digest: str
    measured: Mapping[str, float]


def pixels_digest(plan: Plan) -> str:
    """Return the digest of what decides the bytes of a patch of this slide, its box aside."""
    config = plan.config
    return ids.json_digest(
        {
            "fingerprint": [plan.fingerprint.size, plan.fingerprint.digest],
            "coordinates": plan.coordinates.digest_values(),
            "view": plan.view.digest_values(),
            "size": config.size,
            "format": config.format,
            "jpeg_quality": config.jpeg_quality,
            "jpeg_subsampling": config.jpeg_subsampling,
            "passthrough": config.passthrough,
            "on_bad_tile": config.on_bad_tile,
            "stain": None if plan.stain is None else plan.stain.as_json(),
            "composite": None if plan.composite is None else plan.composite.as_json(),
            "colors": [list(color) for color in plan.contents.colors],
            "quality": config.quality_rules().as_json(),
            # Some formats and measures hold the pixel size.
            "mpp": plan.mpp,
            "parts": {k: plan.parts.get(k) for k in ("reader", "encoder", "stain", "quality")},
        }
    )


def _project_name(plan: Plan) -> str:
    """Return the name that tells the slide's project from the others of the run."""
    folder, own = plan.slide.project.folder.name, ids.slide_id(plan.slide.entry_id, plan.slide.name)
    # In a run over several projects the slide id begins with it, made unique.
    prefix = plan.slide_id.removesuffix(own)
    whole = plan.slide_id.endswith(own) and prefix
    return prefix.removesuffix("_") if whole else plan.names.hide(folder)


def patch_records(plan: Plan, rows: IntArray, patch_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what an output may store beside the bytes of each of some patches, as JSON values."""
    table, slide = plan.table.take(rows), plan.slide
    columns = zip(
        patch_ids,
        ids.tile_uuids(slide.entry_id, table.boxes, table.z, table.t),
        table.labels.lists(),
        table.shares.lists(),
        table.shares.value_lists(),
        table.boxes.tolist(),
        zip(table.z.tolist(), table.t.tolist(), strict=True),
        strict=True,
    )
    names = table.label_names
    records = []
    for patch_id, tile_uuid, labels, shared, shares, box, plane in columns:
        named = [names[code] for code in labels]
        records.append(
            {
                "patch_id": patch_id,
                "slide_id": plan.slide_id,
                "entry_id": slide.entry_id,
                "tile_uuid": tile_uuid,
                "label": named if table.multi else next(iter(named), None),
                "shares": {names[code]: share for code, share in zip(shared, shares, strict=True)},
                "box": box,
                "plane": [*plane],
                "mpp": plan.mpp,
            }
        )
    return records


def index_rows(
    plan: Plan,
    run_id: str,
    written: WrittenPatches,
    names: PatchNames,
    facts: Mapping[str, Any],
) -> pa.RecordBatchReader:
    """Return the index rows of a slide whose patches are written, in plan order.

    Parameters
    ----------
    written : WrittenPatches
    names : PatchNames
    facts : mapping
        What holds for the slide; stored as JSON in the metadata.
    """
    columns = _columns(plan, run_id, facts)
    tables = (
        index_table(plan, run_id, batch, columns) for batch in written.batches(names, index.GROUP)
    )
    return pa.RecordBatchReader.from_batches(
        columns, (batch for table in tables for batch in table.to_batches())
    )


def _columns(plan: Plan, run_id: str, facts: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of a slide's rows, with what holds for all of them."""
    derived = any(a.id_origin == "derived" for a in plan.annotations)
    notes = {
        "run_id": run_id,
        "rule": plan.config.rule,
        "overlap": plan.config.overlap,
        "id_origin": "derived" if derived else "qupath",
        "pixels": pixels_digest(plan),
    }
    config = plan.config
    columns = index.schema(
        multi=plan.table.multi, measured=config.measured_columns(), masks=mask_kinds(config.masks)
    )
    return index.with_facts(index.with_notes(columns.empty_table(), notes), facts).schema


def index_table(plan: Plan, run_id: str, patches: WrittenBatch, columns: pa.Schema) -> pa.Table:
    """Return the index rows of some patches; ``columns`` is their schema, with its notes."""
    values = {
        "run_id": [run_id] * len(patches.rows),
        **_plan_columns(plan, patches.rows),
        **patches.patches.columns("path", "offset", "length", "digest"),
        **patches.measured,
    }
    for kind, files in patches.masks.items():
        values |= files.columns(*kind.place, kind.digest)
    values |= dict(zip(OBJECT_COLUMNS, patches.objects, strict=False))
    table = index.make_table(
        values,
        multi=plan.table.multi,
        measured=plan.config.measured_columns(),
        masks=mask_kinds(plan.config.masks),
    )
    return table.replace_schema_metadata(columns.metadata)


def _plan_columns(plan: Plan, rows: IntArray) -> dict[str, Any]:
    """Return the columns that the plan alone decides."""
    table, slide, count = plan.table.take(rows), plan.slide, len(rows)
    boxes = table.boxes
    slide_boxes, sizes = plan.coordinates.slide_boxes(boxes), plan.sizes(boxes)
    labels = (
        _lists(table.labels, table.label_names)
        if table.multi
        else _labels(table.labels, table.label_names)
    )
    return {
        "entry_id": [slide.entry_id] * count,
        "slide_name": [slide.name] * count,
        "project": [_project_name(plan)] * count,
        "slide_file": [plan.names.hide(plan.path.name)] * count,
        "slide_digest": [f"xxh3_128:{plan.fingerprint.digest}"] * count,
        "patch_id": plan.table.patch_ids_of(plan.slide_id, rows),
        "tile_uuid": ids.tile_uuids(slide.entry_id, boxes, table.z, table.t),
        "col": table.col if table.objects is None else [None] * count,
        "row": table.row if table.objects is None else [None] * count,
        **{f"{side}_qupath": boxes[:, i] for i, side in enumerate("xywh")},
        **{f"{side}_slide": slide_boxes[:, i] for i, side in enumerate("xywh")},
        "z": table.z,
        "t": table.t,
        "width": sizes[:, 0],
        "height": sizes[:, 1],
        "mpp": [plan.mpp] * count,
        "downsample": [plan.downsample] * count,
        "read_level": [plan.read_level] * count,
        "channels": [list(plan.channels)] * count,
        "dtype": [plan.dtype] * count,
        "label": labels,
        "label_source": _names(table.label_source, LABEL_SOURCES),
        "rule_label": _rule_labels(table),
        "label_share": table.label_share,
        "margin": table.margin,
        "within_share": table.within_share,
        "excluded_share": table.excluded_share,
        "valid_share": table.valid_share,
        "tissue_share": table.tissue_share,
        "shares": _shares(table),
        "region_ids": _lists(table.regions, table.region_names),
        "tma_core": _names(table.tma_core, table.core_names),
        "object_ids": [None] * count
        if table.objects is None
        else _lists(table.objects, table.object_names),
        "metadata": pa.array(
            [list(plan.names.metadata(slide.metadata).items())] * count,
            pa.map_(pa.string(), pa.string()),
        ),
    }


def dropped_table(plan: Plan, run_id: str, dropped: Sequence[DroppedPatch]) -> pa.Table:
    """Return the patches that reading dropped: box, reason, quality measures."""
    dropped = sorted(dropped, key=lambda patch: patch.row)
    rows = np.array([patch.row for patch in dropped], np.int64)
    table = plan.table
    columns = {
        "run_id": [run_id] * len(rows),
        "patch_id": plan.table.patch_ids_of(plan.slide_id, rows),
        **{f"{side}_qupath": table.boxes[rows, i].tolist() for i, side in enumerate("xywh")},
        "z": table.z[rows].tolist(),
        "t": table.t[rows].tolist(),
        "reason": [patch.reason for patch in dropped],
        **{
            name: [patch.measured[name] for patch in dropped]
            for name in plan.config.quality_rules().columns()
        },
    }
    return pa.table(columns)


def equal_plan(
    plan: Plan, run_id: str, old: AnyRows, dropped: pa.Table | None, names: PatchNames
) -> bool:
    """Return whether the rows of a slide are just those that its plan gives, with all columns.

    Digests of files, quality measures, how the slide came, and the time that it took are taken
    from the rows.

    Parameters
    ----------
    names : PatchNames
    """
    try:
        facts, reasons = load_facts(old, plan.slide_id), _reasons(dropped)
    except (OutputError, KeyError):
        return False
    wanted = _without(plan, reasons)
    if len(wanted) != old.num_rows or len(wanted) + len(reasons) != len(plan):
        return False
    # Where the files are does not matter: they may have moved since.
    expected = facts_record(
        plan,
        run_id,
        Counter(reasons.values()),
        facts["seconds"],
        bad_tiles_of(facts),
        facts["quality"],
        facts["fetched"],
    )
    expected = {**expected, "path": facts["path"], "project": facts["project"]}
    expected["fingerprint"]["mtime_ns"] = facts["fingerprint"]["mtime_ns"]
    columns = _columns(plan, run_id, expected)
    notes = {key: note for key, note in index.metadata_of(old).items() if key != "dropped"}
    if index.metadata_of(columns.empty_table()) != notes:
        return False
    start = 0
    for part in batches_of(old):
        rows = wanted[start : start + part.num_rows]
        start += part.num_rows
        batch = _written(plan, rows, part)
        if batch is None:
            return False
        own = names.of(rows)
        masks = [
            (files, [names.mask_of(name, kind) for name in own])
            for kind, files in batch.masks.items()
        ]
        if not all(_named(files, wanted) for files, wanted in [(batch.patches, own), *masks]):
            return False
        if not index_table(plan, run_id, batch, columns).equals(pa.Table.from_batches([part])):
            return False
    return True


def _without(plan: Plan, dropped: Mapping[str, str]) -> IntArray:
    """Return the rows of a plan that are not among the dropped patches."""
    rows = np.arange(len(plan))
    if dropped:
        rows = rows[[name not in dropped for name in plan.table.patch_ids(plan.slide_id)]]
    return rows


def _named(files: WrittenFiles, names: Sequence[str]) -> bool:
    """Return whether files that stand alone have these names."""
    whole = zip(files.paths, files.offsets.tolist(), names, strict=True)
    return all(path == name for path, offset, name in whole if offset < 0)


def _written(plan: Plan, rows: IntArray, old: pa.RecordBatch) -> WrittenBatch | None:
    """Return what rows of an index say of files, None if they lack columns of the plan's."""
    names, kinds = plan.config.measured_columns(), mask_kinds(plan.config.masks)
    wanted = [*names, *(column for kind in kinds for column in kind.columns)]
    if any(name not in old.schema.names for name in wanted):
        return None
    return WrittenBatch(
        rows,
        _files(old, "path", "offset", "length", "digest"),
        {kind: _files(old, *kind.place, kind.digest) for kind in kinds},
        [old.column(name) for name in OBJECT_COLUMNS if name in old.schema.names],
        {name: old.column(name).to_numpy(zero_copy_only=False) for name in names},
    )


def _files(rows: pa.RecordBatch, path: str, offset: str, length: str, digest: str) -> WrittenFiles:
    """Return what columns with these names say of files."""
    offsets, lengths = (
        rows.column(name).fill_null(-1).to_numpy(zero_copy_only=False) for name in (offset, length)
    )
    paths, digests = (rows.column(name).to_pylist() for name in (path, digest))
    return WrittenFiles(paths, offsets, lengths, digests)


def _reasons(dropped: pa.Table | None) -> dict[str, str]:
    if dropped is None:
        return {}
    columns = (dropped.column(name).to_pylist() for name in ("patch_id", "reason"))
    return dict(zip(*columns, strict=True))


def _labels(labels: Ragged, names: Sequence[str]) -> pa.Array:
    codes = np.full(len(labels), -1, np.int64)
    codes[labels.lengths > 0] = labels.codes
    return _names(codes, names)


def _rule_labels(table: PatchTable) -> pa.Array:
    """Return what the rule says about patches with a corrected label, null for the others."""
    if not table.multi:
        return _labels(table.rule_labels, table.label_names)
    overruled = table.label_source == LABEL_SOURCES.index("corrected")
    lists = _lists(table.rule_labels, table.label_names)
    return pa.ListArray.from_arrays(lists.offsets, lists.values, mask=pa.array(~overruled))


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


def run_id_of(rows: AnyRows) -> str | None:
    """Return the run that wrote these rows."""
    return index.metadata_of(rows).get("run_id")


def locations(rows: AnyRows) -> Iterator[tuple[Location, str]]:
    """Yield place and digest of each patch, and of each mask."""
    digests = ["digest", *(kind.digest for kind in kinds_in(rows.schema.names))]
    places = places_in(rows.schema.names)
    names = [name for place in places for name in place] + digests
    for batch in batches_of(rows, names):
        for place, digest in zip(places, digests, strict=True):
            columns = (batch.column(name).to_pylist() for name in (*place, digest))
            for path, offset, length, found in zip(*columns, strict=True):
                yield Location(path, offset, length), found


def label_counts(rows: AnyRows) -> dict[str, int]:
    """Return the number of patches by label, most first, then by name; of a list each label."""
    counts: Counter[str] = Counter()
    for batch in batches_of(rows, ["label"]):
        labels = batch.column(0)
        flat = labels.flatten() if pa.types.is_list(labels.type) else labels.drop_null()
        counts.update({each["values"]: each["counts"] for each in flat.value_counts().to_pylist()})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rows_digest(rows: AnyRows, facts: Mapping[str, Any]) -> str:
    """Return the digest of the rows and facts of a slide.

    It is one of values, the same for the same patches of two runs: their ids and times take no
    part.
    """
    stamp = {**facts["fingerprint"], "mtime_ns": None}
    facts = {**facts, "run_id": None, "seconds": None, "fingerprint": stamp}
    notes = {k: v for k, v in index.metadata_of(rows).items() if k not in {"run_id", "facts"}}
    names = [name for name in rows.schema.names if name != "run_id"]
    digests: defaultdict[str, xxhash.xxh3_128] = defaultdict(xxhash.xxh3_128)
    for batch in batches_of(rows, names):
        for name in names:
            for part, content in flat_values(batch.column(name), name):
                digests[part].update(content)
    columns = {part: digest.hexdigest() for part, digest in digests.items()}
    types = {name: str(rows.schema.field(name).type) for name in names}
    return ids.json_digest({**notes, "facts": facts, "types": types, "columns": columns})


def slide_report_of(rows: AnyRows, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report says of a committed slide, whose facts are loaded."""
    by_label = dict(sorted(label_counts(rows).items()))
    return slide_report({**facts, "written": rows.num_rows, "by_label": by_label})


class ReusablePatches(Mapping[int, ReusablePatch]):
    """The patches of a plan that an earlier run wrote with the same pixels, by row of the plan.

    Columns of the earlier rows, so that a million of them fit.
    """

    def __init__(self, rows: IntArray, old: pa.Table, measured: Sequence[str]) -> None:
        self._rows, self._old, self._measured = rows, old, measured

    def __getitem__(self, row: int) -> ReusablePatch:
        at = int(self._rows.searchsorted(row))
        if at == len(self._rows) or self._rows[at] != row:
            raise KeyError(row)
        path, offset, length, digest, *values = (
            column[at].as_py() for column in self._old.itercolumns()
        )
        named = dict(zip(self._measured, values, strict=True))
        return ReusablePatch(Location(path, offset, length), digest, named)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)


_PLACED = ("path", "offset", "length", "digest")
# The id holds the box too: rows whose boxes somebody edited fit no plan.
_BOXED = ("x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t", "patch_id")


def find_reusable(plan: Plan, old: AnyRows) -> ReusablePatches:
    """Return which patches of a plan stand in older rows with the same pixels."""
    measured = plan.config.measured_columns()
    taken = [*_PLACED, *measured]
    same_pixels = index.metadata_of(old).get("pixels") == pixels_digest(plan)
    whole = same_pixels and set(taken) <= set(old.schema.names) and not row_problem(old)
    lookup = PatchLookup(plan.table)
    parts, found = [old.schema.empty_table().select(_PLACED)], [np.zeros(0, np.int64)]
    for batch in batches_of(old, [*taken, *_BOXED]) if whole else ():
        x, y, w, h, z, t = (batch.column(name).to_numpy() for name in _BOXED[:-1])
        rows = lookup.rows(np.column_stack([x, y, w, h]), z, t)
        own = plan.table.patch_ids_of(plan.slide_id, rows)
        columns = (batch.column(name).to_pylist() for name in ("patch_id", "path", "offset"))
        good = rows >= 0
        good &= [
            name == patch_id and _is_file_of(path, offset, name)
            for name, patch_id, path, offset in zip(own, *columns, strict=True)
        ]
        parts.append(pa.Table.from_batches([batch.select(taken).filter(pa.array(good))]))
        found.append(rows[good])
    rows, first = np.unique(np.concatenate(found), return_index=True)
    table = pa.concat_tables(parts[1:] or parts)
    return ReusablePatches(rows, table.take(first).combine_chunks(), measured)


def _is_file_of(path: str, offset: int | None, patch_id: str) -> bool:
    """Return whether a file of one patch has its id: layouts end with it."""
    return offset is not None or path.rpartition("/")[2].startswith(f"{patch_id}.")
