"""Jobs, leases and the index of patches behave on PostgreSQL as they do on SQLite."""

import pytest

from tests.service.conftest import project, service, tokens  # noqa: F401  # fixtures
from tests.service.conftest import settings as sqlite_settings  # noqa: F401
from tests.service.test_races import (  # noqa: F401
    test_a_cancel_leaves_no_slide_behind,
    test_a_job_is_cancelled_or_complete_and_not_both,
    test_a_key_is_one_job_in_two_processes,
    test_a_key_with_two_requests_is_one_job_and_a_refusal,
    test_a_slide_has_one_worker,
    two,
)
from tests.service.test_worker import (  # noqa: F401
    alone,
    job,
    lose,
    out,
    test_a_job_that_is_retried_waits_for_those_who_stop,
    test_a_job_writes_what_an_export_writes,
    test_a_leased_slide_is_left_to_its_worker,
    test_cancel_stops_the_slide_at_work_and_gives_the_output_back,
    test_messages_that_come_twice_change_nothing,
    test_the_database_is_an_index_of_what_was_committed,
    test_two_jobs_never_share_an_output,
    test_what_the_queue_lost_is_found_again,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]


@pytest.fixture
def settings(sqlite_settings, service_url):  # noqa: F811
    """The same settings, with an empty database of PostgreSQL."""
    return sqlite_settings.replace(database=service_url)


def test_it_is_postgresql(service):  # noqa: F811
    assert not service.database.is_sqlite
