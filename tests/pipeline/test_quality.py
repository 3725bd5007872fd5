import numpy as np
import pytest

from qupath_bridge.pipeline.quality import find_outliers, summarise


def test_summary_has_the_percentiles_of_finite_values():
    values = np.random.default_rng(3).normal(5, 2, 401)
    found = summarise({"qc_focus": np.append(values, np.nan), "stain_kept_raw": values})
    ordered = np.sort(values)
    assert found == {
        "focus": {
            "p5": pytest.approx(ordered[20], abs=1e-6),
            "median": pytest.approx(ordered[200], abs=1e-6),
            "p95": pytest.approx(ordered[380], abs=1e-6),
            "patches": 401,
        }
    }
    assert summarise({"qc_focus": np.full(3, np.nan), "qc_pen": np.zeros(0)}) == {}


def cohort(**medians):
    return [(name, {"focus": {"median": value}}) for name, value in medians.items()]


def test_outliers_are_found_by_median_absolute_deviation():
    """Median 5, median absolute deviation 1: 3.5 robust deviations are 5.19."""
    medians = cohort(a=4.0, b=4.0, c=5.0, d=6.0, e=6.0, low=-0.3, high=10.0, far=20.0, i=5.0)
    found = find_outliers(medians)
    assert [(each.slide_id, each.measure) for each in found] == [("far", "focus"), ("low", "focus")]
    assert found[0].distance == pytest.approx(15 / 1.4826, abs=0.01)
    assert found[1].distance == pytest.approx(-5.3 / 1.4826, abs=0.01)
    assert (found[0].median, found[0].cohort) == (20, 5)


def test_outliers_need_a_cohort_and_a_real_difference():
    assert find_outliers(cohort(a=1.0, b=1.0, c=1.0, d=9.0)) == ()
    alike = cohort(a=1.0, b=1.0, c=1.0, d=1.0, e=1.1)
    assert find_outliers(alike) == ()
    assert [each.slide_id for each in find_outliers([*alike, *cohort(f=1.3)])] == ["f"]


def test_traces_of_what_other_slides_do_not_have_do_not_stand_out():
    """Pen on 1 % of a slide among slides without any; on 2 % it stands out."""
    medians = [cohort(**{f"s{n}": 0.0})[0] for n in range(9)]
    assert find_outliers([*medians, *cohort(trace=0.01)]) == ()
    (found,) = find_outliers([*medians, *cohort(inked=0.02)])
    assert found.slide_id == "inked"
