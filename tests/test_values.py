"""Values: immutable, picklable, comparable, with a repr of one short line."""

import copy
import json
import pickle
from array import array
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge import model
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import MAX_LINE, FrozenDict, freeze, one_line, shorten, thaw
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import (
    Box,
    ClassInfo,
    GridSpec,
    ImageData,
    LabelRule,
    ObjectType,
    PathObject,
    PixelSize,
    PlacementSpec,
    Plane,
    ProjectInfo,
    Reason,
    Roi,
    RoiKind,
    SampleSpec,
    ServerBuilder,
    Slide,
    SourceRef,
    TmaGrid,
)
from qupath_bridge.patches.grid import Grid, resolve_grid
from qupath_bridge.patches.planning import plan_patches
from qupath_bridge.patches.regions import PlanReport, Repair
from qupath_bridge.patches.table import PatchTable, Ragged
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.project_writer import NewEntry
from qupath_bridge.qupath.qpdata.measurements import Measurements, Names
from qupath_bridge.sources.memory import memory_project, memory_slide
from qupath_bridge.testing.projects import Image, Region, cropped, rotated
from qupath_bridge.testing.strategies import images

LONG = "a long name é 中 \n" * 40
CHAIN = {
    "builderType": "rotated",
    "rotation": "ROTATE_90",
    "builder": {"builderType": "uri", "uri": f"file:/{'x' * 400}.svs", "args": ["--series", "0"]},
}
ROI = Roi(RoiKind.POLYGON, shapely.Point(50, 50).buffer(40.123, 500), Plane(2, 1), channel=3)
TUMOR = PathObject(
    "0e8a4c4e-5a3b-4d7e-9a3c-1f2e3d4c5b6a",
    ObjectType.ANNOTATION,
    LONG,
    LONG,
    ROI,
    measurements={f"{LONG} {i}": float(i) for i in range(50)},
    metadata={LONG: LONG},
)
INFO = ProjectInfo(
    Path("/" + "p" * 400), LONG, "0.7.0", (ClassInfo(LONG),) * 50, metadata={"a": LONG}
)
MAP = coordinate_map(ServerBuilder(CHAIN), file_size=(300, 200), bounds=Box(1, 2, 30, 40))
PLANNED = plan_patches(
    [replace(TUMOR, roi=replace(ROI, plane=Plane()))],
    Grid(10, 10, 10, 10, 100, 100, edge="pad"),
    LabelRule(background=LONG, priority=(LONG,)),
)
SLIDE = Slide(
    "7", LONG, INFO, ServerBuilder(CHAIN), path=Path("/" + "s" * 400), width=2000, height=1000,
    pixel_size=PixelSize(0.25, 0.26, "project"), metadata={LONG: LONG}, tags=(LONG,) * 20,
    levels=((1.0, 2000, 1000), (4.0, 500, 250)), tried=(LONG,) * 9,
)  # fmt: skip

VALUES = [
    ROI,
    TUMOR,
    TmaGrid(30, 20, tuple(range(600))),
    ImageData(
        (TUMOR,) * 3,
        {ObjectType.TILE: 5},
        stains={"name": LONG, "values": [1.0, [2.0, {"a": [3]}]]},
        workflow=({"script": LONG},),
        properties={f"{i}": [LONG] for i in range(40)},
        digest=f"xxh3_128:{'0' * 32}",
        problems=(LONG,) * 9,
    ),
    ClassInfo("Tumor", -1),
    PixelSize(0.25, 0.26, "user"),
    ServerBuilder(CHAIN),
    SourceRef("/" + "p" * 400, "embedded", "/q", {LONG: LONG}, (LONG,) * 9),
    INFO,
    SLIDE,
    GridSpec(planes=tuple(Plane(z) for z in range(100))),
    PlacementSpec("objects", around=(f"cells:{LONG}",) * 9),
    SampleSpec(max_per_label=1 << 30, max_per_slide=1 << 30, seed=(1 << 63) - 1),
    LabelRule(rename={LONG: LONG}, priority=(LONG,) * 9),
    MAP,
    resolve_grid(
        GridSpec(size=256, mpp=0.5, stride=100, edge="pad", origin=(-123456, 654321)),
        image_size=(123456, 123456),
        pixel_size=PixelSize(0.2526999999, 0.25270001, "slide"),
    ),
    PLANNED,
    PLANNED.table,
    PLANNED.table.shares,
    PLANNED.report,
    PlanReport(3, {LONG: 5}, (Repair("a", 1.0, 2.0),) * 9, (LONG,) * 9),
    Tile("id", Box(0, 0, 1, 1), name=LONG, measurements=TUMOR.measurements),
    Measurements(Names(tuple(f"{LONG} {i}" for i in range(30))), array("d", range(30))),
    NewEntry(LONG, CHAIN, metadata={LONG: LONG}),
    Image(
        "a.svs", [Region("Tumor", ROI.geometry)] * 9, wrappers=(rotated(90), cropped(0, 0, 9, 9))
    ),
    memory_project([memory_slide(f"{i}", LONG) for i in range(300)], name=LONG),
]
NAMES = [type(value).__name__ for value in VALUES]


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_repr_is_one_short_line(value):
    text = repr(value)
    assert len(text) <= MAX_LINE
    assert "\n" not in text
    assert text.startswith((type(value).__name__ + "(", "{"))


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_value_can_be_pickled_and_compared(value):
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        other = pickle.loads(pickle.dumps(value, protocol))
        assert other == value
        assert type(other) is type(value)
        assert repr(other) == repr(value)
    assert copy.copy(value) == value
    assert value != object()


