"""Held-out metrics against scikit-learn and SciPy, at the edges, and block by block.

Each test's comment names the wrong implementation that it catches.
"""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from downslope.errors import UsageError
from downslope.metrics import ClassificationMetrics, MeanLoss, RegressionMetrics
from downslope.metrics.auc import probability_keys, score_keys
from downslope.metrics.intervals import wilson_interval

NAMES = ["loss", "accuracy", "log_loss", "auc"]


def classes(num_classes, num=3000, seed=0, grid=None):
    """Targets, probabilities, losses and weights of a middling classifier."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, num)
    logits = rng.normal(size=(num, num_classes))
    logits[np.arange(num), targets] += 1
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    if grid:  # few distinct values, exact in a bin's leading bits: many ties between the classes
        p = np.floor(p * grid) / grid
        p[:, 0] = 1 - p[:, 1:].sum(axis=1)
    return targets, p, rng.exponential(size=num), rng.exponential(size=num)


def in_blocks(accumulator, arrays, size=700, **named):
    for start in range(0, len(arrays[0]), size):
        part = slice(start, start + size)
        rest = {name: value[part] for name, value in named.items()}
        accumulator.add(*[None if a is None else a[part] for a in arrays], **rest)
    return accumulator.result()


# catches: weights ignored or squared; the last block dropped; log of the wrong column; macro
# average weighted by class size; positive class 0 instead of 1
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classification_equals_scikit_learn(num_classes, weighted, dtype):
    y, p, losses, w = classes(num_classes)
    w = w if weighted else None
    p = p.astype(dtype)
    got = in_blocks(ClassificationMetrics(num_classes), (losses, p, y, w))
    assert got["loss"].value == pytest.approx(np.average(losses, weights=w), rel=1e-12)
    truth = oracle.accuracy_score(y, p.argmax(axis=1), sample_weight=w)
    assert got["accuracy"].value == pytest.approx(truth, rel=1e-12)
    truth = -np.average(np.log(p[np.arange(len(y)), y].astype(float)), weights=w)
    assert got["log_loss"].value == pytest.approx(truth, rel=1e-6)
    if dtype == np.float64:
        truth = oracle.log_loss(y, p, sample_weight=w)
        assert got["log_loss"].value == pytest.approx(truth, rel=1e-12)
    score = p[:, 1] if num_classes == 2 else p / p.sum(axis=1, keepdims=True, dtype=float)
    truth = oracle.roc_auc_score(y, score, sample_weight=w, multi_class="ovr", average="macro")
    assert got["auc"].value == pytest.approx(truth, abs=3e-5 if num_classes == 2 else 3e-4)
    assert list(got) == NAMES and not got.reasons
    assert all(e.num_examples == len(y) and e.lo < e.value < e.hi for e in got.values())


# catches: [n] and [n, 1] read as class 0, or [n, 2] by its first column
def test_two_classes_take_one_column_or_two():
    y, p, losses, _ = classes(2)
    a, b, c = (in_blocks(ClassificationMetrics(2), (losses, q, y)) for q in (p, p[:, 1], p[:, 1:]))
    for name in NAMES:
        assert a[name].value == pytest.approx(b[name].value, rel=1e-12)
        assert c[name] == b[name]


# catches: ties between the classes counted as won or lost; true ties called binning error
@pytest.mark.parametrize("num_classes", [2, 4])
def test_ties_count_one_half_and_are_exact(num_classes):
    y, p, losses, w = classes(num_classes, grid=16)
    auc = in_blocks(ClassificationMetrics(num_classes), (losses, p, y, w))["auc"]
    truth = oracle.roc_auc_score(y, p[:, 1] if num_classes == 2 else p, sample_weight=w,
                                 multi_class="ovr")  # fmt: skip
    assert auc.value == pytest.approx(truth, rel=1e-12)
    assert not auc.flags


# catches: keys that compare the bits of negative floats upside down, split -0.0 from 0.0, flush
# denormals, or overflow for doubles beyond float32; probabilities near 1 lumped together
def test_keys_keep_the_order():
    tiny = 1.401298464324817e-45
    ordered = [-1e300, -3.4e38, -1.5, -1.0, -1e-38, -tiny, 0.0, tiny, 1e-38, 1.0, 1.5, 3.4e38]
    assert (np.diff(score_keys(np.array(ordered)).astype(np.int64)) > 0).all()
    assert score_keys(np.array([-0.0]))[0] == score_keys(np.array([0.0]))[0]
    p = np.array([0, tiny, 1e-30, 0.1, 0.4999, 0.5, 0.5001, 0.9, 1 - 2**-23, 1 - 2**-24, 1.0])
    for dtype in (np.float32, np.float64):
        keys = probability_keys(p.astype(dtype)).astype(np.int64)
        assert (np.diff(keys) > 0).all() and keys[0] >= 0 and keys[-1] < 2**31
    assert (probability_keys(np.array([-0.0, -5e-7])) == 0).all()  # 1 - p may round below zero


# catches: a sort of the keys that differs from a sort of the floats anywhere
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2))
def test_keys_agree_with_comparison(values):
    x = np.array(values, np.float32)
    k = score_keys(x).astype(np.int64)
    assert (np.sign(k[:, None] - k) == np.sign(x[:, None].astype(float) - x)).all()


# catches: a saturated model, all at 0 and 1, given a wrong area or a needless binning error
def test_extreme_scores_rank_exactly():
    y = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    p = np.array([0.0, 1e-41, 1.0, 1.0, 0.0, -0.0, 1e-40, 1 - 2**-24], np.float32)
    got = in_blocks(ClassificationMetrics(2), (np.ones(8), p, y))
    assert got["auc"].value == pytest.approx(oracle.roc_auc_score(y, p), rel=1e-12)
    assert not got["auc"].flags
    # rows 2, 4 and 5 give the true class a probability of 0, and it must not be infinite
    assert "in 3 rows" in got["log_loss"].flags[0]
    truth = 3 * -math.log(np.finfo(np.float32).eps) / 8
    assert got["log_loss"].value == pytest.approx(truth, rel=1e-6)


# catches: an interval that leaves out the binning error (value off by 0.01 and not said so)
def test_binning_error_is_bounded_and_inside_the_interval():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200_000)
    scores = (64 + 0.2 * rng.random(len(y)) + 0.1 * y).astype(np.float32)  # about ten bins of 1/32
    metrics = ClassificationMetrics(2, probabilities=False)
    auc = in_blocks(metrics, (np.ones(len(y)), None, y), 50_000, scores=scores)["auc"]
    truth = oracle.roc_auc_score(y, scores)
    bound = float(auc.flags[-1].rsplit(" ", 1)[1])
    assert 0.005 < bound < 0.05
    assert auc.lo < auc.value - bound < truth < auc.value + bound < auc.hi
    close = in_blocks(
        ClassificationMetrics(2, probabilities=False), (np.ones(len(y)), None, y),
        scores=scores / 100 + 1000,
    )  # fmt: skip
    assert "auc" not in close and "too close together" in close.reasons["auc"]


def placements(scores, positive):
    """Area, standard error and Welch's degrees of freedom from all pairs of rows."""
    x, y = scores[positive], scores[~positive]
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    a, b = wins.mean(1).var(ddof=1) / len(x), wins.mean(0).var(ddof=1) / len(y)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    return wins.mean(), math.sqrt(a + b), freedom


