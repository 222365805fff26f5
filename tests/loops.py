"""Training loops on one small problem, with planted orders instead of controllers."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import plain
from downslope.choose import Decision, controllers
from downslope.train import calls
from downslope.train.act import decide, turn_knobs
from downslope.train.assemble import assemble
from downslope.train.begin import begin
from downslope.train.observe import observe_begin
from downslope.train.run_folder import RunFolder

core = importlib.import_module("downslope.fit")

ROWS, BATCH = 600, 20
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
NOISE = np.random.default_rng(1).normal(size=ROWS).astype("float32")
Y = X @ np.float32([1, -2, 3]) + np.float32(0.1) * NOISE


@dataclasses.dataclass(frozen=True)
class Shared:
    """A loss whose programs all runs of a process share, as they share those of tables."""

    function: Callable[..., Any]

    def __call__(self, model, batch, key):
        return self.function(model, batch, key)


Shared.__module__ = "downslope.shared"


@Shared
def line(model, batch, key):
    """Squared error."""
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def model():
    return {"w": np.zeros(3, "float32")}


def setup_of(data=(X, Y), *, loss=None, validation=None, **options):
    given = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": BATCH} | options
    training = plain.training(**given)
    return assemble(loss or line, model(), data, training, validation=validation)


def visits(model, batch, key):
    """Descent at rate 1 adds 1/B to the entry of each row at each visit."""
    return -model["seen"][batch]


def visiting_setup(**options):
    """A run whose batch size may change; its visits of 4,096 rows are told by its parameters."""
    given = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": "auto", "epochs": 1}
    rows = np.arange(4096, dtype=np.int32)
    return assemble(
        visits, {"seen": np.zeros(4096, "float32")}, rows, plain.training(**given | options)
    )


def loop_of(setup, *, asked=None, run=None, last=None):
    """A loop at its first update, or at a checkpoint."""
    run = run or RunFolder(None)
    run.last = last
    interrupts = SimpleNamespace(received=None)
    return begin(setup, asked or setup.training, run, interrupts, time.perf_counter())


def train(loop):
    """The loop of `fit` without its end."""
    turn_knobs(loop, decide(loop, observe_begin(loop)))
    while core.goes_on(loop):
        core._train_on_blocks(loop)
    loop.close()
    return loop


def decision(knob, new, old=None, **more):
    return Decision(knob=knob, old=old, new=new, because="planted", policy="planted", **more)


def records(loop, event):
    return [r for r in loop.run.journal.records if r["event"] == event]


class Planted:
    """In the place of the controllers: keeps what they would see, gives the orders planted.

    `plan` holds orders by the number of the call that they follow, counted from 1, or by another
    moment's name.
    """

    def __init__(self):
        self.seen, self.plan = [], {}

    def update(self, states, observation):
        self.seen.append(observation)
        is_call = observation.moment in ("collected", "evaluated")
        return states, self.plan.get(self.num_calls if is_call else observation.moment, ())

    @property
    def num_calls(self):
        return sum(seen.moment in ("collected", "evaluated") for seen in self.seen)


@pytest.fixture
def planted(monkeypatch):
    found = Planted()
    monkeypatch.setattr(controllers, "update", found.update)
    return found


def shorten_calls(monkeypatch):
    """Calls of five windows each."""
    monkeypatch.setattr(calls, "FIRST_CALL_WINDOWS", 5)
    monkeypatch.setattr(calls, "MIN_CALL_SECONDS", 0.0)
    monkeypatch.setattr(calls, "MAX_CALL_SECONDS", float("inf"))


@pytest.fixture
def short_calls(monkeypatch):
    shorten_calls(monkeypatch)
