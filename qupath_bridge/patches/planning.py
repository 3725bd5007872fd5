"""Plan of an image's patches: the kept ones with their labels, and counts of the dropped ones.

Pure: from annotations, a grid and a rule to a table and counts. The result does not depend on the
order of the annotations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.errors import GeometryError, PlanError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.geometry.edges import as_array
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import (
    FIRST_PLANE,
    BoxArray,
    FloatArray,
    IntArray,
    LabelRule,
    PathObject,
    Plane,
    Reason,
)

from .boxes import PatchBoxes
from .centres import cores_at_centres
from .confusion import NO_CORRECTIONS, CorrectionReport, Heard, report_corrections
from .correcting import NO_STATEMENTS, BoxStatements, Statements, overrule
from .grid import Grid
from .labels import EPSILON, Decision, decide, object_labels, one_label
from .placed import PlacedBoxes, Placement
from .regions import ActiveRegion, PlanReport, Repair, select_regions
from .roles import role_of
from .shares import LabelRegions, UnionShares
from .table import PatchTable, Ragged

__all__ = [
    "KEPT",
    "PatchTable",
    "PlanReport",
    "PlannedPatches",
    "Repair",
    "TissueTest",
    "plan_patches",
]

KEPT = 255
"""The number of no reason: the box is a patch."""

Layout = Grid | Placement
"""The boxes that may become patches: of one grid, or placed around objects and regions."""

TissueTest = Callable[[BoxArray], FloatArray]
"""From boxes (N, 4) in QuPath pixels to the share of tissue in each, (N,)."""


@dataclass(frozen=True, slots=True, repr=False)
class PlannedPatches(OneLine):
    """Result of planning one image.

    Attributes
    ----------
    table : PatchTable
        The kept patches, sorted by z, t, row, col.
    dropped : mapping of Reason to int
        Number of dropped patches by the first reason that applies; every reason is a key.
    report : PlanReport
        Use of the annotations.
    reasons : tuple of bytes
        For each plane, one byte per box of the layout: the number of its reason in :class:`Reason`,
        :data:`KEPT` for a kept patch.
    corrections : CorrectionReport
        What became of the corrections.
    """

    table: PatchTable
    dropped: Mapping[Reason, int]
    report: PlanReport
    reasons: tuple[bytes, ...] = field(repr=False)
    corrections: CorrectionReport = NO_CORRECTIONS

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropped", FrozenDict(self.dropped))

    @property
    def by_label(self) -> dict[str, int]:
        """Number of kept patches by label, most first."""
        return self.table.label_counts()


def plan_patches(
    annotations: Sequence[PathObject],
    layout: Layout,
    rule: LabelRule,
    *,
    planes: Sequence[Plane] = (FIRST_PLANE,),
    tissue: TissueTest | None = None,
    tma_cores: Sequence[PathObject] = (),
    statements: Statements = NO_STATEMENTS,
) -> PlannedPatches:
    """Select the boxes that become patches, and assign their labels.

    Parameters
    ----------
    annotations : sequence of PathObject
        The annotations of the image, in any order, coordinates rounded to 0.01 px.
    layout : Grid or Placement
        The boxes that may become patches.
    rule : LabelRule
    planes : sequence of Plane
        Planes of the patches.
    tissue : callable, optional
        Called with the boxes of a plane that are neither excluded nor outside, some hundred
        thousand at a time. Boxes with less than ``rule.min_tissue`` are dropped; None keeps all.
    tma_cores : sequence of PathObject
        A box belongs to the core that contains its centre. Boxes in a missing core are
        ``outside``.
    statements : Statements
        Corrections of boxes. A rejected box is dropped whatever else holds; a new label takes
        the place of what the rule says, and of ``no_label``, and of nothing else.

    Raises
    ------
    PlanError
        If unclassified regions are an error, or polygons cannot be repaired.

    Notes
    -----
    Invalid polygons are always repaired here; ``report.repairs`` has the change of area, and the
    caller decides how much is too much.
    """
    try:
        return _plan(annotations, layout, rule, sorted(set(planes)), tissue, tma_cores, statements)
    except shapely.errors.GEOSException as error:
        raise PlanError(
            f"The geometry library fails on the regions of this image: {error}.",
            hint="Simplify or redraw the regions that cross one another in QuPath.",
        ) from error
    except GeometryError as error:
        raise PlanError(error.message, hint=error.hint) from error


def _plan(
    annotations: Sequence[PathObject],
    layout: Layout,
    rule: LabelRule,
    planes: Sequence[Plane],
    tissue: TissueTest | None,
    tma_cores: Sequence[PathObject],
    statements: Statements,
) -> PlannedPatches:
    by_object = isinstance(layout, Placement) and layout.kind == "objects"
    if by_object:  # regions only exclude, and say what is within
        annotations = [each for each in annotations if _limits(each, rule)]
    regions, report = select_regions(annotations, rule, planes, (layout.width, layout.height))
    names = {region.role.label for region in regions if region.role.label}
    if isinstance(layout, Placement) and layout.kind == "objects":
        names = set(layout.label_names)
    if rule.slide_label is not None:
        names = {rule.slide_label}
    if rule.background is not None and rule.labels:
        names.add(rule.background)
    context = _PlaneContext(
        layout,
        rule,
        tuple(sorted((names if rule.labels else set()) | statements.labels)),
        tuple(sorted({region.id for region in regions if region.role.kind == "label"})),
        _Cores.of(tma_cores),
        tissue,
        statements,
    )
    tables, codes, heard = [], [], []
    dropped = Counter({Reason.EDGE: sum(layout.on(plane).edge_dropped for plane in planes)})
    nothing = np.zeros(0, np.int64)
    everywhere = context.plan(planes[0], regions, nothing) if rule.all_planes else None
    for plane in planes:
        said = statements.on(plane)
        if everywhere is not None and not len(said):
            table, reasons, _ = everywhere
        else:
            here = regions if rule.all_planes else [r for r in regions if r.plane == plane]
            table, reasons, met = context.plan(plane, here, said)
            heard += met
        tables.append(_set_plane(table, plane))
        codes.append(reasons.tobytes())
        dropped.update({reason: int((reasons == n).sum()) for n, reason in enumerate(Reason)})
    return PlannedPatches(
        PatchTable.concatenate(tables),
        {reason: dropped[reason] for reason in Reason},
        report,
        tuple(codes),
        report_corrections(statements, heard, multi=rule.multi),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Cores:
    """TMA cores with an area, by name."""

    names: tuple[str, ...]
    missing: NDArray[np.bool_]
    polygons: NDArray[np.object_]

    @classmethod
    def of(cls, cores: Sequence[PathObject]) -> _Cores:
        with_area = sorted(
            (core.name or core.id, core.id, bool(core.missing), core.roi.geometry)
            for core in cores
            if core.roi and core.roi.has_area
        )
        return cls(
            tuple(name for name, _, _, _ in with_area),
            np.array([missing for _, _, missing, _ in with_area], np.bool_),
            as_array([repair(geometry)[0] for _, _, _, geometry in with_area]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _PlaneContext:
    """Values that all planes of an image share."""

    layout: Layout
    rule: LabelRule
    names: tuple[str, ...]
    region_names: tuple[str, ...]
    cores: _Cores
    tissue: TissueTest | None
    statements: Statements

    @property
    def by_object(self) -> bool:
        """True if objects label, not regions."""
        return isinstance(self.layout, Placement) and self.layout.kind == "objects"

    @property
    def object_names(self) -> tuple[str, ...]:
        """Ids of the objects of boxes."""
        return self.layout.object_names if isinstance(self.layout, Placement) else ()

    def _codes(self, labels: Ragged) -> Ragged:
        """Return labels of objects as codes of this plan; those of boxes with several are none."""
        if not isinstance(self.layout, Placement):
            return labels
        own = np.array([self.names.index(name) for name in self.layout.label_names], np.int64)
        rows = np.flatnonzero(labels.lengths == 1)
        return Ragged.of(rows, own[labels.codes[labels.offsets[rows]]], len(labels))

    def plan(
        self, plane: Plane, regions: Sequence[ActiveRegion], said: IntArray
    ) -> tuple[PatchTable, NDArray[np.uint8], list[Heard]]:
        """Plan the boxes of one plane with the regions that act on it, and what was said of it."""
        shapes, reasons, heard = _Shapes.of(regions, self), [], []

        def tables() -> Iterator[PatchTable]:
            for band in self.layout.on(plane).bands():
                here = BoxStatements.of(self.statements, said, band)
                table, codes, met = self._plan_band(shapes, band, here)
                reasons.append(codes)
                heard.extend(met)
                yield table

        return PatchTable.concatenate(tables()), np.concatenate(reasons), heard

    def _plan_band(
        self, shapes: _Shapes, grid: PatchBoxes, said: BoxStatements
    ) -> tuple[PatchTable, NDArray[np.uint8], list[Heard]]:
        """Plan some boxes."""
        rule, boxes = self.rule, grid.boxes()
        reasons = np.full(len(grid), KEPT, np.uint8)
        unknown = np.full(len(grid), np.nan)
        keep = np.ones(len(grid), np.bool_)

        def drop(reason: Reason, boxes_to_drop: NDArray[np.bool_]) -> None:
            reasons[keep & boxes_to_drop] = list(Reason).index(reason)
            np.logical_and(keep, ~boxes_to_drop, out=keep)

        drop(Reason.REJECTED, said.mask("rejected", len(grid)))
        excluded = shapes.excluded.of(grid)
        drop(Reason.EXCLUDED, excluded > rule.max_excluded_share + EPSILON)

        within = unknown
        if shapes.within is not None:
            within = shapes.within.of(grid)
            drop(Reason.OUTSIDE, within < rule.min_within - EPSILON)
        core = cores_at_centres(self.cores.polygons, grid)
        # Boxes outside all cores have -1, which selects the False at the end.
        drop(Reason.OUTSIDE, np.append(self.cores.missing, False)[core])

        tissue = unknown.copy()
        if self.tissue is not None:
            tissue[keep] = self.tissue(boxes[keep])
            if rule.min_tissue is not None:
                drop(Reason.NO_TISSUE, ~(tissue >= rule.min_tissue - EPSILON))

        by_rule, shares, contributions = self._label_boxes(shapes.labels, grid)
        placed = grid if isinstance(grid, PlacedBoxes) else None
        if placed is not None and self.by_object:
            several = placed.labels.lengths > 1
            drop(Reason.AMBIGUOUS, several & ~said.mask("corrected", len(grid)))
        heard = self._heard(said, by_rule, keep)
        measured = None if shapes.labels is None else shares
        decision, rule_labels = overrule(by_rule, said, rule, self.names, measured)
        if rule.labels:
            drop(Reason.NO_LABEL, ~decision.labelled)

        rows = np.flatnonzero(keep)
        col, row = grid.places(rows)
        zeros = np.zeros(len(rows), np.int32)
        table = PatchTable(
            boxes=boxes[rows],
            z=zeros,
            t=zeros,
            col=col.astype(np.int32),
            row=row.astype(np.int32),
            labels=decision.labels.take(rows),
            label_source=decision.source[rows],
            rule_labels=rule_labels.take(rows),
            label_share=decision.share[rows],
            margin=decision.margin[rows],
            shares=shares.take(rows),
            regions=contributions.take(rows),
            within_share=within[rows],
            excluded_share=excluded[rows],
            valid_share=grid.valid_share()[rows],
            tissue_share=tissue[rows],
            tma_core=core[rows].astype(np.int32),
            label_names=self.names,
            region_names=() if shapes.labels is None else self.region_names,
            core_names=self.cores.names,
            multi=rule.multi,
            objects=None if placed is None else placed.objects.take(rows),
            object_names=self.object_names,
            sized=isinstance(self.layout, Placement) and self.layout.sized,
        )
        return PatchTable.concatenate([table]), reasons, heard

    def _heard(
        self, said: BoxStatements, by_rule: Decision, keep: NDArray[np.bool_]
    ) -> list[Heard]:
        """Return what the rule says about boxes of statements, and which of them apply."""
        words = by_rule.labels.take(said.boxes).lists()
        kept = keep[said.boxes].tolist()
        return [
            Heard(one, tuple(self.names[code] for code in codes), one.kind == "rejected" or there)
            for one, codes, there in zip(said.each, words, kept, strict=True)
        ]

    def _label_boxes(
        self, regions: LabelRegions | None, grid: PatchBoxes
    ) -> tuple[Decision, Ragged, Ragged]:
        """Return labels and shares of all boxes; no shares where no region labels."""
        if regions is None:
            nothing = np.full(len(grid), np.nan)
            none = Ragged.empty(len(grid), values=True)
            if self.rule.slide_label is not None:
                code = self.names.index(self.rule.slide_label)
                return one_label(code, len(grid)), none, none
            if self.by_object and isinstance(grid, PlacedBoxes):
                return object_labels(self._codes(grid.labels)), none, none
            unlabelled = Ragged.empty(len(grid))
            source = np.full(len(unlabelled), -1, np.int8)
            return Decision(unlabelled, source, nothing, nothing), none, none
        result = regions.shares(grid)
        decision = decide(self.rule, self.names, result.shares, result.owners)
        return decision, result.shares, result.regions


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """The regions of one plane, ready to be measured in any part of the grid."""

    excluded: UnionShares
    within: UnionShares | None
    labels: LabelRegions | None

    @classmethod
    def of(cls, regions: Sequence[ActiveRegion], context: _PlaneContext) -> _Shapes:
        rule = context.rule
        labelling = [region for region in regions if region.role.kind == "label"]
        return cls(
            UnionShares([region for region in regions if region.role.kind == "excluded"]),
            UnionShares([region for region in regions if region.role.within])
            if rule.within or rule.within_any
            else None,
            LabelRegions(labelling, rule, context.names, context.region_names)
            if rule.labels and rule.slide_label is None and not context.by_object
            else None,
        )


def _limits(annotation: PathObject, rule: LabelRule) -> bool:
    """Return whether a region excludes, or counts for ``within``."""
    role = role_of(annotation.class_path, rule)
    return role.within or role.kind == "excluded"


def _set_plane(table: PatchTable, plane: Plane) -> PatchTable:
    z, t = (np.broadcast_to(np.int32(number), (len(table),)) for number in plane)
    return replace(table, z=z, t=t)
