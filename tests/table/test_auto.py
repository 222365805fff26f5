"""The model that is left to choose: linear, a net, or both, as held-out rows say."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

import downslope
import plain
from downslope import ModelOptions, StopReason, TableOptions, Training
from downslope.table import auto
from downslope.table.calibration import probabilities
from downslope.table.fit import fit
from downslope.table.predict import outputs_of, predict
from downslope.table.run import request_of, trained_model

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = 2000


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))

    def fitted(columns, validation=0.2, **training):
        steps = {"optimizer": "nadam", "learning_rate": 0.02, "batch_size": 64, "steps": 300}
        return fit(
            pa.table(columns), TableOptions(target="y", validation=validation),
            ModelOptions(hidden=(32, 32)), plain.training(**{**steps, **training}),
            out=tmp_path / "run",
        )  # fmt: skip

    return fitted


def _table(rng, bend, noise=0.3):
    x = rng.normal(size=(ROWS, 2))
    y = x[:, 0] + bend * np.sin(4 * x[:, 1]) + noise * rng.normal(size=ROWS)
    return {"a": x[:, 0], "b": x[:, 1], "y": y}


def _decided(found):
    (record,) = (r for r in found.result.history if r.get("knob") == "model")
    return record


def test_a_curve_takes_the_net(fitted, tmp_path) -> None:
    found = fitted(_table(np.random.default_rng(0), bend=1.0))
    assert found.model.parts == ("net",) and _decided(found)["new"] == "net"
    assert found.summary()["model"] == "net"
    assert found.result.validation["rmse"].value < 0.7  # 0.77 without the curve
    assert trained_model(tmp_path / "run").model.parts == ("net",)


def test_a_line_takes_the_linear_model(fitted, tmp_path) -> None:
    """Catches a net that is kept though it is worse, and metrics of the other model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12))
    y = x @ rng.normal(size=12) + 0.1 * rng.normal(size=300)
    columns = {f"x{i}": x[:, i] for i in range(12)}
    found = fitted({**columns, "y": y}, steps=40)
    assert found.model.parts == ("linear",)
    assert found.result.validation["rmse"].value < 0.2
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    last = [r for r in map(json.loads, lines) if r["event"] == "evaluated"][-1]
    assert last["metrics"]["rmse"]["value"] == found.result.validation["rmse"].value
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["validation"]["rmse"] == found.result.validation["rmse"].value


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_two_that_differ_by_noise_are_averaged(fitted, tmp_path, monkeypatch, classes) -> None:
    """Catches a mean of logits, weights that are lost in the file, and metrics of one of them."""
    asked = {}

    def choose(**given):
        asked.update(given)
        return downslope.choose.Decision(
            knob="model", old="auto", new="linear and net", because="a test says so"
        )

    monkeypatch.setattr(auto, "choose_between", choose)
    monkeypatch.setattr(auto, "is_noise", lambda gain, error: True)
    table = _table(np.random.default_rng(1), bend=0.3)
    if classes:
        table["y"] = np.digitize(table["y"], [0.0, 1.0][: classes - 1]).astype(str)
    found = fitted(table)
    assert found.model.parts == ("linear", "net")
    trained = trained_model(tmp_path / "run")
    assert set(trained.params) == {"linear", "net"}
    given = predict(tmp_path / "run", pa.table(table)).table
    alone = []
    for part in ("linear", "net"):
        found_outputs = outputs_of(found.model.only(part), trained.params[part], pa.table(table))
        alone.append(np.concatenate([out for out, _ in found_outputs]))
    metric = "log_loss" if classes else "rmse"
    stored = downslope.open(pa.table(table), TableOptions(target="y", validation=0.2))
    with contextlib.closing(stored):
        apart = [
            auto.evaluate(found.model.only(part), trained.params[part], stored.held_out)
            for part in ("linear", "net")
        ]  # fmt: skip
    of_parts = [each[metric].value for each in apart]
    losses = [each["loss"].value for each in (*apart, found.result.validation)]
    assert asked["gain"] == pytest.approx(losses[0] - losses[1], abs=1e-5)
    assert asked["mean_gain"] == pytest.approx(losses[0] - losses[2], abs=1e-5)
    seen = found.result.validation[metric].value
    # by Jensen; a metric of one of them would be equal to it
    assert seen < np.mean(of_parts) and min(abs(seen - each) for each in of_parts) > 1e-6
    if not classes:
        expected = np.mean([found.model.in_target_unit(out) for out in alone], axis=0)
        assert_allclose(given["prediction"], expected, rtol=1e-4, atol=1e-4)
        return
    expected = np.mean([probabilities(out) for out in alone], axis=0)
    names = [f"probability_{c}" for c in found.model.encoding.classes]
    assert_allclose(np.stack([given[n] for n in names], 1), expected, rtol=1e-4, atol=1e-5)