# catches: DeLong's variance with the groups swapped, without ddof=1, or from ties counted wrongly;
# for more classes the largest degrees of freedom, or errors not averaged
@pytest.mark.parametrize("sizes", [(70, 40), (50, 30, 5)])
def test_area_interval_is_delongs(sizes):
    rng = np.random.default_rng(2)
    num_classes = len(sizes)
    y = np.repeat(np.arange(num_classes), sizes)
    scores = np.round((rng.normal(size=(len(y), num_classes)) + np.eye(num_classes)[y]) * 8) / 8
    if num_classes == 2:
        scores = scores[:, 1]
        areas = np.array([placements(scores, y == 1)])
    else:
        areas = np.array([placements(scores[:, k], y == k) for k in range(num_classes)])
    area, error, freedom = areas[:, 0].mean(), areas[:, 1].mean(), areas[:, 2].min()
    reach = stats.t.ppf(0.975, freedom) * error / (area * (1 - area))
    ends = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + s * reach))) for s in (-1, 1)]
    metrics = ClassificationMetrics(num_classes, probabilities=False)
    metrics.add(np.ones(len(y)), None, y, scores=scores)
    auc = metrics.result()["auc"]
    assert (auc.value, auc.lo, auc.hi) == pytest.approx((area, *ends), rel=1e-4)


