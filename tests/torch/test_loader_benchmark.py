"""The benchmark of loaders runs, on so few patches that nothing can be learnt from its numbers."""

import importlib
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_it_prints_a_line_for_each_place_of_patches(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT)
    program = importlib.import_module("benchmarks.loaders")
    monkeypatch.setattr(program, "EPOCHS", 2)
    monkeypatch.setattr(sys, "argv", ["loaders", str(ROOT / "example_projects" / "skin")])
    program.main()
    _, about, _, head, _, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ patches of 224 x 224", about)
    assert [line.split(" | ")[0] for line in lines] == [
        "| files", "| tar shards", "| Parquet", "| slides",
    ]  # fmt: skip
    for line in lines:
        assert line.count("|") == head.count("|")
        assert re.fullmatch(r"\|[^|]+(\| [\d,]+ ){4}(\| [\d.]+ s ){2}\|", line)
        assert all(int(number.replace(",", "")) > 0 for number in re.findall(r" ([\d,]+) ", line))
