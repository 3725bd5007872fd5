"""The commands ``service`` and ``jobs``. What they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Command, Given, Json, takes_options

__all__ = ["jobs_app", "service_app"]

service_app = typer.Typer(
    no_args_is_help=True, help="Run a service that exports what is asked for over HTTP."
)
jobs_app = typer.Typer(no_args_is_help=True, help="Ask a service for exports.")


def _not_for_jobs() -> tuple[str, ...]:
    """Return the options that a job cannot have; help without them must not load them."""
    from qupath_bridge.config import OF_OPERATOR, ONE_PROCESS

    return (*ONE_PROCESS, *OF_OPERATOR)


SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="TOML file; QUPATH_BRIDGE_SERVICE_CONFIG names it, too."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Of the service; QUPATH_BRIDGE_URL (http://127.0.0.1:8350)."
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


@service_app.command("run", cls=Command)
def service_run(
    settings: SettingsFile = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Of the API (8350); 0 takes a free one.")
    ] = None,
) -> int:
    """Answer requests and work on jobs, in one program; makes the database if it is not there."""
    from .service import run_service

    return run_service("all", settings, port)


@service_app.command("api", cls=Command)
def service_api(
    settings: SettingsFile = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Of the API (8350); 0 takes a free one.")
    ] = None,
) -> int:
    """Answer requests; workers elsewhere do the jobs."""
    from .service import run_service

    return run_service("api", settings, port)


@service_app.command("worker", cls=Command)
def service_worker(settings: SettingsFile = None) -> int:
    """Work on jobs, one slide at a time; start several for more."""
    from .service import run_service

    return run_service("worker", settings, None)


@service_app.command("migrate", cls=Command)
def service_migrate(settings: SettingsFile = None, json: Json = False) -> int:
    """Make or change the tables of the database."""
    from .service import run_migrate

    return run_migrate(settings, as_json=json)


@service_app.command("reindex", cls=Command)
def service_reindex(
    outputs: Annotated[
        list[str], typer.Argument(metavar="OUT", help="Outputs, or folders with outputs in them.")
    ],
    settings: SettingsFile = None,
    json: Json = False,
) -> int:
    """Make the index of patches again from what runs committed."""
    from .service import run_reindex

    return run_reindex(outputs, settings, as_json=json)


@jobs_app.command("submit", cls=Command)
@takes_options(besides=_not_for_jobs, file=True)
def jobs_submit(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Projects or slides, as the service sees them."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="New folder, or a URL.")],
    given: Given,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The same request with the same key is one job."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    url: Url = None,
    json: Json = False,
) -> int:
    """Ask for an export, with the options of export."""
    from .jobs import run_submit

    return run_submit(sources, out, given, key=key, wait=wait, url=url, as_json=json)


@jobs_app.command("list", cls=Command)
def jobs_list(
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only jobs in this state.")
    ] = None,
    url: Url = None,
    json: Json = False,
) -> int:
    """List jobs, the newest first."""
    from .jobs import run_list

    return run_list(state, url, as_json=json)


@jobs_app.command("show", cls=Command)
def jobs_show(job: JobArgument, url: Url = None, json: Json = False) -> int:
    """Show how far a job is, and what failed; exit with 1 if something did."""
    from .jobs import run_show

    return run_show(job, url, as_json=json)


@jobs_app.command("cancel", cls=Command)
def jobs_cancel(job: JobArgument, url: Url = None, json: Json = False) -> int:
    """Stop a job; what is committed stays."""
    from .jobs import run_change

    return run_change("cancel", job, url, as_json=json)


@jobs_app.command("retry", cls=Command)
def jobs_retry(job: JobArgument, url: Url = None, json: Json = False) -> int:
    """Do again what failed in a job that has ended."""
    from .jobs import run_change

    return run_change("retry", job, url, as_json=json)
