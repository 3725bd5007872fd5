import errno
import gc
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import Location, PatchRef
from qupath_bridge.outputs.shards import DEFAULT_SIZE, parse_size
from qupath_bridge.outputs.tar import TarOutput, header, sample_key
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.output import rows_of

SLIDE = "3_CMU-1.svs"


def write(output, count, slide=SLIDE, size=300, ending=".png"):
    refs, places, payloads = [], [], []
    output.begin(slide)
    for number in range(count):
        name = f"{slide}_x{number}_y-5"
        record = {"label": "Größe", "label_share": 0.5, "box": [number, -5, 64, 64]}
        refs.append(PatchRef(slide, name, f"patches/{slide}/a.b/{name}{ending}", record))
        payloads.append(bytes([number % 256]) * size)
        places.append(output.write(refs[-1], payloads[-1]))
    return refs, places, payloads


def samples(folder):
    """Group the members of all shards as WebDataset does: by name up to the first dot."""
    found = []
    for path in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            previous = None
            for member in tar:
                key, _, field = member.name.partition(".")
                if key != previous:
                    found.append((path.name, key, {}))
                assert field not in found[-1][2], "a second member of this name in one sample"
                found[-1][2][field] = tar.extractfile(member).read()
                previous = key
    return found


@pytest.mark.parametrize("ending", [".png", ".ome.tif"])
@pytest.mark.parametrize("slide", [SLIDE, "4_Größe.日本", f"5_{'long' * 10}_{'x' * 40}"])
def test_webdataset_finds_one_sample_per_patch(tmp_path, slide, ending):
    output = TarOutput(tmp_path, "4kB")
    refs, places, payloads = write(output, 20, slide, ending=ending)
    output.commit(slide, rows_of(refs, places, payloads))
    found = samples(tmp_path / "patches")
    by_id = {}
    for shard, key, fields in found:
        assert set(fields) == {ending[1:], "json"}
        record = json.loads(fields["json"])
        assert record["slide_id"] == slide
        assert key == record["patch_id"].replace(".", "-")
        by_id[record["patch_id"]] = (shard, fields[ending[1:]], record)
    assert len(found) == len(by_id) == 20
    table = output.table(slide)
    for ref, payload, path in zip(refs, payloads, table["path"].to_pylist(), strict=True):
        shard, content, record = by_id[ref.patch_id]
        assert (content, f"patches/{shard}") == (payload, path)
        assert {**ref.record, "patch_id": ref.patch_id, "slide_id": slide} == record


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves shards open
def test_webdataset_itself_reads_the_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    output = TarOutput(tmp_path, "4kB")
    refs, places, payloads = write(output, 20)
    output.commit(SLIDE, rows_of(refs, places, payloads))
    shards = [str(path) for path in sorted(tmp_path.glob("patches/*.tar"))]
    assert len(shards) > 2
    found = {
        sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)
    }
    assert len(found) == 20
    for ref, payload in zip(refs, payloads, strict=True):
        sample = found[ref.patch_id.replace(".", "-")]
        assert sample["png"] == payload
        assert json.loads(sample["json"])["label"] == "Größe"
    gc.collect()


def test_offsets_are_those_that_tarfile_finds(tmp_path):
    output = TarOutput(tmp_path, "4kB")
    output.commit(SLIDE, rows_of(*write(output, 20)))
    expected = {}
    for path in (tmp_path / "patches").iterdir():
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    place = (f"patches/{path.name}", member.offset_data, member.size)
                    expected[member.name] = place
    table = output.table(SLIDE)
    columns = [table[name].to_pylist() for name in ("patch_id", "path", "offset", "length")]
    found = {f"{sample_key(SLIDE, row[0])}.png": row[1:] for row in zip(*columns, strict=True)}
    assert found == expected
    assert len(found) == 20


