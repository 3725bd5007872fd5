"""From the records of a run to what the page shows: slide after slide, finished or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import PART, PREFIX
from qupath_bridge.outputs.row_batches import AnyRows
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.tissue import outline_file
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.schemas import ReportRecord, RunRecord

from .links import Links
from .overlays import (
    Layer,
    color_of,
    colors_of,
    dropped_boxes,
    dropped_rows,
    layers_of,
    open_canvas,
)
from .pictures import DETAILS, Detail, as_picture, data_uri, first_detail, fit
from .reopen import OpenSlide, Reopener
from .sheets import KeptPatches, Sheet, dropped_sheets, kept_sheets, with_before
from .summary import evenly, summarize
from .views import LayerView, PairView, SampleView, SheetView, SlideView, describe_slide, scale_bar

__all__ = ["RunFacts", "gather_slides", "load_run"]

PAIRS = 6
"""Patches of a slide that are shown before and after stain normalisation."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The records of a run, finished or not.

    Attributes
    ----------
    record : mapping
        ``run.json``.
    failures : sequence of mapping
        Of ``report.json``; empty for a run that is not finished.
    finished : bool
    at_work : str or None
        Who holds the lock of an unfinished run.
    """

    record: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    finished: bool
    at_work: str | None = None

    @property
    def config(self) -> ExportConfig:
        """The options that decided the patches."""
        return ExportConfig.parse(self.record["config"], source=records.RUN_FILE)


def load_run(output: Output) -> RunFacts:
    """Read the records of a run.

    Raises
    ------
    OutputError
        If there is no run, or its records are damaged.
    """
    if not output.has(records.RUN_FILE):
        raise OutputError(
            f"{output.describe()} contains no run.", hint="Name the output of an export."
        )
    record = records.load_record(output, records.RUN_FILE, RunRecord)
    if record["state"] == "complete":
        report = records.load_record(output, records.REPORT_FILE, ReportRecord)
        return RunFacts(record, report["failures"], True)
    holder = output.holder()
    at_work = None if holder is None else f"process {holder.process} on {holder.host}"
    return RunFacts(record, (), False, at_work)


def gather_slides(
    output: Output,
    run: RunFacts,
    reopener: Reopener,
    links: Links,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[SlideView]:
    """Return a view of each slide of a run, in the order of the run.

    Parameters
    ----------
    on_progress : callable, optional
        Called with the number of slides that are done, and of all.
    """
    slides = run.record["slides"]
    committed = set(output.slides())
    failures = {failure["slide_id"]: failure for failure in run.failures}
    made = []
    for number, slide in enumerate(slides, 1):
        anchor = f"slide-{number}"
        maker = _SlideMaker(output, run, links, anchor, len(slides))
        failure = failures.get(slide["slide_id"])
        if failure is None and slide["slide_id"] in committed:
            made.append(maker.make(slide, reopener))
        else:
            made.append(_without_patches(slide, failure, anchor, run))
        if on_progress:
            on_progress(number, len(slides))
    return made


def _without_patches(
    slide: Mapping[str, Any], failure: Mapping[str, Any] | None, anchor: str, run: RunFacts
) -> SlideView:
    """Return the view of a slide that failed, or that an unfinished run did not reach."""
    if failure is not None:
        state, error, hint = "failed", failure["error"], failure["next"]
    elif run.finished:
        state, error, hint = "damaged", "The index has no rows of this slide any more.", None
    else:
        state, error, hint = "waiting", None, None
    return SlideView(
        anchor, slide["slide_id"] or "", slide["slide_name"], slide["entry_id"], state, error, hint
    )


@dataclass(frozen=True, slots=True)
class _SlideMaker:
    """Makes the view of one slide that is committed."""

    output: Output
    run: RunFacts
    links: Links
    anchor: str
    slides: int

    def make(self, slide: Mapping[str, Any], reopener: Reopener) -> SlideView:
        """Return the view; that of a slide whose rows are damaged says so."""
        slide_id = slide["slide_id"]
        try:
            rows = self.output.rows(slide_id)
            if rows is None:
                raise OutputError("The index has no rows of this slide any more.")
            facts = records.load_facts(rows, slide_id)
            if facts["run_id"] != self.run.record["run_id"]:
                return _without_patches(slide, None, self.anchor, self.run)
            with reopener.open(facts) as opened:
                return self._view(facts, rows, opened)
        except OutputError as error:
            return SlideView(
                self.anchor, slide_id, slide["slide_name"], slide["entry_id"], "damaged",
                error.message, error.hint,
            )  # fmt: skip

    def _view(self, facts: Mapping[str, Any], rows: AnyRows, opened: OpenSlide) -> SlideView:
        summary = summarize(rows)
        labels, colors = summary.labels(), colors_of(facts, opened.plan)
        most = DETAILS[first_detail(self.slides)]
        canvas = open_canvas(opened, tuple(facts["coordinates"]["size"]), most.side)
        table = dropped_rows(self.output, facts)
        boxes = dropped_boxes(table, opened.plan)
        layers = list(
            layers_of(self.output, facts, rows, labels, opened.plan, canvas, colors, boxes)
        )
        kept = KeptPatches(self.output, self.run.config, rows, _display(facts, opened))
        sheets = list(kept_sheets(kept, summary.groups, most.each, most.patch))
        if self.run.config.stain != "none":
            sheets = with_before(sheets, opened, most.patch, PAIRS)
        dropped = list(dropped_sheets(facts, opened, boxes, table, most.each, most.patch))
        material = _Material(canvas.picture if canvas.real else None, layers, sheets, dropped)
        detail, encoded = fit(material.encode, self.slides)
        pictures = iter(encoded)
        picture = next(pictures)
        return SlideView(
            anchor=self.anchor,
            slide_id=facts["slide_id"],
            name=facts["slide_name"],
            entry_id=facts["entry_id"],
            state="done",
            patches=summary.patches,
            labels=labels,
            colors={name: color_of(name, colors) for name in labels},
            flags=summary.flags(),
            dropped=facts["counts"]["dropped"],
            shares=summary.shares,
            tissue_shares=summary.tissue,
            picture=None if picture is None else data_uri(picture),
            scale=scale_bar(facts),
            real=canvas.real,
            size=tuple(facts["coordinates"]["size"]),
            layers=tuple(
                LayerView(one.kind, one.name, data_uri(made), one.count, one.color)
                for one, made in zip(layers, pictures, strict=False)
                if made is not None
            ),
            kept=tuple(self._sheet(one, detail, pictures, colors) for one in sheets),
            not_written=tuple(self._sheet(one, detail, pictures, colors) for one in dropped),
            pairs=_pairs(sheets, pictures),
            described=describe_slide(facts, kept.display),
            metadata=summary.metadata,
            warnings=facts["warnings"],
            notes=() if opened.note is None else (opened.note,),
            corrections=facts["corrections"],
            quality=facts["quality"],
            files=self._files(facts),
        )

    def _sheet(
        self, sheet: Sheet, detail: Detail, pictures: Any, colors: Mapping[str, Any]
    ) -> SheetView:
        chosen = [sheet.samples[i] for i in evenly(len(sheet.samples), detail.each)]
        samples = []
        for one in chosen:
            made = next(pictures)
            link = self.links.to(one.path) if one.path else None
            samples.append(SampleView(one.name, one.fact, made and data_uri(made), one.box, link))
        color = color_of(sheet.name, colors) if sheet.kind == "label" else None
        return SheetView(sheet.kind, sheet.name, sheet.count, tuple(samples), sheet.problem, color)

    def _files(self, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return name and address of the files of a slide."""
        slide_id = facts["slide_id"]
        names = [f"{PREFIX}{slide_id}{PART}"]
        if facts["tissue"] is not None:
            names += [facts["tissue"]["file"], outline_file(facts["tissue"]["file"])]
        found = ((name, self.links.to(name)) for name in names if self.output.has(name))
        return [(name, address) for name, address in found if address]


