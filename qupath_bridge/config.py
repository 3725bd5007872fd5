"""Options of a run: which slides, what to make of them, and how to run.

Three models; each option stands in one of them, once: flags, keys of a TOML file, help texts and
``config init`` are made from its field. Every fault is reported at once, each with its place
(:class:`~qupath_bridge.errors.ConfigError`).
"""

from __future__ import annotations

import math
import re
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from . import registry
from .errors import ConfigError, Fault, UsageError
from .frozen import FrozenDict, OneLine, one_line
from .regular_files import read_regular
from .suggestions import similar_options, similar_value, value_advice

if TYPE_CHECKING:
    from .model import GridSpec, LabelRule

__all__ = ["ExportConfig", "Option", "RunOptions", "Selection", "Settings", "options"]


def _as_tuple(value: object) -> object:
    """Let one value stand for a list of one, and "A,B" stay one value."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _as_pair(value: object) -> object:
    """Read "X,Y" as two whole numbers."""
    if isinstance(value, str):
        parts = value.split(",")
        if len(parts) != 2:
            raise ValueError("should be two whole numbers, as in 0,0")
        try:
            return tuple(int(part) for part in parts)
        except ValueError:
            raise ValueError("should be two whole numbers, as in 0,0") from None
    return value


def _as_planes(value: object) -> object:
    if isinstance(value, str):
        return (_as_pair(value),)
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(part, int) for part in value):
            return (tuple(value),)
        return tuple(_as_pair(part) for part in value)
    return value


def _strip(text: str) -> str:
    """Take off plain white space only: a no-break space may be a part of a class name."""
    return text.strip(string.whitespace)


def _as_priority(value: object) -> object:
    """Read "A,B" as a list; a class name with a comma needs the list form."""
    if isinstance(value, str):
        return tuple(_strip(part) for part in value.split(",") if _strip(part))
    return value


def _as_pairs(value: object) -> object:
    """Read ["A=B", ...] as a mapping; the last ``=`` separates."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, list | tuple):
        pairs: dict[str, str] = {}
        for item in value:
            left, sign, right = str(item).rpartition("=")
            left, right = _strip(left), _strip(right)
            if not sign or not left or not right:
                raise ValueError(f"{item!r} is not of the form A=B")
            known = pairs.setdefault(left, right)
            if known != right:
                raise ValueError(f"{left} is given twice: {known} and {right}")
        return pairs
    return value


def _as_conditions(value: object) -> object:
    """Read ["A=B", "A=C", ...] or {"A": "B"} as a mapping of names to all their values."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, Mapping):
        return {key: _as_tuple(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        conditions: dict[str, tuple[str, ...]] = {}
        for item in value:
            left, sign, right = str(item).partition("=")
            if not sign or not left.strip():
                raise ValueError(f"{item!r} is not of the form KEY=VALUE")
            conditions[left.strip()] = (*conditions.get(left.strip(), ()), right.strip())
        return conditions
    return value


def _as_unclassified(value: object) -> object:
    """Read {"as": "Label"} as "as=Label"."""
    if isinstance(value, Mapping):
        if set(value) == {"as"}:
            return f"as={value['as']}"
        raise ValueError('the table form has one key, "as"')
    return value


def _as_text(value: object) -> object:
    """Let a TOML file hold a number where its digits are meant."""
    return str(value) if isinstance(value, int) else value


def _as_threshold(value: object) -> object:
    """Read a number from 0 to 1, or "otsu", as text."""
    if value == "otsu":
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise ValueError(f"should be otsu, or a number from 0 to below 1, not {value!r}")
    return repr(number)


MAX_TOML_BYTES = 1 << 20
"""Largest configuration file: the one with every option and its help has 10 kB."""

MAX_DEPTH = 4
"""Lists and tables in each other that a value may have; ``plane`` has two."""

SHOWN = 100
"""Characters of a wrong value that a message shows."""

PIXEL_SIZES = (0.01, 100.0)
"""µm per pixel of a slide that is believed.

