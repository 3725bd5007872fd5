"""Standard streams that are closed, full, or whose reader went away: the job goes on without."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    "ResultError",
    "check_result",
    "flush_result",
    "open_missing",
    "print_to_people",
    "show_escaped",
    "silence",
]

_FULL = {errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, getattr(errno, "EDQUOT", errno.EFBIG)}
"""Numbers of errors of a stream that takes nothing more."""

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing() -> None:
    """Open the null device in place of standard streams that the caller closed (``2>&-``).

    Otherwise ``print`` writes to another stream, and a file that is opened later gets the number
    of the missing one: what is printed would be written into it.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def show_escaped() -> None:
    """Let a console that cannot show a name show it escaped, rather than nothing at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_to_people(text: str) -> None:
    """Print on stderr; where nobody can read it, nothing is printed and nothing fails."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


class ResultError(Exception):
    """The result of a command cannot be written to stdout; the message says why."""


def flush_result() -> None:
    """Write what is buffered for stdout. A reader that went away has what it wants.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError as error:
        check_result(error)
        raise


def check_result(error: OSError) -> None:
    """Raise if an error is one of writing to stdout: it names no file, and the device is full.

    Raises
    ------
    ResultError
    """
    if error.filename is None and error.errno in _FULL:
        silence(sys.stdout)
        raise ResultError(error.strerror) from error


def silence(stream: Any) -> None:
    """Send the rest of a stream to the null device: what is buffered fails again."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
