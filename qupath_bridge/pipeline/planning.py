"""Planning slides: which patches to export, with which labels.

That reads the slide's annotations, the header of its file and, for a tissue test, a map of the
whole slide; never full-resolution pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qupath_bridge import registry
from qupath_bridge.codecs import Contents, encoder_of
from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.errors import BridgeError, MissingDataError, PlanError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import ImageData, PathObject, Slide
from qupath_bridge.patches import ids
from qupath_bridge.patches.correcting import read_statements
from qupath_bridge.patches.instances import instance_objects
from qupath_bridge.patches.planning import PlanReport, plan_patches
from qupath_bridge.patches.sampling import sample_patches
from qupath_bridge.patches.unclassified import use_names
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.readers import open_reader
from qupath_bridge.readers import reader_name as name_of_reader
from qupath_bridge.readers.base import Reader

from .channels import ChannelView, slide_view
from .composites import find_ranges, slide_composite
from .inputs import NO_INPUTS, SlideInputs, SlideKey, coordinates_of, slide_key
from .placing import place_boxes, placement_notes
from .plan import Failure, Plan, Plans
from .pseudonyms import OPEN, Names
from .rgb_only import check_rgb_options
from .scale import resolve_scale
from .slide_files import read_objects, slide_path
from .slide_labels import slide_rule
from .tissue import SlideTissue, find_slide_tissue

if TYPE_CHECKING:
    from .stain import StainPlan

__all__ = ["make_plan", "plan_slide", "plan_slides"]

REPAIR_LIMIT = 0.01
"""Share of a polygon's area that its repair may change before the slide is refused."""


def plan_slide(
    slide: Slide,
    config: ExportConfig | None = None,
    options: RunOptions | None = None,
    *,
    slide_id: str | None = None,
    inputs: SlideInputs = NO_INPUTS,
) -> Plan:
    """Decide which patches of a slide to export, and with which labels.

    Parameters
    ----------
    slide : Slide
        From a project that is still open.
    config : ExportConfig, optional
        Defaults where not given.
    options : RunOptions, optional
        Its ``reader`` reads the slide file.
    slide_id : str, optional
        Name of the slide in files; made of entry ID and slide name when not given.
    inputs : SlideInputs
        Corrections and live annotations.

    Raises
    ------
    ProjectError
        If the entry's data file cannot be read.
    SlideError
        If the slide is not found, does not fit what QuPath recorded, or cannot be planned.
    """
    config = config or ExportConfig()
    path = slide_path(slide)
    slide = inputs.applied(slide)
    data = read_objects(slide, config)
    name = (options or RunOptions()).reader
    with open_reader(path, name=name, on_bad_tile=config.on_bad_tile) as reader:
        return make_plan(
            slide, config, data, reader, slide_id=slide_id, reader_name=name, inputs=inputs
        )


def make_plan(
    slide: Slide,
    config: ExportConfig,
    data: ImageData,
    reader: Reader,
    *,
    slide_id: str | None = None,
    reader_name: str = "auto",
    inputs: SlideInputs = NO_INPUTS,
    names: Names = OPEN,
) -> Plan:
    """Plan a slide whose annotations are read and whose file is open; see :func:`plan_slide`."""
    spec, rule = config.grid_spec(), slide_rule(slide, config)
    scale = resolve_scale(slide, config, reader, coordinates_of(inputs))
    grid = scale.grid
    _check_planes(slide, config, reader)
    view, display = _channels(slide, config, data, reader, scale.coordinates)
    slide_id = slide_id or ids.slide_id(slide.entry_id, slide.name)
    annotations = use_names(data.annotations, rule)
    tissue, test = find_slide_tissue(
        replace(slide, name=names.reveal(slide.name)),  # masks are found by the real name
        slide_id,
        config,
        reader,
        scale.coordinates,
        view,
        scale.pixel_size,
        annotations,
        inputs.tissue,
    )
    statements = read_statements(
        inputs.corrections,
        rule,
        fingerprint=reader.fingerprint.digest,
        shown_labels=inputs.shown_labels,
    )
    try:
        placement = place_boxes(data, annotations, config, rule, scale)
        planned = plan_patches(
            annotations,
            placement or grid,
            rule,
            planes=spec.planes,
            tissue=test,
            tma_cores=data.tma_cores,
            statements=statements,
        )
    except PlanError as error:
        raise PlanError(f"{slide.name}: {error.message}", hint=error.hint) from error
    planned = sample_patches(
        planned,
        config.sampling(),
        step=(grid.step_x, grid.step_y),
        slide=reader.fingerprint.digest,
    )
    stain: StainPlan | None = None
    stain_notes: tuple[str, ...] = ()
    if config.stain != "none":
        from .stain import plan_stain  # with all that it needs, a part of the time of a start

        where = tissue.mask if tissue else None
        stain, stain_notes = plan_stain(
            config, reader, scale.coordinates, view, grid, data.stains, where
        )
    if not config.allow_repair:
        _refuse_big_repairs(slide, planned.report)
    return Plan(
        slide=slide,
        slide_id=slide_id,
        config=config,
        coordinates=scale.coordinates,
        grid=grid,
        table=planned.table,
        dropped=planned.dropped,
        reasons=planned.reasons,
        report=planned.report,
        annotations=annotations,
        annotation_digest=ids.annotation_digest(annotations),
        objects=_instances(config, data),
        fingerprint=reader.fingerprint,
        pixel_size=scale.pixel_size,
        mpp=grid.mpp,
        downsample=grid.downsample,
        read_level=scale.read_level,
        native=scale.native,
        resampling=scale.resampling,
        view=view,
        display=display,
        parts=_parts(config, reader, tissue),
        stain=stain,
        reader_name=reader_name,
        corrections=planned.corrections,
        annotations_origin=inputs.annotations_origin(slide),
        inputs=inputs,
        names=names,
        placement=placement,
        tissue=tissue,
        warnings=(
            *scale.notes,
            *([tissue.note] if tissue and tissue.note else ()),
            *stain_notes,
            *data.problems,
            *placement_notes(placement, config.placement()),
            *planned.report.warnings,
            *planned.corrections.warnings,
        ),
    )


