"""Rows of a slide that are read some thousand at a time."""

from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import DamagedRowsError
from qupath_bridge.outputs.row_batches import (
    BATCH,
    FEW,
    Rows,
    batches_of,
    flat_values,
    held,
    row_problem,
)
from qupath_bridge.stores.memory import MemoryStore
from tests.outputs.test_index import columns


def many(count):
    """Return the rows of many patches, each with a place of its own."""
    one = index.make_table(columns(1, path=["patches/a.png"], w_qupath=[9], h_qupath=[9]))
    table = one.take(pa.array([0] * count))
    at = table.schema.get_field_index("x_qupath")
    return table.set_column(at, table.schema.field(at), pa.array(range(count), pa.int32()))


def stored(table, group=index.GROUP):
    file = pa.BufferOutputStream()
    pq.write_table(table, file, row_group_size=group)
    return Rows(file.getvalue().to_pybytes(), "part-0.parquet")


@pytest.mark.parametrize("group", [1000, BATCH, BATCH + 1, 1 << 20])
def test_batches_are_the_rows_in_order_and_never_large(group):
    table = many(2 * BATCH + 100)
    rows = stored(table, group)
    batches = list(rows.batches())
    assert max(batch.num_rows for batch in batches) <= BATCH
    assert pa.Table.from_batches(batches).equals(table)
    assert rows.num_rows == table.num_rows
    assert rows.table().equals(table)


def test_some_columns_of_a_table_come_as_those_of_a_file():
    table = many(BATCH + 1)
    for rows in (table, stored(table)):
        batches = list(batches_of(rows, ["x_qupath"]))
        assert [batch.num_rows for batch in batches] == [BATCH, 1]
        assert [v for batch in batches for v in batch.column(0).to_pylist()] == [*range(BATCH + 1)]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1])
def test_few_rows_are_held(count):
    table = many(count)
    rows = stored(table)
    found = held(rows)
    assert (found is rows) == (count > FEW)
    for names in (["x_qupath"], ["path", "digest"], None):
        wanted = table if names is None else table.select(names)
        batches = list(batches_of(found, names))
        assert pa.Table.from_batches(batches, wanted.schema).equals(wanted)


def test_more_rows_take_no_more_memory():
    pool, peaks = pa.default_memory_pool(), []
    for count in (1, 4):
        rows, peak = stored(many(count * index.GROUP)), 0
        before = pool.bytes_allocated()
        for _ in rows.batches():
            peak = max(peak, pool.bytes_allocated() - before)
        peaks.append(peak)
    assert peaks[1] < 1.2 * peaks[0]


def test_damage_far_behind_the_beginning_is_found_when_it_is_read():
    table = many(2 * BATCH)
    digests = pa.array([b"good"] * (2 * BATCH - 1) + [b"\xff"]).view(pa.string())
    at = table.schema.get_field_index("digest")
    rows = stored(table.set_column(at, table.schema.field(at), digests))
    batches = rows.batches()
    next(batches)
    with pytest.raises(DamagedRowsError, match=r"part-0\.parquet is damaged"):
        list(batches)
    with pytest.raises(DamagedRowsError, match=r"part-0\.parquet is damaged"):
        rows.table()
    assert len(list(rows.batches(["path"]))) == 2


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("w_qupath", 0, "the column w_qupath has 0"),
        ("path", "patches/../../a", "leads out of the folder"),
        ("digest", None, "the column digest has a row without a value"),
    ],
)
def test_a_row_that_cannot_be_is_found_in_the_last_batch(column, value, problem):
    table = many(2 * BATCH)
    for name, least in {
        "h_slide": 1,
        "w_slide": 1,
        "width": 1,
        "height": 1,
        "downsample": 1,
    }.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array([least] * len(table), field.type))
    table = table.set_column(
        table.schema.get_field_index("mpp"),
        table.schema.field("mpp"),
        pa.nulls(len(table), pa.float64()),
    )
    assert row_problem(table) is None
    at = table.schema.get_field_index(column)
    values = [*table.column(column).to_pylist()[:-1], value]
    table = table.set_column(
        at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
    )
    for rows in (table, stored(table)):
        assert problem in row_problem(rows)


VALUES = {
    "texts": pa.array(["a", None, "", "bc", "ä"]),
    "numbers": pa.array([1.5, None, 0.0, -0.0, 7.0]),
    "whole": pa.array([1, None, 0, -5, 7], pa.int32()),
    "lists": pa.array([["a", None], None, [], ["b"], ["c"]], pa.list_(pa.string())),
    "maps": pa.array(
        [[("a", 1.0)], None, [], [("b", None), ("c", 2.0)], [("d", 3.0)]],
        pa.map_(pa.string(), pa.float64()),
    ),
}


def digests(pieces):
    """Return the digest of each buffer of pieces of a column."""
    found = {}
    for piece in pieces:
        for name, content in flat_values(piece, "x"):
            found.setdefault(name, xxhash.xxh3_128()).update(content)
    return {name: digest.hexdigest() for name, digest in found.items()}


@pytest.mark.parametrize("name", VALUES)
def test_the_digest_of_a_column_does_not_depend_on_where_it_is_cut(name):
    column = VALUES[name]
    whole = digests([column])
    for cuts in ([0, 1, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]):
        pieces = [column[a:b] for a, b in pairwise(cuts)]
        assert digests(pieces) == whole


@pytest.mark.parametrize("name", VALUES)
def test_each_other_value_gives_another_digest(name):
    column = VALUES[name]
    values, seen = column.to_pylist(), [digests([column])]
    for row in range(1, len(values)):
        changed = [*values]
        changed[row - 1], changed[row] = changed[row], changed[row - 1]
        seen.append(digests([pa.array(changed, column.type)]))
    for row in range(len(values)):
        changed = [*values]
        changed[row] = values[0] if values[row] is None else None
        seen.append(digests([pa.array(changed, column.type)]))
    assert all(one != other for n, one in enumerate(seen) for other in seen[:n])


def test_texts_that_only_end_elsewhere_differ():
    assert digests([pa.array(["ab", "c"])]) != digests([pa.array(["a", "bc"])])
    lists = [[["a"], ["b", "c"]], [["a", "b"], ["c"]]]
    one, other = (digests([pa.array(each)]) for each in lists)
    assert one != other


def test_a_partition_is_opened_once_and_its_schema_read_without_its_rows(monkeypatch):
    store = MemoryStore()
    index.write_partition(store, "1_a", many(5))
    monkeypatch.setattr(Rows, "batches", None)
    monkeypatch.setattr(Rows, "table", None)
    rows = index.open_partition(store, "1_a")
    assert rows.num_rows == 5
    assert index.metadata_of(rows)["schema_version"] == "1"
    assert index.open_partition(store, "2_b") is None
