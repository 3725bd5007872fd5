"""Reader of ``data.qpdata``, QuPath's file of one image, without Java."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ImageData
from qupath_bridge.qupath.gc_pause import gc_paused
from qupath_bridge.qupath.javaio.grammar import (
    BLOCK,
    JAVA_ENUM,
    LONG_BLOCK,
    OBJECT,
    REFERENCE,
    STRING,
)
from qupath_bridge.qupath.javaio.stream import JavaObject, JavaStream
from qupath_bridge.regular_files import open_regular
from qupath_bridge.schemas import parse_json

from .history import read_properties, read_stains, read_workflow
from .objects import HIERARCHY, Hierarchy, read_hierarchy
from .values import Values

__all__ = [
    "MAX_BYTES",
    "decode_image_data",
    "file_digest",
    "file_version",
    "read_bytes",
    "read_image_data",
    "written_by",
]

MAX_BYTES = 4 << 30
"""Default size limit of a file, bytes."""

MAX_HEADER = 255  # bytes

_HEADER = b"Data file version"
_HINT = (
    "Look for data.qpdata.bkp beside it, which QuPath keeps while it saves; do not save this image "
    "in QuPath before that."
)


def decode_image_data(
    data: bytes | memoryview,
    *,
    path: Path | str | None = None,
    entry_id: str = "",
    detections: bool = False,
    fast: bool = True,
) -> ImageData:
    """Decode the content of a ``data.qpdata`` file of QuPath 0.1.2 to 0.7.0.

    Parameters
    ----------
    data : bytes or memoryview
        The whole file.
    path : path, optional
        Named in errors.
    entry_id : str
        Entry ID of the image, for the ids of objects without an id (QuPath < 0.4).
    detections : bool
        True to read detections, cells and tiles; otherwise they are skipped and counted in
        ``skipped``, and ``parent`` is the nearest annotation or TMA core above.
    fast : bool
        True to skip or read detections of equal layout together; False for comparison.

    Raises
    ------
    ProjectError
        If the bytes are not such a file, or only a part of one. The error names the offset and
        the expected content. A file that cannot be read to its end gives no result.

    Notes
    -----
    A file without its ``"EOF"`` mark is accepted only if it ends exactly after the properties,
    which QuPath writes last. QuPath itself accepts more, and opens an image without objects.
    """
    content = bytes(data)
    stream = JavaStream(content, path)
    parts = _Parts(entry_id, detections, fast)
    try:
        with gc_paused():
            hierarchy = parts.read(stream)
    except ProjectError as error:
        raise _add_hint(error) from None
    digest = f"xxh3_128:{xxhash.xxh3_128(content).hexdigest()}"
    return parts.image_data(hierarchy, digest)


def read_image_data(
    path: Path,
    *,
    entry_id: str = "",
    detections: bool = False,
    max_bytes: int = MAX_BYTES,
) -> ImageData:
    """Read one ``data.qpdata`` file; see :func:`decode_image_data`.

    Raises
    ------
    ProjectError
        If the file cannot be read, is larger than ``max_bytes``, changes while it is read, or
        is not a file of QuPath. A backup beside it is not read.
    """
    content = read_bytes(path, max_bytes)
    return decode_image_data(content, path=path, entry_id=entry_id, detections=detections)


def file_digest(path: Path) -> str:
    """Return the digest of a file, as in ``ImageData``; raise ProjectError if it is unreadable."""
    digest = xxhash.xxh3_128()
    try:
        with open_regular(path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ProjectError(f"cannot be read, {error.strerror or error}", path=path) from error
    return f"xxh3_128:{digest.hexdigest()}"


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a file's bytes; raise ProjectError if it is too large or changes meanwhile."""
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > max_bytes:
                raise ProjectError(
                    f"a file of {before.st_size} bytes, more than the allowed {max_bytes}",
                    path=path,
                    hint="Raise max_bytes if you trust the file.",
                )
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ProjectError(f"cannot be read, {error.strerror or error}", path=path) from error
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same or len(content) != before.st_size:
        raise ProjectError(
            "the file was changed while it was read",
            path=path,
            hint="Wait until QuPath has saved, then try again.",
        )
    return content


