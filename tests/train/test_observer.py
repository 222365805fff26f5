"""Parameters that an observer gets while a run trains."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

import downslope
import loops
import plain
from loops import X, Y, short_calls

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["short_calls"]


class Observer:
    """Keeps what it gets, and asks for the next call after these seconds."""

    def __init__(self, wait=0.0):
        self.wait, self.seen = wait, []

    def __call__(self, step, seconds, params):
        self.seen.append((step, seconds, params))
        return self.wait

    @property
    def steps(self):
        return [step for step, *_ in self.seen]


def counting(model, batch, key):
    """Each update at rate 1 adds 1 to the parameter."""
    return -model["count"] * batch


def count(observer, **options):
    rows = np.ones(600, "float32")
    return plain.fit(counting, {"count": np.float32(0), "name": "it"}, rows, **{
        "optimizer": "sgd", "learning_rate": 1.0, "batch_size": 20, "epochs": 8,
        "observer": observer,
    } | options)  # fmt: skip


@pytest.mark.usefixtures("short_calls")
def test_an_observer_gets_copies_of_the_parameters_after_each_call():
    """Catches memory that a later call reuses, updates in flight, and leaves left out."""
    observer = Observer()
    result = count(observer)
    assert len(observer.seen) > 8 and observer.steps[0] == 0
    assert [float(params["count"]) for *_, params in observer.seen] == observer.steps
    assert observer.steps == sorted(observer.steps) and observer.steps[-1] == result.num_steps
    assert all(params["name"] == "it" for *_, params in observer.seen)
    times = [seconds for _, seconds, _ in observer.seen]
    assert times == sorted(times) and times[0] > 0 and times[-1] <= result.seconds


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("wait", [None, 3600.0, float("nan")])
def test_an_observer_says_when_it_is_called_again(wait):
    """Catches calls that nobody asked for, and an end that is left out."""
    observer = Observer(wait)
    result = count(observer)
    assert observer.steps == [0, result.num_steps]


@pytest.mark.usefixtures("short_calls")
def test_the_time_between_calls_is_kept():
    observer = Observer(0.05)
    count(observer, epochs=200)
    times = [seconds for _, seconds, _ in observer.seen[:-1]]
    assert len(times) > 2
    assert all(later - before >= 0.05 for before, later in itertools.pairwise(times))


@pytest.mark.usefixtures("short_calls")
def test_trials_are_not_observed_and_change_nothing():
    """Catches parameters of a trial, whose steps begin again with each."""
    given = {"learning_rate": "auto", "validation": (X, Y), "schedule": "auto", "epochs": 60}
    options = {"optimizer": "sgd", "batch_size": 20} | given
    records, observer = [], Observer()

    def observe(step, seconds, params):
        trials = sum(r["event"] == "trial" for r in records)
        records.append({"event": "call", "trials": trials})
        return observer(step, seconds, params)

    def fit(**more):
        return plain.fit(loops.line, loops.model(), (X, Y), **options | more)

    result = fit(observer=observe, readers=(records.append,))
    assert observer.steps == sorted(observer.steps)
    last = max(i for i, r in enumerate(records) if r["event"] == "trial")
    calls = [i for i, r in enumerate(records) if r["event"] == "call"]
    assert calls[1] > last and len(calls) > 3
    np.testing.assert_array_equal(result.params["w"], fit().params["w"])
    np.testing.assert_array_equal(result.params["w"], observer.seen[-1][2]["w"])


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("wrong", ["soon", [1], None])
def test_an_observer_that_fails_is_dropped(wrong):
    """Catches a run that ends with it, a silent failure, and a second call."""
    calls = []

    def observe(step, seconds, params):
        calls.append(step)
        if wrong is None:
            raise ValueError("no room")
        return wrong

    with pytest.warns(RuntimeWarning, match="observer failed and was dropped: .*Error"):
        result = count(observe)
    assert calls == [0] and float(result.params["count"]) == result.num_steps == 240


def test_a_solved_loss_is_observed_once():
    observer = Observer()
    result = downslope.fit(loops.line, loops.model(), (X, Y), observer=observer)
    assert result.stop_reason is downslope.StopReason.SOLVED
    assert [params["w"] is result.params["w"] for *_, params in observer.seen] == [True]


@pytest.mark.usefixtures("short_calls")
def test_an_observer_takes_time_of_its_own():
    """Catches its time counted as that of updates, from which batch sizes would be chosen."""

    def observe(step, seconds, params):
        time.sleep(0.02)
        return 0.0

    result = count(observe)
    spent = result.spent_seconds
    assert spent["measuring"] >= 0.02 * 8
    assert spent["updates"] < spent["measuring"]
