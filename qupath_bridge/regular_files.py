"""Opening files that other people may have put there: regular files only, of a bounded size.

A named pipe would wait for ever, a device may never end, and a file of many gigabytes does not fit
into memory. All code that reads a file as a whole opens it here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["MAX_RECORD_BYTES", "check_regular", "open_regular", "read_regular"]

MAX_RECORD_BYTES = 256 << 20
"""Largest file of records, settings or JSON that is read. ``project.qpproj`` of 100,000 images has
about 200 MB; a partition with a million patches has about as much."""

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):  # not on every system
    _FLAGS |= getattr(os, _name, 0)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file, without opening it.

    Raises
    ------
    OSError
        If it is not one, or does not exist; ``strerror`` says what it is.
    """
    _check(path, path.stat().st_mode)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never wait for another process.

    Raises
    ------
    OSError
        If it is not a regular file, or cannot be opened.
    """
    check_regular(path)  # first: to open a device can already change it
    handle = os.open(path, _FLAGS)
    try:
        _check(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """Return the content of a regular file of at most ``max_bytes``.

    Raises
    ------
    OSError
        If it is not a regular file, is larger, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= max_bytes:
            # One byte more, as the file may grow while it is read.
            content = file.read(size + 1)
            if len(content) <= size:
                return content
            content += file.read(max_bytes + 1 - len(content))
            size = len(content)
            if size <= max_bytes:
                return content
    raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes", str(path))


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