def _display(facts: Mapping[str, Any], opened: OpenSlide) -> Composite | None:
    """Return how the channels of a slide are shown, also where the slide file is gone."""
    if opened.display is not None or facts["display"] is None:
        return opened.display
    return Composite.from_json(facts["display"])


@dataclass(frozen=True, slots=True)
class _Material:
    """The pictures of a slide before they are encoded, in the order in which they are shown."""

    picture: Any
    layers: Sequence[Layer]
    sheets: Sequence[Sheet]
    dropped: Sequence[Sheet]

    def encode(self, detail: Detail) -> list[bytes | None]:
        """Encode picture, layers, patches of all sheets, and the pairs of the stain."""

        def patch(pixels: Any) -> bytes | None:
            return None if pixels is None else as_picture(pixels, detail.patch, detail.quality)

        made: list[bytes | None] = [
            None if self.picture is None else as_picture(self.picture, detail.side, detail.quality)
        ]
        made += [as_picture(layer.picture, detail.side) for layer in self.layers]
        for sheet in (*self.sheets, *self.dropped):
            made += [
                patch(sheet.samples[i].pixels) for i in evenly(len(sheet.samples), detail.each)
            ]
        for one in _paired(self.sheets):
            made += [patch(one.before), patch(one.pixels)]
        return made


def _paired(sheets: Sequence[Sheet]) -> list[Any]:
    """Return the patches that are shown before and after."""
    return [one for sheet in sheets for one in sheet.samples if one.before is not None]


def _pairs(sheets: Sequence[Sheet], pictures: Any) -> tuple[PairView, ...]:
    return tuple(
        PairView(one.name, data_uri(next(pictures)), data_uri(next(pictures)))
        for one in _paired(sheets)
    )
