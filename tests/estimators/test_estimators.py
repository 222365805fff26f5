"""Estimators against known solutions, and what users of scikit-learn do with them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import downslope
from downslope.sklearn import (
    LinearClassifier,
    LinearRegressor,
    LinearSVC,
    MLPRegressor,
    load,
)
from downslope.train import stepper


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def test_least_squares_are_those_of_ridge():
    """Catches a penalty of another weight, and one that acts on the intercept."""
    x, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0, 2, len(y))
    found = LinearRegressor(alpha=1e-3).fit(x, y, weight)
    known = Ridge(alpha=1e-3 * weight.sum()).fit(x, y, weight)
    np.testing.assert_allclose(found.coef_, known.coef_, rtol=1e-6)
    assert found.intercept_ == pytest.approx(known.intercept_)


def test_a_search_comes_near_the_same_solution():
    """Catches a scale of the targets that is not undone, or is undone for the loss only."""
    x, y = load_diabetes(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    known = LinearRegressor().fit(x, y)
    found = LinearRegressor(optimizer="adam", early_stopping=False, random_state=0).fit(x, y)
    assert str(found.result_.stop_reason) == "converged"
    # the others are blood values that nearly add up: the loss is flat along their difference
    np.testing.assert_allclose(found.coef_[:4], known.coef_[:4], atol=2.0)
    assert found.loss_ == pytest.approx(known.loss_, rel=0.02)
    assert found.intercept_ == pytest.approx(y.mean(), rel=0.02)
    assert found.score(x, y) > 0.99 * known.score(x, y)


@pytest.mark.slow
def test_logistic_regression_minimises_what_it_says(cancer):
    """Catches a penalty on the intercept, or one that is divided by the rows: against L-BFGS."""
    x, y = cancer
    found = LinearClassifier(alpha=0.01, random_state=0).fit(x, y)
    known = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(found.coef_, known.coef_, atol=0.06)
    np.testing.assert_allclose(found.intercept_, known.intercept_, atol=0.06)


@pytest.mark.slow
def test_l1_gives_exact_zeros(cancer):
    """Catches an l1_ratio that is not passed on."""
    x, y = cancer
    found = LinearClassifier(alpha=0.05, l1_ratio=1.0, max_iter=100, random_state=0).fit(x, y)
    assert 0 < (found.coef_ == 0).sum() < found.coef_.size


def test_what_is_given_is_obeyed(cancer):
    """Catches a parameter that never reaches training."""
    x, y = cancer
    found = LinearClassifier(
        optimizer="sgd", learning_rate=0.02, batch_size=20, max_iter=3, n_iter_no_change=None
    ).fit(x, y)
    result = found.result_
    assert (result.optimizer, result.batch_size) == ("sgd", 20)
    assert result.num_steps == 3 * -(-len(y) // 20) and found.n_iter_ == 3
    with pytest.raises(ValueError, match="learning_rate must be"):
        LinearClassifier(learning_rate=-1).fit(x, y)


@pytest.mark.slow
def test_rows_are_held_out_where_asked(cancer):
    """Catches an early_stopping that holds out nothing."""
    x, y = cancer
    assert LinearClassifier(max_iter=2).fit(x, y).validation_curve_ == []
    found = LinearClassifier(early_stopping=True, max_iter=20, random_state=0).fit(x, y)
    assert found.validation_curve_ and found.result_.validation is not None


@pytest.mark.slow
def test_a_search_over_a_pipeline(cancer):
    """Catches an estimator that cannot be cloned, or forgets what it was given."""
    x, y = load_breast_cancer(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), LinearSVC(max_iter=20, random_state=0))
    search = GridSearchCV(pipe, {"linearsvc__alpha": [1e-3, 10.0]}, cv=3).fit(x, y)
    assert search.best_params_ == {"linearsvc__alpha": 1e-3} and search.best_score_ > 0.95


def test_a_warm_start_goes_on(cancer):
    """Catches a warm start that begins anew: one step leaves the solution where it is."""
    x, y = cancer
    model = LinearClassifier(alpha=0.01, random_state=0).fit(x, y)
    before = model.coef_.copy()
    model.set_params(warm_start=True, learning_rate=1e-6, steps=1, average=None).fit(x, y)
    np.testing.assert_allclose(model.coef_, before, atol=1e-4)
    model.set_params(warm_start=False).fit(x, y)
    assert np.abs(model.coef_).max() < 1e-4


def test_class_weights_move_the_border(cancer):
    x, y = cancer
    plain = LinearClassifier(max_iter=20, random_state=0).fit(x, y).predict(x).mean()
    heavy = LinearClassifier(class_weight={0: 50, 1: 1}, max_iter=20, random_state=0)
    assert heavy.fit(x, y).predict(x).mean() < plain


@pytest.mark.slow
@pytest.mark.parametrize("make", [LinearClassifier, MLPRegressor, LinearRegressor])
def test_saving_keeps_predictions(make, tmp_path, cancer):
    """Catches a tensor or a parameter that is not restored; classes of type str among them."""
    x, y = cancer
    target = np.array(["bad", "good"])[y] if make is LinearClassifier else x[:, 0] + y
    given = {"class_weight": {"bad": 2.0, "good": 1.0}} if make is LinearClassifier else {}
    model = make(max_iter=2, random_state=3, **given).fit(x, target)
    model.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert again.get_params() == model.get_params()
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
    damaged = tmp_path / "model" / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(downslope.DataError, match="changed or damaged"):
        load(tmp_path / "model")


def test_an_optimizer_object_is_not_saved(tmp_path, cancer):
    import optax

    model = LinearClassifier(optimizer=optax.adam, max_iter=1).fit(*cancer)
    with pytest.raises(downslope.UsageError, match="optimizer cannot be saved"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_mini_batches_learn_and_compile_once(monkeypatch, cancer):
    """Catches a program for every length of a piece; and one kept from a fit of another kind."""
    x, y = cancer
    made = []
    compile_steps = stepper.compile_steps

    def counted(*given, **options):
        steps = compile_steps(*given, **options)
        made.append(steps)
        return steps

    monkeypatch.setattr(stepper, "compile_steps", counted)
    model = LinearClassifier(momentum=0.123, batch_size=32, random_state=0)  # a kind of its own
    draw = np.random.default_rng(0)
    for _ in range(120):
        rows = draw.integers(0, len(y), draw.integers(17, 33))
        model.partial_fit(x[rows], y[rows], classes=[0, 1])
    assert len(made) == 1 and made[0]._cache_size() == 1
    assert model.score(x, y) > 0.95
    again = pickle.loads(pickle.dumps(model))
    one, other = (m.partial_fit(x[:32], y[:32]) for m in (model, again))
    np.testing.assert_array_equal(one.coef_, other.coef_)  # with the optimizer's state
    clone(model).set_params(alpha=0.1).partial_fit(x[:32], y[:32], classes=[0, 1])
    assert len(made) == 2


@pytest.mark.slow
def test_fits_of_one_kind_compile_once(cancer):
    """Catches a key that differs from one fit to the next, and one that leaves out alpha."""
    from downslope.train.program_cache import _kept

    x, y = cancer
    settings = dict(max_iter=2, tol=0.002, momentum=0.321)
    LinearClassifier(**settings).fit(x[:50], y[:50])
    count = len(_kept)
    first = LinearClassifier(**settings, random_state=1).fit(x[:60], y[:60])
    kinds = [key for key in _kept if key[0] == "steps"]
    assert sum("0.321" in str(key) for key in kinds) == 1
    assert len(_kept) <= count + 1  # the start is made anew for another seed
    other = LinearClassifier(**settings, alpha=10.0, random_state=1).fit(x[:60], y[:60])
    assert np.abs(other.coef_).max() < np.abs(first.coef_).max()


@pytest.mark.slow
def test_a_table_on_disk(tmp_path):
    """Catches columns, classes or weights that are lost between a file and the estimator."""
    pd = pytest.importorskip("pandas", reason="needs pandas")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=600), "color": draw.choice(["red", "blue"], 600)})
    frame["kind"] = np.where(frame["a"] + (frame["color"] == "red") > 0.5, "yes", "no")
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path)
    model = LinearClassifier(random_state=0).fit(path, "kind")
    assert list(model.classes_) == ["no", "yes"]
    assert (model.predict(path) == frame["kind"]).mean() > 0.95
    some = frame.drop(columns="kind").head(10)
    np.testing.assert_array_equal(model.predict(some), model.predict(path)[:10])
    assert model.predict_proba(some).sum(axis=1) == pytest.approx(1)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(path), model.predict(path))
    with pytest.raises(downslope.UsageError, match="y must be the name of a column"):
        model.fit(path, frame["kind"])


def test_callbacks_are_told(cancer):
    """Catches hooks that are not called, or called without an estimator that can predict."""
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")
    x, y = cancer
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = LinearClassifier(max_iter=20, random_state=0).set_callbacks(monitor).fit(x, y)
    logs = monitor.get_logs()
    assert logs.data[-1]["accuracy"] == pytest.approx(model.score(x, y))

    class Note:
        def __init__(self):
            self.told = []

        def setup(self, estimator, context):
            self.told.append("setup")

        def teardown(self, estimator, context):
            self.told.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.told.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, metadata):
            self.told.append(f"end {context.task_name}")

    note = Note()
    LinearClassifier(max_iter=20).set_callbacks(note).fit(x, y)
    assert note.told[:2] == ["setup", "begin fit"]
    assert note.told[-2:] == ["end fit", "teardown"]
    assert "end progress" in note.told


@pytest.mark.slow
def test_targets_of_very_different_size_are_learned_alike():
    """Catches one scale for all targets: the small one is then lost beside the large."""
    x = np.random.default_rng(0).normal(size=(800, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1]
    model = MLPRegressor(random_state=0).fit(x, np.c_[y, -1000 * y])
    found = model.predict(x)
    for truth, seen in ((y, found[:, 0]), (-1000 * y, found[:, 1])):
        assert 1 - ((truth - seen) ** 2).mean() / truth.var() > 0.8


@pytest.mark.slow
def test_pieces_of_another_kind_are_refused(tmp_path):
    """Catches updates that read numbers as classes, and pieces that change nothing after a file."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    model = MLPRegressor(random_state=0).partial_fit(x, x[:, :2])
    with pytest.raises(ValueError, match="y has 1 targets per row; it had 2 before"):
        model.partial_fit(x, x[:, 0])
    np.savez(tmp_path / "t.npz", a=x[:, 0], b=x[:, 1], y=x[:, 0] > 0)
    model = LinearClassifier(max_iter=2, random_state=0).fit(str(tmp_path / "t.npz"), "y")
    with pytest.raises(ValueError, match="fitted on a file"):
        model.partial_fit(x[:, :2], x[:, 0] > 0)


def test_what_a_file_cannot_obey_is_refused():
    """Catches an option that is taken and not obeyed."""
    for options, name in (
        ({"fit_intercept": False}, "fit_intercept"),
        ({"warm_start": True}, "warm_start"),
    ):
        with pytest.raises(downslope.UsageError, match=name):
            LinearRegressor(**options).fit("no.parquet", "y")
