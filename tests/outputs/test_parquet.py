"""Parquet: what other libraries read of it, and where the bytes of patches are."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import xxhash
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.config.masks import MASK_KINDS
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs import PatchRef, parquet
from qupath_bridge.outputs.dataset_card import card_of, notes_of
from qupath_bridge.outputs.parquet import ParquetOutput, columns_of
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.output import rows_of

CONFIG = qb.ExportConfig(size=100, min_share=0.4, container="parquet:50kB")


@pytest.fixture
def run(study, tmp_path):
    return qb.export(study.project, tmp_path / "out", CONFIG, provenance=False, workers=1)


def index_of(run):
    return {row["patch_id"]: row for row in run.table().to_pylist()}


def check_rows(run, rows):
    """Check that rows of a reader are the patches of the run, in every column."""
    index = index_of(run)
    assert sorted(row["patch_id"] for row in rows) == sorted(index)
    for row in rows:
        own = index[row["patch_id"]]
        same = ("label", "slide_id", "entry_id", "tile_uuid", "x_qupath", "h_qupath", "z", "mpp")
        assert [row[name] for name in same] == [own[name] for name in same]
        assert {share["name"]: share["share"] for share in row["shares"]} == dict(own["shares"])
        digest = xxhash.xxh3_128_hexdigest(row["image"]["bytes"])
        assert f"xxh3_128:{digest}" == own["digest"]
        assert row["image"]["path"] == f"{row['patch_id']}.png"


def test_arrow_reads_the_folder_as_one_dataset_of_partitions(run):
    found = ds.dataset(run.out / "patches", partitioning="hive")
    check_rows(run, found.to_table().to_pylist())
    (first, *_) = sorted(set(run.table()["slide_id"].to_pylist()))
    own = found.to_table(filter=ds.field("slide_id") == first).num_rows
    assert own == sum(row["slide_id"] == first for row in index_of(run).values())
    assert len(found.files) > 2


def test_polars_reads_the_files(run):
    import polars as pl

    found = pl.scan_parquet(run.out / "patches" / "**" / "*.parquet").collect()
    check_rows(run, found.to_dicts())


def test_duckdb_reads_the_files(run):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    query = f"SELECT label, count(*) FROM '{run.out}/patches/*/*.parquet' GROUP BY label"
    assert dict(duckdb.sql(query).fetchall()) == run.label_counts()


def test_hugging_face_has_pictures_and_numbered_labels(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    found = datasets.load_dataset(str(run.out), split="train", cache_dir=tmp_path / "cache")
    names = sorted(run.label_counts())
    assert found.features["label"].names == names
    assert isinstance(found.features["image"], datasets.Image)
    index = index_of(run)
    assert sorted(found["patch_id"]) == sorted(index)
    for row in found:
        own = index[row["patch_id"]]
        assert names[row["label"]] == own["label"]
        data = run.open().read(qb.Location(own["path"], own["offset"], own["length"]))
        expected = np.asarray(Image.open(io.BytesIO(data)))
        assert (np.asarray(row["image"]) == expected).all()
    alone = datasets.load_dataset(
        "parquet",
        data_files=str(run.out / "patches" / "*" / "*.parquet"),
        split="train",
        cache_dir=tmp_path / "alone",
    )
    assert isinstance(alone.features["image"], datasets.Image)
    assert alone.features["label"] == datasets.Value("string")


@pytest.fixture
def masked(study, tmp_path):
    config = CONFIG.replace(masks="both", rule="any", min_share=0)
    return qb.export(study.project, tmp_path / "masked", config, provenance=False, workers=1)


def test_masks_stand_beside_their_patches(study, masked, tmp_path):
    """The same files as those of a folder, for whoever reads tables."""
    folder = qb.export(
        study.project, tmp_path / "folder", CONFIG.replace(
            masks="both", rule="any", min_share=0, container="folder",
        ), provenance=False,
    )  # fmt: skip
    files = {row["patch_id"]: row for row in folder.table().to_pylist()}
    found = ds.dataset(masked.out / "patches", partitioning="hive").to_table().to_pylist()
    assert len(found) == len(files) > 10
    for row in found:
        for column, place in (("image", "path"), ("mask", "mask"), ("mask_instance",) * 2):
            own = Path(folder.out / files[row["patch_id"]][place])
            assert row[column] == {"bytes": own.read_bytes(), "path": own.name}
    output = masked.open()
    for row in masked.table().to_pylist():
        for column in ("mask", "mask_instance"):
            place = qb.Location(*(row[f"{column}{end}"] for end in ("", "_offset", "_length")))
            own = folder.out / files[row["patch_id"]][column]
            assert output.read(place) == own.read_bytes()
    assert not qb.verify(masked).findings


def test_hugging_face_has_masks_as_pictures(masked, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    found = datasets.load_dataset(str(masked.out), split="train", cache_dir=tmp_path / "cache")
    kinds = [name for name, kind in found.features.items() if isinstance(kind, datasets.Image)]
    assert kinds == ["image", "mask", "mask_instance"]
    index, output = index_of(masked), masked.open()
    for row in found:
        for column in ("mask", "mask_instance"):
            own = index[row["patch_id"]]
            place = qb.Location(*(own[f"{column}{end}"] for end in ("", "_offset", "_length")))
            expected = np.asarray(Image.open(io.BytesIO(output.read(place))))
            assert (np.asarray(row[column]) == expected).all()


def test_a_mask_stays_in_the_file_and_row_group_of_its_patch(monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    output = ParquetOutput(MemoryStore(), "300B")
    output.begin("1_a")
    for number in range(5):
        ref = PatchRef("1_a", f"1_a_x{number}_y0", f"patches/1_a/{number}.png")
        first = output.write(ref, b"i" * 90)
        names = [(kind, f"{kind.folder}/1_a/{number}.png") for kind in MASK_KINDS]
        for kind, name in names:
            place = output.write(ref._replace(name=name, mask=kind), b"m" * (90 + number))
            assert place.path == first.path
    output.abort("1_a")


def test_the_card_numbers_the_labels_by_name(run):
    text = (run.out / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    features = {each.pop("name"): each for each in json.loads(text)["dataset_info"]["features"]}
    names = features["label"]["dtype"]["class_label"]["names"]
    assert [names[str(number)] for number in range(len(names))] == sorted(run.record["labels"])
    assert features["image"] == {"dtype": "image"}
    assert list(features) == list(columns_of(multi=False))


def test_lists_of_labels_are_lists_in_the_card():
    schema = pa.schema(list(columns_of(multi=True).items())).with_metadata(notes_of({"image": b""}))
    card = json.loads(card_of(schema, ["b", "a"]).split(b"---\n")[1])
    features = {each["name"]: each for each in card["dataset_info"]["features"]}
    assert features["label"] == {
        "name": "label", "list": {"class_label": {"names": {"0": "a", "1": "b"}}},
    }  # fmt: skip
    assert features["image"]["struct"] == [
        {"name": "bytes", "dtype": "binary"}, {"name": "path", "dtype": "string"},
    ]  # fmt: skip
    assert features["shares"]["list"][1] == {"name": "share", "dtype": "float64"}


def test_the_run_can_be_verified_resumed_and_updated(run, study):
    assert qb.verify(run).ok
    lost = sorted((run.out / "patches").glob("*/*.parquet"))[0]
    content = lost.read_bytes()
    lost.unlink()
    assert not qb.verify(run).ok
    again = qb.export(study.project, run.out, CONFIG, provenance=False, resume=True, workers=1)
    assert lost.read_bytes() == content and qb.verify(again).ok
    assert again.record["run_digest"] == run.record["run_digest"]
    before = {path: path.read_bytes() for path in (run.out / "patches").glob("*/*")}
    updated = qb.export(study.project, run.out, CONFIG, provenance=False, update=True, workers=1)
    assert {path: path.read_bytes() for path in (run.out / "patches").glob("*/*")} == before
    check_rows(updated, ds.dataset(run.out / "patches", partitioning="hive").to_table().to_pylist())


def test_lists_of_labels(study, tmp_path):
    config = CONFIG.replace(rule="any", min_share=0.1)
    run = qb.export(study.project, tmp_path / "out", config, provenance=False, workers=1)
    check_rows(run, ds.dataset(run.out / "patches").to_table().to_pylist())
    assert pa.types.is_list(ds.dataset(run.out / "patches").schema.field("label").type)


# --- places of bytes ------------------------------------------------------------------------------


def stored(payloads):
    """Write payloads as patches of one slide; return the output and its rows."""
    output = ParquetOutput(MemoryStore())
    output.begin("1_a")
    refs = [PatchRef("1_a", f"1_a_x{n}_y0", f"patches/1_a/{n}.npy") for n in range(len(payloads))]
    places = [output.write(ref, data) for ref, data in zip(refs, payloads, strict=True)]
    output.commit("1_a", rows_of(refs, places, payloads))
    return output, output.table("1_a").to_pylist()


@pytest.mark.parametrize(("rows", "size"), [(1024, 1 << 25), (3, 1 << 25), (1024, 1000)])
def test_bytes_are_where_the_rows_say(monkeypatch, rows, size):
    """Also those that are like each other, like lengths, empty, or longer than a page."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", rows)
    monkeypatch.setattr(parquet, "GROUP_BYTES", size)
    payloads = [b"a", b"a", b"", b"\1\0\0\0a", b"x" * 5_000_000, b"x" * 10, b"x" * 9, b"a" * 99]
    output, found = stored(payloads)
    for row, payload in zip(found, payloads, strict=True):
        assert output.read(qb.Location(row["path"], row["offset"], row["length"])) == payload
        # At its own place, not at that of another one that is the same.
    assert len({row["offset"] for row in found}) == len(payloads)
    file = pq.ParquetFile(pa.BufferReader(output.get(found[0]["path"])))
    assert file.read().column("image").combine_chunks().field("bytes").to_pylist() == payloads
    assert file.metadata.num_row_groups == {(3, 1 << 25): 3, (1024, 1000): 2}.get((rows, size), 1)
    column = file.metadata.row_group(0).column(0)
    assert (column.path_in_schema, column.compression) == ("image.bytes", "UNCOMPRESSED")
    assert column.statistics is None  # a patch as the smallest value would be in every file twice


def test_channels_are_not_pictures():
    output, found = stored([b"\x93NUMPY"])
    schema = pq.read_schema(pa.BufferReader(output.get(found[0]["path"])))
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": {}}}


def test_a_size_that_cannot_be_read_names_the_container(tmp_path):
    with pytest.raises(UsageError, match="parquet:256MB"):
        ParquetOutput(tmp_path, "big")
