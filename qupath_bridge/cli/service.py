"""``service``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.frozen import count

from .output import print_json, say, show

__all__ = ["needs_service", "run_migrate", "run_reindex", "run_service"]


@contextmanager
def needs_service() -> Iterator[None]:
    """Say how to install what the service needs, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The service needs {error.name}, which is not installed.",
            hint="Install it with: pip install 'qupath-bridge[service]'.",
        ) from error


def run_service(program: str, file: Path | None, port: int | None) -> int:
    """Run a program of the service until it is interrupted."""
    with needs_service():
        from qupath_bridge.service import logs, running
        from qupath_bridge.service.settings import load_settings
    settings = load_settings(file=file, port=port)
    tell: Callable[[str], None] = say
    if settings.log_format == "json":
        logs.set_up()
        tell = logging.getLogger("qupath_bridge.service").info
    if program != "worker":
        tell(f"The service listens on http://{settings.host}:{settings.port} (Ctrl-C ends it).")
        if not (settings.sources and settings.outputs):
            tell("No job will be accepted: QUPATH_BRIDGE_SOURCES and QUPATH_BRIDGE_OUTPUTS name no "
                 "folders.")  # fmt: skip
    programs = {"all": running.run_all, "api": running.run_api, "worker": running.run_worker}
    programs[program](settings)
    return 0


def run_migrate(file: Path | None, *, as_json: bool) -> int:
    """Make or change the tables."""
    with needs_service():
        from qupath_bridge.service.running import migrate_database
        from qupath_bridge.service.settings import load_settings
    version = migrate_database(load_settings(file=file))
    if as_json:
        print_json({"schema_version": 1, "version": version})
    else:
        show(f"The database has version {version}.")
    return 0


def run_reindex(outputs: Sequence[str], file: Path | None, *, as_json: bool) -> int:
    """Make the index of patches again."""
    with needs_service():
        from qupath_bridge.service.running import reindex
        from qupath_bridge.service.settings import load_settings
    found = []
    for output, patches in reindex(load_settings(file=file), outputs):
        found.append({"output": output, "patches": patches})
        if not as_json:
            show(f"{count(patches, 'patch', 'patches')} of {output}")
    if as_json:
        print_json({"schema_version": 1, "runs": found})
    return 0
