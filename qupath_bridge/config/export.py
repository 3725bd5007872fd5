"""Options that decide the patches and their bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, model_validator

from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError, UsageError

from .base import Model
from .declare import option, part
from .layout import layout_problem
from .quality import KEPT_RAW, QualityRules
from .values import (
    NO_PAIRS,
    Limits,
    Pairs,
    Share,
    Strings,
    as_names,
    as_pair,
    as_planes,
    as_priority,
    as_references,
    as_text,
    as_threshold,
    as_unclassified,
)
from .which import which_problems

if TYPE_CHECKING:
    from qupath_bridge.model import GridSpec, LabelRule, PlacementSpec, SampleSpec


PIXEL_SIZES = (0.01, 100.0)
"""µm per pixel of a slide that is believed.

No microscope resolves less, and no slide scanner has more; beyond, it is another unit.
"""

MAX_ORIGIN = 1 << 30
"""Pixels: boxes are written down with 32 bits."""


class ExportConfig(Model):
    """Options that decide the patches and their bytes: grid, regions, labels, tissue, files.

    All fields have the names of the command-line flags (``--min-share`` is ``min_share``).
    Values do not change; use :meth:`replace` for a changed copy.

    Raises
    ------
    ConfigError
        With every fault and its place.

    Examples
    --------
    >>> config = ExportConfig(size=224, mpp=0.5, map=["Tumor: *=Tumor"])
    >>> config.grid_spec().mpp
    0.5
    >>> ExportConfig(size=0, rule="most")
    Traceback (most recent call last):
    ...
    qupath_bridge.errors.ConfigError: size: should be greater than or equal to 1, not 0
    rule: should be 'majority', 'centre', 'threshold' or 'any', not 'most'; did you mean majority?
    """

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "patches": (
            "size",
            "mpp",
            "magnification",
            "level_zero",
            "stride",
            "edge",
            "origin",
            "around",
            "per_region",
            "margin",
            "plane",
            "pixel_size",
            "allow_upsampling",
            "mpp_tolerance",
        ),
        "sampling": ("max_per_label", "max_per_slide", "sample", "seed"),
        "regions": ("within", "min_within", "exclude", "max_excluded_share"),
        "labels": (
            "label_from",
            "rule",
            "min_share",
            "overlap",
            "priority",
            "map",
            "rollup",
            "unclassified",
            "background",
            "all_planes",
            "allow_repair",
            "labels",
        ),
        "tissue": ("tissue", "tissue_mpp", "tissue_threshold", "min_tissue"),
        "pixels": (
            "channels",
            "projection",
            "composite",
            "qc",
            "qc_min",
            "qc_max",
            "stain",
            "stain_reference",
            "stain_augment",
            "format",
            "jpeg_quality",
            "jpeg_subsampling",
            "passthrough",
            "on_bad_tile",
        ),
        "masks": ("masks", "instances"),
        "files": ("layout", "container"),
    }

    size: int = option(256, "side of a written patch, pixels", show="N", ge=1, le=16384)
    mpp: float | None = option(None, "µm per written pixel", show="UM", ge=1e-4, le=1e4)
    magnification: float | None = option(
        None,
        "objective magnification, from the slide's own objective power",
        show="X",
        ge=1e-3,
        le=1e4,
    )
    level_zero: bool = option(False, "cut patches of SIZE full-resolution pixels (the default)")
    stride: int | None = option(
        None,
        "step between patches, written pixels; SIZE when not given",
        show="N",
        ge=1,
        le=1 << 24,
    )
    edge: Literal["drop", "pad"] = option("drop", "what happens to patches that cross the edge")
    origin: Annotated[tuple[int, int], BeforeValidator(as_pair)] = option(
        (0, 0), "where the grid starts, full-resolution pixels", show="X,Y"
    )
    around: Strings = option(
        (),
        "one patch around each object instead of a grid; the object's class is the label; may be "
        "repeated",
        show="annotations|detections|cells|points[:CLASS]",
    )
    per_region: Literal["none", "picture", "grid"] = option(
        "none",
        "one picture of each region, with the size of its bounds, or a grid from each region's "
        "corner, instead of one grid",
    )
    margin: int | None = option(
        None,
        "cut the bounds of each object and this margin, written pixels, instead of SIZE; needs "
        "AROUND, or PER_REGION picture",
        show="N",
        ge=0,
        le=4096,
    )
    plane: Annotated[tuple[tuple[int, int], ...], BeforeValidator(as_planes)] = option(
        ((0, 0),), "plane to make patches on; may be repeated", show="Z,T", min_length=1
    )
    pixel_size: float | None = option(
        None,
        "µm per full-resolution pixel, instead of what project and slide say",
        show="UM",
        ge=PIXEL_SIZES[0],
        le=PIXEL_SIZES[1],
    )
    allow_upsampling: bool = option(False, "allow patches finer than the slide")
    mpp_tolerance: float = option(
        0.02,
        "take a level's own pixels, not resampled, where its resolution differs from the wanted "
        "one by this part at most; 0 always resamples",
        show="PART",
        ge=0,
        le=0.5,
    )

    max_per_label: int | None = option(
        None, "most patches of one label of each slide", show="N", ge=1, le=1 << 31
    )
    max_per_slide: int | None = option(
        None, "most patches of each slide", show="N", ge=1, le=1 << 31
    )
    sample: Literal["random", "grid"] = option(
        "random",
        "which patches are taken where a slide has more: at random, or spread evenly over it",
    )
    seed: int = option(
        0, "number that decides what SAMPLE random takes", show="N", ge=0, lt=1 << 63
    )

    within: Strings = option(
        (), 'keep patches inside this class, or inside "any" annotation', show="CLASS"
    )
    min_within: Share = option(0.5, "least share of a patch inside WITHIN", show="SHARE")
    exclude: Strings = option(
        (), "drop patches that overlap this class (Ignore* always drops)", show="CLASS"
    )
    max_excluded_share: Share = option(
        0.0, "share of excluded classes that a patch may have", show="SHARE"
    )

    label_from: str = option(
        "regions",
        "what labels: the regions that a patch has shares of, or one value of the slide's metadata",
        show="regions|metadata:KEY",
    )
    rule: Literal["majority", "centre", "threshold", "any"] = option(
        "majority", "how the label is chosen from the shares of the classes"
    )
    min_share: Share = option(0.5, "least share of a label", show="SHARE")
    overlap: Literal["innermost", "priority", "independent"] = option(
        "innermost", "which class owns area that several classes cover"
    )
    priority: Annotated[tuple[str, ...], BeforeValidator(as_priority)] = option(
        (), "labels in order, for ties and for OVERLAP priority", show="A,B"
    )
    map: Pairs = option(NO_PAIRS, "rename a class, as in 'Tumor: *=Tumor'", show="CLASS=LABEL")
    rollup: bool = option(False, "turn a derived class into its first level")
    unclassified: Annotated[str, BeforeValidator(as_unclassified)] = option(
        "skip",
        "regions without a class: skip, refuse, or take the annotation's name or one LABEL for all",
        show="skip|error|name|as=LABEL",
    )
    background: str = option(
        "drop", "patches without a label: drop, or the label that they get", show="drop|LABEL"
    )
    all_planes: bool = option(False, "let annotations of every plane act on every patch")
    allow_repair: bool = option(
        False, "accept repairs of a polygon that change its area by more than 1 %"
    )
    labels: bool = option(True, "give labels; without them every patch is kept")

    tissue: Annotated[str, part("tissue", besides=("none",), argument=True)] = option(
        "none", "what finds the tissue of a slide", show="NAME[:ARGUMENT]"
    )
    tissue_mpp: float = option(
        10.0,
        "µm per pixel of the map of a slide on which tissue is found",
        show="UM",
        ge=0.25,
        le=500,
    )
    tissue_threshold: Annotated[str | None, BeforeValidator(as_threshold)] = option(
        None,
        "value above which a pixel of the map is tissue, or Otsu's threshold; the method's own "
        "when not given",
        show="VALUE|otsu",
    )
    min_tissue: Share = option(0.5, "least share of a patch that is tissue", show="SHARE")

    channels: Annotated[tuple[str, ...], BeforeValidator(as_names)] = option(
        (),
        "channel to export, by name or by number from 1; in this order; all when not given",
        show="NAME|NUMBER",
    )
    projection: Literal["none", "max"] = option(
        "none", "how the z slices of a patch become one; max takes the largest values"
    )
    composite: bool = option(
        False,
        "write pictures for people: each channel in QuPath's colour over its display range, added "
        "up to RGB of 8 bit; slides that are RGB stay as they are",
    )
    qc: Strings = option(
        (),
        "quality measure to record, or a preset: standard (the usual ones), clean (with limits)",
        show="NAME",
    )
    qc_min: Limits = option(
        NO_PAIRS, "least value of a quality measure; patches below are dropped", show="NAME=VALUE"
    )
    qc_max: Limits = option(
        NO_PAIRS, "most of a quality measure; patches above are dropped", show="NAME=VALUE"
    )
    stain: Annotated[str, part("stain", besides=("none",), argument=True)] = option(
        "none", "stain normalisation", show="NAME[:ARGUMENT]"
    )
    stain_reference: Annotated[tuple[str, ...], BeforeValidator(as_references)] = option(
        (),
        "whose colours are the target of STAIN: pictures, slides (path#X,Y,W,H for a region), or "
        "one saved profile; those of a usual H&E slide when not given",
        show="FILE",
    )
    stain_augment: float = option(
        0.0,
        "by how much colours differ at random from patch to patch, in parts; needs STAIN",
        show="PART",
        ge=0,
        le=0.5,
    )
    format: Annotated[str, part("encoder")] = option(
        "png",
        "file format of a patch; containers of arrays hold raw pixels, and need none",
        show="FORMAT",
    )
    jpeg_quality: int = option(90, "JPEG quality", show="1-100", ge=1, le=100)
    jpeg_subsampling: Annotated[Literal["420", "422", "444"], BeforeValidator(as_text)] = option(
        "420",
        "colours of a JPEG file: at half the pixels in both directions, in one, or at all pixels",
    )
    passthrough: Literal["never", "auto"] = option(
        "never",
        "write JPEG tiles of the slide file as they are where they are just patches; auto does, "
        "with the quality of the slide",
    )

    on_bad_tile: Literal["fail", "background"] = option(
        "fail",
        "a tile of the slide file that cannot be decoded: the slide fails, or the tile is read as "
        "background (reader tiles), with a warning",
    )

    masks: Literal["none", "class", "instance", "both"] = option(
        "none", "masks to write beside the patches: of classes, of single objects, or both"
    )
    instances: Literal["annotations", "detections", "cells", "nuclei"] = option(
        "annotations", "objects that the masks of single objects show; needs MASKS"
    )

    layout: str = option(
        "patches/{slide_id}/{label}/{patch_id}",
        "names of the patch files, without their ending",
        show="TEMPLATE",
    )
    container: Annotated[str, part("output", argument=True)] = option(
        "folder", "what holds the patches", show="NAME[:ARGUMENT]"
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        chosen = [
            name
            for name, given in (
                ("mpp", self.mpp is not None),
                ("magnification", self.magnification is not None),
                ("level_zero", self.level_zero),
            )
            if given
        ]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other; give one of them")
        if not re.fullmatch(r"skip|error|name|as=.*\S.*", self.unclassified):
            raise ValueError("unclassified is skip, error, name or as=LABEL")
        if not self.background.strip():
            raise ValueError("background is drop, or the name of a label")
        if self.overlap == "priority" and not self.priority:
            raise ValueError("overlap = priority needs priority, the labels in order")
        if max(map(abs, self.origin)) > MAX_ORIGIN:
            raise ValueError(f"origin is at most {MAX_ORIGIN} pixels from the image's corner")
        if any(z < 0 or t < 0 for z, t in self.plane):
            raise ValueError("plane counts from 0,0")
        _check_tissue(self.tissue, self.tissue_threshold)
        for name in ("map", "priority", "within", "exclude", "channels"):
            if any(not str(value).strip() for value in getattr(self, name)):
                raise ValueError(f"{name} holds an empty name")
        self._check_label_from()
        self.quality_rules()
        for name in ("stain_reference", "stain_augment"):
            if self.stain == "none" and getattr(self, name):
                raise ValueError(f"{name} needs stain, the method of normalisation")
        if _holds_arrays(self.container):
            if "format" not in self.model_fields_set:
                self.__dict__["format"] = RAW
            elif self.format != RAW:
                raise ValueError(
                    f"format is raw in the container {self.container}, which holds pixels as they "
                    "are; leave it out, or choose a container of files, as tar"
                )
        if problem := next(which_problems(self), None):
            raise ValueError(problem)
        if problem := layout_problem(self.layout):
            raise ValueError(f"layout {problem}")
        self._check_masks()
        return self

    def _check_masks(self) -> None:
        default = type(self).model_fields["instances"].default
        if self.masks in {"none", "class"} and self.instances != default:
            raise ValueError("instances needs masks = instance or both")
        if self.masks == "none":
            return
        if self.overlap == "independent":
            raise ValueError(
                "masks need one class for each pixel; choose overlap = innermost or priority"
            )
        if not _holds_masks(self.container):
            raise ValueError(
                f"the container {self.container} holds no masks; choose folder, tar, parquet, h5 "
                "or zarr"
            )

    def _check_label_from(self) -> None:
        if self.label_from != "regions" and not self.label_key:
            raise ValueError("label_from is regions or metadata:KEY")
        if self.label_key is None:
            return
        fields = type(self).model_fields
        unused = [name for name in _OF_REGIONS if getattr(self, name) != fields[name].default]
        if unused:
            raise ValueError(
                f"label_from = {self.label_from} labels whole slides; {', '.join(unused)} would "
                "not be used"
            )

    @property
    def label_key(self) -> str | None:
        """Key of the metadata whose value labels all patches of a slide; None for regions."""
        kind, _, key = self.label_from.partition(":")
        return key.strip() or None if kind == "metadata" else None

    def decisive(self) -> dict[str, Any]:
        """Return the values that decide patches, as JSON: not the places of files.

        What a reference shows decides too; the plan has its digest.
        """
        return {name: v for name, v in self.as_json().items() if name != "stain_reference"}

    def quality_rules(self) -> QualityRules:
        """Return which quality measures are taken, and their limits."""
        return QualityRules.of(self.qc, self.qc_min, self.qc_max)

    def measured_columns(self) -> tuple[str, ...]:
        """Return the columns of the index that say what reading finds out about each patch."""
        columns = self.quality_rules().columns()
        return (*columns, *(() if self.stain == "none" else (KEPT_RAW,)))

    @property
    def shows_detections(self) -> bool:
        """True if masks show detections, which are read for nothing else."""
        return self.instances != "annotations"

    def grid_spec(self) -> GridSpec:
        """Return the part that says which boxes."""
        from qupath_bridge.model import GridSpec, Plane

        return GridSpec(
            size=self.size,
            stride=self.stride,
            mpp=self.mpp,
            magnification=self.magnification,
            edge=self.edge,
            origin=self.origin,
            planes=tuple(dict.fromkeys(Plane(z, t) for z, t in self.plane)),
            pixel_size=self.pixel_size,
            allow_upsampling=self.allow_upsampling,
            mpp_tolerance=self.mpp_tolerance,
        )

    def placement(self) -> PlacementSpec:
        """Return the part that says where boxes are."""
        from qupath_bridge.model import PlacementSpec

        if self.around:
            return PlacementSpec("objects", self.around, self.margin)
        if self.per_region == "picture":
            return PlacementSpec("objects", ("annotations",), self.margin or 0)
        return PlacementSpec("grid" if self.per_region == "none" else "regions")

    def sampling(self) -> SampleSpec:
        """Return the part that says how many patches of a slide are taken, and which."""
        from qupath_bridge.model import SampleSpec

        return SampleSpec(self.max_per_label, self.max_per_slide, self.sample, self.seed)

    @property
    def tissue_class(self) -> str | None:
        """The class whose annotations are the tissue; None if another method finds it."""
        name, argument = registry.split_argument(self.tissue)
        return argument if name == "qupath" else None

    def label_rule(self) -> LabelRule:
        """Return the part that says which labels."""
        from qupath_bridge.model import LabelRule

        kind, _, label = self.unclassified.partition("=")
        return LabelRule(
            rule=self.rule,
            min_share=self.min_share,
            overlap=self.overlap,
            priority=self.priority,
            rename=self.map,
            rollup=self.rollup,
            unclassified=kind,  # type: ignore[arg-type]  # the validator holds the values
            unclassified_as=label.strip() or None,
            background=None if self.background == "drop" else self.background,
            within=tuple(name for name in self.within if name != "any"),
            within_any="any" in self.within,
            min_within=self.min_within,
            exclude=self.exclude,
            max_excluded_share=self.max_excluded_share,
            all_planes=self.all_planes,
            labels=self.labels,
            min_tissue=None if self.tissue == "none" else self.min_tissue,
            tissue_class=self.tissue_class,
        )


_OF_REGIONS = ("rule", "min_share", "overlap", "priority", "labels")
"""Options of labels that come from shares of regions, and of no others."""

RAW = "raw"


def _check_tissue(tissue: str, threshold: str | None) -> None:
    """Refuse an argument or a threshold that a tissue method does not take.

    A method that cannot be loaded says what it lacks where it is used.
    """
    takes = False
    if tissue != "none":
        try:
            takes = registry.create("tissue", tissue).threshold is not None
        except MissingDependencyError:
            return
        except UsageError as error:
            raise ValueError(f"tissue: {error}") from error
    if threshold is not None and not takes:
        raise ValueError(f"tissue = {tissue} takes no tissue_threshold; tissue = saturation does")


def _holds_arrays(container: str) -> bool:
    """Return whether a container takes pixels instead of the bytes of files."""
    return _says(container, "accepts", "bytes") == "array"


def _holds_masks(container: str) -> bool:
    """Return whether a container has a place for masks beside patches."""
    return bool(_says(container, "holds_masks", False))


def _says(container: str, attribute: str, default: object) -> object:
    """Return what the class of a container says about itself.

    One that cannot be loaded says what it lacks where it is opened.
    """
    try:
        factory = registry.load("output", registry.split_argument(container)[0])
    except MissingDependencyError:
        return default
    said: object = getattr(factory, attribute, default)
    return said