# catches: two scores that share a bin, one in each block, taken for a tie
def test_blocks_see_scores_that_differ_inside_a_bin():
    whole, parts = ClassificationMetrics(2), ClassificationMetrics(2)
    p, y = (
        np.array([0.25, 0.25 + 2**-20] + [0.1] * 20 + [0.9] * 20),
        np.repeat([0, 1, 0, 1], [1, 1, 20, 20]),
    )
    whole.add(np.ones(42), p, y)
    parts.add(np.ones(1), p[:1], y[:1])
    parts.add(np.ones(41), p[1:], y[1:])
    assert_same(parts.result(), whole.result())
    assert "histogram may move it" in whole.result()["auc"].flags[-1]


# catches: an SVM ranked by its thresholded class, or classified at 0.5 instead of 0
@pytest.mark.parametrize("num_classes", [2, 3])
def test_scores_without_probabilities(num_classes):
    y, p, losses, w = classes(num_classes)
    margins = np.log(p) if num_classes > 2 else np.log(p[:, 1] / p[:, 0])
    metrics = ClassificationMetrics(num_classes, probabilities=False)
    got = in_blocks(metrics, (losses, None, y, w), scores=margins)
    truth = oracle.accuracy_score(y, p.argmax(axis=1), sample_weight=w)
    assert got["accuracy"].value == pytest.approx(truth, rel=1e-12)
    if num_classes == 2:
        columns = ClassificationMetrics(2, probabilities=False)
        assert in_blocks(columns, (losses, None, y, w), scores=np.log(p))["auc"].value == (
            pytest.approx(got["auc"].value, rel=1e-12)
        )
        truth = oracle.roc_auc_score(y, margins, sample_weight=w)
        assert got["auc"].value == pytest.approx(truth, abs=1e-4)
    assert got.reasons == {"log_loss": "the model gives scores, not probabilities"}


# catches: weights ignored in one of the sums; r2 about the unweighted mean; offsets losing digits
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_regression_equals_scikit_learn(weighted, offset):
    rng = np.random.default_rng(3)
    y = rng.normal(size=3000) + offset
    p = y + rng.normal(0.1, 0.5, size=3000)
    w = rng.exponential(size=3000) if weighted else None
    got = in_blocks(RegressionMetrics("km"), ((y - p) ** 2, p, y, w))
    mse = oracle.mean_squared_error(y, p, sample_weight=w)
    assert got["loss"].value == pytest.approx(mse, rel=1e-12)
    assert got["rmse"].value == pytest.approx(math.sqrt(mse), rel=1e-12)
    truth = oracle.mean_absolute_error(y, p, sample_weight=w)
    assert got["mae"].value == pytest.approx(truth, rel=1e-12)
    assert got["r2"].value == pytest.approx(oracle.r2_score(y, p, sample_weight=w), rel=1e-9)
    assert [e.unit for e in got.values()] == ["", "km", "km", "share of variance"]
    assert all(e.lo < e.value < e.hi for e in got.values())


# catches: the standard error of a plain variance over n where weights are given; no ddof
def test_mean_loss_interval_is_students():
    x = np.random.default_rng(4).exponential(size=12)
    accumulator = MeanLoss()
    accumulator.add(x)
    got = accumulator.result()["loss"]
    truth = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    assert (got.lo, got.hi) == pytest.approx(truth, rel=1e-5)
    assert got.num_examples == 12


# catches: the spread taken about the mean under the squared weights; s^2 / n_effective
def test_weighted_mean_loss_interval_is_linearised():
    rng = np.random.default_rng(6)
    x, w = rng.exponential(size=40), rng.exponential(size=40)
    x += w  # heavy rows have large losses
    n = w.sum() ** 2 / (w**2).sum()
    mean = np.average(x, weights=w)
    error = math.sqrt((w**2 * (x - mean) ** 2).sum() * n / (n - 1)) / w.sum()
    reach = stats.t.ppf(0.975, n - 1) * error
    got = in_blocks(MeanLoss(), (x, w), 7)["loss"]
    assert (got.lo, got.hi) == pytest.approx((mean - reach, mean + reach), rel=1e-5)


