import os
import struct
from importlib.metadata import EntryPoint
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError, ReadError, UsageError
from qupath_bridge.model import Box, Plane
from qupath_bridge.readers import is_slide, level_sizes, levels, open_reader
from qupath_bridge.readers import openslide as openslide_reader
from qupath_bridge.readers.fingerprints import file_fingerprint, slide_files
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.readers.openslide import OpenSlideReader
from qupath_bridge.readers.tiles import TileReader
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.tiff_tags import set_tag

PIXELS = marker_image(301, 207)
ROOT = Path(__file__).parents[2]
CMU = ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
SLIDES = ROOT / "tests" / "data" / "slides"
DICOM = SLIDES / "openslide-python_boxes_0.dcm"
APERIO = "Aperio Image Library v1\r\n301x207 (64x64)|AppMag = 40|MPP = 0.2527|Left = 1"


# ---- which reader


def test_auto_takes_the_tile_reader_for_tiff(tmp_path):
    plain = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    ome = write_slide(tmp_path / "b.ome.tif", PIXELS, tile=64, ome=True)
    strips = write_slide(tmp_path / "c.tif", PIXELS, tile=None)
    for path, kind in (
        (CMU, TileReader),
        (DICOM, OpenSlideReader),
        (plain, TileReader),
        (ome, TileReader),
        (strips, TileReader),
    ):
        with open_reader(path) as reader:
            assert type(reader) is kind
    with open_reader(str(plain), name="tiles") as reader:
        assert type(reader) is TileReader
        assert repr(reader) == f"TileReader({str(plain)!r})"


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    for name in ("auto", "openslide", "tiles"):
        with pytest.raises(ReadError, match="no such file") as caught:
            open_reader(tmp_path / "gone.svs", name=name)
        assert "gone.svs" in str(caught.value)
        assert "moved" in caught.value.hint


def test_auto_gives_the_message_and_hint_of_the_one_reader_that_tried(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="deflate", rowsperstrip=207)
    monkeypatch.setattr("qupath_bridge.readers.tiff_layout.MAX_SEGMENT_BYTES", 301 * 207 * 3 - 1)
    with pytest.raises(ReadError) as alone:
        open_reader(path, name="tiles")
    with pytest.raises(ReadError) as auto:
        open_reader(path)
    assert "Write it again in tiles" in auto.value.hint
    assert (auto.value.message, auto.value.hint) == (alone.value.message, alone.value.hint)


def test_auto_lists_what_each_reader_said_with_its_hint(tmp_path):
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path, PIXELS[..., 0].astype(np.uint16), tile=(64, 64), description=APERIO, metadata=None,
        photometric="miniswhite", compression="jpeg2000",
    )  # fmt: skip
    said = {}
    for name in ("openslide", "tiles"):
        with pytest.raises(ReadError) as caught:
            open_reader(path, name=name)
        assert caught.value.hint
        said[name] = str(caught.value).removeprefix(f"{path}: ")
    with pytest.raises(ReadError, match="no reader can open it") as caught:
        open_reader(path)
    first, *lines = caught.value.message.splitlines()
    assert first == f"{path}: no reader can open it."
    assert lines == [f"  openslide: {said['openslide']}", f"  tiles: {said['tiles']}"]


def test_auto_says_when_no_reader_knows_the_format(tmp_path, only_built_in):
    text = tmp_path / "text.svs"
    text.write_text("no slide")
    empty = tmp_path / "empty.tiff"
    empty.touch()
    for path in (text, empty):
        with pytest.raises(
            ReadError, match="knows this format; asked: openslide, tiles, pillow"
        ) as caught:
            open_reader(path)
        assert path.name in caught.value.message
        assert "complete copy" in caught.value.hint
    with pytest.raises(ReadError, match="a folder, not a slide file"):
        open_reader(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.czi", b"ZISRAWFILE and more", "CZI of Zeiss"),
        ("renamed.img", b"ZISRAWFILE and more", "CZI of Zeiss"),
        ("a.nd2", b"\xda\xce\xbe\x0a and more", "ND2 of Nikon"),
        ("old.ND2", b"\0\0\0\x0cjP  \r\n", "ND2 of Nikon"),
        ("a.lif", b"\x70\0\0\0", "LIF of Leica"),
        ("a.vsi", None, "VSI of Olympus"),
        ("a.lsm", None, "LSM of Zeiss"),
        ("a.ims", b"\x89HDF", "IMS of Imaris"),
        ("a.oir", b"OLYMPUSRAWFORMAT", "OIR of Olympus"),
        ("a.ome.zarr", "folder", "OME-Zarr"),
    ],
)
def test_formats_of_bio_formats_are_refused_by_name(tmp_path, name, content, found, only_built_in):
    """Also those that begin as a TIFF file does, with a small picture or pages of their own."""
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is None:
        tifffile.imwrite(path, PIXELS)
    else:
        path.write_bytes(content)
    assert not is_slide(path)
    with pytest.raises(ReadError, match=f"the format {found} cannot be read") as caught:
        open_reader(path)
    assert "bfconvert" in caught.value.hint


