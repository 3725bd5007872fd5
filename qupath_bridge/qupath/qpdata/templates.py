"""Fast reading of detections: a template for all objects with the layout of one that was read.

The bytes of a template are fixed except those of the id, the name and other own texts, the class,
the measured values, the ROIs' numbers and the class probability. If the fixed bytes are equal, the
step-by-step way would read the same parts, so only the others are read; objects that differ in any
fixed byte are read step by step.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from qupath_bridge.model import Plane
from qupath_bridge.qupath.javaio.descriptors import ClassDesc, decode_text
from qupath_bridge.qupath.javaio.grammar import BASE, REFERENCE, STRING
from qupath_bridge.qupath.javaio.stream import JavaArray, JavaObject, JavaStream, Ref

from .measurements import Measurements
from .records import OBJECT_ID, Record
from .rois import ROI_PACKAGE, RawRoi, read_roi
from .schema import METADATA
from .values import PathClass, Values
from .wkb import MAX_COORDINATE

__all__ = ["Templates"]

MAX_TEMPLATES = 16  # that are tried
MAX_LEARNED = 256  # in one file
MAX_FIXED = 4096  # bytes of an object besides its arrays
MAX_CLASSES = 4096  # that are remembered by their reference

_I32 = struct.Struct(">i").unpack_from
_U16 = struct.Struct(">H").unpack_from
_F64 = struct.Struct(">d")
_ID = rb"(?P<id>[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
_BOX = {"c", "t", "x", "x2", "y", "y2", "z"}
_TEXT = 2  # bytes of a text's length
_TAGS = 6  # bytes of an object's or array's tag and the reference to its class


def _is_in_range(box: tuple[float, float, float, float]) -> bool:
    return all(-MAX_COORDINATE <= value <= MAX_COORDINATE for value in box)  # NaN is not


@dataclass(slots=True, eq=False)
class _RoiSlot:
    """Place of a ROI's numbers: a group of a pattern, and arrays by their number."""

    sample: RawRoi
    desc: ClassDesc
    group: str
    part: int
    numbers: bytes
    arrays: tuple[tuple[str, ClassDesc, int], ...]  # field, class, number of the array

    def read(
        self, values: Values, match: re.Match[bytes], places: list[tuple[int, int]]
    ) -> RawRoi | None:
        """Return the ROI."""
        sample, numbers = self.sample, match[self.group]
        offset = match.start(self.group) - _TAGS
        if numbers == self.numbers and len(self.arrays) == 2:  # vertices on the sample's plane
            (x, count), (y, other) = (places[number] for _, _, number in self.arrays)
            if count == other:
                vertices = ((x, y, count),)
                return RawRoi(sample.kind, sample.plane, sample.channel, offset, vertices=vertices)
        node = JavaObject(self.desc, offset)
        step = self.desc.steps[0]
        if step.layout is not None:
            fields: dict[str, Any] = dict(zip(step.names, step.layout.unpack(numbers), strict=True))
            if sample.box is not None and fields.keys() == _BOX:
                box = (fields["x"], fields["y"], fields["x2"], fields["y2"])
                on = (Plane(fields["z"], fields["t"]), fields["c"])
                if on == (sample.plane, sample.channel) and _is_in_range(box):
                    return RawRoi(sample.kind, sample.plane, sample.channel, offset, box=box)
            node.fields.update(fields)
        for name, desc, number in self.arrays:
            start, count = places[number]
            node.fields[name] = JavaArray(desc, start - _TAGS - 4, count, start)
        return read_roi(values, node)


