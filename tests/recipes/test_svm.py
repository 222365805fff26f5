"""The support vector machine against closed forms, quadratic programs and liblinear."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from downslope import DataError, UsageError
from downslope.recipes.svm import SVM, certify, crammer_singer
from downslope.recipes.svm.duals import nearest_shares

WAYS = [("hinge", "ovr"), ("squared_hinge", "ovr"), ("hinge", "crammer_singer")]


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def least(x, y, C, loss, multi_class, weight):
    """The least objective as a quadratic program with slacks, by SciPy's SLSQP.

    It shares nothing with the code: no dual, no smoothing.
    """
    x = np.hstack([x, np.ones((len(x), 1))])
    (n, d), num = x.shape, y.max() + 1
    joint = multi_class == "crammer_singer"
    if not joint:
        total = 0.0
        for label in range(num) if num > 2 else [1]:
            signed = np.where(y == label, 1, -1)[:, None] * x
            total += slacks(np.eye(d), signed, C * weight, loss)
        return total
    blocks = np.zeros((n * (num - 1), d * num))
    owner = np.repeat(np.arange(n), num - 1)
    rival = np.concatenate([[k for k in range(num) if k != label] for label in y])
    for row, (i, k) in enumerate(zip(owner, rival, strict=True)):
        blocks[row, y[i] * d : (y[i] + 1) * d] += x[i]
        blocks[row, k * d : (k + 1) * d] -= x[i]
    return slacks(np.eye(d * num), blocks, C * weight, loss, owner)


def slacks(hessian, margins, cost, loss, owner=None):
    owner = np.arange(len(margins)) if owner is None else owner
    d, n = len(hessian), len(cost)
    power = 2 if loss == "squared_hinge" else 1

    def value(v):
        return v[:d] @ v[:d] / 2 + cost @ v[d:] ** power

    def slope(v):
        return np.concatenate([v[:d], cost * (2 * v[d:] if power == 2 else 1.0)])

    pick = np.eye(n)[owner]
    wall = np.hstack([margins, pick])
    found = minimize(
        value, np.concatenate([np.zeros(d), np.ones(n)]), jac=slope, method="SLSQP",
        bounds=[(None, None)] * d + [(0, None)] * n,
        constraints={"type": "ineq", "fun": lambda v: wall @ v - 1, "jac": lambda v: wall},
        options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    assert found.success, found.message
    return found.fun


@pytest.mark.parametrize(("loss", "multi_class"), WAYS)
@pytest.mark.parametrize("num", [2, 3])
def test_the_certificate_holds_the_least_objective_between_its_ends(loss, multi_class, num):
    """Catches a dual point outside its box, a lost cost or weight, an intercept without penalty."""
    draw = np.random.default_rng(num)
    y = np.arange(30) % num
    x = draw.normal(size=(30, 2)) + y[:, None]
    weight = draw.uniform(0.5, 2.0, 30)
    truth = least(x, y, 0.7, loss, multi_class, weight)
    outputs = 1 if num == 2 and multi_class == "ovr" else num
    given = {"C": 0.7, "loss": loss, "multi_class": multi_class, "sample_weight": weight}
    rough = certify(draw.normal(size=(2, outputs)), 0.3, x, y, gap=None, **given)
    assert rough.dual_objective <= truth * (1 + 1e-9) and truth <= rough.objective
    assert rough.num_steps == 0 and rough.objective == rough.given_objective
    fine = certify(np.zeros((2, outputs)), 0.0, x, y, gap=1e-6, **given)
    assert fine.dual_objective <= truth * (1 + 1e-7)
    assert fine.objective >= truth * (1 - 1e-7)
    assert fine.relative_gap is not None and fine.relative_gap <= 1e-6


@pytest.mark.parametrize("cost", [0.1, 2.0])
def test_two_points_have_a_closed_form(cost):
    """x = +-1 with its sign, no intercept: w^2/2 + 2C max(0, 1 - w), least at w = min(1, 2C)."""
    w = min(1.0, 2 * cost)
    truth = w * w / 2 + 2 * cost * (1 - w)
    x, y = np.array([[1.0], [-1.0]]), np.array([1, 0])
    found = certify([0.0], 0.0, x, y, C=cost, fit_intercept=False, gap=1e-9)
    assert found.objective == pytest.approx(truth, rel=1e-8)
    assert found.dual_objective == pytest.approx(truth, rel=1e-8)
    assert found.weights[0, 0] == pytest.approx(w, rel=1e-4)


def test_the_gap_of_given_weights_is_no_smaller_than_the_truth(cancer):
    """Catches a certificate that flatters: the gap of poor weights covers what they lack."""
    x, y = cancer
    best = certify(np.zeros(30), 0.0, x, y, gap=1e-8)
    for size in (0.0, 0.01, 1.0, 100.0):
        found = certify(np.full(30, size), 0.0, x, y, gap=None)
        assert found.gap >= found.objective - best.objective * (1 + 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_within_a_thousandth_of_liblinear(cancer, loss):
    """Catches an objective that is not liblinear's: another C, intercept or penalty."""
    x, y = cancer
    known = LinearSVC(loss=loss, C=0.5, tol=1e-8, dual=True, max_iter=10**6, random_state=0)
    known.fit(x, y)
    margins = np.maximum(0, 1 - (2 * y - 1) * (x @ known.coef_[0] + known.intercept_))
    power = 1 if loss == "hinge" else 2
    square = known.coef_[0] @ known.coef_[0] + known.intercept_[0] ** 2
    truth = square / 2 + 0.5 * (margins**power).sum()
    found = SVM(loss=loss, C=0.5, max_iter=10, random_state=0).fit(x, y)
    assert found.objective_ <= 1.001 * truth
    assert found.dual_objective_ <= truth * (1 + 1e-9)
    assert found.relative_gap_ == pytest.approx(found.gap_ / found.dual_objective_)
    assert found.score(x, y) > 0.97


