"""Datasets for PyTorch: the items are the patches that the run has, in every worker."""

import io
import multiprocessing
import pickle

import numpy as np
import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from tests.support import indexes
from tests.support.indexes import FakeSlide, Patch, noise

torch = pytest.importorskip("torch", reason="torch is not installed")

CONFIG = qb.ExportConfig(size=100, min_share=0.4)
SLIDES = [
    FakeSlide("a", {"patient": "P1", "grade": "low"}, [Patch(0), Patch(40, label="Stroma")]),
    FakeSlide("b", {"patient": "P2", "grade": "high"}, [Patch(0), Patch(40, label=None)]),
    FakeSlide("c", {"patient": "P2", "grade": "high"}, [Patch(0, label="Stroma")]),
]


def items_of(dataset, **options):
    """Return the items that a loader gives, as arrays (H, W, C) and numbers."""
    loader = torch.utils.data.DataLoader(dataset, batch_size=7, **options)
    return [
        (image.permute(1, 2, 0).numpy(), int(target))
        for images, targets in loader
        for image, target in zip(images, targets, strict=True)
    ]


def pictures(run):
    """Return pixels and label of each patch of a run, by its id."""
    output = run.open()
    found = {}
    for row in run.table().to_pylist():
        data = output.read(qb.Location(row["path"], row["offset"], row["length"]))
        found[row["patch_id"]] = (np.asarray(Image.open(io.BytesIO(data))), row["label"])
    return found


# --- patches of a run ----------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["folder", "tar", "h5", "zarr", "parquet"])
def test_items_are_the_patches_of_the_run_in_its_order(tmp_path, container):
    indexes.write_output(tmp_path / "out", SLIDES, container)
    dataset = qb.torch.PatchDataset(tmp_path / "out")
    assert dataset.classes == ("Stroma", "Tumor") and len(dataset) == 5
    expected = [("a 0", 1), ("a 1", 0), ("b 0", 1), ("b 1", -1), ("c 0", 0)]
    for (pixels, target), (seed, number) in zip(items_of(dataset), expected, strict=True):
        assert pixels.dtype == np.uint8 and (pixels == noise(seed)).all() and target == number
    assert dataset.targets == [number for _, number in expected]
    assert (dataset[-1][0] == dataset[4][0]).all()
    for number in (5, -6):
        with pytest.raises(IndexError, match="5 patches"):
            dataset[number]


def test_folds_have_the_classes_of_the_whole_run(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES)
    text = "patch_id,fold\n1_a_x0_y0,0\n1_a_x40_y0,1\n1_b_x0_y0,1\n1_b_x40_y0,\n1_c_x0_y0,test\n"
    open_output(str(tmp_path / "out")).put("splits/own.csv", text.encode())

    def ids(fold):
        dataset = qb.torch.PatchDataset(tmp_path / "out", split="own", fold=fold)
        assert dataset.classes == ("Stroma", "Tumor")
        return dataset.rows["patch_id"].to_pylist()

    assert ids("0") == ["1_a_x0_y0"]
    assert ids(["1", "test"]) == ["1_a_x40_y0", "1_b_x0_y0", "1_c_x0_y0"]
    with pytest.raises(UsageError, match="has no fold '2'.*It has 0, 1, test"):
        ids(["0", "2"])
    for options in ({"split": "own"}, {"fold": "0"}):
        with pytest.raises(UsageError, match="was named, but no"):
            qb.torch.PatchDataset(tmp_path / "out", **options)


def test_transform_and_classes(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES)
    dataset = qb.torch.PatchDataset(
        tmp_path / "out", transform=lambda t: t.float() / 255, classes=["Tumor", "Stroma", "x"]
    )
    image, target = dataset[0]
    assert image.dtype == torch.float32 and image.max() <= 1 and target == 0
    with pytest.raises(UsageError, match="'Stroma' is not among the classes Tumor"):
        qb.torch.PatchDataset(tmp_path / "out", classes=["Tumor"])[1]
    with pytest.raises(UsageError, match="twice"):
        qb.torch.PatchDataset(tmp_path / "out", classes=["Tumor", "Tumor"])


