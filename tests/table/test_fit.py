"""The table recipe: every kind of column can carry the signal, and weights are rows."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import downslope
import plain
from downslope import ModelOptions, TableOptions
from downslope.data.ingest.split import row_keys
from downslope.table import fit as table
from downslope.table import predict
from downslope.table.model import TableModel
from downslope.table.run import request_of

ROWS = 1500
QUICK = {"batch_size": 32, "learning_rate": 0.04, "epochs": 5}
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Trains on columns; gives what came out."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))

    def fitted(
        columns, model="linear", options=None, training=None, name="t", out=None, **model_options
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        options = TableOptions(**{"target": "y", **(options or {})})
        training = plain.training(**{**QUICK, **(training or {})})
        chosen = ModelOptions(model=model, **model_options)
        return table.fit(path, options, chosen, training, out=out)

    return fitted


def value(found, metric):
    return found.result.validation[metric].value


# --- each kind of column carries the signal ------------------------------------------------


def value_of(found, name):
    return float(np.ravel(found.result.params[name])[0])


def noise(rng):
    return rng.normal(size=ROWS)


def by_category(rng):
    names = np.array([f"city {i}" for i in range(40)])
    side = rng.permutation(40) % 2
    chosen = rng.integers(0, 40, ROWS)
    return {"city": names[chosen], "y": side[chosen]}


def by_text(rng):
    words = np.array([f"word{i}" for i in range(200)])
    chosen = rng.integers(0, 200, (ROWS, 6))
    good = chosen[:, 0] % 2 == 0
    praise = np.where(good, rng.choice(["fine", "great"], ROWS), rng.choice(["bad", "poor"], ROWS))
    texts = [" ".join([*words[row], word]) for row, word in zip(chosen, praise, strict=True)]
    return {"review": texts, "y": good.astype(int)}


def by_weekday(rng):
    days = [
        datetime.date(2020, 1, 6) + datetime.timedelta(int(d)) for d in rng.integers(0, 900, ROWS)
    ]
    return {"day": days, "y": [int(day.weekday() >= 5) for day in days]}


def by_hour(rng):
    hours = rng.integers(0, 24 * 400, ROWS)
    start = datetime.datetime(2021, 3, 1)
    times = [start + datetime.timedelta(hours=int(h)) for h in hours]
    return {"at": times, "y": (hours % 24 < 8).astype(int)}


def by_absence(rng):
    y = rng.integers(0, 2, ROWS)
    return {"maybe": pa.array(rng.normal(size=ROWS), mask=y == 1), "y": y}


def by_boolean(rng):
    y = rng.integers(0, 2, ROWS)
    return {"flag": y == 1, "y": y}


ALL = [by_category, by_text, by_weekday, by_hour, by_absence, by_boolean]
SIGNALS = [
    *((signal, "linear") for signal in ALL),
    *((signal, "mlp") for signal in (by_category, by_text, by_absence)),  # codes, words, numbers
]


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "model"), SIGNALS)
def test_every_kind_of_column_can_carry_the_signal(signal, model, fitted):
    """Catches a column that is shifted by a slot, shuffled apart from its target, or dropped."""
    rng = np.random.default_rng(0)
    found = fitted({"noise": noise(rng), **signal(rng)}, model)
    assert value(found, "accuracy") > 0.95
    assert value(found, "auc") > 0.97


@pytest.mark.slow
def test_categories_beyond_those_told_apart(fitted):
    """Catches hashed categories whose codes differ between training and held-out rows."""
    rng = np.random.default_rng(0)
    rare = np.char.add("id ", np.arange(80_000).astype(str))
    y = rng.integers(0, 2, 80_000)
    columns = {"id": np.tile(rare, 3), "y": np.tile(y, 3)}
    found = fitted(columns, training={"epochs": 3, "batch_size": 256})
    assert found.model.encoding.tables[0].num_codes > 2 + 65_536
    assert any("more than 65,536 categories" in note for note in found.notes)
    assert value(found, "accuracy") > 0.9  # 8 in 10 keep a code of their own


@pytest.mark.slow
def test_all_kinds_at_once(fitted):
    """Catches offsets between columns of different kinds, and a target in the wrong unit."""
    rng = np.random.default_rng(3)
    size = rng.normal(50, 20, ROWS)
    kinds = np.array(["flat", "house", "barn"])
    kind = rng.integers(0, 3, ROWS)
    columns = {
        "kind": kinds[kind],
        "note": [f"has {i % 7} rooms and a view" for i in range(ROWS)],
        "size": pa.array(size, mask=rng.random(ROWS) < 0.1),
        "new": rng.random(ROWS) < 0.5,
        "since": [datetime.date(2000, 1, 1) + datetime.timedelta(i) for i in range(ROWS)],
    }
    price = 3000 * size + np.array([0.0, 5e4, -5e4])[kind] + 2e4 * columns["new"]
    found = fitted(columns | {"y": price}, options={"text": ("note",)})
    assert value(found, "r2") > 0.8
    assert value(found, "rmse") == pytest.approx(
        np.sqrt(1 - value(found, "r2")) * price.std(), rel=0.2
    )


# --- the fit against other packages --------------------------------------------------------


@pytest.mark.slow
def test_ridge_against_the_closed_form(fitted, tmp_path):
    """Catches a penalty or a scale of another size. Oracle: scikit-learn's Ridge."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 3)) * [1, 10, 0.1] + [0, 5, 0]
    y = 7 + x @ [1, -0.2, 8] + rng.normal(size=ROWS)
    training = {"optimizer": "sgd", "learning_rate": 0.3, "batch_size": "full", "l2": 0.5}
    columns = {f"x{i}": x[:, i] for i in range(3)}
    fitted(
        columns | {"y": y},
        options={"validation": 0.0},
        training=training | {"epochs": 300},
        out=tmp_path / "run",
    )
    predict.predict(tmp_path / "run", tmp_path / "t.parquet", tmp_path / "p.parquet")
    scaled = (x - x.mean(0)) / x.std(0)
    oracle = Ridge(alpha=0.5 * ROWS).fit(scaled, (y - y.mean()) / y.std())
    expected = y.mean() + y.std() * oracle.predict(scaled)
    found = pq.read_table(tmp_path / "p.parquet")["prediction"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_l1_gives_exact_zeros(fitted):
    """Catches a penalty by subgradients, which leaves small numbers where zeros belong."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 8))
    columns = {f"x{i}": x[:, i] for i in range(8)} | {"y": (x[:, 0] > 0).astype(int)}
    found = fitted(columns, training=FULL | {"l1": 0.05})
    weights = np.asarray(found.result.params["weights"])[:, 0]
    assert weights[0] > 0.1
    assert (weights[1:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("model", ["linear", "mlp", "svm"])
def test_held_out_metrics_are_those_of_the_predictions(model, classes, fitted, tmp_path):
    """Catches metrics of other rows, other classes or another forward pass than predict's.

    Oracle: scikit-learn's metrics on the file of predictions.
    """
    rng = np.random.default_rng(2)
    x = rng.normal(size=(ROWS, 3))
    scores = x @ rng.normal(size=(3, classes)) + rng.gumbel(size=(ROWS, classes))
    y = np.array(["x", "a", "k"])[scores.argmax(1)]
    columns = {f"x{i}": x[:, i] for i in range(3)} | {"y": y}
    found = fitted(columns, model, {"validation": 0.4}, {"epochs": 3}, out=tmp_path / "run")
    predict.predict(tmp_path / "run", tmp_path / "t.parquet", tmp_path / "p.parquet")
    held_out = row_keys(0, ROWS, 0) < 0.4
    predictions = pq.read_table(tmp_path / "p.parquet").filter(pa.array(held_out))
    assert value(found, "accuracy") == pytest.approx(
        accuracy_score(y[held_out], predictions["prediction"].to_pylist())
    )
    p = np.stack(predictions.columns[1:], axis=1)
    if model == "svm":
        assert "log_loss" not in found.result.validation
    else:
        assert value(found, "log_loss") == pytest.approx(log_loss(y[held_out], p), rel=1e-4)
    if classes == 2:
        auc = roc_auc_score(y[held_out] == predictions.column_names[2][-1], p[:, 1])
        assert value(found, "auc") == pytest.approx(auc, abs=2e-3)


# --- weights -------------------------------------------------------------------------------

FULL = {"optimizer": "sgd", "learning_rate": 0.5, "batch_size": "full", "epochs": 40}


def params(found):
    return {k: np.asarray(v) for k, v in found.result.params.items() if k != "tables"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "svm"])
def test_a_weight_of_2_is_a_row_twice_and_0_is_none(model, fitted):
    """Catches weights that count in the loss but not in its mean, or that are ignored.

    Every row is there twice with the same numbers, so that means and scales do not change
    when one of the two, whose class is wrong, weighs nothing.
    """
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2))
    y = (x[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(int)
    both = {f"x{i}": np.tile(x[:, i], 2) for i in range(2)}
    options = {"validation": 0.0}
    twice = fitted(both | {"y": np.tile(y, 2)}, model, options, FULL, "twice")
    weighted = both | {"y": np.concatenate([y, 1 - y]), "w": np.repeat([2.0, 0.0], 300)}
    found = fitted(weighted, model, options | {"weight": "w"}, FULL, "weighted")
    for name, expected in params(twice).items():
        np.testing.assert_allclose(params(found)[name], expected, rtol=1e-4, atol=1e-5)
    assert found.result.train_loss == pytest.approx(twice.result.train_loss, rel=1e-4)
    ignored = fitted(weighted, model, options | {"ignore": ("w",)}, FULL, "plain")
    assert np.abs(params(ignored)["weights"] - params(twice)["weights"]).max() > 0.1


@pytest.mark.slow
def test_weights_against_scikit_learn(fitted):
    """Catches weights scaled apart from the penalty. Oracle: LogisticRegression."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1000, 3))
    y = (x @ [1, -1, 0.3] + rng.logistic(size=1000) > 0).astype(int)
    w = rng.exponential(size=1000)
    columns = {f"x{i}": x[:, i] for i in range(3)} | {"y": y, "w": w}
    found = fitted(
        columns,
        options={"validation": 0.0, "weight": "w"},
        training=FULL | {"epochs": 400, "l2": 0.1},
    )
    scaled = (x - x.mean(0)) / x.std(0)
    oracle = LogisticRegression(C=1 / (0.1 * w.sum()), tol=1e-8).fit(scaled, y, w * 1.0)
    np.testing.assert_allclose(params(found)["weights"][:, 0], oracle.coef_[0], rtol=2e-3)
    np.testing.assert_allclose(params(found)["bias"], oracle.intercept_, rtol=2e-3, atol=1e-4)


# --- what a run says -----------------------------------------------------------------------


def test_the_model_travels_as_json(fitted):
    """Catches a field that is lost or changes its type on the way through a file."""
    rng = np.random.default_rng(0)
    found = fitted({"noise": noise(rng), **by_category(rng)}, "mlp", training={"steps": 2})
    again = TableModel.from_json(json.loads(json.dumps(found.model.to_json())))
    assert again == found.model


@pytest.mark.slow
def test_a_sentence_about_the_run(fitted, tmp_path):
    """Catches a report that leaves out the score, the model or the next step."""
    rng = np.random.default_rng(0)
    found = fitted(
        {"noise": noise(rng), "y": noise(rng)}, training={"steps": 60}, out=tmp_path / "r"
    )
    lines = table.describe(found, "t.parquet").splitlines()
    assert [line.split()[0] for line in lines] == ["held"] * 3 + [
        "trained",
        "noise",
        "stopped",
        "model",
        "next",
    ]
    assert "rmse" in lines[0] and lines[0].endswith("unit of y")
    assert lines[-1].split()[-3] == "NEW.parquet"  # not the rows that it was trained on
    assert lines[-5].startswith("trained    1.43 epochs, 60 steps of 32 examples")


def test_what_is_said_of_classes(fitted):
    """Catches the log loss said twice, and an accuracy without that of always the same class."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(ROWS) < 0.8, "often", "rarely")
    found = fitted({"x": noise(rng), "y": y}, training={"steps": 2})
    held = [line for line in table.describe(found, "t.csv").splitlines() if "held out" in line]
    assert [line.split()[2] for line in held] == ["accuracy", "log_loss", "auc"]
    assert re.search(r"; the largest class alone gives 0\.[78]\d*$", held[0])


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_counts_and_amounts_have_a_logarithmic_link(fitted, loss):
    """Catches a target that stays standardised, and predictions below 0."""
    rng = np.random.default_rng(0)
    x = noise(rng)
    mean = np.exp(0.5 + x)
    y = rng.poisson(mean).astype(float) if loss == "poisson" else rng.gamma(3, mean / 3)
    training = {"epochs": 30, "learning_rate": 0.05, "optimizer": "adam"}
    found = fitted({"x": x, "y": y}, loss=loss, options={"task": "regress"}, training=training)
    model, tree = found.model, found.result.params
    spread = model.encoding.columns[0].scale
    assert float(tree["weights"][0, 0]) / spread == pytest.approx(1.0, abs=0.1)
    at_mean = model.in_target_unit(np.asarray(tree["bias"]))[0]
    assert at_mean == pytest.approx(np.exp(0.5 + model.encoding.columns[0].mean), rel=0.1)


def test_balanced_classes_weigh_the_same(fitted):
    """Catches weights of the wrong class. Oracle: scikit-learn's class_weight."""
    rng = np.random.default_rng(0)
    y = rng.random(ROWS) < 0.1
    x = noise(rng) + y
    training = {"epochs": 60, "learning_rate": 0.05, "optimizer": "adam"}
    found = fitted(
        {"x": x, "y": y}, class_weight="balanced", training=training, options={"validation": 0}
    )
    scaled = (x - x.mean()) / x.std()
    oracle = LogisticRegression(C=1e6, class_weight="balanced").fit(scaled[:, None], y)
    assert value_of(found, "weights") == pytest.approx(oracle.coef_[0, 0], rel=0.05)
    assert value_of(found, "bias") == pytest.approx(oracle.intercept_[0], abs=0.05)
    rates = found.model.class_weights
    assert rates[1] / rates[0] == pytest.approx((~y).sum() / y.sum())


@pytest.mark.slow
def test_a_run_of_another_kind_is_refused(tmp_path):
    """Catches a run of a user's own loss taken for a table's."""
    data = (np.ones((8, 2), "float32"), np.ones(8, "float32"))

    def loss(model, batch, key):
        return (batch[0] @ model["w"] - batch[1]) ** 2

    downslope.fit(loss, {"w": np.zeros(2, "float32")}, data, epochs=1, out=tmp_path / "own")
    with pytest.raises(downslope.DataError, match="was not trained on a table"):
        request_of(tmp_path / "own")
    with pytest.raises(downslope.DataError, match="was not trained on a table"):
        predict.predict(tmp_path / "own", "t.parquet", tmp_path / "p.parquet")


def test_a_table_is_closed_when_training_fails(fitted, monkeypatch):
    """Catches files left open by an error."""
    closed = []
    close = downslope.data.stored.StoredTable.close
    monkeypatch.setattr(
        "downslope.data.stored.StoredTable.close", lambda self: closed.append(close(self))
    )
    rng = np.random.default_rng(0)
    with pytest.raises(downslope.UsageError, match="model svm"):
        fitted({"noise": noise(rng), "y": noise(rng)}, "svm")
    assert closed
