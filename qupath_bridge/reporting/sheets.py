"""Contact sheets: patches by label as they were written, dropped ones by reason from the slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from qupath_bridge.codecs import Contents, decode
from qupath_bridge.config import ExportConfig
from qupath_bridge.config.quality import QC_PREFIX
from qupath_bridge.errors import BridgeError
from qupath_bridge.model import FIRST_PLANE, Box, BoxArray, PixelArray, Plane
from qupath_bridge.outputs.base import Location, Output
from qupath_bridge.outputs.row_batches import AnyRows
from qupath_bridge.pipeline.pixels import read_patches
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.pixels.display_ranges import auto_range

from .overlays import box_columns
from .reopen import OpenSlide
from .summary import Group, choose_rows, evenly

__all__ = ["KeptPatches", "Sample", "Sheet", "dropped_sheets", "kept_sheets", "with_before"]

COLUMNS = (
    "patch_id", "x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t", "width", "height",
    "mpp", "channels", "dtype", "path", "offset", "length", "label", "rule_label", "label_source",
    "label_share",
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


@dataclass(frozen=True, slots=True)
class KeptPatches:
    """The patches of a slide that were written, and how they are shown.

    Attributes
    ----------
    output : Output
    config : ExportConfig
    rows : rows of the index
    display : Composite or None
        Of the channels of the slide; None for RGB. Open ranges come from the patches themselves.
    """

    output: Output
    config: ExportConfig
    rows: AnyRows
    display: Composite | None = None

    def load(self, row: Mapping[str, Any]) -> PixelArray:
        """Return the pixels of a patch as they were written.

        Raises
        ------
        BridgeError
            If they cannot be read.
        """
        raw = self.output.accepts == "array" or self.config.format == "raw"
        content = self.output.read(Location(row["path"], row["offset"], row["length"]))
        return decode(content, (row["width"], row["height"]), Contents.of_row(row), raw=raw)

    def show(self, patches: Sequence[PixelArray | None]) -> Sequence[PixelArray | None]:
        """Return patches as pictures, shape (h, w, 3), uint8."""
        found = [each for each in patches if each is not None]
        if self.display is None or self.config.composite or not found:
            return patches
        display = self.display.with_ranges(
            {
                number: auto_range(np.concatenate([each[..., number].ravel() for each in found]))
                for number in self.display.open_channels
            }
        )
        return [None if each is None else display.apply(each) for each in patches]


def kept_sheets(
    patches: KeptPatches, groups: Mapping[Group, int], wanted: int, side: int
) -> Iterator[Sheet]:
    """Yield a sheet for each label, most patches first, and for each flag.

    Parameters
    ----------
    patches : KeptPatches
    groups : mapping of Group to int
        Number of patches of each.
    wanted : int
        Patches per sheet.
    side : int
        Pixels of the side of a patch, at most.
    """
    measures = [name for name in patches.rows.schema.names if name.startswith(QC_PREFIX)]
    chosen = choose_rows(patches.rows, groups, wanted, [*COLUMNS, *measures])
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] == "flag", -item[1], item[0]))
    for (kind, name), number in ordered:
        rows, problems = chosen[kind, name], []
        loaded: list[PixelArray | None] = []
        for row in rows:
            try:
                loaded.append(patches.load(row))
            except BridgeError:
                loaded.append(None)
                problems.append(row["patch_id"])
        samples = [
            _kept_sample(row, name, None if pixels is None else _small(pixels, side))
            for row, pixels in zip(rows, patches.show(loaded), strict=True)
        ]
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
            pixels, problem = _read(opened, picked, side, opened.plane), None
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
    made = list(sheets)
    if opened.reader is None:
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
            before = _read(opened, np.array([one.box]), side, one.plane)[0]
        except BridgeError:
            continue
        samples[sample] = replace(one, before=before)
        made[sheet] = replace(made[sheet], samples=tuple(samples))
    return made


def _read(
    opened: OpenSlide, boxes: BoxArray, side: int, plane: Plane
) -> Sequence[PixelArray | None]:
    """Return boxes of a slide as pictures, shape (h, w, 3), uint8."""
    if opened.reader is None or opened.coordinates is None:
        return [None] * len(boxes)
    width, height = boxes[0, 2:].tolist()
    factor = min(1.0, side / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    pixels, _ = read_patches(opened.reader, opened.coordinates, boxes, size, plane, opened.view)
    return list(pixels if opened.display is None else opened.display.apply(pixels))


def _small(pixels: PixelArray, side: int) -> PixelArray:
    """Return a patch that is not larger than it will be shown."""
    from PIL import Image

    if max(pixels.shape[:2]) <= side:
        return pixels
    height, width = (max(1, round(n * side / max(pixels.shape[:2]))) for n in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
