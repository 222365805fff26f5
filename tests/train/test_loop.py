"""The training loop by planted orders: calls that add up, knobs that turn, states returned to."""

from __future__ import annotations

import itertools
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import loops
import plain
from downslope import StopReason
from downslope.choose.divergence import JUMP
from downslope.config import EPOCHS, MOST_EPOCHS
from downslope.data.stream import Position
from downslope.train.begin import context_of
from downslope.train.collect import MAX_CALLS_TIMED, take_in
from downslope.train.dispatch import Collected
from downslope.train.loop import goes_on, is_over, is_timed
from downslope.train.progress import CALMER, LEAP
from downslope.train.saving import mark_good
from loops import BATCH, ROWS, X, Y, core, decision, loop_of, planted, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["planted", "short_calls"]


@pytest.fixture(scope="module")
def setup():
    """90 updates, which are three epochs; evaluated at the end of each."""
    return loops.setup_of(validation=(X, Y), steps=90, measure_every=2)


def params(loop):
    return np.asarray(loop.state.device.params["w"])


def put(loop, *weights):
    """Plants parameters."""
    device = loop.state.device
    loop.state.device = device._replace(params={"w": jnp.asarray(weights, jnp.float32)})


def collected(loop, *means, bad_step=None, seconds=0.01, ends_epoch=False):
    """What a call saw whose batches had these mean losses."""
    num = len(means)
    after = Position(0, loop.state.progress.num_examples + num * BATCH)
    call = SimpleNamespace(num_steps=num, position=after, ends_epoch=ends_epoch)
    return Collected(
        call=call, loss_sums=np.float32(means) * BATCH, sizes=np.full(num, BATCH),
        bad_step=bad_step, probes=np.zeros((0, 9)), probe_steps=np.zeros(0, int), point=None,
        time=loop.begun, seconds=seconds,
    )  # fmt: skip


def test_without_orders_it_is_plain_descent(setup, planted, short_calls):
    """Catches updates made twice or never, and an order of calls that changes what is computed."""
    loop = train(loop_of(setup))
    assert loop.stop_reason is StopReason.FINISHED
    weights = np.zeros(3)
    with setup.first_step.open_stream(Position()) as stream:
        for block in itertools.islice(stream, 3):
            for first in range(0, ROWS, BATCH):
                x, y = (a[first : first + BATCH] for a in block.rows)
                weights -= 0.05 * x.T @ (x @ weights - y) / BATCH
            stream.release(block)
    assert_allclose(params(loop), weights, rtol=1e-5)
    assert int(loop.state.device.step) == loop.state.progress.num_steps == 90
    evaluated = [seen.step for seen in planted.seen if seen.moment == "evaluated"]
    assert evaluated == [30, 60, 90] == [r["step"] for r in records(loop, "evaluated")]
    assert planted.num_calls == 18  # of five windows each
    # each call is observed when the one before it was collected, but for those that evaluate
    assert [seen.step for seen in planted.seen[1:7]] == [0, 5, 10, 15, 20, 30]
    assert loop.state.monitor.arrays()["steps"].tolist() == sorted(
        loop.state.monitor.arrays()["steps"].tolist()
    )


def test_a_step_that_is_not_finite_is_named_and_nothing_after_it_counts(setup):
    """Catches an update counted from the call's beginning, and calls in flight that count."""
    loop = loop_of(setup)
    take_in(loop, collected(loop, 1.0, 0.9, 0.8))
    take_in(loop, collected(loop, 0.7, 0.6, bad_step=2))
    take_in(loop, collected(loop, 0.5))
    assert loop.trouble == ("not finite", 5)
    assert loop.state.progress.num_steps == 3 and is_over(loop)


@pytest.mark.parametrize(
    ("losses", "harmed", "trouble"),
    [
        ([JUMP + 1] * 2, True, True),
        ([JUMP + 1] * 2, False, False),
        ([JUMP - 1] * 2, True, False),
        ([JUMP + 1, 1.0, JUMP + 1], True, False),
        ([LEAP * JUMP + 1] * 2, False, True),  # no tail of a loss reaches so far
        ([2 * JUMP] * 20, True, True),
    ],
)
def test_a_jump_of_the_loss_counts_where_the_parameters_are_harmed(losses, harmed, trouble, setup):
    """Catches a tail of the loss taken for a divergence, and a divergence for a tail."""
    loop = loop_of(setup)
    take_in(loop, collected(loop, 1.0, 1.5))  # the first one is the scale
    if harmed:
        put(loop, 9.0, 9.0, 9.0)
    take_in(loop, collected(loop, *losses))
    assert loop.trouble == (("exploded", 2 + len(losses)) if trouble else None)


