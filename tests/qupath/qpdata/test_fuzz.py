"""Damaged and hostile data files: read whole or refused with one error, in bounded memory."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ObjectType, RoiKind
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.testing import fuzz
from qupath_bridge.testing.data_files import cell_file, every_kind, tissue_microarray
from qupath_bridge.testing.parts import (
    I32,
    STANDARD,
    array,
    array_list,
    hash_map,
    hierarchy,
    item,
    make_file,
    null,
    numbers,
    numeric_list,
    ref,
    text,
    vertices,
    wkb,
    written,
)

SAMPLES = sorted(
    (Path(__file__).parents[2] / "data" / "qupath-samples").glob("*/project/data/*/data.qpdata")
)
SMALL = [path for path in SAMPLES if path.stat().st_size < 10_000]
LARGE = [path for path in SAMPLES if path not in SMALL]
FUZZ_SECONDS = 20.0


def name(path):
    return f"{path.parts[-5]}-{path.parent.name}"


# --- damage ---------------------------------------------------------------------------------


def check_cuts(path, places, *, detections):
    data = path.read_bytes()
    for end in places:
        with pytest.raises(ProjectError) as caught:
            decode_image_data(data[:end], path=path, detections=detections)
        assert caught.value.path == path
        assert 0 <= caught.value.offset <= end


@pytest.mark.slow
@pytest.mark.parametrize("path", SMALL, ids=name)
def test_truncated_small_files_are_refused_at_every_byte(path):
    size = path.stat().st_size
    whole = size - len(b"t\0\x03EOF")  # all but the end mark is there
    check_cuts(path, [end for end in range(size) if end != whole], detections=False)
    image = decode_image_data(path.read_bytes()[:whole])
    assert image.objects == decode_image_data(path.read_bytes()).objects
    assert "without its end mark" in image.problems[0]


@pytest.mark.parametrize("path", LARGE, ids=name)
def test_truncated_large_files_are_refused_at_500_places(path):
    size = path.stat().st_size
    check_cuts(path, range(0, size - 10, size // 500), detections=path == LARGE[-1])


def test_absurd_lengths_at_any_four_bytes_are_refused():
    data = encode_image_data(tissue_microarray())
    for at in range(0, len(data) - 4, 3):
        for number in (0x7FFFFFFF, -1):
            bad = data[:at] + I32(number) + data[at + 4 :]
            try:
                decode_image_data(bad, detections=True)
            except ProjectError as error:
                assert 0 <= error.offset <= len(data)


FILES = [*fuzz.seeds(), *(path.read_bytes() for path in SMALL), LARGE[0].read_bytes()]
STARTED = []


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), number=st.sampled_from(range(len(FILES))))
def test_damaged_files_are_read_or_refused(seed, number):
    """For a limited time; ``python -m qupath_bridge.testing.fuzz`` goes on for longer."""
    STARTED.append(time.monotonic())
    if STARTED[-1] - STARTED[0] < FUZZ_SECONDS:
        fuzz.check_damaged(fuzz.damage(random.Random(seed), FILES[number]))


def test_fuzz_command(capsys, tmp_path, monkeypatch):
    kept = tmp_path / "data.qpdata"
    kept.write_bytes(SMALL[0].read_bytes())
    out = tmp_path / "case.qpdata"
    arguments = [str(kept), str(tmp_path), "--seconds", "0.5", "--seed", "1", "--out", str(out)]
    assert fuzz.main(arguments) == 0
    assert "0 failures" in capsys.readouterr().out
    assert not out.exists()

    def fail(*args, **options):
        raise RecursionError("too deep")

    monkeypatch.setattr(fuzz, "decode_image_data", fail)
    assert fuzz.main(arguments) == 1
    assert "seed 1, case 0" in capsys.readouterr().out
    assert out.exists()


def test_fuzz_check_detects_errors(monkeypatch):
    data = encode_image_data(every_kind())
    assert fuzz.check_damaged(data) == "read"
    assert fuzz.check_damaged(data[:-100]) == "refused"
    real = decode_image_data

    def differs(data, *, detections, fast):
        return real(data, detections=detections, fast=fast, entry_id="x" if fast else "y")

    old = SMALL[0].read_bytes()  # its objects have derived ids, which the entry's id changes
    monkeypatch.setattr(fuzz, "decode_image_data", differs)
    with pytest.raises(AssertionError, match="differ"):
        fuzz.check_damaged(old)

    def placeless(*args, **options):
        raise ProjectError("somewhere")

    monkeypatch.setattr(fuzz, "decode_image_data", placeless)
    with pytest.raises(AssertionError, match="no place"):
        fuzz.check_damaged(old)
    monkeypatch.setattr(fuzz, "decode_image_data", real)
    monkeypatch.setattr(fuzz, "SLOW", 0.0)
    with pytest.raises(AssertionError, match="more than"):
        fuzz.check_damaged(old)


# --- memory ---------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath.qpdata.reading import decode_image_data, read_image_data

def peak():
    try:
        import resource
    except ImportError:  # Windows
        import tracemalloc
        if not tracemalloc.is_tracing():
            tracemalloc.start()
        return tracemalloc.get_traced_memory()[1]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

small, path, detections = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
read_image_data(small, detections=True)  # all is imported now
before = peak()
try:
    image = read_image_data(path, detections=detections)
    print("read", len(image.objects), peak() - before)
except ProjectError as error:
    print("refused", error.offset, peak() - before)
"""


