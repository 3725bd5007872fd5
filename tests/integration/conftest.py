"""Fixtures of tests that run a real QuPath, or export slides of channels."""

import pytest

from tests.support import stacks
from tests.support.qupath_scripts import QuPath


@pytest.fixture(scope="module")
def qupath(tmp_path_factory, installation):
    """A real QuPath without its window, with preferences of its own."""
    return QuPath(installation, tmp_path_factory.mktemp("qupath"))


@pytest.fixture
def stack_reader(monkeypatch):
    """The reader of stacks, and no other part that a test registered."""
    monkeypatch.setattr("qupath_bridge.registry._registered", {})
    stacks.register()


@pytest.fixture(scope="module")
def stack_study(tmp_path_factory):
    """A project over a stack of channels."""
    return stacks.stack_study(tmp_path_factory.mktemp("stack"))
