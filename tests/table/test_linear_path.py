"""The linear model of a table in memory, and the l2 that held-out rows choose."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge

import downslope
from downslope import ModelOptions, TableOptions
from downslope.choose import choose_l2, replay
from downslope.table import linear_path
from downslope.table.auto import evaluate
from downslope.table.linear_path import fit_linear
from downslope.table.model import choose_model

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = 600


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    with contextlib.ExitStack() as stack:

        def stored(columns, **options):
            options = TableOptions(target="y", **{"validation": 0.3, **options})
            table = downslope.open(pa.table(columns), options)
            return stack.enter_context(contextlib.closing(table))

        yield stored


def _columns(classes, seed=0):
    rng = np.random.default_rng(seed)
    x, kind = rng.normal(size=(ROWS, 3)), rng.choice(["a", "b", "c", "d"], ROWS)
    score = x[:, 0] - x[:, 1] * 0.5 + (kind == "a") + rng.logistic(size=ROWS)
    y = np.digitize(score, np.linspace(-1, 1, classes - 1)).astype(str) if classes else score
    return {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": kind, "y": y}


def _rows(model, rows):
    """Numbers and indicators of known categories, dense, by means of the codes alone."""
    batch = rows.unpack(rows.read(0, rows.num_rows))
    parts = [batch.x]
    for table in model.lookups:
        parts.append(np.eye(table.num_codes)[batch.codes[:, table.first_slot]][:, 1:])
    return np.concatenate(parts, 1), batch.y, batch.weight


@pytest.mark.parametrize(("classes", "weight"), [(0, None), (2, None), (3, None), (2, "w")])
def test_it_is_the_penalized_optimum(stored, monkeypatch, classes, weight) -> None:
    """Catches a bias that is penalised, a sum for a mean, codes mixed up, and weights left out.

    Oracle: scikit-learn.
    """
    monkeypatch.setattr(linear_path, "PATH", (20.0,))
    monkeypatch.setattr(linear_path, "TOLERANCE", 1e-14)
    columns = _columns(classes)
    if weight:
        columns[weight] = np.random.default_rng(5).exponential(size=ROWS)
    table = stored(columns, weight=weight)
    model = choose_model(table, ModelOptions(model="linear"))
    found = fit_linear(model, table)
    x, y, weights = _rows(model, table.train)
    if classes:
        oracle = LogisticRegression(C=1 / 20, tol=1e-10, max_iter=10_000)
    else:
        oracle = Ridge(alpha=20.0)
    oracle.fit(x, y, weights)
    expected = np.atleast_2d(oracle.coef_)
    tables = [found.params["tables"][table.name][1:] for table in model.lookups]
    mine = np.concatenate([found.params["weights"], *tables]).T
    if classes == 3:  # equal but for a shift of all classes, which changes nothing
        expected, mine = expected - expected.mean(0), mine - mine.mean(0)
    assert_allclose(mine, expected, atol=2e-4)
    held = evaluate(model, found.params, table.held_out)
    assert_allclose(found.losses, held.losses, rtol=1e-4, atol=1e-5)  # the same rows, in order
    held_weight = _rows(model, table.held_out)[2]
    mean = np.average(found.losses, weights=held_weight)
    assert mean == pytest.approx(held["loss"].value, rel=1e-5)
    assert f"{mean:.4g}" in found.decision.because


def test_held_out_rows_choose_the_penalty(stored) -> None:
    """Catches a path in the wrong direction, and the lowest training loss."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 40))
    useless = {f"x{i}": x[:, i] for i in range(40)} | {"y": rng.choice(["u", "v"], 60)}
    table = stored(useless)
    model = choose_model(table, ModelOptions(model="linear"))
    strong = fit_linear(model, table)
    assert strong.decision.new >= 9.9 / table.num_train
    assert strong.losses.mean() < 0.75  # ln 2 is 0.69; of no penalty several times that
    table = stored({"x": x.ravel()[:600], "y": np.sign(x.ravel()[:600]).astype(str)})
    clear = fit_linear(choose_model(table, ModelOptions(model="linear")), table)
    assert clear.decision.new == pytest.approx(0.01 / table.num_train)


def test_what_it_cannot_do_it_leaves(stored, monkeypatch) -> None:
    table = stored(_columns(0))
    assert (
        fit_linear(choose_model(table, ModelOptions(model="linear", loss="huber")), table) is None
    )
    model = choose_model(table, ModelOptions(model="linear"))
    monkeypatch.setattr(linear_path, "MOST_ENTRIES", table.num_train * 4 - 1)
    assert fit_linear(model, table) is None
    monkeypatch.setattr(linear_path, "MOST_ENTRIES", table.num_train * 4)
    assert fit_linear(model, table, seconds=0.0).decision.inputs["values"] == pytest.approx(
        (100 / table.num_train,)
    )
    whole = stored(_columns(0, seed=1), validation=0.0)
    assert fit_linear(model, whole) is None


def test_classes_that_weigh_more_are_predicted_more(stored) -> None:
    columns = _columns(2)
    rare = np.random.default_rng(1).random(ROWS) < 0.1
    table = stored(columns | {"y": np.where(rare, "yes", "no")})
    means = []
    for weight in (None, "balanced"):
        model = choose_model(table, ModelOptions(model="linear", class_weight=weight))
        means.append(fit_linear(model, table).params["bias"][0])
    assert means[0] == pytest.approx(np.log(0.1 / 0.9), abs=0.4)
    assert means[1] == pytest.approx(0.0, abs=0.1)


def test_the_lowest_loss_is_chosen() -> None:
    found = choose_l2(values=(1.0, 0.1, 0.01), losses=(0.7, 0.6, 0.65))
    assert choose_l2(values=(1.0, 0.1), losses=(0.5, 0.5)).new == 1.0
    assert choose_l2(values=(1.0, 0.1), losses=(float("nan"), 0.5)).new == 0.1
    assert found.new == 0.1 and replay([{"event": "decided", **found.to_json()}]) == [found]
