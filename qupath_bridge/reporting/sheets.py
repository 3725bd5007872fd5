"""Contact sheets: patches by label as they were written, dropped ones by reason from the slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from qupath_bridge.codecs import decode
from qupath_bridge.config import ExportConfig
from qupath_bridge.config.quality import QC_PREFIX
from qupath_bridge.errors import BridgeError
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import FIRST_PLANE, Box, BoxArray, PixelArray, Plane
from qupath_bridge.outputs.base import Location, Output
from qupath_bridge.outputs.row_batches import AnyRows
from qupath_bridge.pipeline.pixels import read_patches
from qupath_bridge.readers.base import Reader

from .overlays import box_columns
from .reopen import OpenSlide
from .summary import Group, choose_rows, evenly

__all__ = ["Sample", "Sheet", "dropped_sheets", "kept_sheets", "with_before"]

COLUMNS = (
    "patch_id", "x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t", "width", "height",
    "path", "offset", "length", "label", "rule_label", "label_source", "label_share",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """A patch of a contact sheet.

    Attributes
    ----------
    name : str
        Its id, or its place.
    fact : str
        One short fact: its share, a measure.
    pixels : array, shape (h, w, 3), uint8, or None
        None if they cannot be read.
    box : Box
        QuPath pixels.
    plane : Plane
    path : str or None
        Its file in the output, if it has one of its own.
    before : array, shape (h, w, 3), uint8, or None
        Its pixels before stain normalisation.
    """

    name: str
    fact: str
    pixels: PixelArray | None
    box: Box
    plane: Plane = FIRST_PLANE
    path: str | None = None
    before: PixelArray | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Some patches of one label, flag or reason, and the number of all.

    ``kind`` is ``label``, ``flag`` or ``reason``; ``problem`` says why pixels are missing.
    """

    kind: str
    name: str
    count: int
    samples: tuple[Sample, ...]
    problem: str | None = None


def kept_sheets(
    output: Output,
    config: ExportConfig,
    rows: AnyRows,
    groups: Mapping[Group, int],
    wanted: int,
    side: int,
) -> Iterator[Sheet]:
    """Yield a sheet for each label, most patches first, and for each flag.

    Parameters
    ----------
    groups : mapping of Group to int
        Number of patches of each.
    wanted : int
        Patches per sheet.
    side : int
        Pixels of the side of a patch, at most.
    """
    measures = [name for name in rows.schema.names if name.startswith(QC_PREFIX)]
    chosen = choose_rows(rows, groups, wanted, [*COLUMNS, *measures])
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] == "flag", -item[1], item[0]))
    raw = output.accepts == "array" or config.format == "raw"
    for (kind, name), number in ordered:
        samples, problems = [], []
        for row in chosen[kind, name]:
            pixels = None
            try:
                content = output.read(Location(row["path"], row["offset"], row["length"]))
                pixels = _small(decode(content, (row["width"], row["height"]), raw=raw), side)
            except BridgeError:
                problems.append(row["patch_id"])
            samples.append(_kept_sample(row, name, pixels))
        problem = (
            f"{len(problems)} of these patches cannot be read from the output: their files are "
            "missing or damaged, or what reads this format is not installed."
        )
        yield Sheet(kind, name, number, tuple(samples), problem if problems else None)


def _kept_sample(row: Mapping[str, Any], group: str, pixels: PixelArray | None) -> Sample:
    share, rule = row["label_share"], row["rule_label"]
    fact = _place(_box(row)) if share is None else f"{share:.2f}"
    if row["label_source"] == "corrected":
        said = ", ".join(rule) if isinstance(rule, list) else rule
        fact = f"{said or 'no label'} → {group if group != 'corrected' else _label(row)}"
    whole = row["offset"] is None
    return Sample(
        row["patch_id"], fact, pixels, _box(row), Plane(row["z"], row["t"]),
        row["path"] if whole else None,
    )  # fmt: skip


def _label(row: Mapping[str, Any]) -> str:
    label = row["label"]
    return (", ".join(label) if isinstance(label, list) else label) or "no label"


def _place(box: Box) -> str:
    """Return where a box begins, in words.

    >>> _place(Box(1024, 0, 64, 64))
    'x 1,024, y 0'
    """
    return f"x {box.x:,}, y {box.y:,}"


