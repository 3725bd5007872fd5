"""Folders of pictures: read as torchvision's ImageFolder does, without torch."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from tests.support import indexes
from tests.support.indexes import FakeSlide, Patch, noise

SLIDES = [
    FakeSlide("a", {"patient": "P1"}, [Patch(0), Patch(40, label="Größe: 1")]),
    FakeSlide("b", {"patient": "P2"}, [Patch(0), Patch(40, label=None)]),
    FakeSlide("c", {"patient": "P3"}, [Patch(0, label="Größe: 1")]),
]
CONTAINERS = ("folder", "tar", "h5", "zarr")
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision opens."""


def image_folder(root):
    """Return classes and samples as ``ImageFolder`` finds them: sorted folders are classes."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = []
    for number, name in enumerate(classes):
        for path in sorted((root / name).rglob("*")):
            assert path.suffix in ENDINGS
            with Image.open(path) as picture:
                samples.append((path.stem, number, np.asarray(picture.convert("RGB"))))
    return classes, samples


def put_split(out, text):
    open_output(str(out)).put("splits/own.csv", text.encode())


@pytest.fixture
def out(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES)
    return tmp_path / "out"


@pytest.mark.parametrize("container", CONTAINERS)
def test_pictures_are_those_that_were_written_in_the_folders_of_their_labels(tmp_path, container):
    indexes.write_output(tmp_path / "out", SLIDES, container)
    made = qb.convert(tmp_path / "out", tmp_path / "new", "imagefolder")
    assert (made.patches, made.slides, made.left_out) == (4, 3, {"without a label": 1})
    classes, samples = image_folder(tmp_path / "new")
    assert classes == ["Größe-1", "Tumor"]
    assert [(name, number) for name, number, _ in samples] == [
        ("1_a_x40_y0", 0), ("1_c_x0_y0", 0), ("1_a_x0_y0", 1), ("1_b_x0_y0", 1),
    ]  # fmt: skip
    for (_, _, pixels), seed in zip(samples, ("a 1", "c 0", "a 0", "b 0"), strict=True):
        assert (pixels == noise(seed)).all()


def test_files_get_a_second_name_and_the_run_stays_as_it_is(tmp_path, out):
    qb.convert(out, tmp_path / "new", "imagefolder")
    (patch,) = out.glob("patches/1_c/*")
    assert (tmp_path / "new" / "Größe-1" / patch.name).samefile(patch)


def test_without_links_files_are_copied(tmp_path, out, monkeypatch):
    def refuse(*places):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    qb.convert(out, tmp_path / "new", "imagefolder")
    (patch,) = out.glob("patches/1_c/*")
    copy = tmp_path / "new" / "Größe-1" / patch.name
    assert copy.read_bytes() == patch.read_bytes() and not copy.samefile(patch)


def test_a_copy_of_a_damaged_patch_is_refused_and_nothing_is_left(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES, "tar")
    (shard,) = (tmp_path / "out" / "patches").glob("1_b-*.tar")
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(OutputError, match="1_b_x0_y0 cannot be read"):
        qb.convert(tmp_path / "out", tmp_path / "new", "imagefolder")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folds_are_folders_and_each_has_every_class(tmp_path, out):
    put_split(
        out, "patch_id,fold\n1_a_x0_y0,0\n1_a_x40_y0,1\n1_b_x0_y0,1\n1_b_x40_y0,1\n1_c_x0_y0,\n"
    )
    made = qb.convert(out, tmp_path / "new", "imagefolder", split="own")
    assert made.left_out == {"without a label": 1, "in no fold": 1}
    assert made.warnings == ("no patch with the label Größe: 1 is in 0",)
    found = {
        fold.name: image_folder(fold) for fold in (tmp_path / "new").iterdir() if fold.is_dir()
    }
    assert {fold: classes for fold, (classes, _) in found.items()} == {
        "0": ["Größe-1", "Tumor"], "1": ["Größe-1", "Tumor"],
    }  # fmt: skip
    names = {fold: [sample[:2] for sample in samples] for fold, (_, samples) in found.items()}
    assert names == {"0": [("1_a_x0_y0", 1)], "1": [("1_a_x40_y0", 0), ("1_b_x0_y0", 1)]}


def test_one_fold_becomes_val_and_the_others_train(tmp_path, out):
    put_split(out, "slide_id,fold\n1_a,0\n1_b,1\n1_c,test\n")
    qb.convert(out, tmp_path / "new", "imagefolder", split="own", val="1")
    files = sorted(p.relative_to(tmp_path / "new").as_posix() for p in tmp_path.glob("new/*/*/*"))
    assert files == [
        "test/Größe-1/1_c_x0_y0.png", "train/Größe-1/1_a_x40_y0.png",
        "train/Tumor/1_a_x0_y0.png", "val/Tumor/1_b_x0_y0.png",
    ]  # fmt: skip
    record = json.loads((tmp_path / "new" / "convert.json").read_text(encoding="utf-8"))
    assert record["folds"] == {"0": "train", "1": "val", "test": "test"}
    assert record["labels"] == {"Größe: 1": "Größe-1", "Tumor": "Tumor"}
    assert (record["run_id"], record["split"], record["patches"]) == ("R", "own", 4)


def test_a_stale_split_is_refused(tmp_path):
    slides = [*SLIDES, FakeSlide("d", {"patient": "P4"})]
    indexes.write_output(tmp_path / "out", slides)
    qb.split(tmp_path / "out", folds=2, by="patient")
    indexes.write_output(tmp_path / "out", SLIDES)
    with pytest.raises(OutputError, match="stale"):
        qb.convert(tmp_path / "out", tmp_path / "new", "imagefolder", split="folds")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"split": "own", "val": "7"}, "has no fold '7'"),
        ({"val": "0"}, "no split"),
        ({"to": "image-folder"}, "Did you mean imagefolder"),
        ({"to": "nothing"}, "Known: imagefolder"),
    ],
)
def test_what_cannot_be_converted_is_told(tmp_path, out, options, problem):
    put_split(out, "slide_id,fold\n1_a,0\n1_b,1\n1_c,test\n")
    with pytest.raises(UsageError, match=problem):
        qb.convert(out, tmp_path / "new", **({"to": "imagefolder"} | options))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_empty_or_belongs_to_the_run_is_refused(tmp_path, out):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").touch()
    with pytest.raises(OutputError, match="is not empty"):
        qb.convert(out, tmp_path / "new", "imagefolder")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine"]
    with pytest.raises(OutputError, match="inside the output"):
        qb.convert(out, out / "new", "imagefolder")


def test_patches_that_are_not_pictures_are_refused(tmp_path):
    slide = FakeSlide("a", patches=[Patch(pixels=np.zeros((32, 32, 2), np.uint16))])
    indexes.write_output(tmp_path / "out", [slide], "zarr", channels=["DAPI", "CD3"])
    with pytest.raises(UsageError, match="2 channels of uint16.*composite"):
        qb.convert(tmp_path / "out", tmp_path / "new", "imagefolder")


def test_a_run_in_which_nothing_has_a_label_is_refused(tmp_path):
    indexes.write_output(tmp_path / "out", [FakeSlide("a", patches=[Patch(label=None)])])
    with pytest.raises(UsageError, match="1 without a label"):
        qb.convert(tmp_path / "out", tmp_path / "new", "imagefolder")


def test_lists_of_labels_are_refused(tmp_path, monkeypatch):
    import pyarrow as pa

    output = indexes.write_output(tmp_path / "out", [FakeSlide("a")])
    table = output.table("1_a")
    for name in ("label", "rule_label"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array([["Tumor", "Stroma"]]))
    output.begin("1_a")
    output.commit("1_a", table)
    with pytest.raises(UsageError, match="lists of labels"):
        qb.convert(output, tmp_path / "new", "imagefolder")


def test_the_command_says_what_it_wrote(tmp_path, out, capsys):
    words = ["convert", str(out), "--to", "imagefolder", "--out"]
    assert main([*words, str(tmp_path / "new")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "left out: 1 patch without a label."
    assert shown[1].startswith("4 patches of 3 slides written to ")
    assert main([*words, str(tmp_path / "other"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["layout"] == "imagefolder" and value["left_out"] == {"without a label": 1}
    assert Path(value["folder"]) == tmp_path / "other"
