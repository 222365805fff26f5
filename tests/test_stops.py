"""Reasons to stop (finished, time up, converged, diverged), and the parameters that are kept."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plain
from downslope import StopReason, Training
from downslope.config import EPOCHS, MOST_EPOCHS, STEPS
from downslope.data.stream import Position
from downslope.train.assemble import assemble
from loops import line, model

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    return x, x @ np.float32([1, -2, 3]) + 0.1 * rng.normal(size=200).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "steps", "epochs"),
    [
        ({"epochs": 3}, 21, 3),
        ({"steps": 10}, 10, 1 + 96 / 200),
        ({"epochs": 2, "steps": 99}, 14, 2),
        ({}, EPOCHS * 7, EPOCHS),
    ],
)
def test_finished_means_the_exact_number_of_steps(limits, steps, epochs, small):
    """Catches a run that rounds its steps up to a call, a block or an epoch, and one without any
    limit that never ends.
    """
    result = plain.fit(line, model(), small, batch_size=32, **limits)
    assert result.stop_reason is StopReason.FINISHED
    assert result.num_steps == steps
    # seven batches make an epoch, the last of 8 rows; three more have 32 each
    assert (result.num_epochs, result.num_examples) == (epochs, round(epochs * 200))


@pytest.mark.parametrize("batch_size", [200, 32, 1])
def test_where_the_run_finds_its_own_end_a_small_table_gets_more_epochs(batch_size, small):
    """Catches a limit in epochs that stops a small table after a few hundred updates."""
    setup = assemble(line, model(), small, Training(batch_size=batch_size))
    assert setup.training.epochs == max(MOST_EPOCHS, STEPS * batch_size // 200)


@pytest.mark.slow
def test_time_up_keeps_to_the_budget(small):
    """Catches a clock that is read once an epoch, or that counts calls instead of seconds."""
    data = np.tile(small[0], (2000, 1)), np.tile(small[1], 2000)
    plain.fit(line, model(), data, batch_size=4, steps=9)  # compiled once for both
    result = plain.fit(line, model(), data, batch_size=4, seconds=0.8)
    assert result.stop_reason is StopReason.TIME_UP
    assert 0.8 <= result.seconds < 2.5  # a call at most too long, and a busy machine
    assert result.num_steps > 10


@pytest.mark.slow
def test_converged_returns_the_parameters_of_the_lowest_held_out_loss(small):
    """Catches the last parameters returned instead of the best, a patience that counts epochs
    since the beginning, and best parameters whose memory the next step has overwritten.
    """
    x, y = small
    drift = {"w": np.float32([1, -2, 3]), "away": np.zeros((), "float32")}

    def loss(model, batch, key):  # held-out rows like `away` at 0.5, training rows endlessly
        gain = jnp.where(batch[2] > 0, (model["away"] - 0.5) ** 2, 4 - model["away"])
        return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2 + gain

    data, held_out = (x, y, np.zeros(200)), (x, y, np.ones(200))
    result = plain.fit(
        loss, drift, data, validation=held_out, optimizer="sgd", learning_rate=0.01,
        batch_size=40, epochs=200, patience=4, tolerance=0.0,
    )  # fmt: skip
    assert result.stop_reason is StopReason.CONVERGED
    history = [r["metrics"]["loss"]["value"] for r in result.history if r["event"] == "evaluated"]
    best = int(np.argmin(history))
    assert len(history) == best + 1 + 4
    assert result.num_epochs == len(history)
    assert float(result.params["away"]) == pytest.approx(0.05 * (best + 1), rel=1e-4)
    assert result.validation["loss"].value == pytest.approx(history[best], rel=1e-6)


@pytest.mark.slow
def test_without_patience_the_last_parameters_are_kept(small):
    """Catches best parameters kept although nobody asked for them."""
    options = {"optimizer": "sgd", "learning_rate": 0.01, "batch_size": 40, "epochs": 8}
    alone = plain.fit(line, model(), small, **options)
    x, y = small
    watched = plain.fit(line, model(), small, validation=(x, -y), patience=None, **options)
    assert watched.stop_reason is StopReason.FINISHED
    assert_array_equal(watched.params["w"], alone.params["w"])


@pytest.mark.slow
@pytest.mark.parametrize("micro", [None, 8])
def test_a_loss_that_is_not_finite_rolls_back_and_names_the_step(micro, small):
    """Catches the wrong step, NaN in what is returned, and a run that goes on after it."""
    x, y = small
    training = plain.training(batch_size=16, microbatch_size=micro)
    setup = assemble(line, model(), (x, np.arange(200)), training)
    with setup.first_step.open_stream(Position()) as stream:
        order = next(iter(stream)).rows[1][:200].tolist()
    bad = order[77]
    result = plain.fit(
        line, model(), (x, np.where(np.arange(200) == bad, np.inf, y)), batch_size=16,
        microbatch_size=micro, epochs=4, average="ema",
    )  # fmt: skip
    assert result.stop_reason is StopReason.DIVERGED
    assert result.diverged_at_step == 77 // 16 + 1
    assert result.num_steps == 0  # no checkpoint yet: back to the start
    assert_array_equal(result.params["w"], np.zeros(3))
    assert result.stop_reason.exit_code == 4
    (decided,) = [r for r in result.history if r["event"] == "decided"]  # no rate would help
    assert f"the loss of row {bad:,} is not finite" in decided["because"]


@pytest.mark.slow
def test_parameters_that_break_in_the_last_step_are_not_returned(small):
    """Catches a run that ends between a gradient of NaN and the loss that would show it."""

    def loss(model, batch, key):  # at 0 the square root is finite and its slope is not
        return line(model, batch, key) + jnp.sqrt(jnp.abs(model["w"][0]))

    result = plain.fit(loss, model(), small, batch_size="full", steps=1)
    assert (result.stop_reason, result.diverged_at_step) == (StopReason.DIVERGED, 1)
    assert_array_equal(result.params["w"], np.zeros(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate", "ends"),
    [
        ("sgd", 1e3, StopReason.FINISHED),
        ("sgd", 1e30, StopReason.DIVERGED),
        ("adam", 1e37, StopReason.DIVERGED),
    ],
)
def test_a_learning_rate_that_explodes_gives_finite_parameters(name, rate, ends, small):
    """Catches overflow that only the next loss would show, where the run ends before it, a rate
    that is cut for ever, and one that is not cut.
    """
    for steps in (2, 40):
        result = plain.fit(
            line, model(), small, optimizer=name, learning_rate=rate, steps=steps, batch_size=50
        )
        assert np.isfinite(result.params["w"]).all()
        assert (result.stop_reason is StopReason.DIVERGED) == (result.diverged_at_step is not None)
    assert result.stop_reason is ends
    cuts = [r["new"] for r in result.history if r["event"] == "decided"]
    if ends is StopReason.DIVERGED:
        assert 2 <= result.diverged_at_step <= 40
        assert cuts[:-1] == pytest.approx([rate / 10**k for k in range(1, 6)])
        assert cuts[-1] == "diverged"
    else:
        assert result.num_steps == 40
        assert cuts == pytest.approx([rate / 10**k for k in range(1, len(cuts) + 1)])
        assert 2 <= len(cuts) <= 5
        assert result.learning_rate == cuts[-1]


@pytest.mark.slow
def test_a_slow_explosion_is_seen_before_it_overflows(small):
    """Catches a run that leaves its minimum for good and calls the result a model."""
    options = {"batch_size": 200, "steps": 200}
    held = plain.fit(
        line, model(), small, optimizer=optax.sgd(2.2), learning_rate="auto", **options
    )
    assert held.stop_reason is StopReason.DIVERGED
    assert held.num_steps < held.diverged_at_step
    assert np.abs(held.params["w"]).max() < 100
    mended = plain.fit(line, model(), small, optimizer="sgd", learning_rate=2.2, **options)
    (decided,) = [r for r in mended.history if r["event"] == "decided"]
    assert "exploded" in decided["because"] and decided["new"] == pytest.approx(0.22)
    assert (mended.stop_reason, mended.num_steps) == (StopReason.FINISHED, 200)
    assert_allclose(mended.params["w"], [1, -2, 3], atol=0.05)
