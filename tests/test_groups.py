"""Tests of one group run one after the other, in one process."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
@pytest.mark.xdist_group("groups")
def test_groups_are_kept(request):
    """pytest-xdist writes the group behind the name, which is all that its scheduler sees.

    Without it, as many clusters, servers and windows of QuPath would start as there are processes.
    """
    if not request.config.getoption("loadgroup"):
        pytest.skip("the option --dist loadgroup was not given")
    assert request.node.nodeid.endswith("@groups")
