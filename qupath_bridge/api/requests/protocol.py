"""The form of requests, events and results. Docs: docs/from-qupath-scripts.md.

A request is a JSON object in a file. While it is carried out, events are emitted: ``start``,
``progress``, ``warning``, ``alive``, and last ``result`` or ``error``. The content of the last one
also stands in the result file that the request names.
"""

from __future__ import annotations

import platform
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError, OutputError, UsageError
from qupath_bridge.pipeline.records import dump_json
from qupath_bridge.regular_files import read_regular
from qupath_bridge.schemas import first_fault, parse_json
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.suggestions import similar_value

__all__ = [
    "PROTOCOL",
    "Emit",
    "ProjectRequest",
    "Request",
    "error_event",
    "load_request",
    "parse_request",
    "start_event",
    "write_result",
]

PROTOCOL = 1
"""Version of requests, events and results; both sides have to speak the same one."""

MAX_REQUEST_BYTES = 1 << 24
"""Largest request file. It names files; their content is not in it."""

Event = Mapping[str, Any]
Emit = Callable[[Event], None]
Text = Annotated[str, Field(min_length=1)]


class Request(BaseModel):
    """Fields that every request has.

    Attributes
    ----------
    protocol : int
    command : str
    result : str or None
        Place of the result file.
    project : str or None
        Project file.
    reviewer : str or None
        Name of the person at QuPath, if known.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
    command_name: ClassVar[str]

    protocol: Literal[1]
    command: Text
    result: Text | None = None
    project: Text | None = None
    reviewer: str | None = None


class ProjectRequest(Request):
    """A request that needs a project."""

    project: Text


def load_request(path: Path | str) -> dict[str, Any]:
    """Read a request file.

    Raises
    ------
    UsageError
        If it cannot be read, or is not a JSON object.
    """
    try:
        value = parse_json(read_regular(Path(path), MAX_REQUEST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The request {path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"The request {path} is not a JSON object.")
    return value


def parse_request(values: Mapping[str, Any], models: Mapping[str, type[Request]]) -> Request:
    """Return a request as the value of its command.

    Parameters
    ----------
    values : mapping
        As it stands in the file.
    models : mapping of str to type
        Classes of requests by command.

    Raises
    ------
    UsageError
        If the protocol, the command or a field is not as it should be.
    """
    if values.get("protocol") != PROTOCOL:
        raise UsageError(
            f"The request has protocol {values.get('protocol')!r}, and qupath-bridge "
            f"{__version__} speaks protocol {PROTOCOL}.",
            hint="Install scripts or extension, and Python package, of the same version.",
        )
    command = str(values.get("command"))
    if command not in models:
        close = similar_value(command, tuple(models))
        raise UsageError(
            f"No request is called {command!r}.",
            hint=f"Did you mean {close}?" if close else f"There are {', '.join(models)}.",
        )
    try:
        return models[command].model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(f"The request {command} has a fault: {first_fault(error)}.") from error


def start_event() -> Event:
    """Return the first event: who answers."""
    return {
        "event": "start",
        "protocol": PROTOCOL,
        "version": __version__,
        "python": sys.executable or platform.python_implementation(),
    }


def error_event(error: BaseException) -> Event:
    """Return an error as an event; its hint is a sentence that says what to do next."""
    known = isinstance(error, BridgeError)
    details = None if known else "".join(traceback.format_exception(error))
    return {
        "event": "error",
        "kind": type(error).__name__,
        "message": _sentence(error),
        "hint": error.hint
        if isinstance(error, BridgeError)
        else "Report this with the details, please.",
        "details": details,
    }


def _sentence(error: BaseException) -> str:
    """Return an error in one line, also if it has several faults."""
    if isinstance(error, BridgeError):
        return "; ".join(error.message.splitlines())
    return f"Something went wrong that should not have: {type(error).__name__}: {error}"


def write_result(place: str | None, content: Mapping[str, Any]) -> None:
    """Write a result file whole or not at all; nothing if no place is given.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    if place is None:
        return
    path = Path(place)
    if not path.name or not path.parent.is_dir():
        raise OutputError(
            f"The result cannot be written to {place}: there is no folder {path.parent}."
        )
    LocalStore(path.parent).put(path.name, dump_json({"protocol": PROTOCOL, **content}))
