"""Schemas of the JSON files that this library writes and reads again.

Anybody can have changed these files since they were written. Each is checked as a whole when it is
read; code behind that relies on keys and types.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = [
    "INPUT_NAME",
    "TISSUE_FILE",
    "BackupRecord",
    "ChangeRecord",
    "CorrectionKind",
    "CorrectionRecord",
    "LakeFileRecord",
    "LakePartRecord",
    "LakeRecord",
    "PredictionRecord",
    "ProjectRunRecord",
    "PseudonymRecord",
    "Record",
    "ReportRecord",
    "RunRecord",
    "ShownRecord",
    "SlideFacts",
    "StainProfileRecord",
    "first_fault",
    "parse_json",
]

FileName = Annotated[str, Field(pattern=r"^[^/\\:\x00]+$", max_length=255)]
"""A part of the name of a file or folder: it must not lead out of the folder that it is in."""
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Length = Annotated[int, Field(gt=0, lt=1 << 31)]
Pair = Annotated[list[Pixels], Field(min_length=2, max_length=2)]
Color = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
Size = Annotated[list[Length], Field(min_length=2, max_length=2)]


INPUT_NAME = r"^inputs/(?P<kind>[a-z-]+)/(?P<slide>[^/\\:\x00]+)-[0-9a-f]{16}\.[a-z]+$"
"""Names of the frozen inputs of a run in its output."""
InputName = Annotated[str, Field(pattern=INPUT_NAME)]
TISSUE_FILE = r"^tissue/(?P<slide>[^/\\:\x00]+)\.(png|geojson)$"
"""Names of the side files of a slide's tissue in an output."""


class _Json(BaseModel):
    # A command reads one or two kinds of files; the schemas of the others need not be built.
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class Record(_Json):
    """Base of the schemas of whole files."""

    schema_version: int


AnnotationsOrigin = Literal["project", "geojson", "live"]


class _RunSlide(_Json):
    slide_id: FileName | None
    entry_id: FileName
    slide_name: str
    project: str | None
    annotations_origin: AnnotationsOrigin | None


class _Project(_Json):
    path: str
    annotations: str | None
    skip_bad_features: bool


class _Encoder(_Json):
    name: str
    portable: bool


class _MaskClass(_Json):
    label: str
    value: Annotated[int, Field(ge=1, le=254)]
    color: Color


class RunRecord(Record):
    """``run.json`` of an output."""

    run_id: FileName
    state: Literal["running", "complete"]
    started: str
    finished: str | None
    command: list[str]
    tool: dict[str, Any]
    encoder: _Encoder
    projects: list[_Project]
    selection: dict[str, Any]
    config: dict[str, Any]
    options: dict[str, Any]
    config_digest: str
    labels: dict[str, str]
    classes: list[_MaskClass]
    slides: list[_RunSlide]
    inputs: dict[InputName, str] | None
    pseudonyms: str | None
    rows: dict[str, str]
    run_digest: str | None


class _Failure(_Json):
    entry_id: FileName
    slide_id: FileName | None
    slide_name: str
    error: str
    next: str | None
    project: str | None
    missing: str | None


class ProjectRunRecord(RunRecord):
    """``run.json`` of a run in a project."""

    out: str
    project: str
    tiles: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    failures: list[_Failure]

    @model_validator(mode="after")
    def _check_project(self) -> Self:
        if self.project not in {project.path for project in self.projects}:
            raise ValueError("the project is not one of the run's projects")
        return self


Label = str | list[str] | None


class _Confusion(_Json):
    rule: Label
    kind: Literal["corrected", "confirmed", "rejected"]
    pathologist: Label
    patches: Count


class _Corrections(_Json):
    corrected: Count
    confirmed: Count
    rejected: Count
    contested: Count
    dropped: Count
    other_grid: Count
    other_slide: Count
    refused: dict[str, Count]
    confusion: list[_Confusion]
    digest: str | None


class _QualitySummary(_Json):
    p5: float
    median: float
    p95: float
    patches: Count


