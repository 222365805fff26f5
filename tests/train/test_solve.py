"""Runs that are solved instead of trained, and their results."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope
from downslope import StopReason, losses
from downslope.choose import replay
from downslope.config import Training
from downslope.report.journal import read_journal
from downslope.train import solve as solving
from downslope.train.assemble import assemble
from downslope.train.run_folder import load_model
from downslope.train.solve import can_solve

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 4)).astype("float32")
Y = X @ np.float32([1, -2, 3, 0.5]) + 2 + RNG.normal(size=500).astype("float32")
HELD_OUT = (X[:100] + 1, Y[:100])
DESIGN = np.c_[X, np.ones(500)].astype(float)


def line(model, batch):
    return batch[0] @ model["w"] + model["b"]


def squared(model, batch, key):
    return 0.5 * (line(model, batch) - batch[1]) ** 2


def logistic(model, batch, key):
    return losses.logistic(line(model, batch), batch[1] > 0)


def hinge(model, batch, key):
    return losses.hinge(line(model, batch), batch[1] > 0)


def net(model, batch, key):
    return (jnp.tanh(batch[0] @ model["a"]) @ model["w"] + model["b"] - batch[1]) ** 2


def paired(model, batch, key):
    """A quadratic of the whole batch: its examples interact."""
    difference = line(model, batch) - batch[1]
    return (difference - difference.mean()) ** 2


def model():
    return {"w": np.zeros(4, "float32"), "b": np.float32(0)}


def road(loss=squared, tree=None, data=(X, Y), **options):
    training = Training(**options)
    setup = assemble(loss, model() if tree is None else tree, data, training)
    found = can_solve(setup, training)
    return found and found.decision


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A run with nothing given but its data, and its folder."""
    folder = tmp_path_factory.mktemp("solved") / "run"
    return downslope.fit(squared, model(), (X, Y), validation=HELD_OUT, out=folder), folder


def test_it_gives_what_least_squares_gives(solved):
    """Catches a solution of part of the rows, or one that is only near."""
    result = solved[0]
    truth = np.linalg.lstsq(DESIGN, Y.astype(float), rcond=None)[0]
    assert_allclose(result.params["w"], truth[:4], rtol=1e-6, atol=1e-7)
    assert_allclose(result.params["b"], truth[4], rtol=1e-6)
    residual = DESIGN @ truth - Y
    assert result.train_loss == pytest.approx(0.5 * (residual**2).mean(), rel=1e-6)
    assert result.params["w"].dtype == np.float32


def test_the_result_says_what_was_done(solved):
    """Catches updates that were not made, a rate that was not used, and no word of the solving."""
    result, folder = solved
    assert (result.stop_reason, result.optimizer) == (StopReason.SOLVED, "solve")
    assert (result.num_steps, result.learning_rate) == (0, None)
    assert result.num_examples == result.num_epochs * 500
    (decision,) = replay(result.history)
    assert (decision.knob, decision.new) == ("optimizer", "solve")
    held_out = squared(result.params, HELD_OUT, None).mean()
    assert result.validation["loss"].value == pytest.approx(held_out, rel=1e-5)
    records = read_journal(folder / "journal.jsonl")
    events = [r["event"] for r in records]
    assert events == ["started", "decided", "solved", "evaluated", "stopped"]
    assert {r["step"] for r in records} == {0}  # no update was made
    summary = json.loads((folder / "result.json").read_text())
    assert (summary["stop_reason"], summary["optimizer"]) == ("solved", "solve")


def test_its_folder_holds_the_model(solved):
    """Catches a solved run that cannot be used like any other."""
    result, folder = solved
    found = load_model(folder, model())
    assert jax.tree.all(jax.tree.map(np.array_equal, found, result.params))
    again = downslope.fit(squared, model(), (X, Y), validation=HELD_OUT, resume=folder)
    assert_array_equal(again.params["w"], result.params["w"])


def test_a_penalty_is_solved_with(solved):
    """Catches a ridge that is left out, or is a factor of the rows off."""
    result = downslope.fit(
        squared, model(), (X, Y), l2=0.3, penalize=lambda m: {"w": True, "b": False}
    )
    assert result.stop_reason is StopReason.SOLVED
    ridge = np.diag([0.3] * 4 + [0.0])
    truth = np.linalg.solve(DESIGN.T @ DESIGN / 500 + ridge, DESIGN.T @ Y / 500)
    assert_allclose(result.params["w"], truth[:4], rtol=1e-5)


SOLVED = (
    {}, {"batch_size": 32}, {"patience": 3}, {"clip_norm": 1.0}, {"l2": 0.1}, {"seconds": 9.0},
)  # fmt: skip
SEARCHED = (
    {"l1": 0.01}, {"weight_decay": 0.01}, {"steps": 100}, {"epochs": 3}, {"optimizer": "adam"},
    {"learning_rate": 0.1}, {"schedule": "constant"}, {"average": "polyak"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "solves"), [*((o, True) for o in SOLVED), *((o, False) for o in SEARCHED)]
)
def test_what_is_given_of_the_way_down_is_gone(options, solves):
    """Catches a search where what was given says nothing of it, and a solution where it does."""
    found = road(**options)
    assert (found is not None and found.new == "solve") is solves


def saddle(model, batch, key):
    return model["w"][0] * model["w"][1] + 0 * batch[1]


@pytest.mark.parametrize("loss", [logistic, hinge, paired, net, saddle])
def test_another_loss_is_searched(loss):
    """Catches pieces of lines taken for a quadratic, rows that are not independent, a loss that is
    squared in its outputs only, and a stationary point that is no least value.
    """
    assert road(loss, model() | ({"a": np.eye(4, dtype="float32")} if loss is net else {})) is None


@pytest.mark.parametrize(("rows", "solves"), [(9, False), (10, True)])
def test_few_rows_are_not_fitted_exactly(rows, solves):
    """Catches the least training loss of rows hardly more than the parameters."""
    assert (road(data=(X[:rows], Y[:rows])) is not None) is solves


@pytest.mark.slow
def test_a_solution_that_is_not_proved_is_searched_for(monkeypatch):
    """Catches an answer without its certificate that is handed back all the same."""
    real = solving.solve

    def doubtful(*args, **options):
        return dataclasses.replace(real(*args, **options), is_solved=False)

    monkeypatch.setattr(solving, "solve", doubtful)
    result = downslope.fit(squared, model(), (X, Y), validation=0.2, seconds=20.0)
    assert result.optimizer == "nadam" and result.num_steps > 0
    assert result.stop_reason is not StopReason.SOLVED
    assert result.validation["loss"].value < 0.8
