"""The race for the first learning rate, on a quadratic whose stability edge is known."""

from __future__ import annotations

import math

import jax
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plain
from downslope import losses as row_losses
from downslope.config import Training
from downslope.train.assemble import assemble
from downslope.train.flight import Flight
from downslope.train.rate_search import race, search_begins_at
from downslope.train.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 600
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = X @ np.float32([1, -2, 3]) + np.float32(0.1) * np.random.default_rng(1).normal(size=ROWS)
EDGE = 2 / np.linalg.eigvalsh(X.T @ X / ROWS)[-1]
STEPS = 40  # an epoch has 30: a trial takes more than one call


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def model():
    return {"w": np.zeros(3, "float32")}


def never():
    return False


def engine_of(data=(X, Y), **options):
    return assemble(loss, model(), data, Training(optimizer="sgd", batch_size=20, **options))


@pytest.fixture(scope="module")
def engine():
    return engine_of(measure_every=2)


def fly(engine, first, interrupted=never):
    flight = Flight(engine, Run(None))
    return flight, race(flight, engine.knobs(), first, STEPS, interrupted)


@pytest.fixture(scope="module")
def raced(engine):
    """A race that begins just under the edge, so that its second rate diverges."""
    return fly(engine, 0.9 * EDGE)


def by_rate(decision):
    return dict(zip(decision.inputs["rates"], decision.inputs["losses"], strict=True))


def test_only_rates_above_the_edge_are_lost(raced):
    """Catches a trial that is charged with the call which the diverged one before it left."""
    losses = by_rate(raced[1])
    assert sum(math.isinf(each) for each in losses.values()) == 1
    for rate, each in losses.items():
        assert math.isfinite(each) == (rate < EDGE)
    below = [losses[rate] for rate in sorted(losses)][:-1]
    assert len(below) >= 3
    assert raced[1].new == min(losses, key=losses.__getitem__)


def test_the_winners_progress_is_kept_and_no_other(raced, engine):
    """Catches a winner that is trained again, the last trial's end, and counts of all trials."""
    flight, decision = raced
    tally = flight.tally
    assert (tally.num_steps, tally.num_examples) == (STEPS, STEPS * 20)
    assert (tally.position.epoch, tally.position.row) == (1, 200)
    assert len(tally.first_losses) == 16 and flight.healthy
    alone = plain.fit(
        loss, model(), (X, Y), optimizer="sgd", batch_size=20, steps=STEPS,
        learning_rate=decision.new,
    )  # fmt: skip
    state = jax.device_get(flight._state)
    assert int(state.step) == STEPS
    assert_allclose(state.params["w"], alone.params["w"], rtol=1e-5)
    assert_array_equal(flight.run.last.tensors["state/params/w"], state.params["w"])


def test_each_trial_began_at_the_same_point_with_the_same_rows(raced, engine):
    """Catches a trial that goes on from the end of another: each is a run of its own."""
    for rate, seen in by_rate(raced[1]).items():
        if rate < EDGE:
            alone = Flight(engine, Run(None))
            alone.fly(engine.knobs()._replace(learning_rate=np.float32(rate)), STEPS, never)
            assert seen == pytest.approx(float(np.mean(list(alone.tally.last_losses))), rel=1e-4)


def test_measured_steps_of_losing_trials_are_forgotten(raced):
    """Catches a noise scale that is read from diverging runs."""
    steps = raced[0].watch.arrays()["steps"]
    assert len(steps) == len(set(steps.tolist())) <= STEPS
    assert steps.max() < STEPS


def test_where_every_rate_is_lost_it_stands_at_the_start(engine):
    """Catches a run that goes on from parameters that are not finite."""
    flight, decision = fly(engine, 1e30)
    assert decision is None
    assert flight.healthy and flight.tally.num_steps == 0
    state = jax.device_get(flight._state)
    assert_array_equal(state.params["w"], np.zeros(3))
    assert int(state.step) == 0
    assert flight.run.last.document["tally"]["num_steps"] == 0
    flight.fly(engine.knobs()._replace(learning_rate=np.float32(0.1)), STEPS, never)
    assert flight.healthy and flight.tally.num_steps == STEPS


@pytest.mark.parametrize("calm", [0, 1, 5])
def test_an_interrupt_ends_it_where_it_began(calm, engine):
    """Catches a Ctrl-C that waits for all trials, raises before the first, or leaves the run at
    the end of a rate that nothing was compared with.
    """
    answers = [False] * calm
    flight, decision = fly(engine, 0.1, lambda: not answers or answers.pop())
    assert decision is None
    assert flight.healthy and flight.tally.num_steps == 0
    assert_array_equal(jax.device_get(flight._state).params["w"], np.zeros(3))


def test_an_interrupt_ends_a_trial_too(engine):
    """Catches a Ctrl-C that waits for a trial of many slow calls."""
    flight = Flight(engine, Run(None))
    flight.fly(engine.knobs(), 10_000, lambda: True)
    assert 0 < flight.tally.num_steps <= 30  # the first call; those of 30 end with the epoch
    assert int(jax.device_get(flight._state).step) == flight.tally.num_steps


def test_a_time_budget_ends_it_with_the_trials_made():
    """Catches seven trials that take longer than the whole run may."""
    engine = engine_of(seconds=8.0, measure_every=None)
    flight = Flight(engine, Run(None))
    moments = iter([0.0] * 10 + [3.0] * 1000)
    type_of = type(flight)
    before = type_of.seconds
    type_of.seconds = property(lambda self: next(moments))
    try:
        decision = race(flight, engine.knobs(), 0.1, STEPS, never)
    finally:
        type_of.seconds = before
    assert 1 <= len(decision.inputs["rates"]) < 4
    assert flight.tally.num_steps == STEPS


def test_the_search_begins_at_the_edge_of_plain_descent():
    """Catches a rate that does not follow the loss's scale: rows 10 times as large."""
    assert search_begins_at(engine_of()) == pytest.approx(EDGE, rel=0.15)
    large = engine_of((10 * X, Y))
    assert search_begins_at(large) == pytest.approx(EDGE / 100, rel=0.15)
    momentum = Training(optimizer="momentum", momentum=0.8, batch_size=20)
    found = search_begins_at(assemble(loss, model(), (X, Y), momentum))
    assert found == pytest.approx(EDGE / 5, rel=0.15)


def test_rules_without_the_losss_scale_begin_at_their_own():
    """Catches a search for what the rule holds or finds by itself."""
    for optimizer, expected in (
        ("adam", 1e-2), ("schedule_free", 1e-2), ("prodigy", None), (optax.sgd(0.1), None),
    ):  # fmt: skip
        training = Training(optimizer=optimizer, batch_size=20)
        assert search_begins_at(assemble(loss, model(), (X, Y), training)) == expected


def test_a_loss_without_curvature_begins_at_the_named_rate():
    """Catches a division by lambda_max = 0, as the hinge has it at its start."""

    def hinge(model, batch, key):
        return row_losses.hinge(batch[0] @ model["w"], batch[1] > 0)

    engine = assemble(hinge, model(), (X, Y), Training(optimizer="sgd", batch_size=20))
    assert search_begins_at(engine) == 0.1
