"""Diagnostics of the noise during training: their time, their records, no side effects."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loops
from downslope import StopReason
from downslope.estimate import Estimate
from downslope.noise.survey.anatomy import SECTIONS
from downslope.noise.survey.record import Section
from downslope.train import diagnostics
from downslope.train.begin import context_of
from downslope.train.diagnostics import Diagnostics, diagnose_if_due, short_record
from downslope.train.state import begin_state
from loops import ROWS, X, decision, loop_of, planted, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["planted", "short_calls"]

SUBJECTS = [name for name in SECTIONS if name != "order"]


def setup_of(share, **options):
    return loops.setup_of(anatomy_share=share, steps=90, measure_every=2, **options)


class Clock:
    """Stands where it is put."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def costly(monkeypatch):
    """Subjects of known cost, in the order in which they were measured."""
    clock, costs, asked = Clock(), {"gradient": 30.0, "scale": 1.0}, []

    def measure(self, name, *_):
        clock.now += costs.get(name, 5.0)
        asked.append(name)
        return "nothing to see"

    monkeypatch.setattr(diagnostics, "time", clock)
    monkeypatch.setattr(Diagnostics, "_measure", measure)
    return clock, asked


def test_the_time_stays_within_its_share(costly):
    """Catches subjects beyond their share, one that is left out for ever, and a share unused."""
    clock, asked = costly
    found = Diagnostics(setup_of(0.1))
    while clock.now < 5000:
        clock.now += 0.5
        if found.is_due(clock.now):
            at, name = clock.now, found.measure(None, None)[0]
            # a subject may take longer than was thought the first time, never again
            assert found._spent <= 0.1 * at or asked.count(name) == 1
    num = len(SUBJECTS)
    assert asked[:num] == asked[num : 2 * num] == SUBJECTS
    assert 0.1 * clock.now - found._spent < 31  # less than the dearest of them
    assert not Diagnostics(setup_of(None)).is_due(1e9)


def test_a_subject_that_fails_is_recorded(monkeypatch):
    """Catches a fault of an instrument that ends the run."""

    def fails(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(Diagnostics, "_measure", fails)
    found = Diagnostics(setup_of(0.5))
    assert found.measure(None, None) == ("gradient", "MemoryError: too large")
    assert found.measure(None, None)[0] == "scale"


def test_every_subject_at_the_parameters_that_are_trained():
    """Catches curvature at an average of the parameters, and a subject without its data."""
    setup = setup_of(0.5)
    found, state = Diagnostics(setup), begin_state(setup, context_of(setup, setup.training))
    seen = dict(found.measure(state, 100) for _ in SUBJECTS)
    assert set(seen) == set(SUBJECTS)
    assert isinstance(seen["scale"], Section)
    assert seen["trajectory"] == "no path was kept"
    curvature = seen["curvature"].records["lambda_max"].value
    assert curvature == pytest.approx(np.linalg.eigvalsh(X.T @ X / ROWS)[-1], rel=0.3)


def test_the_short_record_keeps_numbers_and_reasons():
    records = {
        "a": Estimate(value=0.0, lo=-1.0, hi=1.0, unit="m", method="long", flags=("x",)),
        "b": Estimate(value=None, unit="", reason="why"),
    }
    assert short_record(Section(title="t", sentences=("s",), records=records)) == {
        "sentences": ["s"],
        "records": {
            "a": {"value": 0.0, "lo": -1.0, "hi": 1.0, "unit": "m"},
            "b": {"unit": "", "reason": "why"},
        },
    }


@pytest.mark.slow
@pytest.mark.usefixtures("short_calls")
def test_training_does_not_notice(planted, monkeypatch):
    """Catches diagnostics that move the parameters, a key, or the row that comes next."""
    monkeypatch.setattr(Diagnostics, "is_due", lambda self, _: True)
    with_them, without = (train(loop_of(setup_of(share))) for share in (0.5, None))
    one, other = (loop.state.to_checkpoint("").tensors for loop in (with_them, without))
    for name in (name for name in one if "/path" not in name):
        assert_array_equal(one[name], other[name], name)
    found = records(with_them, "anatomy")
    assert [r["subject"] for r in found[:3]] == ["gradient", "scale", "required"]
    assert found[0]["records"]["batch_variance"]["value"] > 0
    assert [r["step"] for r in found[:3]] == [5, 10, 15] and records(without, "anatomy") == []


@pytest.mark.parametrize(
    "changed", [{"trouble": ("exploded", 3)}, {"trials": SimpleNamespace()}, {"diagnostics": None}]
)
def test_none_in_a_trial_or_in_trouble(changed, monkeypatch):
    """Catches diagnostics of parameters that are about to be thrown away."""
    loop = loop_of(setup_of(0.5))
    asked = []
    monkeypatch.setattr(Diagnostics, "is_due", lambda self, seconds: asked.append(seconds) or True)
    monkeypatch.setattr(Diagnostics, "measure", lambda *_: ("gradient", "why"))
    loop.seconds_before = 36_000.0
    diagnose_if_due(loop)
    assert [r["reason"] for r in records(loop, "anatomy")] == ["why"]
    # hours trained before a resume give no right to catch up at once
    assert 0 <= asked[0] < 1000
    vars(loop).update(changed)
    diagnose_if_due(loop)
    assert len(records(loop, "anatomy")) == 1


def test_a_resumed_run_may_ask_for_another_share(planted):
    """Catches a share that the checkpoint overrules."""
    planted.plan = {2: (decision("stop", "converged"),)}
    first = train(loop_of(setup_of(None)))
    planted.plan = {}
    second = loop_of(setup_of(0.3), last=first.state.to_checkpoint(""))
    assert second.diagnostics is not None and second.diagnostics.is_due(1e9)
    assert train(second).stop_reason is StopReason.FINISHED
