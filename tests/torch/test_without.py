"""Without PyTorch, the datasets say how to get it."""

import sys

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import MissingDependencyError


@pytest.mark.parametrize("kind", ["PatchDataset", "SlideDataset", "BagDataset"])
def test_a_dataset_without_torch_is_refused(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    make = getattr(qb.torch, kind)
    arguments = ("x", "y") if kind == "BagDataset" else ("x",)
    options = {"target": "grade"} if kind == "BagDataset" else {}
    with pytest.raises(MissingDependencyError, match=r"pip install 'qupath-bridge\[torch\]'"):
        make(*arguments, **options)
