"""Frames: how parent and child talk over a pipe, a JSON header and raw bytes, each with its length.

No pickle: what comes in is data, whoever wrote it. Texts go into the header; numbers go into the
body, as arrays in a row that the header names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Frame", "pack", "read_frame", "unpack", "write_frame"]

_LENGTHS = struct.Struct(">IQ")
_MAX_HEADER = 1 << 30  # bytes; what a program prints begins with a larger number

Arrays = Mapping[str, NDArray[Any]]


class Frame(NamedTuple):
    """One message: a JSON object, and bytes or none."""

    header: Mapping[str, Any]
    body: bytes = b""


def write_frame(stream: IO[bytes], frame: Frame) -> None:
    """Write a message and send it off."""
    header = json.dumps(frame.header).encode("ascii")
    stream.write(_LENGTHS.pack(len(header), len(frame.body)) + header)
    stream.write(frame.body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Read the next message, None at the end of the stream.

    Raises
    ------
    EOFError
        If the stream ends within a message.
    ValueError
        If this is no message.
    """
    start = stream.read(_LENGTHS.size)
    if not start:
        return None
    header, body = _LENGTHS.unpack(_whole(start, _LENGTHS.size))
    if header > _MAX_HEADER:
        raise ValueError(f"a header of {header} bytes")
    return Frame(json.loads(_whole(stream.read(header), header)), _whole(stream.read(body), body))


def _whole(content: bytes, size: int) -> bytes:
    if len(content) < size:
        raise EOFError("the stream ends within a message")
    return content


def pack(header: Mapping[str, Any], arrays: Arrays) -> Frame:
    """Return a message with arrays in it.

    >>> frame = pack({"a": 1}, {"x": np.array([1.5]), "y": np.array([1, 2], np.int32)})
    >>> unpack(frame)["y"].tolist()
    [1, 2]
    """
    named = [(name, array.dtype.str, len(array)) for name, array in arrays.items()]
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return Frame({**header, "arrays": named}, body)


def unpack(frame: Frame) -> dict[str, NDArray[Any]]:
    """Return the arrays in a message."""
    arrays, pos = {}, 0
    for name, dtype, count in frame.header["arrays"]:
        arrays[name] = np.frombuffer(frame.body, dtype, count, pos)
        pos += arrays[name].nbytes
    return arrays
