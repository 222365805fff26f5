"""What the pilot does about planted measurements, without a run around it."""

from __future__ import annotations

import json
import math

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from downslope import StopReason
from downslope.choose import Decision, replay
from downslope.choose.anneal import ANNEALS
from downslope.choose.rescale import rescale_sgd
from downslope.config import Training
from downslope.estimate import Estimate
from downslope.metrics import Results
from downslope.train import pilot as pilot_module
from downslope.train.assemble import assemble
from downslope.train.flight import Flight
from downslope.train.pilot import Pilot
from downslope.train.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 1024
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = X @ np.float32([1, -2, 3])


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def begun(held_out=True, last=None, **options):
    """A pilot whose flight stands at its start, or at a mark."""
    training = Training(**{"batch_size": "auto", "measure_every": None} | options)
    validation = (X[:64], Y[:64]) if held_out else None
    engine = assemble(loss, {"w": np.zeros(3, "float32")}, (X, Y), training, validation=validation)
    run = Run(None)
    run.last = last
    flight = Flight(engine, run)
    return Pilot(engine, training, flight)


def results(losses):
    """An evaluation that found these losses of the held-out rows."""
    losses = np.asarray(losses, np.float64)
    found = Results({
        "loss": Estimate(
            value=float(losses.mean()), lo=None, hi=None, num_examples=len(losses), unit="",
            method="",
        )
    })  # fmt: skip
    found.losses = losses
    return found


def see(pilot, *means, scatter=0.0, steps=100):
    """Plants evaluations, each after so many more updates; gives the last answer."""
    answer = None
    for number, mean in enumerate(means):
        pilot.flight.tally.num_steps += steps
        noise = scatter * np.random.default_rng(number).normal(size=400)
        answer = pilot.consider(results(mean + noise - noise.mean()))
    return answer


def decided(pilot):
    return [r for r in pilot.flight.run.journal.records if r["event"] == "decided"]


def test_while_the_loss_falls_nothing_is_decided():
    """Catches a pilot that cools by the clock."""
    pilot = begun()
    assert see(pilot, *(1 / n for n in range(1, 30))) is None
    assert decided(pilot) == []


def test_at_a_floor_it_cools_twice_and_stops():
    """Catches a counter that is not reset by a change, an average that goes on over it, and an
    end before the second change had its time.
    """
    pilot = begun()
    rate = pilot.now.learning_rate
    found = []
    while len(found) < 40:
        found.append(see(pilot, 1.0))
        if found[-1] is not None:
            break
    assert found[-1] is StopReason.CONVERGED
    records = decided(pilot)
    assert [r["new"] for r in records] == pytest.approx([rate / 4, rate / 16, "converged"])
    at = [r["step"] for r in records]
    assert at[0] < at[1] < at[2] and np.diff(at).min() >= 2 * 100
    assert pilot.now.average_from == at[1]
    assert pilot.now.learning_rate == pytest.approx(rate / 16)
    assert float(pilot.knobs.learning_rate) == pytest.approx(rate / 16)
    assert int(pilot.knobs.average_from) == at[1]
    assert len(replay(records)) == 3


def test_gains_after_a_change_put_off_the_end():
    """Catches changes that are counted over the whole run: gains in between end the count."""
    pilot, means, value = begun(), [], 1.0
    for _ in range(6):
        means += [value] * 5
        value *= 0.9
    assert see(pilot, *means) is None
    assert len(decided(pilot)) > ANNEALS + 1
    assert all(r["new"] != "converged" for r in decided(pilot))


def test_a_gain_within_its_noise_is_none():
    """Catches a comparison without the paired error: each mean is lower by half of that."""
    sure, doubtful = begun(), begun()
    means = [1 - 0.01 * n for n in range(6)]
    see(sure, *means, scatter=0.0)
    see(doubtful, *means, scatter=0.4)  # of a difference: 0.4 sqrt(2/400) = 0.028
    assert sure.now.without_gain == 0 and decided(sure) == []
    assert decided(doubtful)[0]["knob"] == "learning_rate"
    assert doubtful.now.best_loss > sure.now.best_loss


