"""Carry out a request: find its command, and tell the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qupath_bridge.errors import BridgeError, InterruptedRunError
from qupath_bridge.pipeline.cancel import Cancel

from . import checking, correcting, exporting, listing, previewing, tiling
from .protocol import Emit, Request, error_event, load_request, parse_request, write_result

__all__ = ["answer", "carry_out", "prepare"]

Command = Callable[[Any, Emit, Cancel | None], Mapping[str, Any]]

_COMMANDS: Mapping[str, tuple[type[Request], Command]] = {
    "check": (checking.CheckRequest, checking.check),
    "export": (exporting.ExportRequest, exporting.export),
    "preview": (previewing.PreviewRequest, previewing.preview),
    "runs": (listing.RunsRequest, listing.runs),
    "tiles": (tiling.TilesRequest, tiling.tiles),
    "corrections": (correcting.CorrectionsRequest, correcting.corrections),
}
_MODELS = {name: model for name, (model, _) in _COMMANDS.items()}


def _ignore(event: Mapping[str, Any]) -> None:
    pass


def carry_out(
    request: Mapping[str, Any], emit: Emit = _ignore, cancel: Cancel | None = None
) -> Mapping[str, Any]:
    """Carry out a request and return its value.

    Parameters
    ----------
    request : mapping
        As it stands in a file; docs/from-qupath-scripts.md lists the fields.
    emit : callable, optional
        Called with events (mappings) of progress and warnings.
    cancel : Cancel, optional
        Stops an export.

    Raises
    ------
    UsageError
        If the request has a fault.
    BridgeError
        If it cannot be carried out.
    """
    parsed = parse_request(request, _MODELS)
    _, command = _COMMANDS[parsed.command]
    return command(parsed, emit, cancel)


def answer(path: Path | str, emit: Emit, cancel: Cancel | None = None) -> int:
    """Carry out the request in a file, tell the outcome, and return the exit status.

    The outcome is emitted as the event ``result`` or ``error``, and written to the result file.
    """
    place: str | None = None
    try:
        request = load_request(path)
        named = request.get("result")
        place = named if isinstance(named, str) and named else None
        value = carry_out(request, emit, cancel)
        write_result(place, {"ok": True, "value": value})
    except KeyboardInterrupt:
        error = InterruptedRunError("Stopped.", hint="Nothing was changed.")
        return _tell(error, place, emit)
    except Exception as error:  # noqa: BLE001  # the last boundary: QuPath gets a message
        return _tell(error, place, emit)
    emit({"event": "result", "file": place, **({} if place else {"value": value})})
    return 1 if value.get("failures") else 0


def _tell(error: Exception, place: str | None, emit: Emit) -> int:
    event = dict(error_event(error))
    content = {key: value for key, value in event.items() if key != "event"}
    with suppress(BridgeError):  # the event says what went wrong
        write_result(place, {"ok": False, "error": content})
    emit(event)
    return error.exit_code if isinstance(error, BridgeError) else 1


def prepare() -> None:
    """Import what requests need, before the first one comes."""
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401
    import shapely  # noqa: F401

    from qupath_bridge.runners import threads  # noqa: F401
    from qupath_bridge.sources import embedded  # noqa: F401
