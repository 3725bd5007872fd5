"""Damaged copies of records: JSON changed by its structure, tables of the index, settings, bytes.

All are made from a random generator, so that a seed gives the same case again.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from qupath_bridge.testing.fuzz import damage

Mutate = Callable[[random.Random, bytes], bytes]


class Raw(str):
    """Text that is written into JSON as it is."""


TEXTS = (
    "", " ", ".", "..", "../../keep.txt", "..\\..\\keep.txt", "/etc/passwd", "C:\\keep.txt",
    "a/b", "nul\0byte", "\x1b[2J\x07", "\x85\x9b31m", "\u202egnp.exe", "two\nlines", "\ud800",
    "x" * 300, "x" * 100_000, "file:///etc/passwd", "http://127.0.0.1:9/x", "0", "None", "=1+1",
    "%2e%2e%2f", "é" * 130, "\ufeff", "2026-13-45T99:99:99Z",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30,
    0.5, -0.5, 1e-300, 1e300, 1e22,
)  # fmt: skip
RAW = (
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("1" * 5000), Raw("-0"),
    Raw("[" * 30_000 + "]" * 30_000), Raw('{"a":' * 5_000 + "1" + "}" * 5_000), Raw("undefined"),
    Raw('"\\ud800"'), Raw("01"), Raw("[" * 300 + "]" * 300),
)  # fmt: skip


def dump(value: object) -> str:
    """Return JSON; a :class:`Raw` text stands in it as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(k)}:{dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


def _key(key: str) -> str:
    return json.dumps(str(key))


def _places(value: object) -> list[tuple[dict | list, object]]:
    """Return each place in a JSON value: container and key."""
    found, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _other(rng: random.Random, value: object) -> object:
    """Return a value to put in place of another."""
    way = rng.randrange(8)
    if way == 0:
        return rng.choice((None, True, False))
    if way == 1:
        return rng.choice(({}, [], [[]], [None], {"": None}, [{}], [value], {"a": value}))
    if way == 2:
        return rng.choice(RAW)
    if way in (3, 4):
        return rng.choice(NUMBERS)
    if way == 5 and isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), value * 50, value[::-1]))
    if way == 5 and isinstance(value, int | float):
        return rng.choice((-value, value + 1, value * 2, value * 1e9, str(value), float(value)))
    if way == 5 and isinstance(value, list):
        return rng.choice((value * 2, value[:-1], value[::-1], value * 200))
    return rng.choice(TEXTS)


def change(rng: random.Random, value: object) -> object:
    """Return a JSON value with one to three places changed; the value itself may be changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(value) if isinstance(value, dict | list) else []
        if not places or rng.random() < 0.02:
            value = _other(rng, value)
            continue
        container, key = rng.choice(places)
        way = rng.randrange(10)
        if way < 2:
            del container[key]
        elif way == 2 and isinstance(container, dict):
            container[rng.choice((*TEXTS, *container))] = container.pop(key)
        elif way == 3 and isinstance(container, dict):
            other = dump(_other(rng, container[key]))
            container[key] = Raw(f"{dump(container[key])},{_key(key)}:{other}")
        elif way == 3:
            container.insert(key, container[rng.randrange(len(container))])
        elif way == 4:
            other, at = rng.choice(places)
            copy = json.loads(json.dumps(other.get(at) if isinstance(other, dict) else None))
            container[key] = copy
        else:
            container[key] = _other(rng, container[key])
    return value


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Return changed JSON, or damaged bytes."""
    way = rng.random()
    if way < 0.15:
        return damage(rng, data)
    if way < 0.17:
        return rng.choice((b"", b" ", b"null", b"[]", b"\xff\xfe" + data, b"\xef\xbb\xbf" + data))
    text = dump(change(rng, json.loads(data)))
    return text.encode("utf-8", "surrogatepass")


def mutate_gzip_json(rng: random.Random, data: bytes) -> bytes:
    """Return compressed, changed JSON, or damaged bytes of the compressed file."""
    if rng.random() < 0.15:
        return damage(rng, data)
    return gzip.compress(mutate_json(rng, gzip.decompress(data)), 1)