def test_noise_that_all_rows_share_hides_no_gain():
    """Catches the error of either mean in the place of the error of their difference."""
    pilot = begun()
    rows = 10 * np.random.default_rng(0).normal(size=400)
    for n in range(8):
        pilot.flight.tally.num_steps += 100
        pilot.consider(results(rows - 0.01 * n))
    assert pilot.now.without_gain == 0 and decided(pilot) == []


@pytest.mark.parametrize("patience", [3, "auto"])
def test_a_held_out_loss_that_is_not_finite_counts_as_no_gain(patience):
    """Catches a run with a given patience that no longer ends because there is no loss to see."""
    pilot = begun(patience=patience)
    nothing = Results({"loss": "not finite"})
    answers = []
    for _ in range(4):
        tally = pilot.flight.tally
        tally.num_steps += 100
        tally.evaluated(None, 1e-3)
        answers.append(pilot.consider(nothing))
    ends = [None, None, StopReason.CONVERGED, StopReason.CONVERGED]
    assert answers == (ends if patience == 3 else [None] * 4)


def test_without_held_out_rows_the_training_loss_decides():
    """Catches a run that never ends because nothing is held out."""
    pilot = begun(held_out=False)
    for mean in (1.0, 0.5, 0.2, *([0.2] * 20)):
        pilot.flight.tally.num_steps += 100
        pilot.flight.tally.last_epoch_loss = mean
        reason = pilot.consider(None)
        if reason is not None:
            break
    assert reason is StopReason.CONVERGED
    assert pilot.now.best_loss == 0.2
    assert [r["knob"] for r in decided(pilot)] == ["learning_rate", "learning_rate", "stop"]


GIVEN = {
    "learning_rate": 0.05, "schedule": "constant", "clip_norm": 2.0, "average": None,
    "batch_size": 64, "patience": 4,
}  # fmt: skip


def test_what_is_given_stays():
    """Catches a given value that the pilot changes at a floor that lasts."""
    pilot = begun(optimizer="adam", **GIVEN)
    before = pilot.knobs
    see(pilot, *[1.0] * 50)
    assert decided(pilot) == []
    assert pilot.knobs == before
    assert pilot.flight.gear is pilot.engine.gear
    pilot.begin(lambda: False)  # no search either
    assert not pilot.turn() and decided(pilot) == [] and pilot.flight.tally.num_steps == 5000


def start_over(pilot):
    """Plants a floor far above the training loss, until the pilot starts again or ends."""
    pilot.now.first_rate = pilot.now.learning_rate
    pilot.flight.tally.last_epoch_loss = 0.01
    pilot.flight._state = pilot.flight._state._replace(
        params={"w": jax.numpy.ones(3)}, step=jax.numpy.int32(77)
    )
    pilot.flight.tally.num_steps = 77
    while (reason := see(pilot, 1.0)) is None and pilot.now.starts == 1:
        pass
    return reason


def test_a_new_start_is_from_the_very_first_parameters():
    """Catches a new start that goes on from the overfitted ones, forgets the count of updates, or
    leaves an overfitted state to go back to after a step that goes wrong.
    """
    pilot = begun()
    first = pilot.now.learning_rate
    assert start_over(pilot) is None
    again = decided(pilot)[-1]
    assert (again["policy"], again["old"]) == ("start_again", first)
    assert pilot.now.learning_rate == pilot.now.first_rate == pytest.approx(first / math.sqrt(10))
    state = jax.device_get(pilot.flight._state)
    assert_array_equal(state.params["w"], np.zeros(3))
    assert int(state.step) == 77
    assert pilot.now.lowest_before == 1.0 and pilot.now.best_loss is None
    assert pilot.now.anneals == 0 and pilot.now.started_step == pilot.flight.tally.num_steps
    assert pilot.now.average_from == pilot.now.started_step
    pilot.flight.trouble, pilot.flight.bad_step = "exploded", 99
    assert pilot.recover()
    assert_array_equal(jax.device_get(pilot.flight._state).params["w"], np.zeros(3))


