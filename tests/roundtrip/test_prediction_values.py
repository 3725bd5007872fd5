"""Softmax, rank and hard patches, against SciPy, scikit-learn and numbers worked out by hand."""

import numpy as np
import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.roundtrip.prediction_values import (
    by_group,
    hardest,
    probabilities,
    rank,
    softmax,
    uncertainty,
)

VALUES = np.random.default_rng(5).normal(0, 300, 40).round(-2)  # large, and many are equal


def test_softmax_is_that_of_scipy_also_for_large_numbers():
    from scipy.special import softmax as scipy_softmax

    np.testing.assert_allclose(softmax(VALUES), scipy_softmax(VALUES), rtol=1e-12)
    with_gap = softmax(np.array([1.0, np.nan, 2.0]))
    np.testing.assert_allclose(with_gap[[0, 2]], scipy_softmax([1.0, 2.0]))
    assert np.isnan(with_gap[1])
    assert np.isnan(softmax(np.array([np.nan]))).all()


def test_rank_is_that_of_scipy_between_0_and_1():
    from scipy.stats import rankdata

    np.testing.assert_allclose(rank(VALUES), (rankdata(VALUES) - 1) / 39)
    assert rank(np.array([7.0])).tolist() == [1.0]
    assert rank(np.array([])).tolist() == []


def test_each_group_is_by_itself_and_rows_without_one_stay_empty():
    groups = np.array([1, 0, -1, 1, 0])
    found = by_group(softmax, np.array([0.0, 5.0, 9.0, 0.0, 5.0]), groups)
    assert found.tolist()[:2] + found.tolist()[3:] == [0.5, 0.5, 0.5, 0.5]
    assert np.isnan(found[2])
    assert by_group(softmax, np.array([]), np.array([], np.int64)).tolist() == []


def test_entropy_and_margin():
    from scipy.stats import entropy

    values = np.random.default_rng(1).dirichlet(np.ones(4), 20)
    np.testing.assert_allclose(uncertainty(values, "entropy"), entropy(values, base=4, axis=1))
    ordered = [sorted(row) for row in values.tolist()]
    by_hand = [1 - (row[3] - row[2]) for row in ordered]
    np.testing.assert_allclose(uncertainty(values, "margin"), by_hand)


@pytest.mark.parametrize(
    "rows", [[[0.5, 0.4]], [[1.5, -0.5]], [[-3.0, 4.0]], [[np.nan, np.nan]], [[2.0]]]
)
def test_what_is_no_probability_is_refused(rows):
    with pytest.raises(UsageError, match="class probabilities"):
        probabilities(np.array(rows))


def test_one_column_is_one_class_against_all_others():
    assert probabilities(np.array([[0.25], [np.nan]])).tolist()[0] == [0.25, 0.75]


def test_the_hardest_come_first_and_equal_ones_in_order():
    scores = np.array([0.5, np.nan, 0.9, 0.5, 0.5])
    assert hardest(scores, 3, np.array([9, 1, 8, 2, 4])) == [2, 3, 4]
    assert hardest(scores, 99, np.array([9, 1, 8, 2, 4])) == [2, 3, 4, 0]
