"""Fingerprints of slides: what is read for them, and which files a slide has."""

import os
import struct
from pathlib import Path

import pytest

from qupath_bridge.errors import ReadError
from qupath_bridge.readers.fingerprints import file_fingerprint, slide_files
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide

PIXELS = marker_image(301, 207)
ROOT = Path(__file__).parents[2]
CMU = ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
DICOM = ROOT / "tests" / "data" / "slides" / "openslide-python_boxes_0.dcm"


def test_a_fingerprint_is_read_again_each_time(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    other = write_slide(tmp_path / "b.tiff", PIXELS // 2, tile=64)
    for kind in (OpenSlideReader, TileReader):
        copy = tmp_path / f"{kind.__name__}.tiff"
        copy.write_bytes(path.read_bytes())
        with kind(copy) as reader:
            before = reader.fingerprint
            assert before.digest == file_fingerprint(path).digest
            copy.unlink()
            copy.write_bytes(other.read_bytes())
            assert reader.fingerprint.digest == file_fingerprint(other).digest != before.digest


def test_a_fingerprint_covers_the_folder_of_a_mirax_slide(tmp_path):
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"JPEG")
    alone = file_fingerprint(path)
    (tmp_path / "a").mkdir()
    for name in ("Slidedat.ini", "Data0000.dat"):
        (tmp_path / "a" / name).write_bytes(name.encode() * 9)
    (tmp_path / "other.dat").touch()
    whole = file_fingerprint(path)
    assert [file.name for file in slide_files(path)] == ["Data0000.dat", "Slidedat.ini", "a.mrxs"]
    assert whole.size == 4 + 9 * 24
    assert whole.digest != alone.digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    path.rename(moved / "b.mrxs")
    (tmp_path / "a").rename(moved / "b")
    assert file_fingerprint(moved / "b.mrxs").digest == whole.digest
    with (moved / "b" / "Data0000.dat").open("r+b") as file:
        file.write(b"x")
    assert file_fingerprint(moved / "b.mrxs").digest != whole.digest


@pytest.mark.parametrize("ending", ["vms", "VMU"])
def test_a_fingerprint_covers_the_files_that_a_hamamatsu_slide_names(tmp_path, ending):
    """The keys are those that OpenSlide knows."""
    path = tmp_path / f"a.{ending}"
    lines = [
        "[Virtual Microscope Specimen]", "NoLayers=1", "ImageFile=a.jpg", "ImageFile(1,0)=b c.jpg",
        "ImageFile(0,1)=gone.jpg", "MapFile=map2.jpg ", "OptimisationFile=a.opt",
        "MacroImage=m.jpg", "MapFile=../outside.jpg", "ImageFile(9,9)=..", "ImageFile(9,8)=",
        "Layer=other.jpg",
    ]  # fmt: skip
    path.write_bytes("\r\n".join(lines).encode())
    (tmp_path.parent / "outside.jpg").write_bytes(b"outside")
    alone = file_fingerprint(path)
    seen = {alone.digest}
    names = ["a.jpg", "a.opt", "b c.jpg", "m.jpg", "map2.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        seen.add(file_fingerprint(path).digest)
    assert len(seen) == 1 + len(names)
    (tmp_path / "other.jpg").write_bytes(b"of another slide")
    assert {file.name for file in slide_files(path)} == {path.name, *names}
    whole = file_fingerprint(path)
    assert whole.digest in seen and whole.size == alone.size + sum(map(len, names))
    (tmp_path / "b c.jpg").write_bytes(b"B c.jpg")
    assert file_fingerprint(path).digest not in seen


def test_a_fingerprint_covers_the_series_of_a_dicom_slide(tmp_path):
    data = DICOM.read_bytes()
    uid = b"1.3.6.1.4.1.5962.99.1.1747645553.419656796.1689669825649.4.0"
    assert data.count(uid) == 1
    first = tmp_path / "1.dcm"
    first.write_bytes(data)
    assert slide_files(first) == (first,)
    assert file_fingerprint(first).digest != file_fingerprint(CMU).digest
    alone = file_fingerprint(first)
    (tmp_path / "2.dcm").write_bytes(data.replace(uid, uid[:-1] + b"7"))
    (tmp_path / "note.txt").write_text("not DICOM")
    assert file_fingerprint(first) == alone  # another series
    second = tmp_path / "3.dcm"
    second.write_bytes(data + b"another level")
    whole = file_fingerprint(first)
    assert slide_files(first) == (first, second)
    assert whole.size == 2 * len(data) + len("another level")
    assert whole.digest != alone.digest
    second.write_bytes(data + b"Another level")
    assert file_fingerprint(first).digest != whole.digest


def test_a_fingerprint_follows_the_content_not_the_name(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    copy = tmp_path / "copy.tiff"
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(5, 5))
    one, two = file_fingerprint(path), file_fingerprint(copy)
    assert (one.size, one.digest) == (two.size, two.digest)
    assert two.mtime_ns == 5
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert file_fingerprint(path).digest != one.digest


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_fingerprint_sees_head_tail_and_directory_of_large_files(tmp_path, bigtiff):
    mib = 1 << 20
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 3 * mib) if bigtiff else (
        b"MM\0*" + struct.pack(">I", 3 * mib) + b"\0" * 8
    )  # fmt: skip
    content = bytearray(6 * mib)
    content[:16] = head
    path = tmp_path / "large.tiff"

    def digest(changed=None):
        data = bytearray(content)
        if changed is not None:
            data[changed] ^= 1
        path.write_bytes(data)
        return file_fingerprint(path).digest

    same = digest()
    assert digest(100) != same
    assert digest(6 * mib - 1) != same
    assert digest(3 * mib + 50) != same  # the directory
    assert digest(2 * mib) == same  # pixels in the middle are not read


def test_other_heads_have_no_directory(tmp_path):
    for head in (
        b"II",
        b"II\x07\0" + bytes(20),
        b"no slide at all, but long",
        b"II+\0" + b"\xff" * 20,
    ):
        path = tmp_path / "other"
        path.write_bytes(head)
        assert file_fingerprint(path).size == len(head)


def test_the_fingerprint_of_a_file_that_went(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with TileReader(path) as reader:
        path.rename(tmp_path / "b.tiff")
        with pytest.raises(ReadError, match=r"a\.tiff"):
            _ = reader.fingerprint


def test_memory_fingerprints_differ_with_the_pixels():
    other = PIXELS.copy()
    other[5, 5, 0] ^= 1
    assert MemoryReader(PIXELS).fingerprint == MemoryReader(PIXELS.copy()).fingerprint
    assert MemoryReader(PIXELS).fingerprint != MemoryReader(other).fingerprint
