"""Whether an output folder holds exactly what its index says, and what the slides show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qupath_bridge.codecs import Encoder, decode, get_encoder
from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, Plane, ServerBuilder
from qupath_bridge.outputs import index
from qupath_bridge.readers import open_reader
from qupath_bridge.stores.local import LocalStore

from . import records
from .export import PATCH_NAME, patch_digest
from .pixels import read_patch

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Finding", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: where, what, and in which way.

    ``kind`` is one of ``missing``, ``changed``, ``unreadable``, ``pixels``, ``unlisted``,
    ``slide``.
    """

    kind: str
    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of a check: how much was looked at and what was found."""

    files: int
    pixels: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    out: Path | str,
    *,
    pixels: int | None = None,
    find_slide: Callable[[Mapping[str, Any]], Path | None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare every row of the index with its file, and files with the slides.

    Parameters
    ----------
    out : path
        The output folder of a finished run.
    pixels : int, optional
        How many patches to read again from the slides, spread evenly; all when not given.
    find_slide : callable, optional
        From a slide's record in ``run.json`` to its file, for slides that moved.
    on_progress : callable, optional
        Told how many files are done, of how many.

    Raises
    ------
    OutputError
        If the folder holds no finished run.
    """
    store = LocalStore(Path(out))
    record = records.load_finished(store)
    slides = {slide["slide_id"]: slide for slide in record["slides"]}
    tables = {
        slide_id: table
        for slide_id in index.list_partitions(store)
        if (table := index.read_partition(store, slide_id)) is not None
    }
    total = sum(table.num_rows for table in tables.values())
    # Every n-th row over all slides, so that a sample reaches each of them.
    every = 1 if pixels is None else max(1, -(-total // pixels)) if pixels else 0
    findings: list[Finding] = []
    listed: set[str] = set()
    files = compared = 0
    for slide_id, table in tables.items():
        good = []
        for number, row in enumerate(_rows(table)):
            listed.add(row["path"])
            if finding := _check_file(store, row):
                findings.append(finding)
            elif every and files % every == 0:
                good.append(number)
            files += 1
            if on_progress and files % 64 == 0:
                on_progress(files, total)
        if good:
            slide = slides.get(slide_id)
            rows = _rows(table.take(good))
            checked, found = _check_pixels(store, slide_id, slide, record, rows, find_slide)
            compared += checked
            findings += found
    findings += [
        Finding("unlisted", name, "the index does not list this file")
        for name in store.list("patches/")
        if name not in listed and PATCH_NAME.fullmatch(name)
    ]
    if on_progress:
        on_progress(files, total)
    return Verification(files, compared, tuple(findings))


COLUMNS = (
    "path", "digest", "x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t", "width", "height",
    "mpp",
)  # fmt: skip


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.select(list(COLUMNS)).to_batches(4096):
        yield from batch.to_pylist()


def _check_file(store: LocalStore, row: Mapping[str, Any]) -> Finding | None:
    path = row["path"]
    if not store.exists(path):
        return Finding("missing", path, "the file is gone")
    try:
        payload = store.get(path)
    except OutputError as error:
        return Finding("unreadable", path, error.message)
    if patch_digest(payload) != row["digest"]:
        return Finding("changed", path, _how_changed(payload, row))
    return None


def _how_changed(payload: bytes, row: Mapping[str, Any]) -> str:
    try:
        shape = decode(payload).shape
    except BridgeError as error:
        return f"the file is damaged: {error.message}"
    if shape[:2] != (row["height"], row["width"]):
        return f"the file is another picture, {shape[1]} x {shape[0]} pixels"
    return "the file has other bytes than were written (swapped, edited or encoded again)"


def _check_pixels(
    store: LocalStore,
    slide_id: str,
    slide: Mapping[str, Any] | None,
    record: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    find_slide: Callable[[Mapping[str, Any]], Path | None] | None,
) -> tuple[int, list[Finding]]:
    """Read the boxes of one slide again and compare."""
    if slide is None:
        return 0, [Finding("slide", slide_id, "run.json does not know this slide")]
    path = (find_slide(slide) if find_slide else None) or Path(slide["path"])
    config = record["config"]
    findings = []
    try:
        with open_reader(path) as reader:
            fingerprint = reader.fingerprint
            known = slide["fingerprint"]
            if (fingerprint.size, fingerprint.digest) != (known["size"], known["digest"]):
                problem = "the slide file is not the one that was exported"
                return 0, [Finding("slide", str(path), problem)]
            coordinates = coordinate_map(
                ServerBuilder(slide["coordinates"]["builder"]),
                file_size=reader.size,
                bounds=reader.bounds,
            )
            compared, encoder = 0, None
            for row in rows:
                if encoder is None:
                    encoder = get_encoder(
                        config["format"], quality=config["quality"], mpp=row["mpp"]
                    )
                box = Box(row["x_qupath"], row["y_qupath"], row["w_qupath"], row["h_qupath"])
                size = (row["width"], row["height"])
                pixels, _ = read_patch(reader, coordinates, box, size, Plane(row["z"], row["t"]))
                if not _shows(store.get(row["path"]), pixels, encoder):
                    problem = "the file does not show what the slide shows there"
                    findings.append(Finding("pixels", row["path"], problem))
                compared += 1
    except BridgeError as error:
        return 0, [Finding("slide", str(path), error.message)]
    return compared, findings


def _shows(payload: bytes, pixels: np.ndarray, encoder: Encoder) -> bool:
    """Whether a file shows these pixels: to the bit, or as the lossy encoder leaves them."""
    shown = decode(payload)
    if not encoder.lossless:
        pixels = decode(encoder.encode(pixels))
    return shown.shape == pixels.shape and bool(np.array_equal(shown, pixels))
