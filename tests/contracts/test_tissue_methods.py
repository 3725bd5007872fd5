from qupath_bridge import registry
from qupath_bridge.testing.contracts.tissue import TissueContract


class TestOtsu(TissueContract):
    def make(self):
        return registry.create("tissue", "otsu")


class TestSaturation(TissueContract):
    def make(self):
        return registry.create("tissue", "saturation")
