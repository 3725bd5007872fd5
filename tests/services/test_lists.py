"""Lists of the API on PostgreSQL, with a run that is indexed by COPY."""

import pytest

from qupath_bridge.service.opened import open_service
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.plans import check_plans
from tests.support.service import ended, working

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]


def test_lists_ask_indexes(database_url, tmp_path):
    slide = write_slide(tmp_path / "a.tiff", marker_image(128, 96), mpp=0.5, tile=16)
    region = Region("Tumor", "POLYGON ((0 0, 128 0, 128 96, 0 96, 0 0))")
    project = build_project(tmp_path / "project", [Image(slide, [region])])
    settings = ServiceSettings(
        database=database_url.replace("+psycopg", ""),
        sources=[str(tmp_path)],
        outputs=[str(tmp_path / "out")],
    )
    with open_service(settings, migrates=True) as service:
        job = service.jobs.submit([str(project)], str(tmp_path / "out" / "run"), {"size": 8})
        with working(service):
            assert ended(service, job).written == 192
        with service.database.read() as connection:
            row = connection.exec_driver_sql("SELECT tile_uuid, slide_id FROM patches").first()
        plans = check_plans(service, job, row.tile_uuid, row.slide_id)
    assert any("patches_by_run" in each for each in plans)