No microscope resolves less, and no slide scanner has more; beyond, it is another unit.
"""

MAX_ORIGIN = 1 << 30
"""Pixels: boxes are written down with 32 bits."""

Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Pairs = Annotated[Mapping[str, str], BeforeValidator(_as_pairs), AfterValidator(FrozenDict)]
Limits = Annotated[Mapping[str, float], BeforeValidator(_as_pairs), AfterValidator(FrozenDict)]
Conditions = Annotated[
    Mapping[str, tuple[str, ...]], BeforeValidator(_as_conditions), AfterValidator(FrozenDict)
]
Share = Annotated[float, Field(ge=0, le=1)]
_NO_PAIRS: FrozenDict[str, Any] = FrozenDict()


@dataclass(frozen=True)
class _Part:
    """Accepts the name of an exchangeable part, with ``NAME:ARGUMENT`` where that is allowed."""

    kind: str
    besides: tuple[str, ...] = ()
    argument: bool = False

    def __call__(self, value: str) -> str:
        name = registry.split_argument(value)[0] if self.argument else value
        if value not in self.besides:
            try:
                registry.check(self.kind, name)
            except UsageError as error:
                known = self.names()
                close = similar_value(name, known)
                meant = f"; did you mean {close}?" if close else ""
                raise ValueError(
                    f"no {self.kind} is called {name!r}; known: {', '.join(known)}{meant}"
                ) from error
        return value

    def names(self) -> tuple[str, ...]:
        return (*self.besides, *registry.names(self.kind))


def _part(kind: str, *, besides: Sequence[str] = (), argument: bool = False) -> AfterValidator:
    return AfterValidator(_Part(kind, tuple(besides), argument))


def _option(default: Any, description: str, *, show: str | None = None, **rest: Any) -> Any:
    """Declare an option: its default, what help says, and how its value is shown (``N``, ...)."""
    return Field(default=default, description=description, json_schema_extra={"show": show}, **rest)


class _Model(BaseModel):
    """Values that are checked once and never change; a fault is always a ConfigError."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, validate_default=False
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]]
    """Names of the options by the table of a TOML file in which they may stand."""
    places: ClassVar[bool] = False
    """True if its texts are names of files, which need not be UTF-8."""

    def __init__(self, **values: Any) -> None:
        flat, places, faults = _flatten(values, self.groups)
        unfit = list(_value_faults(flat, type(self).model_fields, places=type(self).places))
        faults += [_placed(fault, places) for fault in unfit]
        wrong = {fault.place for fault in unfit}
        try:
            super().__init__(**{name: flat[name] for name in flat if name not in wrong})
        except pydantic.ValidationError as error:
            known = tuple(type(self).model_fields)
            found = [_fault(detail, known) for detail in error.errors()]
            faults += [_placed(fault, places) for fault in found]
        if faults:
            raise ConfigError(faults)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> Self:
        """Check values and return them as options, or raise with every fault at once.

        Parameters
        ----------
        values : mapping
            Option names to values; groups as in a TOML file (``[labels]``) may stand as tables.
        source : str
            What the values come from, put before the place of each fault.

        Raises
        ------
        ConfigError
        """
        try:
            return cls(**values)
        except ConfigError as error:
            raise error.within(source) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed, checked again."""
        return type(self)(**{**self.model_dump(), **changes})

    def as_json(self) -> dict[str, Any]:
        """Return all values as plain JSON values."""
        return self.model_dump(mode="json")

    def __repr__(self) -> str:
        """Return one line with the values that are not the default ones."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in fields}
        changed = {name: v for name, v in values.items() if v != fields[name].default}
        return one_line(type(self).__name__, **changed)

    __str__ = __repr__