TYPES = (
    pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.binary(), pa.list_(pa.int32()),
    pa.null(), pa.int8(), pa.timestamp("ns"), pa.large_string(),
    pa.dictionary(pa.int8(), pa.string()),
)  # fmt: skip


def _filled(rng: random.Random, kind: pa.DataType, rows: int) -> pa.Array:
    """Return a column of a type, with values that fit it where that is easy, else with nulls."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        texts = [text for text in TEXTS if text != "\ud800"]
        return pa.array([rng.choice(texts) for _ in range(rows)], kind)
    if pa.types.is_floating(kind):
        values = (0.0, -1.0, float("nan"), float("inf"), 1e300, 0.5)
        return pa.array([rng.choice(values) for _ in range(rows)], kind)
    if pa.types.is_integer(kind):
        top = 2 ** (kind.bit_width - 1) - 1
        return pa.array([rng.choice((0, -1, 1, top, -top - 1)) for _ in range(rows)], kind)
    return pa.nulls(rows, kind)


def mutate_parquet(rng: random.Random, data: bytes) -> bytes:
    """Return a changed table with its metadata, or damaged bytes."""
    way = rng.randrange(12)
    if way < 3:
        return damage(rng, data)
    table = pq.read_table(io.BytesIO(data))
    at = rng.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    if way == 3:
        table = table.remove_column(at)
    elif way == 4:
        names = list(table.column_names)
        names[at] = rng.choice((*names, "", "x", "\x1b[2J", "slide_id"))
        table = table.rename_columns(names)
    elif way == 5:
        kind = rng.choice(TYPES)
        table = table.set_column(at, name, _filled(rng, kind, table.num_rows))
    elif way == 6:
        table = table.set_column(at, name, pa.nulls(table.num_rows, column.type))
    elif way in (7, 8):
        values = column.to_pylist()
        for place in rng.sample(range(len(values)), min(len(values), rng.choice((1, 3)))):
            values[place] = rng.choice((None, _filled(rng, column.type, 1).to_pylist()[0]))
        table = table.set_column(at, name, pa.array(values, column.type))
    elif way == 9:
        rows = [
            rng.randrange(table.num_rows) for _ in range(rng.choice((0, 1, table.num_rows, 500)))
        ]
        table = table.take(pa.array(rows, pa.int64()))
    else:
        metadata = dict(table.schema.metadata or {})
        key = rng.choice(sorted(metadata))
        if rng.random() < 0.1:
            del metadata[key]
        else:
            try:
                metadata[key] = mutate_json(rng, metadata[key])
            except ValueError:
                metadata[key] = damage(rng, metadata[key])
        table = table.replace_schema_metadata(metadata)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


LITERALS = (
    "true", "false", "0", "1", "-1", "7", "nan", "inf", "-inf", "1e400", "0.0", "1_000", "1e-300",
    "9223372036854775807", "1" + "0" * 40, '""', '"auto"', '"x"', '"\\u001b[2J"', '"nul\\u0000"',
    "[]", "{}", "[1]", '["x"]', "[[1]]", "[" * 2_000 + "]" * 2_000, "2026-01-01", "0x10",
    "2026-01-01T00:00:00Z", "\'\'\'\n\'\'\'", "{a = 1}", '"../../keep.txt"', '["*"]', "=", "",
    '"' + "x" * 100_000 + '"',
)  # fmt: skip


def mutate_toml(rng: random.Random, data: bytes) -> bytes:
    """Return changed settings, or damaged bytes."""
    way = rng.randrange(10)
    if way < 2:
        return damage(rng, data)
    lines = data.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key, equals, _ = lines[at].partition(" = ")
        step = rng.randrange(8)
        if step == 0:
            del lines[at]
            lines = lines or [""]
        elif step == 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif step == 2:
            lines[at] = rng.choice(
                ("[patches]", "[[patches]]", "[x]", "[", "x.y.z = 1", "\0", "#\x1b")
            )
        elif equals and step == 3:
            lines[at] = rng.choice(("x", "", '""', "a.b", "size", '"\\u001b"')) + " = 1"
        elif equals:
            lines[at] = f"{key} = {rng.choice(LITERALS)}"
    return "\n".join(lines).encode()
