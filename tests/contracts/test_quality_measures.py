import pytest

from qupath_bridge import registry
from qupath_bridge.testing.contracts.quality import QualityContract


@pytest.mark.parametrize("name", registry.names("quality"))
class TestQualityMeasures(QualityContract):
    @pytest.fixture(autouse=True)
    def _named(self, name):
        self.name = name

    def measure(self):
        return registry.load("quality", self.name)