class Selection(_Model):
    """Options that select slides. Without any, all slides take part.

    Raises
    ------
    ConfigError
        With every fault and its place.
    """

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"slides": ("entry", "where", "tag")}

    entry: Strings = _option(
        (),
        "entry ID, slide name or glob over names; id:1 and name:1 say which is meant; may be "
        "repeated",
        show="SLIDE",
    )
    where: Conditions = _option(
        _NO_PAIRS,
        "metadata that a slide must have; globs are allowed, several values of one key are "
        "alternatives, and different keys must all fit",
        show="KEY=VALUE",
    )
    tag: Strings = _option((), "tag that a slide must have; may be repeated", show="TAG")


class ExportConfig(_Model):
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
            "plane",
            "pixel_size",
            "allow_upsampling",
            "mpp_tolerance",
        ),
        "regions": ("within", "min_within", "exclude", "max_excluded_share"),
        "labels": (
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
        "tissue": ("tissue", "tissue_threshold", "min_tissue"),
        "pixels": ("qc_min", "stain", "format", "jpeg_quality", "jpeg_subsampling"),
        "files": ("layout", "container"),
    }

    size: int = _option(256, "side of a written patch, pixels", show="N", ge=1, le=16384)
    mpp: float | None = _option(None, "µm per written pixel", show="UM", ge=1e-4, le=1e4)
    magnification: float | None = _option(
        None,
        "objective magnification, from the slide's own objective power",
        show="X",
        ge=1e-3,
        le=1e4,
    )
    level_zero: bool = _option(False, "cut patches of SIZE full-resolution pixels (the default)")
    stride: int | None = _option(
        None,
        "step between patches, written pixels; SIZE when not given",
        show="N",
        ge=1,
        le=1 << 24,
    )
    edge: Literal["drop", "pad"] = _option("drop", "what happens to patches that cross the edge")
    origin: Annotated[tuple[int, int], BeforeValidator(_as_pair)] = _option(
        (0, 0), "where the grid starts, full-resolution pixels", show="X,Y"
    )
    plane: Annotated[tuple[tuple[int, int], ...], BeforeValidator(_as_planes)] = _option(
        ((0, 0),), "plane to make patches on; may be repeated", show="Z,T", min_length=1
    )
    pixel_size: float | None = _option(
        None,
        "µm per full-resolution pixel, instead of what project and slide say",
        show="UM",
        ge=PIXEL_SIZES[0],
        le=PIXEL_SIZES[1],
    )
    allow_upsampling: bool = _option(False, "allow patches finer than the slide")
    mpp_tolerance: float = _option(
        0.02,
        "take a level's own pixels, not resampled, where its resolution differs from the wanted "
        "one by this part at most; 0 always resamples",
        show="PART",
        ge=0,
        le=0.5,
    )

    within: Strings = _option(
        (), 'keep patches inside this class, or inside "any" annotation', show="CLASS"
    )
    min_within: Share = _option(0.5, "least share of a patch inside WITHIN", show="SHARE")
    exclude: Strings = _option(
        (), "drop patches that overlap this class (Ignore* always drops)", show="CLASS"
    )
    max_excluded_share: Share = _option(
        0.0, "share of excluded classes that a patch may have", show="SHARE"
    )

    rule: Literal["majority", "centre", "threshold", "any"] = _option(
        "majority", "how the label is chosen from the shares of the classes"
    )
    min_share: Share = _option(0.5, "least share of a label", show="SHARE")
    overlap: Literal["innermost", "priority", "independent"] = _option(
        "innermost", "which class owns area that several classes cover"
    )
    priority: Annotated[tuple[str, ...], BeforeValidator(_as_priority)] = _option(
        (), "labels in order, for ties and for OVERLAP priority", show="A,B"
    )
    map: Pairs = _option(_NO_PAIRS, "rename a class, as in 'Tumor: *=Tumor'", show="CLASS=LABEL")
    rollup: bool = _option(False, "turn a derived class into its first level")
    unclassified: Annotated[str, BeforeValidator(_as_unclassified)] = _option(
        "skip",
        "regions without a class: skip, refuse, or take the annotation's name or one LABEL for all",
        show="skip|error|name|as=LABEL",
    )
    background: str = _option(
        "drop", "patches without a label: drop, or the label that they get", show="drop|LABEL"
    )
    all_planes: bool = _option(False, "let annotations of every plane act on every patch")
    allow_repair: bool = _option(
        False, "accept repairs of a polygon that change its area by more than 1 %"
    )
    labels: bool = _option(True, "give labels; without them every patch is kept")

    tissue: Annotated[str, _part("tissue", besides=("none",), argument=True)] = _option(
        "none", "tissue test on the thumbnail", show="NAME[:ARGUMENT]"
    )
    tissue_threshold: Annotated[str, BeforeValidator(_as_threshold)] = _option(
        "otsu",
        "probability above which a pixel of the thumbnail is tissue, or Otsu's threshold",
        show="VALUE|otsu",
    )
    min_tissue: Share = _option(0.5, "least share of a patch that is tissue", show="SHARE")

    qc_min: Limits = _option(
        _NO_PAIRS, "least value of a quality measure; patches below are dropped", show="NAME=VALUE"
    )
    stain: Annotated[str, _part("stain", besides=("none",), argument=True)] = _option(
        "none", "stain normalisation", show="NAME[:ARGUMENT]"
    )
    format: Annotated[str, _part("encoder")] = _option(
        "png", "file format of a patch", show="FORMAT"
    )
    jpeg_quality: int = _option(90, "JPEG quality", show="1-100", ge=1, le=100)
    jpeg_subsampling: Annotated[Literal["420", "422", "444"], BeforeValidator(_as_text)] = _option(
        "420",
        "colours of a JPEG file: at half the pixels in both directions, in one, or at all pixels",
    )

    layout: str = _option(
        "patches/{slide_id}/{label}/{patch_id}",
        "names of the patch files, without their ending",
        show="TEMPLATE",
    )
    container: Annotated[str, _part("output", argument=True)] = _option(
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
        if self.tissue == "otsu" and self.tissue_threshold != "otsu":
            raise ValueError(
                "tissue = otsu has its own threshold; use tissue = saturation with a "
                "tissue_threshold"
            )
        for name in ("map", "priority", "within", "exclude"):
            if any(not str(value).strip() for value in getattr(self, name)):
                raise ValueError(f"{name} holds an empty name")
        for name in self.qc_min:
            try:
                registry.check("quality", name)
            except UsageError as error:
                raise ValueError(f"qc_min: {error}") from error
        if problem := layout_problem(self.layout):
            raise ValueError(f"layout {problem}")
        return self

    def grid_spec(self) -> GridSpec:
        """Return the part that says which boxes."""
        from .model import GridSpec, Plane

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

    def label_rule(self) -> LabelRule:
        """Return the part that says which labels."""
        from .model import LabelRule

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
        )


