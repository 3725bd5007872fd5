"""The API answers on PostgreSQL as it does on SQLite: the same tests."""

import pytest

from tests.service.conftest import project, service  # noqa: F401  # fixtures
from tests.service.conftest import settings as sqlite_settings  # noqa: F401
from tests.service.test_http import (  # noqa: F401
    TOKEN,
    done,
    http,
    request_of,
    test_a_job_from_the_request_to_its_patches,
    test_a_page_has_100_entries_or_what_limit_says,
    test_a_patch_with_origin_and_picture,
    test_metrics_count_what_is_there,
    test_patches_with_several_labels_are_found_by_each,
    test_the_client_asks_for_all_of_it,
    test_the_same_key_is_one_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]


@pytest.fixture
def settings(sqlite_settings, service_url):  # noqa: F811
    """The settings of these tests, with a database of PostgreSQL."""
    return sqlite_settings.replace(database=service_url, token=TOKEN, page_size=10)


def test_it_is_postgresql(service):  # noqa: F811
    assert not service.database.is_sqlite