def _box(row: Mapping[str, Any]) -> Box:
    return Box(*(row[f"{side}_qupath"] for side in "xywh"))


def dropped_sheets(
    facts: Mapping[str, Any],
    opened: OpenSlide,
    boxes: Mapping[str, BoxArray],
    table: pa.Table | None,
    wanted: int,
    side: int,
) -> Iterator[Sheet]:
    """Yield a sheet for each reason that the run has counted, most boxes first.

    Where the slide is gone, or the plan cannot be made again, a sheet has no patches and a
    problem that says so.

    Parameters
    ----------
    boxes : mapping of str to array, shape (N, 4), QuPath pixels
        Boxes that were not written, by reason.
    table : Table or None
        Rows of those that reading dropped.
    """
    counts = dict(facts["counts"]["dropped"])
    for reason, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        here = boxes.get(reason, np.zeros((0, 4), np.int64))
        if opened.reader is None or opened.coordinates is None:
            yield Sheet("reason", reason, number, (), "the slide file is not there")
            continue
        if not len(here):
            yield Sheet("reason", reason, number, (), "these boxes are not known any more")
            continue
        picked = here[evenly(len(here), wanted)]
        measured = _measures(table, reason, picked)
        try:
            pixels = _read(opened.reader, opened.coordinates, picked, side)
            problem = None
        except BridgeError:
            pixels, problem = [None] * len(picked), "the slide file cannot be read there"
        samples = tuple(
            Sample(_place(Box(*box)), fact or _place(Box(*box)), each, Box(*box))
            for box, fact, each in zip(picked.tolist(), measured, pixels, strict=True)
        )
        yield Sheet("reason", reason, number, samples, problem)


def _measures(table: Any, reason: str, boxes: BoxArray) -> list[str]:
    """Return what the quality measures say of boxes that reading dropped; empty for others."""
    if table is None or reason not in table.column("reason").to_pylist():
        return [""] * len(boxes)
    names = [name for name in table.schema.names if name.startswith(QC_PREFIX)]
    rows = table.to_pylist()
    places = {tuple(box): row for box, row in zip(box_columns(table).tolist(), rows, strict=True)}
    return [
        ", ".join(
            f"{name.removeprefix(QC_PREFIX)} {row[name]:.2g}"
            for name in names
            if row.get(name) is not None
        )
        for row in (places.get(tuple(box), {}) for box in boxes.tolist())
    ]


def with_before(sheets: Sequence[Sheet], opened: OpenSlide, side: int, most: int) -> list[Sheet]:
    """Return the sheets with the pixels before stain normalisation of some patches of all labels.

    Parameters
    ----------
    side : int
        Pixels of the side of a patch, at most.
    most : int
        How many patches are read from the slide.
    """
    reader, coordinates = opened.reader, opened.coordinates
    made = list(sheets)
    if reader is None or coordinates is None:
        return made
    places = [
        (sheet, sample)
        for sheet, each in enumerate(sheets)
        if each.kind == "label"
        for sample, one in enumerate(each.samples)
        if one.pixels is not None
    ]
    for sheet, sample in (places[i] for i in evenly(len(places), most)):
        samples = list(made[sheet].samples)
        one = samples[sample]
        try:
            before = _read(reader, coordinates, np.array([one.box]), side, one.plane)[0]
        except BridgeError:
            continue
        samples[sample] = replace(one, before=before)
        made[sheet] = replace(made[sheet], samples=tuple(samples))
    return made


def _read(
    reader: Reader,
    coordinates: CoordinateMap,
    boxes: BoxArray,
    side: int,
    plane: Plane = FIRST_PLANE,
) -> Sequence[PixelArray | None]:
    width, height = boxes[0, 2:].tolist()
    factor = min(1.0, side / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    pixels, _ = read_patches(reader, coordinates, boxes, size, plane)
    if pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        return [None] * len(boxes)
    return list(pixels)


def _small(pixels: PixelArray, side: int) -> PixelArray:
    """Return a patch that is not larger than it will be shown."""
    from PIL import Image

    if max(pixels.shape[:2]) <= side:
        return pixels
    height, width = (max(1, round(n * side / max(pixels.shape[:2]))) for n in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
