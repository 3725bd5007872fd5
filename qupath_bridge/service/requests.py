"""Requests for jobs, checked as the command line checks an export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qupath_bridge import registry
from qupath_bridge.api.shared_runs import check_shareable
from qupath_bridge.config import Settings
from qupath_bridge.errors import UsageError

from .roots import check_output, check_source
from .settings import ServiceSettings

__all__ = ["JobRequest", "check_request"]

NOT_ALLOWED = (
    "qupath", "break_lock", "runner", "workers", "progress", "cache", "cache_size",
)  # fmt: skip
"""Options of running that are the operator's."""

MAX_SOURCES = 10_000


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A checked request.

    Attributes
    ----------
    sources : tuple of str
        Real paths.
    output : str
    configuration : mapping
        Options, as in a configuration file.
    """

    sources: tuple[str, ...]
    output: str
    configuration: Mapping[str, Any]

    def settings(self) -> Settings:
        """Return the options as values."""
        return Settings.parse(self.configuration)

    def as_json(self) -> dict[str, Any]:
        """Return the request as plain JSON values."""
        return {
            "sources": list(self.sources),
            "output": self.output,
            "configuration": dict(self.configuration),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> JobRequest:
        """Return the request of :meth:`as_json`."""
        return cls(tuple(values["sources"]), values["output"], values["configuration"])


def check_request(
    service: ServiceSettings,
    sources: Sequence[str],
    output: str,
    configuration: Mapping[str, Any],
) -> JobRequest:
    """Check what somebody asks for; nothing is opened.

    Raises
    ------
    UsageError
        If a place is outside the roots, or an option belongs to the operator.
    ConfigError
        With every fault of the configuration.
    """
    if not 0 < len(sources) <= MAX_SOURCES:
        raise UsageError(f"A job has 1 to {MAX_SOURCES} sources, not {len(sources)}.")
    settings = Settings.parse(configuration, source="configuration")
    check_shareable(settings)
    if found := [name for name in NOT_ALLOWED if name in settings.options.changed()]:
        raise UsageError(
            f"A job cannot have the options {', '.join(found)}: they are the operator's.",
            hint="Leave them out.",
        )
    for place in _places(settings):
        check_source(place, service.sources)
    return JobRequest(
        tuple(check_source(place, service.sources) for place in sources),
        check_output(output, service.outputs),
        configuration,
    )


def _places(settings: Settings) -> Iterator[str]:
    """Yield every place that options name, besides sources and output."""
    options, config = settings.options, settings.config
    yield from options.slide_map.values()
    yield from options.search
    for path in (options.annotations, options.metadata, options.coords):
        if path is not None:
            yield str(path)
    if options.corrections not in {"auto", "none"}:
        yield options.corrections
    for text in (config.tissue, config.stain):
        argument = registry.split_argument(text)[1]
        if argument is not None and _names_file(argument):
            yield argument
    for reference in config.stain_reference:
        yield reference.partition("#")[0]  # a region of a slide may stand behind it


def _names_file(argument: str) -> bool:
    """Return whether the argument of a part is a place, not a number or the name of a class."""
    return "/" in argument or "\\" in argument or Path(argument).exists()
