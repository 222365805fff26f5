"""The average over the tail of a run, against its weights in closed form."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import binom

import plain
from downslope.data.stream import Position
from downslope.train.assemble import assemble

pytestmark = pytest.mark.usefixtures("quick_compilation")

POWER = 10
ROWS = np.ones(200, "float32")


def slope(model, batch, key):
    """Pulls up by 1 at every step, so that parameters are 0.01 times the updates."""
    return -model["a"] * batch


def weights(num):
    """Of updates 1 to num: the g-th rising power of the step, over the sum of all."""
    return binom(np.arange(1, num + 1) + POWER - 1, POWER) / binom(num + POWER, POWER + 1)


def ends_at(steps, first=0):
    found = plain.fit(
        slope, {"a": np.float32(0)}, ROWS, optimizer="sgd", learning_rate=0.01, batch_size=2,
        steps=steps, average="tail", average_from_step=first, measure_every=None,
    )  # fmt: skip
    return float(found.params["a"])


@pytest.mark.parametrize("num", [1, 2, 30, 400])
def test_the_average_is_the_sum_of_its_weights(num):
    """Catches a plain mean, another power, and a weight that is one step off."""
    assert weights(num).sum() == pytest.approx(1)
    path = 0.01 * np.arange(1, num + 1)
    assert ends_at(num) == pytest.approx(weights(num) @ path, rel=2e-5)


def test_most_of_the_weight_is_in_the_last_tenth():
    """Catches an average over the whole run: its age is n/(g + 2) of n updates, here 33 of 400."""
    age = (4.0 - ends_at(400)) / 0.01
    assert age == pytest.approx(400 / 12, rel=0.05)


def test_it_begins_where_it_is_told_to():
    """Catches an average that remembers what came before it, or begins a step late."""
    assert ends_at(50, first=50) == pytest.approx(0.5)  # not begun: the parameters themselves
    assert ends_at(51, first=50) == pytest.approx(0.51, rel=1e-5)  # its first step
    path = 0.5 + 0.01 * np.arange(1, 31)
    assert ends_at(80, first=50) == pytest.approx(weights(30) @ path, rel=1e-5)


def test_the_knob_begins_it_anew_without_compiling():
    """Catches a beginning that is part of the program, or an average that goes on as it was."""
    training = plain.training(
        optimizer="sgd",
        learning_rate=0.01,
        batch_size=2,
        steps=80,
        average="tail",
        measure_every=None,
    )
    setup = assemble(slope, {"a": np.float32(0)}, ROWS, training)
    state = setup.start()
    with setup.first_step.open_stream(Position()) as stream:
        block = next(iter(stream))
        for count, first in ((50, 0), (30, 50)):
            windows = block.windows._replace(count=count)
            knobs = setup.knobs()._replace(average_from=np.int32(first))
            state, _ = setup.first_step.run(state, block.rows, windows, knobs)
    found = float(jax.device_get(setup.kept_params(state))["a"])
    assert found == pytest.approx(weights(30) @ (0.5 + 0.01 * np.arange(1, 31)), rel=1e-5)
    assert setup.first_step.run._cache_size() == 1
