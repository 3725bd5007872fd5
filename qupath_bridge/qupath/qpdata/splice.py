"""Tiles put into, and taken out of, a ``data.qpdata`` file that QuPath wrote.

The file is not written anew: its bytes are copied in pieces, up to where the root's children end,
with the new tiles there. What has to change in the copied bytes is found in one walk: the numbers
of children, and the references, since contents are numbered in the order of the stream. What was
first written inside of a tile that goes (a class, a text) and is referred to by what stays moves
to the first such reference.
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
"""Versions of QuPath whose files are changed: those that were held against QuPath itself."""

_CHUNK = 100_000  # references that are worked on at once
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
    """Return a data file with some tiles taken out and others added below the root.

    Parameters
    ----------
    data : bytes
        A whole file of QuPath 0.2 to 0.7.
    remove : collection of str
        Ids of tiles; those that are not there are passed over, and objects that are no tiles are
        never taken. What lies below a tile that goes moves up to its parent, as in QuPath.
    add : iterable of Tile
        Taken one by one. An id may not be that of another tile in the file.
    path : Path, optional
        Named in errors.

    Raises
    ------
    ProjectError
        If the file is not one that QuPath wrote whole.
    OutputError
        If it is of a version that was not tested, has something that this must not touch, or a
        new tile is one that QuPath would not read.
    """
    return _Copy(data, _survey(data, frozenset(remove), path), path).run(add)


def _write_tiles(out: JavaWriter, tiles: Iterable[Tile], taken: frozenset[str]) -> int:
    """Write tile objects; return how many."""
    colors: dict[str, int] = {}
    writer = ObjectWriter(out, colors)
    ids: set[str] = set()
    for tile in tiles:
        problem = (
            "another tile of the image has its id" if tile.id in ids or tile.id in taken else None
        )
        problem = problem or tile_problem(tile)
        if problem is not None:
            raise OutputError(f"The tile {tile.id} ({tile.name}) cannot be written: {problem}.")
        if tile.class_path is not None and tile.color is not None:
            colors.setdefault(tile.class_path, pack_rgb(*tile.color))
        ids.add(tile.id)
        writer.tile(tile)
    return len(ids)


# --- what is where -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A piece of the stream: its bytes, and the contents that are numbered in it."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Survey:
    """What one walk found.

    ``cuts`` are what goes, in order; ``counts`` the offsets of numbers of children, and what they
    are to be; ``root`` the offset of the root's own; ``end`` where its children end, ``count`` how
    many contents were numbered until there; ``tiles`` the ids of all tiles that stay.
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
    walk: _Walk | None = None
    while stream.peek() != STRING:
        if stream.peek() != OBJECT:
            stream.skip()
            continue
        _, desc = stream.open_object()
        if desc.name != HIERARCHY:
            stream.skip_remaining(desc)
        elif walk is not None:
            raise stream.error("a second hierarchy of objects", "one")
        else:
            walk = _Walk(stream, remove)
            walk.hierarchy(desc)
    if stream.read() != "EOF" or not stream.at_end:
        raise stream.error("something else than the end of the file", "'EOF' and nothing more")
    if walk is None:
        raise stream.error("a file without a hierarchy of objects", HIERARCHY)
    return _Survey(
        stream=stream,
        cuts=tuple(_joined(walk.cuts)),
        removed=frozenset(walk.removed),
        counts=walk.counts,
        root=walk.root,
        end=walk.end,
        count=walk.count,
        tiles=frozenset(walk.tiles),
    )


def _check_version(version: int | None, qupath: str | None, path: Path | None) -> None:
    # Files of QuPath 0.2 have version 2, and do not say which QuPath wrote them.
    if version == 2 or (version == 3 and qupath is not None and WRITABLE.match(qupath)):
        return
    writer = f"QuPath {qupath}" if qupath else "a QuPath that it does not name"
    raise OutputError(
        f"{path or 'The file'} is of version {version}, written by {writer}; such files are "
        "read, but not changed.",
        hint="Import the patches in QuPath with the script import_provenance.groovy.",
    )


def _joined(cuts: Iterable[_Span]) -> Iterator[_Span]:
    """Join spans of which one begins where the one before ends."""
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
class _OpenObject:
    """An object whose children are walked."""

    start: int
    first: int  # contents that were numbered before it
    handle: int
    goes: bool
    count_at: int  # offset of the number of children
    body: int
    body_count: int
    children: int
    left: int
    kept: int = 0  # children that it has in the end


