"""Survey of all slides before the first pixel: classes, labels, scales, names.

Slides are read one after the other, and several together where they have to be waited for: those
of object storage. Only a few facts of each are kept in memory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.config.masks import CLASS_MASK, mask_kinds
from qupath_bridge.errors import (
    BridgeError,
    ConfigError,
    MissingDataError,
    PlanError,
    UsageError,
)
from qupath_bridge.frozen import FrozenDict, count
from qupath_bridge.model import LabelRule, PathObject, Slide
from qupath_bridge.parallel import ordered_map
from qupath_bridge.patches import ids
from qupath_bridge.patches.correcting import read_statements
from qupath_bridge.patches.mask_classes import MaskClass, number_classes
from qupath_bridge.patches.roles import check_class_names, label_of, role_of
from qupath_bridge.patches.unclassified import (
    NO_REGIONS,
    RegionCounts,
    count_regions,
    unclassified_note,
    use_names,
)
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Reader
from qupath_bridge.urls import url_of

from .channels import ChannelView, slide_view
from .inputs import NO_INPUTS, SlideInputs, SlideKey, coordinates_of, slide_key
from .placing import placed_classes
from .plan import Plan
from .pseudonyms import OPEN, Names
from .scale import mixture_warning, resolve_scale
from .slide_files import read_annotations, slide_path
from .slide_labels import check_label_key, metadata_values

__all__ = [
    "SlideFacts",
    "Survey",
    "name_slides",
    "survey",
    "survey_plans",
]

log = logging.getLogger("qupath_bridge")

AT_ONCE = 8
"""Slides of projects in object storage that are read together."""

LISTED = 8
"""Names of channels that are listed."""

SAME_SCALE = 1.01
"""Largest ratio of pixel sizes that counts as one scale."""


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """A slide as the survey saw it.

    Attributes
    ----------
    classes : tuple of str
        Classes of its annotations, sorted.
    pixel_size : float or None
        Mean µm per full-resolution pixel, None if unknown.
    native : bool or None
        Whether its patches are the slide's own pixels, not resampled; None if it cannot be
        planned, or its file was not opened.
    pixels : str or None
        Channels and type of what is exported, in words; None if it cannot be planned.
    problem : str or None
        Reason why annotations or slide file cannot be read; the slide's own task fails with it.
    regions : RegionCounts
        How many regions there are, and how many of them have no class.
    inputs : SlideInputs
        Corrections and live annotations.
    colors : mapping of str to (int, int, int)
        Colours that its annotations have for their classes.
    """

    slide: Slide
    slide_id: str
    classes: tuple[str, ...] = ()
    pixel_size: float | None = None
    native: bool | None = None
    pixels: str | None = None
    problem: str | None = None
    regions: RegionCounts = NO_REGIONS
    inputs: SlideInputs = NO_INPUTS
    colors: Mapping[str, tuple[int, int, int]] = FrozenDict()

    @property
    def annotations_origin(self) -> str:
        """Origin of the annotations."""
        return self.inputs.annotations_origin(self.slide)


@dataclass(frozen=True, slots=True)
class Survey:
    """The common facts of all slides of a run.

    Attributes
    ----------
    slides : tuple of SlideFacts
    labels : mapping of str to str
        Every label that a patch can get, and its folder name.
    warnings : tuple of str
    classes : tuple of MaskClass
        Every label that a pixel of a mask can have; none if there are no such masks.
    """

    slides: tuple[SlideFacts, ...]
    labels: FrozenDict[str, str]
    warnings: tuple[str, ...] = ()
    classes: tuple[MaskClass, ...] = ()


def survey(
    slides: Sequence[Slide],
    config: ExportConfig,
    options: RunOptions | None = None,
    *,
    inputs: Mapping[SlideKey, SlideInputs] = FrozenDict(),
    shown_names: Names = OPEN,
) -> Survey:
    """Read annotations without detections, and file headers, of all slides of a run.

    Slides in object storage are not opened: what only their headers say is not compared.

    ``inputs`` has corrections and live annotations of slides by
    :func:`~qupath_bridge.pipeline.inputs.slide_key`; ``shown_names`` name slides in files.

    Raises
    ------
    ConfigError
        If the configuration names a class that no slide and no project has.
    UsageError
        If two slides would get one name.
    MissingDataError
        If a project has no folder ``data`` at all.
    """
    reader = (options or RunOptions()).reader
    seen = [_seen(slide, inputs.get(slide_key(slide), NO_INPUTS)) for slide in slides]
    check_label_key(seen, config)
    names = name_slides(slides, shown_names)
    waits = any(slide.project.is_stored for slide in slides)
    known = (
        SlideFacts(slide, names[slide_key(slide)], inputs=inputs.get(slide_key(slide), NO_INPUTS))
        for slide in slides
    )
    look = partial(_look_at, config=config, reader=reader)
    facts = tuple(ordered_map(look, known, workers=AT_ONCE if waits else 1))
    return _combine(facts, config, unread=any(fact.problem for fact in facts))


def survey_plans(plans: Sequence[Plan], config: ExportConfig, *, unread: bool = False) -> Survey:
    """Return the survey of slides that are planned already, with the configuration of the run.

    ``unread`` says that other slides of the run could not be planned: then nobody knows which
    classes those hold, and a class that is found nowhere is a warning.

    Raises
    ------
    ConfigError
        If the configuration names a class that no slide and no project has.
    UsageError
        If a slide is planned more than once.
    """
    facts = tuple(
        SlideFacts(
            plan.slide,
            plan.slide_id,
            _classes(plan.annotations, plan.placement.classes if plan.placement else ()),
            plan.pixel_size.mean if plan.pixel_size else None,
            plan.native,
            _in_words(plan.view),
            regions=_regions(plan.annotations, plan.config),
            inputs=plan.inputs,
            colors=class_colors(objects=plan.annotations),
        )
        for plan in plans
    )
    twice = [name for name, n in Counter(fact.slide_id for fact in facts).items() if n > 1]
    if twice:
        raise UsageError(f"More than one plan is for slide {twice[0]}.", hint="Plan it once.")
    return _combine(facts, config, unread=unread)


def name_slides(slides: Iterable[Slide], shown_names: Names = OPEN) -> dict[tuple[str, str], str]:
    """Return the name of each slide in files, by :func:`~qupath_bridge.pipeline.inputs.slide_key`.

    The project's name is a part of it where slides of several projects take part; of both,
    ``shown_names`` may be pseudonyms.

    Raises
    ------
    UsageError
        If two slides get the same name.
    """
    slides = list(slides)
    folders = ids.project_names(slide.project.folder for slide in slides)
    names: dict[tuple[str, str], str] = {}
    users: dict[str, Slide] = {}
    for slide in slides:
        name = ids.slide_id(slide.entry_id, shown_names.hide(slide.name))
        if len(folders) > 1:
            name = f"{shown_names.hide(folders[slide.project.folder.resolve()])}_{name}"
        other = users.setdefault(ids.comparable_name(name), slide)
        if other is not slide:
            raise UsageError(
                f"Slides {other.name} (entry {other.entry_id}) and {slide.name} (entry "
                f"{slide.entry_id}) would both be called {name}.",
                hint="Export them into one output each, with the option entry.",
            )
        names[slide_key(slide)] = name
    return names


def _seen(slide: Slide, inputs: SlideInputs) -> Slide:
    """Return a slide as it is planned; as it is where its own task will say what is wrong."""
    try:
        return inputs.applied(slide)
    except PlanError:
        return slide


def _look_at(facts: SlideFacts, config: ExportConfig, reader: str) -> SlideFacts:
    slide = facts.slide
    try:
        path = slide_path(slide)
        data = read_annotations(facts.inputs.applied(slide), config)
        annotations = use_names(data.annotations, config.label_rule())
        classes = _classes(annotations, placed_classes(data, config))
        size = slide.pixel_size.mean if slide.pixel_size else None
        if config.pixel_size is not None:
            size = config.pixel_size
        native = pixels = None
        # In object storage it would be copied now, and again when its turn comes.
        if url_of(path) is None:
            with open_reader(path, name=reader) as opened:
                if size is None and opened.pixel_size is not None:
                    size = sum(opened.pixel_size) / 2
                native, pixels = _is_native(facts, config, opened), _pixels(slide, config, opened)
    except BridgeError as error:
        if isinstance(error, MissingDataError) and error.whole_project:
            raise
        log.info("%s: %s", slide.name, error)
        return replace(facts, problem=str(error))
    regions = _regions(annotations, config)
    return replace(
        facts,
        classes=classes,
        pixel_size=size,
        native=native,
        pixels=pixels,
        regions=regions,
        colors=class_colors(objects=annotations),
    )


def _classes(annotations: Iterable[PathObject], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({a.class_path for a in annotations if a.class_path} | {*more}))


def _regions(annotations: Iterable[PathObject], config: ExportConfig) -> RegionCounts:
    """Count regions where they label."""
    return NO_REGIONS if config.placement().kind == "objects" else count_regions(annotations)


def _is_native(facts: SlideFacts, config: ExportConfig, reader: Reader) -> bool | None:
    try:
        return resolve_scale(facts.slide, config, reader, coordinates_of(facts.inputs)).native
    except BridgeError:
        return None  # the slide's own task says why


def _pixels(slide: Slide, config: ExportConfig, reader: Reader) -> str | None:
    try:
        return _in_words(slide_view(slide, config, reader))
    except BridgeError:
        return None  # the slide's own task says why


def _in_words(view: ChannelView) -> str:
    names, more = view.names[:LISTED], len(view.names) - LISTED
    return f"{', '.join(names)}{f' and {more} more' if more > 0 else ''} of {view.dtype}"


def _combine(facts: tuple[SlideFacts, ...], config: ExportConfig, *, unread: bool) -> Survey:
    rule = config.label_rule()
    present = sorted({name for fact in facts for name in fact.classes})
    projects = {fact.slide.project.path: fact.slide.project for fact in facts}
    known = sorted({info.path for project in projects.values() for info in project.classes})
    values = metadata_values([_seen(fact.slide, fact.inputs) for fact in facts], config)
    around = config.placement().classes
    warnings = list(_class_warnings(rule, [*present, *values], known, around, unread=unread))
    if note := unclassified_note([fact.regions for fact in facts], rule):
        warnings.append(note)
    if note := _scale_warning([f.pixel_size for f in facts if f.pixel_size], config):
        warnings.append(note)
    if note := mixture_warning([f.native for f in facts if f.native is not None]):
        warnings.append(note)
    if note := _pixels_warning([f.pixels for f in facts if f.pixels], config):
        warnings.append(note)
    labels = {role.label for name in present if (role := role_of(name, rule)).label}
    unclassified = role_of(None, rule).label
    labels |= {label for label in (unclassified, rule.background) if label}
    # A slide that is unread now may be readable when its turn comes: its classes are likely known.
    labels |= {role.label for name in known if (role := role_of(name, rule)).label}
    if config.label_key is not None:
        labels = {label_of(value, rule) for value in values}
        labels |= {rule.background} if rule.background else set()
    given = _labels_of_corrections(facts, rule)
    if rule.labels and (new := sorted(given - labels)):
        warnings.append(
            f"Corrections give {count(len(new), 'label')} that no class of the slides or of the "
            f"project gives: {', '.join(map(repr, new))}."
        )
    labels |= given
    folders = ids.label_folders(sorted(label for label in labels if label))
    classes = _mask_classes(facts, [*present, *known], config)
    return Survey(facts, FrozenDict(folders), tuple(warnings), classes)


def _mask_classes(
    facts: Iterable[SlideFacts], paths: Iterable[str], config: ExportConfig
) -> tuple[MaskClass, ...]:
    """Return the labels that regions of some classes give, with values and colours for masks."""
    if CLASS_MASK not in mask_kinds(config.masks):
        return ()
    rule = config.label_rule()
    colors: dict[str, tuple[int, int, int]] = {}
    for fact in facts:
        for path, color in class_colors(fact.slide.project.classes).items():
            colors.setdefault(path, color)
    for fact in facts:
        for path, color in fact.colors.items():
            colors.setdefault(path, color)
    labels: dict[str, tuple[int, int, int]] = {}
    for name in (*sorted(set(paths)), None):
        if label := role_of(name, rule).label:
            own = colors.get(label) or colors.get(name or "")
            labels.setdefault(label, own or label_color(label, colors))
    return number_classes(labels)


def _labels_of_corrections(facts: Iterable[SlideFacts], rule: LabelRule) -> frozenset[str]:
    """Return the labels that corrections give, whichever of them have a box in the grid."""
    found: frozenset[str] = frozenset()
    for fact in facts:
        said, shown = fact.inputs.corrections, fact.inputs.shown_labels
        found |= read_statements(said, rule, shown_labels=shown).labels
    return found


def _class_warnings(
    rule: LabelRule,
    present: Sequence[str],
    known: Sequence[str],
    around: Sequence[str],
    *,
    unread: bool,
) -> tuple[str, ...]:
    """Check the classes that the configuration names; with a slide unread nothing is certain."""
    try:
        notes = check_class_names(rule, present, known, around)
    except ConfigError as error:
        if not unread:
            raise
        return tuple(f"{fault}; other slides may have it" for fault in error.faults)
    return () if unread else notes


def _scale_warning(sizes: Sequence[float], config: ExportConfig) -> str | None:
    """Warn when patches are cut in full-resolution pixels and these differ in size."""
    in_pixels = config.mpp is None and config.magnification is None
    if not in_pixels or not sizes or max(sizes) <= SAME_SCALE * min(sizes):
        return None
    return (
        f"Pixel sizes differ between the slides ({min(sizes):.4g} to {max(sizes):.4g} µm), and "
        "patches are cut in full-resolution pixels: they cover different areas. "
        "Set mpp to give all patches one scale."
    )


def _pixels_warning(pixels: Sequence[str], config: ExportConfig) -> str | None:
    """Warn when slides have other channels or another type than others of the run."""
    kinds = Counter(pixels).most_common()
    if len(kinds) < 2 or config.composite:  # pictures are alike
        return None
    listed = "; ".join(f"{kind} ({count(number, 'slide')})" for kind, number in kinds)
    return (
        f"The slides have {len(kinds)} kinds of pixels: {listed}. A model takes one kind: choose "
        "channels that all slides have with the option channels, or select slides."
    )
