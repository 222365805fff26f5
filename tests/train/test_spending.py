"""Where the time of a run went."""

from __future__ import annotations

import json
import time

import pytest

import loops
import plain
from downslope.train import collect as collect_module
from downslope.train import evaluations
from downslope.train.spending import KINDS, OTHER, Spending
from loops import X, Y, loop_of, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["short_calls"]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_each_second_counts_once(clock):
    """Catches work inside other work counted twice, and time between them counted at all."""
    spending = Spending({"updates": 1.0})
    clock[0] += 7
    with spending.on("updates"):
        clock[0] += 2
        with spending.on("evaluation"):
            clock[0] += 4
            with spending.on("updates"):
                clock[0] += 8
        clock[0] += 16
        assert spending.so_far()["updates"] == 27
    clock[0] += 32
    with pytest.raises(ValueError, match="inside"), spending.on("saving"):
        clock[0] += 64
        raise ValueError("inside")
    spending.move(3.0, "evaluation", "compiling")
    found = spending.in_all(100.0)
    assert found == {
        "updates": 27, "search": 0, "evaluation": 1, "measuring": 0, "compiling": 3, "saving": 64,
        "other": 5,
    }  # fmt: skip


def line(**options):
    """A run with a search, evaluations, measurements and checkpoints."""
    return plain.fit(loops.line, loops.model(), (X, Y), **{
        "optimizer": "sgd", "learning_rate": "auto", "batch_size": 20, "validation": (X, Y),
        "patience": "auto", "epochs": 60, "measure_every": 2, "schedule": "auto",
    } | options)  # fmt: skip


def slowed(monkeypatch, place, name, seconds):
    """The same function, slower."""
    real = getattr(place, name)

    def slow(*args, **kwargs):
        time.sleep(seconds)
        return real(*args, **kwargs)

    monkeypatch.setattr(place, name, slow)


def test_kinds_of_work_in_a_run(tmp_path, monkeypatch):
    """Catches a kind that is not counted, one counted as another, and a sum above the whole."""
    slowed(monkeypatch, collect_module, "take_in", 0.02)
    result = line(out=tmp_path / "run")
    spent = result.spent_seconds
    assert spent.keys() == {*KINDS, OTHER}
    assert sum(spent.values()) == pytest.approx(result.seconds, rel=1e-3)
    assert all(seconds > 0 for seconds in spent.values())
    calls = len([r for r in result.history if r["event"] == "evaluated"])
    assert spent["updates"] > 0.02 * calls and spent["search"] > 0.02 * 2
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["spent_seconds"] == spent
    assert json.loads((tmp_path / "run" / "result.json").read_text())["spent_seconds"] == spent


def test_compiling_is_no_evaluation():
    """Catches the compilation of an evaluator counted as its work."""
    loop = loop_of(loops.setup_of(validation=(X, Y), steps=90))
    program = loop.setup.evaluate._program
    outputs = program._run

    class Slow:
        def lower(self, *args):
            time.sleep(0.3)
            return outputs.lower(*args)

        def __call__(self, *args):
            time.sleep(0.03)  # of three blocks of rows
            return outputs(*args)

    program._run = Slow()
    evaluations.evaluate(loop)
    spent = loop.spending.so_far()
    assert spent["compiling"] >= 0.3 and 0.09 <= spent["evaluation"] < 0.3


def test_a_resumed_run_adds_up_both_sessions(tmp_path):
    """Catches the time of an earlier session that is lost, or was counted as other work."""
    given = {"learning_rate": 0.01, "schedule": "constant", "patience": None}
    first = line(epochs=None, steps=60, out=tmp_path / "run", **given)
    second = line(epochs=None, steps=90, resume=tmp_path / "run", **given)
    assert second.spent_seconds["updates"] > first.spent_seconds["updates"] > 0
    assert second.spent_seconds["compiling"] > 0.9 * first.spent_seconds["compiling"]
    assert sum(second.spent_seconds.values()) == pytest.approx(second.seconds, rel=1e-3)


def test_a_record_of_each_trial():
    """Catches a trial whose loss is that of another, and one placed after the search."""
    result = line()
    found = [r for r in result.history if r["event"] == "trial"]
    decision = next(r for r in result.history if r["event"] == "decided")
    assert len(found) >= 2 and {r["step"] for r in found} == {0}
    assert decision["inputs"]
    losses = [r["loss"] for r in found]  # None where it diverged
    assert len(set(losses)) > 1
    assert min(loss for loss in losses if loss is not None) < found[0]["first_loss"]
    seconds = [r["seconds"] for r in found]
    assert seconds == sorted(seconds) and seconds[-1] <= decision["seconds"]
    assert all(r["num_steps"] > 0 for r in found if r["loss"] is not None)
    assert len({r["learning_rate"] for r in found}) > 1


def test_a_run_without_a_search_has_no_trial(short_calls):
    """Catches a record of the run itself as one of its trials."""
    loop = train(loop_of(loops.setup_of(steps=30)))
    assert records(loop, "trial") == [] and loop.spending.so_far()["search"] == 0
