"""Ids, names and digests."""

import hashlib
import re
import unicodedata
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.config import LAYOUT_FIELDS, ExportConfig, layout_problem
from qupath_bridge.model import ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.patches import ids

SQUARE = [(0, 0), (9, 0), (9, 9), (0, 9)]


def annotation(name="a", ring=SQUARE, class_path="Tumor", plane=(0, 0)):
    roi = Roi(RoiKind.POLYGON, shapely.Polygon(ring), Plane(*plane))
    return PathObject(name, ObjectType.ANNOTATION, class_path, roi=roi)


# --- tile ids ---


def test_tile_uuid_follows_its_definition():
    """High 64 bits from SHA-256 of the namespace, low 64 from xxh3_64 of the box, then the bits."""
    high = hashlib.sha256(b"qupath-bridge/patches/1").digest()[:8]
    low = xxhash.xxh3_64_digest(b"7|1024|-256|512|512|3|1")
    raw = bytearray(high + low)
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    tile = ids.tile_uuid("7", 1024, -256, 512, 512, 3, 1)
    assert tile == str(uuid.UUID(bytes=bytes(raw)))
    assert uuid.UUID(tile).version == 8
    assert uuid.UUID(tile).variant == uuid.RFC_4122
    assert uuid.UUID(tile).int >> 64 == ids.TILE_UUID_HIGH


def test_tile_uuid_never_changes():
    assert ids.tile_uuid("1", 0, 0, 256, 256) == "9e0725bf-e8af-8f43-b582-f1c259b1e7f4"
    assert ids.TILE_UUID_HIGH == 0x9E0725BFE8AF8F43


def test_tile_uuid_depends_on_every_part_of_a_box():
    boxes = [("1", 0, 0, 9, 9, 0, 0)]
    boxes += [
        ("1", *(9 if k == j else v for j, v in enumerate((0, 0, 8, 8, 0, 0)))) for k in range(6)
    ]
    boxes += [("2", 0, 0, 9, 9, 0, 0), ("1", 0, 0, 8, 8, 0, 0)]
    assert len({ids.tile_uuid(*box) for box in boxes}) == len(set(boxes)) == len(boxes)


def test_tile_uuids_equal_tile_uuid():
    count = 100_000
    boxes = np.column_stack(
        [np.arange(count), np.arange(count) % 777, np.full((count, 2), 256)]
    ).astype(np.int64)
    z, t = np.arange(count) % 3, np.zeros(count, np.int32)
    many = ids.tile_uuids("5", boxes, z, t)
    assert many[7] == ids.tile_uuid("5", 7, 7, 256, 256, 1, 0)
    assert len(set(many)) == count


# --- names of files and folders ---


def allowed(name):
    return all(c in ".-_" or unicodedata.category(c)[0] in "LMN" for c in name)


@given(st.text(max_size=200))
def test_slug_of_any_text_is_a_safe_name(text):
    name = ids.slug(text)
    assert 0 < len(name) <= 40
    assert len(name.encode()) <= 64
    assert allowed(name)
    assert unicodedata.is_normalized("NFC", name)
    assert not name.startswith(".")
    assert not name.endswith(".")
    stem = name.split(".")[0].upper()
    assert not re.fullmatch(r"CON|PRN|AUX|NUL|(COM|LPT)[0-9¹²³]", stem)
    assert ids.slug(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tumor", "Tumor"),
        ("Tumor: Positive", "Tumor-Positive"),
        ("a/b\\c:d*e?f", "a-b-c-d-e-f"),
        ("../../etc/passwd", "etc-passwd"),
        ("  spaces  ", "spaces"),
        ("", "_"),
        ("...", "_"),
        ("日本", "日本"),
        ("Größe 1/2", "Größe-1-2"),
        ("Gro\u0308ße", "Größe"),
        ("हिन्दी", "हिन्दी"),
        ("π≈3", "π-3"),
        ("日" * 40, "日" * 21),
        ("😀", "_"),
        ("nul", "_nul"),
        ("com¹", "_com¹"),
        ("COM1.svs", "_COM1.svs"),
        ("console", "console"),
        ("x" * 39 + ".y", "x" * 39),
        ("-r", "r"),
    ],
)
def test_slugs(text, name):
    assert ids.slug(text) == name


