"""Folders with slides of several files, and the check that a bucket gives such slides whole."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest

from qupath_bridge.errors import ReadError
from qupath_bridge.readers import slide_version
from qupath_bridge.readers.fingerprints import file_fingerprint, slide_files
from qupath_bridge.readers.staged import stage_slide
from qupath_bridge.stores import open_store, staging
from qupath_bridge.stores.staging import Cache
from tests.support.mirax import write_mirax

DATA = Path(__file__).parents[1] / "data"
SERIES = ("openslide-python_boxes_0.dcm", "openslide-python_boxes_1.dcm")
OTHERS = ("highdicom_sm_image.dcm", "multiframe_camelyon_challenge_image.dcm")


def dicom_folder(folder):
    """Three DICOM slides in one folder, of which one has two files; return that one."""
    folder.mkdir()
    for name in (*SERIES, *OTHERS):
        shutil.copy(next(DATA.glob(f"*/{name}")), folder / name)
    (folder / "notes.txt").write_text("not of a slide")
    return folder / SERIES[0]


def mirax_folder(folder):
    """Two MIRAX slides in one folder, whose names begin alike; return one."""
    folder.mkdir()
    noise = np.random.default_rng(1)
    for name in ("a", "ab"):
        write_mirax(folder / f"{name}.mrxs", noise.integers(0, 255, (128, 256, 3), np.uint8))
    (folder / "notes.txt").write_text("not of a slide")
    return folder / "a.mrxs"


def check_staging(local, folder_url, asked, tmp_path):
    """Check that a slide of a folder comes from a bucket whole, once, alone, and goes whole.

    ``asked`` counts the bytes that were read of each object.
    """
    folder, url = local.parent, Path(f"{folder_url}/{local.name}")
    names = {path.relative_to(folder).as_posix() for path in slide_files(local)}
    sizes = {name: (folder / name).stat().st_size for name in names}
    assert len(names) > 1
    assert file_fingerprint(url).digest == file_fingerprint(local).digest
    other = next(p for p in folder.iterdir() if p.suffix == local.suffix and p.name not in names)
    room = max(sum(path.stat().st_size for path in slide_files(p)) for p in (local, other))
    cache = Cache(tmp_path / "cache", room)  # for one of the two

    # Two at a time: one copies the files, and both read them.
    asked.clear()
    start = threading.Barrier(2)

    def stage(_):
        start.wait()
        return stage_slide(url, cache)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(stage, range(2))
    assert first.path == second.path
    copied = first.lease.folder
    assert files_below(copied) == names
    for name in names:
        assert (copied / name).read_bytes() == (folder / name).read_bytes()
        # Besides, each asks for what tells whose series it is of.
        assert sizes[name] <= asked[Path(name).name] < 2 * sizes[name] + (128 << 10)
    assert_same_pixels(first.path, local)
    first.lease.release()

    # Whoever uses it keeps all of it; then all of it goes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "WAIT_SECONDS", 0.1)
        with pytest.raises(ReadError, match="in use"):
            stage_slide(Path(f"{folder_url}/{other.name}"), cache)
    assert files_below(copied) == names
    second.lease.release()
    stage_slide(Path(f"{folder_url}/{other.name}"), cache).lease.release()
    assert not copied.exists()

    # A file of it that is replaced makes it another version.
    before = slide_version(url)
    name = max(names - {local.name})
    changed = bytearray((folder / name).read_bytes())
    changed[-1] ^= 1
    open_store(folder_url).put(name, bytes(changed))
    assert slide_version(url) != before
    new = stage_slide(url, cache)
    assert new.lease.folder != copied
    assert (new.lease.folder / name).read_bytes() == bytes(changed)
    new.lease.release()


def files_below(folder):
    """Return the names of all files below a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def assert_same_pixels(left, right):
    """Compare all levels and pictures of two slides, as OpenSlide reads them."""
    with openslide.open_slide(left) as one, openslide.open_slide(right) as other:
        assert one.level_dimensions == other.level_dimensions
        assert dict(one.properties) == dict(other.properties)
        for level, size in enumerate(one.level_dimensions):
            pictures = [each.read_region((0, 0), level, size).tobytes() for each in (one, other)]
            assert pictures[0] == pictures[1]
        assert set(one.associated_images) == set(other.associated_images)
        for name, picture in one.associated_images.items():
            assert picture.tobytes() == other.associated_images[name].tobytes()