# catches: weights of an unweighted block forgotten when the first weighted one arrives
def test_weighted_blocks_may_follow_unweighted_ones():
    y, p, losses, w = classes(2, num=200)
    w[:100] = 1
    mixed, whole = ClassificationMetrics(2), ClassificationMetrics(2)
    mixed.add(losses[:100], p[:100], y[:100])
    mixed.add(losses[100:], p[100:], y[100:], w[100:])
    whole.add(losses, p, y, w)
    assert_same(mixed.result(), whole.result())


# catches: the Wald interval in place of Wilson's
def test_wilson_against_scipy():
    for k, n in ((0, 10), (10, 10), (97, 100), (1, 2), (500, 1000)):
        truth = stats.binomtest(k, n).proportion_ci(method="wilson")
        got = wilson_interval(k / n, n)
        assert got == pytest.approx((truth.low, truth.high), rel=1e-9, abs=1e-15)


# catches: intervals that shrink when all weights are multiplied (weights read as counts); rows of
# weight zero counted, or their NaN spoiling the rest
def test_only_ratios_of_weights_matter():
    y, p, losses, w = classes(3, num=400)
    plain = in_blocks(ClassificationMetrics(3), (losses, p, y))
    scaled = in_blocks(ClassificationMetrics(3), (losses, p, y, np.full(400, 7.3)))
    for name in NAMES:
        for field in ("value", "lo", "hi"):
            a, b = getattr(plain[name], field), getattr(scaled[name], field)
            assert a == pytest.approx(b, rel=1e-9), name
    w[::4] = 0
    p[::4], losses[::4] = np.nan, np.nan
    got = in_blocks(ClassificationMetrics(3), (losses, p, y, w))
    assert not got.reasons and got["loss"].num_examples == got["auc"].num_examples == 300


def assert_same(a, b):
    assert a.reasons == b.reasons and list(a) == list(b)
    for name in a:
        x, y = a[name], b[name]
        assert (x.num_examples, x.unit, x.method) == (y.num_examples, y.unit, y.method)
        assert x.value == pytest.approx(y.value, rel=1e-12, abs=1e-12)
        assert x.flags == y.flags
        assert (x.lo is None) == (y.lo is None)
        if x.lo is not None:
            assert (x.lo, x.hi) == pytest.approx((y.lo, y.hi), rel=1e-9, abs=1e-12)


ROWS = st.lists(
    st.tuples(
        st.integers(-64, 64).map(lambda i: i / 16),  # loss, score, prediction
        st.integers(0, 2),  # class, target
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),  # weight
        st.sampled_from([0.0, 0.01, 0.25, 0.25 + 2**-22, 0.5, 0.999, 1.0, math.nan]),  # probability
    ),
    max_size=24,
)


# catches: cross terms forgotten where blocks are joined; unweighted joined to weighted; the origin
# of the targets moved by the second block; ties found in one block only; an empty block
@settings(max_examples=15, deadline=None)
@given(ROWS, st.integers(0, 24), st.booleans(), st.booleans())
def test_two_blocks_equal_one(rows, cut, first_weighted, with_nan):
    table = np.array(rows, float).reshape(-1, 4)
    x, y, w, p = table.T
    if not with_nan:
        p = np.nan_to_num(p, nan=0.5)
    if not first_weighted:  # the first half is added without weights
        w = np.where(np.arange(len(w)) < cut, 1.0, w)
    two = (y > 0).astype(int)
    makers = [
        (MeanLoss, lambda s: (x[s],), {}),
        (lambda: RegressionMetrics("m"), lambda s: (x[s], x[s] * p[s], y[s] * 3 + 100), {}),
        (lambda: ClassificationMetrics(2), lambda s: (x[s], p[s], two[s]), {}),
        (lambda: ClassificationMetrics(3, probabilities=False),
         lambda s: (x[s], None, y[s].astype(int)),
         {"scores": np.stack([x, p, y - x], axis=1)}),
    ]  # fmt: skip
    for make, columns, extra in makers:
        whole, parts = make(), make()
        for part, target in (
            (slice(None), whole),
            (slice(0, cut), parts),
            (slice(cut, None), parts),
        ):
            ones = part == slice(0, cut) and not first_weighted
            named = {k: v[part] for k, v in extra.items()}
            target.add(*columns(part), None if ones else w[part], **named)
        assert_same(parts.result(), whole.result())