@dataclass(slots=True, eq=False)
class _Template:
    """A sample object, and the places where other objects of its layout differ from it.

    ``parts`` are patterns, each with the item size and the count size of the array or text after
    it, 0 for the last; the other attributes are the part of a group, or the number of an array,
    with a value to read. ``texts`` are keys of the metadata, None for the name.
    """

    sample: Record
    parts: tuple[tuple[re.Pattern[bytes], int, int], ...]
    handles: int
    groups: dict[str, int]
    measured: tuple[str, int] | None  # class of the array of values, its number
    roi: _RoiSlot
    nucleus: _RoiSlot | None
    texts: tuple[tuple[str | None, int], ...]
    classes: dict[bytes, PathClass | None] = field(default_factory=dict)

    def match(
        self, data: bytes, pos: int
    ) -> tuple[int, list[re.Match[bytes]], list[tuple[int, int]]] | None:
        """Match an object at ``pos``; return its end, the parts, and start and count of arrays."""
        matches: list[re.Match[bytes]] = []
        places: list[tuple[int, int]] = []
        for pattern, size, width in self.parts:
            found = pattern.match(data, pos)
            if found is None:
                return None
            matches.append(found)
            pos = found.end()
            if size:
                if pos + width > len(data):
                    return None
                count = (_U16 if width == _TEXT else _I32)(data, pos)[0]
                if count < 0:
                    return None
                places.append((pos + width, count))
                pos += width + count * size
        return pos, matches, places

    def read(
        self,
        values: Values,
        parent: int,
        matches: list[re.Match[bytes]],
        places: list[tuple[int, int]],
    ) -> Record | None:
        """Return the record of a match; None if it must be read step by step."""
        sample, groups = self.sample, self.groups
        measurements = sample.measurements
        if self.measured is not None and isinstance(measurements, Measurements):
            kind, number = self.measured
            start, count = places[number]
            names = measurements.shared_names
            if count < len(names.names):
                return None
            measurements = Measurements(names, values.floats(kind, start, len(names.names)))
        path_class = sample.path_class
        if "path_class" in groups:
            reference = matches[groups["path_class"]]["path_class"]
            if reference not in self.classes:
                handle = int.from_bytes(reference, "big", signed=True) - BASE
                if not 0 <= handle < len(values.stream.handles) or len(self.classes) >= MAX_CLASSES:
                    return None
                self.classes[reference] = values.shared_class(Ref(handle))
            path_class = self.classes[reference]
        name: str | None = sample.name
        metadata = sample.metadata
        if self.texts:
            try:
                texts = list(self._read_texts(values, places))
            except ValueError:
                return None
            metadata = {**metadata, **{key: text for key, text in texts if key is not None}}
            name = dict(texts).get(None, name)
        (probability,) = _F64.unpack(matches[groups["probability"]]["probability"])
        nucleus = self.nucleus
        return Record(
            sample.type,
            parent,
            matches[groups["id"]]["id"].decode("ascii") if "id" in groups else None,
            name,
            sample.color,
            metadata,
            measurements,
            sample.locked,
            path_class,
            self.roi.read(values, matches[self.roi.part], places),
            nucleus.read(values, matches[nucleus.part], places) if nucleus else None,
            None,
            None if math.isnan(probability) else probability,
        )

    def _read_texts(
        self, values: Values, places: list[tuple[int, int]]
    ) -> Iterator[tuple[str | None, str]]:
        """Yield the texts; raise ValueError if one cannot be decoded."""
        for key, number in self.texts:
            start, count = places[number]
            yield key, decode_text(values.stream.data[start : start + count])


