"""QuPath's own classes, through paquo, held by the contract of all engines."""

import pytest

from qupath_bridge.sources.paquo import PaquoEngine
from qupath_bridge.testing.contracts.engine import EngineContract
from qupath_bridge.testing.projects import build_project


@pytest.mark.qupath
class TestPaquo(EngineContract):
    @pytest.fixture(autouse=True)
    def _engine(self, installation):
        self.engine = PaquoEngine(installation.installation)

    def make(self, folder, images, classes):
        return self.engine, build_project(folder, images, classes)