SIMILAR = [
    "A",
    "a",
    "A b",
    "A-b",
    "A.b",
    "_",
    "日",
    "本",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    "ﬁ",
    "fi",
]
LABELS = st.lists(st.text(max_size=6) | st.sampled_from(SIMILAR))


@given(LABELS)
def test_label_folders_are_all_different(labels):
    folders = ids.label_folders(labels)
    assert set(folders) == set(labels)
    names = list(folders.values())
    # As a file system sees them that ignores case, composed or decomposed.
    for form in ("NFC", "NFD", "NFKC"):
        for same_case in (str.lower, str.upper, str.casefold):
            seen = [unicodedata.normalize(form, same_case(name)) for name in names]
            assert len(set(seen)) == len(names)
    assert "_" not in names
    assert all(map(allowed, names))
    assert folders == ids.label_folders(labels[::-1])


def test_label_folders_keep_the_plain_slug_if_it_is_unique():
    folders = ids.label_folders(["Tumor", "tumor", "Stroma"])
    assert folders["Stroma"] == "Stroma"
    digest = xxhash.xxh3_64_hexdigest(b"Tumor")
    assert folders["Tumor"] == f"Tumor-{digest}"
    # A label that is spelled like the folder of another one.
    assert len(set(ids.label_folders(["Tumor", "tumor", f"Tumor-{digest}"]).values())) == 3


def test_slide_and_patch_ids():
    assert ids.slide_id("12", "CMU-1 (1).svs") == "12_CMU-1-1-.svs"
    assert ids.slide_id("1", "x.svs") != ids.slide_id("2", "x.svs")
    assert ids.patch_id("s", 5, 6) == "s_x5_y6"
    assert ids.patch_id("s", -5, 6, 0, 0) == "s_x-5_y6"
    assert ids.patch_id("s", 5, 6, z=1) == "s_x5_y6_z1_t0"
    assert ids.patch_id("s", 5, 6, t=2) == "s_x5_y6_z0_t2"
    assert len(ids.patch_id(ids.slide_id("1" * 99, "x" * 99), -123456, -123456, 99, 99)) < 128


def test_slides_of_several_projects_have_the_project_in_their_id():
    assert ids.slide_id("1", "x.svs", "My study") == "My-study_1_x.svs"
    longest = ids.slide_id("日" * 99, "é" * 99, "x" * 99)
    assert len(f"{ids.patch_id(longest, -(10**9), -(10**9), 99, 99)}.ome.tif".encode()) <= 255


SLIDE_IDS = st.tuples(st.text(max_size=9), st.text(max_size=9)).map(lambda t: ids.slide_id(*t))
NUMBERS = st.integers(-(10**9), 10**9)


@given(SLIDE_IDS, NUMBERS, NUMBERS, st.integers(0, 9), st.integers(0, 9))
def test_the_slide_of_a_patch_id(slide, x, y, z, t):
    name = ids.patch_id(slide, x, y, z, t)
    for ending in ("", ".png", ".ome.tif"):
        assert ids.slide_of_patch(f"{name}{ending}") == slide
    assert ids.slide_of_patch(f"{name}-copy.png") is None
    assert ids.slide_of_patch(f"{name}2x.png") is None


