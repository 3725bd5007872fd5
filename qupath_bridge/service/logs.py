"""Logs of the service: lines for people, or JSON with job and slide.

Spans of OpenTelemetry are made where it is installed; its own settings (``OTEL_*``) say where they
go.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonLines", "about", "set_up", "span"]

_about: ContextVar[Mapping[str, Any]] = ContextVar("about")


@contextmanager
def about(**values: Any) -> Iterator[None]:
    """Put values, such as ``job_id``, into each line that is written in the block."""
    known = {
        **_about.get({}),
        **{name: value for name, value in values.items() if value is not None},
    }
    token = _about.set(known)
    try:
        yield
    finally:
        _about.reset(token)


@contextmanager
def span(name: str, **values: Any) -> Iterator[None]:
    """Do what :func:`about` does, and make a span of the block where OpenTelemetry is installed.

    An exception of the block is recorded with the span, and goes on.
    """
    with about(**values):
        try:
            from opentelemetry import trace
        except ImportError:
            yield
            return
        known = {f"qupath_bridge.{key}": value for key, value in _about.get({}).items()}
        with trace.get_tracer("qupath_bridge").start_as_current_span(name, attributes=known):
            yield


class JsonLines(logging.Formatter):
    """One JSON object per record: time (UTC), level, logger, message, subject, and error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        made = datetime.fromtimestamp(record.created, UTC)
        values = {
            "time": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get({}),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def set_up() -> None:
    """Write JSON lines to stderr, also those of the libraries, for a process of our own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    library = logging.getLogger("qupath_bridge")
    library.handlers.clear()
    library.setLevel(logging.INFO)
