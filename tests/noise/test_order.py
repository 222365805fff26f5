"""Order of a data set: variance ratio, tests of randomness, shuffle buffers.

Each comment names the wrong implementation that the test catches.
"""

import itertools
import warnings

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.noise.order import (
    batch_variance_ratio,
    holm,
    is_ordered,
    label_variance_ratio,
    ljung_box_test,
    order_after,
    shuffle_buffer_order,
)
from downslope.noise.order.randomness import _autocorrelations

CLASSES = np.repeat(np.arange(10), 2000)


def clustered(rng, num, size, icc):
    """Items of batches that share a batch effect: intraclass correlation icc."""
    return (rng.normal(size=(num, 1)) * np.sqrt(icc)
            + rng.normal(size=(num, size)) * np.sqrt(1 - icc)).ravel()  # fmt: skip


# catches: n for n - 1 in either variance; the factor B left out. Skewed values on purpose
def test_ratio_in_random_order():
    found = [
        batch_variance_ratio(np.random.default_rng(s).exponential(size=1000), 10)
        for s in range(500)
    ]
    values = np.array([f.ratio.value for f in found])
    assert values.mean() == pytest.approx(1, abs=4 * values.std() / np.sqrt(500))
    assert values.std() == pytest.approx(np.sqrt(2 / 99), rel=0.15)
    assert 0.02 < np.mean([f.p_value < 0.05 for f in found]) < 0.09


# catches: exactly 1 over all permutations, which any slip in divisors breaks
def test_ratio_is_one_on_average_over_all_orders():
    x = np.array([1.0, 1, 4, 9, 2, 30])
    ratios = []
    for order in itertools.permutations(range(6)):
        y = x[list(order)].reshape(3, 2)
        ratios.append(2 * y.mean(1).var(ddof=1) / x.var(ddof=1))
    assert np.mean(ratios) == pytest.approx(1, rel=1e-12)
    big = np.tile(x, 10)
    y = big.reshape(-1, 3)
    direct = 3 * y.mean(1).var(ddof=1) / big.var(ddof=1)
    assert batch_variance_ratio(big, 3).ratio.value == pytest.approx(direct, rel=1e-12)


# catches: F other than 1 + (B - 1) rho; the interval's width
def test_ratio_of_correlated_batches():
    rng = np.random.default_rng(0)
    found = [batch_variance_ratio(clustered(rng, 100, 25, 0.1), 25).ratio for _ in range(300)]
    assert np.mean([f.value for f in found]) == pytest.approx(3.4, rel=0.05)
    assert np.mean([f.lo <= 3.4 <= f.hi for f in found]) == pytest.approx(0.95, abs=0.04)


# catches: class numbers taken as numbers (the middle class would look balanced)
def test_ratio_of_labels():
    assert label_variance_ratio(CLASSES, 50).ratio.value == pytest.approx(19999 / 399)
    names = np.array(list("bca"))[np.random.default_rng(1).integers(0, 3, 3000)]
    one_hot = (names[:, None] == np.array(list("abc"))).astype(float)
    assert label_variance_ratio(names, 30).ratio.value == pytest.approx(
        batch_variance_ratio(one_hot, 30).ratio.value, rel=1e-12
    )
    assert label_variance_ratio(names, 30).p_value == pytest.approx(
        batch_variance_ratio(one_hot, 30).p_value, rel=1e-6
    )
    balanced = np.tile(np.arange(10), 200)
    found = label_variance_ratio(balanced, 20)
    assert found.ratio.value == pytest.approx(0, abs=1e-12) and found.p_value < 1e-6


# catches: degrees of freedom of columns that go together counted as independent
def test_p_values_of_several_columns():
    rng, small = np.random.default_rng(2), []
    for _ in range(400):
        x = rng.normal(size=(500, 1)) @ np.ones((1, 3)) + 0.3 * rng.normal(size=(500, 3))
        small.append(batch_variance_ratio(x, 10).p_value < 0.05)
    assert 0.02 < np.mean(small) < 0.085


def of_random_order(kind, n, rng):
    """A column in random order, sparse, skewed or heavy-tailed."""
    if isinstance(kind, float):  # so many are not 0
        return rng.permutation(
            np.r_[np.zeros(n - round(kind * n)), rng.normal(3, 1, round(kind * n))]
        )
    return rng.lognormal(0, 2, n) if kind == "skewed" else rng.standard_t(2, n)


@pytest.mark.parametrize("kind", [0.2, 0.5, "skewed", "heavy"])
def test_autocorrelation_gives_few_false_alarms(kind):
    rng = np.random.default_rng(0)
    found = [ljung_box_test(of_random_order(kind, 1000, rng)).p_value for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) < 0.09


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.1])
def test_autocorrelation_of_nearly_equal_values_is_not_tested(share):
    column = of_random_order(share, 2000, np.random.default_rng(0))
    assert ljung_box_test(column).reason == "nearly all values are the same"
    assert ljung_box_test(column == 0).p_value is None
    # what such a column can still show, the variance between batches does
    found = is_ordered({"x": np.sort(column)}, 20)
    if share >= 0.05:
        assert found.ordered


