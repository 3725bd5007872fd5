"""Compare an output with its index, and with the slides."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qupath_bridge import registry
from qupath_bridge.codecs import Contents, Encoder, RawEncoder, decode, encoder_of
from qupath_bridge.config import ExportConfig
from qupath_bridge.config.masks import CLASS_MASK, kinds_in, mask_kinds
from qupath_bridge.errors import BridgeError, OutputError, ReadError
from qupath_bridge.frozen import OneLine, count, one_line
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, PixelArray, Plane, ServerBuilder
from qupath_bridge.outputs.base import Location, Output, patch_digest
from qupath_bridge.outputs.csv_file import CSV_FILE, csv_pieces
from qupath_bridge.parallel import ordered_map
from qupath_bridge.patches.mask_classes import classes_record, read_classes
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.readers import open_reader
from qupath_bridge.schemas import ReportRecord
from qupath_bridge.urls import shown

from . import records, rows
from .channels import ChannelView
from .inputs import input_problem
from .patch_pixels import PatchPixels
from .stain import StainPlan
from .tissue import tissue_problems

if TYPE_CHECKING:
    from qupath_bridge.outputs.row_batches import Rows

__all__ = ["Finding", "Verification", "check_intact", "verify"]

BATCH = 64
"""Patches that are checked at once."""


@dataclass(frozen=True, slots=True, repr=False)
class Finding(OneLine):
    """Something that is not as it should be: where, what, and in which way.

    ``kind`` is one of ``index``, ``missing``, ``changed``, ``unreadable``, ``pixels``,
    ``unlisted``, ``slide``.
    """

    kind: str
    path: str
    problem: str


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """Result of a check: the number of patches that were checked, and the findings."""

    files: int
    pixels: int
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return one_line(
            "Verification",
            f"{count(self.files, 'patch', 'patches')}, {self.pixels} of them against the slides",
            count(len(self.findings), "finding"),
        )

    @property
    def ok(self) -> bool:
        """True if nothing was found."""
        return not self.findings


def verify(
    output: Output,
    *,
    pixels: int | None = None,
    reader: str = "auto",
    find_slide: Callable[[Mapping[str, Any]], Path | None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare the index with what the run wrote, each row with its patch, patches with the slides.

    Rows that the run did not write so (an edited label, box, id, type) are a finding, and their
    slide is not compared further; ``index.csv`` is made again and compared.

    Parameters
    ----------
    output : Output
        Of a finished run.
    pixels : int, optional
        Number of patches to read again from the slides, spread evenly; all when not given.
    reader : str
        Name of the reader of the slide files.
    find_slide : callable, optional
        From the facts of a slide to its file, for slides that moved.
    on_progress : callable, optional
        Called with the number of patches that are done, and of all.

    Raises
    ------
    OutputError
        If there is no finished run.
    UsageError
        If there is no such reader.
    """
    if reader != "auto":
        registry.check("reader", reader)
    record = records.load_finished(output)
    config = ExportConfig.parse(record["config"], source=f"{output.describe()}: run.json")
    findings = [
        *_check_inputs(output, record),
        *_check_records(output, record),
        *_check_classes(output, record, config),
    ]
    slide_ids, damaged = _intact_slides(output, record)
    findings += damaged
    total = sum(_count(output, slide_id) for slide_id in slide_ids)
    # Every n-th row over all slides, so that a sample reaches each of them.
    every = 1 if pixels is None else max(1, -(-total // pixels)) if pixels else 0
    files = compared = 0
    for slide_id in slide_ids:
        stored = output.rows(slide_id)
        if stored is None:
            continue
        good = array("q")
        checks = ordered_map(
            partial(_check_files, output, raw=config.format == "raw"), _rows(stored),
            workers=output.at_once,
        )  # fmt: skip
        for number, (finding, of_masks) in enumerate(checks):
            if finding:
                findings.append(finding)
            elif every and files % every == 0:
                good.append(number)
            findings += of_masks
            files += 1
            if on_progress and files % BATCH == 0:
                on_progress(files, total)
        if good:
            facts = records.load_facts(stored, slide_id)
            path = (find_slide(facts) if find_slide else None) or Path(facts["path"])
            chosen = _chosen(_rows(stored), good)
            checked, found = _check_pixels(output, facts, config, chosen, path, reader)
            compared += checked
            findings += found
    findings += [
        Finding("unlisted", name, "the index does not list this file") for name in output.unlisted()
    ]
    if on_progress:
        on_progress(files, total)
    return Verification(files, compared, tuple(findings))


def check_intact(output: Output) -> None:
    """Refuse a run whose index, records or patches are not as it wrote them.

    Raises
    ------
    OutputError
        With the first finding, or if there is no finished run.
    """
    found = verify(output, pixels=0).findings
    if found:
        more = f" (and {len(found) - 1} more findings)" if len(found) > 1 else ""
        raise OutputError(
            f"The run in {output.describe()} is not as it was written: {found[0].path}: "
            f"{found[0].problem}{more}.",
            hint="`qupath-bridge verify` lists everything; export again with resume.",
        )


def _intact_slides(output: Output, record: Mapping[str, Any]) -> tuple[list[str], list[Finding]]:
    """Return the slides whose rows are those that the run wrote, and findings about the others."""
    good: list[str] = []
    findings: list[Finding] = []
    there = set(output.slides())
    for slide_id in sorted(there | record["rows"].keys()):
        problem, facts = None, None
        if slide_id not in there:
            problem = "the rows of this slide are gone"
        elif slide_id not in record["rows"]:
            problem = "the run has no such slide"
        else:
            try:
                stored = output.rows(slide_id)
                facts = None if stored is None else records.load_facts(stored, slide_id)
                if (
                    stored is None
                    or not facts
                    or rows.rows_digest(stored, facts) != record["rows"][slide_id]
                ):
                    problem = "the rows of this slide are not those that the run wrote"
            except OutputError as error:
                problem = error.message
        if problem is None:
            good.append(slide_id)
            findings += _check_tissue(output, facts["tissue"] if facts else None)
        else:
            findings.append(Finding("index", f"slide {slide_id}", problem))
    return good, findings


def _check_tissue(output: Output, tissue: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Compare the side files of a slide's tissue with what its facts say."""
    if tissue is not None:
        for name, problem in tissue_problems(tissue, output):
            kind = "changed" if problem else "missing"
            yield Finding(kind, name, problem or "the file is gone")


def _check_inputs(output: Output, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the frozen inputs with their digests."""
    for name, digest in (record["inputs"] or {}).items():
        if problem := input_problem(output, name, digest):
            yield Finding("changed" if output.has(name) else "missing", name, problem)


def _check_classes(
    output: Output, record: Mapping[str, Any], config: ExportConfig
) -> Iterator[Finding]:
    """Compare ``classes.json`` with the classes of the run."""
    if CLASS_MASK not in mask_kinds(config.masks):
        return
    wanted = records.dump_json(classes_record(read_classes(record["classes"])))
    if not output.has(records.CLASSES_FILE):
        yield Finding("missing", records.CLASSES_FILE, "the file is gone")
    elif output.get(records.CLASSES_FILE) != wanted:
        yield Finding("changed", records.CLASSES_FILE, "it says something else than run.json")


def _check_records(output: Output, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare ``report.json`` and ``index.csv`` with the rows."""
    try:
        report = records.load_record(output, records.REPORT_FILE, ReportRecord)
        if report["run_id"] != record["run_id"]:
            problem = f"it is of another run, {report['run_id']}"
            yield Finding("index", records.REPORT_FILE, problem)
        for slide in report["slides"]:
            if slide != _report_of(output, slide["slide_id"]):
                problem = f"it says something else of {slide['slide_name']} than its rows"
                yield Finding("index", records.REPORT_FILE, problem)
        if report["confusion"] != records.confusion_of(report["slides"]):
            problem = "its confusion is not the sum of those of its slides"
            yield Finding("index", records.REPORT_FILE, problem)
        if report["quality_outliers"] != records.outliers_of(report["slides"]):
            problem = "its outliers of quality are not those of its slides"
            yield Finding("index", records.REPORT_FILE, problem)
        if report["written"] != sum(slide["written"] for slide in report["slides"]):
            yield Finding("index", records.REPORT_FILE, "its number of patches is wrong")
    except OutputError as error:
        yield Finding("index", records.REPORT_FILE, error.message)
    try:
        end, lines = 0, 1
        for piece in csv_pieces(output):
            found = _part_of(output, CSV_FILE, end, len(piece))
            if found != piece:
                line = lines + _equal_lines(found, piece)
                yield Finding("index", CSV_FILE, f"line {line} is not what the partitions say")
                return
            end, lines = end + len(piece), lines + piece.count(b"\n")
        if output.exists(Location(CSV_FILE, end, 1)):
            yield Finding("index", CSV_FILE, "it has more lines than the partitions have rows")
    except OutputError:
        return  # of rows that cannot be read nothing can be made again; they are findings


def _report_of(output: Output, slide_id: str) -> dict[str, Any] | None:
    stored = output.rows(slide_id)
    if stored is None:
        return None
    return rows.slide_report_of(stored, records.load_facts(stored, slide_id))


def _part_of(output: Output, name: str, start: int, length: int) -> bytes:
    """Return some bytes of a file; those that are there if it ends before."""
    if not output.has(name):
        return b""
    least, most = (0, length) if not output.exists(Location(name, start, length)) else (length,) * 2
    while least < most:  # the file, which can be very large, is not read to find its end
        middle = (least + most + 1) // 2
        if output.exists(Location(name, start, middle)):
            least = middle
        else:
            most = middle - 1
    return output.read(Location(name, start, least)) if least else b""


def _equal_lines(found: bytes, expected: bytes) -> int:
    """Return the number of lines that two texts have in common at their beginning."""
    pairs = zip_longest(found.split(b"\n"), expected.split(b"\n"))
    return next(number for number, (a, b) in enumerate(pairs) if a != b)


COLUMNS = (
    "path", "offset", "length", "digest", "x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t",
    "width", "height", "mpp", "channels", "dtype",
)  # fmt: skip
"""Columns that say what a patch is; those of masks come with them."""


def _count(output: Output, slide_id: str) -> int:
    stored = output.rows(slide_id)
    return 0 if stored is None else stored.num_rows


def _rows(stored: Rows) -> Iterator[dict[str, Any]]:
    masks = [name for kind in kinds_in(stored.schema.names) for name in (*kind.place, kind.digest)]
    for batch in stored.batches([*COLUMNS, *masks]):
        yield from batch.to_pylist()


def _chosen(found: Iterator[dict[str, Any]], numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows that have these numbers, which ascend."""
    wanted = iter(numbers)
    following = next(wanted, None)
    for number, row in enumerate(found):
        if number == following:
            yield row
            following = next(wanted, None)


def _location(row: Mapping[str, Any]) -> Location:
    return Location(row["path"], row["offset"], row["length"])


def _name(row: Mapping[str, Any]) -> str:
    """Return what a finding calls a patch: its file, and its place in it."""
    return _shown(_location(row))


def _shown(place: Location) -> str:
    return place.path if place.offset is None else f"{place.path}@{place.offset}"


def _check_files(
    output: Output, row: Mapping[str, Any], *, raw: bool
) -> tuple[Finding | None, list[Finding]]:
    """Compare a patch with its digest, and its masks with theirs."""
    return _check_patch(output, row, raw=raw), list(_check_masks(output, row))


def _check_patch(output: Output, row: Mapping[str, Any], *, raw: bool) -> Finding | None:
    payload = _read(output, _location(row))
    if isinstance(payload, Finding):
        return payload
    if patch_digest(payload) != row["digest"]:
        return Finding("changed", _name(row), _how_changed(payload, row, raw=raw))
    return None


def _check_masks(output: Output, row: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the masks of a patch with their digests."""
    for kind in kinds_in(row):
        place = Location(*(row[name] for name in kind.place))
        payload = _read(output, place)
        if isinstance(payload, Finding):
            yield payload
        elif patch_digest(payload) != row[kind.digest]:
            yield Finding("changed", _shown(place), "the mask has other bytes than were written")


def _read(output: Output, place: Location) -> bytes | Finding:
    """Return the bytes of a patch or mask, or why they cannot be read."""
    try:
        return output.read(place)
    except OutputError as error:
        if not output.exists(place):
            return Finding("missing", _shown(place), "the file is gone")
        return Finding("unreadable", _shown(place), error.message)


def _how_changed(payload: bytes, row: Mapping[str, Any], *, raw: bool) -> str:
    try:
        decode(payload, (row["width"], row["height"]), Contents.of_row(row), raw=raw)
    except BridgeError as error:
        return f"the file is damaged or another picture: {error.message}"
    return "the file has other bytes than were written (swapped, edited or encoded again)"


def _check_pixels(
    output: Output,
    facts: Mapping[str, Any],
    config: ExportConfig,
    chosen: Iterator[Mapping[str, Any]],
    path: Path,
    reader_name: str,
) -> tuple[int, list[Finding]]:
    """Read patches of one slide again and compare; at least one."""
    findings, compared = [], 0
    place = shown(path)
    try:
        with open_reader(path, name=reader_name, on_bad_tile=config.on_bad_tile) as reader:
            fingerprint, known = reader.fingerprint, facts["fingerprint"]
            if (fingerprint.size, fingerprint.digest) != (known["size"], known["digest"]):
                problem = "the slide file is not the one that was exported"
                return 0, [Finding("slide", place, problem)]
            coordinates = coordinate_map(
                ServerBuilder(facts["coordinates"]["builder"]),
                file_size=reader.size,
                bounds=reader.bounds,
            )
            first = next(chosen)
            mpp = first["mpp"]
            contents = Contents.of_row(first)
            encoder = encoder_of(config, contents)
            stain = StainPlan.from_json(facts["stain"])
            view = ChannelView.from_json(facts["channels"])
            producer = PatchPixels(
                coordinates, view, config, mpp, reader, stain, _composite(config, facts)
            )
            for plane, group in groupby(chain([first], chosen), key=_plane):
                while batch := list(islice(group, BATCH)):
                    boxes = np.array([_box(row) for row in batch])
                    sizes = np.array([(row["width"], row["height"]) for row in batch])
                    made = producer.read(reader, boxes, plane, sizes)
                    places = map(_location, batch)
                    payloads = ordered_map(output.read, places, workers=output.at_once)
                    for row, patch, payload in zip(batch, made.patches, payloads, strict=True):
                        if not _shows(payload, patch, encoder, contents):
                            problem = "the file does not show what the slide shows there"
                            findings.append(Finding("pixels", _name(row), problem))
                    compared += len(batch)
    except BridgeError as error:
        return 0, [Finding("slide", place, error.message.removeprefix(f"{place}: "))]
    return compared, findings


def _box(row: Mapping[str, Any]) -> Box:
    return Box(row["x_qupath"], row["y_qupath"], row["w_qupath"], row["h_qupath"])


def _plane(row: Mapping[str, Any]) -> Plane:
    return Plane(row["z"], row["t"])


def _composite(config: ExportConfig, facts: Mapping[str, Any]) -> Composite | None:
    """Return what made the pictures of a run; None for a run without."""
    if not config.composite or facts["display"] is None:
        return None
    return Composite.from_json(facts["display"])


def _shows(
    payload: bytes, patch: PixelArray | bytes | None, encoder: Encoder, contents: Contents
) -> bool:
    """Return whether a file shows a patch: to the bit, or as the lossy encoder leaves it."""
    if patch is None or isinstance(patch, bytes):
        return payload == patch
    pixels = patch
    height, width = pixels.shape[:2]
    try:
        shown = decode(payload, (width, height), contents, raw=isinstance(encoder, RawEncoder))
    except ReadError:
        return False
    if not encoder.lossless:
        pixels = decode(encoder.encode(pixels), None, contents)
    numbers = pixels.dtype.kind == "f"  # of which NaN equals NaN here
    return shown.dtype == pixels.dtype and np.array_equal(shown, pixels, equal_nan=numbers)
