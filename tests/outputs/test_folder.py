import json
import os
import pickle

import pytest

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import Location, PatchRef, open_output
from qupath_bridge.outputs.folder import FolderOutput
from qupath_bridge.outputs.memory import MemoryOutput
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.output import rows_of


def write(output, names, slide="1_a"):
    output.begin(slide)
    refs = [PatchRef(slide, name.rpartition("/")[2].partition(".")[0], name) for name in names]
    places = [output.write(ref, ref.name.encode()) for ref in refs]
    return refs, places, [ref.name.encode() for ref in refs]


def test_patches_are_files_under_the_names_of_the_layout(tmp_path):
    output = FolderOutput(tmp_path)
    names = ["patches/1_a/Tumor/1_a_x0_y0.png", "patches/1_a/_/1_a_x9_y0.png"]
    refs, places, payloads = write(output, names)
    assert places == [Location(name) for name in names]
    output.commit("1_a", rows_of(refs, places, payloads))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in files) == [
        "index/slide_id=1_a/part-0.parquet", *sorted(names),
    ]  # fmt: skip
    assert (tmp_path / names[0]).read_bytes() == payloads[0]


def test_a_write_that_fails_is_taken_back(monkeypatch):
    output = MemoryOutput()
    write(output, ["patches/1_a/T/1_a_x0_y0.png"])
    put = output.store.put

    def cut(name, data, **options):
        put(name, data, **options)
        raise OutputError("gone")

    monkeypatch.setattr(output.store, "put", cut)
    with pytest.raises(OutputError, match="gone"):
        output.write(PatchRef("1_a", "1_a_x1_y0", "patches/1_a/T/1_a_x1_y0.png"), b"2")
    monkeypatch.undo()
    output.abort("1_a")
    assert output.sweep() == 2
    assert list(output.store.list()) == []


@pytest.mark.parametrize(
    ("layout", "ours", "others"),
    [
        (
            None,
            ["patches/1_a/T/1_a_x0_y-5.png", "patches/1_a/_/1_a_x0_y0_z1_t2.ome.tif",
             "patches/2_日本/Größe/2_日本_x0_y0.jpg"],
            ["patches/1_a/T/2_b_x0_y0.png", "patches/1_a/1_a_x0_y0.png", "patches/1_a/T/a.png",
             "patches/1_a/T/1_a_x0_y0", "patches/1_a/T/1_a_x0_y0 copy.png",
             "patches/1_a/T/1_a_x0_y0-2.png", "patches/1_a/T/x/1_a_x0_y0.png"],
        ),
        (
            "patches/{label}/{patch_id}",
            ["patches/T/1_a_x0_y0.png", "patches/T/study_1_a.svs_x0_y0.png"],
            ["patches/1_a_x0_y0.png", "patches/T/a_x0_y0.png", "patches/T/cells_x.png",
             "patches/T/my 1_a_x0_y0.png"],
        ),
        (
            "patches/run.1/{entry_id}/{slide_id}/{entry_id}-{label}/{patch_id}",
            ["patches/run.1/1/1_a/1-T/1_a_x0_y0.png"],
            ["patches/run.1/1/1_a/2-T/1_a_x0_y0.png", "patches/runx1/1/1_a/1-T/1_a_x0_y0.png"],
        ),
    ],
)  # fmt: skip
def test_sweep_removes_only_names_of_the_layout(layout, ours, others):
    output = MemoryOutput()
    if layout:
        output.put("run.json", json.dumps({"config": {"layout": layout}}).encode())
    for name in (*ours, *others, "patches.txt", "elsewhere/1_a/T/1_a_x0_y0.png"):
        output.put(name, b"")
    assert list(output.unlisted()) == sorted([*ours, *others])
    assert output.sweep() == len(ours)
    assert list(output.unlisted()) == sorted(others)
    assert output.has("patches.txt")


@pytest.mark.parametrize("layout", [None, "patches/{label}/{patch_id}"])
def test_sweep_lists_no_folder_of_a_slide_that_is_kept(monkeypatch, layout):
    """A million patches in a bucket take minutes to list; with another layout all are."""
    output = MemoryOutput()
    folder = "" if layout else "{0}/"
    if layout:
        output.put("run.json", json.dumps({"config": {"layout": layout}}).encode())
    left = []
    for slide in ("1_a", "1_ab", "2_b"):
        name = f"patches/{folder.format(slide)}T/{slide}_x0_y0.png"
        output.commit(slide, rows_of(*write(output, [name], slide)))
        left.append(name.replace("x0", "x50"))
        output.put(left[-1], b"")
        output.put(left[-1].replace("patches/", "masks/"), b"")
    listed, real = [], MemoryStore.list

    def note(self, prefix=""):
        found = list(real(self, prefix))
        listed.extend(found)
        return iter(found)

    monkeypatch.setattr(MemoryStore, "list", note)
    monkeypatch.setattr(MemoryStore, "children", children_without_list)
    assert output.sweep(keep=["1_a", "2_b"]) == 2
    assert [output.has(name) for name in left] == [True, False, True]
    assert (left[0] in listed) == (layout is not None)
    assert left[1] in listed


def children_without_list(store, folder=""):
    """The children of a folder, without a call of ``list``, which a test counts."""
    names = [name for name in store._place.data if name.startswith(folder)]
    parts = (name[len(folder) :].partition("/")[:2] for name in names)
    return iter(sorted({f"{folder}{name}{slash}" for name, slash in parts}))


