"""Features: each vector is that of its own patch, whatever the container; nothing stale is used."""

import importlib.util
import json

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.datasets import features as features_module
from qupath_bridge.datasets.encoders import EncoderDescription
from qupath_bridge.datasets.fold_tables import index_digest
from qupath_bridge.errors import MissingDependencyError, OutputError, UsageError
from tests.support import indexes
from tests.support.encoders import expected, weights_of, write_encoder
from tests.support.indexes import FakeSlide, Patch, noise

WEIGHTS = weights_of(32, 5)
FACTS = {
    "coordinates": {
        "size": [900, 700], "matrix": [[1, 0, 0], [0, 1, 0]], "crop": None, "bounds_offset": None,
        "pixel_size": {"x": 0.5, "y": 0.5, "origin": "project"},
    },
    "grid": {"box": [32, 32], "step": [32, 32], "placed": None},
    "path": "/gone/a.svs",
}  # fmt: skip


def slides(**changed):
    """Return two slides; ``a`` has patches with these pixels instead of its own."""
    pixels = [noise(f"a {n}") for n in range(5)]
    own = changed.get("a", pixels)
    return [
        FakeSlide("a", patches=[Patch(32 * n, pixels=each) for n, each in enumerate(own)]),
        FakeSlide("b", patches=[Patch(0, pixels=noise("b"))]),
    ]


def wanted(made):
    """Return the features of each patch, computed from the pixels that were put in."""
    return {
        indexes.name_of(slide, patch): expected(patch.pixels, WEIGHTS)
        for slide in made
        for patch in slide.patches
    }


def stored(folder):
    """Return the features of each patch, as h5py alone reads them."""
    found = {}
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            ids = file["patch_id"].asstr()[:]
            found |= dict(zip(ids, file["features"][:], strict=True))
    return found


def check(found, slides):
    right = wanted(slides)
    assert found.keys() == right.keys()
    for patch_id, values in right.items():
        np.testing.assert_allclose(found[patch_id], values, atol=1e-4, err_msg=patch_id)


@pytest.fixture
def out(tmp_path):
    indexes.write_output(tmp_path / "out", slides(), facts=FACTS)
    return tmp_path / "out"


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder", WEIGHTS)


@pytest.mark.parametrize("container", ["folder", "tar", "parquet", "h5", "zarr"])
def test_each_vector_is_that_of_its_patch(tmp_path, encoder, container):
    indexes.write_output(tmp_path / "out", slides(), container)
    seen = []
    made = qb.features(tmp_path / "out", encoder, batch=2, on_progress=lambda *at: seen.append(at))
    check(stored(tmp_path / "out" / "features" / "toy"), slides())
    assert (made.patches, made.width, made.made) == (6, 5, ("1_a", "1_b"))
    assert seen == [(2, 6), (4, 6), (5, 6), (6, 6)]


def test_parquet_is_read_by_a_foreign_reader(tmp_path, out, encoder):
    import polars as pl

    qb.features(out, encoder, format="parquet")
    folder = out / "features" / "toy"
    table = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
    check(dict(zip(table["patch_id"], map(np.array, table["features"].to_list()), strict=True)),
          slides())  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_halves_are_written_and_encoders_of_halves_run(tmp_path, out, kind):
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS.astype(kind))
    for name in ("h5", "parquet"):
        qb.features(out, encoder, format=name, dtype="float16", name=name)
    found = stored(out / "features" / "h5")
    other = pq.read_table(out / "features" / "parquet" / "1_b.parquet")
    assert str(other.schema.field("features").type.value_type) == "halffloat"
    assert other["features"][0].as_py() == found["1_b_x0_y0"].tolist()
    for patch_id, values in wanted(slides()).items():
        assert found[patch_id].dtype == np.float16
        np.testing.assert_allclose(found[patch_id], values, atol=0.05)


@pytest.mark.parametrize("layout", ["clam", "trident", "stamp"])
@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_other_tools_get_the_features_in_the_order_of_their_coordinates(
    tmp_path, out, encoder, layout, kind
):
    place = qb.features(out, encoder, format=kind).place
    qb.convert(out, tmp_path / "new", layout, features=place)
    name = {"clam": "h5_files/a.h5", "stamp": "a.h5"}.get(layout, "*/features_toy/a.h5")
    (path,) = (tmp_path / "new").glob(name)
    with h5py.File(path) as file:
        values = file["feats" if layout == "stamp" else "features"][:]
        across = file["coords"][:, 0]
    right = wanted(slides())
    step = 16 if layout == "stamp" else 1  # µm
    for x, vector in zip(across, values, strict=True):
        number = round(float(x) / (step if layout == "stamp" else 32))
        np.testing.assert_allclose(vector, right[f"1_a_x{32 * number}_y0"], atol=0.01)


# --- resuming, and what is stale -------------------------------------------------------------