# catches: large offsets losing all digits in a difference of raw second moments
def test_blocks_keep_digits_at_a_large_offset():
    x = np.random.default_rng(5).normal(size=10_000) + 1e9
    got = in_blocks(MeanLoss(), (x,), 10)["loss"]
    assert (got.hi - got.lo) / 2 == pytest.approx(1.9602 * stats.sem(x), rel=1e-4)


# catches: an area of 0.5 or NaN in place of "not estimable"; a sklearn-like exception
@pytest.mark.parametrize("only", [0, 1])
def test_one_class_present_has_no_area(only):
    metrics = ClassificationMetrics(2)
    metrics.add(np.ones(5), np.linspace(0, 1, 5), np.full(5, only))
    got = metrics.result()
    assert "auc" not in got and f"only class {only} is present" in got.reasons["auc"]
    assert set(got) == {"loss", "accuracy", "log_loss"}
    metrics.add(np.ones(1), [0.5], [1 - only])
    assert metrics.result()["auc"].value == 0.5 and metrics.result()["auc"].lo is None


# catches: absent classes counted as an area of 0 in the average
def test_macro_average_leaves_absent_classes_out():
    y, p, losses, _ = classes(4)
    keep = y < 3
    y, p, losses = y[keep], p[keep], losses[keep]
    auc = in_blocks(ClassificationMetrics(4), (losses, p, y))["auc"]
    truth = np.mean([oracle.roc_auc_score(y == k, p[:, k]) for k in range(3)])
    assert auc.value == pytest.approx(truth, abs=3e-4)
    assert "1 of 4 classes" in auc.flags[0]
    one = ClassificationMetrics(4)
    one.add([1.0, 2.0], [[0.1, 0.2, 0.3, 0.4]] * 2, [2, 2])
    assert "only class 2 is present" in one.result().reasons["auc"]


# catches: a certain-looking interval [1, 1] for perfect separation, [0, 0] for a zero hinge loss
def test_no_spread_gives_no_interval():
    metrics = ClassificationMetrics(2, probabilities=False)
    metrics.add(np.full(6, 0.1), None, [0, 0, 0, 1, 1, 1], scores=np.arange(-2.5, 3))
    got = metrics.result()
    assert (got["auc"].value, got["auc"].lo, got["loss"].lo) == (1.0, None, None)
    assert got["accuracy"].lo == pytest.approx(0.6097, abs=1e-4) and got["accuracy"].hi == 1
    metrics = RegressionMetrics("m")
    metrics.add(np.zeros(3), [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    got = metrics.result()
    assert (got["rmse"].value, got["r2"].value) == (0, 1)
    assert got["rmse"].lo is None and got["r2"].lo is None


# catches: NaN rows skipped in silence, counted as wrong, sorted to one end, or crashing
@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.5])
def test_unusable_predictions_leave_metrics_out(bad):
    y, p, losses, _ = classes(2, num=50)
    p = p[:, 1].copy()
    p[[3, 30]] = bad
    got = in_blocks(ClassificationMetrics(2), (losses, p, y), 20)
    assert set(got) == {"loss"}
    assert set(got.reasons) == {"accuracy", "log_loss", "auc"}
    assert all(reason.startswith("2 of 50 rows") for reason in got.reasons.values())
    logits = ClassificationMetrics(3)
    logits.add(np.ones(2), [[2.0, -1.0, 0.0], [0.3, 0.3, 0.3]], [0, 1])  # the second adds up to 0.9
    assert logits.result().reasons["log_loss"].startswith("2 of 2 rows")