class Templates:
    """The templates found in one stream."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._templates: list[_Template] = []  # the one that matched last comes first
        self._left = MAX_LEARNED

    def read(self, most: int, parent: int, records: list[Record]) -> int:
        """Read up to ``most`` objects of known layouts; return their number.

        Their records are added to ``records``. Handles are set as in
        :meth:`~.layouts.Layouts.skip`.
        """
        values, stream, templates = self._values, self._values.stream, self._templates
        data, handles, done = stream.data, stream.handles, 0
        while done < most:
            pos = stream.pos
            for template in templates:
                found = template.match(data, pos)
                if found is None:
                    continue
                end, matches, places = found
                record = template.read(values, parent, matches, places)
                if record is not None:
                    break
            else:
                break
            if template is not templates[0]:
                templates.remove(template)
                templates.insert(0, template)
            handles.frombytes(pos.to_bytes(handles.itemsize, sys.byteorder) * template.handles)
            records.append(record)
            stream.pos = end
            done += 1
        return done

    def learn(self, record: Record, offset: int, handle: int) -> None:
        """Add the template of an object without children that was just read."""
        if self._left:
            self._left -= 1
            template = _make_template(self._values, record, offset, handle)
            if template is not None:
                self._templates.insert(0, template)
                del self._templates[MAX_TEMPLATES:]


class _Slots:
    """Collects the places where objects of a layout may differ; makes patterns of the rest."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset
        # start, end, pattern, size of an item, size of their count
        self._found: list[tuple[int, int, bytes, int, int]] = []
        self._of_group: dict[str, tuple[int, int]] = {}
        self._arrays: list[int] = []

    def group(self, name: str, start: int, count: int, pattern: bytes | None = None) -> None:
        """Mark bytes that may differ, with a name."""
        wild = pattern or b"(?P<%s>.{%d})" % (name.encode(), count)
        self._found.append((start, start + count, wild, 0, 0))
        self._of_group[name] = (start, start + count)

    def array(self, node: JavaArray) -> None:
        """Mark an array whose length and values may differ."""
        size = node.desc.item_size or 0
        self._found.append((node.start - 4, node.start + node.count * size, b"", size, 4))
        self._arrays.append(node.start)

    def text(self, start: int, count: int) -> None:
        """Mark a text of ``count`` bytes from ``start`` that may differ."""
        self._found.append((start - _TEXT, start + count, b"", 1, _TEXT))
        self._arrays.append(start)

    def numbers(self, name: str, node: JavaObject) -> bool:
        """Mark the numbers at an object's beginning; return False if it has none there."""
        layout = node.desc.steps[0].layout if node.desc.steps else None
        if layout is None or self._data[node.offset + 1] != REFERENCE:
            return False
        self.group(name, node.offset + _TAGS, layout.size)
        return True

    def number_of(self, start: int) -> int:
        """Return the number of the array or text that begins at ``start``, counted from 0."""
        return sorted(self._arrays).index(start)

    def part_of(self, name: str) -> int:
        """Return the part with a group."""
        return sum(start < self._of_group[name][0] for start in self._arrays)

    def sample(self, name: str) -> bytes:
        """Return the bytes of a group in the sample object."""
        start, stop = self._of_group[name]
        return self._data[start:stop]

    def groups(self) -> dict[str, int]:
        """Return the part of each group."""
        return {name: self.part_of(name) for name in self._of_group}

    def parts(self, end: int) -> tuple[tuple[re.Pattern[bytes], int, int], ...] | None:
        """Return patterns up to ``end``, each with item and count size of the array after it."""
        parts: list[tuple[re.Pattern[bytes], int, int]] = []
        pattern, at, fixed = b"", self._offset, 0
        for start, stop, wild, size, width in [*sorted(self._found), (end, end, b"", 0, 0)]:
            pattern += re.escape(self._data[at:start]) + wild
            fixed += start - at
            at = stop
            if size:
                parts.append((re.compile(pattern, re.DOTALL), size, width))
                pattern = b""
        parts.append((re.compile(pattern, re.DOTALL), 0, 0))
        return tuple(parts) if fixed <= MAX_FIXED else None