def test_files_of_a_slide_with_damaged_rows_stay():
    """Nothing is deleted because rows fail to list it."""
    output = MemoryOutput()
    names = ["patches/1_a/T/1_a_x0_y0.png", "patches/1_a/T/1_a_x1_y0.png"]
    output.commit("1_a", rows_of(*write(output, names)))
    part = "index/slide_id=1_a/part-0.parquet"
    output.put(part, output.get(part)[:50])
    assert list(output.unlisted()) == []
    assert output.sweep() == 0
    write(output, [*names, "patches/1_a/T/1_a_x2_y0.png"])
    output.abort("1_a")
    assert all(map(output.has, names))
    with pytest.raises(OutputError, match="damaged"):
        output.table("1_a")
    output.commit("1_a", rows_of(*write(output, names[:1])))
    assert output.table("1_a").num_rows == 1
    assert output.sweep() == 2
    output.put(part, output.get(part)[:50])
    output.remove("1_a")
    assert output.slides() == []


def test_sweep_removes_inputs_that_the_run_does_not_list():
    output = MemoryOutput()
    names = [f"inputs/corrections/1_a-{digit * 16}.jsonl" for digit in "0123"]
    others = ["inputs/notes.txt", "inputs/corrections/my-notes.jsonl"]
    for name in (*names, *others):
        output.put(name, b"x")
    assert output.sweep() == 0  # without a record nobody can say which are used
    output.put("run.json", json.dumps({"inputs": {names[1]: "digest"}}).encode())
    assert output.sweep() == 3
    assert [name for name in (*names, *others) if output.has(name)] == [names[1], *others]
    output.put("run.json", b'{"inputs": null}')
    assert output.sweep() == 1


def test_sweep_leaves_no_rows_of_dropped_patches_behind():
    output = MemoryOutput()
    refs, places, payloads = write(output, ["patches/1_a/T/1_a_x0_y0.png"])
    table = rows_of(refs, places, payloads)
    output.commit("1_a", table, table)
    output.put("dropped/slide_id=1_a/part-0123.parquet", b"")
    output.put("dropped/slide_id=2_b/part-0123.parquet", b"")
    assert output.sweep() == 2
    assert output.dropped("1_a").num_rows == 1
    (name,) = output.store.list("dropped/")
    output.store.delete(name)
    with pytest.raises(OutputError, match="is missing"):
        output.dropped("1_a")


def test_pixels_are_refused_by_name():
    import numpy as np

    output = MemoryOutput()
    output.begin("1_a")
    with pytest.raises(UsageError, match="'memory' takes encoded files"):
        output.write(PatchRef("1_a", "1_a_x0_y0", "x.png"), np.zeros((2, 2, 3), np.uint8))


class TestOpenOutput:
    @pytest.mark.parametrize("container", ["folder:x", "memory:x"])
    def test_arguments_that_an_output_does_not_take(self, container):
        with pytest.raises(UsageError, match="takes no argument"):
            open_output("memory://x", container)

    def test_names_that_no_output_has(self, tmp_path):
        with pytest.raises(UsageError, match="Known: folder, tar, h5, zarr, parquet, memory"):
            open_output(tmp_path, "zip")

    @pytest.mark.parametrize("url", ["ftp://host/run", "ftp:x"])
    @pytest.mark.parametrize("container", [None, "folder", "tar"])
    def test_unknown_schemes(self, url, container, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(OutputError, match="No store opens"):
            open_output(url, container)
        assert list(tmp_path.iterdir()) == []

    def test_memory_is_no_folder(self, tmp_path):
        with pytest.raises(UsageError, match="does not write to"):
            open_output(tmp_path, "memory")

    def test_a_folder_in_memory(self):
        output = open_output("memory://place", "folder")
        assert isinstance(output, FolderOutput)
        output.put("x", b"1")
        assert MemoryStore("memory://place").get("x") == b"1"
        assert open_output("memory://place", "memory").get("x") == b"1"

    def test_nothing_is_made_by_opening(self, tmp_path):
        output = open_output(tmp_path / "new", "tar:1MB")
        assert output.is_empty()
        assert output.slides() == []
        assert output.sweep() == 0
        assert list(output.unlisted()) == []
        assert output.holder() is None
        assert list(tmp_path.iterdir()) == []
        assert repr(output) == f"TarOutput({output.url!r}, '1MB')"

    @pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"config": {}}', b'{"config": 1}'])
    def test_a_record_that_does_not_say_the_container(self, tmp_path, record):
        (tmp_path / "run.json").write_bytes(record)
        with pytest.raises(OutputError, match=r"run\.json in .* does not say"):
            open_output(tmp_path)

    def test_a_place_without_a_run(self, tmp_path):
        with pytest.raises(OutputError, match="contains no run"):
            open_output(tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()

    def test_a_memory_output_does_not_cross_to_another_process(self):
        output = MemoryOutput()
        with pytest.raises(UsageError, match=f"memory output {output.url} cannot be used by anot"):
            pickle.dumps(output)
        with pytest.raises(UsageError, match="exists in this process"):
            pickle.dumps(open_output(output.url, "tar"))

    def test_a_fresh_memory_output_has_a_name_of_its_own(self):
        first, second = MemoryOutput(), MemoryOutput()
        first.put("x", b"1")
        assert not second.has("x")
        assert open_output(first.url, "memory").has("x")
        first.store.forget()
        assert not open_output(first.url, "memory").has("x")


def test_what_a_prefix_does_not_begin_is_not_walked(tmp_path, monkeypatch):
    """Locks are looked for in outputs of a million patches."""
    store = LocalStore(tmp_path)
    for name in ("lock-1.json", "lock-a/b/c", "lock.json", "patches/a/b", "patches/lock-2.json"):
        store.put(name, b"")
    walked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (walked.append(path), scandir(path))[1])
    assert list(store.list("lock-")) == ["lock-1.json", "lock-a/b/c"]
    assert not any("patches" in str(path) for path in walked)
    assert list(store.list("patches/l")) == ["patches/lock-2.json"]
