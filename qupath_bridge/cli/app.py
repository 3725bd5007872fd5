"""The commands and their options. What they do is imported when they run."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from copy import copy
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.main import get_command_name

from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError, OutputError

from . import streams
from .options import Command, Given, Json, add_flags, suggest_options, takes_options, with_flags
from .output import json_text, message, reset_level, set_level
from .service_app import jobs_app, service_app

__all__ = ["app", "run"]

NAME = "qupath-bridge"

app = typer.Typer(
    name=NAME,
    help="QuPath annotations to labelled patches, and back.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
project_app = typer.Typer(no_args_is_help=True, help="Make QuPath projects.")
app.add_typer(project_app, name="project")
config_app = typer.Typer(no_args_is_help=True, help="Make, show and check configuration files.")
app.add_typer(config_app, name="config")
scripts_app = typer.Typer(no_args_is_help=True, help="Scripts and extension in QuPath's folder.")
app.add_typer(scripts_app, name="scripts")
app.add_typer(service_app, name="service")
app.add_typer(jobs_app, name="jobs")

UsageFault: Any = next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException")
"""Exception of the parser for a wrong command line; newer typers hide it in a copy of click."""

Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="SOURCE",
        help="project.qpproj, its folder, or a folder of projects; a slide, a folder of slides, or "
        "a table (CSV, Parquet) with a column path. Several are one run.",
    ),
]
ProjectArgument = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="project.qpproj, or the folder that holds it.")
]
OutArgument = Annotated[str, typer.Argument(metavar="OUT", help="Output of an export.")]
SplitName = Annotated[
    str, typer.Option(metavar="NAME", help="Of the split: its tables are OUT/splits/NAME.*.")
]

PLACES = ("slide_map", "search", "engine", "qupath", "annotations", "skip_bad_features")
"""Options for opening a project."""
FETCHING = ("fetch", "cache", "cache_size")
"""Options for slides in object storage."""
CREATING = (
    "annotations", "skip_bad_features", "slide_map", "search", "metadata", "metadata_key",
)  # fmt: skip
"""Options for making a project."""
RUN_ONLY = (
    "reviewer", "provenance", "create_project", "pseudonymise", "metadata_keep", "runner", "resume",
    "update", "break_lock", "progress", "track",
)  # fmt: skip
"""Options that a plan cannot use."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more: -v what is done, -vv all.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """QuPath annotations to labelled patches, and back."""
    # ``debug`` is read from the arguments by run(), which outlives this call.
    set_level(-1 if quiet else verbose)


@app.command(cls=Command)
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="New folder.")] = Path("demo"),
    json: Json = False,
) -> int:
    """Run the whole loop on a real slide, and show what it made."""
    from .demo import run_demo

    return run_demo(folder, as_json=json)


@app.command(cls=Command)
@takes_options("qupath")
def doctor(given: Given, json: Json = False) -> int:
    """Say what is installed, what is missing, and how to get it."""
    from .doctor import run_doctor

    return run_doctor(given, as_json=json)


@app.command(cls=Command)
@takes_options(*PLACES, "reader", *FETCHING)
def inspect(projects: Sources, given: Given, json: Json = False) -> int:
    """Show slides, classes, pixel sizes, coordinates, and problems of a project."""
    from .inspect import run_inspect

    return run_inspect(projects, given, as_json=json)


@app.command(cls=Command)
@takes_options(besides=RUN_ONLY, file=True)
def plan(projects: Sources, given: Given, json: Json = False) -> int:
    """Count patches by label and reason, and draw a preview; write nothing else."""
    from .export import run_plan

    return run_plan(projects, given, as_json=json)


@app.command(cls=Command)
@takes_options(file=True)
def export(
    projects: Sources,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="OUT", help="New or empty folder, or a URL.")
    ],
    given: Given,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan only: count, estimate, and write nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Write labelled patches, their index, and the provenance for QuPath."""
    from .export import run_export

    return run_export(projects, out, given, dry_run=dry_run, as_json=json)


