"""The options of ``plan`` and ``export``: one flag for each field of the configuration.

The table repeats names and types of :class:`qupath_bridge.config.ExportConfig`, so that ``--help``
does not have to load it; a test holds the two together.
"""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from qupath_bridge.config import ExportConfig

__all__ = ["OPTIONS", "configuration", "takes_configuration"]


class Option(NamedTuple):
    """A flag: the field that it sets, its type, what help says, and how its value is shown."""

    name: str
    type: Any
    help: str
    metavar: str | None = None
    flag: str | None = None


Repeated = list[str]

OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "Which images": (
        Option("entry", Repeated, "Entry ID, image name or glob; may be repeated (all).", "IMAGE"),
        Option("where", Repeated, "Entry metadata that an image must have.", "KEY=VALUE"),
        Option("tag", Repeated, "Tag that an image must have.", "TAG"),
    ),
    "Patches": (
        Option("size", int, "Side of a written patch, pixels (256).", "N"),
        Option("mpp", float, "µm per written pixel.", "UM"),
        Option("magnification", float, "Magnification, by the slide's objective power.", "X"),
        Option("level_zero", bool, "A patch is SIZE full-resolution pixels (default)."),
        Option("stride", int, "Step between patches, written pixels (size).", "N"),
        Option("edge", str, "Patches that pass the image's edge (drop).", "drop|pad"),
        Option("origin", str, "Where the grid starts, full-resolution pixels (0,0).", "X,Y"),
        Option("plane", Repeated, "Plane to make patches on; may be repeated (0,0).", "Z,T"),
        Option("pixel_size", float, "µm per full-resolution pixel, whatever the slide says.", "UM"),
        Option("allow_upsampling", bool, "Allow patches finer than the slide."),
    ),
    "Regions": (
        Option("within", Repeated, "Keep patches inside this class, or 'any' (none).", "CLASS"),
        Option("min_within", float, "Least share of a patch inside (0.5).", "SHARE"),
        Option("exclude", Repeated, "Class that takes patches away, as Ignore* does.", "CLASS"),
        Option("max_excluded_share", float, "Excluded share that is tolerated (0).", "SHARE"),
    ),
    "Labels": (
        Option("rule", str, "From shares to a label (majority).", "majority|centre|threshold|any"),
        Option("min_share", float, "Least share of a label (0.5).", "SHARE"),
        Option(
            "overlap", str, "Who owns shared area (innermost).", "innermost|priority|independent"
        ),
        Option("priority", str, "Labels in order, for ties and overlap = priority.", "A,B"),
        Option("map", Repeated, "Rename a class: 'Tumor: *=Tumor'.", "CLASS=LABEL"),
        Option("rollup", bool, "A derived class becomes its first level."),
        Option("unclassified", str, "Regions without a class (skip).", "skip|error|as=LABEL"),
        Option("background", str, "Patches without a label (drop).", "drop|LABEL"),
        Option("all_planes", bool, "Annotations of every plane act on every patch."),
        Option("allow_repair", bool, "Accept repairs that change an area by more than 1 %."),
        Option("labels", bool, "Keep every patch, without labels.", flag="--no-labels"),
    ),
    "Tissue": (
        Option("tissue", str, "Tissue test on the thumbnail (none).", "none|saturation|otsu"),
        Option("min_tissue", float, "Least tissue of a patch (0.5).", "SHARE"),
    ),
    "Pixels": (
        Option("format", str, "File format (png).", "png|jpeg|tiff"),
        Option("quality", int, "JPEG quality (90).", "1-100"),
        Option("stain", str, "Stain normalisation (none).", "none"),
    ),
    "Files": (
        Option("slide_map", Repeated, "Where slides moved; may be repeated.", "OLD=NEW"),
        Option("search", Repeated, "Folder to look for slides that moved.", "DIR"),
        Option(
            "preview", Path, "Picture of the plan; one a slide where there are several.", "FILE"
        ),
        Option("provenance", bool, "Write nothing into the project.", flag="--no-provenance"),
    ),
    "Running": (
        Option("workers", int, "Threads (number of cores).", "N"),
        Option("engine", str, "Who reads the project (auto).", "auto|paquo|embedded"),
        Option("qupath", Path, "QuPath that the engine paquo uses (the newest found).", "DIR"),
        Option("resume", bool, "Finish a run that was interrupted."),
        Option("update", bool, "Export again only what has changed."),
        Option("progress", str, "Progress on stderr (auto).", "auto|jsonl|none"),
    ),
}


def takes_configuration(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of the table; it gets them as ``given``, those not None only."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "given"]
    options = [option for group in OPTIONS.values() for option in group]
    extra = [_parameter(option, panel) for panel, group in OPTIONS.items() for option in group]
    extra += [
        inspect.Parameter(
            "config_file",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                None, "--config", metavar="FILE", help="TOML file with any of these options.",
                rich_help_panel="Configuration",
            ),
            annotation=Path | None,
        ),
        inspect.Parameter(
            "assignments",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                None, "--set", metavar="KEY=VALUE", help="Any option by its name.",
                rich_help_panel="Configuration",
            ),
            annotation=list[str] | None,
        ),
    ]  # fmt: skip

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        given = {option.name: _value(option, values.pop(option.name)) for option in options}
        given = {name: value for name, value in given.items() if value not in (None, [])}
        config_file, assignments = values.pop("config_file"), values.pop("assignments")
        return command(**values, given=(config_file, {**_assigned(assignments or ()), **given}))

    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapper.__signature__ = signature.replace(parameters=[*own, *extra])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in (*own, *extra)}
    return wrapper


def _parameter(option: Option, panel: str) -> inspect.Parameter:
    flag = option.flag or "--" + option.name.replace("_", "-")
    default = typer.Option(
        None, flag, help=option.help, rich_help_panel=panel, metavar=option.metavar
    )
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option.type | None
    )


def _value(option: Option, value: Any) -> Any:
    """Turn a flag's value into the field's: ``--no-labels`` given means ``labels = false``."""
    return False if value is True and (option.flag or "").startswith("--no-") else value


def configuration(given: tuple[Path | None, Mapping[str, Any]]) -> ExportConfig:
    """Return the configuration of a file and of the flags, which win over it."""
    from qupath_bridge.config import ExportConfig

    path, values = given
    return ExportConfig.load(path, values) if path else ExportConfig.parse(values)


def _assigned(assignments: list[str] | tuple[()]) -> dict[str, Any]:
    """Read ``--set key=value``; a value that is no TOML value is text."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint="--set")
        try:
            values[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = value.strip()
    return values
