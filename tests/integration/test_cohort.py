"""A cohort as hospitals send it: a folder of slides and a table, exported and looked at."""

import itertools

import numpy as np
import pytest

import qupath_bridge as qb
from tests.support.cohort import CASTS, REAL, write_cohort, write_hospitals
from tests.support.pages import Parsed

pytestmark = pytest.mark.slow


def test_slides_of_several_hospitals_and_a_table_become_one_labelled_run(tmp_path):
    table = write_cohort(tmp_path)
    config = qb.ExportConfig(
        size=256, mpp=1.0, pixel_size=0.5, format="jpeg", label_from="metadata:diagnosis",
        tissue="otsu", qc=("standard",),
    )  # fmt: skip
    run = qb.export(
        tmp_path / "slides", tmp_path / "out", config, metadata=table, metadata_key="slide"
    )
    assert run.failures == ()
    assert set(run.label_counts()) == {"skin", "head and neck", "unknown"}
    with open(qb.report(run), encoding="utf-8") as file:  # noqa: PTH123  # it can be a URL
        page = Parsed(file.read())
    assert len(page.of_class("base")) == len(REAL) + len(CASTS)
    assert page.text.count("Tissue mask") == len(REAL) + len(CASTS)
    assert page.all("section", id_="quality")
    assert "not drawn" not in page.text
    for hospital in CASTS:
        assert f"hospital {hospital}" in page.text


def test_the_hospitals_have_colours_of_their_own(tmp_path):
    means = {}
    for name, path in write_hospitals(tmp_path, side=512).items():
        with qb.open_reader(path) as reader:
            pixels, _ = reader.read(qb.Box(0, 0, *reader.size), (64, 64))
        means[name] = pixels.reshape(-1, 3).mean(axis=0)
    for one, other in itertools.combinations(means.values(), 2):
        assert np.abs(one - other).max() > 8
