import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import DamagedRowsError
from qupath_bridge.outputs.csv_file import write_csv
from qupath_bridge.outputs.folder import FolderOutput
from qupath_bridge.outputs.memory import MemoryOutput
from qupath_bridge.stores.memory import MemoryStore

GOLDEN = Path(__file__).parents[1] / "data" / "index-v1"


def columns(count=3, **changes):
    values = {
        name: ["text"] * count if kind == pa.string() else np.arange(count)
        for name, kind in ((f.name, f.type) for f in index.schema())
    }
    values["channels"] = [["Red", "Green", "Blue"]] * count
    values["metadata"] = [{"patient": "P 1", "site": "Ärm"}, {}, None][:count]
    values["offset"] = [512, None, 2**40][:count]
    values["shares"] = [[("Tumor", 0.75), ("Stroma, loose", 0.1)]] * count
    values["region_ids"] = values["object_ids"] = [["a", "b"]] * count
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
    lists = [["A", "B"], [], None]
    table = index.make_table(columns(label=lists, rule_label=lists[::-1]), multi=True)
    assert table.column("label").to_pylist() == lists
    assert table.column("rule_label").to_pylist() == lists[::-1]


def test_a_missing_column_is_a_mistake():
    incomplete = columns()
    del incomplete["tma_core"]
    with pytest.raises(KeyError, match="tma_core"):
        index.make_table(incomplete)


def test_quality_columns_are_there_only_when_asked_for():
    table = index.make_table(columns(qc_focus=[0.5, math.nan, 1]), measured=["qc_focus"])
    names = table.column_names
    assert names[names.index("digest") + 1] == "qc_focus"
    assert [name for name in names if name != "qc_focus"] == list(index.COLUMN_NAMES[1:])
    assert table.column("qc_focus").to_pylist() == [0.5, None, 1.0]
    assert table.schema.field("qc_focus").type == pa.float64()
    with pytest.raises(KeyError, match="qc_focus"):
        index.make_table(columns(), measured=["qc_focus"])


def test_offsets_and_lengths_may_be_larger_than_a_file_of_4_gigabytes():
    table = index.make_table(columns())
    assert table.column("offset").to_pylist() == [512, None, 2**40]
    assert table.schema.field("length").type == pa.int64()


def test_metadata_of_an_entry_is_a_map():
    table = index.make_table(columns())
    assert [value and dict(value) for value in table.column("metadata").to_pylist()] == [
        {"patient": "P 1", "site": "Ärm"}, [], None,
    ]  # fmt: skip


def test_facts_of_a_slide_come_back_as_they_were():
    store = MemoryStore()
    facts = {"plan_digest": "xxh3_128:0", "counts": {"Größe": 3}, "seconds": 0.5, "none": None}
    table = index.make_table(columns(), metadata={"run_id": "R"})
    assert index.facts_of(table) == {}
    index.write_partition(store, "1_a", index.with_facts(table, facts))
    again = index.read_partition(store, "1_a")
    assert index.facts_of(again) == facts
    assert index.metadata_of(again)["run_id"] == "R"
    assert index.facts_of(index.with_facts(again, {"other": 1})) == {"other": 1}
    with pytest.raises(ValueError, match="JSON"):
        index.with_facts(table, {"x": math.inf})


def test_only_some_columns_of_a_partition():
    store = MemoryStore()
    index.write_partition(store, "1_a", index.make_table(columns(), metadata={"run_id": "R"}))
    table = index.read_partition(store, "1_a", ["path", "digest"])
    assert table.column_names == ["path", "digest"]
    assert table.num_rows == 3
    assert index.metadata_of(table)["run_id"] == "R"


def test_dropped_rows_come_with_the_rows_or_not_at_all(monkeypatch):
    """Whatever write is the last one: the rows and the dropped ones are of the same commit."""
    store, put = MemoryStore(), MemoryStore.put
    old, new = (index.make_table(columns(label=[name] * 3)) for name in ("old", "new"))
    index.write_partition(store, "1_a", old, old)
    for last in range(3):
        calls = []

        def cut(self, name, data, *, durable=False, calls=calls, last=last):
            calls.append(name)
            if len(calls) > last:
                raise KeyboardInterrupt
            put(self, name, data, durable=durable)

        monkeypatch.setattr(MemoryStore, "put", cut)
        if last < 2:
            with pytest.raises(KeyboardInterrupt):
                index.write_partition(store, "1_a", new, new)
        else:
            index.write_partition(store, "1_a", new, new)
        monkeypatch.setattr(MemoryStore, "put", put)
        expected = "old" if last < 2 else "new"
        for table in (index.read_partition(store, "1_a"), index.read_dropped(store, "1_a")):
            assert table.column("label").to_pylist() == [expected] * 3
    assert len(list(store.list("dropped/"))) - len(list(index.unused_dropped(store, "1_a"))) == 1
    index.write_partition(store, "1_a", new)
    assert index.read_dropped(store, "1_a") is None
    assert set(index.unused_dropped(store, "1_a")) == set(store.list("dropped/"))