HASHED = (Roi, PathObject, TmaGrid, ImageData, ServerBuilder, SourceRef, ProjectInfo, Slide,
          GridSpec, LabelRule, Grid, type(MAP), PlanReport)  # fmt: skip


@pytest.mark.parametrize(
    "value", [v for v in VALUES if isinstance(v, HASHED)], ids=lambda v: type(v).__name__
)
def test_equal_values_have_one_hash(value):
    assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


def mappings(value):
    """Yield every mapping and array in a value, however deep."""
    if isinstance(value, dict | Measurements | np.ndarray):
        yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from mappings(item)
    if isinstance(value, list | tuple):
        for item in value:
            yield from mappings(item)
    if is_dataclass(value):
        for field in fields(value):
            yield from mappings(getattr(value, field.name))


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_value_cannot_be_changed(value):
    for other in (value, pickle.loads(pickle.dumps(value))):
        if is_dataclass(other):
            name = fields(other)[0].name
            with pytest.raises(AttributeError):
                setattr(other, name, None)
        if isinstance(other, Image | NewEntry):  # what is written, as it was given
            continue
        for inner in mappings(other):
            with pytest.raises((TypeError, ValueError)):
                inner[0 if isinstance(inner, np.ndarray) else "key"] = 0
            assert not isinstance(inner, list)


def test_mappings_that_are_given_stay_the_callers():
    given = {"a": "b"}
    slide = replace(SLIDE, metadata=given)
    given["a"] = "c"
    assert slide.metadata == {"a": "b"}
    chain = {"builderType": "uri", "args": [["x"]]}
    builder = ServerBuilder(chain)
    chain["args"][0].append("y")
    assert builder.json["args"] == (("x",),)
    codes = np.arange(3, dtype=np.int32)
    lists = Ragged(np.array([0, 3]), codes)
    codes[0] = 1  # the caller may change it afterwards
    with pytest.raises(ValueError, match="read-only"):
        lists.codes[0] = 1


def test_every_value_type_of_the_model_is_looked_at():
    kinds = {name for name in model.__all__ if is_dataclass(getattr(model, name))} - {
        type(value).__name__ for value in VALUES
    }
    assert kinds == set()


# --- tables --------------------------------------------------------------------------------------


def test_tables_are_compared_by_content():
    table = PLANNED.table
    assert len(table) > 1
    again = plan_patches(
        [replace(TUMOR, roi=replace(ROI, plane=Plane()))],
        Grid(10, 10, 10, 10, 100, 100, edge="pad"),
        LabelRule(background=LONG, priority=(LONG,)),
    )
    assert again == PLANNED
    assert again.table is not table
    assert np.isnan(table.tissue_share).all()  # NaN is not a difference
    assert table.take(slice(0, 1)) != table
    assert table.take(np.arange(len(table))) == table
    for field in fields(PatchTable):
        column = getattr(table, field.name)
        if isinstance(column, np.ndarray):
            other = column.copy()
            other.flat[-1] = 7
            assert replace(table, **{field.name: other}) != table, field.name
    assert replace(table, label_names=("x",)) != table
    assert replace(table, labels=replace(table.labels, offsets=table.labels.offsets + 1)) != table
    with pytest.raises(TypeError):
        hash(table)


