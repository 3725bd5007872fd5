"""Adding and removing tiles in a ``data.qpdata`` file that QuPath wrote.

The file is not composed anew: its bytes are copied in pieces, and new tiles are inserted at the
end of the root's children. The values that change in the copied bytes are found in one pass: the
numbers of children, and the references, since contents are numbered in the order of the stream. A
content (a class, a text) that was first written inside a removed tile and is still referred to
moves to the first such reference.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qupath_bridge.errors import OutputError
from qupath_bridge.model import IntArray, ObjectType
from qupath_bridge.qupath.files.classes import pack_rgb
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.javaio.descriptors import ClassDesc
from qupath_bridge.qupath.javaio.grammar import BASE, NOTED, NULL, OBJECT, REFERENCE, STRING
from qupath_bridge.qupath.javaio.stream import JavaObject, JavaStream, Ref
from qupath_bridge.qupath.javaio.writer import JavaWriter

from .object_writer import ObjectWriter
from .objects import HIERARCHY, OBJECT_TYPES, is_metadata, split_id
from .reading import file_version, written_by
from .records import OBJECT_ID
from .rules import tile_problem
from .values import Values

__all__ = ["WRITABLE", "splice_tiles"]

WRITABLE = re.compile(r"0\.[2-7](\.|-|$)")
"""Versions of QuPath whose files are changed: those that were tested with QuPath itself."""

_CHUNK = 100_000  # references that are processed at once
_I32 = struct.Struct(">i")
_PLAIN_METADATA = re.compile(
    rb"sq.{4}q.{4}"  # an object, its class, the number 1
    rb"uq.{4}(.{4})((?:q.{4})*?)q(.{4})"  # an array of keys
    rb"uq.{4}(.{4})",  # an array of texts, which come next
    re.DOTALL,
)
_ID = re.compile(rb"t\0\x24([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})x")


def splice_tiles(
    data: bytes,
    *,
    remove: Collection[str] = (),
    add: Iterable[Tile] = (),
    path: Path | None = None,
) -> bytes:
    """Return a data file with some tiles removed and others added below the root.

    Parameters
    ----------
    data : bytes
        A complete file of QuPath 0.2 to 0.7.
    remove : collection of str
        Ids of tiles; unknown ids are ignored, and objects that are not tiles are never removed.
        The children of a removed tile move up to its parent, as in QuPath.
    add : iterable of Tile
        Read one by one. Ids must differ from those of other tiles in the file.
    path : Path, optional
        Named in errors.

    Raises
    ------
    ProjectError
        If the file is not a complete file of QuPath.
    OutputError
        If the file has an untested version, or content that must not be changed, or QuPath
        could not read a new tile.
    """
    return _Copy(data, _survey(data, frozenset(remove), path), path).run(add)


def _write_tiles(out: JavaWriter, tiles: Iterable[Tile], used_ids: frozenset[str]) -> int:
    """Write tile objects; return their number."""
    colors: dict[str, int] = {}
    writer = ObjectWriter(out, colors)
    ids: set[str] = set()
    for tile in tiles:
        problem = (
            "another tile of the image has its id"
            if tile.id in ids or tile.id in used_ids
            else None
        )
        problem = problem or tile_problem(tile)
        if problem is not None:
            raise OutputError(f"The tile {tile.id} ({tile.name}) cannot be written: {problem}.")
        if tile.class_path is not None and tile.color is not None:
            colors.setdefault(tile.class_path, pack_rgb(*tile.color))
        ids.add(tile.id)
        writer.tile(tile)
    return len(ids)


# --- survey of a file ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the stream: its bytes, and the numbers of its contents."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Survey:
    """Result of reading a file before it is changed.

    ``cuts`` are the removed parts, in order; ``counts`` the new numbers of children by offset;
    ``root`` the offset of the root's number of children; ``end`` the end of its children, and
    ``count`` the number of contents up to there; ``tiles`` the ids of all remaining tiles.
    """

    stream: JavaStream
    cuts: tuple[_Span, ...]
    removed: frozenset[int]
    counts: dict[int, int]
    root: int
    end: int
    count: int
    tiles: frozenset[str]


def _survey(data: bytes, remove: frozenset[str], path: Path | None) -> _Survey:
    stream = JavaStream(data, path)
    stream.references = array("Q")
    version = file_version(stream)
    server = Values(stream).named(stream.read(), "the image server as text")
    _check_version(version, written_by(server), path)
    finder: _TileFinder | None = None
    ended = False
    while not ended:
        tag = stream.peek()
        if tag in (STRING, REFERENCE):
            ended = stream.read_item() == "EOF"
            if tag == STRING and not ended:
                raise stream.error("content after the hierarchy", "'EOF' and the end of the file")
            continue
        if tag != OBJECT:
            stream.skip()
            continue
        _, desc = stream.open_object()
        if desc.name != HIERARCHY:
            stream.skip_remaining(desc)
        elif finder is not None:
            raise stream.error("a second hierarchy of objects", "one")
        else:
            finder = _TileFinder(stream, remove)
            finder.hierarchy(desc)
    if not stream.at_end:
        raise stream.error("content after the hierarchy", "'EOF' and the end of the file")
    if finder is None:
        raise stream.error("a file without a hierarchy of objects", HIERARCHY)
    return _Survey(
        stream=stream,
        cuts=tuple(_join_spans(finder.cuts)),
        removed=frozenset(finder.removed),
        counts=finder.counts,
        root=finder.root,
        end=finder.end,
        count=finder.count,
        tiles=frozenset(finder.tiles),
    )


def _check_version(version: int | None, qupath: str | None, path: Path | None) -> None:
    # Files of QuPath 0.2 have version 2, and do not state the version of QuPath.
    if version == 2 or (version == 3 and qupath is not None and WRITABLE.match(qupath)):
        return
    writer = f"QuPath {qupath}" if qupath else "an unknown QuPath"
    raise OutputError(
        f"{path or 'The file'} is of version {version}, written by {writer}; such files are "
        "read, but not changed.",
        hint="Import the patches in QuPath with the script import_provenance.groovy.",
    )


def _join_spans(cuts: Iterable[_Span]) -> Iterator[_Span]:
    """Join adjacent spans."""
    last: _Span | None = None
    for cut in sorted(cuts, key=lambda span: span.start):
        if last is not None and last.end == cut.start:
            last = _Span(last.start, cut.end, last.first, cut.last)
            continue
        if last is not None:
            yield last
        last = cut
    if last is not None:
        yield last


@dataclass(slots=True, eq=False)
class _OpenItem:
    """An object whose children are being read."""

    start: int
    first: int  # number of contents before it
    handle: int
    is_removed: bool
    count_at: int  # offset of the number of children
    body: int
    body_count: int
    children: int
    left: int
    new_children: int = 0


class _TileFinder:
    """Reads the hierarchy and finds the tiles, and the offsets of numbers of children."""

    def __init__(self, stream: JavaStream, remove: frozenset[str]) -> None:
        self.stream = stream
        self.values = Values(stream)
        self.remove = remove
        self.cuts: list[_Span] = []
        self.removed: list[int] = []
        self.counts: dict[int, int] = {}
        self.tiles: set[str] = set()
        self.id_keys: dict[bytes, bool] = {}  # by reference to a key: whether it is the id's
        self.root = self.end = self.count = -1

    def hierarchy(self, desc: ClassDesc) -> None:
        """Read the hierarchy, whose class was read before."""
        stream = self.stream
        for step in desc.steps:
            if step.layout is not None:
                stream.skip_bytes(step.layout.size)
            elif step.names == ("rootObject",):
                self._read_objects()
            elif step.names:
                stream.skip()
            else:
                stream.end_object()

    def _read_objects(self) -> None:
        stream = self.stream
        stack = [self._begin(root=True)]
        while stack:
            opened = stack[-1]
            if opened.left:
                opened.left -= 1
                stack.append(self._begin())
                continue
            stack.pop()
            end, count = stream.pos, len(stream.handles)
            if not stack:
                self.root, self.end, self.count = opened.count_at, end, count
            stream.end_object()
            if opened.is_removed:
                self.removed.append(opened.handle)
                self.cuts.append(_Span(opened.start, opened.body, opened.first, opened.body_count))
                self.cuts.append(_Span(end, stream.pos, count, len(stream.handles)))
                stack[-1].new_children += opened.new_children
                continue
            if stack:
                stack[-1].new_children += 1
            if opened.new_children != opened.children:
                self.counts[opened.count_at] = opened.new_children

    def _begin(self, *, root: bool = False) -> _OpenItem:
        """Read an object up to its children."""
        stream = self.stream
        start, first = stream.pos, len(stream.handles)
        handle, desc = stream.open_object()
        kind = next((OBJECT_TYPES[name] for name in desc.lineage if name in OBJECT_TYPES), None)
        if kind is None or (kind is ObjectType.ROOT) != root:
            raise stream.error(f"found {desc.name} in the hierarchy", "a QuPath object", start)
        stream.skip()  # name
        stream.skip()  # colour
        is_removed = self._read_head(kind)
        at = stream.pos + 2  # after the tag and the length of the block
        (children,) = _I32.unpack(stream.block(4))
        if stream.pos != at + 4 or not 0 <= children <= stream.size:
            raise stream.error("a number of children in an unusual form", "4 bytes", at)
        body = stream.pos
        return _OpenItem(
            start, first, handle, is_removed, at, body, len(stream.handles), children, children
        )

    def _read_head(self, kind: ObjectType) -> bool:
        """Read metadata and measurements; return whether the object is a tile to remove."""
        stream = self.stream
        if kind is not ObjectType.TILE:
            stream.skip()
            if stream.peek() in (OBJECT, NULL, REFERENCE):
                stream.skip()
            return False
        start = stream.pos
        identity = self._match_id(start)
        if identity is None:
            node = stream.read()
            if isinstance(node, JavaObject) and is_metadata(node):
                identity, _ = split_id(self.values.metadata(node))
                stream.skip()
        else:
            stream.skip()
            stream.skip()
        if identity in self.remove:
            return True
        if identity is not None:
            self.tiles.add(identity)
        return False

    def _match_id(self, pos: int) -> str | None:
        """Return the id in metadata of the usual layout; None for other layouts.

        QuPath and this library write all keys as references, and the id as the last text.
        """
        data = self.stream.data
        found = _PLAIN_METADATA.match(data, pos)
        if found is None:
            return None
        count, key = int.from_bytes(found[1], "big"), found[3]
        if count * 5 != len(found[2]) + 5 or count != int.from_bytes(found[4], "big"):
            return None
        if key not in self.id_keys:
            handle = _I32.unpack(key)[0] - BASE
            known = 0 <= handle < len(self.stream.handles)
            self.id_keys[key] = known and self.stream.resolve(Ref(handle)) == OBJECT_ID
        if not self.id_keys[key]:
            return None
        at = found.end()
        for _ in range(count - 1):
            if data[at : at + 1] == b"t":
                at += 3 + int.from_bytes(data[at + 1 : at + 3], "big")
            elif data[at : at + 1] == b"q":
                at += 5
            else:
                return None
        text = _ID.match(data, at)
        return text[1].decode("ascii") if text else None


# --- the copy ------------------------------------------------------------------------------------


class _Copy:
    """Copies a stream in pieces, and renumbers its contents."""

    def __init__(self, data: bytes, survey: _Survey, path: Path | None) -> None:
        self.data = data
        self.survey = survey
        self.path = path
        references = np.frombuffer(survey.stream.references or b"", np.uint64)
        self.refs = (references >> NOTED).astype(np.int64)
        self.counts = (references & ((1 << NOTED) - 1)).astype(np.int64)
        self.targets = _read_targets(data, self.refs)
        handles = survey.stream.handles
        self.handles = np.frombuffer(handles, np.dtype(handles.typecode)).astype(np.int64)
        self.numbers: IntArray = np.full(len(handles), -1, np.int64)  # in the new stream
        self.in_cut = np.zeros(len(handles), bool)
        for cut in survey.cuts:
            self.in_cut[cut.first : cut.last] = True
        self.next = 0
        self.pieces: list[tuple[int, int] | bytes] = []

    def run(self, tiles: Iterable[Tile]) -> bytes:
        """Return the new stream, with these tiles below the root."""
        survey, uses = self.survey, self._first_uses()
        at, numbered, added = 0, 0, 0
        insertion = _Span(survey.end, survey.end, survey.count, survey.count)
        tail = _Span(len(self.data), len(self.data), len(self.handles), len(self.handles))
        for cut in sorted((*survey.cuts, insertion, tail), key=lambda span: span.start):
            here = slice(*np.searchsorted(self.refs[uses], (at, cut.start)))
            self._emit(_Span(at, cut.start, numbered, cut.first), uses[here])
            at, numbered = cut.end, cut.last
            if cut is insertion:
                out = JavaWriter(preceding=self.next)
                added = _write_tiles(out, tiles, survey.tiles)
                self.pieces.append(out.getvalue())
                self.next = out.count
        changed = self._renumber(added)
        return b"".join(
            piece if isinstance(piece, bytes) else changed[slice(*piece)] for piece in self.pieces
        )

    def _first_uses(self) -> IntArray:
        """Return the indices of the first references to contents in cuts."""
        inside = np.zeros(len(self.refs), bool)
        for cut in self.survey.cuts:
            inside[slice(*np.searchsorted(self.refs, (cut.start, cut.end)))] = True
        outside = np.flatnonzero(self.in_cut[self.targets] & ~inside)
        _, first = np.unique(self.targets[outside], return_index=True)
        return np.sort(outside[first])

    def _emit(self, span: _Span, uses: Iterable[int], known: Iterable[int] = ()) -> None:
        """Append a span of the old stream.

        ``uses`` are references in it; the target of one is written in its place if it is in a cut
        and was not written before. ``known`` are contents in it that were written before; a
        reference is written in their place.
        """
        start, first = span.start, span.first
        places = [(int(self.refs[use]), int(self.targets[use]), int(self.counts[use]), use)
                  for use in uses]  # fmt: skip
        places += [(int(self.handles[handle]), handle, -1, -1) for handle in known]
        for offset, target, count, _ in sorted(places):
            if offset < start:
                continue  # inside a content that was replaced by a reference
            if count < 0:
                within = self._span_of(target)
                piece: bytes | None = _reference(int(self.numbers[target]))
                count, end, next_first = within.first, within.end, within.last
            elif not self._must_move(target, span):
                continue
            else:
                piece, end, next_first = None, offset + 5, count
            self._assign_numbers(first, count)
            self.pieces.append((start, offset))
            start, first = end, next_first
            if piece is not None:
                self.pieces.append(piece)
            else:
                self._move(target)
        self._assign_numbers(first, span.last)
        self.pieces.append((start, span.end))

    def _must_move(self, target: int, span: _Span) -> bool:
        """Return whether a content must be written at a reference to it in a span."""
        if not self.in_cut[target] or self.numbers[target] >= 0:
            return False
        if span.first <= target < span.last:
            return False  # the span has it
        if target in self.survey.removed:
            raise OutputError(
                f"{self.path or 'The file'} was not changed: a tile to remove is used elsewhere "
                "in it, as by connections between objects.",
                hint="Clear the connections in QuPath, or remove the tiles there.",
            )
        return True

    def _move(self, target: int) -> None:
        """Append a content of a cut."""
        span = self._span_of(target)
        known = span.first + np.flatnonzero(self.numbers[span.first : span.last] >= 0)
        uses = range(*np.searchsorted(self.refs, (span.start, span.end)))
        self._emit(span, uses, known.tolist())

    def _span_of(self, handle: int) -> _Span:
        start, end = self.survey.stream.extent(handle)
        first = last = handle
        while first and start <= self.handles[first - 1] < end:
            first -= 1
        while last < len(self.handles) and start <= self.handles[last] < end:
            last += 1
        return _Span(start, end, first, last)

    def _assign_numbers(self, first: int, last: int) -> None:
        self.numbers[first:last] = np.arange(self.next, self.next + last - first)
        self.next += last - first

    def _renumber(self, added: int) -> bytes:
        """Return the old stream with new numbers of children and new references."""
        out = np.frombuffer(self.data, np.uint8).copy()
        counts, root = dict(self.survey.counts), self.survey.root
        (children,) = _I32.unpack_from(self.data, root)
        counts[root] = counts.get(root, children) + added
        for at, count in counts.items():
            out[at : at + 4] = np.frombuffer(_I32.pack(count), np.uint8)
        for part in _chunks(len(self.refs)):
            numbers = (self.numbers[self.targets[part]] + BASE).astype(">i4")
            out[self.refs[part, None] + np.arange(1, 5)] = numbers.view(np.uint8).reshape(-1, 4)
        return out.tobytes()


def _reference(number: int) -> bytes:
    return bytes([REFERENCE]) + _I32.pack(BASE + number)


def _read_targets(data: bytes, refs: IntArray) -> IntArray:
    """Return the targets of the references at these offsets, counted from 0."""
    content = np.frombuffer(data, np.uint8)
    targets: IntArray = np.empty(len(refs), np.int64)
    for part in _chunks(len(refs)):
        values = np.ascontiguousarray(content[refs[part, None] + np.arange(1, 5)])
        targets[part] = values.view(">i4").ravel()
    return targets - BASE


def _chunks(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` items, in parts of bounded size."""
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)