@pytest.mark.parametrize("size", [2048, 5000, 10_000, 10**6])
def test_shards_are_not_larger_than_was_asked_for(tmp_path, size):
    output = TarOutput(tmp_path, str(size))
    output.commit(SLIDE, rows_of(*write(output, 30)))
    sizes = [path.stat().st_size for path in (tmp_path / "patches").iterdir()]
    # A sample has 2,048 bytes here: two headers, 300 bytes and a record, in whole blocks.
    per_shard = max(1, (size - 1024) // 2048)
    assert len(sizes) == -(-30 // per_shard)
    assert all(each <= max(size, 2048 + 1024) for each in sizes)
    assert all(each % 512 == 0 for each in sizes)


def test_names_of_shards_have_the_digest_of_their_bytes(tmp_path):
    import xxhash

    output = TarOutput(tmp_path, "6kB")
    output.commit(SLIDE, rows_of(*write(output, 5)))
    for path in (tmp_path / "patches").iterdir():
        slide, digest, number = path.stem.rsplit("-", 2)
        assert slide == SLIDE
        assert digest == xxhash.xxh3_64_hexdigest(path.read_bytes())
        assert len(number) == 6
    numbers = sorted(path.stem.rsplit("-", 1)[1] for path in (tmp_path / "patches").iterdir())
    assert numbers == ["000000", "000001", "000002"]


def test_the_same_patches_give_the_same_files_anywhere(tmp_path, monkeypatch):
    contents = []
    for folder in ("a", "b"):
        output = TarOutput(tmp_path / folder, "6kB")
        output.commit(SLIDE, rows_of(*write(output, 5)))
        found = (tmp_path / folder).rglob("*.*")
        contents.append({p.relative_to(tmp_path / folder): p.read_bytes() for p in found
                         if p.is_file()})  # fmt: skip
        monkeypatch.setattr(os, "getuid", lambda: 77, raising=False)
    assert contents[0] == contents[1]
    with tarfile.open(next((tmp_path / "a" / "patches").iterdir())) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname, member.mode) == ("", "", 0o644)


def test_another_record_is_another_shard(tmp_path):
    output = TarOutput(tmp_path)
    refs, places, payloads = write(output, 2)
    output.commit(SLIDE, rows_of(refs, places, payloads))
    before = output.table(SLIDE)["path"].to_pylist()
    output.begin(SLIDE)
    places = [output.write(ref._replace(record={"label": "other"}), data)
              for ref, data in zip(refs, payloads, strict=True)]  # fmt: skip
    output.commit(SLIDE, rows_of(refs, places, payloads))
    assert output.table(SLIDE)["path"].to_pylist() != before
    assert output.sweep() == 1
    assert len(list((tmp_path / "patches").iterdir())) == 1


def test_shards_are_written_to_disk_as_patches_come(tmp_path):
    """Memory holds neither the slide nor a shard of a folder."""
    import tracemalloc

    output = TarOutput(tmp_path, "8MB")
    payload = bytes(100_000)
    output.begin(SLIDE)
    tracemalloc.start()
    for number in range(300):
        output.write(PatchRef(SLIDE, f"{SLIDE}_x{number}_y0", "patches/x.png"), payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(list((tmp_path / "patches").glob("*.tar"))) == 3
    assert peak < 2_000_000
    output.abort(SLIDE)
    assert output.sweep() == 3
    assert not list(tmp_path.rglob("*.tar"))


def test_a_record_may_hold_numbers_that_json_lacks():
    output = TarOutput(MemoryStore())
    ref = PatchRef("1_a", "1_a_x0_y0", "patches/1_a_x0_y0.png", {"share": float("nan"), "b": [1.0,
                   float("inf")], "c": {"d": float("-inf")}})  # fmt: skip
    output.begin("1_a")
    place = output.write(ref, b"x")
    output.commit("1_a", rows_of([ref], [place], [b"x"]))
    (path,) = output.table("1_a")["path"].to_pylist()
    with tarfile.open(fileobj=io.BytesIO(output.get(path))) as tar:
        record = json.loads(tar.extractfile("1_a_x0_y0.json").read())
    assert record == {
        "share": None, "b": [1.0, None], "c": {"d": None}, "patch_id": "1_a_x0_y0",
        "slide_id": "1_a",
    }  # fmt: skip


@given(
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120),
    size=st.one_of(st.integers(0, 10**6), st.sampled_from([8**11 - 1, 8**11])),
)
@example("x" * 100, 5)
@example("x" * 101, 5)
@example("3_CMU-1-svs_x512_y0.png", 8**11 - 1)
def test_a_header_is_what_tarfile_writes(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert header(name, size) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def test_keys_of_a_slide_never_meet():
    ids = ["s.t_x1_y2", "s-t_x1_y2", "s.t_x1.y2", "s.t_x1-y2", "other.1", "other-1"]
    keys = [sample_key("s.t", name) for name in ids]
    assert len(set(keys)) == len(ids)
    assert keys[0] == "s-t_x1_y2"
    assert not any("." in key for key in keys)


@pytest.mark.parametrize("ending", [".png", ".ome.tif", ""])
def test_the_ending_is_that_of_the_file_name(ending):
    output = TarOutput(MemoryStore())
    output.begin("1_a.b")
    ref = PatchRef("1_a.b", "1_a.b_x0_y0", f"patches/1_a.b_x0_y0{ending}")
    place = output.write(ref, b"x")
    output.commit("1_a.b", rows_of([ref], [place], [b"x"]))
    (path,) = output.table("1_a.b")["path"].to_pylist()
    with tarfile.open(fileobj=io.BytesIO(output.get(path))) as tar:
        # A name without an ending is cut at the last dot, as there is none behind the id.
        assert tar.getnames()[0].partition(".")[0] == "1_a-b_x0_y0"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("256MB", 256_000_000), ("1GB", 10**9), ("64MiB", 64 * 2**20), ("1.5 kB", 1500),
     ("2tb", 2 * 10**12), ("10b", 10)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size("tar", text) == size
    assert TarOutput(MemoryStore(), text).shard_size == size
    assert TarOutput(MemoryStore()).shard_size == DEFAULT_SIZE


@pytest.mark.parametrize("text", ["", "MB", "0", "-1", "0.1", "1XB", "1e9", "a lot", "1 MB 2"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(UsageError, match="is not the size of a shard"):
        TarOutput(MemoryStore(), text)


def test_a_shard_that_was_cut_off_is_not_committed(tmp_path, monkeypatch):
    """After a full disk nothing can be added behind the hole, and abort leaves nothing."""
    from qupath_bridge.stores import local

    output = TarOutput(tmp_path, "6kB")
    refs, places, payloads = write(output, 3)
    real = local._LocalDraft.write

    def fail(self, data):
        raise OutputError(os.strerror(errno.ENOSPC))

    monkeypatch.setattr(local._LocalDraft, "write", fail)
    with pytest.raises(OutputError, match="No space"):
        output.write(refs[0], b"x")
    monkeypatch.setattr(local._LocalDraft, "write", real)
    with pytest.raises(OutputError, match="not written completely"):
        output.write(refs[0], b"x")
    with pytest.raises(OutputError, match="not written completely"):
        output.commit(SLIDE, rows_of(refs, places, payloads))
    assert output.slides() == []
    output.abort(SLIDE)
    output.sweep()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_shard_does_not_have_its_patches(tmp_path):
    output = TarOutput(tmp_path)
    output.commit(SLIDE, rows_of(*write(output, 3)))
    (path,) = (tmp_path / "patches").iterdir()
    table = output.table(SLIDE)
    rows = [table[name].to_pylist() for name in ("path", "offset", "length")]
    places = [Location(*row) for row in zip(*rows, strict=True)]
    assert all(map(output.exists, places))
    path.write_bytes(path.read_bytes()[: places[1].offset + 10])
    assert [output.exists(place) for place in places] == [True, False, False]
    with pytest.raises(OutputError, match="ends before"):
        output.read(places[1])