@app.command("stain-profile", cls=Command)
@takes_options("stain", "mpp")
def stain_profile(
    references: Annotated[
        list[str],
        typer.Argument(
            metavar="REFERENCE", help="Pictures or slides; path#X,Y,W,H for a region of one."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="New JSON file.")],
    given: Given,
    json: Json = False,
) -> int:
    """Save the colours of references, as a target for --stain-reference."""
    from .staining import run_stain_profile

    return run_stain_profile(references, out, given, as_json=json)


@app.command(cls=Command)
@takes_options("reader", "slide_map", "pseudonymise")
def verify(
    out: OutArgument,
    given: Given,
    pixels: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Patches to read again from the slides (all)."),
    ] = None,
    json: Json = False,
) -> int:
    """Compare every patch with the index, and with the slide."""
    from .verify import run_verify

    return run_verify(out, pixels, given, as_json=json)


@app.command(cls=Command)
@takes_options("reader", "slide_map", "pseudonymise")
def report(
    out: OutArgument,
    given: Given,
    file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page (report.html in OUT)."),
    ] = None,
    json: Json = False,
) -> int:
    """Write one HTML page to look at: slides, patches, what was dropped, quality, corrections."""
    from .report import run_report

    return run_report(out, file, given, as_json=json)


@app.command(cls=Command)
def split(
    out: OutArgument,
    folds: Annotated[
        int | None, typer.Option(metavar="N", help="Number of folds, at least 2.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Metadata that must not be on two sides, as patient."),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(
            metavar="label|KEY", help="What is balanced: labels of patches, or slides by metadata."
        ),
    ] = None,
    preserve: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Metadata that has to stay in one fold too, as site."),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share held out of all folds, as the fold test."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Shuffles groups of about the same size (0).")
    ] = None,
    name: SplitName = "folds",
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="Add new slides; known groups keep their fold, as after --update."
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Put the slides of a run into folds that share no patient, no file and no pixel."""
    from .split import run_split

    return run_split(
        out, folds=folds, by=by, stratify=stratify, preserve=preserve, test=test, seed=seed,
        name=name, extend=extend, as_json=json,
    )  # fmt: skip


@app.command("check-leakage", cls=Command)
def check_leakage(
    out: OutArgument,
    name: Annotated[
        str,
        typer.Option(
            "--split", metavar="NAME", help="Of the split; OUT/splits/NAME.csv may be your own."
        ),
    ] = "folds",
    by: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Metadata that must not be on two sides (that of the split)."
        ),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Patches to compare by what they show (at most 100000)."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Look for patients, slide files, pixels and pictures that two folds share; exit with 1."""
    from .split import run_check_leakage

    return run_check_leakage(out, name, by, pixels, as_json=json)


@app.command(cls=Command)
def features(
    out: OutArgument,
    encoder: Annotated[
        Path,
        typer.Option(metavar="FILE", help="JSON file that describes the ONNX file beside it."),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the features: OUT/features/NAME; the encoder's."),
    ] = None,
    format: Annotated[  # noqa: A002
        str, typer.Option(metavar="FORMAT", help="Of the files, one per slide: h5, parquet, pt.")
    ] = "h5",
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Of the numbers: float32, float16.")
    ] = "float32",
    batch: Annotated[
        int, typer.Option(metavar="N", help="Patches that the encoder gets at once.")
    ] = 64,
    track: Annotated[
        str, typer.Option(metavar="none|NAME[:ARGUMENT]", help="Tell a service, as wandb.")
    ] = "none",
    json: Json = False,
) -> int:
    """Make a vector of each patch of a run with an encoder; keep what is up to date."""
    from .features import run_features

    return run_features(
        out, encoder, name=name, format=format, dtype=dtype, batch=batch, track=track, as_json=json
    )


@app.command(cls=Command)
def convert(
    out: OutArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="LAYOUT",
            help="imagefolder (pictures by label); coco, yolo, semantic (masks); clam, trident, "
            "stamp, slideflow (bags).",
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder.")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split whose folds become folders.")
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(
            metavar="FOLD", help="Fold that becomes val; all but it and test become train."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Features for bags, as features wrote them."),
    ] = None,
    json: Json = False,
) -> int:
    """Write the patches of a run in the layout of another tool."""
    from .convert import run_convert

    return run_convert(out, folder, to, split=split, val=val, features=features, as_json=json)


