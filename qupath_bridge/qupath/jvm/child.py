"""The child process: Java and QuPath's classes live here, and answer one question at a time.

Run as ``python -m qupath_bridge.qupath.jvm.child`` by :mod:`.process`. It ends when its input
ends, which is also when the parent dies.
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
    requests, results = _own_pipes()
    questions: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, questions), daemon=True).start()
    while True:
        question = questions.get()
        try:
            for message in _answer(question):
                write_message(results, message)
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001 (whatever Java throws; the parent says it)
            write_message(results, Message({"refused": _cause(error)}))


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Take standard input and output for ourselves: Java logs to what was the output."""
    requests = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, results


def _listen(requests: IO[bytes], questions: queue.Queue[Message]) -> None:
    """Take questions as they come. Whatever Java is at: without a parent this process ends."""
    while True:
        try:
            message = read_message(requests)
        except (EOFError, OSError, ValueError):
            message = None
        if message is None:
            os._exit(0)
        questions.put(message)


def _answer(question: Message) -> Iterator[Message]:
    """Do what is asked. The first import of ``qupath_java`` starts Java."""
    header = question.header
    if header["do"] == "hello":
        yield Message(_hello())
        return
    from . import qupath_java

    if header["do"] == "open":
        yield Message({"entries": qupath_java.entries(header["path"])})
    elif header["do"] == "read":
        stored = qupath_java.read_stored(header["path"])
        yield Message({"more": True, **qupath_java.metadata_values(stored)})
        yield from qupath_java.object_messages(stored, header["detections"])
    elif header["do"] == "edit":
        qupath_java.edit(question)
        yield Message({})
    else:
        raise ValueError(f"no such question: {header['do']}")


def _hello() -> dict[str, str]:
    from importlib.metadata import version

    from .qupath_java import versions

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
