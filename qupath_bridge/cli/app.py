"""The commands and their options. What they do is imported when they run."""

from __future__ import annotations

import io
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError

from .options import takes_configuration

__all__ = ["app", "run"]

app = typer.Typer(
    name="qupath-bridge",
    help="QuPath annotations to labelled patches, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(no_args_is_help=True, help="Make, show and check configuration files.")
app.add_typer(config_app, name="config")

UsageFault: Any = next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException")
"""What the parser raises for a wrong command line; newer typers hide it in a copy of click."""

ProjectArgument = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="project.qpproj, or the folder that holds it.")
]
SlideMap = Annotated[
    list[str] | None, typer.Option("--slide-map", metavar="OLD=NEW", help="Where slides moved.")
]
Search = Annotated[
    list[str] | None,
    typer.Option("--search", metavar="DIR", help="Folder to look for slides that moved."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
QuPathFolder = Annotated[
    Path | None, typer.Option("--qupath", metavar="DIR", help="QuPath that the engine paquo uses.")
]
Given = tuple[Path | None, Mapping[str, Any]]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qupath-bridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """QuPath annotations to labelled patches, and back."""
    # ``debug`` is read from the arguments by run(), which outlives this call.


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="New folder.")] = Path("demo"),
    json: Json = False,
) -> int:
    """Run the whole loop on a real slide, and show what it made."""
    from .demo import run_demo

    return run_demo(folder, as_json=json)


@app.command()
def doctor(qupath: QuPathFolder = None, json: Json = False) -> int:
    """Say what is installed, what is missing, and how to get it."""
    from .doctor import run_doctor

    return run_doctor(qupath, as_json=json)


@app.command()
def inspect(
    project: ProjectArgument,
    slide_map: SlideMap = None,
    search: Search = None,
    engine: Annotated[str, typer.Option(metavar="auto|paquo|embedded")] = "auto",
    qupath: QuPathFolder = None,
    json: Json = False,
) -> int:
    """Show images, classes, pixel sizes, coordinates, and problems of a project."""
    from .inspect import run_inspect

    return run_inspect(
        project, slide_map or [], search or [], engine=engine, qupath=qupath, as_json=json
    )


@app.command()
@takes_configuration
def plan(project: ProjectArgument, given: Given, json: Json = False) -> int:
    """Count patches by label and reason, and draw a preview; write nothing else."""
    from .export import run_plan

    return run_plan(project, given, as_json=json)


@app.command()
@takes_configuration
def export(
    project: ProjectArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="New folder.")],
    given: Given,
    json: Json = False,
) -> int:
    """Write labelled patches, their index, and the provenance for QuPath."""
    from .export import run_export

    return run_export(project, out, given, as_json=json)


@app.command()
def verify(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of an export.")],
    pixels: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Patches to read again from the slides (all)."),
    ] = None,
    slide_map: SlideMap = None,
    json: Json = False,
) -> int:
    """Compare every patch with the index, and with the slide."""
    from .verify import run_verify

    return run_verify(out, pixels, slide_map or [], as_json=json)


@app.command()
def status(
    project: ProjectArgument,
    slide_map: SlideMap = None,
    search: Search = None,
    json: Json = False,
) -> int:
    """Show the runs of a project, and what of them is stale."""
    from .status import run_status

    return run_status(project, slide_map or [], search or [], as_json=json)


@app.command("write-back")
def write_back(
    project: ProjectArgument,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Run to show in QuPath, or its folder OUT.")
    ] = None,
    undo: Annotated[
        str | None, typer.Option(metavar="ID", help="Run to take out again, or its folder OUT.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Put the tiles into QuPath's data, QuPath closed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the tiles of all other runs away.")
    ] = False,
    entry: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Entry ID, image name or glob; may be repeated (all)."),
    ] = None,
    engine: Annotated[str, typer.Option(metavar="auto|paquo|embedded")] = "auto",
    qupath: QuPathFolder = None,
    keep: Annotated[
        int, typer.Option("--keep-backups", metavar="N", min=0, help="Backups to keep, 0 for all.")
    ] = 10,
    json: Json = False,
) -> int:
    """Show the patches of a run in QuPath as tiles, or take them out again."""
    from .write_back import run_write_back

    return run_write_back(
        project, run, undo, direct=direct, dry_run=dry_run, replace=replace, entry=entry or [],
        engine=engine, qupath=qupath, keep=keep, as_json=json,
    )  # fmt: skip


@config_app.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]")] = Path("export.toml"),
) -> int:
    """Write a commented configuration file."""
    from .config import run_init

    return run_init(path)


@config_app.command("show")
@takes_configuration
def config_show(given: Given, json: Json = False) -> int:
    """Show the values that a file and flags give."""
    from .config import run_show

    return run_show(given, as_json=json)


@config_app.command("check")
def config_check(path: Annotated[Path, typer.Argument(metavar="FILE")], json: Json = False) -> int:
    """Report every fault of a configuration file, each with its place."""
    from .config import run_check

    return run_check(path, as_json=json)


def run(arguments: list[str]) -> int:
    """Run a command and return the exit status; every error becomes a message."""
    debug = "--debug" in arguments
    if debug:
        # It may stand anywhere, before or after the command.
        arguments = [argument for argument in arguments if argument != "--debug"]
    _make_termination_an_interrupt()
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a name shows it escaped, rather than nothing at all.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(app(args=arguments, prog_name="qupath-bridge", standalone_mode=False) or 0)
    except UsageFault as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _print_error("Interrupted.", debug)
        return 130
    except BrokenPipeError:
        # The reader of stdout went away (``| head``): that is its good right.
        sys.stdout = None
        return 0
    except BridgeError as error:
        _print_error(str(error), debug)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # the last boundary: people get a message
        _print_error(
            f"Something went wrong that should not have: {type(error).__name__}: {error}\n"
            "Run the command again with --debug and report what it prints.",
            debug,
        )
        return 1


def _print_error(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"error: {text}", file=sys.stderr)


def _make_termination_an_interrupt() -> None:
    """Treat SIGTERM like Ctrl-C: what is committed stays and can be resumed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Outside the main thread whoever called us handles signals.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