def measure(tmp_path, data, *, detections=False):
    """Return the outcome, and the memory that reading took, in a process of its own."""
    small, path = tmp_path / "small.qpdata", tmp_path / "data.qpdata"
    small.write_bytes(encode_image_data(every_kind()))
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, path, str(detections)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    outcome, count, memory = done.stdout.split()
    return outcome, int(count), int(memory)


MIB = 1 << 20


def test_memory_of_reading_annotations(tmp_path):
    data = cell_file(40_000)
    outcome, count, memory = measure(tmp_path, data)
    assert (outcome, count) == ("read", 10)
    assert memory <= 1.5 * len(data) + 20 * MIB


def test_memory_of_whole_hierarchies(tmp_path):
    data = cell_file(20_000)
    outcome, count, memory = measure(tmp_path, data, detections=True)
    assert (outcome, count) == ("read", 20_013)
    assert memory <= 10 * len(data) + 50 * MIB


def test_memory_of_many_annotations(tmp_path):
    """Shapes and ids are the most of it."""
    polygons = vertices([(i % 97 + i / 7, i % 89) for i in range(60)])
    data = make_file(hierarchy(*[item(roi=polygons) for _ in range(20_000)]), *STANDARD)
    outcome, count, memory = measure(tmp_path, data)
    assert (outcome, count) == ("read", 20_000)
    assert memory <= 4 * len(data) + 50 * MIB


def test_memory_of_one_large_shape(tmp_path):
    count = 1_000_000
    column = numbers(schema.FLOATS, "f", [float(i % 1000) for i in range(count)])
    columns = (column, numbers(schema.FLOATS, "f", [float(i % 777) for i in range(count)]))

    def polygon(w):
        w.begin(schema.ROI_CLASSES[RoiKind.POLYGON])
        w.raw(bytes(12))
        w.null()
        w.null()
        for each in columns:
            each(w)

    data = make_file(hierarchy(item(roi=polygon)), *STANDARD)
    outcome, count, memory = measure(tmp_path, data)
    assert (outcome, count) == ("read", 1)
    assert memory <= 12 * len(data) + 50 * MIB


def repeated(part, count):
    """A part, written many times over; it must be no reference to itself."""

    def write(w):
        begin = len(w._out)
        part(w)
        once = bytes(w._out[begin:])
        w.raw(once * (count - 1))

    return write


def bomb_of_texts():
    """A property that is a list of texts of no length: three bytes each."""
    empty = repeated(lambda w: w.raw(b"t\0\0"), 5_000_000)
    return make_file(hierarchy(), hash_map(text("k"), array_list(empty)), text("EOF"))


def bomb_of_nulls():
    nulls = repeated(null, 10_000_000)
    return make_file(hierarchy(), hash_map(text("k"), array_list(nulls)), text("EOF"))


def bomb_of_classes():
    desc = b"r\0\1A" + bytes(8) + b"\2\0\0xp"
    return make_file(repeated(lambda w: w.raw(b"v" + desc), 500_000), hierarchy(), *STANDARD)


