"""Tables of predictions: what is taken for a number or a class, and what is refused."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.roundtrip.prediction_measurements import columns_of, find_hard
from qupath_bridge.roundtrip.prediction_table import read_predictions


def written(tmp_path, text, name="p.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_numbers_texts_and_gaps(tmp_path):
    path = written(
        tmp_path, "patch_id,score,kind,flag,n\na,0.5,x,true,1\nb,,,false,2\nc,NaN,y,true,3\n"
    )
    table = read_predictions(path)
    assert (table.key, dict(table.rows)) == ("patch_id", {"a": 0, "b": 1, "c": 2})
    np.testing.assert_array_equal(table.numbers["score"], [0.5, np.nan, np.nan])
    assert table.numbers["flag"].tolist() == [1, 0, 1]
    assert table.numbers["n"].tolist() == [1, 2, 3]
    assert table.classes["kind"].names == ("x", "y")
    assert table.classes["kind"].codes.tolist() == [0, -1, 1]
    assert table.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    "content",
    [
        b"patch_id;score\r\n007;0.5\r\n",
        "\ufeffpatch_id,score\n007,0.5\n".encode(),
        "patch_id\tscore\n007\t0.5\n".encode("utf-16"),
    ],
    ids=["semicolons", "byte order mark", "utf-16"],
)
def test_dialects_of_csv(tmp_path, content):
    table = read_predictions(written(tmp_path, content))
    assert dict(table.rows) == {"007": 0}  # a key stays a text
    assert table.numbers["score"].tolist() == [0.5]


def test_tables_in_memory_and_parquet_are_the_same(tmp_path):
    import pandas as pd
    import polars as pl

    content = {"tile_uuid": ["A", "b"], "p": [1.5, None], "c": ["x", None]}
    pq.write_table(pa.table(content), tmp_path / "p.parquet")
    sources = [
        pa.table(content), pd.DataFrame(content), pl.DataFrame(content), tmp_path / "p.parquet",
        pa.table({**content, "c": pa.array(content["c"]).dictionary_encode()}),
    ]  # fmt: skip
    for source in sources:
        table = read_predictions(source)
        assert dict(table.rows) == {"a": 0, "b": 1}
        np.testing.assert_array_equal(table.numbers["p"], [1.5, np.nan])
        assert table.classes["c"].codes.tolist() == [0, -1]


def test_columns_of_the_index_are_left_out_and_said(tmp_path):
    path = written(tmp_path, "patch_id,x_qupath,label,qc_focus,meta.site,p\na,5,T,1,A,0.5\n")
    table = read_predictions(path)
    assert list(table.numbers) == ["p"]
    assert [each.split(" ")[0] for each in table.left_out] == [
        "x_qupath", "label", "qc_focus", "meta.site",
    ]  # fmt: skip
    assert list(read_predictions(path, ["x_qupath"]).numbers) == ["x_qupath"]


def test_all_faults_of_keys_are_listed_and_bounded(tmp_path):
    both = written(tmp_path, "patch_id,tile_uuid,p\na,u,1\na,v,2\n,w,3\n")
    with pytest.raises(UsageError) as error:
        read_predictions(both)
    assert "row 2 has the patch_id a of row 1" in error.value.message
    assert "row 3 has no patch_id" in error.value.message
    many = written(tmp_path, "patch_id,p\n" + "a,1\n" * 1000)
    with pytest.raises(UsageError, match="and 979 more"):
        read_predictions(many)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("score\n1\n", "no column patch_id or tile_uuid"),
        ("patch_id,x_qupath\na,1\n", "no column of predictions"),
        ("patch_id,p\na,inf\n", "row 1 has inf as p"),
        ("patch_id,p\na,1e39\n", r"row 1 has 1e\+39 as p"),
        ("patch_id,p,p\na,1,2\n", "several columns have one name"),
        ("patch_id,\na,1\n", "column 2 has no name"),
        ("", "not a table"),
        ("patch_id,p\n" + "".join(f"a{i},c{i}\n" for i in range(51)), "51 different texts"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        read_predictions(written(tmp_path, text))


def test_files_and_values_that_are_no_table(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_predictions(tmp_path / "gone.csv")
    with pytest.raises(UsageError, match="no column 'q'"):
        read_predictions(written(tmp_path, "patch_id,p\na,1\n"), ["q"])
    with pytest.raises(UsageError, match="int is not a table"):
        read_predictions(5)
    with pytest.raises(UsageError, match="not texts"):
        read_predictions(pa.table({"patch_id": [1], "p": [1.0]}))
    with pytest.raises(UsageError, match="of the type list"):
        read_predictions(pa.table({"patch_id": ["a"], "p": [[1.0]]}), ["p"])


def table_of(**columns):
    return read_predictions(pa.table({"patch_id": list("abcd"), **columns}))


def test_measurements_and_their_names():
    table = table_of(score=[0.0, 0.0, 1.0, 3.0], kind=["x", "y", None, "x"])
    columns = columns_of(table, "cnn", np.array([0, 0, 1, 1]), ["rank", "softmax"])
    found = {column.measurement: column.values for column in columns}
    assert list(found) == [
        "qb pred cnn: score", "qb pred cnn: score softmax", "qb pred cnn: score rank",
        "qb pred cnn: kind = x", "qb pred cnn: kind = y",
    ]  # fmt: skip
    assert found["qb pred cnn: score"].tolist() == [0, 0, 1, 3]
    assert found["qb pred cnn: score rank"].tolist() == [0.5, 0.5, 0, 1]
    np.testing.assert_allclose(found["qb pred cnn: score softmax"][:2], [0.5, 0.5])
    np.testing.assert_array_equal(found["qb pred cnn: kind = x"], [1, 0, np.nan, 1])
    assert [column.kind for column in columns] == ["raw", "softmax", "rank", "class", "class"]


@pytest.mark.parametrize(
    ("columns", "add", "words"),
    [
        ({"kind": ["x"] * 4}, ["rank"], "no column of numbers"),
        ({"p": [1.0] * 4}, ["sum"], "'sum' can be added"),
        ({"p" * 100: [1.0] * 4}, [], "more than 100"),
        ({"p\n": [1.0] * 4}, [], "control character"),
        ({"p": [1.0] * 4, "p rank": [1.0] * 4}, ["rank"], "twice"),
    ],
)
def test_names_that_qupath_would_not_show_well(columns, add, words):
    with pytest.raises(UsageError, match=words):
        columns_of(table_of(**columns), "cnn", np.zeros(4, np.int64), add)


def test_hard_patches_by_each_rule():
    table = table_of(Tumor=[0.9, 0.5, 0.2, 0.6], Stroma=[0.1, 0.5, 0.8, 0.4], other=[9.0] * 4)
    labels, order = ("Tumor", "Stroma"), np.array([3, 2, 1, 0])
    truth = ["Stroma", "Tumor", "Tumor", None]
    found = {
        by: find_hard(table, 2, by, labels, truth, order) for by in ("entropy", "margin", "wrong")
    }
    assert found["entropy"].rows == (1, 3)
    assert found["margin"].rows == (1, 3)
    assert found["wrong"].rows == (0, 2)  # 0.1 and 0.2 for their labels
    np.testing.assert_allclose(found["wrong"].scores, [0.9, 0.8])
    np.testing.assert_allclose(found["margin"].scores, [1.0, 0.8])
    gone = find_hard(table, 4, "entropy", labels, truth, np.array([0, -1, 1, 2]))
    assert gone.rows == (3, 2, 0)  # a row without a patch is not one of them


def test_hard_patches_of_what_is_no_probability():
    with pytest.raises(UsageError, match="class probabilities"):
        find_hard(table_of(score=[1.0, 2, 3, 4]), 1, "entropy", (), [None] * 4, np.arange(4))
    with pytest.raises(UsageError, match="called as a label"):
        find_hard(table_of(score=[0.5] * 4), 1, "wrong", ("Tumor",), [None] * 4, np.arange(4))
    with pytest.raises(UsageError, match="no column has"):
        find_hard(table_of(kind=["x"] * 4), 1, "margin", (), [None] * 4, np.arange(4))
    with pytest.raises(UsageError, match="not hard by"):
        find_hard(table_of(score=[0.5] * 4), 1, "sum", (), [None] * 4, np.arange(4))
    one = find_hard(
        table_of(score=[0.9, 0.5, 0.4, 0.1]), 2, "entropy", (), [None] * 4, np.arange(4)
    )
    assert one.rows == (1, 2)