def _add_hint(error: ProjectError) -> ProjectError:
    if error.hint is not None:
        return error
    return ProjectError(
        error.problem, path=error.path, offset=error.offset, expected=error.expected, hint=_HINT
    )


@dataclass(slots=True)
class _Parts:
    """The items of a file, identified by class and not by order, as in QuPath."""

    entry_id: str
    detections: bool
    fast: bool
    version: int | None = None
    qupath_version: str | None = None
    image_type: str | None = None
    stains: Mapping[str, Any] | None = None
    workflow: tuple[Mapping[str, Any], ...] = ()
    hierarchy: Hierarchy | None = None
    properties: Mapping[str, Any] | None = None
    problems: list[str] = field(default_factory=list)

    def image_data(self, hierarchy: Hierarchy, digest: str) -> ImageData:
        """Return the items as ``ImageData``."""
        return ImageData(
            objects=hierarchy.objects,
            skipped=hierarchy.skipped,
            image_type=self.image_type,
            stains=self.stains,
            workflow=self.workflow,
            properties=self.properties or {},
            tma_grid=hierarchy.grid,
            digest=digest,
            version=self.version,
            qupath_version=self.qupath_version,
            problems=tuple(self.problems),
        )

    def read(self, stream: JavaStream) -> Hierarchy:
        """Read all items up to the end mark; return the objects."""
        values = Values(stream)
        self.version = file_version(stream)
        server = values.named(stream.read(), "the image server as text")
        self.qupath_version = written_by(server)
        while not stream.at_end:
            tag = stream.peek()
            if tag == OBJECT:
                self._read_object(values)
            elif tag in (STRING, REFERENCE, JAVA_ENUM):
                # The mark is a reference if an object of the image has that very text.
                node = stream.read_item()
                if node == "EOF":
                    break
                if isinstance(node, JavaObject) and node.desc.name.endswith("$ImageType"):
                    self.image_type = node.constant
            elif tag in (BLOCK, LONG_BLOCK):
                raise stream.error("block data between the items", "an object")
            else:
                stream.skip()
        else:
            if self.properties is None:
                raise stream.truncated()
            self.problems.append("the file ends without its end mark, after the properties")
        if self.hierarchy is None:
            raise stream.error("a file without a hierarchy of objects", HIERARCHY)
        return self.hierarchy

    def _read_object(self, values: Values) -> None:
        stream, offset = values.stream, values.stream.pos
        _, desc = stream.open_object()
        name = desc.name
        if name == HIERARCHY:
            if self.hierarchy is not None:
                raise stream.error("a second hierarchy of objects", "one", offset)
            self.hierarchy = read_hierarchy(
                values, desc, entry_id=self.entry_id, detections=self.detections, fast=self.fast
            )
        elif name == "qupath.lib.color.ColorDeconvolutionStains":
            self.stains = read_stains(values, desc, offset)
        elif name == "qupath.lib.plugins.workflow.Workflow":
            self.workflow = read_workflow(values)
        elif name in ("java.util.HashMap", "java.util.LinkedHashMap"):
            self.properties = read_properties(values, desc)
        else:
            stream.skip_remaining(desc)
            if name != "java.util.Locale":
                self.problems.append(f"an item of class {name} was skipped")


def file_version(stream: JavaStream) -> int | None:
    """Read the first item and return the version of the file; None if it does not state it."""
    (length,) = struct.unpack(">H", stream.block(2))
    text = stream.block(length) if length <= MAX_HEADER else b""
    if not text.startswith(_HEADER):
        raise stream.error("not a QuPath data file", f"{_HEADER.decode()!r} and a number", 4)
    number = re.match(rb" (\d{1,4})\b", text[len(_HEADER) :])
    return int(number[1]) if number else None


def written_by(server: str) -> str | None:
    """Return the version of QuPath in the image server's JSON (QuPath >= 0.3)."""
    try:
        stored = parse_json(server)
    except ValueError:
        return None
    version = stored.get("qupathVersion") if isinstance(stored, dict) else None
    return version if isinstance(version, str) else None
