import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import index
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.stores.memory import MemoryStore

GOLDEN = Path(__file__).parents[1] / "data" / "index-v1"


def columns(count=3, **changes):
    values = {
        name: ["text"] * count if kind == pa.string() else np.arange(count)
        for name, kind in ((f.name, f.type) for f in index.schema())
    }
    values["shares"] = [[("Tumor", 0.75), ("Stroma, loose", 0.1)]] * count
    values["region_ids"] = [["a", "b"]] * count
    values["margin"] = np.array([0.1 + 0.2, math.nan, -0.5])[:count]
    return {**values, **changes}


def test_a_partition_comes_back_as_it_was():
    store = MemoryStore()
    table = index.make_table(columns(), metadata={"rule": "majority", "run_id": "R"})
    index.write_partition(store, "1_a.svs", table)
    again = index.read_partition(store, "1_a.svs")
    assert again.equals(table)
    assert index.metadata_of(again) == {"schema_version": "1", "rule": "majority", "run_id": "R"}
    assert list(store.list()) == ["index/slide_id=1_a.svs/part-0.parquet"]
    assert again.column("margin").to_pylist() == [0.1 + 0.2, None, -0.5]


def test_a_commit_outlives_a_power_cut(monkeypatch):
    store, asked = MemoryStore(), []
    monkeypatch.setattr(store, "put", lambda name, data, *, durable=False: asked.append(durable))
    index.write_partition(store, "1_a", index.make_table(columns()))
    assert asked == [True]


def test_the_same_rows_give_the_same_bytes():
    stores = MemoryStore(), MemoryStore()
    for store in stores:
        index.write_partition(store, "1_a", index.make_table(columns()))
    names = [list(store.list()) for store in stores]
    assert stores[0].get(names[0][0]) == stores[1].get(names[1][0])


def test_labels_may_be_lists():
    table = index.make_table(columns(label=[["A", "B"], [], None]), multi=True)
    assert table.column("label").to_pylist() == [["A", "B"], [], None]


def test_a_missing_column_is_a_mistake():
    incomplete = columns()
    del incomplete["tma_core"]
    with pytest.raises(KeyError, match="tma_core"):
        index.make_table(incomplete)


def test_arrow_reads_the_whole_as_a_dataset(tmp_path):
    store = LocalStore(tmp_path)
    for slide in ("1_a.svs", "2_b.svs"):
        index.write_partition(store, slide, index.make_table(columns()))
    table = ds.dataset(tmp_path / "index", partitioning="hive").to_table()
    assert sorted(table.column_names) == sorted(index.COLUMN_NAMES)
    assert table.num_rows == 6
    assert set(table.column("slide_id").to_pylist()) == {"1_a.svs", "2_b.svs"}
    ours = index.read_index(store)
    assert ours.column_names == list(index.COLUMN_NAMES)
    assert ours.column("slide_id").to_pylist() == ["1_a.svs"] * 3 + ["2_b.svs"] * 3


def test_an_empty_index():
    store = MemoryStore()
    assert index.read_partition(store, "1_a") is None
    assert index.read_index(store).column_names == list(index.COLUMN_NAMES)
    index.write_csv(store)
    assert store.get("index.csv").decode().strip() == ",".join(index.COLUMN_NAMES)
    index.write_partition(store, "1_a", index.make_table(columns()))
    index.delete_partition(store, "1_a")
    assert index.list_partitions(store) == []


def test_csv_says_what_the_table_says():
    store = MemoryStore()
    table = index.make_table(columns(label=['Tumor, "x"\n', None, "é"]))
    index.write_partition(store, "1_a", table)
    index.write_csv(store)
    text = store.get("index.csv").decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == list(index.COLUMN_NAMES)
    assert rows[0]["label"] == 'Tumor, "x"\n'
    assert (rows[1]["label"], rows[1]["margin"]) == ("", "")
    assert float(rows[0]["margin"]) == 0.1 + 0.2
    assert json.loads(rows[0]["shares"]) == {"Stroma, loose": 0.1, "Tumor": 0.75}
    assert rows[0]["shares"] == '{"Stroma, loose": 0.1, "Tumor": 0.75}'  # keys in order
    assert json.loads(rows[2]["region_ids"]) == ["a", "b"]
    assert rows[2]["slide_id"] == "1_a"


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_damaged_partition_is_named(cut):
    store = MemoryStore()
    index.write_partition(store, "1_a", index.make_table(columns()))
    (name,) = store.list()
    store.put(name, store.get(name)[:cut])
    with pytest.raises(OutputError, match=r"slide_id=1_a.*--resume"):
        index.read_partition(store, "1_a")


def test_another_version_is_refused():
    store = MemoryStore()
    table = index.make_table(columns())
    notes = {b"qupath_bridge.schema_version": b"2"}
    index.write_partition(store, "1_a", table.replace_schema_metadata(notes))
    with pytest.raises(OutputError, match="schema version 2"):
        index.read_partition(store, "1_a")


def test_files_of_version_1_stay_readable():
    """The folder was written by the first version, and is never written again."""
    table = index.read_index(LocalStore(GOLDEN))
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    assert table.column_names == expected["columns"]
    rows = [{**row, "shares": dict(row["shares"])} for row in table.to_pylist()]
    assert rows == expected["rows"]


def test_the_columns_are_those_of_the_contract():
    assert index.COLUMN_NAMES == (
        "slide_id", "run_id", "entry_id", "slide_name", "patch_id", "tile_uuid", "col", "row",
        "x_qupath", "y_qupath", "w_qupath", "h_qupath", "x_slide", "y_slide", "w_slide", "h_slide",
        "z", "t", "width", "height", "mpp", "downsample", "read_level", "label", "label_source",
        "label_share", "margin", "within_share", "excluded_share", "valid_share", "tissue_share",
        "shares", "region_ids", "tma_core", "path", "digest",
    )  # fmt: skip
