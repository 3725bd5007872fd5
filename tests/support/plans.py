"""How a database finds what it is asked for."""

import re
from contextlib import contextmanager

from tests.support.statements import before_statements

TABLE = re.compile(r"SCAN (jobs|job_slides|runs|slides|patches|provenance)\b")


@contextmanager
def questions(database):
    """Collect the questions that are asked while the block runs, with their values."""
    asked = []

    def note(cursor, statement, values):
        if statement.startswith("SELECT") and "FROM" in statement:
            asked.append((statement, values))

    with before_statements(database, note):
        yield asked


def plan(database, statement, values):
    """Return the steps of the database, as text.

    PostgreSQL reads a small table from end to end; it is told not to, if an index can be used.
    """
    with database.read() as connection:
        if database.is_sqlite:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            return "\n".join(row.detail for row in rows)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())


def check_plans(service, job_id, tile_uuid, slide_id):
    """Ask for every list of the API, and check that an index finds each and gives its order."""
    from qupath_bridge.service.patches import find_patch, find_patches

    jobs, database = service.jobs, service.database
    with questions(database) as asked:
        jobs.list()
        jobs.list(state="complete", before=job_id)
        jobs.get(job_id)
        jobs.slides(job_id, after="1")
        jobs.slides(job_id, state="failed")
        find_patches(database, job_id, after=10)
        find_patches(database, job_id, label="Tumor", after=10)
        find_patches(database, job_id, slide=slide_id, after=10)
        number = len(asked)
        find_patch(database, tile_uuid)  # sorts the few runs that have this patch
    plans = [plan(database, *each) for each in asked]
    assert len(plans) > number >= 13
    for n, ((statement, _), steps) in enumerate(zip(asked, plans, strict=True)):
        for step in steps.splitlines():
            whole = TABLE.match(step) and " USING " not in step
            unsorted = "TEMP B-TREE FOR ORDER BY" in step or "Sort  (" in step
            assert not (whole or (unsorted and n < number) or "Seq Scan" in step), (
                f"{statement}\n{steps}"
            )
    return plans
