"""What reads tables reads a run and a copy of a lake: counts, filters, and the bytes of a patch."""

import importlib
import json
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import pyarrow.dataset as ds
import pytest

import qupath_bridge as qb
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Location


class Arrow:
    """pyarrow.dataset."""

    def rows(self, folder, where=None, columns=("label", "patch_id")):
        dataset = ds.dataset(folder, format="parquet", partitioning="hive")
        condition = None if where is None else ds.field(where[0]) == where[1]
        return dataset.to_table(columns=list(columns), filter=condition).to_pylist()


class DuckDB:
    """DuckDB, by SQL."""

    def __init__(self):
        self.duckdb = pytest.importorskip("duckdb")

    def rows(self, folder, where=None, columns=("label", "patch_id")):
        condition = "" if where is None else f"WHERE {where[0]} = $1"
        query = (
            f"SELECT {', '.join(columns)} FROM read_parquet('{folder}/**/*.parquet', "
            f"hive_partitioning = true) {condition}"
        )
        with self.duckdb.connect() as database:
            found = database.execute(query, None if where is None else [where[1]])
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


class Polars:
    """Polars, lazily."""

    def __init__(self):
        self.polars = pytest.importorskip("polars")

    def rows(self, folder, where=None, columns=("label", "patch_id")):
        lazy = self.polars.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        if where is not None:
            lazy = lazy.filter(self.polars.col(where[0]) == where[1])
        return lazy.select(columns).collect().to_dicts()


class Spark:
    """Spark, on two threads of this machine."""

    def __init__(self, session):
        self.session = session

    def rows(self, folder, where=None, columns=("label", "patch_id")):
        table = self.session.read.parquet(str(folder))
        if where is not None:
            table = table.where(table[where[0]] == where[1])
        return [row.asDict(recursive=True) for row in table.select(*columns).collect()]


@pytest.fixture(scope="module")
def spark():
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Java is not installed")
    try:
        sql = importlib.import_module("pyspark.sql")
    except ModuleNotFoundError:
        pytest.skip("pyspark is not installed")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(params=["arrow", "duckdb", "polars", pytest.param("spark", marks=pytest.mark.slow)])
def engine(request):
    if request.param == "spark":
        return Spark(request.getfixturevalue("spark"))
    return {"arrow": Arrow, "duckdb": DuckDB, "polars": Polars}[request.param]()


@pytest.fixture(scope="module")
def copied(shared_lake, tmp_path_factory):
    """A copy with images of the lake, and what is expected of it."""
    out = tmp_path_factory.mktemp("copied") / "copy"
    qb.compact(shared_lake.root, out, images=True)
    record = json.loads((out / "lake.json").read_bytes())
    expected = [
        {"place": str(place), **row}
        for place in (shared_lake.first, shared_lake.second)
        for row in qb.read_index(place).to_pylist()
    ]
    return SimpleNamespace(data=out / "data" / record["version"], record=record, rows=expected)


def labels_of(rows):
    return Counter(row["label"] for row in rows)


def test_the_index_of_a_run(engine, shared_lake):
    expected = qb.read_index(shared_lake.first).to_pylist()
    folder = shared_lake.first / "index"
    assert labels_of(engine.rows(folder)) == labels_of(expected)
    slide = expected[-1]["slide_id"]
    found = engine.rows(folder, ("slide_id", slide))
    assert {row["patch_id"] for row in found} == {
        row["patch_id"] for row in expected if row["slide_id"] == slide
    }


def test_patches_of_a_run_in_parquet_files(engine, shared_lake):
    expected = qb.read_index(shared_lake.second).to_pylist()
    folder = shared_lake.second / "patches"
    assert labels_of(engine.rows(folder)) == labels_of(expected)
    row = expected[5]
    (found,) = engine.rows(folder, ("patch_id", row["patch_id"]), ("patch_id", "image"))
    place = Location(row["path"], row["offset"], row["length"])
    assert bytes(found["image"]["bytes"]) == open_output(str(shared_lake.second)).read(place)


def test_a_copy_counts_labels_and_filters(engine, copied):
    assert labels_of(engine.rows(copied.data)) == labels_of(copied.rows)
    for name in ("label", "slide_id", "run_id"):
        value = copied.rows[-1][name]
        found = engine.rows(copied.data, (name, value), ("patch_id", "place"))
        assert sorted((row["patch_id"], row["place"]) for row in found) == sorted(
            (row["patch_id"], row["place"]) for row in copied.rows if row[name] == value
        )


def test_a_copy_is_filtered_by_its_folders(engine, copied):
    key = next(key for key, label in copied.record["labels"].items() if label == "Tumor")
    found = engine.rows(copied.data, ("label_key", key))
    assert labels_of(found) == {"Tumor": labels_of(copied.rows)["Tumor"]}


def test_a_copy_has_the_bytes_of_each_patch(engine, copied):
    row = copied.rows[7]
    found = engine.rows(copied.data, ("patch_id", row["patch_id"]), ("place", "image"))
    place = Location(row["path"], row["offset"], row["length"])
    (image,) = [each["image"] for each in found if each["place"] == row["place"]]
    assert bytes(image["bytes"]) == open_output(row["place"]).read(place)


def test_a_filter_by_label_or_slide_skips_files_and_row_groups(copied):
    """By their statistics, which every engine reads."""
    dataset = ds.dataset(copied.data, format="parquet", partitioning="hive")
    number = sum(len(part.row_groups) for part in dataset.get_fragments())
    labels = labels_of(copied.rows)
    assert number == len({file["name"] for file in copied.record["files"]}) > len(labels)
    for where in (ds.field("label") == "Tumor", ds.field("slide_id") == "no such slide"):
        read = sum(
            len(group.row_groups)
            for part in dataset.get_fragments()
            for group in part.split_by_row_group(where)
        )
        assert read < number