def bomb_of_fields():
    fields = b"B\0\1x" * 1000
    desc = b"r\0\1A" + bytes(8) + b"\2" + (1000).to_bytes(2, "big") + fields + b"xp"
    return make_file(repeated(lambda w: w.raw(b"v" + desc), 2500), hierarchy(), *STANDARD)


def bomb_of_nesting():
    """Lists in lists in lists."""
    spec = schema.ARRAY_LIST

    def nested(w):
        w.begin(spec)
        w.raw(I32(1))
        reference = bytes(w._descs[spec.name])
        w.raw(b"w\4" + I32(1) + (b"s" + reference + I32(1) + b"w\4" + I32(1)) * 500_000)

    return make_file(hierarchy(), nested, *STANDARD)


def bomb_of_names():
    """Many lists of values that refer to one long list of names, and to one array of values."""
    names = array_list(*[text(f"name {i}") for i in range(5000)], key="names")
    first = item(measured=numeric_list(names, [0.0] * 5000))

    def shared(w):
        numeric_list(ref("names"), null)(w)

    return make_file(hierarchy(first, item(measured=shared)), *STANDARD)


def bomb_of_shared_lists():
    """A hundred thousand objects with the one list of 5,000 measurements: that costs nothing."""
    names = array_list(*[text(f"name {i}") for i in range(5000)])
    first = item(measured=numeric_list(names, [0.0] * 5000, key="list"))
    annotation = item(measured=ref("list"), roi=null)
    number = I32(30_001)
    top = written(
        schema.OBJECT_CLASSES[ObjectType.ROOT], null, null, null, number, first, annotation,
        repeated(item(measured=ref("list"), roi=null, locked=None), 29_999),
    )  # fmt: skip
    return make_file(hierarchy(top=top), *STANDARD)


def bomb_of_metadata():
    keys = [text(f"key {i}") for i in range(20_000)]
    meta = written(schema.METADATA, null, array(*keys), array(*keys))
    return make_file(hierarchy(item(meta=meta)), *STANDARD)


def bomb_of_wkb():
    nested = (b"\0" + I32(7) + I32(1)) * 1_000_000
    return make_file(hierarchy(item(roi=wkb(nested))), *STANDARD)


def bomb_of_steps():
    """A workflow that names the one step over and over again."""
    step = schema.ClassSpec("qupath.lib.plugins.workflow.SimplePluginWorkflowStep", 1, 12)

    def steps(w):
        w.begin(schema.WORKFLOW)
        w.block(I32(1) + I32(1_000_001))
        written(step, text("step"), key="step")(w)
        repeated(ref("step"), 1_000_000)(w)
        w.end()

    return make_file(steps, hierarchy(), *STANDARD)


def bomb_of_detections():
    """Detections that have nothing but a tag or two."""
    tile = item(ObjectType.TILE, roi=null, locked=None)
    top = written(
        schema.OBJECT_CLASSES[ObjectType.ROOT], null, null, null, I32(300_001), tile,
        repeated(item(ObjectType.TILE, roi=null, locked=None), 300_000),
    )  # fmt: skip
    return make_file(hierarchy(top=top), *STANDARD)


def cut_off_cells():
    data = cell_file(20_000)
    return data[: len(data) * 9 // 10]


BOMBS = {
    bomb_of_texts: "read",
    bomb_of_nulls: "read",
    bomb_of_classes: "refused",
    bomb_of_fields: "refused",
    bomb_of_nesting: "refused",
    bomb_of_names: "refused",
    bomb_of_shared_lists: "read",
    bomb_of_metadata: "refused",
    bomb_of_wkb: "refused",
    bomb_of_steps: "read",
    bomb_of_detections: "read",
    cut_off_cells: "refused",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_memory_of_hostile_files(tmp_path, bomb):
    data = bomb()
    outcome, _, memory = measure(tmp_path, data)
    assert outcome == BOMBS[bomb]
    assert memory <= 4 * len(data) + 50 * MIB


@pytest.mark.slow
def test_memory_of_whole_hierarchies_of_tiny_objects(tmp_path):
    """30 bytes each: what an object costs in Python shows most."""
    outcome, count, memory = measure(tmp_path, bomb_of_detections(), detections=True)
    assert (outcome, count) == ("read", 300_001)
    assert memory <= 25 * len(bomb_of_detections()) + 50 * MIB