def test_a_second_start_in_vain_is_the_last():
    """Catches a gain that is measured from the start's own losses, so that each counts as one."""
    pilot = begun()
    start_over(pilot)
    while (reason := see(pilot, 1.0005)) is None:
        pass
    assert reason is StopReason.CONVERGED and pilot.now.starts == 2


@pytest.mark.parametrize(
    "given", [{"learning_rate": 0.01}, {"schedule": "constant"}, {"patience": 500}]
)
def test_a_run_with_something_given_does_not_start_again(given):
    """Catches a rate, a schedule or an end that was given and is overruled by a new start."""
    pilot = begun(**given)
    pilot.now.first_rate = pilot.now.learning_rate
    pilot.flight.tally.last_epoch_loss = 0.01
    for _ in range(60):
        if see(pilot, 1.0) is not None:
            break
    assert pilot.now.starts == 1


def test_trouble_is_undone_and_cut_until_it_ends():
    """Catches a state that is kept, a cut forgotten at the next one, and cuts without end."""
    pilot = begun(optimizer="sgd", learning_rate=0.5)
    rates = []
    for _ in range(6):
        flight = pilot.flight
        flight._state = flight._state._replace(params={"w": jax.numpy.full(3, jax.numpy.nan)})
        flight.trouble, flight.bad_step = "not finite", 8
        going_on = pilot.recover()
        rates.append(pilot.now.learning_rate)
        assert flight.healthy is going_on
    assert rates == pytest.approx([0.05, 0.005, 5e-4, 5e-5, 5e-6, 5e-6])
    assert decided(pilot)[-1]["new"] == "diverged" and not going_on
    assert all("the rate given is too high" in r["because"] for r in decided(pilot)[:-1])


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"optimizer": "adam"}, 2.0),
        ({"optimizer": "adam", "learning_rate": 0.02}, 1.0),
        ({"optimizer": "sgd"}, None),
        ({"optimizer": "momentum"}, None),
        ({"optimizer": "sgd", "learning_rate": 0.02}, 1.0),
    ],
)
def test_the_rate_follows_the_batch(options, factor, monkeypatch):
    """Catches a rule for the wrong optimizer, and a given rate that is scaled."""
    monkeypatch.setattr(pilot_module, "_value", lambda flight, name: 300.0)
    pilot = begun(measure_every=256, **options)
    old, size = pilot.now.learning_rate, pilot.now.batch_size
    move = Decision(knob="batch_size", old=size, new=4 * size, because="", policy="planted")
    monkeypatch.setattr(pilot.batches, "turn", lambda knobs: move)
    assert pilot.turn()
    if factor is None:
        factor = (1 + 300 / size) / (1 + 300 / (4 * size))
        assert factor == pytest.approx(
            rescale_sgd(1.0, batch_size=size, new_batch_size=4 * size, noise_scale=300)
        )
    assert pilot.now.learning_rate == pytest.approx(old * factor)
    assert pilot.now.batch_size == pilot.flight.gear.batch_rows == 4 * size
    assert float(pilot.knobs.batch_size) == 4 * size
    back = Decision(knob="batch_size", old=4 * size, new=size, because="", policy="planted")
    monkeypatch.setattr(pilot.batches, "turn", lambda knobs: back)
    assert pilot.turn()
    assert pilot.now.learning_rate == pytest.approx(old)
    assert pilot.flight.gear is pilot.engine.gear
    monkeypatch.setattr(pilot.batches, "turn", lambda knobs: None)
    assert not pilot.turn()


def test_a_batch_that_cools_leaves_the_rate(monkeypatch):
    """Catches a temperature that is left as it was because the rate grows with the batch."""
    pilot = begun()
    rate, size = pilot.now.learning_rate, pilot.now.batch_size
    monkeypatch.setattr(pilot.batches, "larger", lambda: 4 * size)
    monkeypatch.setattr(pilot.batches, "seconds_per_example", lambda b: 1e-4 / b)
    while not decided(pilot):
        see(pilot, 1.0)
    assert (decided(pilot)[0]["knob"], decided(pilot)[0]["new"]) == ("batch_size", 4 * size)
    assert pilot.now.learning_rate == rate
    assert pilot.now.batch_size == pilot.flight.gear.batch_rows == 4 * size
    assert pilot.turn() and not pilot.turn()  # the blocks are cut anew, once


