"""Counts of an index, and samples of it: by values."""

import io
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qupath_bridge.outputs import index
from qupath_bridge.outputs.row_batches import Rows
from qupath_bridge.reporting.overlays import Canvas, patch_layers
from qupath_bridge.reporting.summary import (
    BINS,
    choose_rows,
    evenly,
    groups_of,
    histogram,
    summarize,
)

COLUMNS = ("label", "label_source", "label_share", "tissue_share", "metadata", "patch_id")


def table(labels, shares=None, *, sources=None, tissue=None, raw=None):
    """Rows of an index, with the columns that are counted."""
    number = len(labels)
    multi = any(isinstance(label, list) for label in labels)
    made = index.schema(multi=multi).empty_table().select(COLUMNS).schema
    columns = {
        "label": labels,
        "label_source": sources or ["rule"] * number,
        "label_share": shares or [None] * number,
        "tissue_share": tissue or [None] * number,
        "metadata": [[("patient", "7")]] * number,
        "patch_id": [f"p{n}" for n in range(number)],
    }
    rows = pa.table({f.name: pa.array(columns[f.name], f.type) for f in made})
    return rows if raw is None else rows.append_column("stain_kept_raw", pa.array(raw, pa.bool_()))


def test_each_share_is_counted_in_its_bar():
    shares = [0.0, 0.049, 0.05, 0.5, 0.51, 0.999, 1.0, 0.3]  # 0.3 * 20 is 5.999… in floats
    found = histogram(np.array(shares))
    assert len(found) == BINS
    assert {i: n for i, n in enumerate(found.tolist()) if n} == {0: 2, 1: 1, 6: 1, 10: 2, 19: 2}


def test_rows_are_counted_by_label_and_flag():
    rows = table(
        ["A", "B", None, "A"], [0.9, 0.51, None, 1.0],
        sources=["rule", "corrected", "rule", "rule"], tissue=[1.0, 0.2, 0.2, 0.7],
        raw=[False, False, True, None],
    )  # fmt: skip
    found = summarize(rows)
    assert found.patches == 4
    assert found.labels() == {"A": 2, "": 1, "B": 1}
    assert found.flags() == {"corrected": 1, "stain_kept_raw": 1}
    assert {name: sum(counts) for name, counts in found.shares.items()} == {"A": 2, "B": 1}
    assert found.shares["A"][18] == found.shares["A"][19] == 1
    assert found.tissue[4] == 2
    assert found.metadata == {"patient": "7"}


def test_without_a_tissue_test_there_is_no_histogram_of_tissue():
    assert summarize(table(["A"], [1.0])).tissue is None
    assert summarize(table([])).patches == 0


def test_a_patch_with_several_labels_counts_in_each():
    rows = table([["A", "B"], [], ["B"], None], [0.6, None, 0.7, None])
    assert summarize(rows).labels() == {"": 2, "B": 2, "A": 1}
    (batch,) = rows.to_batches()
    assert {name: found.tolist() for (_, name), found in groups_of(batch).items()} == {
        "A": [0], "B": [0, 2], "": [1, 3],
    }  # fmt: skip


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_the_same_rows_are_chosen_wherever_batches_are_cut(cut):
    labels = [("A", "B", "B", None)[n % 4] for n in range(101)]
    rows = table(labels)
    parts = pa.Table.from_batches(
        [batch for start in range(0, 101, cut) for batch in rows.slice(start, cut).to_batches()]
    )
    groups = summarize(parts).groups
    chosen = choose_rows(parts, groups, 5, ["patch_id"])
    counts = Counter(labels)
    for name in ("A", "B", None):
        places = [n for n, label in enumerate(labels) if label == name]
        wanted = [f"p{places[i]}" for i in evenly(counts[name], 5)]
        assert [row["patch_id"] for row in chosen["label", name or ""]] == wanted


def test_few_are_all_chosen_and_many_are_spread():
    assert evenly(3, 8).tolist() == [0, 1, 2]
    found = evenly(1_000_000, 4).tolist()
    assert found == [125_000, 375_000, 625_000, 875_000]


def _rows(number):
    """Rows of an index in a file, as an output reads them."""
    labels = np.array(["Tumor", "Stroma", "Necrosis"])[np.arange(number) % 3]
    boxes = {f"{side}_qupath": np.arange(number, dtype=np.int32) % 5000 for side in "xywh"}
    made = pa.table(
        {
            **boxes, "label": labels, "label_source": ["rule"] * number,
            "label_share": np.linspace(0, 1, number), "tissue_share": np.linspace(0, 1, number),
            "patch_id": np.arange(number).astype(str),
            "metadata": pa.array([[]] * number, pa.map_(pa.string(), pa.string())),
        }
    )  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(made, buffer, row_group_size=index.GROUP)
    return Rows(buffer.getvalue(), "rows")


def test_memory_does_not_grow_with_the_number_of_patches():
    """Nothing that looks at all rows keeps them."""
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8), (0.02, 0.02), True)

    def peak(number):
        rows = _rows(number)
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        try:
            summary = summarize(rows)
            chosen = choose_rows(rows, summary.groups, 10, ["patch_id"])
            layers = list(patch_layers(rows, summary.labels(), canvas, {}))
            traced = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert summary.patches == number
        assert [len(found) for found in chosen.values()] == [10] * 3
        assert len(layers) == 3
        return traced, pa.total_allocated_bytes() - arrow

    peak(100)  # what is imported at first use
    few, many = peak(9_000), peak(36_000)
    assert many[0] < 1.3 * few[0] + 100_000
    assert many[1] < 1_000_000
