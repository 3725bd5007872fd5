"""Stores and runs of Google's and Microsoft's object storage, on emulators that somebody started.

``QUPATH_BRIDGE_AZURE_EMULATOR`` is the address of one that speaks Azure Blob Storage, as
``http://127.0.0.1:10000`` of Azurite, and ``QUPATH_BRIDGE_GCS_EMULATOR`` that of one that speaks
the XML interface of Google Cloud Storage, with conditional writes and uploads in parts: an emulator
that lacks these fails the tests of locks, of creating, and of large files.
"""

import json
import os
import shutil
import urllib.request
import uuid

import pytest

from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError
from qupath_bridge.stores import open_store
from qupath_bridge.testing.contracts.output import OutputContract
from qupath_bridge.testing.contracts.store import StoreContract
from tests.support.buckets import upload
from tests.support.run_content import index_rows, patch_files
from tests.support.run_processes import kill_at_work

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad", "--min-share", "0.3"]

AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Key of the account of Azurite, which is written in its documentation."""


def google(address, name, monkeypatch):
    monkeypatch.setenv("GOOGLE_BASE_URL", address)
    key = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**key, "gcs_base_url": address}))
    request = urllib.request.Request(
        f"{address}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    return f"gs://{name}"


def azure(address, name, monkeypatch):
    account = "devstoreaccount1"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", account)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{address}/{account}")
    _make_container(address, account, name)
    return f"az://{name}"


def _make_container(address, account, name):
    """Ask for a container with a request that is signed by the key of the account."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    fields = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    # The account stands twice: it is a part of an emulator's address.
    text = f"PUT{chr(10) * 12}{fields}/{account}/{account}/{name}\nrestype:container"
    key = base64.b64decode(AZURITE_KEY)
    sign = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"{address}/{account}/{name}?restype=container", method="PUT",
        headers={**headers, "Authorization": f"SharedKey {account}:{sign}"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()


SERVICES = {
    "gs": ("QUPATH_BRIDGE_GCS_EMULATOR", google),
    "az": ("QUPATH_BRIDGE_AZURE_EMULATOR", azure),
}


@pytest.fixture(params=SERVICES)
def bucket(request, cache_folder, monkeypatch):
    """URL of a new bucket."""
    variable, make = SERVICES[request.param]
    address = os.environ.get(variable)
    if not address:
        pytest.skip(f"{variable} names no emulator of {request.param}://.")
    return make(address.rstrip("/"), f"test-{uuid.uuid4().hex}", monkeypatch)


@pytest.fixture
def url(bucket):
    return f"{bucket}/a folder/run"


class TestStore(StoreContract):
    @pytest.fixture
    def store(self, url):
        return open_store(url)

    def test_a_large_file_is_sent_in_parts(self, store):
        piece = os.urandom(1 << 20)
        store.put("a/whole", (piece for _ in range(20)))
        assert store.get("a/whole") == piece * 20
        assert store.get_range("a/whole", (10 << 20) + 5, 7) == piece[5:12]
        assert not store.create("a/whole", b"")

    def test_another_content_is_another_state(self, store):
        store.put("x", b"1")
        first = store.state("x")
        assert store.state("x") == first
        store.put("x", b"2")
        assert store.state("x").tag != first.tag


class TestFolder(OutputContract):
    container = "folder"

    @pytest.fixture
    def url(self, url):
        return url


class TestTar(TestFolder):
    container = "tar:6kB"


def test_a_killed_run_of_a_project_in_the_bucket_is_resumed(bucket, url, local, tmp_path, capsys):
    assert main(["export", str(local / "study"), "--out", str(tmp_path / "disk"), *OPTIONS]) == 0
    upload(local, bucket)
    shutil.rmtree(local)
    command = ["export", f"{bucket}/study/", "--out", url, *OPTIONS]
    kill_at_work([*command, "--workers", "1"], url)
    assert main(command) == 5
    assert "Continue it with resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert patch_files(url) == patch_files(tmp_path / "disk")
    assert index_rows(url) == index_rows(tmp_path / "disk")
    assert main(["verify", url]) == 0


def test_a_bucket_that_does_not_exist(bucket):
    store = open_store(f"{bucket}-gone/x")
    for call in (lambda: store.put("a", b"1"), lambda: list(store.list())):
        with pytest.raises(OutputError, match="does not exist"):
            call()