def test_arrow_reads_the_whole_as_a_dataset(tmp_path):
    output = FolderOutput(tmp_path)
    for slide in ("1_a.svs", "2_b.svs"):
        table = index.make_table(columns())
        index.write_partition(output.store, slide, table, dropped=table)
    table = ds.dataset(tmp_path / "index", partitioning="hive").to_table()
    assert sorted(table.column_names) == sorted(index.COLUMN_NAMES)
    assert table.num_rows == 6
    assert set(table.column("slide_id").to_pylist()) == {"1_a.svs", "2_b.svs"}
    ours = index.read_index(output)
    assert ours.column_names == list(index.COLUMN_NAMES)
    assert ours.column("slide_id").to_pylist() == ["1_a.svs"] * 3 + ["2_b.svs"] * 3


def test_an_empty_index():
    output = MemoryOutput()
    store = output.store
    assert index.read_partition(store, "1_a") is None
    assert index.read_dropped(store, "1_a") is None
    assert index.read_index(output).column_names == list(index.COLUMN_NAMES)
    write_csv(output)
    assert store.get("index.csv").decode().strip() == ",".join(index.COLUMN_NAMES[:-1])
    table = index.make_table(columns())
    index.write_partition(store, "1_a", table, table)
    index.delete_partition(store, "1_a")
    assert index.list_partitions(store) == []
    assert list(store.list()) == ["index.csv"]


def test_slides_that_asked_for_other_measures_are_read_together():
    output = MemoryOutput()
    first = index.make_table(columns(1, qc_b=[0.5], qc_a=[1]), measured=["qc_b", "qc_a"])
    index.write_partition(output.store, "1_a", first)
    index.write_partition(output.store, "2_b", index.make_table(columns(1)))
    table = index.read_index(output)
    behind = table.column_names.index("digest") + 1
    assert table.column_names[behind : behind + 3] == ["qc_a", "qc_b", "rule_label"]
    assert table.column("qc_b").to_pylist() == [0.5, None]
    write_csv(output)
    assert [row["qc_b"] for row in csv_rows(output)] == ["0.5", ""]


def csv_rows(output):
    text = output.get("index.csv").decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_says_what_the_table_says():
    output = MemoryOutput()
    table = index.make_table(columns(label=['Tumor, "x"\n', None, "é"]))
    index.write_partition(output.store, "1_a", table)
    write_csv(output)
    rows = csv_rows(output)
    names = [*index.COLUMN_NAMES[:-1], "meta.patient", "meta.site"]
    assert list(rows[0]) == names
    assert rows[0]["label"] == 'Tumor, "x"\n'
    assert (rows[1]["label"], rows[1]["margin"]) == ("", "")
    assert float(rows[0]["margin"]) == 0.1 + 0.2
    assert json.loads(rows[0]["shares"]) == {"Stroma, loose": 0.1, "Tumor": 0.75}
    assert rows[0]["shares"] == '{"Stroma, loose": 0.1, "Tumor": 0.75}'  # keys in order
    assert json.loads(rows[2]["region_ids"]) == ["a", "b"]
    assert rows[2]["slide_id"] == "1_a"
    assert [row["meta.patient"] for row in rows] == ["P 1", "", ""]


def test_csv_has_the_metadata_keys_of_all_slides():
    output = MemoryOutput()
    for slide, key in (("1_a", "stain"), ("2_b", "patient"), ("3_c", "stain")):
        table = index.make_table(columns(1, metadata=[{key: slide}]))
        index.write_partition(output.store, slide, table)
    write_csv(output)
    rows = csv_rows(output)
    assert list(rows[0])[-2:] == ["meta.patient", "meta.stain"]
    assert [row["meta.stain"] for row in rows] == ["1_a", "", "3_c"]
    assert [row["meta.patient"] for row in rows] == ["", "2_b", ""]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_holds_no_text_that_a_spreadsheet_would_run(sign):
    output = MemoryOutput()
    text = f"{sign}1+cmd|' /C calc'!A0"
    table = index.make_table(
        columns(
            1, label=[text], slide_name=[text], metadata=[{"note": text}], row=[-5], margin=[-0.5]
        )
    )
    index.write_partition(output.store, "-1_a", table)
    write_csv(output)
    (row,) = csv_rows(output)
    for name in ("label", "slide_name", "meta.note"):
        assert row[name] == f"'{text}"
    assert row["slide_id"] == "'-1_a"
    assert (row["row"], row["margin"]) == ("-5", "-0.5")  # numbers stay numbers
    assert index.read_index(output).column("label").to_pylist() == [text]


TEXTS = ["a,b", 'a "b"', "a\nb", "a\r\nb", "\rb", "", " ", "=1,2", "'", "é", "\0", None]


