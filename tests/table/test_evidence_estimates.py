"""The estimates behind the evidence, and the linear models that it compares with."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LinearRegression, LogisticRegression

from downslope.data.stored import TableBatch
from downslope.estimate import Estimate
from downslope.models import Lookup
from downslope.table.evidence.context import Budget, Skipped
from downslope.table.evidence.intervals import mean_of, mean_of_pairs, root_of, share_of
from downslope.table.evidence.linear import Columns, least_squares, logistic
from downslope.table.evidence.predictions import _bins, _p_value


@pytest.mark.parametrize("rows", [0.0, 1.0], ids=["rows alike", "rows differ"])
@pytest.mark.parametrize("others", [0.0, 1.0], ids=["partners alike", "partners differ"])
def test_intervals_of_pairs_cover(rows, others):
    """Catches an error of rows alone, one of partners alone, and cells taken as independent."""
    rng, n, draws, hits, widths = np.random.default_rng(0), 40, 4, 0, []
    for _ in range(400):
        a, b = rows * rng.normal(size=n), others * rng.normal(size=n)
        partners = np.stack([rng.permutation(n) for _ in range(draws)])
        cells = 7 + a + b[partners] + 0.3 * rng.normal(size=(draws, n))
        found = mean_of_pairs(cells, partners, np.ones(n))
        hits += found.lo <= 7 <= found.hi
        widths.append(found.hi - found.lo)
    assert 0.92 <= hits / 400 <= 0.985
    truth = np.sqrt((rows + others) / n + 0.09 / (n * draws))
    assert np.median(widths) == pytest.approx(2 * 2.02 * truth, rel=0.25)


def test_weights_of_pairs():
    """Catches weights left out. Truth: a row of weight 2 counts as often as two rows."""
    rng = np.random.default_rng(0)
    cells, weight = rng.normal(size=(3, 50)), rng.integers(0, 3, 50).astype(float)
    partners = np.stack([rng.permutation(50) for _ in range(3)])
    cells[:, weight == 0] = np.nan  # no row
    found = mean_of_pairs(cells, partners, weight)
    counted = weight > 0
    repeated = np.repeat(cells.mean(0)[counted], weight[counted].astype(int))
    assert found.value == pytest.approx(repeated.mean())
    with pytest.raises(Skipped, match="not finite"):
        mean_of_pairs(cells, partners, np.ones(50))


def test_shares_and_roots():
    """Catches another interval for a share. Oracle: SciPy."""
    hits = np.arange(57) < 51
    found = share_of(hits, np.ones(57))
    oracle = binomtest(51, 57).proportion_ci(method="wilson")
    assert (found.lo, found.hi) == pytest.approx((oracle.low, oracle.high))
    half = share_of(hits, np.repeat([1.0, 0.0], [30, 27]))  # rows of weight 0 are no rows
    assert half.lo == pytest.approx(binomtest(30, 30).proportion_ci(method="wilson").low)
    root = root_of(Estimate(value=4.0, lo=3.8, hi=4.2, unit=""))
    assert [root.value, root.lo, root.hi] == pytest.approx([2.0, 1.9506, 2.0506], abs=1e-4)
    assert root_of(Estimate(value=0.0, unit="")).value == 0.0
    assert mean_of(np.array([1.0, 5.0]), np.array([3.0, 1.0]), low=0.0).value == 2.0
    with pytest.raises(Skipped):
        mean_of(np.array([1.0, np.inf]), None)


def test_bins_of_a_calibrated_model_cover():
    """Catches observed and predicted exchanged, and a bin's interval from all rows."""
    rng, inside, total = np.random.default_rng(0), 0, 0
    for _ in range(60):
        p = rng.beta(0.5, 0.5, size=2000)
        for each in _bins(p, rng.random(2000) < p, np.ones(2000)):
            inside += each["lo"] <= each["predicted"] <= each["hi"]
            total += 1
            assert each["count"] == 200
    assert total == 600
    assert 0.92 <= inside / total <= 0.98


