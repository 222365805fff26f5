"""The order of the file, the scale of the inputs, and how they go together."""

from __future__ import annotations

import numpy as np
import pytest

from downslope import UsageError
from downslope.check import Sample, Stretch, file_order, input_condition, input_scale

N = 20_000


def stretch(y, is_class=True, **columns):
    return Stretch(rows="all rows", target=np.asarray(y), columns=columns, is_class=is_class)


def ratios(found):
    return {name: told.value for name, told in found.values["variance_ratios"]["all rows"].items()}


def sample(x, **more):
    names = [f"c{j}" for j in range(x.shape[1])]
    return Sample(
        x=x.astype(np.float32), names=names, y=np.zeros(len(x)), target="y", num_rows=len(x), **more
    )


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


# --- order ---------------------------------------------------------------------------------


def test_a_file_sorted_by_class_has_batches_as_different_as_can_be():
    """Ten classes, n = 20,000, B = 50: F = B (n - 1)/(B (m - 1)) = 50.12."""
    found = file_order([stretch(np.repeat(np.arange(10), N // 10))], 50, target="y")
    assert found.severity == "note"
    assert ratios(found)["target y"] == pytest.approx(50.12, abs=0.01)
    assert "50.1" in found.sentence and "harmless here" in found.remedy


def test_runs_of_equal_rows_give_one_plus_b_minus_one_rho():
    """Runs of 4 equal values in batches of 40: rho = 3/39, F = 4."""
    rng = np.random.default_rng(0)
    found = file_order([stretch(np.repeat(rng.normal(size=N // 4), 4), False)], 40, target="y")
    told = found.values["variance_ratios"]["all rows"]["target y"]
    assert told.lo < 4 < told.hi and found.severity == "note"


def test_a_random_order_is_fine():
    rng = np.random.default_rng(0)
    columns = {f"c{j}": rng.normal(size=N) for j in range(16)}
    worst = [
        file_order([stretch(rng.integers(0, 3, N), **columns)], size, target="y").severity
        for size in (2, 50, 1000)
    ]
    assert worst == ["fine"] * 3


def test_an_order_too_weak_to_matter_is_fine():
    """Runs of 2 equal values in half of the rows of batches of 40: F is near 1.25."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=N)
    y[: N // 2] = np.repeat(rng.normal(size=N // 4), 2)
    found = file_order([stretch(rng.permutation(y), False)], 40, target="y")
    assert found.severity == "fine"
    pairs = np.repeat(rng.normal(size=(N // 4, 1)), 2, axis=1)
    y = np.concatenate([pairs, rng.normal(size=(N // 4, 2))], axis=1).ravel()
    found = file_order([stretch(y, False)], 40, target="y")
    assert ratios(found)["target y"] == pytest.approx(1.5, abs=0.2)


def test_few_batches_by_chance_apart_are_fine():
    """20 batches of few rows reach F = 1.5 by chance; of many such tables hardly any is noted."""
    notes = 0
    for seed in range(40):
        y = np.random.default_rng(seed).normal(size=100)
        notes += file_order([stretch(y, False)], 5, target="y").severity == "note"
    assert notes <= 2


def test_a_sorted_column_is_found_while_the_target_is_not():
    rng = np.random.default_rng(0)
    day = np.sort(rng.normal(size=N))
    found = file_order([stretch(rng.normal(size=N), False, day=day)], 50, target="y")
    assert found.severity == "note" and "by 'day'" in found.sentence
    assert found.sentence.count("50.") >= 1  # the worst, not the gradient's
    assert ratios(found)["target y"] == pytest.approx(1, abs=0.2)


def test_the_gradient_of_a_sorted_file():
    """Gradient (t, t x) with x independent of the sorted t: (F_t + 1)/2 for one column."""
    rng = np.random.default_rng(0)
    t = np.repeat([0.0, 1.0], N // 2)
    found = file_order([stretch(t, False, x=rng.normal(size=N))], 50, target="y")
    whole = ratios(found)["the gradient of a linear model"]
    assert whole == pytest.approx((50.1 + 1) / 2, rel=0.05)


def test_the_worst_stretch_is_told():
    rng = np.random.default_rng(0)
    first = Stretch(rows="the first", target=np.zeros(N), columns={}, is_class=True)
    whole = Stretch(
        rows="held out", target=np.sort(rng.integers(0, 2, N)), columns={}, is_class=True
    )
    found = file_order([first, whole], 50, target="y")
    assert found.severity == "note" and found.rows == "held out"


@pytest.mark.parametrize("n", [0, 1, 39])
def test_too_few_rows_have_no_order(n):
    found = file_order([stretch(np.zeros(n))], 128, target="y")
    assert found.severity == "fine" and "cannot be judged" in found.sentence


def test_batches_are_smaller_where_rows_are_few():
    found = file_order([stretch(np.repeat([0, 1], 100))], 128, target="y")
    assert found.values["batch_size"] == 10 and found.severity == "note"


def test_order_needs_a_batch_and_columns_of_one_length():
    with pytest.raises(UsageError, match="batch_size"):
        file_order([stretch(np.zeros(100))], 0, target="y")
    with pytest.raises(UsageError, match="columns must have 100 rows"):
        file_order([stretch(np.zeros(100), x=np.zeros(99))], 2, target="y")


# --- scale ---------------------------------------------------------------------------------


def test_raw_scales_apart_are_a_note_and_near_ones_are_fine():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    zero = np.zeros(2)
    far = input_scale(sample(x, means=zero, scales=np.array([1e-3, 5e3])))
    assert far.severity == "note" and far.values["raw_scale_ratio"] == pytest.approx(5e6)
    assert input_scale(sample(x, means=zero, scales=np.array([1.0, 90.0]))).severity == "fine"
    assert input_scale(sample(x)).severity == "fine"


def test_scales_beyond_doubles_stay_plain_numbers():
    x = np.random.default_rng(0).normal(size=(100, 2))
    found = input_scale(sample(x, means=np.zeros(2), scales=np.array([1e-300, 1e300])))
    assert "over 1e308" in found.sentence and found.values["raw_scale_ratio"] is None


def test_outliers_that_squeeze_a_column():
    x = np.random.default_rng(0).normal(size=(10_000, 2))
    x[5, 1] = 1e6
    found = input_scale(sample(standardised(x)))
    assert found.severity == "warning" and list(found.values["squeezed"]) == ["c1"]
    # one row holds all the variance: z = sqrt(n - 1)
    assert found.values["largest_z"]["c1"] == pytest.approx(np.sqrt(9999), rel=1e-3)


def test_a_rare_flag_is_far_out_but_squeezes_nothing():
    x = np.random.default_rng(0).normal(size=(10_000, 2))
    x[:, 1] = 0
    x[3, 1] = 1
    found = input_scale(sample(standardised(x)))
    assert found.severity == "note" and not found.values["squeezed"]


# --- condition -----------------------------------------------------------------------------


def test_two_columns_of_known_correlation():
    """Eigenvalues 1 + r and 1 - r: condition number (1 + r)/(1 - r), rate below 2/(1 + r)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20_000))
    x = np.stack([a, 0.98 * a + np.sqrt(1 - 0.98**2) * b], axis=1)
    found = input_condition(sample(x * [100, 1]))
    told = found.values["condition_number"]
    assert told.lo < 1.98 / 0.02 < told.hi and found.severity == "fine"
    assert found.values["largest_learning_rate"] == pytest.approx(2 / 1.98, rel=0.01)
    assert "by 1;" in found.sentence


def test_ill_conditioned_inputs_and_columns_that_others_determine():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3))
    x[:, 2] = x[:, 0] + 0.01 * x[:, 2]
    assert input_condition(sample(x)).severity == "note"
    x[:, 2] = x[:, 0] - x[:, 1]
    found = input_condition(sample(x))
    assert found.values["rank"] == 2 and "rank 2 of 3" in found.sentence
    assert not found.values["condition_number"].is_measured
    assert {*found.values["dependent"][0]} == {"c0", "c1", "c2"}


def test_columns_that_others_determine_are_named():
    """Catches columns named that stand apart, and a group for one of two dependences only."""
    x = np.random.default_rng(0).normal(size=(5000, 7))
    x[:, 2] = 5.0  # constant: the places of the others do not move
    x[:, 4] = 3 * x[:, 0] - x[:, 1]
    x[:, 6] = 2 - x[:, 5]
    found = input_condition(sample(x))
    groups = found.values["dependent"]
    assert sorted(map(sorted, groups)) == [["c0", "c1", "c4"], ["c5", "c6"]]
    assert f"{groups[0][0]!r} by " in found.sentence and "'c3'" not in found.sentence


def test_constant_columns_and_few_rows_do_not_upset_it():
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[:, 1] = 7
    assert input_condition(sample(x)).values["num_numbers"] == 2
    assert "cannot be judged" in input_condition(sample(np.zeros((50, 3)))).sentence
    assert "cannot be judged" in input_condition(sample(x[:2])).sentence
    assert "cannot be judged" in input_condition(sample(np.zeros((0, 0)))).sentence


def test_many_columns_have_a_number_without_an_interval():
    x = np.random.default_rng(0).normal(size=(2000, 150))
    told = input_condition(sample(x)).values["condition_number"]
    # Marchenko and Pastur: ((1 + s)/(1 - s))^2 with s = sqrt(150/2000)
    s = np.sqrt(150 / 2000)
    assert told.value == pytest.approx(((1 + s) / (1 - s)) ** 2, rel=0.1)
    assert told.lo is None and "no interval" in told.flags[0]
