import pytest

import qupath_bridge as qb
from tests.support.two_workers import check_two_workers


@pytest.mark.slow
def test_two_processes_at_one_slide(study, tmp_path):
    config = qb.ExportConfig(size=24, edge="pad", min_share=0.3)
    qb.export(study.project, tmp_path / "once", config, provenance=False)
    given_up = check_two_workers(study.project, tmp_path / "twice", tmp_path / "once", config)
    assert given_up == ["given up"]