def test_bins_of_few_probabilities():
    """Catches a bin without rows, and equal probabilities that are parted."""
    p = np.repeat([0.2, 0.9], [900, 100])
    bins = _bins(p, p > 0.5, np.ones(1000))
    assert [(b["count"], b["observed"]) for b in bins] == [(900, 0.0), (100, 1.0)]
    (one,) = _bins(np.full(20, 0.5), np.arange(20) < 5, np.ones(20))
    assert one["observed"] == 0.25


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_against_scikit_learn(classes):
    """Catches a penalty of another size, and weights left out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)).astype(np.float32)
    scores = x @ rng.normal(size=(5, classes)) + rng.gumbel(size=(800, classes))
    y, weight = scores.argmax(1), rng.exponential(size=800)
    weight /= weight.mean()
    slopes, shifts, in_time = logistic(x, y.astype(float), weight, classes)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
    if classes > 2:
        oracle.fit(x, y, sample_weight=weight)
        np.testing.assert_allclose(slopes.T, oracle.coef_, atol=5e-3)
    p = np.exp(x @ slopes + shifts)
    p /= p.sum(1, keepdims=True)
    oracle.fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(p, oracle.predict_proba(x), atol=0.02 if classes == 2 else 3e-3)
    assert in_time


def test_least_squares_against_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype(np.float32)
    x[:, 3] = x[:, 0]  # a column said twice
    y, weight = x @ [1.0, 2, 3, 0] + 5 + rng.normal(size=500), rng.exponential(size=500)
    slopes, shift, in_time = least_squares(x, y, weight)
    oracle = LinearRegression().fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(x @ slopes + shift, oracle.predict(x), atol=1e-3)
    assert in_time


def test_out_of_time():
    """Catches a fit that goes on after its time, and one that does not say so."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 300)).astype(np.float32)
    x *= np.logspace(0, 3, 300, dtype=np.float32)
    y = (x[:, 0] + rng.normal(size=2000) > 0).astype(float)
    begin = time.perf_counter()
    assert not logistic(x, y, np.ones(2000), 2, seconds=0.0)[2]
    assert not least_squares(x, y, np.ones(2000), seconds=0.0)[2]
    assert time.perf_counter() - begin < 5


def test_columns_of_codes():
    """Catches a word counted once, a code that training lacked, and padding that counts."""
    lookups = (Lookup("kind", 5, 0, 1), Lookup("text", 9, 1, 3))
    batch = TableBatch(
        np.array([[0.5], [1.5]], np.float32), np.array([[1, 7, 7, 0], [3, 2, 0, 0]]), None, None
    )
    columns = Columns(batch, lookups)
    assert columns.width == 5  # the number, kinds 1 and 3, words 2 and 7
    assert columns(batch).toarray().tolist() == [[0.5, 1, 0, 0, 2], [1.5, 0, 1, 1, 0]]
    other = TableBatch(np.zeros((1, 1), np.float32), np.array([[4, 8, 2, 1]]), None, None)
    assert columns(other).toarray().tolist() == [[0, 0, 0, 1, 0]]
    none = TableBatch(np.zeros((2, 1), np.float32), np.zeros((2, 4), int), None, None)
    assert Columns(none, lookups)(batch).toarray().tolist() == [[0.5], [1.5]]


def test_too_many_words():
    codes = np.arange(1, 6001).reshape(-1, 3)
    batch = TableBatch(np.zeros((2000, 1), np.float32), codes, None, None)
    with pytest.raises(Skipped, match="6,001 columns"):
        Columns(batch, (Lookup("text", 7000, 0, 3),))


def test_a_budget_runs_out():
    budget = Budget(0.02)
    with budget.free():
        time.sleep(0.05)
    assert budget.left > 0
    time.sleep(0.05)
    assert budget.left < 0


def test_all_bins_at_once_tell_whether_probabilities_hold() -> None:
    """Catches a test of the worst bin alone, which one table in three would fail by chance."""
    rng = np.random.default_rng(0)
    found = []
    for bend in (1.0, 0.6):  # predictions that hold, and ones that are too sure of themselves
        tests = []
        for _ in range(200):
            z = rng.normal(size=1000)
            hits = rng.random(1000) < 1 / (1 + np.exp(-bend * z))
            tests.append(_p_value(_bins(1 / (1 + np.exp(-z)), hits, np.ones(1000))))
        found.append(np.mean(np.array(tests) < 0.01))
    assert found[0] <= 0.03 and found[1] > 0.7