# catches: one metric's bad rows spoiling another; overflow warnings; infinite values shown
@pytest.mark.filterwarnings("error")
def test_non_finite_and_huge_numbers_in_regression():
    y, p = np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 3.0])
    metrics = RegressionMetrics("m")
    metrics.add(np.ones(3), p, y)
    got = metrics.result()
    assert set(got) == {"loss"} and set(got.reasons) == {"rmse", "mae", "r2"}
    metrics = RegressionMetrics("m")
    metrics.add([np.inf, 1.0, 1.0], [1e200, 2.0, 3.0], y)
    assert set(metrics.result().reasons) == {"loss", "rmse", "mae", "r2"}
    mean_loss = MeanLoss()
    mean_loss.add([1e300, 1e301, -1e300])  # the spread overflows, the mean does not
    got = mean_loss.result()["loss"]
    assert got.value == pytest.approx(1e301 / 3) and got.lo is None
    mean_loss.add([1.7e308, 1.7e308])
    assert all(math.isfinite(e.value) for e in mean_loss.result().values())


# catches: r2 of 0, 1 or minus infinity for a constant target, with or without rounding
@pytest.mark.parametrize("target", [0.0, 0.1, 1e9 / 3])
def test_constant_target_has_no_r2(target):
    metrics = RegressionMetrics("m")
    metrics.add(np.ones(7), np.arange(7.0), np.full(7, target), np.linspace(0.1, 0.7, 7))
    metrics.add(np.ones(7), np.arange(7.0), np.full(7, target))
    got = metrics.result()
    assert set(got) == {"loss", "rmse", "mae"}
    assert got.reasons == {"r2": "the target is the same in all rows"}


# catches: a division by zero for no rows, an interval from one
@pytest.mark.filterwarnings("error")
def test_empty_and_single_rows():
    for accumulator in (MeanLoss(), ClassificationMetrics(3), RegressionMetrics("m")):
        got = accumulator.result()
        assert not got and set(got.reasons.values()) == {"no examples"}
    metrics = ClassificationMetrics(2)
    metrics.add([], [], np.array([], int), [])
    metrics.add([1.0], [0.5], [1], [0.0])
    assert set(metrics.result().reasons.values()) == {"no examples"}
    metrics.add([1.0], [0.9], [1], [2.0])
    got = metrics.result()
    assert {name: e.lo for name, e in got.items()} == dict.fromkeys(NAMES[:3])
    assert got["accuracy"].value == 1 and got["loss"].num_examples == 1
    metrics = RegressionMetrics("m")
    metrics.add([1.0], [2.0], [3.0])
    got = metrics.result()
    assert got["rmse"].value == 1 and got["rmse"].lo is None and "r2" in got.reasons


# catches: broadcasting of shapes that do not fit, class numbers wrapping around, mixed rankings
def test_arguments_are_checked():
    metrics = ClassificationMetrics(3)
    third = np.full((2, 3), 1 / 3)
    for losses, p, y, w in (
        (np.ones(3), third, [0, 1], None),
        (np.ones((2, 1)), third, [0, 1], None),
        (np.ones(2), third[:, :2], [0, 1], None),
        (np.ones(2), third[:, 0], [0, 1], None),
        (np.ones(2), third, [0, 3], None),
        (np.ones(2), third, [-1, 0], None),
        (np.ones(2), third, [0.0, 1.0], None),
        (np.ones(2), third, [0, 1], [1.0, -1.0]),
        (np.ones(2), third, [0, 1], [1.0, np.nan]),
        (np.ones(2), None, [0, 1], None),
    ):
        with pytest.raises(UsageError):
            metrics.add(losses, p, y, w)
    assert metrics.result().reasons["loss"] == "no examples"  # nothing was half added
    metrics.add(np.ones(2), third, [0, 1])
    with pytest.raises(UsageError, match="for all rows or for none"):
        metrics.add(np.ones(2), third, [0, 1], scores=third)
    with pytest.raises(UsageError, match="num_classes must be a whole number of at least 2"):
        ClassificationMetrics(1)


# catches: memory that grows with the rows
def test_memory_does_not_grow_with_rows():
    y, p, losses, _ = classes(2, num=200_000)
    metrics = ClassificationMetrics(2)
    metrics.add(losses, p[:, 1], y)
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    for _ in range(5):
        metrics.add(losses, p[:, 1], y)
    grown = tracemalloc.get_traced_memory()[0] - base
    tracemalloc.stop()
    assert grown < 100_000
