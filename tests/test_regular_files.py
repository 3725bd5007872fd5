"""Files that anybody may have put there: regular ones of a bounded size only."""

import gzip
import os
import socket

import pytest

import qupath_bridge as qb
from qupath_bridge.config import Settings
from qupath_bridge.errors import BridgeError, ConfigError, OutputError, ProjectError, ReadError
from qupath_bridge.outputs import open_output
from qupath_bridge.qupath.files.qpproj import read_json
from qupath_bridge.qupath.geojson import load, read_tiles
from qupath_bridge.qupath.geojson.tiles import MAX_LINE_BYTES
from qupath_bridge.qupath.qpdata.reading import file_digest, read_image_data
from qupath_bridge.readers import open_reader
from qupath_bridge.regular_files import open_regular, read_regular
from qupath_bridge.stores.local import LocalStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")

READERS = {
    "project.qpproj": (read_json, ProjectError),
    "data.qpdata": (read_image_data, ProjectError),
    "digest.qpdata": (file_digest, ProjectError),
    "some.geojson": (load, ProjectError),
    "some.geojson.gz": (load, ProjectError),
    "some.zip": (load, ProjectError),
    "1.geojson.gz": (lambda path: list(read_tiles(path)), ProjectError),
    "slide.svs": (open_reader, ReadError),
    "named.tiff": (lambda path: open_reader(path, name="tiles"), ReadError),
    "export.toml": (Settings.load, ConfigError),
    "run.json": (lambda path: LocalStore(path.parent).get(path.name), OutputError),
    "part": (lambda path: LocalStore(path.parent).get_range(path.name, 0, 1), OutputError),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name, kind, monkeypatch):
    path, (read, error) = tmp_path / name, READERS[name]
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(error, match=kind):
        read(path)


def test_a_pipe_in_place_of_a_record_hides_no_other_run(study, tmp_path):
    for name in ("one", "two"):
        qb.export(study.project, tmp_path / name, qb.ExportConfig(size=100))
    first, second = sorted((study.project.parent / "qupath_bridge" / "runs").iterdir())
    (first / "1.json").unlink()
    os.mkfifo(first / "1.json")
    (first / "2.geojson.gz").unlink()
    os.mkfifo(first / "2.geojson.gz")
    found = {run.run_id: run for run in qb.status(study.project)}
    assert found[second.name].state == "current"


def test_read_regular_reads_up_to_its_bound(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)
    with open_regular(path) as file:
        assert file.read() == b"12345"


def test_a_length_of_the_index_is_never_allocated_unchecked(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    store = LocalStore(tmp_path)
    for offset, length in ((0, 1 << 62), (1 << 62, 1 << 62), (4, 2), (-1, 1), (0, -1)):
        with pytest.raises(OutputError, match="ends before"):
            store.get_range("a", offset, length)
    assert store.get_range("a", 1, 4) == b"2345"


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"FeatureCollection","features":[\n' + b" " * (40 << 20),
        b'{"type":"FeatureCollection","features":[\n' + (b" " * 1000 + b"\n") * 40_000,
        b"\n" * (40 << 20),
    ],
    ids=["one line", "lines", "empty lines"],
)
def test_a_tile_file_that_blows_up_is_refused_early(tmp_path, text):
    import tracemalloc

    path = tmp_path / "1.geojson.gz"
    path.write_bytes(gzip.compress(text, 9))
    assert path.stat().st_size < len(text) / 200
    del text
    tracemalloc.start()
    try:
        with pytest.raises(ProjectError, match="1.geojson.gz"):
            list(read_tiles(path))
        assert tracemalloc.get_traced_memory()[1] < 300 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


def test_a_sparse_record_is_refused(tmp_path):
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BridgeError, match="more than"):
        qb.Run.load(open_output(tmp_path))