@app.command(cls=Command)
def describe(
    out: OutArgument,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="ro-crate|croissant", help="Format to write (both)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the dataset (that of the run).")
    ] = None,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the dataset (counts and labels).")
    ] = None,
    license: Annotated[  # noqa: A002
        str | None,
        typer.Option(metavar="URL", help="Licence under which others may use the patches."),
    ] = None,
    creator: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Person who made it; repeat it.")
    ] = None,
    json: Json = False,
) -> int:
    """Write RO-Crate and Croissant of a run beside its run.json, for those who get the dataset."""
    from .describe import run_describe

    return run_describe(
        out, to or [], name=name, description=description, license=license,
        creators=creator or [], as_json=json,
    )  # fmt: skip


@app.command(cls=Command)
def track(
    out: OutArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="NAME[:ARGUMENT]", help="Service: wandb[:PROJECT].")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the dataset (that of the output).")
    ] = None,
    json: Json = False,
) -> int:
    """Tell a service of a run and of the features made of it; the patches stay here."""
    from .track import run_track

    return run_track(out, to, name=name, as_json=json)


@app.command(cls=Command)
@takes_options("pseudonymise")
def lineage(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="PATCH|FILE",
            help="Patch file, patch id or tile id; or what was made of patches: a table, a split, "
            "predictions, a folder of convert, a file with FILE.json beside it.",
        ),
    ],
    given: Given,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="OUT", help="Output to look in (that of the file)."),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(metavar="PROJECT", help="Project to look in, in all its runs (the run's)."),
    ] = None,
    json: Json = False,
) -> int:
    """Go back from a patch to its slide, regions, corrections, run, folds and predictions."""
    from .lineage import run_lineage

    return run_lineage(subject, given, out=out, project=project, as_json=json)


