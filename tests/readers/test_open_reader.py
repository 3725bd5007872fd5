"""The choice of the reader that opens a file, and what is said where none does."""

from importlib.metadata import EntryPoint
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError, ReadError, UsageError
from qupath_bridge.readers import is_slide, open_reader
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