def test_names_of_patches_by_layout():
    values = {
        "slide_id": "7_a.svs",
        "entry_id": "7",
        "project": "Größe & so",
        "label_folder": "Tumor",
        "patch_id": "7_a.svs_x0_y0",
    }
    default = ExportConfig().layout
    assert ids.patch_name(default, **values) == "patches/7_a.svs/Tumor/7_a.svs_x0_y0"
    every = "patches/{project}/{entry_id}/{slide_id}-{label}/{patch_id}"
    assert layout_problem(every) is None
    assert ids.patch_name(every, **values) == "patches/Größe-so/7/7_a.svs-Tumor/7_a.svs_x0_y0"


def test_a_layout_may_use_every_field_that_the_configuration_allows():
    template = "patches/" + "/".join(f"{{{name}}}" for name in LAYOUT_FIELDS)
    name = ids.patch_name(
        template, slide_id="s", entry_id="e", project="p", label_folder="l", patch_id="i"
    )
    assert sorted(name.split("/")) == sorted(["patches", "s", "e", "p", "l", "i"])


# --- digests ---


def test_annotation_digest_does_not_depend_on_order():
    some = [annotation("a"), annotation("b", class_path=None), annotation("c", plane=(1, 0))]
    assert ids.annotation_digest(some) == ids.annotation_digest(some[::-1])
    assert re.fullmatch(r"xxh3_128:[0-9a-f]{32}", ids.annotation_digest(some))
    assert ids.annotation_digest([]) != ids.annotation_digest(some[:1])
    assert ids.annotation_digest(some[:1] * 2) != ids.annotation_digest(some[:1])


def test_annotation_digest_does_not_depend_on_first_point_or_direction_of_rings():
    turned = SQUARE[2:] + SQUARE[:2]
    same = {
        ids.annotation_digest([annotation(ring=ring)]) for ring in (SQUARE, turned, turned[::-1])
    }
    assert len(same) == 1


@pytest.mark.parametrize(
    "other",
    [
        annotation("b"),
        annotation(class_path="Stroma"),
        annotation(class_path=None),
        annotation(plane=(0, 1)),
        annotation(plane=(1, 0)),
        annotation(ring=[(0, 0), (9, 0), (9, 9), (0, 9.01)]),
        PathObject("a", ObjectType.ANNOTATION, "Tumor"),
    ],
)
def test_annotation_digest_depends_on_id_class_plane_and_geometry(other):
    assert ids.annotation_digest([other]) != ids.annotation_digest([annotation()])


def test_annotation_digest_ignores_other_values():
    """A lock, a colour or a measurement decides nothing, and a third dimension does not exist."""
    dressed = replace(annotation(), locked=True, color=5, measurements={"x": 1.0}, name="other")
    assert ids.annotation_digest([dressed]) == ids.annotation_digest([annotation()])
    tall = annotation(ring=[(x, y, 4.0) for x, y in SQUARE])
    assert ids.annotation_digest([tall]) == ids.annotation_digest([annotation()])


def test_plan_digest():
    values = {"b": [1, 2.5, None], "a": {"ü": "x", "y": True}}
    same = {"a": {"y": True, "ü": "x"}, "b": [1, 2.5, None]}
    assert ids.json_digest(values) == ids.json_digest(same)
    assert ids.json_digest(values) != ids.json_digest({**values, "b": [2.5, 1, None]})
    assert ids.json_digest({"a": 1}) != ids.json_digest({"a": "1"})
    assert ids.json_digest({}) == "xxh3_128:" + xxhash.xxh3_128_hexdigest(b"{}")
    with pytest.raises(ValueError, match="not JSON compliant"):
        ids.json_digest({"a": float("nan")})


# --- runs ---


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.binary(min_size=10, max_size=10))
def test_run_ids_sort_by_time(a, b, noise):
    first, second = ids.run_id(a, noise), ids.run_id(b, noise)
    assert len(first) == 26
    if int(a * 1000) < int(b * 1000):
        assert first < second
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", first)


def test_run_ids_of_the_same_time_differ():
    assert len({ids.run_id() for _ in range(100)}) == 100
    assert ids.run_id(1_700_000_000.0) < ids.run_id()
