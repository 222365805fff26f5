"""Runs that end at a target of their metrics."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

import downslope
import loops
import plain
from downslope import StopReason, Training, UsageError
from downslope.choose import replay
from downslope.estimate import Estimate
from downslope.flags import targets_of
from downslope.metrics import ClassificationMetrics, Results
from downslope.train.run_folder import read_request

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAW = np.random.default_rng(7)
X = DRAW.normal(size=(16_000, 4)).astype("float32")
P = 1 / (1 + np.exp(-(X @ np.float32([2, -2, 1, 0]))))
Y = (DRAW.random(16_000) < P).astype("float32")
TRAIN, HELD_OUT, MANY = ((X[a:b], Y[a:b]) for a, b in ((0, 6000), (6000, 7000), (7000, 16_000)))


@loops.Shared
def loss(model, batch, key):
    score = batch[0] @ model["w"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


class Classes:
    """Metrics of classes, with a name of its own for one of them."""

    def score(self, model, batch, losses):
        return {"losses": losses, "scores": batch[0] @ model["w"], "targets": batch[1]}

    def accumulator(self):
        metrics = ClassificationMetrics(2, probabilities=False)

        class Accumulator:
            def add(self, losses, scores, targets):
                metrics.add(losses, None, targets.astype(int), scores=scores)

            def result(self):
                return metrics.result()

        return Accumulator()


def fit(until, data=TRAIN, **options):
    given = {
        "optimizer": "sgd", "learning_rate": 0.02, "schedule": "constant", "batch_size": 20,
        "patience": "auto", "validation": HELD_OUT, "measure_every": None, "steps": 1000,
        "scorer": Classes(),
    } | options  # fmt: skip
    if given["validation"] is None:
        del given["scorer"]
    return plain.fit(loss, {"w": np.zeros(4, "float32")}, data, until=until, **given)


def test_a_run_stops_where_it_reaches_its_target():
    """Catches a run that goes on, one that keeps the parameters of another update, metrics that
    are not at the target, and a stop that no journal explains.
    """
    result = fit({"accuracy": 0.8})
    assert result.stop_reason is StopReason.TARGET_REACHED and result.stop_reason.exit_code == 0
    assert 0 < result.num_steps < 1000
    assert result.validation["accuracy"].value >= 0.8
    before = [r for r in result.history if r["event"] == "evaluated"][:-1]
    assert all(r["metrics"]["accuracy"]["value"] < 0.8 for r in before)
    stop = replay(result.history)[-1]
    assert (stop.knob, stop.new, stop.policy) == ("stop", "target reached", "target_reached")
    assert f"accuracy {result.validation['accuracy']}".startswith(stop.because[9:22])
    scores = HELD_OUT[0] @ result.params["w"]
    assert np.mean((scores > 0) == HELD_OUT[1]) >= 0.8


def test_a_target_out_of_reach_leaves_the_end_to_others():
    """Catches a run without an end, and one that claims to have reached its target."""
    assert fit({"accuracy": 0.999}).stop_reason is not StopReason.TARGET_REACHED
    result = fit({"loss": 0.01}, steps=None, schedule="auto")
    assert result.stop_reason is StopReason.CONVERGED


def test_all_of_several_targets():
    """Catches the first of them for all."""
    first = fit({"loss": 0.55}).num_steps
    both = fit({"loss": 0.55, "accuracy": 0.83})
    assert both.stop_reason is StopReason.TARGET_REACHED and both.num_steps > first
    assert both.validation["loss"].value <= 0.55 and both.validation["accuracy"].value >= 0.83


@pytest.mark.parametrize("patience", [None, 50])
def test_a_given_patience_does_not_wait_for_the_end_of_an_epoch(patience):
    """Catches a target that is only looked for where patience counts."""
    result = fit({"loss": 0.6}, patience=patience)
    assert result.stop_reason is StopReason.TARGET_REACHED and 0 < result.num_steps < 300


def test_without_held_out_rows_the_training_loss_counts():
    """Catches a target that is never looked for without an evaluation, and a single loss."""
    result = fit({"loss": 0.55}, validation=None)
    assert result.stop_reason is StopReason.TARGET_REACHED and result.num_steps % 50 == 0
    assert replay(result.history)[-1].because.startswith("training loss 0.5")
    timed = fit({"loss": 0.55}, validation=None, steps=None, seconds=60.0)
    assert timed.stop_reason is StopReason.TARGET_REACHED


def test_all_rows_decide_where_a_sample_was_evaluated():
    """Catches a lucky sample that ends the run above its target."""
    result = fit({"loss": 0.5}, validation=MANY)
    rows = [r["num_rows"] for r in result.history if r["event"] == "evaluated"]
    assert rows[0] == 256 and rows[-1] == len(MANY[0])
    assert rows.count(rows[-1]) < len(rows) / 2
    assert result.validation["loss"].value <= 0.5
    assert result.validation["loss"].num_examples == len(MANY[0])


@pytest.mark.parametrize(
    ("until", "options", "message"),
    [
        ({"acuracy": 0.9}, {}, r"among loss, accuracy.*; got 'acuracy'; did you mean 'accuracy'\?"),
        ({"loss": 0.5, "r2": 0.9}, {}, "got 'r2'"),
        (
            {"accuracy": 0.9},
            {"validation": None},
            r"training loss.*; got 'accuracy'",
        ),
        ({}, {}, "until must be numbers by metric"),
        ({"loss": np.nan}, {}, "until must be numbers by metric"),
        ({"loss": "low"}, {}, "until must be numbers by metric"),
        (0.5, {}, "until must be numbers by metric"),
        ({3: 0.5}, {}, "until must be numbers by metric"),
    ],
)
def test_wrong_targets_are_refused_before_training(until, options, message):
    """Catches a name that is only missed when it is looked up, hours later."""
    seen = []
    with pytest.raises(UsageError, match=message):
        fit(until, readers=(seen.append,), **options)
    assert seen == []


def test_a_scorer_that_needs_rows_to_name_its_metrics():
    """Catches a refusal of metrics that only the first evaluation can name, and none after it."""

    class Late(Classes):
        def accumulator(self):
            rows = []

            class Accumulator:
                def add(self, losses, scores, targets):
                    rows.append(losses)

                def result(self):
                    value = float(np.concatenate(rows).mean())
                    return Results({"score": Estimate(value=-value, unit="")}, ["score"])

            return Accumulator()

    result = fit({"score": -0.6}, scorer=Late())
    assert result.stop_reason is StopReason.TARGET_REACHED
    with pytest.raises(UsageError, match="until must name metrics among score; got 'other'"):
        fit({"other": 1.0}, scorer=Late())


def test_a_resumed_run_may_have_another_target(tmp_path):
    """Catches a target that is fixed for good, and a resumed run that stops where it was."""
    first = fit({"loss": 0.6}, out=tmp_path / "run")
    again = fit({"loss": 0.5}, resume=tmp_path / "run")
    assert again.stop_reason is StopReason.TARGET_REACHED and again.num_steps > first.num_steps
    assert read_request(tmp_path / "run")["training"]["until"] == {"loss": 0.5}
    straight = fit({"loss": 0.5})
    assert straight.num_steps == again.num_steps
    assert straight.params["w"].tolist() == again.params["w"].tolist()
    assert fit(None, resume=tmp_path / "run").stop_reason is StopReason.FINISHED


def test_numpy_numbers_are_plain_ones():
    """Catches a request that cannot be written."""
    until = Training(until={"loss": np.float32(0.5)}).until
    assert json.dumps(until) == '{"loss": 0.5}'


def test_targets_on_the_command_line():
    """Catches a name without a number, and a second target in the place of the first."""
    assert targets_of(["loss=0.3", "accuracy = .95"]) == {"loss": 0.3, "accuracy": 0.95}
    assert targets_of(["none"]) is None
    for word in ("loss", "loss=", "loss=low", "=0.3"):
        with pytest.raises(ValueError, match=r"write loss=0\.3"):
            targets_of([word])


def test_the_reasons_of_a_run_know_its_target():
    """Catches a stop reason without advice."""
    assert "target" in StopReason.TARGET_REACHED.advice
    assert downslope.StopReason("target reached") is StopReason.TARGET_REACHED
