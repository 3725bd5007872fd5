"""The index as tables of other libraries."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.errors import MissingDependencyError, OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.stores.memory import MemoryStore
from tests.support import indexes
from tests.support.indexes import FakeSlide, Patch

SLIDES = [
    FakeSlide("a", {"patient": "P1"}, [Patch(0), Patch(40, label=None)]),
    FakeSlide("b", {"patient": "P2"}, [Patch(0, label="Stroma")]),
]


@pytest.fixture
def out():
    """An output in memory, which needs no disk."""
    store = MemoryStore()
    yield store.url
    store.forget()


def write_output(place, slides):
    return indexes.write_output(place, slides, "memory")


def hand_made(out, text, name="own"):
    open_output(out).put(f"splits/{name}.csv", text.encode())


def test_arrow_is_what_the_run_has(out):
    write_output(out, SLIDES)
    table = qb.read_index(out)
    assert isinstance(table, pa.Table)
    assert table.column("patch_id").to_pylist() == ["1_a_x0_y0", "1_a_x40_y0", "1_b_x0_y0"]
    assert table.schema.field("w_slide").type == pa.int32()


def test_folds_are_a_column_of_the_rows(out):
    write_output(out, SLIDES)
    hand_made(out, "slide_id,fold\n1_a,train\n1_b,test\n")
    table = qb.read_index(out, split="own")
    assert table.column_names[-1] == "fold"
    assert table.column("fold").to_pylist() == ["train", "train", "test"]


def test_patches_may_have_folds_of_their_own_and_none(out):
    write_output(out, SLIDES)
    hand_made(out, "patch_id,fold\n1_b_x0_y0,1\n1_a_x0_y0,0\n1_a_x40_y0,\nother,5\n")
    assert qb.read_index(out, split="own").column("fold").to_pylist() == ["0", None, "1"]


def test_a_table_of_pandas_has_whole_numbers(out):
    """Parquet, with the index of the table as a column of its own."""
    write_output(out, SLIDES)
    sink = pa.BufferOutputStream()
    columns = {"slide_id": ["1_b", "1_a"], "fold": [1, 0], "__index_level_0__": [0, 1]}
    pq.write_table(pa.table(columns), sink)
    open_output(out).put("splits/own.parquet", sink.getvalue().to_pybytes())
    assert qb.read_index(out, split="own").column("fold").to_pylist() == ["0", "0", "1"]


def test_every_slide_that_a_table_lacks_is_named(out):
    write_output(out, SLIDES)
    hand_made(out, "slide_id,fold\n1_c,0\n")
    with pytest.raises(UsageError, match=r"2 slides of the run.*not list:\n  1_a\n  1_b"):
        qb.read_index(out, split="own")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("slide,fold\n1_a,0\n", "it has the columns slide, fold"),
        ("slide_id,part\n1_a,0\n", "not a table of folds"),
        ("slide_id,fold\n1_a,0\n1_a,1\n,2\n", r"row 3: 1_a is in fold '0' and in '1'\n  row 4 has"),
    ],
)
def test_every_fault_of_a_table_is_told(out, text, problem):
    write_output(out, SLIDES)
    hand_made(out, text)
    with pytest.raises(UsageError, match=problem):
        qb.read_index(out, split="own")


def test_a_run_without_patches_has_no_rows(out):
    write_output(out, [])
    assert qb.read_index(out).num_rows == 0
    hand_made(out, "slide_id,fold\n1_a,0\n")
    assert qb.read_index(out, split="own").column("fold").to_pylist() == []


def test_pandas_keeps_whole_numbers_texts_and_maps(out):
    import pandas as pd

    indexes.write_output(out, SLIDES, "tar")
    table = qb.read_index(out, to="pandas")
    assert table.w_slide.dtype == pd.Int32Dtype() and table.offset.dtype == pd.Int64Dtype()
    assert table.label.dtype == pd.StringDtype() and table.mpp.dtype == "float64"
    assert table.label.isna().tolist() == [False, True, False]
    assert table.metadata.tolist() == [{"patient": "P1"}, {"patient": "P1"}, {"patient": "P2"}]
    plain = qb.read_index(out).to_pylist()
    assert table.patch_id.tolist() == [row["patch_id"] for row in plain]


def test_polars_has_the_rows(out):
    import polars as pl

    indexes.write_output(out, SLIDES, "h5")
    table = qb.read_index(out, to="polars")
    assert table.schema["w_slide"] == pl.Int32 and table.schema["label"] == pl.String
    assert table["label"].to_list() == ["Tumor", None, "Stroma"]


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_library_that_is_missing_is_named(out, monkeypatch, kind):
    write_output(out, SLIDES)
    monkeypatch.setitem(__import__("sys").modules, kind, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {kind}"):
        qb.read_index(out, to=kind)


def test_other_kinds_and_places_are_refused(out):
    with pytest.raises(OutputError, match="contains no run"):
        qb.read_index(out)
    write_output(out, SLIDES)
    with pytest.raises(UsageError, match="cannot become 'numpy'"):
        qb.read_index(out, to="numpy")
