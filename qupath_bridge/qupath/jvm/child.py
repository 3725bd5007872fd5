"""The child process: runs Java with QuPath's classes and answers one question at a time.

Run as ``python -m qupath_bridge.qupath.jvm.child`` by :mod:`.process`. It ends when its input
ends, which also happens when the parent dies.
"""

from __future__ import annotations

import os
import platform
import queue
import threading
from collections.abc import Iterator
from typing import IO

from .messages import Message, read_message, write_message

__all__ = ["main"]


def main() -> None:
    """Answer until the input ends."""
    requests, results = _take_pipes()
    questions: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, questions), daemon=True).start()
    while True:
        question = questions.get()
        try:
            for message in _answer(question):
                write_message(results, message)
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001 (whatever Java throws; the parent reports it)
            write_message(results, Message({"refused": _cause(error)}))


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep standard input and output for messages: what Java logs goes to standard error."""
    requests = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, results


def _listen(requests: IO[bytes], questions: queue.Queue[Message]) -> None:
    """Queue questions as they come. At the end of the input, end this process at once."""
    while True:
        try:
            message = read_message(requests)
        except (EOFError, OSError, ValueError):
            message = None
        if message is None:
            os._exit(0)
        questions.put(message)


def _answer(question: Message) -> Iterator[Message]:
    """Answer one question. The first import of :mod:`.java` starts Java."""
    header = question.header
    if header["do"] == "hello":
        yield Message(_hello())
        return
    from .java_data import entries, metadata_values, read_stored
    from .java_objects import object_messages
    from .java_writing import edit

    if header["do"] == "open":
        yield Message({"entries": entries(header["path"])})
    elif header["do"] == "read":
        stored = read_stored(header["path"])
        yield Message({"more": True, **metadata_values(stored)})
        yield from object_messages(stored, header["detections"])
    elif header["do"] == "edit":
        edit(question)
        yield Message({})
    else:
        raise ValueError(f"unknown question: {header['do']}")


def _hello() -> dict[str, str]:
    from importlib.metadata import version

    # Loads every class of QuPath that is used, so that a QuPath without one is refused here.
    from . import java_writing  # noqa: F401
    from .java import versions

    return {
        **versions(),
        "jpype": version("JPype1"),
        "paquo": version("paquo"),
        "python_architecture": platform.machine(),
    }


def _cause(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join((str(error).strip() or type(error).__name__).split())
    return text.removeprefix("java.lang.").rstrip(".")


if __name__ == "__main__":
    main()