def test_after_a_harmless_jump_only_longer_ones_are_looked_at(setup, monkeypatch):
    """Catches two passes over a sample for every batch with a heavy tail."""
    loop = loop_of(setup)
    looked = []
    sample_loss = type(setup).sample_loss
    monkeypatch.setattr(
        type(setup), "sample_loss", lambda self, p: looked.append(p) or sample_loss(self, p)
    )
    for losses in ([1.0], [30.0, 30.0], [1.0], [40.0, 40.0], [1.0], [300.0, 300.0]):
        take_in(loop, collected(loop, *losses))
    assert len(looked) == 2 * 2 and loop.trouble is None
    assert loop.state.progress.jump_scale == CALMER**2


def test_a_slow_explosion_is_seen_in_the_medians(setup):
    """Catches a loss that never jumps and rises for ever."""
    loop = loop_of(setup)
    take_in(loop, collected(loop, *[1.0] * 16))
    for mean in 1.3 ** np.arange(30):
        if loop.trouble is None:
            take_in(loop, collected(loop, min(mean, 19.0), mean))
    assert loop.trouble is not None and loop.trouble[0] == "exploded"


def test_times_are_kept_by_batch_size_and_only_the_latest(setup):
    """Catches a list that grows for ever, and a call without an update timed."""
    loop = loop_of(setup)
    for number in range(MAX_CALLS_TIMED + 3):
        take_in(loop, collected(loop, 1.0, 1.0, seconds=float(number)))
    take_in(loop, collected(loop))
    assert list(loop.step_seconds) == [BATCH]
    assert list(loop.step_seconds[BATCH]) == [n / 2 for n in range(3, MAX_CALLS_TIMED + 3)]


@pytest.fixture(scope="module")
def ladder():
    return loops.visiting_setup()


@pytest.mark.slow
@pytest.mark.parametrize("plan", [{3: 512}, {2: 32}, {1: 128, 3: 32, 5: 512}])
def test_a_change_of_batch_skips_no_row_and_repeats_none_but_of_one_batch(
    plan, ladder, planted, short_calls
):
    """Catches a call in flight at the change that is made again or lost, an epoch in another
    order, updates that are not counted, and times that belong to the size before.
    """
    planted.plan = {number: (decision("batch_size", size),) for number, size in plan.items()}
    loop = train(loop_of(ladder))
    seen = np.asarray(loop.state.device.params["seen"], float)
    sizes = [64, *plan.values()]
    once = np.isclose(seen[:, None], 1 / np.array(sizes)).any(1)
    assert (seen > 0).all() and (~once).sum() < sum(sizes[1:])  # the batch of the change
    progress = loop.state.progress
    assert progress.num_examples == 4096 + (~once).sum()
    assert progress.position == Position(1, 0)
    assert progress.num_steps == int(loop.state.device.step) == pytest.approx(seen.sum())
    assert loop.steps.current.batch_rows == loop.state.monitor.settings.batch_size == sizes[-1]
    assert set(loop.step_seconds) == set(sizes)
    first = min(plan)
    assert len(loop.step_seconds[64]) == first  # calls before the change, and no other


def test_a_knob_is_turned_for_the_device_too(setup, planted, short_calls):
    """Catches a rate that is written down and not trained with."""
    planted.plan = {3: (decision("learning_rate", 0.0),)}
    loop = loop_of(setup)
    train(loop)
    assert records(loop, "decided")[0]["step"] == 10  # as far as was known
    assert loop.state.knobs.learning_rate == float(loop.state.device_knobs().learning_rate) == 0.0
    again = loop_of(setup)
    planted.seen, planted.plan = [], {3: (decision("stop", "converged"),)}
    train(again)
    assert again.stop_reason is StopReason.CONVERGED
    assert again.state.progress.num_steps == 15
    assert_array_equal(params(again), params(loop))


@pytest.mark.slow
def test_clipping_makes_one_new_step_and_keeps_what_is_accumulated(planted, short_calls):
    """Catches a norm in the knobs but not in the program, a second program for the same norm, and
    measurements that take the gradients for unclipped.
    """
    setup = loops.setup_of(microbatch_size=8, steps=30)
    planted.plan = {
        2: (decision("clip_norm", 1e-3),), 4: (decision("clip_norm", 2e-3),),
    }  # fmt: skip
    loop = loop_of(setup)
    steps, made = loop.steps, []
    make = steps._make
    steps._make = lambda *args: made.append(args) or make(*args)
    train(loop)
    assert made == [(BATCH, True, 8)] and steps.current.clips and steps.current.step_rows == 8
    assert loop.state.monitor.settings.clips
    assert float(loop.state.device_knobs().clip_norm) == pytest.approx(2e-3)
    free = train(loop_of(setup))
    assert np.abs(params(loop)).max() < 0.5 * np.abs(params(free)).max()