class RunOptions(_Model):
    """Options of running: engine, reader, places, workers. They never change a patch's bytes.

    What is read at another place does, and the plan of a slide says so.

    Raises
    ------
    ConfigError
        With every fault and its place.
    """

    places: ClassVar[bool] = True
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "places": (
            "slide_map",
            "search",
            "annotations",
            "skip_bad_features",
            "preview",
            "provenance",
        ),
        "running": (
            "workers",
            "runner",
            "engine",
            "qupath",
            "reader",
            "resume",
            "update",
            "break_lock",
            "progress",
        ),
    }

    slide_map: Pairs = _option(
        _NO_PAIRS,
        "where slides moved: where one fits, they are at no other place; may be repeated",
        show="OLD=NEW",
    )
    search: Strings = _option((), "folder in which to look for slides by name", show="DIR")
    annotations: Path | None = _option(
        None,
        "GeoJSON in place of what the project has: a file, or a folder with a file per slide, "
        "found by the slide's name",
        show="PLACE",
    )
    skip_bad_features: bool = _option(
        False, "leave out GeoJSON features that cannot be read, and name them"
    )
    preview: Path | None = _option(
        None, "picture of the plan, PNG or JPEG; one per slide where there are several", show="FILE"
    )
    provenance: bool = _option(True, "write the run's tiles as GeoJSON into the project")

    workers: int | None = _option(
        None, "number of workers; the number of cores when not given", show="N", ge=1
    )
    runner: Annotated[str, _part("runner", argument=True)] = _option(
        "threads", "what runs the work", show="NAME[:ARGUMENT]"
    )
    engine: Annotated[str, _part("source")] = _option(
        "auto", "what reads and writes the project: QuPath's own classes or our reader", show="NAME"
    )
    qupath: Path | None = _option(
        None, "folder of the QuPath that the engine paquo uses; the newest found", show="DIR"
    )
    reader: Annotated[str, _part("reader", besides=("auto",))] = _option(
        "auto", "what reads the slide files", show="NAME"
    )
    resume: bool = _option(False, "finish a run that was interrupted")
    update: bool = _option(False, "export again only what has changed")
    break_lock: bool = _option(
        False, "take an output over from a run that seems to be at work there"
    )
    progress: Literal["auto", "jsonl", "none"] = _option("auto", "progress on stderr")

    def only(self, *names: str) -> RunOptions:
        """Return a copy with the options of these names; all others have their default."""
        return RunOptions(**{name: getattr(self, name) for name in names})

    def changed(self, *besides: str) -> tuple[str, ...]:
        """Return the names of the options that differ from their default, but for some."""
        fields = type(self).model_fields
        return tuple(
            name
            for name, field in fields.items()
            if name not in besides and getattr(self, name) != field.default
        )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.resume and self.update:
            raise ValueError("resume and update exclude each other; give one of them")
        if self.skip_bad_features and self.annotations is None:
            raise ValueError("skip_bad_features needs annotations, the GeoJSON files")
        return self


