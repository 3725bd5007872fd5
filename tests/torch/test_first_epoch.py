"""The notebook from a project to the first epoch: short, it runs, and what it says is true."""

import csv
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qupath_bridge as qb
from tests.support.notebooks import execute, outputs, read, sources

pytest.importorskip("torch", reason="torch is not installed")
linear_model = pytest.importorskip("sklearn.linear_model", reason="sklearn is not installed")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "first-epoch.ipynb"
LINES, WIDTH = 15, 100

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it ran beside copies of what it needs, and the folder of its files."""
    folder = tmp_path_factory.mktemp("epoch")
    slides = Path("tests", "data", "slides")
    shutil.copytree(ROOT / slides, folder / slides)
    shutil.copytree(ROOT / "examples" / "mil", folder / "examples" / "mil")
    notebook = execute(NOTEBOOK, folder / "examples", seconds=300)
    return notebook, folder / "examples" / "epoch"


@pytest.fixture(scope="module")
def printed(executed):
    """Loss, share of right answers, and share of the class ``Plain``, as the notebook says."""
    notebook, _ = executed
    (told,) = outputs(notebook, "print(")
    found = re.fullmatch(r"loss ([\d.e-]+): right ([\d.]+), Plain ([\d.]+)\n", told.text)
    return tuple(map(float, found.groups()))


@pytest.fixture(scope="module")
def folds(executed):
    """The rows of the index by their fold, from the table of the split."""
    _, work = executed
    with (work / "run" / "splits" / "folds.csv").open(encoding="utf-8") as file:
        places = {row["slide_id"]: row["fold"] for row in csv.DictReader(file)}
    found = defaultdict(list)
    for row in qb.read_index(work / "run").to_pylist():
        found[places[row["slide_id"]]].append(row)
    return found


def test_the_code_is_short():
    lines = [line for text in sources(read(NOTEBOOK), "code") for line in text.splitlines()]
    code = [line for line in lines if line.strip()]
    assert len(code) <= LINES
    assert all(len(line) <= WIDTH and ";" not in line for line in code)


def test_its_links_lead_somewhere():
    texts = "".join(sources(read(NOTEBOOK), "markdown"))
    links = re.findall(r"\]\(([^)]+)\)", texts)
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links)


def test_it_learns_more_than_the_most_frequent_class(printed):
    loss, right, plain = printed
    assert 0 < loss < 0.6
    assert right > plain + 0.1


def test_the_share_to_beat_is_that_of_the_most_frequent_class(printed, folds):
    labels = Counter(row["label"] for row in folds["1"])
    (label, most), _ = labels.most_common()
    assert label == "Plain"
    assert printed[2] == pytest.approx(most / labels.total(), abs=6e-4)


def test_no_patient_is_in_both_folds(executed, folds):
    _, work = executed
    with (work / "study" / "patients.csv").open(encoding="utf-8") as file:
        patients = {f"{row['slide']}.tif": row["patient"] for row in csv.DictReader(file)}
    seen, held_out = ({patients[row["slide_name"]] for row in folds[fold]} for fold in "01")
    assert len(seen) == len(held_out) == 22
    assert not seen & held_out


def test_the_mean_colour_says_as_much(executed, printed, folds):
    """The notebook says so, lest somebody thinks that the network is good at tissue."""
    _, work = executed

    def colours(rows):
        pictures = (np.asarray(Image.open(work / "run" / row["path"])) for row in rows)
        return np.array([picture.mean(axis=(0, 1)) for picture in pictures])

    seen, held_out = folds["0"], folds["1"]
    model = linear_model.LogisticRegression(max_iter=2000)
    model.fit(colours(seen), [row["label"] for row in seen])
    share = model.score(colours(held_out), [row["label"] for row in held_out])
    assert share == pytest.approx(printed[1], abs=0.03)