@app.command(cls=Command)
def catalog(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", help="Folder or URL above the outputs of exports.")
    ],
    find: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Patches with this label, slide (ID or name), digest or run; all have to hold.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List the runs below a folder or URL, and find patches in them."""
    from .catalog import run_catalog

    return run_catalog(root, find or [], as_json=json)


@app.command(cls=Command)
def compact(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", help="Folder or URL above the outputs of exports.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="New place, or an earlier copy to replace.")
    ],
    by: Annotated[
        str, typer.Option(metavar="KEYS", help="Partitions: project, label, both, or nothing.")
    ] = "project,label",
    file_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Size at which a file ends.")
    ] = "256MB",
    images: Annotated[bool, typer.Option("--images", help="Copy the patches, too.")] = False,
    json: Json = False,
) -> int:
    """Copy the patches of all runs below a folder or URL into few Parquet files, for queries."""
    from .compact import run_compact

    return run_compact(root, out, by=by, file_size=file_size, images=images, as_json=json)


@app.command(cls=Command)
@takes_options("break_lock")
def clean(out: OutArgument, given: Given, json: Json = False) -> int:
    """Remove what abandoned runs left in an output."""
    from .verify import run_clean

    return run_clean(out, given, as_json=json)


@app.command(cls=Command)
@takes_options(*PLACES)
def status(
    project: ProjectArgument,
    given: Given,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUT", help="Output that has the provenance of a run; may be repeated."
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 when something is stale.")
    ] = False,
    json: Json = False,
) -> int:
    """Show the runs of a project, and what of them is stale."""
    from .status import run_status

    return run_status(project, given, outs=run or (), exit_code=exit_code, as_json=json)


@app.command(cls=Command)
@takes_options("engine", "qupath")
def corrections(
    project: ProjectArgument,
    given: Given,
    collect: Annotated[
        bool, typer.Option("--collect", help="Store what QuPath's data say now.")
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="ENTRY", help="Slide (ID or name) whose unsure patches are meant."),
    ] = None,
    dismiss: Annotated[
        list[str] | None,
        typer.Option(metavar="ENTRY", help="Slide whose unsure patches mean nothing."),
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who said what is stored now.")
    ] = None,
    json: Json = False,
) -> int:
    """List what people said about patches in QuPath, and store it."""
    from .corrections import run_corrections

    return run_corrections(
        project, given,
        collect=collect, accept=accept or [], dismiss=dismiss or [], reviewer=reviewer,
        as_json=json,
    )  # fmt: skip


@app.command("write-back", cls=Command)
@takes_options("entry", "engine", "qupath", "pseudonymise")
def write_back(
    project: ProjectArgument,
    given: Given,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Run to show in QuPath, or its output.")
    ] = None,
    undo: Annotated[
        str | None, typer.Option(metavar="ID", help="Run to remove again, or its output.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Write the tiles into QuPath's data, QuPath closed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove the tiles of all other runs.")
    ] = False,
    discard_corrections: Annotated[
        bool,
        typer.Option(
            "--discard-corrections", help="Show the run's classes, and rejected tiles too."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write though a QuPath runs that may have the project.")
    ] = False,
    keep: Annotated[
        int, typer.Option("--keep-backups", metavar="N", min=0, help="Backups to keep, 0 for all.")
    ] = 10,
    json: Json = False,
) -> int:
    """Show the patches of a run in QuPath as tiles, or remove them again."""
    from .write_back import run_write_back

    return run_write_back(
        project, run, undo, given,
        direct=direct, dry_run=dry_run, replace=replace,
        discard_corrections=discard_corrections, force=force, keep=keep, as_json=json,
    )  # fmt: skip


@app.command(cls=Command)
@takes_options("engine", "qupath", "pseudonymise")
def predictions(
    target: Annotated[
        str,
        typer.Argument(metavar="OUT|PROJECT", help="Output of an export, or a QuPath project."),
    ],
    given: Given,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the predictions, as the model is called.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV or Parquet: patch_id or tile_uuid, and numbers."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Run of the project, or its output (the newest run)."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column to take (all but those of the index)."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="softmax|rank", help="Beside each number, among the patches of its slide."
        ),
    ] = None,
    hard: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number the N hard patches, and list them."),
    ] = None,
    hard_by: Annotated[
        str | None,
        typer.Option(
            metavar="entropy|margin|wrong",
            help="Least certain, or least probability of the label (entropy).",
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the predictions NAME away again.")
    ] = False,
    direct: Annotated[
        bool, typer.Option("--direct", help="Write into QuPath's data at once, QuPath closed.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write though a QuPath runs that may have the project.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option("--keep-backups", metavar="N", min=0, help="Backups to keep, 0 for all (10)."),
    ] = None,
    json: Json = False,
) -> int:
    """Show numbers of a model in QuPath, as measurements of the tiles of a run."""
    from .predictions import run_predictions

    return run_predictions(
        target, name, given,
        table=table, run=run, columns=column or [], add=add or [], hard=hard, hard_by=hard_by,
        undo=undo, direct=direct, force=force, keep=keep, as_json=json,
    )  # fmt: skip


@app.command(cls=Command)
def request(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Request as JSON; - reads places from stdin.")
    ],
) -> int:
    """Answer a request of QuPath's scripts or extension; docs/from-qupath-scripts.md."""
    from .request import run_request

    return run_request(file)


@project_app.command("create", cls=Command)
@takes_options(*CREATING)
def project_create(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the project.")],
    slides: Annotated[
        list[Path],
        typer.Argument(metavar="SLIDES", help="Slides, folders of slides, or tables of slides."),
    ],
    given: Given,
    classes: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Classes that QuPath lists; its own when not given."),
    ] = None,
    json: Json = False,
) -> int:
    """Make a QuPath project over slides; the slides stay where they are."""
    from .project import run_create

    return run_create(folder, slides, classes or [], given, as_json=json)


@scripts_app.command("install", cls=Command)
def scripts_install(
    qupath_dir: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="QuPath's user folder, as ~/QuPath/v0.7; all when not given.",
        ),
    ] = None,
    jar: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The extension, to be put there too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove them again.")] = False,
    json: Json = False,
) -> int:
    """Put scripts and extension into QuPath's user folder."""
    from .scripts import run_install

    return run_install(qupath_dir or (), jar, dry_run=dry_run, uninstall=uninstall, as_json=json)