def _instances(config: ExportConfig, data: ImageData) -> tuple[PathObject, ...]:
    """Return the detections that masks show, none if masks show annotations or nothing."""
    if not config.shows_detections:
        return ()
    return instance_objects(data.objects, config.instances)


def _channels(
    slide: Slide,
    config: ExportConfig,
    data: ImageData,
    reader: Reader,
    coordinates: CoordinateMap,
) -> tuple[ChannelView, Composite | None]:
    """Return what is exported of a slide, and how it is shown; refuse what cannot be done."""
    view = slide_view(slide, config, reader)
    display = slide_composite(config, view, data.properties)
    picture = config.composite and display is not None
    contents = Contents() if view.is_rgb or picture else Contents(view.names, view.dtype)
    try:
        check_rgb_options(config, view)
        encoder_of(config, contents)
    except (PlanError, UsageError) as error:
        raise PlanError(f"{slide.name}: {error.message}", hint=error.hint) from error
    if picture and display is not None:
        display = find_ranges(display, view, reader, coordinates)
    return view, display


def _parts(
    config: ExportConfig, reader: Reader, tissue: SlideTissue | None
) -> FrozenDict[str, str]:
    """Return which exchangeable parts decide the bytes, with the versions of foreign packages."""
    named = {
        "reader": [name_of_reader(reader)],
        "encoder": [config.format],
        "tissue": [] if tissue is None else [tissue.method],
        "stain": [] if config.stain == "none" else [registry.split_argument(config.stain)[0]],
        "quality": list(config.quality_rules().measures),
    }
    parts = {
        kind: ", ".join(registry.version(kind, name) for name in names)
        for kind, names in named.items()
        if names
    }
    more = {
        "reader": getattr(reader, "variant", None),
        "tissue": None if tissue is None else tissue.made_from,
    }
    return FrozenDict(
        {kind: f"{name} ({more[kind]})" if more.get(kind) else name for kind, name in parts.items()}
    )


def plan_slides(
    slides: Sequence[Slide],
    config: ExportConfig | None = None,
    options: RunOptions | None = None,
    *,
    slide_ids: Sequence[str] | None = None,
    inputs: Mapping[SlideKey, SlideInputs] = FrozenDict(),
) -> Plans:
    """Plan several slides; one that fails does not stop the others.

    ``slide_ids`` are their names in files, made of entry ID and slide name when not given;
    ``inputs`` has those of slides by :func:`~qupath_bridge.pipeline.inputs.slide_key`.

    Raises
    ------
    MissingDataError
        If a project has no folder ``data`` at all: nobody knows what was drawn on any slide.
    """
    plans, failures = [], []
    for number, slide in enumerate(slides):
        name = slide_ids[number] if slide_ids else None
        try:
            own = inputs.get(slide_key(slide), NO_INPUTS)
            plans.append(plan_slide(slide, config, options, slide_id=name, inputs=own))
        except BridgeError as error:
            if isinstance(error, MissingDataError) and error.whole_project:
                raise
            failures.append(Failure.of(slide, error, name))
    return Plans(plans, failures, config=config)


def _check_planes(slide: Slide, config: ExportConfig, reader: Reader) -> None:
    size_z, size_t = reader.planes
    for z, t in config.plane:
        if z >= size_z or t >= size_t:
            raise PlanError(
                f"{slide.name}: plane {z},{t} cannot be read; the reader has {size_z} z slice(s) "
                f"and {size_t} time point(s).",
                hint="Set plane to one that is there.",
            )
    if config.projection != "none" and slide.width is not None and slide.size_z != size_z:
        raise PlanError(
            f"{slide.name}: QuPath recorded {slide.size_z} z slice(s), the reader has "
            f"{size_z}: they cannot be projected.",
            hint="Leave projection out, or name another reader.",
        )


def _refuse_big_repairs(slide: Slide, report: PlanReport) -> None:
    for repair in report.repairs:
        if repair.change > REPAIR_LIMIT:
            raise PlanError(
                f"{slide.name}: annotation {repair.annotation_id} crosses itself; repairing it "
                f"changes its area from {repair.area_before:.1f} to {repair.area_after:.1f} px².",
                hint="Redraw it in QuPath, or accept the repaired shape with allow_repair.",
            )
