import importlib.util

import pytest

from qupath_bridge import registry
from qupath_bridge.testing.contracts.stain import StainContract


@pytest.mark.parametrize("name", registry.names("stain"))
class TestStainMethods(StainContract):
    @pytest.fixture(autouse=True)
    def _named(self, name):
        if name == "vahadane" and importlib.util.find_spec("sklearn") is None:
            pytest.skip("scikit-learn is not installed")
        self.name = name

    def make(self):
        return registry.create("stain", self.name)