def test_what_is_up_to_date_is_kept(out, encoder, monkeypatch):
    first = qb.features(out, encoder)
    before = {path: path.stat().st_mtime_ns for path in (out / "features" / "toy").glob("*.h5")}
    monkeypatch.setattr(features_module, "read_patch", None)  # nothing is read any more
    again = qb.features(out, encoder)
    assert (again.made, again.kept, again.patches) == ((), first.made, 6)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_interrupted_call_is_continued_at_the_next_slide(out, encoder, monkeypatch):
    def stop(done, total):
        if done == total:  # the last slide has its vectors, and no file yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qb.features(out, encoder, on_progress=stop)
    folder = out / "features" / "toy"
    assert sorted(path.name for path in folder.iterdir()) == ["1_a.h5", "record.json"]
    assert json.loads((folder / "record.json").read_text())["state"] == "running"
    made = qb.features(out, encoder)
    assert (made.kept, made.made) == (("1_a",), ("1_b",))
    check(stored(folder), slides())
    assert json.loads((folder / "record.json").read_text())["state"] == "complete"


def test_features_of_changed_patches_are_refused_and_made_anew(tmp_path, out, encoder, capsys):
    place = qb.features(out, encoder).place
    changed = slides(a=[noise(f"other {n}") for n in range(5)])
    indexes.write_output(out, changed, facts=FACTS)  # the same ids, other pixels
    with pytest.raises(UsageError, match="features of 1_a in toy are stale"):
        qb.convert(out, tmp_path / "new", "clam", features=place)
    assert main(["features", str(out), "--encoder", str(encoder)]) == 0
    said = capsys.readouterr().out
    assert "Features of 1 slide made anew: their patches" in said and "1 slide kept" in said
    check(stored(out / "features" / "toy"), changed)
    qb.convert(out, tmp_path / "new", "clam", features=place)


def test_slides_that_the_run_has_no_more_are_named(out, encoder):
    qb.features(out, encoder)
    indexes.write_output(out, slides()[:1], facts=FACTS)
    made = qb.features(out, encoder)
    assert (made.kept, made.gone) == (("1_a",), ("1_b",))
    record = json.loads((out / "features" / "toy" / "record.json").read_text())
    assert record["slides"] == {"1_a": 5}


def test_a_damaged_file_is_made_anew(out, encoder):
    path = qb.features(out, encoder).place
    file = out / "features" / "toy" / "1_a.h5"
    file.write_bytes(file.read_bytes()[:500])
    assert qb.features(out, encoder).renewed == ("1_a",)
    assert path and len(stored(out / "features" / "toy")) == 6


@pytest.mark.parametrize("change", ["encoder", "mean", "format", "dtype"])
def test_features_of_two_kinds_are_not_mixed(tmp_path, out, encoder, change):
    qb.features(out, encoder)
    options = {"format": {"format": "parquet"}, "dtype": {"dtype": "float16"}}.get(change, {})
    if change == "encoder":
        encoder = write_encoder(tmp_path / "other", weights_of(32, 5, seed=2))
    if change == "mean":
        encoder = write_encoder(tmp_path / "other", WEIGHTS, mean=[0, 0, 0])
    before = stored(out / "features" / "toy")
    with pytest.raises(OutputError, match=r"'toy' were made with another (encoder|format|dtype)"):
        qb.features(out, encoder, **options)
    np.testing.assert_equal(stored(out / "features" / "toy"), before)
    assert qb.features(out, encoder, name="other", **options).made == ("1_a", "1_b")


def test_another_name_or_note_of_an_encoder_is_the_same_encoder(tmp_path, out, encoder):
    qb.features(out, encoder, name="x")
    renamed = write_encoder(tmp_path / "new", WEIGHTS, name="toy2", note="hello", licence="MIT")
    assert qb.features(out, renamed, name="x").kept == ("1_a", "1_b")


# --- where they are from -----------------------------------------------------------------------


def test_files_and_record_say_where_features_are_from(out, encoder):
    qb.features(out, encoder)
    folder = out / "features" / "toy"
    record = json.loads((folder / "record.json").read_text())
    with h5py.File(folder / "1_a.h5") as file:
        note = json.loads(file.attrs["qupath_bridge.features"])
    about = json.loads(encoder.read_text())
    for found in (record, note):
        assert found["encoder"] == {**about, "output": None, "note": None}
        assert found["mpp"] == [0.5, 0.5] and found["run_id"] == "R"
        assert found["provider"] == "CPUExecutionProvider" and found["dtype"] == "float32"
        assert found["encoder_digest"].startswith("xxh3_128:")
    assert (record["slides"], record["width"]) == ({"1_a": 5, "1_b": 1}, 5)
    assert record["index_digest"] == index_digest(qb.open_output(out))


# --- what is refused ---------------------------------------------------------------------------


def refused(out, encoder, message, **options):
    with pytest.raises(UsageError, match=message) as caught:
        qb.features(out, encoder, **options)
    assert not (out / "features").exists()
    return caught.value