def heavy(pilot, monkeypatch):
    norms = np.abs(np.random.default_rng(0).standard_cauchy(500))
    monkeypatch.setattr(type(pilot.flight.watch), "norms", lambda self: norms)
    return float(np.quantile(norms, 0.9))


@pytest.mark.parametrize(
    ("options", "clips"),
    [({}, True), ({"clip_norm": None}, False), ({"clip_norm": 5.0}, False)],
)
def test_a_heavy_tail_is_clipped(options, clips, monkeypatch):
    """Catches a threshold in the knobs but not in the program, clipping although it was given as
    off, and a given norm that is replaced.
    """
    pilot = begun(measure_every=4, **options)
    threshold = heavy(pilot, monkeypatch)
    before = pilot.knobs
    see(pilot, 1.0)
    assert bool(pilot.knobs.clip_norm != before.clip_norm) is clips
    if clips:
        assert float(pilot.knobs.clip_norm) == pytest.approx(threshold)
        assert pilot.flight.gear.clips and pilot.flight.watch.settings.clips
        assert pilot.turn() and not pilot.turn()
        see(pilot, 0.5)
        assert len(decided(pilot)) == 1  # once is enough


def test_a_resumed_pilot_stands_where_the_one_before_stood(monkeypatch):
    """Catches counters begun anew, another batch, and clipping that ends with the sitting."""
    pilot = begun(measure_every=4)
    heavy(pilot, monkeypatch)
    see(pilot, 1.0, 0.9, 0.8, *[0.8] * 12)
    move = Decision(knob="batch_size", old=128, new=512, because="", policy="planted")
    monkeypatch.setattr(pilot.batches, "turn", lambda knobs: move)
    assert pilot.turn() and pilot.turn()  # for the clipping, then for the batch
    pilot.now.repeats, pilot.now.starts, pilot.now.first_rate = 2, 2, 0.3
    assert pilot.now.anneals and pilot.now.path and pilot.now.batch_size == 512
    mark = pilot.flight.mark()
    saved = type(mark)(tensors=mark.tensors, document=json.loads(json.dumps(mark.document)))
    again = begun(measure_every=4, last=saved)
    assert again.now == pilot.now
    assert again.knobs == pilot.knobs
    assert again.flight.gear.batch_rows == again.flight.watch.settings.batch_size == 512
    assert again.flight.gear.clips and again.flight.watch.settings.clips


@pytest.mark.parametrize(
    ("limits", "races"), [({"steps": 384}, True), ({"steps": 383}, False), ({"epochs": 1}, False)]
)
def test_a_short_run_is_not_spent_on_trials(limits, races, monkeypatch):
    """Catches a race that takes most of a run that was asked to be short."""
    asked = []
    monkeypatch.setattr(pilot_module, "race", lambda *a: asked.append(a[3]))
    pilot = begun(**limits)
    pilot.begin(lambda: False)
    assert asked == ([16] if races else [])
    assert pilot.now.searched
    pilot.begin(lambda: False)
    assert len(asked) == races  # once a run


class _Call:
    def __init__(self, num_steps, ends_epoch):
        self.num_steps, self.ends_epoch = num_steps, ends_epoch


def test_it_looks_at_held_out_rows_at_ends_of_epochs_not_too_often():
    """Catches a look after each of many short epochs, and one in the middle of one."""
    pilot = begun()
    assert not pilot.evaluates(_Call(8, True)) and pilot.evaluates(_Call(16, True))
    assert not pilot.evaluates(_Call(1000, False))
    pilot.now.evaluated_step, pilot.flight.tally.num_steps = 100, 110
    assert not pilot.evaluates(_Call(5, True)) and pilot.evaluates(_Call(6, True))
    assert begun(patience=3).evaluates(_Call(1, True))  # given in evaluations: each epoch is one
