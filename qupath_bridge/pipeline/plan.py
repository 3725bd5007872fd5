"""From one image and a configuration to a plan: which patches, with which labels.

A plan is a value. Making one reads the entry's annotations, the slide's header and, for a tissue
test, its thumbnail; never full-resolution pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import BridgeError, PlanError, SlideError
from qupath_bridge.geometry.calibration import resolve_pixel_size
from qupath_bridge.geometry.coordinates import CoordinateMap, coordinate_map
from qupath_bridge.model import (
    Box,
    BoxArray,
    FloatArray,
    ImageData,
    PathObject,
    PixelArray,
    PixelSize,
    Reason,
    Slide,
)
from qupath_bridge.patches import ids
from qupath_bridge.patches.grid import Grid, resolve_grid
from qupath_bridge.patches.labels import check_class_names
from qupath_bridge.patches.planning import PatchTable, PlanReport, plan_patches
from qupath_bridge.pixels.resample import choose_level
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Fingerprint, Reader

from .pixels import read_patch, read_thumbnail

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Failure", "Plan", "check_classes", "plan", "plan_slides"]

REPAIR_LIMIT = 0.01
"""Share of a polygon's area that its repair may change before the image is refused."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A slide that could not be planned or exported, and why."""

    entry_id: str
    slide_name: str
    error: str
    hint: str | None = None

    @classmethod
    def of(cls, slide: Slide, error: BridgeError) -> Failure:
        """Make a failure from the error that stopped a slide."""
        return cls(slide.entry_id, slide.name, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be exported from one slide.

    Attributes
    ----------
    table : PatchTable
        The kept patches, in the order z, t, row, col.
    dropped : mapping of Reason to int
        Patches that are not written, by the first reason that holds.
    report : PlanReport
        Regions left out by cause, repaired polygons.
    annotations : tuple of PathObject
        Every annotation of the image.
    pixel_size : PixelSize or None
        µm per QuPath pixel, and who said so.
    mpp : float or None
        Effective µm per written pixel, None where no pixel size is known.
    warnings : tuple of str
        What the user should know before trusting the labels.
    """

    slide: Slide
    slide_id: str
    config: ExportConfig
    coordinates: CoordinateMap
    grid: Grid
    table: PatchTable
    dropped: Mapping[Reason, int]
    report: PlanReport
    annotations: tuple[PathObject, ...]
    annotation_digest: str
    fingerprint: Fingerprint
    pixel_size: PixelSize | None
    mpp: float | None
    downsample: float
    read_level: int
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def path(self) -> Path:
        """The slide file."""
        return slide_path(self.slide)

    def label_counts(self) -> dict[str, int]:
        """Return the number of kept patches by label, most first."""
        return self.table.label_counts()

    def read(self, row: int, reader: Reader) -> PixelArray:
        """Read the pixels of one patch, shape (size, size, 3), with a reader of this slide."""
        box = Box(*self.table.boxes[row].tolist())
        size = (self.config.size, self.config.size)
        pixels, _ = read_patch(reader, self.coordinates, box, size, self.table.plane(row))
        return pixels

    def preview(self, path: Path | str) -> None:
        """Draw thumbnail, regions and kept patches into a PNG file."""
        from .preview import draw_preview

        draw_preview(self, path)

    def digest_values(self) -> dict[str, object]:
        """Return what decides this slide's patches, as plain JSON values.

        Nothing of the machine, of paths, or of the engine takes part.
        """
        size = self.pixel_size
        return {
            "entry_id": self.slide.entry_id,
            "slide_id": self.slide_id,
            "fingerprint": [self.fingerprint.size, self.fingerprint.digest],
            "annotations": self.annotation_digest,
            "coordinates": self.coordinates.digest_values(),
            "pixel_size": None if size is None else [size.x, size.y],
        }


def slide_path(slide: Slide) -> Path:
    """Return the file of a slide, or raise with the places where it was looked for."""
    if slide.path is None:
        tried = f" Looked at {', '.join(slide.tried)}." if slide.tried else ""
        raise SlideError(
            f"{slide.name} (entry {slide.entry_id}): the slide file {slide.uri or '(no URI)'} "
            f"was not found.{tried}",
            hint="Say where it is with --search DIR or --slide-map OLD=NEW, "
            "or correct the path in QuPath.",
        )
    return slide.path


def plan(slide: Slide, config: ExportConfig | None = None) -> Plan:
    """Decide which patches of a slide to export, and with which labels.

    Parameters
    ----------
    slide : Slide
        From a project that is still open.
    config : ExportConfig, optional
        Defaults where not given.

    Raises
    ------
    ProjectError
        If the entry's data file cannot be read.
    SlideError
        If the slide is not found, does not fit what QuPath recorded, or cannot be planned.
    """
    config = config or ExportConfig()
    path = slide_path(slide)
    data = slide.read()
    with open_reader(path) as reader:
        return _plan(slide, config, data, reader)


def _plan(slide: Slide, config: ExportConfig, data: ImageData, reader: Reader) -> Plan:
    spec, rule = config.grid_spec(), config.label_rule()
    coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
    if slide.width is not None and slide.height is not None:
        coordinates.check_size((slide.width, slide.height))
    pixel_size, notes = resolve_pixel_size(
        spec.pixel_size, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
    )
    magnification = slide.magnification or reader.objective_power
    grid = resolve_grid(
        spec, image_size=coordinates.size, pixel_size=pixel_size, magnification=magnification
    )
    _check_planes(slide, config, reader)
    if rule.unclassified == "error":
        _refuse_unclassified(slide, data.annotations)
    planned = plan_patches(
        data.annotations,
        grid,
        rule,
        planes=spec.planes,
        tissue=_tissue_test(config, reader, coordinates),
        tma_cores=data.tma_cores,
    )
    if not config.allow_repair:
        _refuse_big_repairs(slide, planned.report)
    return Plan(
        slide=slide,
        slide_id=ids.slide_id(slide.entry_id, slide.name),
        config=config,
        coordinates=coordinates,
        grid=grid,
        table=planned.table,
        dropped=planned.dropped,
        report=planned.report,
        annotations=data.annotations,
        annotation_digest=ids.annotation_digest(data.annotations),
        fingerprint=reader.fingerprint,
        pixel_size=pixel_size,
        mpp=grid.mpp,
        downsample=grid.downsample,
        # As readers choose it: by the axis that needs the finer pixels.
        read_level=choose_level(reader.levels, min(grid.box_width, grid.box_height) / config.size),
        warnings=(*coordinates.notes, *notes, *data.problems, *planned.report.warnings),
    )


def plan_slides(
    slides: Sequence[Slide], config: ExportConfig
) -> tuple[tuple[Plan, ...], tuple[Failure, ...]]:
    """Plan several slides; one that fails does not stop the others."""
    plans, failures = [], []
    for slide in slides:
        try:
            plans.append(plan(slide, config))
        except BridgeError as error:
            failures.append(Failure.of(slide, error))
    return tuple(plans), tuple(failures)


def check_classes(plans: Sequence[Plan], config: ExportConfig) -> tuple[str, ...]:
    """Check the class names of a configuration against all images and the project together.

    Returns
    -------
    tuple of str
        Warnings: classes that the project knows and no image holds.

    Raises
    ------
    ConfigError
        If a class is nowhere to be found; the close matches are listed.
    """
    present = {o.class_path for plan in plans for o in plan.annotations if o.class_path}
    known = {info.path for plan in plans for info in plan.slide.project.classes}
    return check_class_names(config.label_rule(), sorted(present), sorted(known))


def pixel_size_warning(plans: Sequence[Plan]) -> str | None:
    """Warn when patches are cut in full-resolution pixels and these differ in size."""
    config = plans[0].config if plans else None
    if config is None or config.mpp is not None or config.magnification is not None:
        return None
    sizes = [plan.pixel_size.mean for plan in plans if plan.pixel_size]
    if not sizes or max(sizes) <= 1.01 * min(sizes):
        return None
    return (
        f"Pixel sizes differ between the slides ({min(sizes):.4g} to {max(sizes):.4g} µm), and "
        "patches are cut in full-resolution pixels: they cover different areas. "
        "Use --mpp to give all patches one scale."
    )


def _check_planes(slide: Slide, config: ExportConfig, reader: Reader) -> None:
    size_z, size_t = reader.planes
    for z, t in config.plane:
        if z >= size_z or t >= size_t:
            raise PlanError(
                f"{slide.name}: plane {z},{t} cannot be read; the reader has {size_z} z slice(s) "
                f"and {size_t} time point(s).",
                hint="Leave --plane out, or name one that is there.",
            )


def _refuse_unclassified(slide: Slide, annotations: Sequence[PathObject]) -> None:
    nameless = [a for a in annotations if a.class_path is None and a.roi and a.roi.has_area]
    if nameless:
        raise PlanError(
            f"{slide.name}: {len(nameless)} region(s) have no class, first {nameless[0].id}.",
            hint="Give them a class in QuPath, or use --unclassified skip or as=LABEL.",
        )


def _refuse_big_repairs(slide: Slide, report: PlanReport) -> None:
    for repair in report.repairs:
        if repair.change > REPAIR_LIMIT:
            raise PlanError(
                f"{slide.name}: annotation {repair.annotation_id} crosses itself; repairing it "
                f"changes its area from {repair.area_before:.1f} to {repair.area_after:.1f} px².",
                hint="Redraw it in QuPath, or accept the repaired shape with --allow-repair.",
            )


def _tissue_test(
    config: ExportConfig, reader: Reader, coordinates: CoordinateMap
) -> Callable[[BoxArray], FloatArray] | None:
    if config.tissue == "none":
        return None
    from qupath_bridge.pixels.tissue import tissue_shares

    thumbnail, scale = read_thumbnail(reader, coordinates)
    method = config.tissue
    return lambda boxes: tissue_shares(thumbnail, scale, boxes, method)


def total_counts(plans: Sequence[Plan]) -> tuple[Counter[str], Counter[str]]:
    """Return the kept patches by label and the dropped ones by reason, over all plans."""
    labels: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for one in plans:
        labels.update(one.label_counts())
        reasons.update({str(reason): n for reason, n in one.dropped.items()})
    return labels, reasons
