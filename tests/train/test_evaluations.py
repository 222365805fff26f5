"""Evaluations inside a run: at exact updates, within their share, on one sample."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import downslope
import loops
import plain
from downslope.choose import replay
from downslope.choose.evaluations import SAMPLE_ROWS
from downslope.data.arrays import Arrays
from downslope.metrics import MeanLoss
from downslope.train.evaluations import (
    FORWARD_SHARE,
    _expected_seconds,
    _timed,
    evaluate,
    is_due,
)
from downslope.train.finish import finish
from downslope.train.horizon import Horizon
from downslope.train.sources import held_out_sample
from loops import BATCH, X, Y, loop_of, short_calls

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["short_calls"]

DRAW = np.random.default_rng(5)
MANY = DRAW.normal(size=(6000, 3)).astype("float32")
MANY_Y = MANY @ np.float32([1, -2, 3]) + DRAW.normal(size=6000).astype("float32")


def evaluated_at(result):
    return [r["step"] for r in result.history if r["event"] == "evaluated"]


def fit(**options):
    """A run over a table of 300 updates an epoch, with a rate that is given."""
    given = {
        "optimizer": "sgd", "learning_rate": 1e-3, "schedule": "constant", "batch_size": 20,
        "patience": "auto", "validation": (X, Y), "measure_every": None,
    }  # fmt: skip
    return plain.fit(loops.line, loops.model(), (MANY, MANY_Y), **given | options)


def test_a_run_shorter_than_an_epoch_is_evaluated_on_its_way():
    """Catches a run of a part of an epoch that is evaluated at its end only."""
    assert evaluated_at(fit(steps=200)) == [*range(16, 200, 16), 200]


def test_the_ends_of_epochs_and_the_marks_between(short_calls):
    """Catches marks at the ends of calls, whose lengths follow the clock, and an evaluation right
    after one at the end of an epoch.
    """
    # every 70 and at the ends; 630 comes too soon after 600
    found = [70, 140, 210, 280, 300, 350, 420, 490, 560, 600, 700]
    assert evaluated_at(fit(steps=1400))[:11] == found


def test_a_given_patience_counts_epochs():
    """Catches a patience that is used up within one epoch."""
    assert evaluated_at(fit(steps=700, patience=50)) == [300, 600, 700]
    assert evaluated_at(fit(steps=700, patience=None)) == [300, 600]


def test_without_held_out_rows_nothing_is_evaluated_inside_an_epoch():
    """Catches a loss of an epoch that is compared with itself."""
    assert evaluated_at(fit(steps=200, validation=None)) == []


def test_drawn_rows_are_evaluated_too():
    """Catches a generator, which has no epochs, without an evaluation until its end."""

    def draw(rng, num):
        x = rng.normal(size=(num, 3)).astype("float32")
        return x, x @ np.float32([1, -2, 3])

    result = plain.fit(
        loops.line, loops.model(), downslope.Generator(draw), optimizer="sgd", learning_rate=1e-3,
        schedule="constant", batch_size=20, patience="auto", steps=400, validation=(X, Y),
    )  # fmt: skip
    assert evaluated_at(result) == list(range(20, 401, 20))


# --- within the share of the time ---


@pytest.fixture(scope="module")
def setup():
    return loops.setup_of(validation=(X, Y), seconds=100.0)


def clocked(setup, *, step=500, **seen):
    """A loop with a time budget of 100 s, 40 of them used, at 0.02 s an update."""
    asked = loops.plain.training(patience="auto", seconds=100.0)
    loop = loop_of(setup, asked=asked)
    loop.seconds_before, loop.dispatcher.compile_seconds = 40.0, 1.0
    loop.state.progress.num_steps, loop.state.progress.update_seconds = step, 40.0
    loop.state.horizon = Horizon(per_step=2e-4)
    loop.step_seconds[BATCH] = deque([0.02] * 3)
    loop.state.held_out = dataclasses.replace(loop.state.held_out, **seen)
    return loop


def due(loop, *, ends_epoch=False, num_steps=10):
    return is_due(loop, SimpleNamespace(num_steps=num_steps, ends_epoch=ends_epoch))


def test_the_clock_decides_where_there_is_a_budget(setup):
    """Catches marks by counts under a budget in time, a cost that is not waited for, and one of
    compiling that counts.
    """
    assert due(clocked(setup))  # half an epoch, a tenth of the run, not evaluated yet
    assert not due(clocked(setup, evaluated_step=300, evaluated_seconds=20.0))
    assert due(clocked(setup, evaluated_step=260, evaluated_seconds=20.0))
    dear = clocked(setup, evaluated_step=100, evaluated_seconds=30.0)
    dear.evaluations.latest_seconds.append(0.4)  # 13 s of training pay for it
    assert not due(dear) and not due(dear, ends_epoch=True)
    dear.evaluations.latest_seconds.append(0.2)  # a slow one may have been disturbed
    assert due(dear) and due(dear, ends_epoch=True)


def test_before_the_first_one_its_cost_is_expected(setup):
    """Catches a first evaluation that takes longer than the run: a sample of 256 rows at a third
    of the time to train on one, where all 600 are too dear.
    """
    loop = clocked(setup)
    loop.step_seconds[BATCH] = deque([0.02 * 17.0] * 3)  # 1.45 s, 3 % of 48
    assert not due(loop) and not due(loop, ends_epoch=True)
    loop.step_seconds[BATCH] = deque([0.02 * 5.0] * 3)
    assert due(loop)


def test_the_last_evaluation_is_within_the_time(setup):
    """Catches a run that ends its budget with updates, an evaluation that takes most of it, and
    one of all rows alone, as if the sample were not evaluated and its own program compiled.
    """
    loop = clocked(setup)
    due(loop)
    assert loop.seconds_limit <= loop.setup.training.seconds
    loop.evaluations.num_rows = loop.setup.num_held_out // 2
    loop.evaluations.latest_seconds.append(0.5)
    due(loop)
    assert loop.seconds_limit == pytest.approx(loop.setup.training.seconds - 1.5)
    loop.evaluations.in_use = SimpleNamespace(compile_seconds=2.0)
    due(loop)
    assert loop.seconds_limit == pytest.approx(loop.setup.training.seconds - 3.5)
    loop.evaluations.latest_seconds.extend([1e3] * 3)
    due(loop)
    assert loop.seconds_limit == pytest.approx(0.9 * loop.setup.training.seconds)


def test_a_run_that_hardly_outlasts_compiling_is_left_alone(setup):
    """Catches another compilation in a short run; ends of epochs are evaluated all the same."""
    loop = clocked(setup)
    loop.dispatcher.compile_seconds = 40.0
    assert not due(loop) and due(loop, ends_epoch=True)
    loop.evaluations.latest_seconds.append(0.001)  # compiled already
    assert due(loop)


def test_compiling_is_no_cost_of_an_evaluation():
    """Catches evaluations that are put off for the time that the first took to compile."""
    loop = loop_of(loops.setup_of(validation=(X, Y), steps=90))
    program = loop.setup.evaluate._program
    outputs = program._run

    class Slow:
        def lower(self, *args):
            time.sleep(0.5)
            return outputs.lower(*args)

        def __call__(self, *args):
            return outputs(*args)

    program._run = Slow()
    evaluate(loop)
    assert loop.setup.evaluate.compile_seconds > 0.5 > loop.evaluations.latest_seconds[0]


# --- the sample ---

ROWS = 5000
WIDE = np.random.default_rng(6).normal(size=(ROWS, 3)).astype("float32")
WIDE = WIDE[np.argsort(WIDE @ np.float32([1, -2, 3]))]  # as a file may be sorted
SORTED = WIDE @ np.float32([1, -2, 3])


def sampled(**options):
    given = {"patience": "auto", "validation": (WIDE, SORTED)}
    return fit(**given | options)


def test_large_held_out_sets_are_sampled_and_all_rows_end_the_run():
    """Catches evaluations of all rows, the first rows of a sorted file taken for a sample, another
    sample each time, and final metrics of the sample.
    """
    result = sampled(steps=400)
    rows = {r["num_rows"] for r in result.history if r["event"] == "evaluated"}
    assert rows == {SAMPLE_ROWS}
    assert result.validation["loss"].num_examples == ROWS
    weights = result.params["w"]
    losses = 0.5 * (WIDE @ weights - SORTED) ** 2
    assert result.validation["loss"].value == pytest.approx(losses.mean(), rel=1e-4)
    decision = replay(result.history)[0]
    assert (decision.knob, decision.old, decision.new) == ("held_out_rows", ROWS, SAMPLE_ROWS)
    last = [r for r in result.history if r["event"] == "evaluated"][-1]["metrics"]["loss"]
    assert last["lo"] < losses.mean() < last["hi"]  # of random rows


def test_small_held_out_sets_are_used_whole():
    """Catches a sample where rows cost nothing."""
    result = fit(steps=100, validation=(WIDE[:2048], SORTED[:2048]))
    assert {r["num_rows"] for r in result.history if r["event"] == "evaluated"} == {2048}
    assert "held_out_rows" not in {d.knob for d in replay(result.history)}


def test_a_resumed_run_keeps_its_sample(tmp_path):
    """Catches a size chosen anew, whose losses are not those of the same rows."""
    short = sampled(steps=320, out=tmp_path / "a")
    result = sampled(steps=6000, resume=tmp_path / "a")  # by now 512 rows would be affordable
    assert len(evaluated_at(result)) > len(evaluated_at(short)) > 10
    assert {r["num_rows"] for r in result.history if r["event"] == "evaluated"} == {SAMPLE_ROWS}


def test_a_loss_whose_examples_interact_is_evaluated_on_all_rows():
    """Catches windows of another size than those of training."""

    def spread(model, batch, key):
        return jnp.var(batch[0] @ model["w"] - batch[1])

    result = plain.fit(
        spread, loops.model(), (MANY, MANY_Y), optimizer="sgd", learning_rate=1e-3, batch_size=20,
        schedule="constant", patience="auto", steps=100, validation=(WIDE, SORTED),
    )  # fmt: skip
    assert {r["num_rows"] for r in result.history if r["event"] == "evaluated"} == {ROWS}


def test_a_slow_step_is_evaluated_on_a_sample_of_few_rows(setup, monkeypatch):
    """Catches 600 rows at 10 s each because a table of 600 rows is small."""
    loop = clocked(setup)
    loop.step_seconds[BATCH] = deque([0.02 * 5] * 3)
    used = []

    def evaluator(num_rows):
        def found(params):
            used.append(num_rows)
            accumulator = MeanLoss()
            accumulator.add(losses=np.arange(num_rows, dtype=np.float32))
            results = accumulator.result()
            results.losses = np.arange(num_rows, dtype=np.float32)
            return results

        found.compile_seconds = 0.0
        return found

    loop.setup = dataclasses.replace(setup, sample_evaluator=evaluator, evaluate=evaluator(600))
    evaluate(loop)
    assert used[0] == SAMPLE_ROWS
    assert loop.state.held_out.num_rows in (256, 512, 600)


def test_samples_are_random_rows_and_smaller_ones_a_part_of_larger():
    """Catches the first rows of a file in order, rows drawn twice, and reading all of them."""

    class ByRange:
        def __init__(self, rows, shuffled):
            self.rows, self.num_rows, self.shuffled = rows, len(rows), shuffled

        def read(self, start, stop, out=None):
            return self.rows[start:stop]

    rows = np.arange(4000)
    for source in (Arrays(rows), ByRange(rows, False)):
        small, large = (held_out_sample(source, n, seed=3).tree for n in (256, 1024))
        assert set(small.tolist()) < set(large.tolist()) and len(set(large.tolist())) == 1024
        assert abs(large.mean() - rows.mean()) < 4 * rows.std() / 32
        assert set(held_out_sample(source, 256, seed=4).tree.tolist()) != set(small.tolist())
    assert held_out_sample(ByRange(rows, True), 256, seed=3).tree.tolist() == list(range(256))


def test_final_metrics_are_not_those_of_the_sample(setup):
    """Catches the latest evaluation handed back though it saw a part of the rows."""
    loop = loop_of(loops.setup_of(validation=(WIDE, SORTED), steps=90))
    loop.state.progress.num_steps, loop.stop_reason = 90, downslope.StopReason.FINISHED
    loop.state.held_out = dataclasses.replace(loop.state.held_out, num_rows=512)
    assert finish(loop).validation["loss"].num_examples == ROWS


@pytest.mark.parametrize("case", ["level", "rose", "restarted"])
def test_the_last_parameters_are_kept_unless_their_loss_rose_on_the_sample(case):
    """Catches the lucky sample of an early update, last parameters kept that are worse, also of a
    second start that never came near the first, and all rows evaluated twice, in time that was set
    aside for once.
    """
    is_last = case == "level"
    lowest = {"w": np.float32([1, -2, 3])}
    last = {"w": np.float32([1, -2, 3.001 if is_last else 2])}
    loop = loop_of(loops.setup_of(validation=(WIDE, SORTED), steps=90, patience=5))
    passes, every_row = [], loop.setup.evaluate

    def counted(params):
        passes.append(params["w"].tolist())
        return every_row(params)

    counted.compile_seconds = 0.0
    loop.setup = dataclasses.replace(loop.setup, evaluate=counted)
    loop.state.progress.num_steps, loop.stop_reason = 90, downslope.StopReason.FINISHED
    loop.state.progress.first_losses = [10.0]
    loop.state.device = loop.state.device._replace(params={"w": jnp.asarray(last["w"])})
    loop.state.held_out = dataclasses.replace(
        loop.state.held_out, num_rows=512, evaluated_step=80, lowest_loss=0.0, lowest_step=20,
        reference_loss=0.0, reference_losses=np.zeros(512), params=lowest,
    )  # fmt: skip
    if case == "restarted":
        loop.state.held_out = loop.state.held_out.restarted(30)
    kept = last if is_last else lowest
    result = finish(loop)
    assert result.params["w"].tolist() == kept["w"].tolist()
    assert passes == [kept["w"].tolist()]
    assert result.validation["loss"].num_examples == ROWS


def test_the_marks_of_a_run_of_epochs_follow_from_its_updates():
    """Catches a run of 2 epochs, 60 updates, whose marks are those of a run of 28 or of none."""
    epochs = fit(epochs=2, seconds=None)
    assert evaluated_at(epochs) == evaluated_at(fit(steps=600))


def test_another_number_of_rows_takes_another_evaluator(setup):
    """Catches the sample's program kept for all rows, and a new one for the same rows."""
    made = []

    def evaluator(num_rows):
        made.append(num_rows)

        def found(params):
            accumulator = MeanLoss()
            accumulator.add(losses=np.ones(num_rows, np.float32))
            results = accumulator.result()
            results.losses = np.ones(num_rows, np.float32)
            return results

        found.compile_seconds = 0.0
        return found

    loop = clocked(setup)
    loop.setup = dataclasses.replace(setup, sample_evaluator=evaluator, evaluate=evaluator(600))
    found = [len(_timed(loop, None, rows).losses) for rows in (256, 256, 600, 256, 512)]
    assert found == [256, 256, 600, 256, 512] and made == [600, 256, 256, 512]


def test_nothing_is_expected_before_an_update_was_timed(setup):
    """Catches a first evaluation that is put off by a cost nobody measured."""
    loop = clocked(setup)
    assert _expected_seconds(loop, BATCH) == pytest.approx(FORWARD_SHARE * 0.02)
    loop.step_seconds.clear()
    assert _expected_seconds(loop, BATCH) == 0