def test_lists_of_labels_are_tensors(study, tmp_path):
    run = qb.export(study.project, tmp_path / "out", CONFIG.replace(rule="any", min_share=0.1),
                    provenance=False, workers=1)  # fmt: skip
    dataset = qb.torch.PatchDataset(run)
    labels = run.table()["label"].to_pylist()
    assert max(map(len, labels)) > 1
    for number, names in enumerate(labels[:10]):
        target = dataset[number][1]
        assert [name for name, on in zip(dataset.classes, target, strict=True) if on] == sorted(
            names
        )


@pytest.mark.parametrize("container", ["folder", "h5", "parquet"])
def test_masks_are_those_of_the_run(study, tmp_path, container):
    config = CONFIG.replace(masks="both")
    run = qb.export(study.project, tmp_path / "out", config, provenance=False, workers=1)
    other = qb.export(study.project, tmp_path / "other", config.replace(container=container),
                      provenance=False, workers=1)  # fmt: skip
    rows = {row["patch_id"]: row for row in run.table().to_pylist()}
    for kind, column in (("class", "mask"), ("instance", "mask_instance")):
        dataset = qb.torch.PatchDataset(other, masks=kind)
        seen = set()
        for (image, mask), name in zip(dataset, dataset.rows["patch_id"].to_pylist(), strict=True):
            with Image.open(tmp_path / "out" / rows[name][column]) as picture:
                assert (mask.numpy() == np.asarray(picture)).all()
            assert mask.dtype == torch.int64 and mask.shape == image.shape[1:]
            seen |= set(mask.unique().tolist())
        assert len(seen) > 1
    both = qb.torch.PatchDataset(run, masks="class", transform=lambda image, mask: (mask, image))
    assert both[0][0].shape == (100, 100) and both[0][1].shape == (3, 100, 100)


def test_a_patch_or_mask_that_was_changed_is_refused(study, tmp_path):
    config = CONFIG.replace(masks="class")
    run = qb.export(study.project, tmp_path / "out", config, provenance=False, workers=1)
    first, other = run.table().slice(0, 2).to_pylist()
    dataset = qb.torch.PatchDataset(run, masks="class")
    for row, name, number, what in ((first, "path", 0, "patch"), (other, "mask", 1, "mask of")):
        assert len(dataset[number]) == 2
        file = tmp_path / "out" / row[name]
        Image.effect_noise((row["width"], row["height"]), 9).save(file)  # a picture of that size
        with pytest.raises(OutputError, match=f"The {what} .* cannot be read: its bytes are not"):
            dataset[number]