def test_a_new_start_keeps_the_counts_and_is_what_trouble_leads_back_to(
    setup, planted, short_calls
):
    """Catches a new start from overfitted parameters, or with a count of updates that begins anew:
    schedules and keys would repeat; and an old state that a later step leads back to.
    """
    start = decision("learning_rate", 0.01, from_start=True)
    planted.plan = {7: (start, decision("stop", "converged"))}
    loop = train(loop_of(setup))
    assert_array_equal(params(loop), np.zeros(3))
    assert int(loop.state.device.step) == loop.state.progress.num_steps == 35
    assert loop.state.held_out.lowest_loss is not None
    assert loop.state.held_out.reference_loss is None
    put(loop, np.nan, np.nan, np.nan)
    loop.trouble = "not finite", 40
    core.turn_knobs(loop, (decision("learning_rate", 0.001),))
    assert_array_equal(params(loop), np.zeros(3))
    assert loop.state.progress.num_steps == 35 and loop.trouble is None


def test_trouble_is_undone_with_its_knob_turned(setup, planted, short_calls):
    """Catches a broken state that is kept, knobs that go back with it, and records, results and
    metrics of updates that were taken back.
    """
    loop = loop_of(setup)
    planted.plan = {8: (decision("learning_rate", 0.03), decision("stop", "converged"))}
    train(loop)
    mark_good(loop)
    before = params(loop).copy()
    loop.results, loop.saved_moment = (40, None), (40, 30)
    put(loop, np.nan, 0.0, 0.0)
    loop.state.progress.num_steps = 77
    loop.trouble = "exploded", 77
    core.turn_knobs(loop, (decision("learning_rate", 0.003),))
    assert_array_equal(params(loop), before)
    assert (loop.state.progress.num_steps, loop.trouble, loop.stop_reason) == (40, None, None)
    assert loop.state.knobs.learning_rate == 0.003 and loop.reopens
    assert loop.results is loop.saved_moment is None
    (undone,) = records(loop, "undone")
    assert (undone["step"], undone["what"]) == (40, "exploded")
    assert records(loop, "decided")[-1]["step"] == 40


def test_a_run_that_is_given_up_keeps_its_trouble(setup):
    """Catches a broken run that ends as one which was mended, and does not say where it broke."""
    loop = loop_of(setup)
    loop.trouble = "not finite", 5
    core.turn_knobs(loop, (decision("stop", "diverged"),))
    assert (loop.trouble, loop.stop_reason) == (("not finite", 5), StopReason.DIVERGED)
    assert records(loop, "undone") == []


def test_a_norm_given_anew_needs_no_new_step(setup):
    """Catches a program, and blocks opened anew, for every norm; and a norm that none clips to."""
    loop = loop_of(setup)
    core.turn_knobs(loop, (decision("clip_norm", 3.0),))
    step = loop.steps.current
    assert step.clips and loop.reopens
    loop.reopens = False
    core.turn_knobs(loop, (decision("clip_norm", 2.0),))
    assert loop.steps.current is step and not loop.reopens
    assert loop.state.device_knobs().clip_norm == 2.0


def test_an_update_of_a_larger_batch_is_a_larger_share_of_the_run(ladder):
    """Catches a schedule that goes on by the batch size before, or from an update undone."""
    loop = loop_of(ladder)
    shares = []
    for size in (64, 256, 32):
        if size != loop.steps.current.batch_rows:
            core.turn_knobs(loop, (decision("batch_size", size),))
        shares.append(loop.state.horizon.per_step)
    assert shares == pytest.approx([64 / 4096, 256 / 4096, 32 / 4096])
    progress = loop.state.progress
    progress.num_steps, progress.position = 10, Position(0, 640)
    core.turn_knobs(loop, (decision("batch_size", 256),))
    assert loop.state.horizon.at(10) == pytest.approx(640 / 4096)
    loop.trouble = "exploded", 10
    core.turn_knobs(loop, (decision("learning_rate", 0.1),))
    assert loop.state.progress.num_steps == 0
    assert loop.state.horizon.at(8) == pytest.approx(8 * 256 / 4096)


def breaking(model, batch, key):
    """Walks up a slope by the rate an update, and breaks once it is at 0.5."""
    return jnp.where(model["a"] > 0.495, jnp.nan, -model["a"]) * batch


