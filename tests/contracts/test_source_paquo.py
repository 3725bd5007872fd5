"""QuPath's own classes, through paquo, held by the contract of all sources."""

import pytest

from qupath_bridge.sources.paquo import PaquoSource
from qupath_bridge.testing.contracts.source import ProjectFileContract
from qupath_bridge.testing.projects import build_project


@pytest.mark.qupath
class TestPaquo(ProjectFileContract):
    @pytest.fixture(autouse=True)
    def _source(self, installation):
        self.source = PaquoSource(installation.installation)

    def make(self, folder, images, classes):
        return self.source, build_project(folder, images, classes)
