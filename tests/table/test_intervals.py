"""Prediction intervals, calibrated on held-out rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

import plain
from downslope import DownslopeError, ModelOptions, TableOptions
from downslope.table.fit import fit
from downslope.table.intervals import MOST_SCORES, Intervals
from downslope.table.predict import predict
from downslope.table.run import trained_model

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("count", [19, 500, 30_000])
def test_a_new_row_is_covered_as_often_as_said(count) -> None:
    """Catches n in the place of n + 1, a rank that is one off, and one side of two.

    Exact by exchangeability: the mean coverage is the rank over n + 1.
    """
    rng, level, shares = np.random.default_rng(0), 0.9, []
    for _ in range(400 if count < 1000 else 20):
        spread = rng.uniform(0.5, 2, count + 2000)
        errors = spread * rng.standard_t(3, count + 2000)
        found = Intervals.of(errors[:count], spread[:count])
        assert len(found.scores) == min(count, MOST_SCORES)
        half = found.half_widths(spread[count:], level)
        shares.append((abs(errors[count:]) <= half).mean())
    expected = np.ceil((count + 1) * level) / (count + 1)
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - expected) < 4 * error + 1.5 / MOST_SCORES


def test_where_members_disagree_intervals_are_wider() -> None:
    rng = np.random.default_rng(0)
    spread = rng.choice([0.1, 1.0], 4000)
    found = Intervals.of(spread * rng.normal(size=4000), spread)
    narrow, wide = found.half_widths(np.array([0.1, 1.0]), 0.9)
    assert wide > 1.5 * narrow
    constant = Intervals.of(rng.normal(size=4000), np.zeros(4000))
    assert_allclose(constant.half_widths(np.zeros(2), 0.9), 1.64, atol=0.06)


@pytest.mark.parametrize(
    ("model", "loss"), [("linear", None), ("net", None), ("linear", "poisson")]
)
def test_predictions_have_their_intervals(tmp_path, monkeypatch, model, loss) -> None:
    """Catches ends in the units of training, and rows that are mixed up."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    y = rng.poisson(np.exp(1 + 0.5 * x)).astype(float) if loss else 1000 + 50 * x
    y = y if loss else y + 20 * rng.normal(size=3000)
    rows, new = (
        pa.table({"x": x[part], "y": y[part]}) for part in (slice(1500), slice(1500, None))
    )
    training = plain.training(steps=200, batch_size=64, learning_rate=0.03, optimizer="nadam")
    asked = ModelOptions(model=model, loss=loss, hidden=(16,))
    fit(rows, TableOptions(target="y", validation=0.3), asked, training, out=tmp_path / "run")
    found = predict(tmp_path / "run", new, interval=0.8).table
    lower, upper, middle = (found[name].to_numpy() for name in ("lower", "upper", "prediction"))
    truth = new["y"].to_numpy()
    assert ((truth >= lower) & (truth <= upper)).mean() == pytest.approx(0.8, abs=0.05)
    assert (lower < middle).all() and (middle < upper).all()
    assert predict(tmp_path / "run", new).table["prediction"].to_numpy() == pytest.approx(middle)
    if loss:
        assert lower.min() >= 0
    elif model == "linear":
        assert_allclose(upper - lower, 2 * 1.28 * 20, rtol=0.15)


def test_what_has_no_intervals_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    x = np.random.default_rng(0).normal(size=200)
    numbers, classes = pa.table({"x": x, "y": 2 * x}), pa.table({"x": x, "y": np.sign(x)})
    for name, table, task, validation, level, why in (
        ("few", numbers, "regress", 0.1, 0.99, "needs 99 held-out rows; there are"),
        ("huge", numbers, "regress", 0.1, 1 - 1e-12, "held-out rows; there are"),  # soon
        ("none", numbers, "regress", 0.0, 0.9, "kept no errors"),
        ("classes", classes, "classify", 0.1, 0.9, "classes have probabilities"),
        ("range", numbers, "regress", 0.1, 1.0, "interval must be"),
    ):
        options = TableOptions(target="y", task=task, validation=validation)
        fit(table, options, plain.LINEAR, plain.training(steps=5), out=tmp_path / name)
        with pytest.raises(DownslopeError, match=why):
            predict(tmp_path / name, table, interval=level)
    assert (
        trained_model(tmp_path / "none").intervals,
        trained_model(tmp_path / "classes").intervals,
    ) == (None, None)