@pytest.mark.parametrize(
    ("mpp", "fits"), [(0.5, True), (0.4902, True), (0.5102, True), (0.4896, False),
                      (0.5103, False), (0.25, False), (1.0, False)],
)  # fmt: skip
def test_another_resolution_is_refused(tmp_path, out, mpp, fits):
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS, mpp=mpp)
    if fits:  # patches have 0.5 µm, and 2 % of what the encoder takes are the default
        assert qb.features(out, encoder).patches == 6
        return
    error = refused(out, encoder, r"2 slides with others")
    assert "1_a: 0.5 µm" in error.message and f"mpp: {mpp:g}" in error.hint


def test_a_run_of_unknown_resolution_another_size_or_channels_is_refused(
    tmp_path, encoder, monkeypatch
):
    small = write_encoder(tmp_path / "small", weights_of(16, 2))
    out = tmp_path / "out"
    indexes.write_output(out, slides())
    assert "1_b: sides of 32 pixels" in refused(out, small, "takes 16 x 16 pixels").message
    columns = indexes.columns_of

    def unknown(*given):
        return columns(*given) | {"mpp": [None] * len(given[0].patches)}

    monkeypatch.setattr(indexes, "columns_of", unknown)
    indexes.write_output(tmp_path / "unknown", slides())
    assert (
        "pixel size is not known"
        in refused(tmp_path / "unknown", encoder, "slides with others").message
    )
    monkeypatch.setattr(indexes, "columns_of", columns)
    indexes.write_output(tmp_path / "stains", slides(), channels=("A", "B", "C"))
    assert "not RGB" in refused(tmp_path / "stains", encoder, "slides with others").message


def test_a_patch_that_was_changed_is_refused(out, encoder):
    patch = out / qb.read_index(out)["path"][0].as_py()
    other = out / qb.read_index(out)["path"][1].as_py()
    patch.write_bytes(other.read_bytes())
    with pytest.raises(OutputError, match="1_a_x0_y0 cannot be read: its bytes are not those"):
        qb.features(out, encoder)


def test_numbers_that_16_bits_cannot_hold_are_refused(tmp_path, out):
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS * np.float32(1e6))
    with pytest.raises(UsageError, match="not finite numbers in float16") as caught:
        qb.features(out, encoder, dtype="float16")
    assert "float32" in caught.value.hint
    assert not list((out / "features" / "toy").glob("*.h5"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "xxh3_128:0"}, "description is of another file"),
        ({"file": "../encoder.onnx"}, "file: string should match pattern"),
        ({"file": "gone.onnx"}, r"gone\.onnx cannot be read"),
        ({"std": [0.5, 0, 1]}, "std must be above 0"),
        ({"colour": 1}, "extra inputs are not permitted"),
        ({"output": "pooled"}, "has no result 'pooled': features"),
        ({"extra": ("again",)}, "has several results: features, again"),
        ({"batch": 3}, r"cannot run on \(2, 3, 32, 32\)"),
        ({"name": "../x"}, "cannot be the name of features"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, out, changes, message):
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS, **changes)
    with pytest.raises(UsageError, match=message):
        qb.features(out, encoder, batch=2)
    assert not list(out.glob("features/*/*.h5"))


def test_one_of_several_results_is_chosen(tmp_path, out):
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS, extra=("again",), output="again")
    qb.features(out, encoder)
    found = stored(out / "features" / "toy")
    for patch_id, values in wanted(slides()).items():
        np.testing.assert_allclose(found[patch_id], -values, atol=1e-4)


def test_options_that_are_wrong_are_refused(out, encoder):
    refused(out, encoder, "written as 'csv'", format="csv")
    refused(out, encoder, "No features are 'int8'", dtype="int8")
    refused(out, encoder, "less than one patch", batch=0)
    refused(out, encoder.with_name("gone.json"), "cannot be read")


@pytest.mark.parametrize(
    ("package", "module", "options", "extra"),
    [
        ("onnxruntime", "pixels.networks", {}, "features"),
        ("h5py", "datasets.feature_files", {}, "h5"),
        ("torch", "datasets.feature_files", {"format": "pt"}, "torch"),
    ],
)
def test_a_missing_library_is_named_with_how_to_install_it(
    out, encoder, monkeypatch, package, module, options, extra
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        f"qupath_bridge.{module}.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(MissingDependencyError, match=package) as caught:
        qb.features(out, encoder, **options)
    assert f"pip install 'qupath-bridge[{extra}]'" in caught.value.hint
    assert not (out / "features").exists()


def test_all_that_decides_features_is_in_the_digest(tmp_path):
    """A new field of the description has to be put on one side or the other."""
    fields = set(EncoderDescription.model_fields)
    assert fields == {
        "name", "version", "mpp", "mean", "std", "licence", "digest", "note", "file", "size",
        "output",
    }  # fmt: skip
    about = EncoderDescription.model_validate_json(write_encoder(tmp_path, WEIGHTS).read_text())
    changes = {
        "mpp": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "digest": "xxh3_128:1",
        "size": 64, "output": "y",
    }  # fmt: skip
    other = {name: about.model_copy(update={name: changes.get(name, "z")}) for name in fields}
    assert {
        name for name in fields if other[name].encoder_digest != about.encoder_digest
    } == changes.keys()
