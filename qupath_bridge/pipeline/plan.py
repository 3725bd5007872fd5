"""The plan of a slide, a value: which patches will be exported, with which labels."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qupath_bridge.codecs import Contents, decode, keeps_colors
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import BridgeError, PlanError, UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, count, one_line
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import (
    RGB_CHANNELS,
    BoxArray,
    IntArray,
    PathObject,
    PixelArray,
    PixelSize,
    Reason,
    Slide,
)
from qupath_bridge.patches import ids
from qupath_bridge.patches.confusion import NO_CORRECTIONS, CorrectionReport
from qupath_bridge.patches.grid import Grid, written_sizes
from qupath_bridge.patches.placed import Placement
from qupath_bridge.patches.planning import PatchTable, PlanReport
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.readers.base import Fingerprint, Reader

from .channels import ChannelView
from .inputs import NO_INPUTS, SlideInputs
from .patch_pixels import PatchPixels
from .pseudonyms import OPEN, Names
from .slide_files import missing_place, slide_path
from .slide_labels import slide_rule
from .tissue import SlideTissue

if TYPE_CHECKING:
    from pathlib import Path

    from .stain import StainPlan

__all__ = ["Failure", "Plan", "Plans", "producer_of", "total_counts"]


@dataclass(frozen=True, slots=True, repr=False)
class Failure(OneLine):
    """A slide that could not be planned or exported, and why.

    ``hint`` says what to do next; ``slide_id`` is the name of the slide in files, ``project``
    the project file, and ``missing`` the place of a slide file that was not found.
    """

    entry_id: str
    slide_name: str
    error: str
    hint: str | None = None
    slide_id: str | None = None
    project: str | None = None
    missing: str | None = None

    @classmethod
    def of(cls, slide: Slide, error: BridgeError, slide_id: str | None = None) -> Failure:
        """Make a failure from the error that stopped a slide."""
        name = slide_id or ids.slide_id(slide.entry_id, slide.name)
        place = slide.project.place
        missing = missing_place(error)
        return cls(slide.entry_id, slide.name, error.message, error.hint, name, place, missing)


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """The patches that will be exported from one slide. Two plans are equal by their digest.

    Attributes
    ----------
    slide : Slide
    slide_id : str
        Name of the slide in files.
    config : ExportConfig
    coordinates : CoordinateMap
        QuPath's pixels to the pixels of the slide file.
    grid : Grid
        Its box and step say how large patches are; where they are, unless ``placement`` does.
    table : PatchTable
        The kept patches, in the order z, t, row, col.
    dropped : mapping of Reason to int
        Patches that are not written, by the first reason that holds.
    reasons : tuple of bytes
        For each plane, one byte per box of the grid: the number of its reason in ``Reason``, 255
        for a kept patch.
    report : PlanReport
        Regions left out by cause, repaired polygons.
    annotations : tuple of PathObject
        Every annotation of the slide; with ``unclassified = name`` names are classes.
    annotation_digest : str
    fingerprint : Fingerprint
        Of the slide file.
    pixel_size : PixelSize or None
        µm per QuPath pixel, and who said so.
    mpp : float or None
        Effective µm per written pixel, None if no pixel size is known.
    downsample, read_level
        Full-resolution pixels per written pixel, and the level that is read.
    native : bool
        Whether the patches are the own pixels of that level, not resampled.
    resampling : float
        Pixels of that level per written pixel; 1 where they are native.
    view : ChannelView
        The channels that are exported, their names, colours and type.
    display : Composite or None
        How QuPath shows these channels; None for RGB, which is shown as it is. Ranges that QuPath
        has not saved are open, unless pictures are exported.
    parts : mapping of str to str
        The exchangeable parts that take part, by kind.
    stain : StainPlan or None
        Colours of the slide and of the target, where stains are normalised.
    reader_name : str
        The reader that was asked for, ``auto`` where it was left to choose.
    corrections : CorrectionReport
        What became of the corrections.
    annotations_origin : str
        ``project``, ``geojson`` (files in place of the project's data) or ``live`` (a QuPath
        window).
    inputs : SlideInputs
        What the plan was made from besides the slide's own data.
    tissue : SlideTissue or None
        Where the tissue is, if the options ask for it.
    warnings : tuple of str
        Notes to read before trusting the labels.
    placement : Placement or None
        Where boxes are that are not on the grid: around objects, or from the corner of regions.
    objects : tuple of PathObject
        Detections that masks of single objects show.
    """

    slide: Slide
    slide_id: str
    config: ExportConfig
    coordinates: CoordinateMap
    grid: Grid
    table: PatchTable
    dropped: Mapping[Reason, int]
    reasons: tuple[bytes, ...]
    report: PlanReport
    annotations: tuple[PathObject, ...]
    annotation_digest: str
    fingerprint: Fingerprint
    pixel_size: PixelSize | None
    mpp: float | None
    downsample: float
    read_level: int
    native: bool
    resampling: float
    view: ChannelView
    display: Composite | None = None
    parts: Mapping[str, str] = field(default_factory=FrozenDict)
    stain: StainPlan | None = None
    reader_name: str = "auto"
    corrections: CorrectionReport = NO_CORRECTIONS
    annotations_origin: str = "project"
    inputs: SlideInputs = NO_INPUTS
    tissue: SlideTissue | None = None
    warnings: tuple[str, ...] = ()
    names: Names = OPEN
    placement: Placement | None = None
    objects: tuple[PathObject, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Plan) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return one_line(
            "Plan",
            count(len(self), "patch", "patches"),
            count(len(self.label_counts()), "label"),
            f"{sum(self.dropped.values())} dropped",
            entry=self.slide.entry_id,
            slide=self.slide.name,
        )

    def _repr_html_(self) -> str:
        """Return counts and a small preview for notebooks."""
        from .preview import preview_html

        return f"<p>{html.escape(repr(self))}</p>{counts_html([self])}{preview_html(self)}"

    @property
    def path(self) -> Path:
        """The slide file."""
        return slide_path(self.slide)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that decides this slide's patches and their bytes."""
        return ids.json_digest(self.digest_values())

    @property
    def layout(self) -> Grid | Placement:
        """The boxes that could be patches."""
        return self.placement or self.grid

    def candidates(self) -> BoxArray:
        """Return the boxes that the first of ``reasons`` is about, shape (N, 4)."""
        return self.layout.on(min(self.config.grid_spec().planes)).boxes()

    def sizes(self, boxes: BoxArray) -> IntArray:
        """Return width and height of boxes as they are written, pixels, shape (N, 2)."""
        return written_sizes(boxes, self.grid)

    @property
    def composite(self) -> Composite | None:
        """The display with which pictures are exported; None if channels are, or RGB."""
        return self.display if self.config.composite else None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of a patch: those that are exported, or those of a picture."""
        return self.view.names if self.composite is None else RGB_CHANNELS

    @property
    def dtype(self) -> str:
        """Type of the values of a patch, as numpy calls it."""
        return self.view.dtype if self.composite is None else "uint8"

    @property
    def contents(self) -> Contents:
        """Channels, type and pixel size of a patch."""
        if self.view.is_rgb or self.composite is not None:
            return Contents(mpp=self.mpp)
        colors = self.view.colors if keeps_colors(self.config.format) else ()
        return Contents(self.channels, self.dtype, self.mpp, colors)

    def label_counts(self) -> dict[str, int]:
        """Return the number of kept patches by label, most first."""
        return self.table.label_counts()

    def read(self, row: int, reader: Reader) -> PixelArray:
        """Read the pixels of one patch as they are written, with a reader of this slide.

        Returns
        -------
        array, shape (height, width, C), of the file's type

        Raises
        ------
        PlanError
            If reading drops the patch, by a quality limit.
        ReadError
            If the file cannot be read.
        """
        boxes, plane = self.table.boxes[[row]], self.table.plane(row)
        made = producer_of(self, reader).read(reader, boxes, plane, self.sizes(boxes))
        (patch,) = made.patches
        if patch is None:
            name = self.table.patch_id(self.slide_id, row)
            raise PlanError(
                f"{name} is dropped while it is read: quality.",
                hint="Change qc_min or qc_max to keep it.",
            )
        return decode(patch) if isinstance(patch, bytes) else patch

    def preview(self, path: Path | str) -> None:
        """Draw thumbnail, regions, kept patches and dropped boxes into a PNG or JPEG file."""
        from .preview import draw_preview

        draw_preview(self, path)

    def digest_values(self) -> dict[str, object]:
        """Return everything that decides this slide's patches, as plain JSON values.

        Machine, paths and engine take no part.
        """
        size, config = self.pixel_size, self.config.decisive()
        if self.tissue is not None and self.tissue.made_from is not None:
            config["tissue"] = self.tissue.method  # the argument names the place of a file
        return {
            "config": config,
            "quality": self.config.quality_rules().as_json(),
            "entry_id": self.slide.entry_id,
            "slide_id": self.slide_id,
            "fingerprint": [self.fingerprint.size, self.fingerprint.digest],
            "annotations": self.annotation_digest,
            "corrections": self.corrections.digest,
            "coordinates": self.coordinates.digest_values(),
            "view": self.view.digest_values(),
            "pixel_size": None if size is None else [size.x, size.y],
            "parts": dict(self.parts),
            "stain": None if self.stain is None else self.stain.as_json(),
            "composite": None if self.composite is None else self.composite.as_json(),
            "colors": [list(color) for color in self.contents.colors],
            **({} if self.placement is None else {"placement": self.placement.digest}),
            **({} if self.slide_label is None else {"slide_label": self.slide_label}),
            **({"objects": ids.annotation_digest(self.objects)} if self.objects else {}),
        }

    @property
    def slide_label(self) -> str | None:
        """Label of all patches, from the slide's metadata; None if regions label."""
        return slide_rule(self.slide, self.config).slide_label


