import pytest

from qupath_bridge import registry
from qupath_bridge.testing.contracts.stain import StainContract


@pytest.mark.parametrize("name", registry.names("stain"))
class TestStainMethods(StainContract):
    @pytest.fixture(autouse=True)
    def _named(self, name):
        self.name = name

    def make(self):
        return registry.create("stain", self.name)
