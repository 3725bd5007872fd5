"""Stores and outputs in object storage, on a real server that speaks S3."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.run import Run
from qupath_bridge.stores import cloud, local_path, open_store
from qupath_bridge.testing.contracts.output import OutputContract
from qupath_bridge.testing.contracts.store import StoreContract
from tests.support.run_content import index_rows, patch_files
from tests.support.run_processes import kill_at_work
from tests.support.small_disk import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

OPTIONS = ["--size", "40", "--stride", "60", "--edge", "pad", "--min-share", "0.3"]
HOLD = """
import sys
from qupath_bridge.outputs import open_output
with open_output(sys.argv[1], "folder").lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def url(bucket):
    """A new folder of a bucket."""
    return f"{bucket}/a folder/run"


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, url):
        return open_store(url)

    def test_neighbours_are_not_listed(self, store, url):
        """Services compare beginnings of names, and know no folders."""
        open_store(f"{url}-2").put("x", b"")
        store.put("x/y", b"")
        assert list(store.list()) == ["x/y"]
        top = open_store("/".join(url.split("/")[:3]))
        assert list(top.list()) == ["a folder/run-2/x", "a folder/run/x/y"]

    def test_a_large_file_is_sent_in_parts(self, store):
        """From a temporary file, whichever way it is written."""
        piece = os.urandom(1 << 20)
        draft = store.draft("a")
        for _ in range(20):
            draft.write(piece)
        assert draft._file._rolled
        draft.publish("a/draft")
        store.put("a/whole", piece * 20)
        for name in ("a/draft", "a/whole"):
            tag = cloud.obstore.head(store._client, store._key(name))["e_tag"]
            assert tag.strip('"').endswith("-3")  # parts of 8 MiB
            whole = hashlib.sha256(store.get(name)).digest()
            assert whole == hashlib.sha256(piece * 20).digest()
        assert store.get_range("a/draft", (10 << 20) + 5, 7) == piece[5:12]

    def test_only_the_pages_that_may_hold_names_are_asked_for(self, store, monkeypatch):
        """The lock is looked for at the top of an output, beside millions of patches."""
        monkeypatch.setattr(cloud, "PAGE", 1)
        for name in ("a", "lock-1.json", "lock-2.json", "patches/1", "patches/2"):
            store.put(name, b"")
        pages, ask = [], cloud.obstore.list

        def count(*args, **kwargs):
            for page in ask(*args, **kwargs):
                pages.extend(found["path"] for found in page)
                yield page

        monkeypatch.setattr(cloud.obstore, "list", count)
        assert list(store.list("lock-")) == ["lock-1.json", "lock-2.json"]
        assert [path.rpartition("/")[2] for path in pages] == ["lock-1.json", "lock-2.json", "1"]


class TestFolder(OutputContract):
    container = "folder"

    @pytest.fixture
    def url(self, url):
        return url


class TestTarOfSmallShards(TestFolder):
    container = "tar:6kB"


class TestParquet(TestFolder):
    container = "parquet:1kB"
    locations_stay = False


def test_there_is_no_such_bucket(url):
    place = "s3://no-such-bucket/run"
    for act in (
        lambda store: store.put("x", b""),
        lambda store: store.create("x", b""),
        lambda store: store.get("x"),
        lambda store: list(store.list()),
    ):
        with pytest.raises(OutputError, match=f"{place}.*bucket does not exist") as caught:
            act(open_store(place))
        assert "Make the bucket" in caught.value.hint


@pytest.fixture
def refusing(monkeypatch):
    """A service that answers each request with a status and a code."""
    answer = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"<Error><Code>{answer['code']}</Code></Error>".encode()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET  # noqa: N815

        def do_HEAD(self):
            self.send_response(answer["status"])
            self.end_headers()

        def log_message(self, *values):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "reason", "may_heal"),
    [
        (400, "ExpiredToken", "credentials have expired", True),
        (403, "AccessDenied", "access is denied", False),
        (403, "SomethingNew", "access is denied", False),
        (403, "InvalidAccessKeyId", "access key is not known", False),
        (400, "SomethingNew", "the service says SomethingNew", False),
        (503, "SlowDown", "the service says", True),
        (500, "SomethingNew", "the service says", True),
    ],
)
def test_a_service_that_refuses(refusing, monkeypatch, status, code, reason, may_heal):
    monkeypatch.setattr(cloud, "RETRIES", 1)
    refusing.update(status=status, code=code)
    for act in (
        lambda store: store.put("x", b""),
        lambda store: store.get("x"),
        lambda store: store.state("x"),  # by HEAD, whose answer has no text
    ):
        with pytest.raises(OutputError, match=rf"s3://b/run/x cannot be .*: .*{reason}") as caught:
            act(open_store("s3://b/run"))
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint
        assert "secret" not in str(caught.value)
        assert caught.value.may_heal == may_heal
        assert caught.value.__cause__ is None