def test_damaged_tiff_directories_are_named_by_auto(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    path.write_bytes(path.read_bytes()[:6])
    with pytest.raises(ReadError, match="not a TIFF file that can be read") as caught:
        open_reader(path)
    assert "copy complete" in caught.value.hint


def test_unknown_readers_are_refused_with_the_known(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with pytest.raises(UsageError, match=r"No reader is called 'magic'.*openslide, tiles, pillow"):
        open_reader(path, name="magic")


@pytest.fixture
def only_built_in(monkeypatch):
    """Take out what other packages and tests have registered."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_entry_points", lambda kind: ())


@pytest.fixture
def register(only_built_in):
    """A function that registers a reader, which notes in a list that it was tried."""

    def register(name, rank=None, error=None):
        def factory(path):
            tried.append(name)
            if error is not None:
                raise error
            return MemoryReader(PIXELS, name=name)

        if rank is not None:
            factory.can_open = rank if callable(rank) else lambda path: rank
        registry.register("reader", name, factory)

    tried = register.tried = []
    return register


def refusal(text):
    return ReadError(text, hint=f"The hint of {text}.")


def test_auto_tries_readers_by_can_open_highest_first(tmp_path, register):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)  # 2 of the reader tiff
    register("silent", error=refusal("silent"))
    register("one", 1, refusal("one"))
    register("none", 0)
    register("three", 3, refusal("three"))
    register("also three", 3, refusal("also three"))
    with open_reader(path) as reader:
        assert type(reader) is TileReader
    assert register.tried == ["three", "also three"]
    path.write_bytes(b"something else")
    with pytest.raises(ReadError) as caught:
        open_reader(path)
    assert register.tried[2:] == ["three", "also three", "one", "silent"]
    for name in ("three", "also three", "one", "silent"):
        assert f"{name}: {name} The hint of {name}." in caught.value.message


def test_auto_takes_a_dedicated_reader_before_the_built_in_ones(register):
    register("mine", 3)
    with open_reader(CMU) as reader:
        assert repr(reader) == "MemoryReader('mine')"
    with open_reader(CMU, name="openslide") as reader:
        assert type(reader) is OpenSlideReader


def test_auto_goes_on_when_a_reader_is_broken(tmp_path, register, monkeypatch):
    def broken(path):
        raise KeyError("broken can_open")

    gone = EntryPoint("gone", "no_such_package:Reader", "qupath_bridge.reader")
    monkeypatch.setattr(registry, "_entry_points", lambda kind: (gone,))
    register("cannot be asked", broken)
    register("raises", 3, ZeroDivisionError("by zero"))
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with open_reader(path) as reader:
        assert type(reader) is TileReader
    path.write_bytes(b"something else")
    with pytest.raises(ReadError) as caught:
        open_reader(path)
    assert "cannot be asked: KeyError: 'broken can_open'" in caught.value.message
    assert "raises: ZeroDivisionError: by zero" in caught.value.message
    assert "gone: The reader 'gone'" in caught.value.message
    assert "No module named 'no_such_package'" in caught.value.message


def test_readers_that_are_not_installed_are_named_with_the_command(tmp_path, register, monkeypatch):
    gone = registry.Part("reader", "openslide", "no_such:Reader", "built in", "pip install it")
    monkeypatch.setattr(
        registry, "_BUILT_IN", {**registry._BUILT_IN, ("reader", "openslide"): gone}
    )
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with pytest.raises(MissingDependencyError, match="pip install it"):
        open_reader(path, name="openslide")
    with open_reader(path) as reader:
        assert type(reader) is TileReader
    path.write_bytes(b"something else")
    with pytest.raises(ReadError, match="pip install it"):
        open_reader(path)


def test_can_open_of_the_built_in_readers(tmp_path):
    plain = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    big = write_slide(tmp_path / "big.tiff", PIXELS, tile=64, bigtiff=True)
    ome = write_slide(tmp_path / "b.ome.tif", PIXELS, tile=64, ome=True)
    philips = tmp_path / "philips.tiff"
    tifffile.imwrite(
        philips, PIXELS, photometric="rgb", software="Philips DP v1.0", metadata=None,
        description="<?xml version='1.0'?><DataObject></DataObject>",
    )  # fmt: skip
    holes = tmp_path / "holes.svs"
    tifffile.imwrite(
        holes, PIXELS, tile=(64, 64), photometric="rgb", description=APERIO, metadata=None
    )
    set_tag(holes, "TileByteCounts", 6, 0)
    marked = tmp_path / "marked.svs"
    tiles = [imagecodecs.jpeg8_encode(PIXELS[:64, :64]) for _ in range(20)]
    tifffile.imwrite(
        marked, iter(tiles), shape=PIXELS.shape, dtype=np.uint8, tile=(64, 64), photometric="rgb",
        compression="jpeg", description=APERIO, metadata=None,
    )  # fmt: skip
    set_tag(marked, "PhotometricInterpretation", 0, 2)
    found = {
        path: (OpenSlideReader.can_open(path), TileReader.can_open(path))
        for path in (
            plain, big, ome, philips, CMU, holes, marked, DICOM, SLIDES, SLIDES / "README.md"
        )
    }  # fmt: skip
    assert found == {
        plain: (0, 2),
        big: (0, 2),
        ome: (0, 2),
        philips: (0, 0),
        CMU: (2, 3),
        holes: (2, 1),  # OpenSlide fills them from other levels
        marked: (2, 1),  # OpenSlide takes YCbCr for RGB
        DICOM: (2, 0),
        SLIDES: (0, 0),
        SLIDES / "README.md": (0, 0),
    }


# ---- fingerprints


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


def test_hidden_pixels_of_a_memory_slide_stay_in_the_callers_array():
    pixels = np.full((20, 20, 3), 7, np.uint8)
    found, _ = MemoryReader(pixels, mask=np.zeros((20, 20), bool)).read(Box(0, 0, 20, 20), (20, 20))
    assert (found == 255).all()
    assert (pixels == 7).all()


# ---- missing tiles, damage


@pytest.mark.parametrize("kind", [OpenSlideReader, TileReader])
def test_missing_tiles_are_background_not_black(tmp_path, kind):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    for tag in ("TileOffsets", "TileByteCounts"):
        set_tag(path, tag, 6, 0)  # five tiles a row: the second of the second row
    missing = np.zeros((207, 301), bool)
    missing[64:128, 64:128] = True
    with kind(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
        np.testing.assert_array_equal(mask, ~missing)
        np.testing.assert_array_equal(pixels[missing], 255)
        np.testing.assert_array_equal(pixels[~missing], PIXELS[~missing])
        small, valid = reader.read(Box(60, 60, 72, 72), (9, 9))
        assert not valid[1:8, 1:8].any()
        assert (small[1:8, 1:8] == 255).all()
        edge, valid = reader.read(Box(56, 64, 12, 8), (2, 1))  # 6 x 8 valid, then 2 of 6 x 8
        assert valid.tolist() == [[True, False]]
        whole = PIXELS[64:72, 62:68].astype(int)
        whole[:, 2:] = 255
        np.testing.assert_array_equal(edge[0, 1], (2 * whole.sum((0, 1)) + 48) // 96)


def test_a_damaged_tile_is_named(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    with TileReader(path) as reader:
        pixels, _ = reader.read(Box(0, 0, 64, 64), (64, 64))  # the others can still be read
        np.testing.assert_array_equal(pixels, PIXELS[:64, :64])
        with pytest.raises(
            ReadError, match=r"a\.tiff: tile at column 3, row 0 of level 0 \(offset \d+\)"
        ) as caught:
            reader.read(Box(200, 0, 64, 64), (64, 64))
        assert "damaged" in caught.value.hint


def test_a_file_cut_short_is_refused_where_it_ends(tmp_path):
    path = write_slide(tmp_path / "a.tif", PIXELS, tile=None)
    path.write_bytes(path.read_bytes()[:-200])
    with TileReader(path) as reader:
        reader.read(Box(0, 0, 50, 50), (50, 50))
        with pytest.raises(
            ReadError, match=r"strip at column 0, row 12 of level 0 .* ends 200 bytes too early"
        ):
            reader.read(Box(0, 190, 50, 17), (50, 17))


def test_tiles_that_the_directory_forgets_are_no_background(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[tag].offset + 4 for tag in ("TileOffsets", "TileByteCounts")]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(struct.pack("<I", 10))
    with TileReader(path) as reader, pytest.raises(ReadError, match="directory does not list it"):
        reader.read(Box(0, 140, 64, 64), (64, 64))


def test_a_tile_of_another_size_is_refused(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, compression="jpeg")
    small = write_slide(tmp_path / "b.tiff", PIXELS, tile=32, compression="jpeg")
    with tifffile.TiffFile(small) as file:
        page = file.pages[0]
        tile = small.read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(tile)
    with (
        TileReader(path) as reader,
        pytest.raises(ReadError, match="has 32 x 32 pixels, not 64 x 64"),
    ):
        reader.read(Box(0, 0, 64, 64), (64, 64))


@pytest.mark.parametrize("seed", range(6))
def test_broken_directories_never_get_out_as_other_errors(tmp_path, seed):
    """Flip bytes anywhere: the file reads, or there is one ReadError."""
    good = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, levels=2).read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        first = min(file.pages[0].dataoffsets)
    rng = np.random.default_rng(seed)
    path = tmp_path / "b.tiff"
    for _ in range(25):
        data = bytearray(good)
        for place in rng.integers(4, first, 2):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            with TileReader(path) as reader:
                reader.read(Box(0, 0, 128, 128), (64, 64))
        except ReadError as error:
            assert "b.tiff" in str(error)


# ---- what TIFF files say


def test_openslide_errors_name_file_and_place(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    message = r"a\.tiff: OpenSlide cannot read 64 x 64 pixels at"
    with OpenSlideReader(path) as reader, pytest.raises(ReadError, match=message):
        reader.read(Box(0, 0, 64, 64), (64, 64))
    jpeg2000 = write_slide(tmp_path / "b.tiff", PIXELS, tile=64, compression="jpeg2000")
    with pytest.raises(ReadError, match="Unsupported TIFF compression"):
        OpenSlideReader(jpeg2000)


@pytest.mark.parametrize("mpp", [0.25, 0.5, None, 0.01, 353.0])
def test_resolution_tags_count_when_they_are_plausible(tmp_path, mpp):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, mpp=mpp)
    for kind in (OpenSlideReader, TileReader):
        with kind(path) as reader:
            if mpp in (0.25, 0.5):
                assert reader.pixel_size == pytest.approx((mpp, mpp), rel=1e-6)
            else:
                assert reader.pixel_size is None
            assert reader.objective_power is None
            assert reader.bounds is None


def test_aperio_descriptions_are_read(tmp_path):
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path, PIXELS, tile=(64, 64), description=APERIO, metadata=None, photometric="rgb"
    )
    for kind in (OpenSlideReader, TileReader):
        with kind(path) as reader:
            assert reader.pixel_size == (0.2527, 0.2527)
            assert reader.objective_power == 40
    tifffile.imwrite(
        path, PIXELS, tile=(64, 64), description="Aperio Image\r\n|MPP = no", metadata=None,
        photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with TileReader(path) as reader:
        assert reader.pixel_size is None
        assert reader.objective_power is None


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.25, "µm", 0.25),
        (250, "nm", 0.25),
        (0.00025, "mm", 0.25),
        (0.25, "furlong", None),
        (0, "µm", None),
    ],
)
def test_ome_units(tmp_path, size, unit, expected):
    path = tmp_path / "a.ome.tif"
    said = {f"PhysicalSize{axis}": size for axis in "XY"}
    said |= {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(path, PIXELS, ome=True, photometric="rgb", metadata={"axes": "YXS", **said})
    with TileReader(path) as reader:
        assert reader.pixel_size == (None if expected is None else (expected, expected))


def ome(path, inner, before=""):
    """Write an OME-TIFF with an image description of our own."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'{before}<Image ID="Image:0">{inner}<Pixels ID="Pixels:0" DimensionOrder="XYCZT"'
        ' Type="uint8" SizeX="301" SizeY="207" SizeC="3" SizeZ="1" SizeT="1" Interleaved="true">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, PIXELS, description=xml, metadata=None, photometric="rgb")
    return path


def test_ome_objectives(tmp_path):
    lens = '<Objective ID="Objective:{}" NominalMagnification="{}"/>'
    one = f'<Instrument ID="I:0">{lens.format(0, 40)}</Instrument>'
    two = f'<Instrument ID="I:0">{lens.format(0, 40)}{lens.format(1, 20)}</Instrument>'
    two += '<Instrument ID="I:1"/>'
    for before, settings, power in (
        (one, '<ObjectiveSettings ID="Objective:0"/>', 40),
        (two, '<ObjectiveSettings ID="Objective:1"/>', 20),
        (two, '<ObjectiveSettings ID="Objective:9"/>', None),
        (two, "", None),
        ("", "", None),
    ):
        with TileReader(ome(tmp_path / "a.ome.tif", settings, before)) as reader:
            assert reader.objective_power == power
            assert reader.pixel_size is None


@pytest.mark.parametrize("axes", ["ZYXS", "TYXS", "TZYXS", "ZTYXS"])
def test_ome_planes(tmp_path, axes):
    lengths = {"Z": 3, "T": 2}
    shape = [lengths[axis] for axis in axes[:-3]]
    count = int(np.prod(shape))
    planes = np.stack([PIXELS // (k + 1) for k in range(count)]).reshape(*shape, *PIXELS.shape)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, planes, ome=True, photometric="rgb", tile=(64, 64), metadata={"axes": axes}
    )
    with TileReader(path) as reader:
        z_count, t_count = (lengths[axis] if axis in axes else 1 for axis in "ZT")
        assert reader.planes == (z_count, t_count)
        for z in range(z_count):
            for t in range(t_count):
                where = tuple({"Z": z, "T": t}[axis] for axis in axes[:-3])
                pixels, _ = reader.read(Box(60, 60, 20, 20), (20, 20), Plane(z, t))
                np.testing.assert_array_equal(pixels, planes[where][60:80, 60:80])


def test_ome_of_several_files_is_refused(tmp_path):
    path = write_slide(tmp_path / "a.ome.tif", PIXELS, ome=True)
    data = path.read_bytes()
    assert b'SizeZ="1"' in data
    path.write_bytes(data.replace(b'SizeZ="1"', b'SizeZ="2"'))
    with pytest.raises(ReadError, match=r"names 2 planes, the file has 1|directory cannot be read"):
        TileReader(path)


@pytest.mark.parametrize("tile", [(64, 64), None])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
@pytest.mark.parametrize("alpha", [False, True])
def test_planar_pixels_are_read(tmp_path, tile, compression, alpha):
    planes = PIXELS.transpose(2, 0, 1)
    if alpha:
        planes = np.concatenate([planes, np.full((1, 207, 301), 255, np.uint8)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, planes, photometric="rgb", planarconfig="separate", tile=tile, metadata=None,
        compression=compression, extrasamples=["unassalpha"] if alpha else None,
    )  # fmt: skip
    with open_reader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
        part, _ = reader.read(Box(50, 60, 20, 70), (20, 70))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(part, PIXELS[60:130, 50:70])
    assert mask is None


def test_planar_ome_tiff_with_levels_and_planes_is_read(tmp_path):
    path = tmp_path / "a.ome.tif"
    stack = np.stack([PIXELS, 255 - PIXELS]).transpose(0, 3, 1, 2)
    tifffile.imwrite(
        path, stack, ome=True, photometric="rgb", planarconfig="separate", tile=(64, 64),
        metadata={"axes": "ZSYX"},
    )  # fmt: skip
    with TileReader(path) as reader:
        assert reader.planes == (2, 1)
        for z, expected in enumerate((PIXELS, 255 - PIXELS)):
            pixels, _ = reader.read(Box(0, 0, 301, 207), (301, 207), Plane(z, 0))
            np.testing.assert_array_equal(pixels, expected)


def missing_plane(path, index):
    for tag in ("TileOffsets", "TileByteCounts"):
        set_tag(path, tag, index, 0)


def test_a_planar_tile_without_one_of_its_planes_is_background(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PIXELS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
        tile=(64, 64), metadata=None, compression="deflate",
    )  # fmt: skip
    missing_plane(path, 20 + 6)  # the green of the second tile of the second row
    with TileReader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    missing = np.zeros((207, 301), bool)
    missing[64:128, 64:128] = True
    np.testing.assert_array_equal(mask, ~missing)
    assert (pixels[missing] == 255).all()
    np.testing.assert_array_equal(pixels[~missing], PIXELS[~missing])


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_transparent_pixels_show_the_background(tmp_path, kind, ome):
    """As Pillow puts the same pixels on white; also where the colours are multiplied already."""
    alpha = np.tile(np.arange(256, dtype=np.uint8), (207, 2))[:, :301]
    straight = np.dstack([PIXELS, alpha])
    white = Image.new("RGBA", (301, 207), "white")
    white.alpha_composite(Image.fromarray(straight))
    stored = straight
    if kind == "assocalpha":
        stored = np.dstack([np.round(PIXELS * (alpha / 255)[..., None]).astype(np.uint8), alpha])
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(
        path, stored, photometric="rgb", extrasamples=[kind], tile=(64, 64), ome=ome,
        compression="deflate", metadata={"axes": "YXS"} if ome else None,
    )  # fmt: skip
    with open_reader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    assert np.abs(pixels.astype(int) - np.asarray(white.convert("RGB"))).max() <= 1
    np.testing.assert_array_equal(mask, alpha >= 128)


def test_missing_tiles_of_a_slide_with_alpha_are_background(tmp_path):
    path = tmp_path / "a.tif"
    opaque = np.dstack([PIXELS, np.full((207, 301), 255, np.uint8)])
    tifffile.imwrite(
        path, opaque, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64),
        metadata=None, compression="deflate",
    )  # fmt: skip
    missing_plane(path, 6)
    with TileReader(path) as reader:
        pixels, mask = reader.read(Box(0, 0, 301, 207), (301, 207))
    assert not mask[64:128, 64:128].any()
    assert (pixels[64:128, 64:128] == 255).all()
    assert mask.sum() == 301 * 207 - 64 * 64


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "jpegxr"])
def test_a_tile_that_grows_is_not_decoded(tmp_path, compression, monkeypatch):
    """A tile says itself how large it is; a small one may claim to be gigabytes."""
    huge = np.zeros((1000, 1000, 3), np.uint8)
    encode = {
        "jpeg": imagecodecs.jpeg8_encode,
        "jpeg2000": imagecodecs.jpeg2k_encode,
        "jpegxl": imagecodecs.jpegxl_encode,
        "jpegxr": imagecodecs.jpegxr_encode,
    }
    path = write_slide(tmp_path / "a.tiff", huge[:64, :64], tile=64, compression=compression)
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(encode[compression](huge))
        count = file.tell() - place
    set_tag(path, "TileOffsets", 0, place)
    set_tag(path, "TileByteCounts", 0, count)
    with TileReader(path) as reader:
        decoded = []
        for name in ("jpeg8_decode", "jpeg2k_decode", "jpegxl_decode", "jpegxr_decode"):
            monkeypatch.setattr(imagecodecs, name, lambda *args, **rest: decoded.append(args))
        with pytest.raises(ReadError, match="says that it has 1000 x 1000 pixels"):
            reader.read(Box(0, 0, 64, 64), (64, 64))
        assert not decoded


@pytest.mark.parametrize(
    ("unit", "resolution", "found"),
    [
        ("um", (1 / 0.373759, 1 / 0.373759), (0.373759, 0.373759)),
        ("micron", (2.0, 4.0), (0.5, 0.25)),
        ("\\u00B5m", (4.0, 4.0), (0.25, 0.25)),  # as ImageJ writes the micro sign
        ("nm", (0.004, 0.004), (0.25, 0.25)),
        ("mm", (4000.0, 4000.0), (0.25, 0.25)),
        ("pixel", (2.0, 2.0), None),
        (None, (2.0, 2.0), None),
    ],
)
def test_imagejs_pixel_size_has_the_unit_of_its_description(tmp_path, unit, resolution, found):
    """TIFF has no unit for micrometres: ImageJ writes one into its description."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "YXS"} | ({"unit": unit} if unit else {})
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=resolution, metadata=metadata)
    with TileReader(path) as reader:
        assert reader.pixel_size == (None if found is None else pytest.approx(found, rel=1e-5))


def test_imagejs_pixel_size_may_have_another_unit_along_y(tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "YXS", "unit": "um", "yunit": "nm"}
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(2.0, 0.002), metadata=metadata)
    with TileReader(path) as reader:
        assert reader.pixel_size == pytest.approx((0.5, 0.5), rel=1e-5)


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_pixels_of_a_tiff_are_not_turned(tmp_path, turn):
    """QuPath shows them as they are stored, whatever the tag Orientation says."""
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS).save(path, tiffinfo={274: turn})
    with TileReader(path) as reader:
        np.testing.assert_array_equal(reader.read(Box(0, 0, 301, 207), (301, 207))[0], PIXELS)


def test_aperio_ycbcr_jpeg2000_is_left_to_openslide(tmp_path):
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64, compression="jpeg2000")
    set_tag(path, "Compression", 0, 33003)
    with pytest.raises(ReadError, match="APERIO_JP2000_YCBC"):
        TileReader(path)


def test_vendor_layouts_are_left_to_openslide(tmp_path):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", software="Philips DP v1.0", metadata=None,
        description="<?xml version='1.0'?><DataObject></DataObject>",
    )  # fmt: skip
    with pytest.raises(ReadError, match="vendor format 'philips'") as caught:
        TileReader(path)
    assert "openslide" in caught.value.hint


def test_a_huge_strip_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="deflate", rowsperstrip=207)
    with TileReader(path) as reader:
        pixels, _ = reader.read(Box(20, 180, 100, 27), (100, 27))
        np.testing.assert_array_equal(pixels, PIXELS[180:, 20:120])
    monkeypatch.setattr("qupath_bridge.readers.tiff_layout.MAX_SEGMENT_BYTES", 301 * 207 * 3 - 1)
    with pytest.raises(ReadError, match="301 x 207 pixels") as caught:
        TileReader(path)
    assert "tiles" in caught.value.hint


def test_only_smaller_pages_of_the_same_picture_are_levels(tmp_path):
    path = tmp_path / "a.tiff"
    pages = [
        (marker_image(320, 256), {}),
        (marker_image(160, 128), {"subfiletype": 1}),
        (marker_image(80, 128), {"subfiletype": 1}),  # another shape: a label
        (marker_image(80, 64), {}),  # not marked as reduced
        (marker_image(160, 128), {"subfiletype": 1}),  # again
        (marker_image(40, 32), {"subfiletype": 1}),
    ]
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in pages:
            writer.write(pixels, tile=(32, 32), photometric="rgb", metadata=None, **options)
    with TileReader(path) as reader:
        assert [level.width for level in reader.levels] == [320, 160, 40]
        pixels, _ = reader.read(Box(0, 0, 320, 256), (40, 32))
        np.testing.assert_array_equal(pixels, marker_image(40, 32))


def test_the_tile_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("qupath_bridge.readers.tiles.CACHE_BYTES", 3 * 64 * 64 * 3)
    path = write_slide(tmp_path / "a.tiff", PIXELS, tile=64)
    with TileReader(path) as reader:
        for x in (0, 100, 0, 200, 130):
            pixels, _ = reader.read(Box(x, 30, 100, 100), (100, 100))
            np.testing.assert_array_equal(pixels, PIXELS[30:130, x : x + 100])
            assert reader._cache.nbytes <= 3 * 64 * 64 * 3
            kept = reader._cache._tiles
            assert reader._cache.nbytes == sum(tile.nbytes for tile in kept.values())
            assert set(kept) == set(reader._cache._unused)


# ---- what OpenSlide says


def test_openslide_properties():
    key = "openslide.{}".format
    bounds = {key("bounds-x"): "-4", key("bounds-y"): "7", key("bounds-width"): "100"}
    assert openslide_reader._bounds(bounds) is None
    assert openslide_reader._bounds({**bounds, key("bounds-height"): "80"}) == (-4, 7, 100, 80)
    assert openslide_reader._background({key("background-color"): "F0E1d2"}) == (240, 225, 210)
    assert openslide_reader._background({key("background-color"): "pink"}) == (255, 255, 255)
    assert openslide_reader._background({}) == (255, 255, 255)
    sizes = {key("mpp-x"): "28.9", key("mpp-y"): "28.8"}
    assert openslide_reader._pixel_size({**sizes, key("vendor"): "dicom"}) == (28.9, 28.8)
    assert openslide_reader._pixel_size({**sizes, key("vendor"): "generic-tiff"}) is None
    for wrong in ("", "0", "-1", "nan", "inf", "a lot"):
        assert openslide_reader._pixel_size({**sizes, key("mpp-x"): wrong}) is None


# ---- large boxes


def test_large_boxes_go_block_by_block(monkeypatch):
    pixels = marker_image(400, 300)
    mask = np.ones((300, 400), bool)
    mask[50:90, 60:200] = False
    reader = MemoryReader(pixels, mask=mask)
    boxes = [
        (Box(0, 0, 400, 300), (40, 30)),
        (Box(-7, -9, 391, 333), (57, 31)),
        (Box(210, 9, 90, 80), (30, 20)),
    ]
    whole = [reader.read(box, size) for box, size in boxes]
    largest = 0
    inner = MemoryReader._read_rectangle

    def watched(self, level, rectangle, plane):
        nonlocal largest
        largest = max(largest, rectangle.w * rectangle.h)
        return inner(self, level, rectangle, plane)

    monkeypatch.setattr(MemoryReader, "_read_rectangle", watched)
    for limit in (8000, 300):
        monkeypatch.setattr(levels, "BLOCK_BYTES", limit * 3)
        largest = 0
        for (box, size), (expected, valid) in zip(boxes, whole, strict=True):
            found, seen = reader.read(box, size)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(seen, valid)
            (found,), _ = reader.read_many(np.array([box]), size)
            np.testing.assert_array_equal(found, expected)
        assert largest <= limit * 1.5  # blocks share the pixels on their edges


def test_positions_hold_at_the_far_end_of_levels_cut_to_whole_pixels():
    """A slide of 46,000 px with a level of 4.0003: its last pixels are found in place."""
    level = np.zeros((50, 11499, 3), np.uint8)
    level[..., 0] = np.arange(11499) // 256
    level[..., 1] = np.arange(11499) % 256
    base = np.broadcast_to(np.uint8(0), (1, 1, 200, 46_000, 3))
    reader = MemoryReader(base, levels=[level])
    for x in (0, 20_000, 45_600):
        pixels, _ = reader.read(Box(x, 0, 400, 40), (100, 10))
        column = pixels[0, :, 0].astype(int) * 256 + pixels[0, :, 1]
        centre = (x + 2 + 4 * np.arange(100)) * 11499 / 46_000
        assert np.abs(column + 0.5 - centre).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("full", "reduced", "factor"),
    [
        (4443, 2221, 2),
        (4443, 2222, 2),
        (46_000, 2875, 16),
        (46_000, 11_499, 46_000 / 11_499),
        (300, 37, 8),
        (1000, 999, 1000 / 999),
        (7, 7, 1),
        (1, 1, 1),
        (1000, 300, 1000 / 300),
    ],
)
def test_factors_of_levels_cut_to_whole_pixels_are_whole(full, reduced, factor):
    assert level_sizes.axis_factor(full, reduced) == factor


def test_the_part_that_a_level_was_cut_by_is_no_background():
    """5 pixels halved to 2: the last half pixel of the level shows its last pixel."""
    base = np.full((203, 205, 3), 100, np.uint8)
    for level in (base[:101, :102], base[:102, :103]):
        reader = MemoryReader(base, levels=[level], mask=np.ones((203, 205), bool))
        for box, size in (
            (Box(0, 0, 205, 203), (102, 101)),
            (Box(0, 0, 205, 203), (41, 29)),
            (Box(204, 202, 1, 1), (1, 1)),
            (Box(203, 201, 2, 2), (1, 1)),
            (Box(195, 193, 10, 10), (5, 5)),
        ):
            pixels, mask = reader.read(box, size)
            assert (pixels == 100).all()
            assert mask is None
        pixels, mask = reader.read(Box(197, 195, 16, 16), (8, 8))
        assert mask[:4, :4].all()
        assert not mask[4:].any()
        assert not mask[:, 4:].any()
        assert (pixels[:4, :4] == 100).all()
        assert (pixels[4:] == 255).all()


def test_marker_images_have_a_limit():
    with pytest.raises(ValueError, match="a marker image has"):
        marker_image(5000, 5000)
    pixels = marker_image(700, 500).astype(int)
    assert len(np.unique(pixels @ [65536, 256, 1])) == 350_000
