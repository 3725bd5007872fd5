from qupath_bridge import registry
from qupath_bridge.testing.contracts.quality import QualityContract


class TestMeanSaturation(QualityContract):
    def measure(self):
        return registry.load("quality", "saturation")