def test_masks_that_a_run_lacks_are_refused(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES)
    with pytest.raises(UsageError, match="has no class masks.*masks: class"):
        qb.torch.PatchDataset(tmp_path / "out", masks="class")
    with pytest.raises(UsageError, match="Use class or instance"):
        qb.torch.PatchDataset(tmp_path / "out", masks="semantic")


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_one_process_reads(study, tmp_path, method):
    """From files and from slides, which the parent has open already."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    plans = qb.plan(study.project, CONFIG)
    run = qb.export(plans, tmp_path / "out", provenance=False, workers=1)
    expected = pictures(run)
    for dataset in (qb.torch.PatchDataset(run), qb.torch.SlideDataset(plans, open_slides=1)):
        alone = items_of(dataset)
        found = items_of(dataset, num_workers=2, multiprocessing_context=method)
        assert len(alone) == len(found) == len(expected) > 10
        for (pixels, target), (one, number), (want, label) in zip(
            found, alone, expected.values(), strict=True
        ):
            assert (pixels == want).all() and (one == want).all()
            assert dataset.classes[target] == dataset.classes[number] == label


# --- slides --------------------------------------------------------------------------------------


def test_a_batch_in_any_order_has_the_patches_of_the_export(study, tmp_path):
    plans = qb.plan(study.project, CONFIG)
    dataset = qb.torch.SlideDataset(plans)
    expected = pictures(qb.export(plans, tmp_path / "out", provenance=False, workers=1))
    numbers = np.random.default_rng(0).permutation(len(dataset)).tolist()
    assert len(numbers) == len(expected)
    for number, (image, target) in zip(numbers, dataset.__getitems__(numbers), strict=True):
        pixels, label = expected[dataset.patch_id(number)]
        assert (image.permute(1, 2, 0).numpy() == pixels).all()
        assert dataset.classes[target] == label
    assert dataset.targets == [dataset.classes.index(label) for _, label in expected.values()]


def test_patches_of_their_own_sizes(study, tmp_path):
    plans = qb.plan(study.project, qb.ExportConfig(per_region="picture"))
    dataset = qb.torch.SlideDataset(plans)
    expected = pictures(qb.export(plans, tmp_path / "out", provenance=False, workers=1))
    items = dataset.__getitems__(range(len(dataset)))
    assert len({tuple(image.shape) for image, _ in items}) > 1
    for number, (image, _) in enumerate(items):
        pixels, _ = expected[dataset.patch_id(number)]
        assert (image.permute(1, 2, 0).numpy() == pixels).all()


def test_a_copy_has_no_open_slides_and_one_plan_will_do(study):
    (plan, *_) = qb.plan(study.project, CONFIG)
    dataset = qb.torch.SlideDataset(plan)
    image, _ = dataset[3]
    assert len(dataset._handles) == 1
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy._handles) == 0 and (copy[3][0] == image).all()


def test_plans_that_a_dataset_cannot_hold_are_refused(study):
    plans = qb.plan(study.project, CONFIG.replace(qc_min={"focus": 0.1}))
    with pytest.raises(UsageError, match="drops patches by quality"):
        qb.torch.SlideDataset(plans)
    (plan, *_) = qb.plan(study.project, CONFIG)
    (other, *_) = qb.plan(study.project, CONFIG.replace(rule="any"))
    with pytest.raises(UsageError, match="are lists"):
        qb.torch.SlideDataset([plan, other])
    with pytest.raises(UsageError, match="one slide id"):
        qb.torch.SlideDataset([plan, plan])


# --- bags ----------------------------------------------------------------------------------------


@pytest.fixture
def bags(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES)
    (tmp_path / "uni").mkdir()
    for name, values in (("a", [[1, 2], [3, 4]]), ("b", [[5, 6], [7, 8]]), ("c", [[9, 10]])):
        np.save(tmp_path / "uni" / f"1_{name}.npy", np.array(values, np.float32))
    return tmp_path / "out", tmp_path / "uni"


def test_bags_of_patients_have_all_their_slides(bags):
    dataset = qb.torch.BagDataset(*bags, target="grade", by="patient")
    assert (dataset.bags, dataset.classes, dataset.targets) == (
        ("P1", "P2"), ("high", "low"), [1, 0],
    )  # fmt: skip
    assert [(bag.tolist(), target) for bag, target in dataset] == [
        ([[1, 2], [3, 4]], 1), ([[5, 6], [7, 8], [9, 10]], 0),
    ]  # fmt: skip
    assert dataset.patch_ids[1] == ("1_b_x0_y0", "1_b_x40_y0", "1_c_x0_y0")
    alone = qb.torch.BagDataset(*bags, target="grade")
    assert alone.bags == ("1_a", "1_b", "1_c") and alone[2][0].dtype == torch.float32


def test_bags_in_folds(bags):
    text = "slide_id,fold\n1_a,0\n1_b,1\n1_c,0\n"
    open_output(str(bags[0])).put("splits/own.csv", text.encode())
    dataset = qb.torch.BagDataset(*bags, target="grade", split="own", fold="0")
    assert dataset.bags == ("1_a", "1_c") and dataset.classes == ("high", "low")
    with pytest.raises(UsageError, match="patient 'P2' is in several folds: 1_b is in another"):
        qb.torch.BagDataset(*bags, target="grade", by="patient", split="own", fold="0")


def test_bags_with_several_targets_are_refused(bags):
    with pytest.raises(UsageError, match="The slides of patient 'P2' have the targets b, c"):
        qb.torch.BagDataset(*bags, target="slide_name", by="patient")