_MODELS: tuple[type[_Model], ...] = (Selection, ExportConfig, RunOptions)


@dataclass(frozen=True, slots=True, repr=False)
class Option(OneLine):
    """One option as its model declares it: for flags, help texts and files.

    ``choices`` is empty where any value of the type is accepted; ``show`` is how help writes the
    value; ``kind`` is ``flag``, ``number``, ``integer``, ``path`` or ``text``; ``part`` is the
    kind of exchangeable part that the option names, None if it names none.
    """

    name: str
    group: str
    description: str
    default: Any
    kind: str
    show: str
    choices: tuple[str, ...]
    repeated: bool
    part: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names that the option accepts; empty where it accepts any value."""
        if self.part is None:
            return self.choices
        return (*self.choices, *registry.names(self.part))


def options() -> Iterator[Option]:
    """Yield every option, in the order of the models and their groups."""
    for model in _MODELS:
        for group, names in model.groups.items():
            for name in names:
                yield _describe(name, group, model.model_fields[name])


def _describe(name: str, group: str, field: Any) -> Option:
    annotation, default = field.annotation, field.default
    choices = getattr(annotation, "__args__", ()) if "Literal[" in str(annotation) else ()
    checks = [getattr(each, "func", None) for each in field.metadata]
    part = next((check for check in checks if isinstance(check, _Part)), None)
    kinds = {bool: "flag", int: "integer", float: "number", Path: "path"}
    plain = next((k for k in (annotation, *getattr(annotation, "__args__", ())) if k in kinds), str)
    repeated = isinstance(default, tuple | Mapping) and name not in {"origin", "priority"}
    return Option(
        name=name,
        group=group,
        description=field.description,
        default=default,
        kind="text" if repeated or isinstance(default, tuple) else kinds.get(plain, "text"),
        show=(field.json_schema_extra or {}).get("show") or "|".join(choices) or name.upper(),
        choices=part.besides if part else choices,
        repeated=repeated,
        part=part.kind if part else None,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Settings(OneLine):
    """All options of a command: which slides, what to make, how to run."""

    selection: Selection
    config: ExportConfig
    options: RunOptions

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> Settings:
        """Check values and share them out to the three models, or raise with every fault at once.

        Raises
        ------
        ConfigError
        """
        groups = {group: names for model in _MODELS for group, names in model.groups.items()}
        flat, places, faults = _flatten(values, groups)
        known = {name: model for model in _MODELS for name in model.model_fields}
        faults += [Fault(name, _unknown(name, list(known))) for name in flat if name not in known]
        made: list[Any] = []
        for model in _MODELS:
            try:
                made.append(model(**{k: v for k, v in flat.items() if known.get(k) is model}))
            except ConfigError as error:
                faults += [_placed(fault, places) for fault in error.faults]
        if faults:
            raise ConfigError(faults).within(source)
        return cls(*made)

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read a TOML file; ``overrides`` win over it, and None there unsets an option.

        Raises
        ------
        ConfigError
            With every fault of the file and its place.
        """
        path = Path(path)
        try:
            values = tomllib.loads(read_regular(path, MAX_TOML_BYTES).decode("utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError([Fault(str(path), "no such file")]) from None
        except UnicodeDecodeError as error:
            raise ConfigError([Fault(str(path), f"not UTF-8 text: {error}")]) from error
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError([Fault(str(path), str(error))]) from error
        except ValueError as error:  # Python's own limit
            raise ConfigError([Fault(str(path), "a number has too many digits")]) from error
        except RecursionError as error:
            raise ConfigError([Fault(str(path), "nested too deeply")]) from error
        settings = cls.parse(values, source=str(path))
        return settings.replace(**overrides) if overrides else settings

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some options changed, whichever model they belong to.

        None stands for the default.

        Raises
        ------
        ConfigError
        """
        known = {name for model in _MODELS for name in model.model_fields}
        values = {
            name: value
            for model in (self.selection, self.config, self.options)
            for name, value in model.model_dump().items()
        }
        unset = {name for name, value in changes.items() if value is None and name in known}
        merged = {**values, **changes}
        return self.parse({name: v for name, v in merged.items() if name not in unset})


def layout_problem(template: str) -> str | None:
    """Return what is wrong with a layout, None for one that gives every patch its own name.

    >>> layout_problem("patches/{label}/{patch_id}"), layout_problem("{label}")
    (None, 'must begin with patches/')
    """
    fields = re.findall(r"\{([^{}]*)\}", template)
    unknown = [name for name in fields if name not in LAYOUT_FIELDS]
    rest = re.sub(r"\{[^{}]*\}", "x", template)
    if not template.startswith("patches/"):
        return "must begin with patches/"
    if "{" in rest or "}" in rest or unknown:
        return f"may use {', '.join('{' + name + '}' for name in LAYOUT_FIELDS)} only"
    if not template.endswith("{patch_id}"):
        return "must end with {patch_id}, or patches would overwrite each other"
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", rest) or ".." in rest or "//" in rest:
        return "may have letters, digits, '.', '_', '-' and '/' between the fields"
    return None


LAYOUT_FIELDS = ("slide_id", "entry_id", "project", "label", "patch_id")


def _flatten(
    values: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, str], list[Fault]]:
    """Lift the tables of a TOML file; a key may stand in its own group or at the top.

    The second value is the place of each key that stands in a group.
    """
    flat: dict[str, Any] = {}
    places: dict[str, str] = {}
    faults = []
    for key, value in values.items():
        # "labels" and "tissue" name a group and an option: a table is the group.
        if key in groups and isinstance(value, Mapping):
            for inner, inner_value in value.items():
                if inner not in groups[key]:
                    faults.append(Fault(f"{key}.{inner}", _misplaced(inner, key, groups)))
                elif inner in values and inner not in groups:
                    faults.append(Fault(f"{key}.{inner}", "is given twice: here and at the top"))
                else:
                    flat[inner] = inner_value
                    places[inner] = f"{key}.{inner}"
        else:
            flat[key] = value
    return flat, places, faults


def _misplaced(name: str, group: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Return what is wrong with an option in a group that does not have it."""
    home = next((other for other, names in groups.items() if name in names), None)
    return f"belongs in [{home}]" if home else _unknown(name, groups[group])


def _value_faults(
    values: Mapping[str, Any], fields: Mapping[str, Any], *, places: bool
) -> Iterator[Fault]:
    """Yield a fault for each value that must not reach the checks of a model.

    A truth value would be taken as a number there, a deep one exhausts the stack, and text of
    bytes that are not UTF-8 cannot be written into an index. ``places`` says that texts of the
    model are names of files, which may be so.
    """
    for name, value in values.items():
        inside = _look_into(value)
        if inside.depth > MAX_DEPTH:
            yield Fault(name, "nested too deeply")
        elif inside.truth and name in fields and fields[name].annotation is not bool:
            yield Fault(name, "should not be true or false")
        elif inside.undecodable and not places:
            yield Fault(name, "has bytes in it that are not UTF-8 text")


class _Inside(NamedTuple):
    """Facts about a value: it holds a truth value, or text that is not UTF-8; its depth."""

    truth: bool
    undecodable: bool
    depth: int


def _look_into(value: object) -> _Inside:
    stack: list[tuple[Any, int]] = [(value, 0)]
    truth, undecodable, deepest = False, False, 0
    while stack and deepest <= MAX_DEPTH:
        each, depth = stack.pop()
        deepest = max(deepest, depth)
        truth = truth or isinstance(each, bool)
        undecodable = undecodable or (isinstance(each, str) and not _is_unicode(each))
        if isinstance(each, Mapping):
            stack += [(item, depth + 1) for pair in each.items() for item in pair]
        elif isinstance(each, list | tuple):
            stack += [(item, depth + 1) for item in each]
    return _Inside(truth, undecodable, deepest)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _placed(fault: Fault, places: Mapping[str, str]) -> Fault:
    """Return a fault with the group in which its option stands."""
    name, dot, rest = fault.place.partition(".")
    return Fault(places.get(name, name) + dot + rest, fault.problem)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = " or ".join(similar_options(name, known))
    return "no such option" + (f"; did you mean {close}?" if close else "")


def _fault(detail: Any, known: Sequence[str]) -> Fault:
    """Turn one of pydantic's error details into a fault in plain words."""
    place = ".".join(str(part) for part in detail["loc"])
    kind, message, value = detail["type"], detail["msg"], detail.get("input")
    if kind == "extra_forbidden":
        return Fault(place, _unknown(place, known))
    if kind == "value_error":
        text = str(detail["ctx"]["error"])
        return Fault(place or text.split(" ", 1)[0], text)
    message = message.removeprefix("Input ").removeprefix("Value ")
    message = message.removesuffix(", unable to parse string as a number")
    message = message.removesuffix(", unable to parse string as an integer")
    return Fault(place, f"{message}, not {_shortened(value)}{_meant(place, kind, value)}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _meant(name: str, kind: str, value: object) -> str:
    """Return what was likely meant by a value that is not accepted."""
    option = next((each for each in options() if each.name == name), None)
    advice = value_advice(name, value, _ACCEPTED.get(kind, ""))
    if advice is None and option is not None and kind == "literal_error":
        close = similar_value(value, option.choices)
        advice = f"did you mean {close}?" if close else None
    return f"; {advice}" if advice else ""


_ACCEPTED = {
    "literal_error": "choice",
    "int_parsing": "integer",
    "int_from_float": "integer",
    "float_parsing": "number",
}
"""Accepted kind of value by pydantic's name of the error."""