@config_app.command("init", cls=Command)
def config_init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]")] = Path("export.toml"),
) -> int:
    """Write a commented configuration file."""
    from .config import run_init

    return run_init(path)


@config_app.command("show", cls=Command)
@takes_options(file=True)
def config_show(given: Given, json: Json = False) -> int:
    """Show the values that a file and flags give."""
    from .config import run_show

    return run_show(given, as_json=json)


@config_app.command("check", cls=Command)
def config_check(path: Annotated[Path, typer.Argument(metavar="FILE")], json: Json = False) -> int:
    """Report every fault of a configuration file, each with its place."""
    from .config import run_check

    return run_check(path, as_json=json)


def run(arguments: list[str]) -> int:
    """Run a command and return the exit status; every error becomes a message."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    if debug:
        # It may stand anywhere, before or after the command.
        arguments = [argument for argument in arguments if argument != "--debug"]
    _make_termination_an_interrupt()
    streams.open_missing()
    streams.show_escaped()
    status = 0
    try:
        status = _run(arguments, debug, as_json)
        streams.flush_result()
    except streams.ResultError as error:
        streams.print_to_people(f"error: The result cannot be printed: {error}.")
        return status or OutputError.exit_code
    return status


def _run(arguments: list[str], debug: bool, as_json: bool) -> int:
    called = _with_flags(arguments)
    try:
        return int(called(args=arguments, prog_name=NAME, standalone_mode=False) or 0)
    except UsageFault as error:
        suggest_options(error)
        if as_json:
            _print_error(error.format_message(), debug, 2)
        else:
            _show_usage(error)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _print_error("Interrupted.", debug, 130 if as_json else None)
        return 130
    except SystemExit as error:
        # The parser ends like this where the reader of stdout went away (``| head``).
        if isinstance(error.__context__, BrokenPipeError):
            return 0
        raise
    except BridgeError as error:
        _print_error(str(error), debug, error.exit_code if as_json else None)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # the last boundary: people get a message
        if isinstance(error, OSError):
            streams.check_result(error)
        text, status = _unexpected(error)
        _print_error(text, debug, status if as_json else None)
        return status
    finally:
        reset_level()


def _unexpected(error: Exception) -> tuple[str, int]:
    """Return message and exit status for an error that nobody raised on purpose."""
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return (
            "The working directory does not exist any more. Change to another folder, and run the "
            "command again.",
            2,
        )
    return (
        f"Something went wrong that should not have: {type(error).__name__}: {error}\n"
        "Run the command again with --debug and report what it prints.",
        1,
    )


def _has_working_directory() -> bool:
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _show_usage(error: Any) -> None:
    text = io.StringIO()
    error.show(file=text)
    streams.print_to_people(text.getvalue().rstrip("\n"))


def _with_flags(arguments: list[str]) -> typer.Typer:
    """Return the application with the flags of the command that is called, and that alone.

    Making all commands takes longer than most of them need for anything else. They are there for
    the help, for a word that is none of them, and where a shell asks for completions.
    """
    word = next((word for word in arguments if not word.startswith("-")), None)
    if "_QUPATH_BRIDGE_COMPLETE" in os.environ:
        add_flags()
        return app
    if word is None:
        return app
    add_flags(word)
    found = [
        each
        for each in app.registered_commands
        if each.callback and (each.name or get_command_name(each.callback.__name__)) == word
    ]
    if not found:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = found, []
    return alone


def _print_error(text: str, debug: bool, exit_code: int | None = None) -> None:
    """Print an error for people; with an exit code as JSON on stdout, for programs."""
    if debug:
        streams.print_to_people(traceback.format_exc().rstrip("\n"))
    if exit_code is None:
        streams.print_to_people(message(f"error: {with_flags(text)}"))
    else:
        error = {"error": text, "exit_code": exit_code}
        try:
            print(json_text(error), flush=True)
        except OSError:
            streams.print_to_people(f"error: {text}")
            streams.silence(sys.stdout)


def _make_termination_an_interrupt() -> None:
    """Treat SIGTERM like Ctrl-C: what is committed stays and can be resumed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Outside the main thread whoever called us handles signals.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
