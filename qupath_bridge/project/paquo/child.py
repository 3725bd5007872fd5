"""The child process: Java and QuPath's classes live here, and answer one question at a time.

Run as ``python -m qupath_bridge.project.paquo.child`` by :mod:`.process`. It ends when its input
ends, which is also when the parent dies.
"""

from __future__ import annotations

import os
import platform
import queue
import threading
from collections.abc import Iterator
from typing import IO

from .frames import Frame, read_frame, write_frame

__all__ = ["main"]


def main() -> None:
    """Answer until the input ends."""
    requests, results = _own_pipes()
    questions: queue.Queue[Frame] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, questions), daemon=True).start()
    while True:
        question = questions.get()
        try:
            for frame in _answer(question):
                write_frame(results, frame)
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001 (whatever Java throws; the parent says it)
            write_frame(results, Frame({"refused": _cause(error)}))


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Take standard input and output for ourselves: Java logs to what was the output."""
    requests = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, results


def _listen(requests: IO[bytes], questions: queue.Queue[Frame]) -> None:
    """Take questions as they come. Whatever Java is at: without a parent this process ends."""
    while True:
        try:
            frame = read_frame(requests)
        except (EOFError, OSError, ValueError):
            frame = None
        if frame is None:
            os._exit(0)
        questions.put(frame)


def _answer(question: Frame) -> Iterator[Frame]:
    """Do what is asked. The first import of ``beyond`` starts Java."""
    header = question.header
    if header["do"] == "hello":
        yield Frame(_hello())
        return
    from . import beyond

    if header["do"] == "open":
        yield Frame({"entries": beyond.entries(header["path"])})
    elif header["do"] == "read":
        stored = beyond.read_stored(header["path"])
        yield Frame({"more": True, **beyond.about(stored)})
        yield from beyond.object_frames(stored, header["detections"])
    elif header["do"] == "edit":
        beyond.edit(question)
        yield Frame({})
    else:
        raise ValueError(f"no such question: {header['do']}")


def _hello() -> dict[str, str]:
    from importlib.metadata import version

    from .beyond import versions

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