# catches: circular correlation (no padding); lags off by one
def test_autocorrelations():
    x = np.random.default_rng(4).normal(size=300).cumsum()
    d = x - x.mean()
    direct = [d[:-k] @ d[k:] / (d @ d) for k in range(1, 31)]
    assert np.allclose(_autocorrelations(x, 30), direct, atol=1e-12)


# catches: a period in a long file drowned in n/10 lags; false alarms of the scan
def test_scan():
    found = ljung_box_test(np.tile(np.arange(37.0), 100))
    assert found.detail in {f"largest at lag {37 * k}" for k in range(1, 10)}
    assert found.p_value < 1e-10
    rng = np.random.default_rng(5)
    weak = rng.normal(size=20000)
    weak += 0.25 * np.tile(rng.normal(size=500), 40)
    assert ljung_box_test(weak).p_value < 1e-3
    echo = rng.normal(size=20000)
    echo[777:] += 0.06 * echo[:-777]  # one lag of 2,000: in their sum it drowns
    assert ljung_box_test(echo).detail == "largest at lag 777"
    assert ljung_box_test(echo).p_value < 1e-6
    small = [ljung_box_test(rng.exponential(size=1000)).p_value < 0.05 for _ in range(400)]
    assert np.mean(small) < 0.08


# catches: no running maximum; ties; more than 1
def test_holm():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


# catches: Holm left out (a third of random files called ordered)
def test_report_on_random_order():
    rng, told = np.random.default_rng(6), 0
    for _ in range(150):
        columns = {name: rng.normal(size=400) for name in "xyz"}
        told += bool(is_ordered(columns, 10, labels=rng.integers(0, 3, 400)).ordered)
    assert told / 150 < 0.1


def test_report_on_sorted_data():
    rng = np.random.default_rng(7)
    report = is_ordered({"loss": rng.normal(size=20000)}, 50, labels=CLASSES)
    assert report.ordered and report.worst == "labels"
    assert report.sentence.startswith("Row order inflates batch-gradient variance x50.1 (")
    assert "x1 if random" in report.sentence
    periodic = is_ordered({"x": np.tile([1.0, 2, 3, 4, 5], 200)}, 10)
    assert periodic.ordered and periodic.variance_ratios["x"].value < 0.01
    assert "does not inflate" in periodic.sentence
    few = is_ordered({"x": rng.normal(size=100)}, 50)
    assert few.variance_ratios["x"].value is None and "needs at least 20" in few.sentence


# catches: a buffer drained in order; a first row that can never stay
def test_buffer():
    order = shuffle_buffer_order(20000, 1000, seed=1)
    assert np.array_equal(np.sort(order), np.arange(20000))
    assert np.std(order - np.arange(20000)) == pytest.approx(1000, rel=0.07)
    rank = np.corrcoef(order, np.arange(20000))[0, 1]
    assert rank == pytest.approx(1 - 6 * 1000**2 / 20000**2, abs=0.004)
    assert np.array_equal(shuffle_buffer_order(50, 1), np.arange(50))
    assert order.argmin() < 12000 and not np.array_equal(order, shuffle_buffer_order(20000, 1000))
    full = np.array([shuffle_buffer_order(4, 9, seed) for seed in range(4000)])
    assert np.allclose((full[:, :, None] == np.arange(4)).mean(0), 0.25, atol=0.035)
    assert shuffle_buffer_order(0, 5).tolist() == []


# catches: values read by the inverse permutation
@pytest.mark.parametrize(("size", "ratio"), [(1, 50.1), (100, 50.0), (1000, 48.4), (5000, 29.7)])
def test_ratio_after_a_buffer(size, ratio):
    found = [order_after(CLASSES, shuffle_buffer_order(20000, size, s), 50).value for s in range(3)]
    assert np.mean(found) == pytest.approx(ratio, rel=0.06)
    if size == 1000:
        x = np.random.default_rng(0).normal(size=2000)
        assert order_after(x, np.argsort(x), 50).value > 45


@pytest.mark.parametrize("x", [np.zeros(100), np.full(100, np.nan), np.zeros(0), [1.0],
                               np.r_[np.inf, np.ones(99)]])  # fmt: skip
def test_degenerate(x):
    x = np.asarray(x, float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = is_ordered({"x": x}, 4, labels=np.zeros(len(x), int))
        assert report.ordered is None and report.variance_ratios["x"].value is None
        assert "cannot be judged" in report.sentence
        assert batch_variance_ratio(np.arange(100.0), 1).ratio.value is None
        assert batch_variance_ratio(np.arange(79.0), 4).ratio.value is None


def test_wrong_use():
    for wrong in (lambda: is_ordered({"x": [1.0], "y": [1.0, 2.0]}, 2), lambda: is_ordered({}, 2),
                  lambda: is_ordered({"labels": [1.0]}, 2, labels=[1]),
                  lambda: order_after([1.0, 2], [0, 0], 2),
                  lambda: batch_variance_ratio(np.ones(9), 0),
                  lambda: shuffle_buffer_order(5, 0), lambda: holm([2.0])):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