def test_without_held_out_rows_it_is_linear(fitted) -> None:
    found = fitted(_table(np.random.default_rng(0), bend=1.0), validation=0.0)
    assert found.model.parts == ("linear",) and found.result.validation is None
    assert "no rows are held out" in _decided(found)["because"]


@pytest.mark.parametrize(("linear_seconds", "left"), [(1.5, 6.5), (9.0, 0.8)])
def test_a_time_budget_holds_both(monkeypatch, linear_seconds, left) -> None:
    """Catches a linear model whose time comes on top, and a budget below 0."""
    budgets = []

    def trained(*_, seconds, **__):
        budgets.append(seconds)
        return SimpleNamespace(
            seconds=linear_seconds, stop_reason=StopReason.CONVERGED, params=None, validation=None
        )

    monkeypatch.setattr(downslope, "fit", trained)
    monkeypatch.setattr(auto, "fit_linear", lambda *_, seconds: budgets.append(seconds))
    monkeypatch.setattr(auto, "TableScorer", lambda model: None)
    part = SimpleNamespace(loss_fn=None, init=lambda seed: None, penalized=None, parts=("linear",))
    model = SimpleNamespace(only=lambda part_name: part)
    stored = SimpleNamespace(train=None, held_out=None, num_train=100)
    choice = auto.Choice(model, stored, Training(seconds=8.0))
    assert budgets == [pytest.approx(1.6)] * 2
    assert choice.training.seconds == pytest.approx(left)


def test_what_is_asked_of_the_linear_model_is_trained(monkeypatch) -> None:
    """Catches a penalty, or an optimizer, that the solved path leaves out."""
    monkeypatch.setattr(auto, "fit_linear", lambda *_, seconds: pytest.fail("solved"))
    result = SimpleNamespace(
        seconds=1.0, stop_reason=StopReason.CONVERGED, params=None, validation=None
    )
    monkeypatch.setattr(downslope, "fit", lambda *_, **__: result)
    monkeypatch.setattr(auto, "TableScorer", lambda model: None)
    part = SimpleNamespace(loss_fn=None, init=lambda seed: None, penalized=None, parts=("linear",))
    model = SimpleNamespace(only=lambda part_name: part)
    stored = SimpleNamespace(train=None, held_out=None, num_train=100)
    for asked in ({"l2": 0.1}, {"l1": 0.1}, {"optimizer": "sgd"}):
        auto.Choice(model, stored, Training(**asked))


def test_a_resumed_run_asks_for_what_was_asked(fitted, tmp_path) -> None:
    """Catches a linear model that is trained with the net's settings after a resume."""
    fitted(
        _table(np.random.default_rng(0), bend=1.0),
        learning_rate="auto",
        optimizer="auto",
        schedule="auto",
    )
    request = request_of(tmp_path / "run", needs_path=False)
    assert request.training["learning_rate"] == pytest.approx(0.03)
    assert request.training["schedule"] == "cosine"
    assert request.asked["learning_rate"] == request.asked["optimizer"] == "auto"
    assert "steps" not in request.asked  # a limit, which may change


def test_weights_count_in_the_comparison() -> None:
    """Catches a plain mean, a row of weight 0 that counts, and an error of the weighted sum."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50))
    gain, error = auto._difference(first, second, np.ones(50))
    gaps = first - second
    assert gain == pytest.approx(gaps.mean())
    assert error == pytest.approx(gaps.std(ddof=1) / np.sqrt(50))
    some = np.where(np.arange(50) < 20, 3.0, 0.0)
    assert auto._difference(first, second, some) == pytest.approx(
        auto._difference(first[:20], second[:20], np.ones(20))
    )
    assert auto._difference(None, second, some) == (None, None)
