"""Catalogue of the runs below a root, from their records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.row_batches import Rows
from qupath_bridge.parallel import ordered_map
from qupath_bridge.pipeline.records import REPORT_FILE, RUN_FILE, load_record
from qupath_bridge.schemas import ReportRecord, RunRecord
from qupath_bridge.stores import local_path, open_store
from qupath_bridge.stores.base import Store

from .copies import LAKE_FILE, read_copy
from .values import CatalogDamage, CatalogRun, CatalogSlide, LakeCopy

__all__ = ["Catalog", "Found", "FoundSlide", "read_catalog"]

AT_ONCE = 16
"""Folders and records that are asked for at the same time: a bucket answers each in some 20 ms."""

PROJECT_FOLDER = "qupath_bridge/"
"""Folder in a project with records of its runs, whose outputs are elsewhere."""

COLUMNS = ("slide_name", "patch_id", "tile_uuid", "path", "offset", "length", "digest")
"""Columns of the index that :meth:`Found.table` has, beside place, run, slide and labels."""


@dataclass(frozen=True, slots=True)
class FoundSlide:
    """A slide with patches that were looked for, and their number."""

    place: str
    run_id: str
    slide_id: str
    slide_name: str
    patches: int


@dataclass(frozen=True, slots=True)
class Found:
    """Patches of a catalogue: where they are, and what could not be looked through."""

    slides: tuple[FoundSlide, ...]
    label: str | None = None
    digest: str | None = None
    damaged: tuple[CatalogDamage, ...] = ()

    @property
    def patches(self) -> int:
        """Number of patches."""
        return sum(slide.patches for slide in self.slides)

    def table(self) -> pa.Table:
        """Return one row per patch, read from the index of each run.

        Returns
        -------
        pyarrow.Table
            ``place``, ``run_id``, ``slide_id``, ``labels`` (a list, as rules may give several) and
            :data:`COLUMNS`.

        Raises
        ------
        OutputError
            If the rows of a slide are damaged or gone.
        """
        parts = [self._rows_of(slide) for slide in self.slides]
        return pa.concat_tables([_EMPTY, *parts])

    def _rows_of(self, slide: FoundSlide) -> pa.Table:
        rows = _open_rows(slide.place, slide.slide_id)
        table = rows.table(["label", *COLUMNS])
        labels = _as_lists(table.column("label"))
        same = {"place": slide.place, "run_id": slide.run_id, "slide_id": slide.slide_id}
        columns = {
            **{name: pa.array([text] * len(table), pa.string()) for name, text in same.items()},
            "labels": labels,
            **{name: table.column(name) for name in COLUMNS},
        }
        whole = pa.table(columns).cast(_EMPTY.schema)
        if self.label is not None:
            whole = whole.filter(_has_label(labels, self.label))
        if self.digest is not None:
            whole = whole.filter(pc.equal(whole.column("digest"), self.digest))
        return whole


_EMPTY = pa.schema(
    [
        *((name, pa.string()) for name in ("place", "run_id", "slide_id")),
        ("labels", pa.list_(pa.string())),
        *((n, pa.int64() if n in ("offset", "length") else pa.string()) for n in COLUMNS),
    ]
).empty_table()


@dataclass(frozen=True, slots=True)
class Catalog:
    """Runs below a root, in the order of their places.

    Attributes
    ----------
    root : str
        Path or URL.
    runs : tuple of CatalogRun
    copies : tuple of LakeCopy
        Copies that ``compact`` made below the root.
    damaged : tuple of CatalogDamage
        Runs and folders that cannot be read.
    """

    root: str
    runs: tuple[CatalogRun, ...]
    copies: tuple[LakeCopy, ...] = ()
    damaged: tuple[CatalogDamage, ...] = ()

    def find(
        self,
        *,
        label: str | None = None,
        slide: str | None = None,
        digest: str | None = None,
        run: str | None = None,
    ) -> Found:
        """Find patches of complete runs; all criteria have to hold.

        Records of the runs answer for label, slide and run. A digest is looked for in the index of
        each slide that the others leave.

        Parameters
        ----------
        label : str, optional
        slide : str, optional
            ID or name of the slide.
        digest : str, optional
            Digest of the bytes of a patch, as the index has it.
        run : str, optional
            Run ID.
        """
        likely = [
            FoundSlide(each.place, each.run_id, one.slide_id, one.slide_name, number)
            for each in self.runs
            if run in (None, each.run_id)
            for one in each.slides
            if slide in (None, one.slide_id, one.slide_name)
            for number in [one.patches if label is None else (one.labels or {}).get(label, 0)]
            if number
        ]
        if digest is None:
            return Found(tuple(likely), label)
        count = partial(_count_digest, label=label, digest=digest)
        counted = list(_in_parallel(count, likely))
        return Found(
            tuple(each for each in counted if isinstance(each, FoundSlide) and each.patches),
            label,
            digest,
            tuple(each for each in counted if isinstance(each, CatalogDamage)),
        )


def _count_digest(
    slide: FoundSlide, *, label: str | None, digest: str
) -> FoundSlide | CatalogDamage:
    try:
        table = Found((slide,), label, digest).table()
    except BridgeError as error:
        return CatalogDamage(slide.place, error.message)
    return FoundSlide(slide.place, slide.run_id, slide.slide_id, slide.slide_name, len(table))


def read_catalog(root: str) -> Catalog:
    """Read the records of all runs below a root.

    The folders of a run are not looked into: one listing and two small files per run are read,
    however many patches it has. Links to folders are not followed.

    Parameters
    ----------
    root : str
        Path or URL of a folder above outputs of exports, or of one output.

    Raises
    ------
    OutputError
        If no run is below it, or it cannot be read.
    """
    store = open_store(root)
    folders, copied, damaged = _find_runs(store)
    if not (folders or copied or damaged):
        raise OutputError(
            f"No run found in {root}.", hint="Name a folder or URL above the outputs of exports."
        )
    read = list(_in_parallel(partial(_read_run, store), folders))
    runs = tuple(each for each in read if isinstance(each, CatalogRun))
    read += [_read_copy(store, folder, runs) for folder in copied]
    return Catalog(
        _shown(store.url),
        runs,
        tuple(each for each in read if isinstance(each, LakeCopy)),
        (*damaged, *(each for each in read if isinstance(each, CatalogDamage))),
    )


def _find_runs(store: Store) -> tuple[list[str], list[str], list[CatalogDamage]]:
    """Return the folders with a run, those with a copy, and those that cannot be listed."""
    runs: list[str] = []
    copied: list[str] = []
    damaged: list[CatalogDamage] = []
    level = [""]
    while level:
        listed = list(_in_parallel(partial(_children, store), level))
        below: list[str] = []
        for folder, found in zip(level, listed, strict=True):
            if isinstance(found, CatalogDamage):
                damaged.append(found)
            elif f"{folder}{RUN_FILE}" in found:
                runs.append(folder)
            elif f"{folder}{LAKE_FILE}" in found:
                copied.append(folder)
            else:
                below += [name for name in found if name.endswith("/")]
        level = [name for name in below if not f"/{name}".endswith(f"/{PROJECT_FOLDER}")]
    return sorted(runs), sorted(copied), damaged


def _children(store: Store, folder: str) -> list[str] | CatalogDamage:
    try:
        return list(store.children(folder))
    except BridgeError as error:
        return CatalogDamage(_place(store, folder), error.message)


def _read_run(store: Store, folder: str) -> CatalogRun | CatalogDamage:
    place = _place(store, folder)
    try:
        record = load_record(store, f"{folder}{RUN_FILE}", RunRecord)
        report = None
        if record["state"] == "complete":
            report = load_record(store, f"{folder}{REPORT_FILE}", ReportRecord)
    except BridgeError as error:
        return CatalogDamage(place, error.message)
    if report is not None and report["run_id"] != record["run_id"]:
        return CatalogDamage(
            place,
            f"{REPORT_FILE} is of the run {report['run_id']}, and {RUN_FILE} of "
            f"{record['run_id']}.",
        )
    return _described(place, record, report)


def _read_copy(store: Store, folder: str, runs: tuple[CatalogRun, ...]) -> LakeCopy | CatalogDamage:
    place = _place(store, folder)
    try:
        return read_copy(store, folder, place, runs)
    except BridgeError as error:
        return CatalogDamage(place, error.message)


def _described(
    place: str, record: Mapping[str, Any], report: Mapping[str, Any] | None
) -> CatalogRun:
    projects = {slide["slide_id"]: slide["project"] for slide in record["slides"]}
    if report is None:
        slides = [
            CatalogSlide(slide["slide_id"], slide["slide_name"], slide["project"], None, None)
            for slide in record["slides"]
            if slide["slide_id"] is not None
        ]
    else:
        slides = [
            CatalogSlide(
                slide["slide_id"],
                slide["slide_name"],
                projects.get(slide["slide_id"]),
                slide["written"],
                FrozenDict(slide["by_label"]),
            )
            for slide in report["slides"]
        ]
    return CatalogRun(
        place=place,
        run_id=record["run_id"],
        state=record["state"],
        started=record["started"],
        finished=record["finished"],
        config_digest=record["config_digest"],
        run_digest=record["run_digest"],
        slides=tuple(slides),
        failed=0 if report is None else len(report["failures"]),
        rows=FrozenDict(record["rows"]),
    )


def _open_rows(place: str, slide_id: str) -> Rows:
    rows = open_output(place).rows(slide_id)
    if rows is None:
        raise OutputError(
            f"{place} has no rows of the slide {slide_id}, which its report lists.",
            hint="`qupath-bridge verify` lists everything that is wrong.",
        )
    return rows


def _as_lists(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return labels as lists: one of one label, an empty one where there is none."""
    if pa.types.is_list(labels.type):
        return labels
    lists = [[] if label is None else [label] for label in labels.to_pylist()]
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])


def _has_label(labels: pa.ChunkedArray, label: str) -> pa.Array:
    return pa.array([label in (each or ()) for each in labels.to_pylist()], pa.bool_())


def _in_parallel(task: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    return ordered_map(task, items, workers=AT_ONCE)


def _place(store: Store, folder: str) -> str:
    """Return the path or URL of a folder of a store."""
    path = local_path(store.url)
    if path is not None:
        return str(path / folder)
    return f"{store.url.rstrip('/')}/{folder}".rstrip("/")


def _shown(url: str) -> str:
    return str(local_path(url) or url)
