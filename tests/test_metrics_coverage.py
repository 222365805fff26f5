"""Do 95 % intervals hold the truth in 95 % of repeated samples? By simulation, truths known.

2,000 repetitions have a standard error of 0.5 %: 93 to 97 % is four of them either side.
Each comment names the wrong implementation that the test catches.
"""

import math

import numpy as np
import pytest

from downslope.metrics import ClassificationMetrics, MeanLoss, RegressionMetrics, auc

REPEATS = 2000


def covered(name, truth, samples):
    """Share of intervals that hold the truth; `samples` yields filled accumulators."""
    hits = []
    for accumulator in samples:
        estimate = accumulator.result()[name]
        hits.append(estimate.lo is not None and estimate.lo <= truth <= estimate.hi)
    return np.mean(hits)


def filled(make, *columns):
    for row in zip(*columns, strict=True):
        accumulator = make()
        accumulator.add(*row)
        yield accumulator


# catches: sd in place of sd / sqrt(n); a normal quantile for ten rows (covers 92 %)
@pytest.mark.parametrize("num", [10, 200])
def test_mean_loss(num):
    x = np.random.default_rng(10).normal(3, 2, (REPEATS, num))
    assert 0.93 < covered("loss", 3, filled(MeanLoss, x)) < 0.97


# catches: s^2 / n_effective, which is too small where heavy rows also vary more
def test_mean_loss_with_weights_that_go_with_it():
    rng = np.random.default_rng(11)
    rare = rng.random((REPEATS, 400)) < 0.2
    x, w = rng.normal(np.where(rare, 2, 0), np.where(rare, 3, 0.5)), np.where(rare, 4.0, 1.0)
    assert 0.93 < covered("loss", 1.0, filled(MeanLoss, x, w)) < 0.97


# catches: the Wald interval (covers 92 % at n = 50, p = 0.95)
@pytest.mark.parametrize(("num", "share"), [(50, 0.95), (300, 0.7)])
def test_accuracy(num, share):
    rng = np.random.default_rng(12)
    targets = rng.integers(0, 2, (REPEATS, num))
    scores = np.where(rng.random((REPEATS, num)) < share, 1, -1) * (2 * targets - 1)
    accuracy = covered("accuracy", share, svm(np.zeros((REPEATS, num)), targets, scores))
    assert 0.93 < accuracy < 0.97


def svm(losses, targets, scores, weights=None):
    for i in range(len(losses)):
        metrics = ClassificationMetrics(2, probabilities=False)
        weight = None if weights is None else weights[i]
        metrics.add(losses[i], None, targets[i], weight, scores=scores[i])
        yield metrics


# catches: the effective sample size of the weights alone, with balanced class weights (covers 90 %)
@pytest.mark.slow
def test_accuracy_with_class_weights(few_bins):
    rng = np.random.default_rng(13)
    targets = (rng.random((REPEATS, 800)) < 0.1).astype(int)
    hit = rng.random(targets.shape) < np.where(targets == 1, 0.6, 0.95)
    weights = np.where(targets == 1, 5.0, 1 / 1.8)
    scores = np.where(hit, 1, -1) * (2 * targets - 1)
    samples = svm(np.zeros(targets.shape), targets, scores, weights)
    assert 0.93 < covered("accuracy", 0.775, samples) < 0.97


@pytest.fixture(autouse=True)
def few_bins(monkeypatch):
    """Thousands of accumulators: 2**14 bins each, fine enough for hundreds of rows."""
    monkeypatch.setattr(auc, "BINARY_BITS", 14)


# catches: an interval symmetric about the area (covers 88 % at the third); one group's variance
# only; a variance divided by the rows of both groups
@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_pos", "num_neg", "shift"), [(60, 60, 1), (20, 200, 1), (50, 50, 2.7)]
)
def test_auc_of_two_classes(num_pos, num_neg, shift):
    rng = np.random.default_rng(14)
    targets = np.repeat([1, 0], [num_pos, num_neg])
    scores = rng.normal(shift * targets, 1, (REPEATS, len(targets)))
    truth = 0.5 * (1 + math.erf(shift / 2))
    targets = np.broadcast_to(targets, scores.shape)
    share = covered("auc", truth, svm(np.zeros(scores.shape), targets, scores))
    assert 0.93 < share < 0.97


# catches: weights left out of DeLong's variance
@pytest.mark.slow
def test_auc_with_weights():
    rng = np.random.default_rng(15)
    targets = np.broadcast_to(np.repeat([1, 0], [100, 150]), (REPEATS, 250))
    scores, weights = rng.normal(targets, 1), rng.exponential(size=targets.shape)
    truth = 0.5 * (1 + math.erf(0.5))
    share = covered("auc", truth, svm(np.zeros(scores.shape), targets, scores, weights))
    assert 0.93 < share < 0.97


# catches: standard errors added as if the classes were independent (covers less than 95 %)
@pytest.mark.slow
def test_macro_average_covers_at_least_what_it_says():
    rng = np.random.default_rng(16)
    repeats, num, mean = 1000, 150, 0.5
    targets = rng.integers(0, 3, (repeats, num))
    # a row's quality decides the score of every class alike: the three areas rise and fall together
    quality = rng.normal(mean, 1, (repeats, num))
    truth = 0.5 * (1 + math.erf(mean))  # P(q > -q')
    hits = []
    for i in range(repeats):
        metrics = ClassificationMetrics(3, probabilities=False)
        own = targets[i][:, None] == np.arange(3)
        metrics.add(
            np.zeros(num), None, targets[i], scores=np.where(own, 1, -1) * quality[i, :, None]
        )
        estimate = metrics.result()["auc"]
        hits.append(estimate.lo <= truth <= estimate.hi)
    assert np.mean(hits) > 0.94


# catches: se of the mean square not divided by 2 rmse; the cross moments left out of r2's
@pytest.mark.parametrize("weighted", [False, True])
def test_regression(weighted):
    rng = np.random.default_rng(17)
    x, noise = rng.normal(size=(2, REPEATS, 300))
    y = x + 0.5 * noise + 1000
    w = rng.uniform(0.5, 1.5, y.shape) if weighted else np.ones_like(y)
    columns = ((0.5 * noise) ** 2, x + 1000, y, w)
    results = [m.result() for m in filled(lambda: RegressionMetrics("m"), *columns)]
    truths = {
        "loss": 0.25, "rmse": 0.5, "mae": 0.5 * math.sqrt(2 / math.pi), "r2": 1 - 0.25 / 1.25
    }  # fmt: skip
    for name, truth in truths.items():
        share = np.mean([r[name].lo <= truth <= r[name].hi for r in results])
        assert 0.93 < share < 0.97, name
