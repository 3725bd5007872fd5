"""Messages between parent and child over a pipe: a JSON header and raw bytes, with their lengths.

No pickle: what comes in is only data. Texts go into the header; numbers go into the body, as
arrays one after the other that the header names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Message", "pack", "read_message", "unpack", "write_message"]

_LENGTHS = struct.Struct(">IQ")
_MAX_HEADER = 1 << 30  # bytes; text that a program prints is read as a larger number

Arrays = Mapping[str, NDArray[Any]]


class Message(NamedTuple):
    """One message: a JSON object, and bytes that may be empty."""

    header: Mapping[str, Any]
    body: bytes = b""


def write_message(stream: IO[bytes], message: Message) -> None:
    """Write a message and flush the stream."""
    header = json.dumps(message.header).encode("ascii")
    stream.write(_LENGTHS.pack(len(header), len(message.body)) + header)
    stream.write(message.body)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """Read the next message; return None at the end of the stream.

    Raises
    ------
    EOFError
        If the stream ends within a message.
    ValueError
        If the bytes are not a message.
    """
    start = stream.read(_LENGTHS.size)
    if not start:
        return None
    header, body = _LENGTHS.unpack(_check_length(start, _LENGTHS.size))
    if header > _MAX_HEADER:
        raise ValueError(f"a header of {header} bytes")
    return Message(
        json.loads(_check_length(stream.read(header), header)),
        _check_length(stream.read(body), body),
    )


def _check_length(content: bytes, size: int) -> bytes:
    if len(content) < size:
        raise EOFError("the stream ends within a message")
    return content


def pack(header: Mapping[str, Any], arrays: Arrays) -> Message:
    """Return a message with arrays in it.

    >>> message = pack({"a": 1}, {"x": np.array([1.5]), "y": np.array([1, 2], np.int32)})
    >>> unpack(message)["y"].tolist()
    [1, 2]
    """
    named = [(name, array.dtype.str, len(array)) for name, array in arrays.items()]
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return Message({**header, "arrays": named}, body)


def unpack(message: Message) -> dict[str, NDArray[Any]]:
    """Return the arrays in a message."""
    arrays, pos = {}, 0
    for name, dtype, count in message.header["arrays"]:
        arrays[name] = np.frombuffer(message.body, dtype, count, pos)
        pos += arrays[name].nbytes
    return arrays
