"""Metrics held against a target: all rows where the sample is at it."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import loops
from downslope import Training, UsageError
from downslope.metrics import MeanLoss
from downslope.train.evaluations import evaluate
from downslope.train.held_out import HeldOut
from downslope.train.targets import check_targets, held_out_metrics, training_metrics
from loops import X, Y, loop_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


def evaluator(means):
    """An evaluator that finds these mean losses one after the other."""
    left = iter(means)

    def found(params):
        accumulator, losses = MeanLoss(), np.full(8, next(left))
        accumulator.add(losses)
        results = accumulator.result()
        results.losses = losses
        return results

    found.compile_seconds = 0.0
    return found


def test_a_sample_that_all_rows_refuted_must_be_better_by_the_difference():
    """Catches a run that ends above its target, and all rows evaluated each time that the sample
    is at it.
    """
    sample, whole = evaluator([0.6, 0.4, 0.35, 0.25]), evaluator([0.6, 0.45])
    setup = loops.setup_of(validation=(X, Y), steps=90, until={"loss": 0.5})
    setup = dataclasses.replace(setup, evaluate=whole, sample_evaluator=lambda num_rows: sample)
    loop = loop_of(setup)
    loop.state.held_out = dataclasses.replace(loop.state.held_out, num_rows=256)
    found = []
    for _ in range(4):
        results = held_out_metrics(loop, evaluate(loop))
        found.append(None if results is None else results["loss"].value)
    assert found == pytest.approx([None, 0.6, None, 0.45])
    kept = json.loads(json.dumps(loop.state.held_out.to_json()))
    assert HeldOut(**kept).offsets == pytest.approx({"loss": 0.2})


def test_no_target_asks_for_no_rows():
    """Catches all rows evaluated for a run without a target."""
    loop = loop_of(loops.setup_of(validation=(X, Y), steps=90))
    assert held_out_metrics(loop, evaluate(loop)) is None


class Odd:
    """A scorer whose metrics are not known without rows."""

    def accumulator(self):
        raise ValueError("no rows yet")


@pytest.mark.parametrize("name", ["accuracy", "rmse"])
def test_a_target_that_cannot_be_judged_is_refused_at_once(name):
    """Catches a name that is compared in alphabetical order, and a run towards a metric that is
    never measured.
    """
    with pytest.raises(UsageError, match=f"no rows are held out.*{name}"):
        check_targets(Training(until={name: 0.5, "loss": 0.1}), None)
    with pytest.raises(UsageError, match=f"until must name metrics among .*{name}"):
        loops.setup_of(validation=(X, Y), steps=90, until={name: 0.5})
    with pytest.raises(UsageError, match="no rows are held out"):
        loops.setup_of(steps=90, until={name: 0.5})
    check_targets(Training(until={"loss": 0.5}), None)
    check_targets(Training(until={name: 0.5}), Odd())  # the first evaluation tells


def test_without_held_out_rows_the_training_loss_is_judged_where_it_is_due():
    """Catches a loss judged at every call, whose lengths follow the clock, and one never judged."""
    loop = loop_of(loops.setup_of(steps=90, until={"loss": 0.5}))
    inside = SimpleNamespace(ends_epoch=False, stop=7, num_steps=7)
    assert training_metrics(loop, inside) is None
    loop.state.progress.last_epoch_loss = 0.4
    ending = SimpleNamespace(ends_epoch=True, stop=30, num_steps=7)
    assert training_metrics(loop, ending)["loss"].value == 0.4
    none = loop_of(loops.setup_of(steps=90))
    assert training_metrics(none, ending) is None


def test_a_step_that_went_wrong_reaches_no_target():
    """Catches a loss from before the fault that ends the run as a success."""
    loop = loop_of(loops.setup_of(steps=90, until={"loss": 0.5}))
    ending = SimpleNamespace(ends_epoch=True, stop=30, num_steps=7)
    assert training_metrics(loop, ending) is None  # no epoch is over yet
    loop.state.progress.last_epoch_loss, loop.trouble = 0.4, ("planted", 3)
    assert training_metrics(loop, ending) is None