class Plans(Sequence[Plan]):
    """The plans of several slides, and the slides that could not be planned.

    A sequence of :class:`Plan`; a plan is also found by entry ID, slide id or slide name.

    Attributes
    ----------
    failures : tuple of Failure
    warnings : tuple of str
        Notes about all slides together.
    config : ExportConfig or None
        Configuration of all plans; None if nothing was planned with any.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        failures: Sequence[Failure] = (),
        warnings: Sequence[str] = (),
        *,
        config: ExportConfig | None = None,
    ) -> None:
        self._plans = tuple(plans)
        self.config = self._plans[0].config if self._plans else config
        self.failures = tuple(failures)
        self.warnings = tuple(warnings)

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            found = [
                plan
                for plan in self._plans
                if key in {plan.slide.entry_id, plan.slide_id, plan.slide.name}
            ]
            if len(found) != 1:
                problem = "No slide" if not found else "More than one slide"
                raise UsageError(f"{problem} of these plans is called {key!r}.")
            return found[0]
        return self._plans[key]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plans):
            return NotImplemented
        return (self._plans, self.failures) == (other._plans, other.failures)

    def __hash__(self) -> int:
        return hash((self._plans, self.failures))

    def __repr__(self) -> str:
        failed = len(self.failures)
        return one_line(
            "Plans",
            f"{count(self.patches, 'patch', 'patches')} of {count(len(self), 'slide')}",
            f"{count(failed, 'slide')} failed" if failed else None,
        )

    def _repr_html_(self) -> str:
        """Return the counts of all slides for notebooks."""
        failed = "".join(
            f"<li>{html.escape(f.slide_name)}: {html.escape(f.error)}</li>" for f in self.failures
        )
        return f"<p>{html.escape(repr(self))}</p>{counts_html(self)}<ul>{failed}</ul>"

    @property
    def patches(self) -> int:
        """Number of patches that will be written."""
        return sum(len(plan) for plan in self._plans)

    def label_counts(self) -> dict[str, int]:
        """Return the number of kept patches by label, over all slides."""
        return dict(total_counts(self)[0].most_common())

    def dropped_counts(self) -> dict[str, int]:
        """Return the number of dropped patches by reason, over all slides; 0 for the others."""
        reasons = total_counts(self)[1]
        return {str(reason): reasons[str(reason)] for reason in Reason}


def counts_html(plans: Sequence[Plan]) -> str:
    """Return a table of patches by label and of dropped patches by reason."""
    labels, reasons = total_counts(plans)
    rows = [*labels.most_common(), *((f"dropped: {name}", n) for name, n in reasons.items() if n)]
    cells = "".join(f"<tr><td>{html.escape(str(name))}</td><td>{n}</td></tr>" for name, n in rows)
    return f"<table><tr><th>label</th><th>patches</th></tr>{cells}</table>"


def producer_of(plan: Plan, reader: Reader) -> PatchPixels:
    """Return what makes the pixels of the patches of a plan, with a reader of its slide."""
    return PatchPixels(
        plan.coordinates, plan.view, plan.config, plan.mpp, reader, plan.stain, plan.composite
    )


def total_counts(plans: Sequence[Plan]) -> tuple[Counter[str], Counter[str]]:
    """Return the kept patches by label and the dropped ones by reason, over all plans."""
    labels: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for one in plans:
        labels.update(one.label_counts())
        reasons.update({str(reason): n for reason, n in one.dropped.items()})
    return labels, reasons
