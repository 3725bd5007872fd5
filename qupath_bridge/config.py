"""The configuration of a run: one name everywhere, as flag, TOML key and Python argument.

Every fault is reported at once, each with its place (:class:`~qupath_bridge.errors.ConfigError`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .errors import ConfigError, Fault
from .model import GridSpec, LabelRule, Plane

__all__ = ["GROUPS", "ExportConfig"]


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
            raise ValueError("two whole numbers are wanted, as in 0,0")
        try:
            return tuple(int(part) for part in parts)
        except ValueError:
            raise ValueError("two whole numbers are wanted, as in 0,0") from None
    return value


def _as_planes(value: object) -> object:
    if isinstance(value, str):
        return (_as_pair(value),)
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(part, int) for part in value):
            return (tuple(value),)
        return tuple(_as_pair(part) for part in value)
    return value


def _as_priority(value: object) -> object:
    """Read "A,B" as a list; a class name with a comma needs the list form."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _as_pairs(value: object) -> object:
    """Read ["A=B", ...] as a mapping; the last ``=`` separates."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, list | tuple):
        pairs: dict[str, str] = {}
        for item in value:
            left, sign, right = str(item).rpartition("=")
            if not sign or not left.strip() or not right.strip():
                raise ValueError(f"{item!r} is not of the form A=B")
            pairs[left.strip()] = right.strip()
        return pairs
    return value


def _as_unclassified(value: object) -> object:
    """Read {"as": "Label"} as "as=Label"."""
    if isinstance(value, Mapping):
        if set(value) == {"as"}:
            return f"as={value['as']}"
        raise ValueError('the table form has one key, "as"')
    return value


MAX_ORIGIN = 1 << 30
"""Pixels: boxes are written down with 32 bits."""

Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Pairs = Annotated[dict[str, str], BeforeValidator(_as_pairs)]
Share = Annotated[float, Field(ge=0, le=1)]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "images": ("entry", "where", "tag"),
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
    "tissue": ("tissue", "min_tissue"),
    "pixels": ("format", "quality", "stain"),
    "files": ("slide_map", "search", "preview", "provenance"),
    "running": ("workers", "engine", "qupath", "resume", "update", "progress"),
}
"""Option names by group; the digest of a plan leaves out ``files`` and ``running``."""


class ExportConfig(BaseModel):
    """What the user asked for: images, patches, labels, pixels, and how to run.

    All fields have the names of the command-line flags (``--min-share`` is ``min_share``).
    Values do not change; use :meth:`replace` for a changed copy.

    Raises
    ------
    ConfigError
        With every fault and its place, from :meth:`load` and :meth:`parse`.

    Examples
    --------
    >>> config = ExportConfig.parse({"size": 224, "mpp": 0.5, "map": ["Tumor: *=Tumor"]})
    >>> config.grid_spec().mpp
    0.5
    >>> ExportConfig.parse({"size": 0, "rule": "most"})
    Traceback (most recent call last):
    ...
    qupath_bridge.errors.ConfigError: size: should be greater than or equal to 1, not 0
    rule: should be 'majority', 'centre', 'threshold' or 'any', not 'most'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    entry: Strings = Field(
        default=(), description="entry ID, image name or glob; all images when empty"
    )
    where: Pairs = Field(
        default={}, description="entry metadata that an image must have, key = value"
    )
    tag: Strings = Field(default=(), description="tags that an image must have")

    size: int = Field(default=256, ge=1, le=16384, description="side of a written patch, in pixels")
    mpp: float | None = Field(default=None, ge=1e-4, le=1e4, description="µm per written pixel")
    magnification: float | None = Field(
        default=None,
        ge=1e-3,
        le=1e4,
        description="objective magnification, from the slide's own objective power",
    )
    level_zero: bool = Field(
        default=False, description="a patch is size full-resolution pixels (the default)"
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        le=1 << 24,
        description="step between patches in written pixels; size when not given",
    )
    edge: Literal["drop", "pad"] = Field(
        default="drop", description="patches that pass the image's edge"
    )
    origin: Annotated[tuple[int, int], BeforeValidator(_as_pair)] = Field(
        default=(0, 0), description="where the grid starts, full-resolution pixels"
    )
    plane: Annotated[tuple[tuple[int, int], ...], BeforeValidator(_as_planes)] = Field(
        default=((0, 0),), description="planes to make patches on, Z,T", min_length=1
    )
    pixel_size: float | None = Field(
        default=None,
        ge=1e-4,
        le=1e4,
        description="µm per full-resolution pixel, instead of what the slide says",
    )
    allow_upsampling: bool = Field(default=False, description="allow patches finer than the slide")

    within: Strings = Field(
        default=(), description='keep patches in these classes, or "any" annotation'
    )
    min_within: Share = Field(default=0.5, description="least share of a patch inside `within`")
    exclude: Strings = Field(
        default=(), description="classes that take patches away, besides Ignore*"
    )
    max_excluded_share: Share = Field(default=0.0, description="excluded share that is tolerated")

    rule: Literal["majority", "centre", "threshold", "any"] = Field(
        default="majority", description="how shares become a label"
    )
    min_share: Share = Field(default=0.5, description="least share of a label")
    overlap: Literal["innermost", "priority", "independent"] = Field(
        default="innermost", description="who owns area that several classes cover"
    )
    priority: Annotated[tuple[str, ...], BeforeValidator(_as_priority)] = Field(
        default=(), description="labels in order, for ties and for overlap = priority"
    )
    map: Pairs = Field(default={}, description="rename classes: class path = label")
    rollup: bool = Field(default=False, description="a derived class becomes its first level")
    unclassified: Annotated[str, BeforeValidator(_as_unclassified)] = Field(
        default="skip", description="regions without a class: skip, error or as=LABEL"
    )
    background: str = Field(
        default="drop", description="patches without a label: drop, or the label that they get"
    )
    all_planes: bool = Field(
        default=False, description="annotations of every plane act on every patch"
    )
    allow_repair: bool = Field(
        default=False,
        description="go on when repairing a polygon changes its area by more than 1 %",
    )
    labels: bool = Field(
        default=True, description="give labels; false keeps every patch that passes"
    )

    tissue: Literal["none", "saturation", "otsu"] = Field(default="none", description="tissue test")
    min_tissue: Share = Field(default=0.5, description="least share of tissue")

    format: Literal["png", "jpeg", "tiff"] = Field(
        default="png", description="file format of patches"
    )
    quality: int = Field(default=90, ge=1, le=100, description="JPEG quality")
    stain: Literal["none"] = Field(default="none", description="stain normalisation")

    slide_map: Pairs = Field(default={}, description="where slides moved: old place = new place")
    search: Strings = Field(default=(), description="folders to look for slides that moved")
    preview: Path | None = Field(default=None, description="picture of the plan to write")
    provenance: bool = Field(default=True, description="lay the run's GeoJSON into the project")

    workers: int | None = Field(
        default=None, ge=1, description="threads; number of cores when not given"
    )
    engine: Literal["auto", "paquo", "embedded"] = Field(
        default="auto", description="who reads QuPath"
    )
    qupath: Path | None = Field(
        default=None, description="folder of the QuPath that the engine paquo uses"
    )
    resume: bool = Field(default=False, description="continue a run that was interrupted")
    update: bool = Field(default=False, description="re-export only what has changed")
    progress: Literal["auto", "jsonl", "none"] = Field(
        default="auto", description="progress on stderr"
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
        if not re.fullmatch(r"skip|error|as=.*\S.*", self.unclassified):
            raise ValueError("unclassified is skip, error or as=LABEL")
        if not self.background.strip():
            raise ValueError("background is drop, or the name of a label")
        if self.overlap == "priority" and not self.priority:
            raise ValueError("overlap = priority needs priority, the labels in order")
        if max(map(abs, self.origin)) > MAX_ORIGIN:
            raise ValueError(f"origin lies within {MAX_ORIGIN} pixels of the image's corner")
        if any(z < 0 or t < 0 for z, t in self.plane):
            raise ValueError("plane counts from 0,0")
        if self.resume and self.update:
            raise ValueError("resume and update exclude each other; give one of them")
        for name in ("map", "priority", "within", "exclude"):
            values: Iterable[str] = getattr(self, name)
            if any(not str(value).strip() for value in values):
                raise ValueError(f"{name} holds an empty name")
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> ExportConfig:
        """Check values and return the configuration, or raise with every fault at once.

        Parameters
        ----------
        values : mapping
            Option names to values; groups as in a TOML file (``[labels]``) may stand as tables.
        source : str
            What the values come from, put before the place of each fault.
        """
        flat, faults = _flatten(values)
        try:
            config = cls.model_validate(flat)
        except pydantic.ValidationError as error:
            faults = [*faults, *(_fault(detail) for detail in error.errors())]
        if faults:
            prefix = f"{source}: " if source else ""
            raise ConfigError([Fault(prefix + fault.place, fault.problem) for fault in faults])
        return config

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, Any] | None = None) -> ExportConfig:
        """Read a TOML file; ``overrides`` (from flags) win over it."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError([Fault(str(path), "no such file")]) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError([Fault(str(path), str(error))]) from error
        flat, faults = _flatten(values)
        if faults:
            raise ConfigError([Fault(f"{path}: {f.place}", f.problem) for f in faults])
        return cls.parse({**flat, **(overrides or {})}, source=str(path))

    def replace(self, **changes: Any) -> ExportConfig:
        """Return a copy with some values changed, checked again."""
        return self.parse({**self.model_dump(), **changes})

    def grid_spec(self) -> GridSpec:
        """Return the part that says which boxes."""
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
        )

    def label_rule(self) -> LabelRule:
        """Return the part that says which labels."""
        kind, _, label = self.unclassified.partition("=")
        return LabelRule(
            rule=self.rule,
            min_share=self.min_share,
            overlap=self.overlap,
            priority=self.priority,
            rename=dict(self.map),
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

    def digest_values(self) -> dict[str, Any]:
        """Return the values that decide what is exported, as plain JSON values.

        Paths and running options are left out: they change where and how, not what.
        """
        left_out = {*GROUPS["files"], *GROUPS["running"]}
        values: dict[str, Any] = json.loads(self.model_dump_json(exclude=left_out))
        return values


def _flatten(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Lift the tables of a TOML file; a key may stand in its own group or at the top."""
    flat: dict[str, Any] = {}
    faults = []
    for key, value in values.items():
        # "labels" and "tissue" name a group and an option: a table is the group.
        if key in GROUPS and isinstance(value, Mapping):
            for inner, inner_value in value.items():
                if inner not in GROUPS[key]:
                    faults.append(Fault(f"{key}.{inner}", _unknown(inner, GROUPS[key])))
                else:
                    flat[inner] = inner_value
        else:
            flat[key] = value
    return flat, faults


def _unknown(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return "no such option" + (f"; did you mean {close[0]}?" if close else "")


def _fault(detail: Any) -> Fault:
    """Turn one of pydantic's error details into a fault in plain words."""
    place = ".".join(str(part) for part in detail["loc"])
    kind, message, value = detail["type"], detail["msg"], detail.get("input")
    if kind == "extra_forbidden":
        return Fault(place, _unknown(place, tuple(ExportConfig.model_fields)))
    if kind == "value_error":
        text = str(detail["ctx"]["error"])
        return Fault(place or text.split(" ", 1)[0], text)
    message = message.removeprefix("Input ").removeprefix("Value ")
    return Fault(place, f"{message}, not {value!r}")
