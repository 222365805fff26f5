"""Counted costs of an update, and choices that rest on them alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import downslope
from downslope.choose.step_time import line_times
from downslope.objective import build
from downslope.train import assemble, calls
from downslope.train.cost import BACKWARD, CPU_LAUNCH, counted_times

WIDTH = 64
X = np.random.default_rng(0).normal(size=(4000, 8)).astype("float32")
Y = (X @ np.arange(8) + np.random.default_rng(1).normal(size=4000) > 0).astype("float32")


def net(model, batch, key):
    x, y = batch
    score = jnp.tanh(x @ model["in"]) @ model["out"]
    return jnp.logaddexp(0.0, score) - y * score


def model(width=WIDTH):
    draw = np.random.default_rng(2)
    return {
        "in": draw.normal(size=(8, width)).astype("float32"),
        "out": np.zeros(width, "float32"),
    }


def costs(width, count):
    rows = (X[:count], Y[:count])
    objective, params = build(net, model(width), rows, lambda rows: rows)
    return counted_times(objective, params, rows, count)


def test_an_example_costs_its_operations_whatever_the_rows():
    """Catches operations of the whole batch, and a cost that does not grow with the model."""
    two, eight, wide = costs(WIDTH, 2), costs(WIDTH, 8), costs(8 * WIDTH, 2)
    assert two.seconds_per_example == pytest.approx(eight.seconds_per_example, rel=0.05)
    assert 7 < wide.seconds_per_example / two.seconds_per_example < 9
    assert wide.fixed_seconds > two.fixed_seconds > 0
    products = 2 * (8 * WIDTH + WIDTH)
    assert two.seconds_per_example > BACKWARD * products / 3e10 / 1024  # of any machine's cores


def test_a_loss_that_cannot_be_counted_has_no_cost():
    """Catches a run that ends because a backend counts nothing."""

    def odd(model, batch, key):
        raise ValueError("not today")

    objective, params = build(net, model(), (X[:2], Y[:2]), lambda rows: rows)
    broken = objective.__class__(**{**vars(objective), "loss": odd})
    assert counted_times(broken, params, (X[:2], Y[:2]), 2) is None


def fits(monkeypatch, seconds_each):
    """A run whose calls take a share of `seconds_each`, and its decisions."""
    monkeypatch.setattr(calls, "MIN_CALL_SECONDS", seconds_each)
    monkeypatch.setattr(calls, "MAX_CALL_SECONDS", 4 * seconds_each)
    result = downslope.fit(net, model(), (X, Y), measure_every=8, epochs=16)
    chosen = [
        (r["step"], r["knob"], r["old"], r["new"])
        for r in result.history
        if r["event"] == "decided"
    ]
    return chosen, jax.tree.leaves(result.params), result


@pytest.mark.slow
def test_the_clock_changes_nothing_without_a_time_budget(monkeypatch):
    """Catches a batch size that is tried once a background thread is done, or by measured times."""
    monkeypatch.setattr(
        assemble, "counted_times",
        lambda *_: line_times(fixed_seconds=0.05, seconds_per_example=2e-4),
    )  # fmt: skip
    short, long = (fits(monkeypatch, seconds) for seconds in (1e-4, 10.0))
    assert short[0] == long[0]
    assert any(knob == "batch_size" for _, knob, *_ in short[0])
    for one, other in zip(short[1], long[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_update_that_does_nothing_costs_its_launch():
    """Catches the launch of an accelerator on a processor, which asks for batches five times as
    large.
    """
    size = 8 * WIDTH + WIDTH
    assert costs(WIDTH, 2).fixed_seconds == pytest.approx(CPU_LAUNCH + 40 * size / 1e10)