class _SlideReport(_Json):
    entry_id: FileName
    slide_id: FileName
    slide_name: str
    written: Count
    by_label: dict[str, Count]
    dropped: dict[str, Count]
    regions: dict[str, Any]
    annotations_origin: AnnotationsOrigin
    quality: dict[str, _QualitySummary]
    corrections: _Corrections
    warnings: list[str]
    seconds: float | None


class _QualityOutlier(_Json):
    slide_id: FileName
    measure: str
    median: float
    cohort: float
    distance: float


class ReportRecord(Record):
    """``report.json``."""

    run_id: FileName
    written: Count
    slides: list[_SlideReport]
    confusion: list[_Confusion]
    quality_outliers: list[_QualityOutlier]
    failures: list[_Failure]


class _LakeRun(_Json):
    run_id: FileName
    place: str
    rows: dict[str, str]


class LakeFileRecord(_Json):
    """A file of a lake's copy; ``name`` is that below its version."""

    name: str
    rows: Count
    size: Count
    digest: str


class LakePartRecord(Record):
    """Files of one partition of a copy that is being made."""

    files: list[LakeFileRecord]


class LakeRecord(Record):
    """``lake.json`` of a copy of the patches of a lake."""

    version: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    written: str
    root: str
    by: list[Literal["project", "label"]]
    file_size: Count
    images: bool
    projects: dict[str, str | None]
    labels: dict[str, str | None]
    runs: list[_LakeRun]
    files: list[LakeFileRecord]
    rows: Count


class _Fingerprint(_Json):
    size: Count
    digest: str
    mtime_ns: int


class _PixelSize(_Json):
    x: Annotated[float, Field(gt=0)]
    y: Annotated[float, Field(gt=0)]
    origin: str


class _Coordinates(_Json):
    builder: dict[str, Any]
    size: Size
    matrix: list[list[float]]
    pixel_size: _PixelSize | None


PixelType = Annotated[str, Field(pattern=r"^(u?int(8|16|32)|float(32|64))$")]


class _Transform(_Json):
    kind: Literal["channel", "linear", "mean", "max", "min", "stain"]
    inputs: list[Count]
    numbers: list[float]


class _Transforms(_Json):
    kind: Literal["transforms"]
    transforms: list[_Transform]


class _Convert(_Json):
    kind: Literal["convert"]
    target: PixelType


class _Channels(_Json):
    all_names: list[str]
    all_colors: list[Color]
    dtype: PixelType
    indices: list[Count]
    file_names: list[str]
    steps: list[Annotated[_Transforms | _Convert, Field(discriminator="kind")]]
    projection: Literal["max"] | None
    color: bool

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if len(self.all_names) != len(self.all_colors):
            raise ValueError("each channel has a name and a colour")
        if any(index >= len(self.all_names) for index in self.indices):
            raise ValueError("there is no channel of such an index")
        return self


class _ChannelDisplay(_Json):
    name: str
    color: Color
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    shown: bool


class _Grid(_Json):
    box: Size
    step: Size
    origin: Pair
    placed: Literal["regions", "objects", "coordinates"] | None
    sized: bool
    mpp: Annotated[float, Field(gt=0)] | None
    downsample: Annotated[float, Field(gt=0)]
    read_level: Count


class _Counts(_Json):
    planned: Count
    by_label: dict[str, Count]
    dropped: dict[str, Count]


class _Tissue(_Json):
    method: str
    mpp: Annotated[float, Field(gt=0)] | None
    threshold: float | None
    share: Annotated[float, Field(ge=0, le=1)]
    file: Annotated[str, Field(pattern=TISSUE_FILE)]
    digest: str
    outline: str
    note: str | None


class _Stain(_Json):
    method: str
    version: str
    profile: Any
    target: Any
    reference_digest: str | None
    white: Any
    augment: float