class _Walk:
    """The walk through the hierarchy that finds the tiles, and where numbers of children stand."""

    def __init__(self, stream: JavaStream, remove: frozenset[str]) -> None:
        self.stream = stream
        self.values = Values(stream)
        self.remove = remove
        self.cuts: list[_Span] = []
        self.removed: list[int] = []
        self.counts: dict[int, int] = {}
        self.tiles: set[str] = set()
        self.id_keys: dict[bytes, bool] = {}  # references to keys of metadata: is it the id's?
        self.root = self.end = self.count = -1

    def hierarchy(self, desc: ClassDesc) -> None:
        """Walk through the hierarchy, whose class was read."""
        stream = self.stream
        for step in desc.steps:
            if step.layout is not None:
                stream.skip_bytes(step.layout.size)
            elif step.names == ("rootObject",):
                self._objects()
            elif step.names:
                stream.skip()
            else:
                stream.end_object()

    def _objects(self) -> None:
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
            if opened.goes:
                self.removed.append(opened.handle)
                self.cuts.append(_Span(opened.start, opened.body, opened.first, opened.body_count))
                self.cuts.append(_Span(end, stream.pos, count, len(stream.handles)))
                stack[-1].kept += opened.kept
                continue
            if stack:
                stack[-1].kept += 1
            if opened.kept != opened.children:
                self.counts[opened.count_at] = opened.kept

    def _begin(self, *, root: bool = False) -> _OpenObject:
        """Read an object up to its children."""
        stream = self.stream
        start, first = stream.pos, len(stream.handles)
        handle, desc = stream.open_object()
        kind = next((OBJECT_TYPES[name] for name in desc.lineage if name in OBJECT_TYPES), None)
        if kind is None or (kind is ObjectType.ROOT) != root:
            raise stream.error(f"found {desc.name} in the hierarchy", "a QuPath object", start)
        stream.skip()  # name
        stream.skip()  # colour
        goes = self._head(kind)
        at = stream.pos + 2  # behind the tag and the length of the block
        (children,) = _I32.unpack(stream.block(4))
        if stream.pos != at + 4 or not 0 <= children <= stream.size:
            raise stream.error("a number of children in an unusual form", "4 bytes", at)
        body = stream.pos
        return _OpenObject(
            start, first, handle, goes, at, body, len(stream.handles), children, children
        )

    def _head(self, kind: ObjectType) -> bool:
        """Read metadata and measurements; return whether the object is a tile that goes."""
        stream = self.stream
        if kind is not ObjectType.TILE:
            stream.skip()
            if stream.peek() in (OBJECT, NULL, REFERENCE):
                stream.skip()
            return False
        start = stream.pos
        identity = self._identity(start)
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

    def _identity(self, pos: int) -> str | None:
        """Return the id in metadata that are written as QuPath and we do, None in others.

        That is: all references, but for the texts, of which the id comes last.
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
    """Copies a stream in pieces, and numbers its contents anew."""

    def __init__(self, data: bytes, survey: _Survey, path: Path | None) -> None:
        self.data = data
        self.survey = survey
        self.path = path
        noted = np.frombuffer(survey.stream.references or b"", np.uint64)
        self.refs = (noted >> NOTED).astype(np.int64)
        self.counts = (noted & ((1 << NOTED) - 1)).astype(np.int64)
        self.targets = _targets(data, self.refs)
        handles = survey.stream.handles
        self.handles = np.frombuffer(handles, np.dtype(handles.typecode)).astype(np.int64)
        self.numbers: IntArray = np.full(len(handles), -1, np.int64)  # in the new stream
        self.gone = np.zeros(len(handles), bool)
        for cut in survey.cuts:
            self.gone[cut.first : cut.last] = True
        self.next = 0
        self.pieces: list[tuple[int, int] | bytes] = []

    def run(self, tiles: Iterable[Tile]) -> bytes:
        """Return the new stream, with these tiles below the root."""
        survey, uses = self.survey, self._first_uses()
        at, numbered, added = 0, 0, 0
        insertion = _Span(survey.end, survey.end, survey.count, survey.count)
        behind = _Span(len(self.data), len(self.data), len(self.handles), len(self.handles))
        for cut in sorted((*survey.cuts, insertion, behind), key=lambda span: span.start):
            here = slice(*np.searchsorted(self.refs[uses], (at, cut.start)))
            self._emit(_Span(at, cut.start, numbered, cut.first), uses[here])
            at, numbered = cut.end, cut.last
            if cut is insertion:
                out = JavaWriter(behind=self.next)
                added = _write_tiles(out, tiles, survey.tiles)
                self.pieces.append(out.getvalue())
                self.next = out.count
        changed = self._changed(added)
        return b"".join(
            piece if isinstance(piece, bytes) else changed[slice(*piece)] for piece in self.pieces
        )

    def _first_uses(self) -> IntArray:
        """Return the references, by index, that are the first to something that goes."""
        inside = np.zeros(len(self.refs), bool)
        for cut in self.survey.cuts:
            inside[slice(*np.searchsorted(self.refs, (cut.start, cut.end)))] = True
        outside = np.flatnonzero(self.gone[self.targets] & ~inside)
        _, first = np.unique(self.targets[outside], return_index=True)
        return np.sort(outside[first])

    def _emit(self, span: _Span, uses: Iterable[int], known: Iterable[int] = ()) -> None:
        """Let a span of the old stream come next.

        ``uses`` are references in it; what one refers to comes in its place when it goes and did
        not come yet. ``known`` are contents in it that came before; a reference comes in their
        place.
        """
        start, first = span.start, span.first
        places = [(int(self.refs[use]), int(self.targets[use]), int(self.counts[use]), use)
                  for use in uses]  # fmt: skip
        places += [(int(self.handles[handle]), handle, -1, -1) for handle in known]
        for offset, target, count, _ in sorted(places):
            if offset < start:
                continue  # in what a reference was put for
            if count < 0:
                within = self._span_of(target)
                piece: bytes | None = _reference(int(self.numbers[target]))
                count, end, behind = within.first, within.end, within.last
            elif not self._moves(target, span):
                continue
            else:
                piece, end, behind = None, offset + 5, count
            self._number(first, count)
            self.pieces.append((start, offset))
            start, first = end, behind
            if piece is not None:
                self.pieces.append(piece)
            else:
                self._move(target)
        self._number(first, span.last)
        self.pieces.append((start, span.end))

    def _moves(self, target: int, span: _Span) -> bool:
        """Return whether a content is to come where it is referred to, in a span."""
        if not self.gone[target] or self.numbers[target] >= 0:
            return False
        if span.first <= target < span.last:
            return False  # the span has it
        if target in self.survey.removed:
            raise OutputError(
                f"{self.path or 'The file'} was not changed: a tile that is to go is used "
                "elsewhere in it, as by connections between objects.",
                hint="Clear the connections in QuPath, or remove the tiles there.",
            )
        return True

    def _move(self, target: int) -> None:
        """Let a content of what goes come next."""
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

    def _number(self, first: int, last: int) -> None:
        self.numbers[first:last] = np.arange(self.next, self.next + last - first)
        self.next += last - first

    def _changed(self, added: int) -> bytes:
        """Return the old stream with new numbers of children and new references."""
        out = np.frombuffer(self.data, np.uint8).copy()
        counts, root = dict(self.survey.counts), self.survey.root
        (children,) = _I32.unpack_from(self.data, root)
        counts[root] = counts.get(root, children) + added
        for at, kept in counts.items():
            out[at : at + 4] = np.frombuffer(_I32.pack(kept), np.uint8)
        for some in _chunks(len(self.refs)):
            numbers = (self.numbers[self.targets[some]] + BASE).astype(">i4")
            out[self.refs[some, None] + np.arange(1, 5)] = numbers.view(np.uint8).reshape(-1, 4)
        return out.tobytes()


def _reference(number: int) -> bytes:
    return bytes([REFERENCE]) + _I32.pack(BASE + number)


def _targets(data: bytes, refs: IntArray) -> IntArray:
    """Return what the references at these offsets refer to, counted from 0."""
    content = np.frombuffer(data, np.uint8)
    targets: IntArray = np.empty(len(refs), np.int64)
    for some in _chunks(len(refs)):
        values = np.ascontiguousarray(content[refs[some, None] + np.arange(1, 5)])
        targets[some] = values.view(">i4").ravel()
    return targets - BASE


def _chunks(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` items, few at a time to save memory."""
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)