def test_dropped_has_every_reason_and_stays():
    assert set(PLANNED.dropped) == set(Reason)
    with pytest.raises(TypeError):
        PLANNED.dropped[Reason.EDGE] = 5


# --- measurements --------------------------------------------------------------------------------

NUMBERS = st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=5)


@given(NUMBERS, NUMBERS)
def test_measurements_equal_a_dict(one, other):
    made = Measurements(Names(tuple(one)), array("d", one.values()))
    assert made == one
    assert one == made
    assert (made == other) == (one == other)
    assert (other != made) == (one != other)
    assert pickle.loads(pickle.dumps(made)) == made


def test_measurements_that_are_nan_are_equal():
    names, nan = Names(("a", "b")), float("nan")
    one, other = (Measurements(names, array("d", [nan, 1.0])) for _ in range(2))
    assert one == other
    assert one == {"a": nan, "b": 1.0}
    assert one == Measurements(Names(("b", "a")), array("f", [1.0, nan]))
    assert one != {"a": nan, "b": nan}
    assert one != {"a": 1.0, "b": 1.0}
    assert one != {"a": nan}
    assert one != {"a": nan, "c": 1.0}
    assert one != [nan, 1.0]


def test_pickled_measurements_share_their_names():
    names = Names(("a", "b"))
    both = [Measurements(names, array("f", [1, 2])), Measurements(names, array("d", [3, 4]))]
    size = len(pickle.dumps(both))
    assert both[0]["a"] == 1  # makes the index
    assert len(pickle.dumps(both)) == size
    one, other = pickle.loads(pickle.dumps(both))
    assert one.shared_names is other.shared_names
    assert [one, other] == both


@given(images())
def test_image_data_of_any_content_can_be_pickled(image):
    read = pickle.loads(pickle.dumps(image))
    assert repr(read) == repr(image)
    assert replace(read, objects=()) == replace(image, objects=())
    for one, other in zip(read.objects, image.objects, strict=True):
        assert hash(one) == hash(other)
        assert replace(one, measurements={}) == replace(other, measurements={})


# --- sources -------------------------------------------------------------------------------------


def test_source_reference_as_json():
    ref = SourceRef("/a/project.qpproj", "paquo", "/q", {"Z:": "/z"}, ("/s",), "/r", True)
    values = json.loads(json.dumps(ref.as_json()))
    assert values == {
        "location": "/a/project.qpproj", "engine": "paquo", "qupath": "/q",
        "slide_map": {"Z:": "/z"}, "search": ["/s"], "annotations": "/r",
        "skip_bad_features": True,
    }  # fmt: skip
    assert SourceRef.from_json(values) == ref
    assert SourceRef.from_json({"location": "a", "engine": "b"}) == SourceRef("a", "b")
    for broken in ({"location": "a"}, {**values, "more": 1}):
        with pytest.raises(UsageError, match="source of the slides cannot be read"):
            SourceRef.from_json(broken)


def test_source_of_a_project_is_not_compared_with_slides():
    one, other = (memory_project([memory_slide("1", "a")]) for _ in range(2))
    assert one.ref != other.ref
    assert one.slides == other.slides
    assert one.info == other.info
    assert one != other


def test_project_gives_its_source_to_its_slides():
    one = memory_project([memory_slide("1", "a")])
    ref = SourceRef("elsewhere", "own")
    moved = replace(one, ref=ref)
    assert moved.info.source == ref
    assert moved.slides[0].project is moved.info
    assert moved.engine == moved.engine_record["name"] == "own"
    assert one.slides[0].project.source == one.ref


# --- building blocks -----------------------------------------------------------------------------


def test_frozen_json_thaws_to_the_same():
    frozen = freeze(CHAIN)
    assert type(frozen["builder"]) is FrozenDict
    assert frozen["builder"]["args"] == ("--series", "0")
    assert thaw(frozen) == CHAIN
    assert hash(frozen) == hash(freeze(thaw(frozen)))
    thaw(frozen)["builder"]["args"].append("x")
    assert frozen["builder"]["args"] == ("--series", "0")


@given(st.text(), st.text())
def test_one_line_is_never_longer(fact, value):
    text = one_line("Kind", fact * 50, value=value * 50)
    assert len(text) <= MAX_LINE
    assert len(text.splitlines()) == 1
    assert len(shorten(fact * 100)) <= MAX_LINE
