"""Bags: read with readers that are written from each tool's own reading code."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import openslide
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.datasets.layouts import clam, tensors
from qupath_bridge.errors import MissingDependencyError, OutputError, UsageError
from tests.support import indexes
from tests.support.indexes import FakeSlide, Patch

SKIN = Path(__file__).parents[3] / "example_projects" / "skin"
FACTS = {
    "coordinates": {
        "size": [900, 700], "matrix": [[1, 0, 0], [0, 1, 0]], "crop": None, "bounds_offset": None,
        "pixel_size": {"x": 0.25, "y": 0.24, "origin": "project"},
    },
    "grid": {"box": [32, 32], "step": [24, 24]},
    "path": "/gone/a.svs",
}  # fmt: skip
SLIDES = [
    FakeSlide("a", patches=[Patch(0), Patch(64, 100)], file="a.b.ome.tif"),
    FakeSlide("b", patches=[Patch(5)], file="b.svs"),
]
CORNERS = {"a": [[0, 0], [64, 100]], "b": [[5, 0]]}


@pytest.fixture
def out(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES, facts=FACTS)
    return tmp_path / "out"


@pytest.fixture
def vectors(tmp_path):
    """Features of both slides: a shuffled Parquet file, and an array in the order of the rows."""
    folder = tmp_path / "uni"
    folder.mkdir()
    ids = pa.array(["1_a_x64_y100", "1_a_x0_y0"])
    lists = pa.array([[3.0, 4.0, 5.0], [0.0, 1.0, 2.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"patch_id": ids, "features": lists}), folder / "1_a.parquet")
    np.save(folder / "1_b.npy", np.array([[6, 7, 8]], np.float16))
    return folder


FEATURES = {"a": [[0, 1, 2], [3, 4, 5]], "b": [[6, 7, 8]]}


def resizable(dataset):
    return dataset.maxshape == (None, *dataset.shape[1:])


# --- CLAM ---------------------------------------------------------------------------------------


def test_clam_cuts_the_patches_of_the_run_from_the_slide(tmp_path):
    """Its ``Whole_Slide_Bag_FP``: read_region at the level and of the size in the attributes."""
    run = qb.export(SKIN, tmp_path / "out", qb.ExportConfig(size=128), provenance=False)
    qb.convert(run, tmp_path / "new", "clam")
    slide = openslide.open_slide(SKIN / "CMU-1-Small-Region.svs")
    rows = run.table().select(["patch_id", "path"]).to_pylist()
    with h5py.File(tmp_path / "new" / "patches" / "CMU-1-Small-Region.h5") as file:
        coords, about = file["coords"], file["coords"].attrs
        assert coords.shape == (len(rows), 2) and len(rows) > 10
        size, level = about["patch_size"], about["patch_level"]
        for corner, row in zip(coords[:], rows, strict=True):
            cut = slide.read_region(corner, level, (size, size)).convert("RGB")
            with Image.open(tmp_path / "out" / row["path"]) as picture:
                assert cut.tobytes() == picture.tobytes(), row["patch_id"]
        assert tuple(about["level_dim"]) == slide.dimensions


def test_clam_gets_types_and_attributes_as_it_writes_them(tmp_path, out):
    qb.convert(out, tmp_path / "new", "clam")
    assert sorted(path.name for path in (tmp_path / "new" / "patches").iterdir()) == [
        "a.b.ome.h5", "b.h5",  # its slide ids are names without what stands behind the last dot
    ]  # fmt: skip
    with h5py.File(tmp_path / "new" / "patches" / "a.b.ome.h5") as file:
        coords = file["coords"]
        assert coords.dtype == np.int64 and coords[:].tolist() == CORNERS["a"] and resizable(coords)
        about = dict(coords.attrs)
    assert {name: np.asarray(value).tolist() for name, value in about.items()} == {
        "patch_size": 32, "patch_level": 0, "downsample": [1.0, 1.0], "level_dim": [900, 700],
        "downsampled_level_dim": [900, 700], "name": "a.b.ome", "save_path": "patches",
    }  # fmt: skip
    assert about["patch_size"].dtype.kind == "i" and about["downsample"].dtype.kind == "f"
    listing = (tmp_path / "new" / "process_list_autogen.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in listing] == ["slide_id", "a.b.ome.tif", "b.svs"]


def test_clam_cuts_whole_boxes_of_a_coarser_run(tmp_path, monkeypatch):
    slide, facts = coarser(64, 0.25)
    monkeypatch.setattr(indexes, "WRITTEN", 16)
    indexes.write_output(tmp_path / "out", [slide], facts=facts)
    qb.convert(tmp_path / "out", tmp_path / "new", "clam")
    with h5py.File(tmp_path / "new" / "patches" / "a.h5") as file:
        about = file["coords"].attrs
        assert (about["patch_size"], about["patch_level"]) == (64, 0)


def test_clam_has_bags_and_says_that_torch_is_missing(tmp_path, out, vectors, monkeypatch):
    monkeypatch.setattr(clam, "has_torch", lambda: False)
    made = qb.convert(out, tmp_path / "new", "clam", features=vectors)
    assert made.warnings == (clam.NO_TORCH,) and not (tmp_path / "new" / "pt_files").exists()
    for name, file in (("a", "a.b.ome.h5"), ("b", "b.h5")):
        with h5py.File(tmp_path / "new" / "h5_files" / file) as bag:
            assert bag["features"].dtype == np.float32 and bag["coords"].dtype == np.int32
            assert bag["features"][:].tolist() == FEATURES[name]
            assert bag["coords"][:].tolist() == CORNERS[name]
            assert resizable(bag["features"]) and resizable(bag["coords"])


# --- TRIDENT ------------------------------------------------------------------------------------


def test_trident_gets_its_folders_types_and_attributes(tmp_path, out, vectors):
    qb.convert(out, tmp_path / "new", "trident", features=vectors)
    place = tmp_path / "new" / "40x_32px_8px_overlap"
    with h5py.File(place / "patches" / "a.b_patches.h5") as file:
        coords, about = file["coords"], dict(file["coords"].attrs)
        assert coords.dtype == np.int64 and coords[:].tolist() == CORNERS["a"]
    assert about == {
        "patch_size": 32, "patch_size_level0": 32, "level0_magnification": 40,
        "target_magnification": 40, "overlap": 8, "name": "a.b", "savetodir": place.name,
        "level0_width": 900, "level0_height": 700,
    }  # fmt: skip
    with h5py.File(place / "features_uni" / "b.h5") as file:
        assert file["features"].dtype == np.float32 and file["features"][:].tolist() == [[6, 7, 8]]
        own = f"{place.name}/features_uni"
        assert dict(file["features"].attrs) == {"name": "b", "savetodir": own, "encoder": "uni"}
        assert dict(file["coords"].attrs)["name"] == "b"


def coarser(size, pixel_size):
    """Facts and rows of a slide whose patches of 16 pixels cover ``size`` pixels of the slide."""
    facts = json.loads(json.dumps(FACTS))
    facts["coordinates"]["pixel_size"] = pixel_size and {"x": pixel_size, "y": pixel_size}
    facts["grid"] = {"box": [size, size], "step": [size, size]}
    return FakeSlide("a", patches=[Patch(0, size=size)]), facts


@pytest.mark.parametrize(
    ("side", "pixel_size", "folder"),
    [(32, 0.2527, "20x_16px_0px_overlap"), (16, 0.499, "20x_16px_0px_overlap"),
     (64, 0.25, "10x_16px_0px_overlap"), (160, 0.5, "2x_16px_0px_overlap")],
)  # fmt: skip
def test_trident_gets_the_magnification_whose_boxes_are_those_of_the_run(
    tmp_path, side, pixel_size, folder, monkeypatch
):
    slide, facts = coarser(side, pixel_size)
    monkeypatch.setattr(indexes, "WRITTEN", 16)
    indexes.write_output(tmp_path / "out", [slide], facts=facts)
    qb.convert(tmp_path / "out", tmp_path / "new", "trident")
    (place,) = (path for path in (tmp_path / "new").iterdir() if path.is_dir())
    assert place.name == folder
    with h5py.File(place / "patches" / "a_patches.h5") as file:
        about = dict(file["coords"].attrs)
    # What its patcher cuts at level 0.
    factor = (10 / about["target_magnification"]) / (10 / about["level0_magnification"])
    assert round(about["patch_size"] * factor) == about["patch_size_level0"] == side


@pytest.mark.parametrize(
    ("side", "pixel_size", "problem"),
    [(35, 0.25, "16 pixels is 35 pixels of the slide wide.*TRIDENT would cut others"),
     (32, None, "a pixel is not known"), (32, 0.35, "is 0.35 µm, near none of them")],
)  # fmt: skip
def test_trident_refuses_boxes_that_no_magnification_gives(
    tmp_path, side, pixel_size, problem, monkeypatch
):
    slide, facts = coarser(side, pixel_size)
    monkeypatch.setattr(indexes, "WRITTEN", 16)
    indexes.write_output(tmp_path / "out", [slide], facts=facts)
    with pytest.raises(UsageError, match=problem):
        qb.convert(tmp_path / "out", tmp_path / "new", "trident")


# --- STAMP and slideflow ------------------------------------------------------------------------


def test_stamp_gets_micrometres_types_and_attributes(tmp_path, out, vectors):
    qb.convert(out, tmp_path / "new", "stamp", features=vectors)
    with h5py.File(tmp_path / "new" / "a.b.ome.h5") as file:
        assert file["feats"].dtype == np.float16 and file["feats"][:].tolist() == FEATURES["a"]
        assert file["coords"].dtype == np.float32
        assert file["coords"][:].tolist() == [[0, 0], [16, 24]]  # 64 × 0.25, 100 × 0.24
        about = dict(file.attrs)
    code = about.pop("code_hash")
    assert isinstance(code, str) and code
    assert about == {
        "stamp_version": "2.1.0", "extractor": "uni", "unit": "um", "tile_size_um": 16.0,
        "tile_size_px": 32, "feat_type": "tile",
    }  # fmt: skip


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_slideflow_and_clam_get_tensors(tmp_path, out, vectors):
    torch = importlib.import_module("torch")
    qb.convert(out, tmp_path / "new", "slideflow", features=vectors)
    found = torch.load(tmp_path / "new" / "a.b.pt", weights_only=True)
    assert found.dtype == torch.float32 and found.tolist() == FEATURES["a"]
    places = np.load(tmp_path / "new" / "a.b.index.npz")["arr_0"]
    assert places.dtype == np.int64 and places.tolist() == [[16, 16], [80, 116]]
    assert json.loads((tmp_path / "new" / "bags_config.json").read_text()) == {
        "extractor": {"class": "uni", "kwargs": {}}, "normalizer": None, "num_features": 3,
        "tile_px": 32, "tile_um": 16,
    }  # fmt: skip
    made = qb.convert(out, tmp_path / "clam", "clam", features=vectors)
    assert made.warnings == ()
    found = torch.load(tmp_path / "clam" / "pt_files" / "b.pt", weights_only=True)
    assert found.tolist() == FEATURES["b"]


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_slideflow_without_torch_is_refused(tmp_path, out, vectors):
    assert not tensors.has_torch()
    with pytest.raises(
        MissingDependencyError, match=r"torch is not installed.*qupath-bridge\[torch"
    ):
        qb.convert(out, tmp_path / "new", "slideflow", features=vectors)


# --- what does not fit --------------------------------------------------------------------------


def refused(tmp_path, slides, problem, to="clam", error=UsageError, **options):
    indexes.write_output(tmp_path / "out", slides, facts=options.pop("facts", FACTS))
    with pytest.raises(error, match=problem):
        qb.convert(tmp_path / "out", tmp_path / "new", to, **options)
    assert not (tmp_path / "new").exists()


def test_runs_that_bags_cannot_hold_are_refused(tmp_path):
    two = [FakeSlide("a", patches=[Patch(0), Patch(50, size=40)])]
    refused(tmp_path, two, "not squares of one size")
    refused(tmp_path, [FakeSlide("a", patches=[Patch(z=1)])], "several planes")
    same = [FakeSlide("a", file="x.svs"), FakeSlide("b", file="X.tif")]
    refused(tmp_path, same, "1_a and 1_b have slide files of one name")


def test_layouts_of_features_need_them_and_others_refuse_them(tmp_path, vectors):
    refused(tmp_path, SLIDES, "'stamp' needs features", to="stamp")
    refused(tmp_path, SLIDES, "does not use features", to="imagefolder", features=vectors)
    refused(tmp_path, SLIDES, "does not use split", split="folds")


def test_a_turned_slide_has_the_size_of_its_file(tmp_path):
    facts = json.loads(json.dumps(FACTS))
    facts["coordinates"]["matrix"] = [[0, 1, 0], [-1, 0, 900]]
    indexes.write_output(tmp_path / "out", SLIDES[1:], facts=facts)
    qb.convert(tmp_path / "out", tmp_path / "new", "clam")
    with h5py.File(tmp_path / "new" / "patches" / "b.h5") as file:
        assert file["coords"].attrs["level_dim"].tolist() == [700, 900]


def test_a_cropped_slide_needs_its_file_for_the_size(tmp_path):
    facts = json.loads(json.dumps(FACTS))
    facts["coordinates"]["crop"] = [10, 10, 900, 700]
    refused(tmp_path, SLIDES, "the slide file is needed for its size", facts=facts,
            error=OutputError)  # fmt: skip
    facts["path"] = str(SKIN / "CMU-1-Small-Region.svs")
    indexes.write_output(tmp_path / "out", SLIDES, facts=facts)
    qb.convert(tmp_path / "out", tmp_path / "new", "clam")
    with h5py.File(tmp_path / "new" / "patches" / "b.h5") as file:
        assert file["coords"].attrs["level_dim"].tolist() == [2220, 2967]


def test_features_in_one_file_and_in_h5(tmp_path, out):
    ids = ["1_b_x5_y0", "1_a_x64_y100", "1_a_x0_y0"]
    lists = pa.array([[6, 7, 8], [3, 4, 5], [0, 1, 2]], pa.list_(pa.float64()))
    pq.write_table(pa.table({"patch_id": ids, "features": lists}), tmp_path / "all.parquet")
    qb.convert(out, tmp_path / "new", "stamp", features=tmp_path / "all.parquet")
    (tmp_path / "h5").mkdir()
    for name, own in (("1_a", ids[1:]), ("1_b", ids[:1])):
        with h5py.File(tmp_path / "h5" / f"{name}.h5", "w") as file:
            file["patch_id"] = own
            values = [[6, 7, 8]] if name == "1_b" else [[3, 4, 5], [0, 1, 2]]
            file["features"] = np.array(values, np.float32)
    qb.convert(out, tmp_path / "again", "stamp", features=tmp_path / "h5")
    for folder in ("new", "again"):
        for name, file in (("a", "a.b.ome.h5"), ("b", "b.h5")):
            with h5py.File(tmp_path / folder / file) as bag:
                assert bag["feats"][:].tolist() == FEATURES[name]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((1, 3), np.float32), "has 1 rows for 1_a, which has 2 patches"),
        (np.zeros(2, np.float32), r"an array of float32 of the shape \(2,\)"),
        (np.zeros((2, 3), np.int64), "an array of int64"),
        (np.full((2, 3), np.inf, np.float32), "not finite"),
        (np.full((2, 3), 1e5, np.float32), "do not fit into STAMP's 16 bits"),
        (np.zeros((2, 4), np.float32), "have 3 numbers, those of other slides 4"),
    ],
)
def test_arrays_that_are_not_features_of_the_run_are_refused(tmp_path, out, values, problem):
    np.save(tmp_path / "1_a.npy", values)
    np.save(tmp_path / "1_b.npy", np.zeros((1, 3), np.float32))
    with pytest.raises(UsageError, match=problem):
        qb.convert(out, tmp_path / "new", "stamp", features=tmp_path)


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (["1_a_x0_y0", "1_a_x9_y9"], "1 patches have no features:\n  1_a_x64_y100"),
        (["1_a_x0_y0", "1_a_x64_y100", "1_a_x9_y9"], "the run lacks:\n  1_a_x9_y9"),
        (["1_a_x0_y0", "1_a_x0_y0", "1_a_x64_y100"], "has features twice"),
    ],
)
def test_features_and_patches_have_to_be_the_same(tmp_path, out, ids, problem):
    lists = pa.array([[1.0]] * len(ids))
    pq.write_table(pa.table({"patch_id": ids, "features": lists}), tmp_path / "1_a.parquet")
    with pytest.raises(UsageError, match=problem):
        qb.convert(out, tmp_path / "new", "stamp", features=tmp_path)


def test_a_place_without_features_is_told(tmp_path, out):
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match=r"no features in|no file for the slide 1_a"):
            qb.convert(out, tmp_path / "new", "stamp", features=place)
    lists = pa.array([[1.0], [1.0, 2.0]])
    ids = ["1_a_x0_y0", "1_a_x64_y100"]
    pq.write_table(pa.table({"patch_id": ids, "features": lists}), tmp_path / "1_a.parquet")
    with pytest.raises(UsageError, match="lists of different lengths"):
        qb.convert(out, tmp_path / "new", "stamp", features=tmp_path)