@pytest.mark.slow
def test_crammer_and_singer_come_to_liblinear(iris):
    """Catches a loss one against the rest where the classes were to be compared."""
    x, y = iris
    known = LinearSVC(multi_class="crammer_singer", tol=1e-8, max_iter=10**6, random_state=0)
    known.fit(x, y)
    truth = certify(known.coef_.T, known.intercept_, x, y, multi_class="crammer_singer", gap=None)
    found = SVM(multi_class="crammer_singer", max_iter=10, random_state=0).fit(x, y)
    assert found.objective_ == pytest.approx(truth.objective, rel=1e-3)
    assert found.decision_function(x).shape == (150, 3) and found.score(x, y) > 0.95


@pytest.mark.slow
def test_two_classes_joined_are_one_margin_of_twice_the_cost(cancer):
    """|w|^2/4 + C sum hinge, by symmetry: the binary machine of 2C, halved."""
    x, y = cancer
    joint = SVM(multi_class="crammer_singer", C=0.05, max_iter=3, gap=1e-4, random_state=0)
    plain = certify(np.zeros(30), 0.0, x, y, C=0.1, gap=1e-4)
    joint.fit(x, y)
    assert joint.objective_ == pytest.approx(plain.objective / 2, rel=3e-4)
    assert joint.coef_.shape == (1, 30) and joint.decision_function(x).shape == (569,)
    assert joint.score(x, y) > 0.97


@pytest.mark.slow
def test_the_descent_alone_comes_near(cancer):
    """Catches a descent that does nothing, with all the work left to the certificate."""
    x, y = cancer
    found = SVM(C=0.01, gap=None, random_state=0).fit(x, y)
    assert found.certificate_.num_steps == 0
    best = certify(found.coef_.T, found.intercept_, x, y, C=0.01, gap=1e-6)
    assert best.objective <= found.objective_ <= 1.02 * best.objective