def test_a_service_that_is_not_there(monkeypatch, unused_port):
    monkeypatch.setattr(cloud, "RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(OutputError, match="cannot be reached") as caught:
        open_store("s3://b/run").get("x")
    assert caught.value.may_heal


def test_the_disk_for_temporary_files_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "PART", 100)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "unused")
    with small_disk(tmp_path / "small") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
        draft = open_store("s3://b/run").draft("patches")
        draft.write(bytes(1000))
        disk.leave(0)
        draft.write(bytes(5000))  # they wait in a buffer
        for act in (lambda: draft.publish("patches/x"), lambda: draft.write(bytes(64 << 10))):
            with pytest.raises(OutputError, match="temporary folder.*No space left") as caught:
                act()
            assert caught.value.may_heal
            assert "TMPDIR" in caught.value.hint
        draft.discard()


@pytest.fixture
def unused_port():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_of_two_processes_one_holds_the_lock(url):
    output, first = open_output(url, "folder"), start("-c", HOLD, url, "FIRST")
    try:
        line = first.stdout.readline()
        assert line == "held\n", first.stderr.read()
        second = start("-c", HOLD, url, "SECOND")
        said, errors = second.communicate(timeout=60)
        assert second.returncode
        assert said == ""
        assert f"{url} is in use by run FIRST: process {first.pid}" in errors
        assert output.holder().run_id == "FIRST"
    finally:
        first.kill()
        first.communicate(timeout=60)
    with output.lock("THIRD"):
        assert output.holder().run_id == "THIRD"
    assert output.is_empty()


def content(place):
    """Return the files of patches and the index of a run, without the id of the run."""
    return patch_files(place), index_rows(place)


@pytest.mark.parametrize("container", ["folder", "tar:20kB"])
def test_a_killed_run_is_resumed_as_on_disk(study, tmp_path, url, container):
    arguments = [*OPTIONS, "--container", container, "--no-provenance", "--workers", "1"]
    assert main(["export", str(study.project), "--out", str(tmp_path / "disk"), *arguments]) == 0
    expected = content(tmp_path / "disk")
    store = open_store(url)
    command = ["export", str(study.project), "--out", url, *arguments]
    kill_at_work(command, url)
    cut = {name: store.get(name) for name in store.list("patches/")}
    assert 3 <= len(cut) < len(expected[0])
    assert all(expected[0][name] == payload for name, payload in cut.items())
    assert main([*command, "--resume"]) == 0
    assert content(url) == expected
    assert not list(store.list("lock"))
    assert main(["verify", url]) == 0


def test_what_a_run_records_has_no_credentials(study, url, secret):
    assert main(["export", str(study.project), "--out", url, *OPTIONS]) == 0
    run = Run.load(url)
    assert run.url == url
    assert local_path(url) is None
    assert qb.read_index(url).num_rows == run.written > 0
    store = open_store(url)
    assert not any(secret.encode() in store.get(name) for name in store.list())
    for folder in run.provenance:
        assert all(secret.encode() not in f.read_bytes() for f in folder.rglob("*.json"))


def test_commands_that_take_an_output_take_its_url(study, tmp_path, url, capsys):
    def run(*words):
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    run("export", study.project, "--out", url, *OPTIONS)
    patch = qb.read_index(url).column("patch_id")[0].as_py()
    assert url in run("status", study.project)
    assert "no problem found" in run("verify", url)
    run("report", url)
    run("describe", url)
    run("split", url, "--folds", "2", "--by", "slide_id")
    run("check-leakage", url)
    assert patch in run("lineage", patch, "--out", url)
    run("convert", url, "--out", tmp_path / "converted", "--to", "imagefolder")
    assert list((tmp_path / "converted").rglob("*.png"))
    written = set(open_store(url).list())
    assert {"report.html", "ro-crate-metadata.json", "splits/folds.csv"} <= written


def test_convert_does_not_write_to_a_bucket(study, tmp_path, url, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(study.project), "--out", url, *OPTIONS, "--no-provenance"]) == 0
    assert main(["convert", url, "--out", f"{url}-2", "--to", "imagefolder"]) == 5
    assert "is not a folder of this machine" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_lake_in_a_bucket(url, study):
    """Its runs are found without listing their patches, and copied beside them."""
    config = qb.ExportConfig(size=64, mpp=0.5)
    run = qb.export(study.project, f"{url}/first", config, provenance=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(cloud.CloudStore, "list")
        lake = qb.catalog(url)
    (found,) = lake.runs
    assert (found.place, found.patches) == (f"{url}/first", len(run.table()))
    assert lake.find(label="Tumor").table().num_rows == found.labels["Tumor"]
    made = qb.compact(url, f"{url}/copy", images=True)
    assert made.rows == found.patches
    again = qb.compact(url, f"{url}/copy", images=True)
    assert again.reused == made.files
    assert [copy.stale for copy in qb.catalog(url).copies] == [()]