class SlideFacts(Record):
    """The facts of a slide, in its partition and in ``<entry id>.json`` of a project."""

    run_id: FileName
    entry_id: FileName
    slide_id: FileName
    slide_name: str
    project: str | None
    uri: str | None
    path: str
    fingerprint: _Fingerprint
    fetched: Literal["copy", "ranges"] | None
    coordinates: _Coordinates
    channels: _Channels
    display: list[_ChannelDisplay] | None
    parts: dict[str, Any]
    plan_digest: str
    annotation_digest: str
    annotations_origin: AnnotationsOrigin
    slide_label: str | None
    annotations: dict[str, Annotated[list[str | None], Field(min_length=2, max_length=2)]]
    class_colors: dict[str, Color]
    grid: _Grid
    counts: _Counts
    quality: dict[str, _QualitySummary]
    stain: _Stain | None
    corrections: _Corrections
    regions: dict[str, Any]
    bad_tiles: list[Annotated[list[Count], Field(min_length=6, max_length=6)]]
    tissue: _Tissue | None
    warnings: list[str]
    seconds: float | None


class _Measurement(_Json):
    name: str
    column: str
    kind: Literal["raw", "softmax", "rank", "class", "hard"]
    patches: Count
    minimum: float | None
    maximum: float | None


class PredictionRecord(Record):
    """``record.json`` of predictions of a run, in a project."""

    name: str
    run_id: FileName
    time: str
    table: str
    table_digest: str
    key: Literal["patch_id", "tile_uuid"]
    rows: Count
    measurements: list[_Measurement]
    hard_by: Literal["entropy", "margin", "wrong"] | None
    carried_from: FileName | None
    tiles: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


class StainProfileRecord(Record):
    """A saved profile of stains."""

    method: str
    version: str
    profile: Any
    reference_digest: str
    references: list[str]


class BackupRecord(Record):
    """``record.json`` of a backup."""

    action: Literal["write", "undo"]
    run_id: FileName
    out: str
    replace: bool
    started: str
    engine: str


class ChangeRecord(Record):
    """``<entry id>.json`` of a backup."""

    entry_id: FileName
    slide_name: str
    before: str | None
    after: str | None
    removed: list[str]
    added: list[str]


class PseudonymRecord(Record):
    """A key file of pseudonyms."""

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    names: dict[Annotated[str, Field(pattern=r"^p-[a-z2-7]{20}$")], str]


CorrectionKind = Literal["corrected", "confirmed", "rejected", "withdrawn"]
Box = Annotated[tuple[Pixels, Pixels, Length, Length], Field(strict=False)]
PlaneIndex = Annotated[int, Field(ge=0, lt=1 << 31)]


class _ShownLayer(_Json):
    run_id: FileName
    only: list[str] | None = None
    without: list[str] = []


class ShownRecord(Record):
    """An event of a slide: the tiles that are shown after it."""

    key: FileName
    time: str
    action: Literal["show", "remove", "collect", "dismiss"]
    run_id: str | None
    shown: list[_ShownLayer]
    classes: dict[str, str | None]
    added: dict[str, Count]
    removed: dict[str, Count]
    rejected: Count


class CorrectionRecord(_Json):
    """One line of a file of corrections."""

    model_config = ConfigDict(extra="forbid")

    entry_id: FileName
    kind: CorrectionKind
    box: Box
    plane: Annotated[tuple[PlaneIndex, PlaneIndex], Field(strict=False)] = (0, 0)
    before: str | None
    after: str | None
    run_id: FileName
    rule_label: Label
    fingerprint: str
    time: str
    reviewer: str | None = None


def parse_json(content: str | bytes) -> Any:
    """Return the value of a JSON text; where an object has a key twice, the last one counts.

    Raises
    ------
    ValueError
        If it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def first_fault(error: ValidationError) -> str:
    """Return the first fault that a schema found, with its place, and the number of the others.

    >>> try:
    ...     _Fingerprint.model_validate({"size": 5, "digest": None, "mtime_ns": "x"})
    ... except ValidationError as error:
    ...     print(first_fault(error))
    digest: input should be a valid string (and 1 more)
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in faults[0]["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    text = faults[0]["msg"]
    return f"{place.lstrip('.') or 'the file'}: {text[:1].lower()}{text[1:]}{more}"