@pytest.mark.slow
def test_kernel_features_are_as_good_as_the_kernel():
    """Catches features of another width, or that are drawn anew to predict."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    exact = SVC(C=10).fit(x_train, y_train).score(x_test, y_test)
    model = SVM(loss="squared_hinge", kernel="rbf", C=10, max_iter=10, random_state=0)
    model.fit(x_train, y_train)
    assert model.score(x_test, y_test) >= exact - 0.01
    assert model.coef_.shape == (10, 500) and model.relative_gap_ <= 1e-3
    np.testing.assert_array_equal(model.predict(x_test), model.predict(x_test))


def test_crammer_and_singers_loss_is_the_worst_rival():
    """Catches a margin that is added to the own class too."""
    draw = np.random.default_rng(0)
    outputs, y = draw.normal(size=(50, 4)).astype(np.float32), draw.integers(4, size=50)
    truth = [max(0.0, max(1 + o[k] - o[c] for k in range(4) if k != c))
             for o, c in zip(outputs, y, strict=True)]  # fmt: skip
    np.testing.assert_allclose(crammer_singer(outputs, y), truth, rtol=1e-6, atol=1e-6)


def test_shares_are_the_nearest():
    """Against a search over the simplex; catches a shift that is off by an entry."""
    draw = np.random.default_rng(1)
    points = draw.normal(size=(20, 3)) * 2
    found = nearest_shares(points)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2), -1).reshape(-1, 2)
    grid = grid[grid.sum(1) <= 1]
    grid = np.column_stack([grid, 1 - grid.sum(1)])
    nearest = ((points[:, None] - grid) ** 2).sum(-1).min(1)
    assert ((found >= 0).all(), np.allclose(found.sum(1), 1)) == (True, True)
    assert (((points - found) ** 2).sum(1) <= nearest + 1e-12).all()


@pytest.mark.slow
def test_weights_are_counts(cancer):
    """Rows of weight 2 are rows twice; weight 0 is none. Catches a weight that changes C."""
    x, y = cancer
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), weight)
    found = SVM(C=0.1, max_iter=1, gap=1e-6, random_state=0).fit(x, y, weight)
    known = certify(np.zeros(30), 0.0, x[again], y[again], C=0.1, gap=1e-6)
    assert found.objective_ == pytest.approx(known.objective, rel=3e-6)
    with pytest.raises(DataError, match="zero for every row"):
        SVM().fit(x, y, np.zeros(len(y)))


@pytest.mark.slow
def test_words_and_the_manner_of_scikit_learn(iris):
    """Catches classes that are not given back, and a parameter that is lost in a clone."""
    x, y = iris
    names = np.array(["a", "b", "c"])[y]
    model = clone(SVM(kernel="rbf", n_components=7, max_iter=1, random_state=0))
    assert model.get_params()["n_components"] == 7
    model = clone(model.set_params(kernel="linear")).fit(x, names)
    assert set(model.predict(x)) == {"a", "b", "c"}
    told = str(model.certificate_)
    assert "above the least" in told and "%" in told and "Newton steps" in told


def test_what_proves_nothing_says_so():
    """Catches a gap divided by zero: far outside every margin no row has a dual variable."""
    x, y = np.array([[1.0], [-1.0]]), np.array([1, 0])
    found = certify([1e3], 0.0, x, y, gap=None)
    assert found.dual_objective == 0 and found.relative_gap is None
    assert "not known" in str(found)


def test_a_share_of_the_dual_point_in_closed_form():
    """At w = 0 both rows have a = 1 and pull w to 2C = 20: a twentieth gives 20 s - 400 s^2 / 2."""
    x, y = np.array([[1.0], [-1.0]]), np.array([1, 0])
    found = certify([0.0], 0.0, x, y, C=10.0, fit_intercept=False, gap=None)
    assert (found.objective, found.dual_objective) == (20.0, pytest.approx(0.5))


@pytest.mark.slow
def test_a_gap_that_is_not_reached_is_told(cancer):
    x, y = cancer
    with pytest.warns(ConvergenceWarning, match="was not reached"):
        SVM(gap=1e-15, max_iter=1, random_state=0).fit(x, y)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": "log"}, "loss must be one of"),
        ({"multi_class": "ovo"}, "multi_class must be one of"),
        ({"multi_class": "crammer_singer", "loss": "squared_hinge"}, "hinge loss only"),
        ({"C": 0}, "C must be"),
        ({"C": np.inf}, "C must be"),
        ({"C": "1"}, "C must be"),
        ({"kernel": "poly"}, "kernel must be one of"),
        ({"kernel": "rbf", "gamma": -1}, "gamma must be"),
        ({"gamma": "auto"}, "gamma must be"),
        ({"n_components": 0}, "n_components must be"),
        ({"gap": 0.0}, "gap must be"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"n_components": "a"}, "n_components must be"),
        ({"fit_intercept": "no"}, "fit_intercept must be one of True, False"),
        ({"kernel": "rbf", "gamma": np.float32(-0.5)}, "number above 0; got -0.5"),
    ],
)
def test_wrong_use_is_refused(iris, given, said):
    with pytest.raises(UsageError, match=said):
        SVM(**given).fit(*iris)


def test_bad_data_is_refused(iris):
    x, y = iris
    with pytest.raises(DataError, match="only one class"):
        SVM().fit(x, np.zeros(len(x)))
    with pytest.raises(DataError, match="float32"):
        SVM().fit(x * 1e40, y)
    with pytest.raises(DataError, match="row 2: missing label"):
        SVM().fit(x, pd.array([0, pd.NA, *y[2:]], "Int64"))
    with pytest.raises(UsageError, match="y must be labels of one kind; got int and str"):
        SVM().fit(x, np.array([0, "a"] * 75, dtype=object))
    with pytest.raises(DataError, match="not finite"):
        certify(np.zeros(1), 0, [[np.nan], [1.0]], [0, 1])
    with pytest.raises(UsageError, match="shape"):
        certify(np.zeros(3), 0, [[0.0], [1.0]], [0, 1])
    with pytest.raises(UsageError, match="class numbers"):
        certify(np.zeros(1), 0, [[0.0], [1.0]], [-1, 1])
    with pytest.raises(UsageError, match="sample_weight"):
        certify(np.zeros(1), 0, [[0.0], [1.0]], [0, 1], sample_weight=[1.0, -1.0])
    with pytest.raises(UsageError, match="intercept must be 0"):
        certify(np.zeros(1), 1.0, [[0.0], [1.0]], [0, 1], fit_intercept=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_what_overflows_is_no_proof(iris, bad):
    """Catches a gap of max(0, nan) = 0, which would be a proof of the best."""
    x, y = iris[0], iris[1] > 0
    for weights, intercept, rows in (
        (np.full(4, bad), 0.0, x),
        (np.zeros(4), bad, x),
        (np.zeros(4), 0.0, np.full(x.shape, bad)),
    ):
        with pytest.raises(DataError, match="not finite, or that float32 cannot hold"):
            certify(weights, intercept, rows, y)
    with pytest.raises(DataError, match="objective is not finite"):
        certify(np.full(4, 1e38), 0.0, x * 1e30, y, C=1e300, gap=None)


def test_a_dual_point_of_rounding_proves_nothing(iris):
    """Catches "at most 10^35 % above", and a factor of what is singular but for rounding."""
    for size in (1e15, 1e20):
        found = certify(np.zeros(4), 0.0, iris[0] * size, iris[1] > 0)
        assert found.relative_gap is None and "not known" in str(found)
        assert 0 <= found.dual_objective <= found.objective <= 150


def test_a_width_of_numpy_is_a_width(iris):
    """Catches a rule by Python's types, which np.linspace and a search over it do not give."""
    model = SVM(kernel="rbf", gamma=np.float32(0.1), n_components=4, max_iter=1, gap=None)
    assert model.fit(*iris).coef_.shape == (3, 4)


@pytest.mark.parametrize(("loss", "multi_class"), WAYS)
def test_rows_that_say_nothing(loss, multi_class):
    """Zeros, copies, a constant column: catches a division by |x|^2 and a singular block."""
    x = np.zeros((6, 3))
    x[:, 1] = 1.0
    y = np.array([0, 0, 0, 1, 1, 1])
    outputs = 2 if multi_class == "crammer_singer" else 1
    for fit_intercept in (True, False):
        found = certify(
            np.zeros((3, outputs)), 0.0, x * fit_intercept, y,
            loss=loss, multi_class=multi_class, fit_intercept=fit_intercept,
        )  # fmt: skip
        # nothing tells the classes apart: every row costs 1, and weights of zero are best
        assert found.objective == pytest.approx(6.0, rel=1e-3)
        assert found.relative_gap is not None and found.relative_gap <= 1e-3