@pytest.mark.parametrize(
    "texts",
    [TEXTS, ["a"] * 3, ["a,b"] * 3, [None] * 3, ["a", "b", None], *([one, "b"] for one in TEXTS)],
)
def test_csv_is_what_the_csv_module_writes(texts):
    output = MemoryOutput()
    values = columns(3)
    count = len(texts)
    values = {name: (list(each) * count)[:count] for name, each in values.items()}
    table = index.make_table({**values, "label": texts, "tma_core": texts})
    index.write_partition(output.store, "1_a", table)
    write_csv(output)
    text = output.get("index.csv").decode("utf-8")
    lines = list(csv.reader(io.StringIO(text, newline="")))
    again = io.StringIO(newline="")
    for line in lines:
        own = io.StringIO(newline="")
        csv.writer(own, lineterminator="\r\n").writerow(line)
        again.write(own.getvalue().removesuffix("\r\n") + "\n")
    assert again.getvalue() == text
    for name in ("label", "tma_core"):
        found = [line[lines[0].index(name)].removeprefix("'") for line in lines[1:]]
        assert found == [(said or "").removeprefix("'") for said in texts]


def test_csv_is_written_slide_by_slide(monkeypatch):
    """What is put is a stream, and no table is read before the one ahead of it is written."""
    output = MemoryOutput()
    for number in range(5):
        index.write_partition(output.store, f"{number}_a", index.make_table(columns()))
    events, rows = [], MemoryOutput.rows
    monkeypatch.setattr(
        MemoryOutput, "rows", lambda self, slide: (events.append(slide), rows(self, slide))[1]
    )
    monkeypatch.setattr(MemoryOutput, "put", lambda self, name, data: events.extend(map(len, data)))
    write_csv(output)
    assert [type(event) for event in events] == [str] * 5 + [int] + [str, int] * 5


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_damaged_partition_is_named(cut):
    store = MemoryStore()
    index.write_partition(store, "1_a", index.make_table(columns()))
    (name,) = store.list()
    store.put(name, store.get(name)[:cut])
    with pytest.raises(DamagedRowsError, match=r"slide_id=1_a.*resume"):
        index.read_partition(store, "1_a")


def test_another_version_is_refused():
    store = MemoryStore()
    table = index.make_table(columns())
    notes = {b"qupath_bridge.schema_version": b"2"}
    index.write_partition(store, "1_a", table.replace_schema_metadata(notes))
    with pytest.raises(OutputError, match="schema version 2"):
        index.read_partition(store, "1_a")


def test_files_of_version_1_stay_readable():
    """From the first release on the folder is never written again."""
    table = index.read_index(FolderOutput(GOLDEN))
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    assert table.column_names == expected["columns"]
    rows = [
        {**row, "shares": dict(row["shares"]), "metadata": dict(row["metadata"])}
        for row in table.to_pylist()
    ]
    assert rows == expected["rows"]
    facts = index.facts_of(FolderOutput(GOLDEN).table("1_a.svs"))
    assert facts == expected["facts"]


def test_the_columns_are_those_of_the_contract():
    assert index.COLUMN_NAMES == (
        "slide_id", "run_id", "entry_id", "slide_name", "patch_id", "tile_uuid", "col", "row",
        "x_qupath", "y_qupath", "w_qupath", "h_qupath", "x_slide", "y_slide", "w_slide", "h_slide",
        "z", "t", "width", "height", "mpp", "downsample", "read_level", "label", "label_source",
        "label_share", "margin", "within_share", "excluded_share", "valid_share", "tissue_share",
        "shares", "region_ids", "tma_core", "path", "offset", "length", "object_ids", "channels",
        "dtype", "digest", "rule_label", "project", "slide_file", "slide_digest", "metadata",
    )  # fmt: skip


@pytest.mark.parametrize("read", [None, (), ["path"]])
def test_columns_and_texts_are_checked_whatever_is_read(read):
    """A missing column, and bytes that are not UTF-8, are found before anybody uses them."""
    good = index.make_table(columns())
    texts = pa.array([b"\xff"] * len(good), pa.binary())
    texts = pa.StringArray.from_buffers(len(good), *texts.buffers()[1:])
    at = good.column_names.index("path")
    notes = {**good.schema.metadata, b"qupath_bridge.x": b"\xff"}
    for bad, words in (
        (good.remove_column(at), "it has other columns than an index: path"),
        (good.set_column(at, good.schema.field(at), texts), "UTF8"),
        (good.replace_schema_metadata(notes), "utf-8"),
    ):
        if words == "UTF8" and read == ():
            continue  # the column is not read
        store, file = MemoryStore(), io.BytesIO()
        pq.write_table(bad, file)
        store.put("index/slide_id=1_a/part-0.parquet", file.getvalue())
        with pytest.raises(OutputError, match=f"is damaged: .*{words}"):
            index.read_partition(store, "1_a", read)