def _make_template(values: Values, record: Record, offset: int, handle: int) -> _Template | None:
    """Return the template of an object that was just read; None if it cannot be reused."""
    stream = values.stream
    data, end, own = stream.data, stream.pos, range(handle, len(stream.handles))
    node = stream.resolve(Ref(handle))
    if not isinstance(node, JavaObject) or data[offset + 1] != REFERENCE:
        return None
    if any(stream.desc_of(number) is not None for number in own):
        return None  # it brings classes, which others refer to
    objects = [part for part in node.contents if isinstance(part, JavaObject)]
    rois = [part for part in objects if part.desc.name.startswith(ROI_PACKAGE)]
    if record.roi is None or len(rois) != 1 + (record.nucleus is not None):
        return None
    slots = _Slots(data, offset)
    if isinstance(node.contents[node.contents.index(rois[0]) - 1], Ref):
        slots.group("path_class", rois[0].offset - 4, 4)
    if record.id is not None:
        text = record.id.encode()
        if data.count(text, offset, end) != 1:
            return None
        slots.group("id", data.find(text, offset, end), 36, _ID)
    texts = dict(_find_texts(stream, node, own, record.id))
    for start, count in texts.values():
        slots.text(start, count)
    measured: JavaArray | None = None
    for part in objects:
        stored = part.fields.get("values")
        if record.measurements and isinstance(stored, JavaArray):
            measured = stored
            slots.array(stored)
    for name, roi in zip(("roi", "nucleus"), rois, strict=False):
        if not _mark_roi(slots, name, roi):
            return None
    last = rois[1].offset if len(rois) == 2 else end - 1 - (data[end - 2 : end] == b"px")
    if data[last - 10 : last - 8] != b"w\x08":
        return None
    slots.group("probability", last - 8, 8)
    parts = slots.parts(end)
    if parts is None:
        return None
    return _Template(
        sample=record,
        parts=parts,
        handles=len(own),
        groups=slots.groups(),
        measured=(measured.desc.name, slots.number_of(measured.start)) if measured else None,
        roi=_make_roi_slot(slots, "roi", rois[0], record.roi),
        nucleus=_make_roi_slot(slots, "nucleus", rois[1], record.nucleus)
        if record.nucleus
        else None,
        texts=tuple((key, slots.number_of(start)) for key, (start, _) in texts.items()),
    )


def _find_texts(
    stream: JavaStream, node: JavaObject, own: range, identity: str | None
) -> Iterator[tuple[str | None, tuple[int, int]]]:
    """Yield the own texts of an object: None for its name, or a key of its metadata.

    Each has the offset and number of its bytes. The id is left out: it has its own pattern.
    """
    offsets = iter(stream.handles[n] for n in own if stream.data[stream.handles[n]] == STRING)
    if isinstance(node.contents[0], str):
        yield None, stream.string_at(next(offsets))
    parts = [part for part in node.contents if isinstance(part, JavaObject)]
    arrays = [
        part for each in parts[:2] if each.desc.name == METADATA.name for part in each.nodes()
    ]
    keys, texts = ([part.items for part in arrays if isinstance(part, JavaArray)] + [[], []])[:2]
    if not all(isinstance(key, Ref) for key in keys):
        return
    for key, text in zip(keys, texts, strict=False):
        if isinstance(text, str):
            place = stream.string_at(next(offsets))
            name = str(stream.resolve(key))
            if text != identity and name != OBJECT_ID:  # an id that is none may be one elsewhere
                yield name, place


def _mark_roi(slots: _Slots, name: str, roi: JavaObject) -> bool:
    """Mark a ROI's numbers, arrays and statistics; return False for a rare form."""
    for item in roi.fields.values():
        if isinstance(item, JavaArray):
            if not item.desc.item_size:
                return False
            slots.array(item)
        elif isinstance(item, JavaObject) and not slots.numbers(f"{name}_stats", item):
            return False
    return slots.numbers(name, roi)


def _make_roi_slot(slots: _Slots, name: str, roi: JavaObject, sample: RawRoi) -> _RoiSlot:
    arrays = sorted(
        (
            (key, item.desc, slots.number_of(item.start))
            for key, item in roi.fields.items()
            if isinstance(item, JavaArray)
        ),
        key=lambda array: array[0],  # x before y
    )
    return _RoiSlot(sample, roi.desc, name, slots.part_of(name), slots.sample(name), tuple(arrays))
