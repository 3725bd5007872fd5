"""The loop of docs/predictions.md: export, train, predict, correct, export and train again."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.qupath.editing import is_ours, tile_of
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.sources.embedded import EmbeddedSource

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DATA = Path("study/data/1/data.qpdata")


def tiles():
    return {o.id: o for o in EmbeddedSource().read_file(DATA).objects if is_ours(o.id)}


def correct(hardest):
    """Give the hardest patch another class, as a pathologist who follows the review list."""
    item = next(o for o in tiles().values() if o.measurements.get("qb pred colors: hard") == 1)
    assert item.id == hardest
    other = "Keratin" if item.class_path != "Keratin" else "Stroma"
    tile = tile_of(item)._replace(class_path=other, color=None)
    DATA.write_bytes(splice_tiles(DATA.read_bytes(), remove={item.id}, add=[tile]))
    return item.name, other


def hardest_by_hand(file):
    """The patch with the highest entropy, worked out from the table itself."""
    table = pq.read_table(file)
    values = np.column_stack([table[name] for name in table.column_names[1:]])
    entropy = [-sum(p * np.log(p) for p in row) for row in values]
    return table["patch_id"][int(np.argmax(entropy))].as_py()


@pytest.mark.slow
def test_the_loop_of_the_page_learns_from_a_correction(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "example_projects" / "skin", tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "predictions.md").read_text(encoding="utf-8")
    ((_, code),) = [found for found in BLOCK.findall(text) if found[0] == "python"]
    corrected, first = None, {}
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            continue
        for command in block.strip().removeprefix("$ ").split("\n$ "):
            words = shlex.split(command)[1:]
            if words[0] != "predictions":
                assert main(words) == 0, command
                continue
            exec(compile(code, "predictions.md", "exec"), {"__name__": "loop"})
            assert main([*words, "--force"]) == 0, command
            if corrected is None:
                index = {row["patch_id"]: row for row in qb.read_index("loop").to_pylist()}
                first = {i: dict(item.measurements) for i, item in tiles().items()}
                corrected = correct(index[hardest_by_hand("colors.parquet")]["tile_uuid"])

    index = {row["patch_id"]: row for row in qb.read_index("loop").to_pylist()}
    name, label = corrected
    assert (index[name]["label"], index[name]["label_source"]) == (label, "corrected")
    now = tiles()
    assert now.keys() == {row["tile_uuid"] for row in index.values()}
    assert now[index[name]["tile_uuid"]].class_path == label
    again = pq.read_table("colors.parquet").to_pylist()
    for row in again:
        item = now[index[row["patch_id"]]["tile_uuid"]]
        for column in row.keys() - {"patch_id"}:
            wanted = np.float32(row[column])
            assert np.float32(item.measurements[f"qb pred colors: {column}"]) == wanted
    # The correction changed the model, and so what it says of other patches.
    key = f"qb pred colors: {label}"
    assert any(first[i][key] != now[i].measurements[key] for i in first)
    (old, new) = sorted(Path("study/qupath_bridge/runs").iterdir())
    (record,) = new.glob("predictions/*/record.json")
    assert json.loads(record.read_bytes())["carried_from"] is None
    assert list(old.glob("predictions/*/record.json"))
