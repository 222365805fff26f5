"""Quantiles of a number: their loss, coverage, order and the columns of predictions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

from downslope import ModelOptions, TableOptions, Training, UsageError
from downslope.cli import main
from downslope.losses import quantile
from downslope.metrics import QuantileMetrics
from downslope.report.journal import read_journal
from downslope.table.fit import fit
from downslope.table.linear_path import fit_linear
from downslope.table.model import choose_model
from downslope.table.predict import predict
from downslope.table.run import opened

LEVELS = (0.1, 0.5, 0.9)


def _frame(count: int = 3000) -> pa.Table:
    """A number whose spread grows with x: its quantiles are lines that fan out."""
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 3, count)
    y = 100 + 10 * x + (1 + 2 * x) * draw.normal(size=count)
    return pa.table({"x": x, "kind": draw.choice(list("ab"), count), "y": y})


def test_the_loss_is_least_at_the_quantile():
    """Catches levels that are swapped, and a loss of one side alone."""
    y = np.arange(1, 101, dtype=np.float32)
    points = np.arange(0.5, 101, 1, dtype=np.float32)
    found = [np.asarray(quantile(np.full((100, 1), p), y, (0.3,))).mean() for p in points]
    assert points[int(np.argmin(found))] == pytest.approx(30.5)
    below, above = (float(quantile(np.float32([p]), np.float32([0]), (0.3,))[0]) for p in (-1, 1))
    assert (below, above) == pytest.approx((0.3, 0.7))


def test_metrics_are_those_of_scikit_learn():
    """Catches weights passed over, shares of the wrong side, and rows that are not finite."""
    from sklearn.metrics import mean_pinball_loss

    draw = np.random.default_rng(1)
    y, weight = draw.normal(size=500), draw.uniform(0, 2, 500)
    p = np.sort(draw.normal(size=(500, 3)), axis=1)
    metrics = QuantileMetrics("km", LEVELS)
    for part in (slice(0, 200), slice(200, 500)):
        metrics.add(np.ones(500)[part], p[part], y[part], weight[part])
    found = metrics.result()
    wanted = [mean_pinball_loss(y, p[:, k], alpha=q, sample_weight=weight)
              for k, q in enumerate(LEVELS)]  # fmt: skip
    assert found["quantile_loss"].value == pytest.approx(np.mean(wanted))
    assert found["quantile_loss"].unit == "km"
    for k, level in enumerate(LEVELS):
        share = found[f"below_{level:g}"]
        assert share.value == pytest.approx(np.average(y <= p[:, k], weights=weight))
        assert share.lo < share.value < share.hi
    inside = (y >= p[:, 0]) & (y <= p[:, 2])
    assert found["within"].value == pytest.approx(np.average(inside, weights=weight))
    metrics.add(np.ones(1), np.full((1, 3), np.nan), np.zeros(1))
    assert "not finite" in metrics.result().reasons["within"]


def test_the_linear_half_is_that_of_a_linear_program():
    """Catches a rounding of the kink that moves the solution, and rounded losses handed on."""
    from sklearn.linear_model import QuantileRegressor

    with opened(_frame(), TableOptions(target="y")) as stored:
        model = choose_model(stored, ModelOptions(model="linear", quantile=LEVELS))
        found = fit_linear(model, stored)
        assert found is not None
        train, held = (r.unpack(r.read(0, r.num_rows)) for r in (stored.train, stored.held_out))
        wanted = np.stack([
            QuantileRegressor(quantile=q, alpha=0, solver="highs").fit(train.x, train.y)
            .predict(held.x) for q in LEVELS
        ], axis=1)  # fmt: skip
        expected = np.asarray(quantile(wanted.astype("float32"), held.y, LEVELS))
        assert found.losses.mean() == pytest.approx(expected.mean(), rel=5e-3)
        assert_allclose(found.losses, np.asarray(model.losses(found.params, held)), atol=1e-6)


def test_the_linear_half_is_judged_by_what_it_predicts():
    """Catches held-out losses of lines that cross, where predictions are sorted."""
    draw = np.random.default_rng(4)
    x = draw.uniform(-1, 1, 2000)  # a spread that curves: the lines fitted to it cross
    frame = pa.table({"x": x, "y": np.exp(3 * x) * draw.normal(size=2000)})
    with opened(frame, TableOptions(target="y")) as stored:
        model = choose_model(stored, ModelOptions(model="linear", quantile=LEVELS))
        found = fit_linear(model, stored)
        held = stored.held_out.unpack(stored.held_out.read(0, stored.num_held_out))
        crossed = held.x @ found.params["weights"] + found.params["bias"]
        assert (np.diff(crossed) < 0).any()
        assert_allclose(found.losses, np.asarray(model.losses(found.params, held)), atol=1e-6)


def test_the_linear_half_follows_a_long_tail():
    """Catches a rounding by the standard deviation, which a tail makes as wide as all the rest."""
    y = np.exp(2 * np.random.default_rng(0).normal(size=4000))
    frame = pa.table({"x": np.random.default_rng(1).normal(size=4000), "y": y})
    with opened(frame, TableOptions(target="y")) as stored:
        model = choose_model(stored, ModelOptions(model="linear", quantile=LEVELS))
        params = fit_linear(model, stored).params
        rows = stored.train.unpack(stored.train.read(0, stored.num_train))
        shares = (rows.y[:, None] <= np.asarray(model.outputs(params, rows))).mean(0)
        assert_allclose(shares, LEVELS, atol=0.02)


def test_quantiles_do_not_cross():
    """Catches predictions in the order of the outputs, which noise may cross."""
    with opened(_frame(500), TableOptions(target="y")) as stored:
        model = choose_model(stored, ModelOptions(model="linear", quantile=LEVELS))
        batch = stored.held_out.unpack(stored.held_out.read(0, 20))
        crossed = model.init(0) | {"bias": np.float32([2, 0, 1])}
        out = np.asarray(model.outputs(crossed, batch))
        assert_allclose(out, np.tile([0, 1, 2], (20, 1)), atol=1e-6)
        assert model.point(out).tolist() == out[:, 1].tolist()
        one = dataclasses.replace(model, options=ModelOptions(model="linear", quantile=(0.9,)))
        assert one.num_outputs == 1 and one.outputs(one.init(0), batch).shape == (20,)


@pytest.mark.parametrize("name", ["auto", "net", "mlp", "linear"])
def test_a_run_predicts_its_quantiles(name, tmp_path):
    """Catches a model that trains quantiles and scores or predicts something else."""
    frame, steps = _frame(), None if name == "auto" else 400
    found = fit(frame, TableOptions(target="y"), ModelOptions(model=name, quantile=LEVELS),
                Training(steps=steps), out=tmp_path / "run")  # fmt: skip
    scores = found.result.validation
    assert "rmse" not in scores and scores["quantile_loss"].unit == "unit of y"
    assert scores["below_0.1"].value == pytest.approx(0.1, abs=0.06)
    table = predict(tmp_path / "run", frame.drop(["y"])).table
    assert table.column_names == ["quantile_0.1", "quantile_0.5", "quantile_0.9"]
    columns = np.stack([column.to_numpy() for column in table])
    shares = (frame["y"].to_numpy() <= columns).mean(axis=1)
    assert_allclose(shares, LEVELS, atol=0.05)
    assert (np.diff(columns, axis=0) >= 0).all()
    with pytest.raises(UsageError, match="predicts quantiles"):
        predict(tmp_path / "run", frame, interval=0.9)


@pytest.mark.parametrize(("options", "rule"), [
    ({"quantile": (0.9, 0.1)}, "must rise"), ({"quantile": (0.0, 0.5)}, "between 0 and 1"),
    ({"quantile": (0.5,), "loss": "huber"}, "leave out loss huber"),
])  # fmt: skip
def test_levels_out_of_range_are_refused(options, rule):
    with pytest.raises(UsageError, match=rule):
        ModelOptions(**options)


def test_classes_have_no_quantiles():
    with pytest.raises(UsageError, match="quantiles are of numbers"):
        fit(_frame(200), TableOptions(target="kind"), ModelOptions(quantile=LEVELS))


def test_a_report_of_quantiles_is_written(tmp_path, monkeypatch, capsys):
    """Catches evidence that takes quantiles for one prediction, and a flag that is not read."""
    pq.write_table(_frame(1000), tmp_path / "t.parquet")
    monkeypatch.chdir(tmp_path)
    words = ["fit", "t.parquet", "--target", "y", "--quantile", "0.1,0.9", "--out", "run"]
    assert main([*words, "--model", "linear"]) == 0
    told = capsys.readouterr().out
    assert "below_0.9" in told and "within" in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert "quantile loss, on 109 held-out rows" in page and "Error:" not in page
    record = next(r for r in read_journal(tmp_path / "run" / "journal.jsonl")
                  if r["event"] == "baselines")  # fmt: skip
    assert record["trivial"]["value"] > record["model"]["value"] > 0
