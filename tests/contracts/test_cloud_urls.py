"""URLs of object storage; what needs a service is in tests/services/test_cloud.py."""

import pickle

import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.stores import open_store


@pytest.fixture(autouse=True)
def account(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a b/é", "gs://bucket/a b/é"),
        ("az://container/a%20b", "az://container/a%20b"),
    ],
)
def test_opening_asks_no_service(url, normal):
    store = open_store(url)
    assert store.url == normal
    assert pickle.loads(pickle.dumps(store)).url == normal
    assert open_store(store.url).url == normal


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize(
    "rest", ["", "//", "bucket", "//b//x", "//b/../x", "//b/./x", "///x", "//b/a\\b", "//-/x"]
)
def test_urls_that_name_no_place(scheme, rest):
    with pytest.raises(OutputError, match="does not name a place in object storage") as caught:
        open_store(f"{scheme}:{rest}")
    assert f"Write {scheme}://" in caught.value.hint


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "https"])
@pytest.mark.parametrize("rest", ["user:hidden1@bucket/x", "bucket/x?sig=hidden1", "b/x#hidden1"])
def test_urls_with_credentials_are_refused_and_not_repeated(scheme, rest):
    with pytest.raises(OutputError) as caught:
        open_store(f"{scheme}://{rest}")
    assert "hidden1" not in str(caught.value)


def test_azure_without_an_account(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(OutputError, match="az://c/x cannot be opened") as caught:
        open_store("az://c/x")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.hint
