"""Lists of the API on PostgreSQL, with a run that is indexed by COPY."""

import json
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from qupath_bridge.service.opened import open_service
from qupath_bridge.service.patches import find_patches
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.plans import check_plans
from tests.support.service import ended, working
from tests.support.statements import before_statements

PATCHES = """
INSERT INTO patches (run, slide_id, patch_id, tile_uuid, label, labels, x, y, w, h, z, t, path,
    digest, shares, details)
SELECT :run, :folder || n / 1000, n, gen_random_uuid(), :label, '[]', n, 0, 8, 8, 0, 0, n, n, '{}',
    '{}' FROM generate_series(1, 10000) n
"""
"""A run of 10 slides, with one label."""

FOLDER = "of a long name " * 15
"""Begin of the ids of slides. The index by slide is deeper than the one by run, and dearer."""

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


@pytest.mark.parametrize("analysed", [True, False])
def test_a_page_reads_nothing_but_its_patches(database_url, tmp_path, analysed):
    """However many others there are, and whatever the database believes of them."""
    settings = ServiceSettings(
        database=database_url, sources=[str(tmp_path)], outputs=[str(tmp_path / "out")]
    )
    with open_service(settings, migrates=True) as service:
        database = service.database
        outputs = [str(tmp_path / "out" / name) for name in ("first", "second")]
        jobs = [
            service.jobs.get(service.jobs.submit([str(tmp_path)], output, {})) for output in outputs
        ]
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE patches SET (autovacuum_enabled = off)")
        for run, (job, label) in enumerate(zip(jobs, ("Fat", "Tumor"), strict=True), 1):
            with database.write() as connection:
                if run == 2 and not analysed:  # statistics know the first run alone
                    connection.exec_driver_sql("ANALYZE patches")
                values = {"url": job.url, "id": job.run_id}
                connection.execute(
                    sa.text(
                        "INSERT INTO runs (output, run_id, state, started, record) "
                        "VALUES (:url, :id, 'complete', '', '{}')"
                    ),
                    values,
                )
                connection.execute(sa.text(PATCHES), {"run": run, "label": label, "folder": FOLDER})
        if analysed:
            with database.write() as connection:
                connection.exec_driver_sql("ANALYZE")
        for run, (job, label) in enumerate(zip(jobs, ("Fat", "Tumor"), strict=True)):
            first = run * 10_000
            for query, numbers in (
                ({}, range(first + 1, first + 101)),
                ({"after": first + 9_950}, range(first + 9_951, first + 10_001)),
                ({"label": label, "after": first + 5_000}, range(first + 5_001, first + 5_101)),
                ({"label": "Tumor" if label == "Fat" else "Fat"}, ()),
                ({"slide": f"{FOLDER}5"}, range(first + 5_000, first + 5_100)),
                ({"slide": f"{FOLDER}5", "label": label}, range(first + 5_000, first + 5_100)),
            ):
                with steps(database) as found:
                    rows = find_patches(database, job.job_id, **query)
                assert [row["number"] for row in rows] == list(numbers), (run, query)
                assert found[-1]["Shared Hit Blocks"] + found[-1]["Shared Read Blocks"] < 40, found
                assert '"Sort"' not in json.dumps(found)


@contextmanager
def steps(database):
    """Collect how the database answers each question of the block."""
    found = []

    def explain(cursor, statement, values):
        if statement.startswith("SELECT"):
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values)
            found.append(cursor.fetchone()[0][0]["Plan"])

    with before_statements(database, explain):
        yield found
