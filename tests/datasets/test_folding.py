"""Units into folds: by scikit-learn, by the exact solver, and one by one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.datasets.balance import Shares, cost, fill, placing_order, relative
from qupath_bridge.datasets.folding import plain_folds
from qupath_bridge.datasets.site_folds import best_folds
from qupath_bridge.errors import UsageError

NAMES = [f"P{n:02}" for n in range(24)]
GOLDEN_PLAIN = [1, 1, 2, 0, 2, 0, 1, 0, 2, 0]


def weights_of(seed, units, classes):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 200, (units, 1)) * rng.integers(0, 5, (units, classes)) + 1


def loads_of(weights, parts, count):
    return np.array([weights[[p == part for p in parts]].sum(axis=0) for part in range(count)])


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("test", [None, 0.1, 0.2, 0.15, 1 / 3])
def test_shares_are_those_asked_for_and_fill_the_whole(folds, test):
    shares = Shares.of(folds, test)
    assert sum(shares.parts) == shares.whole
    found = [Fraction(part, shares.whole) for part in shares.parts]
    if test is not None:
        assert float(found.pop(0)) == pytest.approx(test)
    assert len(set(found)) == 1 and len(found) == folds


def test_weights_are_thousandths_of_each_class():
    found = relative(np.array([[1, 0], [3, 500], [4, 1500]]), 1000)
    assert found.tolist() == [[125, 0], [375, 250], [500, 750]]


# --- by scikit-learn -----------------------------------------------------------------------------


def test_folds_of_groups_are_those_of_scikit_learn():
    """The samples of each group one by one, given to scikit-learn by hand."""
    from sklearn.model_selection import StratifiedGroupKFold

    weights = weights_of(1, 12, 3)
    order = placing_order(NAMES[:12], weights, 0)
    labels, groups = [], []
    for place, unit in enumerate(order):
        for label, number in enumerate(weights[unit]):
            labels += [label] * number
            groups += [place] * number
    expected = [0] * 12
    for fold, (_, test) in enumerate(StratifiedGroupKFold(4).split(labels, labels, groups)):
        for sample in test:
            expected[order[groups[sample]]] = fold
    found = plain_folds(NAMES[:12], weights, Shares.of(4, None), test=False, seed=0)
    assert found == expected


def test_folds_do_not_depend_on_the_order_of_groups():
    weights, shares = weights_of(2, 24, 2), Shares.of(5, 0.2)
    found = dict(zip(NAMES, plain_folds(NAMES, weights, shares, test=True, seed=3), strict=True))
    turned = np.random.default_rng(0).permutation(24)
    names = [NAMES[at] for at in turned]
    again = plain_folds(names, weights[turned], shares, test=True, seed=3)
    assert dict(zip(names, again, strict=True)) == found


def test_folds_are_the_same_on_every_machine():
    """What was found on Linux, with x86; equal groups are told apart by their names alone."""
    weights = np.array([[10, 5]] * 6 + [[3, 9]] * 4)
    found = plain_folds(NAMES[:10], weights, Shares.of(3, None), test=False, seed=0)
    assert found == GOLDEN_PLAIN
    assert plain_folds(NAMES[:10], weights, Shares.of(3, None), test=False, seed=1) != found


def test_groups_without_stratification_are_balanced_by_size():
    weights = np.array([[900], [500], [400], [300], [300], [300]])
    parts = plain_folds(NAMES[:6], weights, Shares.of(3, None), test=False, seed=0)
    assert loads_of(weights, parts, 3).ravel().tolist() == [900, 900, 900]


@pytest.mark.parametrize("test", [0.1, 0.2, 0.3])
def test_the_test_set_has_about_the_share_asked_for(test):
    weights = weights_of(4, 24, 2)
    parts = plain_folds(NAMES, weights, Shares.of(4, test), test=True, seed=0)
    share = loads_of(weights, parts, 5)[0] / weights.sum(axis=0)
    assert share == pytest.approx(test, abs=0.05)
    assert set(parts) == {0, 1, 2, 3, 4}


def test_too_few_samples_are_refused_with_the_numbers():
    with pytest.raises(UsageError, match=r"for 3 folds: the largest has 2"):
        plain_folds(NAMES[:4], np.eye(4, dtype=int)[:, :2] + np.eye(4, dtype=int)[:, 2:],
                    Shares.of(3, None), test=False, seed=0)  # fmt: skip


def test_a_test_set_that_leaves_too_few_groups_is_refused_with_the_numbers():
    with pytest.raises(UsageError, match=r"takes \d of 5 groups, and leaves \d for 4 folds"):
        plain_folds(NAMES[:5], np.full((5, 1), 10), Shares.of(4, 0.5), test=True, seed=0)


# --- the best balance ----------------------------------------------------------------------------


def all_assignments(units, parts, *, test):
    """Yield every way to put units into parts that leaves none empty, folds opened in order."""
    for found in itertools.product(range(parts), repeat=units):
        folds = [part for part in found if not test or part > 0]
        opened = list(dict.fromkeys(folds))
        if set(found) == set(range(parts)) and opened == sorted(opened):
            yield list(found)


@pytest.mark.parametrize("test", [None, 0.25])
@pytest.mark.parametrize("seed", range(4))
def test_sites_have_the_first_of_the_best_solutions(seed, test):
    """Every assignment tried by hand: the least cost, and of equal ones the first."""
    weights = relative(weights_of(seed, 7, 2), 1000)
    if seed == 3:  # many equal ones
        weights = np.full((7, 1), 143)
    shares = Shares.of(2 if test else 3, test)
    order = [3, 0, 5, 1, 6, 2, 4]
    ordered, totals = weights[order], weights.sum(axis=0)
    tried = all_assignments(7, 3, test=test is not None)
    best = min(tried, key=lambda parts: (cost(loads_of(ordered, parts, 3), totals, shares), parts))
    found = best_folds(weights, shares, order, test=test is not None)
    assert [found[unit] for unit in order] == best


def test_the_best_balance_is_better_than_the_greedy_one():
    """Nine sites of very different size: the case for which the solver is there."""
    rng = np.random.default_rng(5)
    weights = relative(
        np.rint(rng.lognormal(4, 1.2, (9, 1)) * rng.dirichlet([1, 1], 9)).astype(int)
    )
    shares, order = Shares.of(3, None), placing_order(NAMES[:9], weights, 0)
    totals = weights.sum(axis=0)
    best = best_folds(weights, shares, order, test=False)
    greedy = plain_folds(NAMES[:9], weights, shares, test=False, seed=0)
    costs = [cost(loads_of(weights, parts, 3), totals, shares) for parts in (best, greedy)]
    assert costs[0] < costs[1]


def test_no_fold_is_empty_however_uneven_sites_are():
    """Sites with less than half a thousandth of the patches weigh nothing."""
    weights = np.array([[1000], [0], [0], [0]])
    assert best_folds(weights, Shares.of(3, None), range(4), test=False) == [0, 0, 1, 2]


def test_very_many_sites_are_left_to_the_greedy_way():
    assert best_folds(np.ones((41, 1), int), Shares.of(2, None), range(41), test=False) is None


# --- one by one ----------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(3, 12))
def test_filling_is_not_improved_by_any_move_or_swap(seed, units):
    weights, shares = weights_of(seed, units, 2), Shares.of(3, None)
    parts = fill(weights, shares, range(units))
    totals = weights.sum(axis=0)
    least = cost(loads_of(weights, parts, 3), totals, shares)
    for unit, part in itertools.product(range(units), range(3)):
        moved = [*parts[:unit], part, *parts[unit + 1 :]]
        assert cost(loads_of(weights, moved, 3), totals, shares) >= least
    for one, other in itertools.combinations(range(units), 2):
        swapped = parts.copy()
        swapped[one], swapped[other] = parts[other], parts[one]
        assert cost(loads_of(weights, swapped, 3), totals, shares) >= least


def test_thousands_of_small_units_are_balanced():
    """Each is less than a thousandth of its class."""
    weights, shares = weights_of(1, 3000, 2), Shares.of(4, 0.2)
    parts = fill(relative(weights), shares, range(3000))
    loads = loads_of(weights, parts, 5) / weights.sum(axis=0)
    assert loads == pytest.approx(np.full((5, 2), 0.2), abs=0.002)


def test_new_units_go_where_least_is():
    loads = np.array([[100], [20], [90]])
    assert fill(np.array([[60], [10]]), Shares.of(3, None), [0, 1], loads) == [1, 1]


def test_the_seed_shuffles_units_of_about_the_same_size():
    weights = np.array([[1000], [90], [80], [70], [100]])
    orders = {tuple(placing_order(NAMES[:5], weights, seed)) for seed in range(20)}
    assert len(orders) > 3
    assert {order[0] for order in orders} == {0}