@pytest.mark.slow
@pytest.mark.parametrize(
    "orders", [(), (decision("batch_size", 256), decision("learning_rate", 9.0))]
)
def test_only_what_answers_a_diverged_step_undoes_it(orders, planted, short_calls):
    """Catches policies that are asked while a step that went wrong is still to be undone, and a
    rate that follows the batch taken for a recovery when a call in flight diverged meanwhile.
    """
    setup = core.assemble(
        breaking, {"a": np.float32(0)}, np.ones(4096, "float32"),
        plain.training(optimizer="sgd", learning_rate=0.01, batch_size="auto", epochs=9),
    )  # fmt: skip
    planted.plan = {11: orders, "diverged": (decision("stop", "diverged"),)}
    loop = train(loop_of(setup))
    moments = [seen.moment for seen in planted.seen]
    assert moments[11:] == ["collected", *([] if orders else ["in_trouble"]), "diverged"]
    last = planted.seen[-1]
    assert (last.trouble, last.trouble_step, last.step) == ("not finite", 51, 50)
    assert last.knobs.batch_size == (256 if orders else 64)
    assert records(loop, "undone") == [] and loop.stop_reason is StopReason.DIVERGED


@pytest.mark.parametrize(
    ("limits", "steps_left", "fraction"),
    [
        ({"steps": 90}, 50, 40 / 90),
        ({"epochs": 4}, 80, 40 / 120),  # of 30 updates each
        ({"epochs": 2, "steps": 90}, 20, 40 / 60),
        ({"seconds": 100.0}, None, 0.75),
        ({"seconds": 100.0, "steps": 44}, 4, 40 / 44),
        ({"epochs": 3, "batch_size": "auto"}, None, (1 + 200 / 600) / 3),
        ({"patience": "auto"}, 30 * MOST_EPOCHS - 40, None),
    ],
)
def test_how_much_is_done_and_left(limits, steps_left, fraction):
    """Catches the farthest limit in the place of the nearest, and a bound taken for an end."""
    loop = loop_of(loops.setup_of(**limits))
    progress = loop.state.progress
    progress.num_steps, progress.position, progress.seconds = 40, Position(1, 200), 75.0
    assert loop.steps_left == steps_left
    assert loop.fraction == (fraction and pytest.approx(fraction))
    progress.num_steps = 10**6
    assert loop.steps_left in (0, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 4}, (True, 30.0, 120.0)),
        ({"steps": 90, "epochs": 4}, (True, 30.0, 90.0)),
        ({"seconds": 9.0}, (True, 30.0, None)),
        ({"batch_size": 50}, (False, 12.0, 12.0 * EPOCHS)),
    ],
)
def test_the_context_says_how_long_a_run_is(options, expected):
    """Catches trials of a rate in a run too short for them, and an end that was not given."""
    setup = loops.setup_of(**options)
    context = context_of(setup, plain.training(**{"batch_size": BATCH} | options))
    assert (context.has_end, context.epoch_steps) == expected[:2]
    assert context.run_steps == expected[2]
    assert not context.has_held_out and context.is_plain and not context.finds_rate


@pytest.mark.parametrize(
    ("seconds", "received", "reason"),
    [
        (9.0, None, StopReason.TIME_UP), (11.0, None, None), (None, None, None),
        (9.0, signal.SIGTERM, StopReason.INTERRUPTED),
    ],
)  # fmt: skip
def test_what_ends_a_run_from_outside(seconds, received, reason, setup):
    """Catches a run over its time, and a reason to stop that a later one takes the place of."""
    loop = loop_of(loops.setup_of(seconds=seconds))
    assert not is_over(loop) and goes_on(loop)
    loop.seconds_before, loop.interrupts.received = 10.0, received
    assert is_over(loop) is (reason is not None) and loop.stop_reason is reason
    loop.stop_reason, loop.interrupts.received = StopReason.CONVERGED, signal.SIGINT
    assert not goes_on(loop) and loop.stop_reason is StopReason.CONVERGED
    loop.stop_reason, loop.trouble = None, ("exploded", 3)
    assert is_over(loop) and loop.stop_reason is None  # it may be mended


@pytest.mark.parametrize(("calls", "seconds", "is_enough"), [
    (2, 1.0, False), (3, 1.0, True), (4, 1.0, True), (4, 0.05, False),
])  # fmt: skip
def test_a_trial_by_the_clock_ends_once_enough_calls_are_timed(calls, seconds, is_enough):
    """Catches one that ends after its first call, which pays for more than its updates."""
    start = SimpleNamespace(progress=SimpleNamespace(update_seconds=5.0))
    loop = SimpleNamespace(
        trials=SimpleNamespace(start=start, trial=SimpleNamespace(seconds=0.1)),
        steps=SimpleNamespace(current=SimpleNamespace(batch_rows=8)),
        step_seconds={8: [0.1] * calls},
        state=SimpleNamespace(progress=SimpleNamespace(update_seconds=5.0 + seconds)),
    )  # fmt: skip
    assert is_timed(loop) is is_enough
