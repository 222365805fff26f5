"""Controllers on planted observations: pure, replayable, and without a run around them."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from downslope.choose import Decision, controllers, replay
from downslope.choose.branch import ARM_SHARE
from downslope.choose.controller import (
    ArmEnd,
    CompiledSizes,
    Context,
    EndTrials,
    NoiseReading,
    NormReading,
    Observation,
    Prepare,
    Trial,
)
from downslope.choose.learning_rate import LENGTH_POWER
from downslope.choose.rescale import rescale_sgd
from downslope.choose.temperature import MAX_ANNEALS
from downslope.config import KnobSettings, Training

FREE = frozenset({
    "optimizer", "learning_rate", "batch_size", "schedule", "clip_norm", "average", "patience",
})  # fmt: skip
KNOBS = KnobSettings(learning_rate=0.01, batch_size=64, clip_norm=None)
HEAVY = NormReading(
    num_norms=200, threshold=2.0, largest=300.0, tail_index_upper=1.5, clipped_share=0.1,
    length_lost=0.4,
)  # fmt: skip


@dataclasses.dataclass
class Planted:
    """Instruments that read what was planted."""

    scale: NoiseReading = NoiseReading()  # noqa: RUF009 - immutable
    tail: NormReading | None = None
    first: float | None = 0.01
    rows: tuple[int, ...] = ()

    def noise(self):
        return self.scale

    def norms(self):
        return self.tail

    def start_rate(self):
        return self.first

    def nonfinite_rows(self):
        return self.rows


class Simulated:
    """A run of numbers alone: keeps states and knobs, turns the knobs, and takes the orders."""

    def __init__(self, free=FREE, instruments=None, knobs=KNOBS, training=None, **context):
        training = training or Training()
        self.context = Context(**{
            "training": training.resolved(
                optimizer="adam", batch_size=64, schedule="cosine", clip_norm=None,
                average="tail", patience=5,
            ),
            "free": free, "has_end": False, "has_held_out": True, "epoch_steps": 1600.0,
            "run_steps": None, "is_plain": False, "finds_rate": False, "can_change_batch": True,
            "max_batch_size": 4096,
        } | context)  # fmt: skip
        self.states = controllers.init(self.context)
        self.instruments, self.knobs = instruments or Planted(), knobs
        self.step, self.seconds, self.sizes = 0, 0.0, CompiledSizes()
        self.reference = None
        self.decisions = []

    def observation(self, moment, **seen):
        return Observation(
            moment=moment, context=self.context, step=self.step, seconds=self.seconds,
            knobs=self.knobs, sizes=self.sizes, instruments=self.instruments,
            **{"done": None, "first_loss": 10.0} | seen,
        )  # fmt: skip

    def see(self, moment, **seen):
        observation = self.observation(moment, **seen)
        before = json.dumps(controllers.to_json(self.states))
        self.states, orders = controllers.update(self.states, observation)
        # pure: from the states of a checkpoint the same orders come again
        again = controllers.from_json(json.loads(before), self.context)
        assert controllers.update(again, observation) == (self.states, orders)
        for order in orders:
            if isinstance(order, Decision):
                self.decisions.append(order)
                if order.knob != "stop":
                    self.knobs = dataclasses.replace(self.knobs, **{order.knob: order.new})
                if order.from_start:
                    self.reference = None
        return orders

    def evaluate(self, *losses, steps=200, **seen):
        """Evaluations, each after more updates; ends at a stop."""
        for loss in losses:
            self.step += steps
            self.seconds += 0.1
            gained = self.reference is None or loss < self.reference - 1e-3 * abs(self.reference)
            if gained:
                self.reference = loss
            values = {"loss": loss, "held_out_loss": loss, "epoch_loss": loss}
            values["epochs"] = self.step / 200
            orders = self.see(
                "evaluated", gained=gained, reference_loss=self.reference, **values | seen
            )
            if any(isinstance(o, Decision) and o.knob == "stop" for o in orders):
                return True
        return False

    @property
    def temperature(self):
        return self.states["temperature"]


def test_while_the_loss_falls_nothing_is_decided():
    """Catches a controller that cools by the clock."""
    run = Simulated()
    assert not run.evaluate(*(5 / n for n in range(1, 30)))
    assert run.decisions == []


def test_at_a_floor_it_cools_twice_and_stops():
    """Catches a counter that a change does not reset, an average that goes on over it, and an
    end before the second change had its time.
    """
    run = Simulated()
    at = []
    for _ in range(60):
        num = len(run.decisions)
        ended = run.evaluate(1.0)
        if len(run.decisions) > num:
            at.append(run.step)
        if ended:
            break
    assert [d.new for d in run.decisions] == pytest.approx([0.0025, 0.000625, "converged"])
    assert run.temperature.average_from == at[1]
    assert at[1] - at[0] >= 400 and at[2] - at[1] >= 400
    assert replay([{"event": "decided", **d.to_json()} for d in run.decisions]) == run.decisions


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_gains_after_a_change_put_off_the_end(scale):
    """Catches changes that are counted over the whole run: gains in between end the count."""
    run, value = Simulated(), scale
    for _ in range(6):
        assert not run.evaluate(*[value] * 5)
        value *= 0.9
    assert len(run.decisions) > MAX_ANNEALS + 1


def test_a_loss_that_ends_near_zero_converges():
    """Catches relative gains of a loss of next to nothing, which never cease."""
    run = Simulated()
    assert run.evaluate(*(1e-4 * 0.99**n for n in range(200)))


def test_an_average_given_is_not_begun_anew():
    """Catches an anneal that restarts a mean over the whole run."""
    run = Simulated(free=FREE - {"average"})
    run.evaluate(*[1.0] * 10)
    assert run.decisions and run.temperature.average_from == 0


def test_a_decay_left_to_choose_follows_the_run():
    """Catches a decay that changes between trials, one for the rate before the search, and one that
    was given.
    """
    knobs = dataclasses.replace(KNOBS, weight_decay=0.1)
    for free in (FREE, FREE | {"weight_decay"}):
        run = Simulated(free=free, knobs=knobs, run_steps=1e5, has_end=True)
        assert isinstance(run.see("begun", run_steps=1e5)[0], Trial)
        for loss in (1.0, 2.0, 3.0):  # 0.01 is best of the three rates
            run.see("trial_ended", trial_loss=loss, run_steps=1e5)
        rate = run.knobs.learning_rate
        assert rate < 0.01
        wanted = 8 / (1e5 * rate) if "weight_decay" in free else 0.1
        assert run.knobs.weight_decay == pytest.approx(wanted)
        run.see("collected", run_steps=1.1e5)
        assert run.knobs.weight_decay == pytest.approx(wanted)
        run.see("collected", run_steps=2e5)  # updates became faster
        wanted = wanted / 2 if "weight_decay" in free else 0.1
        assert run.knobs.weight_decay == pytest.approx(wanted)
        run.knobs = dataclasses.replace(run.knobs, learning_rate=rate / 4)  # lowered
        run.see("collected", run_steps=2e5)
        assert run.knobs.weight_decay == pytest.approx(4 * wanted if wanted < 0.1 else 0.1)
        run.see("collected", run_steps=1e3)  # a tenth of the peak rate at most
        assert run.knobs.weight_decay == pytest.approx(0.4 if wanted < 0.1 else 0.1)


def test_a_search_without_a_first_rate_or_time_is_over_at_once():
    """Catches a search that is begun again by a resumed run, where none was possible."""
    for instruments, run_steps in ((Planted(first=None), None), (Planted(), 10.0)):
        run = Simulated(instruments=instruments, run_steps=run_steps, has_end=run_steps is not None)
        run.see("begun")
        assert run.states["learning_rate_search"].is_done


def test_trials_that_end_without_a_rate_leave_the_decay_alone():
    """Catches a decay for the rate of a trial that was interrupted, or of an arm."""
    knobs = dataclasses.replace(KNOBS, weight_decay=0.1)
    run = Simulated(free=FREE | {"weight_decay"}, knobs=knobs, run_steps=1e5, has_end=True)
    run.see("begun", run_steps=1e5)
    run.knobs = dataclasses.replace(run.knobs, learning_rate=0.1)  # of the trial
    run.see("trial_ended", run_steps=1e5, trial_loss=1.0, is_interrupted=True)
    assert run.knobs.weight_decay == 0.1
    assert run.states["weight_decay"].peak_rate is None


def test_calls_of_a_run_without_a_clock_do_not_turn_the_decay():
    """Catches a run of the same seed that depends on how many updates a call had."""
    knobs = dataclasses.replace(KNOBS, weight_decay=0.1)
    free = (FREE | {"weight_decay"}) - {"learning_rate"}
    run = Simulated(free=free, knobs=knobs, run_steps=1e5, has_end=True, has_clock=False)
    run.see("collected", run_steps=1e5)
    assert run.knobs.weight_decay == 0.1
    run.see("begun", run_steps=1e5)
    assert run.knobs.weight_decay == pytest.approx(0.008)


def test_a_rate_cut_after_a_diverged_step_is_a_new_peak():
    """Catches a decay that makes up for a rate that no run could have: 0.8 instead of 0.08."""
    knobs = dataclasses.replace(KNOBS, weight_decay=0.1)
    free = (FREE | {"weight_decay"}) - {"learning_rate"}
    run = Simulated(free=free, knobs=knobs, run_steps=1e5, has_end=True)
    run.see("begun", run_steps=1e5)
    run.see("diverged", trouble="not finite", trouble_step=10, run_steps=1e5)
    assert run.knobs.learning_rate == pytest.approx(0.001)
    run.see("evaluated", run_steps=1e5, loss=1.0, reference_loss=1.0, gained=True)
    assert run.knobs.weight_decay == pytest.approx(0.08)


@pytest.mark.parametrize("done", [0.5, 0.85])
def test_a_schedule_that_spans_the_run_lowers_the_rate_alone(done):
    """Catches a cut of the rate, or a stop, on a plateau of a run whose end was given, and a bound
    of an open-ended run taken for its end.
    """
    for has_end in (True, False):
        run = Simulated(has_end=has_end)
        run.evaluate(*[1.0] * 20, done=done, epoch_loss=2.0)
        assert bool(run.decisions) is not has_end


def test_an_overfitted_run_is_cooled_before_the_last_fifth_of_its_schedule():
    """Catches a rate cut where the schedule has lowered it itself, and one never cut."""
    for done, cooled in ((0.5, True), (0.85, False)):
        run = Simulated(has_end=True)
        run.evaluate(*[1.0] * 30, done=done, epoch_loss=0.1)
        assert bool(run.decisions) is cooled


def test_evaluations_inside_an_epoch_are_no_noise_floor():
    """Catches a rate that is cut, and a run that ends, on a plateau of rows that were not all seen;
    and a generator's run, of which no row is seen twice, that is not left to its schedule.
    """
    run = Simulated()
    run.evaluate(*[1.0] * 60, steps=6)  # 1.8 epochs
    assert not run.decisions
    run.evaluate(*[1.0] * 30, steps=6)
    assert run.decisions[0].policy == "next_temperature"
    run = Simulated(has_end=True)
    run.evaluate(*[1.0] * 20, done=0.4, epochs=None)
    assert not run.decisions


def test_what_is_given_is_not_decided():
    """Catches a given knob that a controller turns."""
    run = Simulated(free=frozenset(), instruments=Planted(tail=HEAVY))
    assert run.see("begun") == ()
    assert run.evaluate(*[1.0] * 20)  # its patience was given
    assert [d.policy for d in run.decisions] == ["out_of_patience"]


def test_patience_counts_evaluations_since_a_gain_above_the_tolerance():
    """Catches small gains that reset a patience for ever, and one that counts the gain itself."""
    free = FREE - {"patience", "schedule"}
    run = Simulated(free=free)
    assert not run.evaluate(1.0, 0.9995, 0.9991, 0.9992, 0.9993)
    assert run.evaluate(0.9994) and run.decisions[-1].policy == "out_of_patience"
    run = Simulated(free=free)
    assert not run.evaluate(*(0.9**n for n in range(30)))
    assert not run.evaluate(1.0, 1.0, 1.0, 1.0, held_out_loss=None)
    assert run.evaluate(1.0, held_out_loss=None)
    run = Simulated(free=free, has_held_out=False)
    assert not run.evaluate(*[1.0] * 20, held_out_loss=None)


def overfit(run, **seen):
    """The run until it would stop, fitted far better than its held-out rows; its decisions."""
    num = len(run.decisions)
    for _ in range(60):
        run.evaluate(1.0, epoch_loss=0.1, **seen)
        if any(d.knob == "stop" or d.from_start for d in run.decisions[num:]):
            break
    return run.decisions[num:]


def test_an_overfitted_run_starts_again_at_lower_rates_while_that_gains():
    """Catches a start whose gain is compared with its own, and counts that go on over a start."""
    run = Simulated()
    run.see("begun")
    for loss in (1.0, 2.0, 2.0):
        orders = run.see("trial_ended", trial_loss=loss)
    assert isinstance(orders[0], EndTrials) and orders[0].keep_best
    rate = run.knobs.learning_rate
    first = overfit(run)
    assert first[-1].policy == "start_again"
    assert first[-1].new == pytest.approx(rate / math.sqrt(10))
    assert (run.temperature.starts, run.temperature.path) == (2, ())
    assert run.temperature.started_step == run.temperature.changed_step == run.step
    second = overfit(run)
    assert second[-1].knob == "stop"  # it gained nothing
    assert len(second) == len(first) == MAX_ANNEALS + 1


@pytest.mark.parametrize(
    "changed",
    [
        {"free": FREE - {"schedule"}},
        {"free": FREE - {"learning_rate"}},
        {"has_held_out": False},
    ],
)
def test_nothing_starts_again_where_a_part_of_it_was_given(changed):
    """Catches a start that overrules what the user gave, or that no held-out loss asked for."""
    run = Simulated(**changed)
    run.see("begun")
    for loss in (1.0, 2.0, 2.0):
        run.see("trial_ended", trial_loss=loss)
    assert all(d.policy != "start_again" for d in overfit(run))


@pytest.mark.parametrize(("done", "starts"), [(0.1, True), (0.75, False)])
def test_a_run_of_given_length_starts_again_only_early_in_it(done, starts):
    """Catches a start that has no time left, and a given length that forbids every start."""
    run = Simulated(has_end=True)
    run.see("begun")
    for loss in (1.0, 2.0, 2.0):
        run.see("trial_ended", trial_loss=loss)
    last = overfit(run, done=done)[-1]
    assert last.from_start is starts and (last.knob == "stop") is not starts


@pytest.mark.parametrize(
    ("seen", "policy"),
    [
        ({"done": 0.3, "epoch_loss": 0.05}, "start_hotter"),
        ({"done": 0.3, "epoch_loss": 0.5}, "next_temperature"),
        ({"done": 0.7, "epoch_loss": 0.05}, "next_temperature"),
    ],
)
def test_a_run_of_given_length_that_interpolates_starts_again_hotter(seen, policy):
    """Catches a start of a run that only overfits, or too late, and a second start that is cooled
    by another rule than its schedule.
    """
    run = Simulated(has_end=True)
    run.see("begun")
    for loss in (1.0, 2.0, 2.0):
        run.see("trial_ended", trial_loss=loss)
    rate, number = run.knobs.learning_rate, len(run.decisions)
    while len(run.decisions) == number:
        run.evaluate(1.0, **seen)
    assert run.decisions[-1].policy == policy
    factor = 4 if policy == "start_hotter" else 1 / 4
    assert run.decisions[-1].new == pytest.approx(factor * rate)
    if policy == "start_hotter":
        number = len(run.decisions)
        run.evaluate(*[1.0] * 40, done=0.6, epoch_loss=0.05)
        assert len(run.decisions) == number


class Search(Simulated):
    """A run that begins by a search, in which a trial's loss is a function of its rate."""

    def search(self, loss, **seen):
        orders, trials = self.see("begun"), []
        while orders and isinstance(orders[0], Trial):
            trials.append(orders[0])
            orders = self.see("trial_ended", trial_loss=loss(orders[0].learning_rate), **seen)
        return trials, orders


def test_a_search_settles_on_the_rate_between_two_worse_ones():
    """Catches a search that never ends, tries a rate twice, or takes the last rate tried."""
    run = Search()
    trials, orders = run.search(lambda rate: abs(math.log10(rate / 0.1)))
    rates = [trial.learning_rate for trial in trials]
    assert len(set(rates)) == len(rates) and {t.num_steps for t in trials} == {64}
    assert rates[0] == 0.01
    assert orders == (EndTrials(keep_best=True), run.decisions[0])
    # of an open-ended run's 20 epochs
    factor = (64 / (20 * run.context.epoch_steps)) ** LENGTH_POWER
    assert run.knobs.learning_rate == pytest.approx(0.1 * factor, rel=1e-3)
    assert run.temperature.first_rate == run.knobs.learning_rate
    assert run.see("begun") == ()  # not once more after an interruption


def test_a_run_too_short_for_trials_says_so():
    """Catches a search that is left out in silence, and a word on a rate that nobody left open."""
    short = {"has_end": True, "run_steps": 100.0, "default_rate": 0.005}
    trials, orders = Search(**short).search(lambda rate: 1.0)
    (told,) = orders
    assert not trials and told.policy == "keep_default" and told.old == told.new == 0.005
    assert "100 updates" in told.because
    run = Search(**short)
    run.search(lambda rate: 1.0)
    assert run.see("begun") == ()  # said once
    for other in ({"finds_rate": True}, {"free": FREE - {"learning_rate"}}):
        assert Search(**short | other).search(lambda rate: 1.0) == ([], ())


def test_where_every_rate_diverges_the_run_begins_where_the_search_did():
    """Catches a decision without a finite loss."""
    run = Search()
    trials, orders = run.search(lambda rate: math.inf)
    assert len(trials) == 7 and orders == (EndTrials(keep_best=False),)
    assert run.decisions == [] and run.temperature.first_rate is None


def test_an_interrupted_search_is_made_anew_and_one_out_of_time_decides():
    """Catches a search that counts as done when interrupted, and trials beyond their time."""
    run = Search()
    _, orders = run.search(lambda rate: 1.0, is_cut_short=True, is_interrupted=True)
    assert orders == (EndTrials(keep_best=False),)
    assert isinstance(run.see("begun")[0], Trial)
    run = Search()
    trials, orders = run.search(lambda rate: 1.0, is_cut_short=True)
    assert len(trials) == 1 and run.decisions[0].policy == "settle_rate"
    run = Search()
    run.see("begun")
    run.see("trial_ended", trial_loss=1.0)
    orders = run.see("trial_ended", trial_loss=0.5, is_cut_short=True)  # not to be compared
    assert len(run.decisions[0].inputs["rates"]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"free": FREE - {"learning_rate"}},
        {"training": Training(warmup_steps=10)},
        {"run_steps": 100.0},
        {"instruments": Planted(first=None)},
    ],
)
def test_no_search_where_none_can_be_made(changed):
    """Catches trials in a warm-up, of a rate that is given, and in a run too short for them."""
    assert Simulated(**changed).see("begun") == ()


def test_clipping_begins_once_and_only_where_it_is_free():
    """Catches a norm that follows the tail for ever, and clipping that was not asked for."""
    run = Simulated(instruments=Planted(tail=HEAVY))
    run.evaluate(5.0, 4.0, 3.0)
    assert [(d.knob, d.new) for d in run.decisions] == [("clip_norm", 2.0)]
    for changed in ({"free": FREE - {"clip_norm"}}, {"instruments": Planted()}):
        run = Simulated(**{"instruments": Planted(tail=HEAVY)} | changed)
        run.evaluate(5.0, 4.0, 3.0)
        assert run.decisions == []


def large_noise(metric="Euclidean", **changed):
    """A run of which larger batches may pay, aged thirty times what its first step compiled.

    Without held-out rows: nothing is branched.
    """
    noise = NoiseReading(
        scale=900.0, lo=700.0, hi=1200.0, is_preconditioned=metric == "preconditioned"
    )
    run = Simulated(instruments=Planted(noise), **{"has_held_out": False} | changed)
    run.seconds = 30.0
    run.sizes = CompiledSizes(
        known=frozenset({64}), usable=frozenset({64}), first_compile_seconds=1.0,
        step_seconds={64: [1e-3] * 8},
    )  # fmt: skip
    return run


@pytest.mark.parametrize("metric", ["Euclidean", "preconditioned"])
def test_a_larger_batch_is_compiled_tried_and_kept_where_it_is_faster(metric):
    """Catches a size that is tried before it is there, a rate that does not follow, a move
    without times, and a sentence on another metric.
    """
    run = large_noise(metric)
    assert run.see("collected") == (Prepare(256),)
    known = {"known": frozenset({64, 256}), "compile_seconds": {256: 1.5}}
    run.sizes = dataclasses.replace(run.sizes, **known)
    assert run.see("collected") == ()  # one at a time, and not ready yet
    run.sizes = dataclasses.replace(run.sizes, usable=frozenset({64, 256}))
    moved, follows = run.see("collected")
    assert (moved.policy, moved.new, follows.policy) == ("try_batch", 256, "follow_batch")
    assert follows.new == pytest.approx(0.02)  # by the square root, for adam
    assert f"the {metric} noise scale is at most 1,200 examples" in moved.because
    run.seconds = 60.0
    run.sizes = dataclasses.replace(
        run.sizes,
        step_seconds={64: [1e-3] * 8, 256: [4.0e-3] * 8},  # no cheaper at all
    )
    back, follows = run.see("collected")
    assert (back.policy, back.new) == ("next_batch_size", 64)
    assert f"the {metric} noise scale is 900 (700 to 1,200) examples" in back.because
    assert run.knobs == KNOBS
    assert run.see("collected") == ()  # the same question is asked again only later


@pytest.mark.parametrize("knob", ["learning_rate", "batch_size", "clip_norm", "stop"])
def test_a_batch_size_waits_for_what_else_was_decided(knob):
    """Catches a rate lowered at the same evaluation that the new batch's rate would overwrite."""
    run = large_noise()
    run.see("collected")
    run.sizes = dataclasses.replace(
        run.sizes, known=frozenset({64, 256}), usable=frozenset({64, 256})
    )
    seen = run.observation("collected")
    batch_size, state = controllers.CONTROLLERS["batch_size"], run.states["batch_size"]
    before = Decision(knob=knob, old=0.01, new=0.0025, because="")
    assert batch_size.update(state, seen, (before,)) == (state, ())
    assert batch_size.update(state, seen, ())[1]


@pytest.mark.parametrize("asks", ["what to compile", "where to stay"])
@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3])
def test_a_question_about_the_batch_is_asked_at_ever_longer_times(asks, unit):
    """Catches one that is asked with every call or only once, and a wait that is another where
    time is counted in another unit.
    """
    asked = []

    class Asked(Planted):
        def noise(self):
            asked.append(run.seconds)
            return NoiseReading(scale=0.15, lo=0.1, hi=0.2)  # nothing pays

    run = Simulated(instruments=Asked(), knobs=dataclasses.replace(KNOBS, batch_size=4))
    seconds, cost = {4: [1e-3 * unit] * 8}, unit
    if asks == "where to stay":
        seconds, cost = seconds | {16: [4e-3 * unit] * 8}, None
    sizes = frozenset(seconds)
    run.sizes = CompiledSizes(
        known=sizes, usable=sizes, first_compile_seconds=cost, step_seconds=seconds
    )
    for number in range(231):  # a run that grows to ten times its age
        run.seconds = 30 * unit * 1.01**number
        assert run.see("collected") == ()
    assert asked[0] == 30 * unit and 5 <= len(set(asked)) <= 50


@pytest.mark.parametrize("moment", ["in_trial", "in_trouble"])
def test_nothing_is_decided_in_a_trial_or_in_trouble(moment):
    """Catches a batch size that changes in a trial, or for a step that is still to be undone."""
    assert large_noise(training=Training(patience=1)).see(moment) == ()


def test_plain_descent_follows_in_proportion_and_prodigy_not_at_all():
    """Catches one rule for all optimizers."""
    for context, new in (({"is_plain": True}, "saturating"), ({"finds_rate": True}, None)):
        run = large_noise(**context)
        run.see("collected")
        run.sizes = dataclasses.replace(
            run.sizes, known=frozenset({64, 256}), usable=frozenset({64, 256})
        )
        orders = run.see("collected")
        assert len(orders) == (1 if new is None else 2)
        if new is not None:
            expected = rescale_sgd(0.01, batch_size=64, new_batch_size=256, noise_scale=900.0)
            assert orders[1].new == pytest.approx(expected)


def test_a_size_that_does_not_compile_ends_the_search_for_others():
    """Catches a run that tries to compile the same size for ever."""
    run = large_noise()
    assert run.see("collected") == (Prepare(256),)
    sizes = frozenset({64, 256})
    run.sizes = dataclasses.replace(run.sizes, known=sizes, failed=frozenset({256}))
    for _ in range(5):
        run.seconds *= 2
        assert run.see("collected") == ()


@pytest.mark.parametrize(
    "changed",
    [{"can_change_batch": False}, {"max_batch_size": 64}, {}],
    ids=["given", "no room", "young"],
)
def test_no_other_batch_where_it_cannot_be_or_is_too_soon(changed):
    """Catches a batch that was given and changed, one too large, and one compiled at once."""
    run = large_noise(**changed)
    if not changed:
        run.seconds = 5.0
    if "max_batch_size" in changed:
        run.instruments = Planted(NoiseReading(scale=900.0, lo=700.0, hi=1200.0))
        run.knobs = dataclasses.replace(KNOBS, batch_size=16)
        run.context = dataclasses.replace(run.context, max_batch_size=32)
    assert run.see("collected") == ()


def test_at_the_floor_a_larger_batch_cools_where_an_example_of_it_is_cheaper():
    """Catches a rate that follows the batch, which would leave the temperature as it was."""
    run = Simulated()
    run.sizes = CompiledSizes(
        known=frozenset({64, 256}), usable=frozenset({64, 256}),
        step_seconds={64: [1e-3] * 4, 256: [2e-3] * 4},
    )  # fmt: skip
    run.evaluate(*[1.0] * 3)
    assert run.decisions[0].knob == "batch_size" and run.knobs.batch_size == 256
    assert run.knobs.learning_rate == 0.01


class Branched(Simulated):
    """A long run with a size proposed that is not timed yet."""

    def __init__(self, **context):
        noise = Planted(NoiseReading(scale=900.0, lo=700.0, hi=1200.0))
        super().__init__(instruments=noise, **context)
        self.seconds, self.start = 30.0, self.knobs
        search = dataclasses.replace(self.states["learning_rate_search"], is_done=True)
        self.states = self.states | {"learning_rate_search": search}
        both = frozenset({64, 256})
        self.sizes = CompiledSizes(
            known=frozenset({64}), usable=frozenset({64}), first_compile_seconds=1.0,
            step_seconds={64: [1e-3] * 8},
        )  # fmt: skip
        assert self.see("collected") == (Prepare(256),)
        self.sizes = dataclasses.replace(self.sizes, known=both, usable=both)
        waits = self.see("collected") == ()  # for an evaluation, where rows can be evaluated
        assert waits is context.get("has_held_out", True)

    def begin(self):
        return self.see("evaluated", loss=1.0, held_out_loss=1.0, reference_loss=1.0, gained=True)

    def end_arm(self, trial, difference=None, error=None, **seen):
        """The end of an arm: the knobs are those it trained with, and its updates are timed."""
        before, size = self.knobs, trial.batch_size
        self.knobs = dataclasses.replace(before, batch_size=size, learning_rate=trial.learning_rate)
        times = dict(self.sizes.step_seconds) | {256: [2e-3] * 4}
        self.sizes = dataclasses.replace(self.sizes, step_seconds=times)
        arm = ArmEnd(
            batch_size=size, num_steps=trial.num_steps // 2 if trial.seconds else trial.num_steps,
            loss=1.0, difference=difference, error=error, num_rows=500,
        )  # fmt: skip
        orders = self.see("trial_ended", trial_loss=1.0, arm=arm, **seen)
        if orders and isinstance(orders[0], EndTrials):
            turned = {o.knob: o.new for o in orders[1:]}
            self.knobs = self.start = dataclasses.replace(self.start, **turned)
        return orders


def test_both_arms_have_the_rate_of_their_batch_and_the_same_time():
    """Catches one rate or one number of updates for both, and an arm of a size never timed whose
    updates are taken for as many as its bound.
    """
    run = Branched()
    (first,) = run.begin()
    assert (first.batch_size, first.seconds) == (256, 30 * ARM_SHARE)
    assert first.learning_rate == pytest.approx(0.02)  # by the square root, for adam
    assert first.num_steps == pytest.approx(30 * ARM_SHARE / 1e-3, abs=1)  # no update is quicker
    (second,) = run.end_arm(first)
    assert second == Trial(0.01, 2 * (first.num_steps // 2), batch_size=64)
    keep, moved, follows = run.end_arm(second, difference=-0.1, error=0.01)
    assert keep == EndTrials(keep_best=True, batch_size=256)
    assert (moved.policy, moved.new, follows.new) == ("settle_batch_size", 256, first.learning_rate)
    assert moved.inputs["num_steps"] == 2 * moved.inputs["candidate_steps"] == second.num_steps
    assert moved.inputs["candidate_seconds"] == 2e-3 == 2 * moved.inputs["step_seconds"]
    assert moved.inputs["arm_seconds"] == pytest.approx(2e-3 * moved.inputs["candidate_steps"])
    assert replay([{"event": "decided", **d.to_json()} for d in run.decisions]) == run.decisions


def test_a_refused_size_is_proposed_again_late_and_never_without_a_branch():
    """Catches a size proposed at the next question, or adopted once arms would be too short."""
    run = Branched()
    (second,) = run.end_arm(*run.begin())
    keep, kept = run.end_arm(second, difference=0.1, error=0.01)
    assert keep == EndTrials(keep_best=True, batch_size=64) and kept.new == 64
    assert run.knobs == KNOBS
    for seconds in (45.0, 59.0):
        run.seconds = seconds
        assert run.begin() == ()
    run.sizes = dataclasses.replace(run.sizes, step_seconds={64: [1e-3] * 8, 256: [1.1e-3] * 8})
    run.seconds = 75.0
    (again,) = run.begin()
    assert (again.batch_size, again.seconds) == (256, None)  # its updates are timed by now
    (second,) = run.end_arm(again)
    run.end_arm(second, difference=0.1, error=0.01)
    run.seconds = 1000.0
    assert run.states["batch_size"].num_branches == 2
    seen = {"loss": 1.0, "held_out_loss": 1.0, "reference_loss": 1.0, "gained": True}
    assert run.see("evaluated", done=0.999, **seen) == ()  # too late for arms


@pytest.mark.parametrize("has_held_out", [True, False])
def test_a_size_changes_without_a_branch_only_where_no_rows_could_confirm_it(has_held_out):
    """Catches a prediction followed in a run that is too short for arms, or whose arms have had
    their share of the time: on words and diamonds such changes cost more than they gained.
    """
    run = Branched(has_held_out=has_held_out)
    run.sizes = dataclasses.replace(run.sizes, step_seconds={64: [1e-3] * 8, 256: [1.1e-3] * 8})
    seen = {"loss": 1.0, "reference_loss": 1.0, "gained": True, "done": 0.999}
    if has_held_out:
        seen["held_out_loss"] = 1.0
    for _ in range(3):  # the first drops the size that waits, the next propose it anew
        run.see("evaluated", **seen)
    changes = [d for d in run.decisions if d.knob == "batch_size"]
    assert bool(changes) is not has_held_out


def test_a_branch_waits_for_what_else_changes_and_is_repeated_when_interrupted():
    """Catches arms at a rate that was just lowered, a proposal that is dropped while it waits, and
    a branch that is lost, or counted twice.
    """
    run = Branched()
    before = run.states
    lowered = Decision(knob="learning_rate", old=0.01, new=0.0025, because="planted")
    seen = Observation(
        moment="evaluated", context=run.context, step=0, seconds=30.0, done=None, knobs=KNOBS,
        sizes=run.sizes, instruments=run.instruments, loss=1.0, held_out_loss=1.0,
    )  # fmt: skip
    controller = controllers.CONTROLLERS["batch_size"]
    assert controller.update(before["batch_size"], seen, (lowered,)) == (before["batch_size"], ())
    # by counted times a size counts as ready at evaluations only
    not_yet = dataclasses.replace(run.sizes, usable=frozenset({64}))
    seen = dataclasses.replace(seen, moment="collected", sizes=not_yet, held_out_loss=None)
    assert controller.update(before["batch_size"], seen, ()) == (before["batch_size"], ())
    (first,) = run.begin()
    spent = run.states["batch_size"].spent_seconds
    run.end_arm(first)
    assert run.end_arm(first, is_interrupted=True, is_cut_short=True) == (
        EndTrials(keep_best=False),
    )
    (again,) = run.see("begun")
    assert (again.batch_size, again.learning_rate, again.seconds) == (
        256,
        first.learning_rate,
        None,
    )
    assert again.num_steps == first.num_steps // 2  # as many as the clock had left it
    assert run.states["batch_size"].spent_seconds == spent


def test_arms_out_of_time_decide_nothing():
    """Catches arms of unequal time that are compared."""
    run = Branched()
    assert run.end_arm(*run.begin(), is_cut_short=True) == (EndTrials(keep_best=False),)
    assert run.begin() == () and run.decisions == [] and run.see("begun") == ()


def test_a_search_takes_only_its_own_trials():
    """Catches the end of an arm taken for that of a trial of a learning-rate search."""
    run = Branched()
    (first,) = run.begin()
    search = run.states["learning_rate_search"]
    run.end_arm(first)
    assert run.states["learning_rate_search"] == search


def test_recovery_cuts_counts_and_gives_up():
    """Catches a count that a return to an earlier state takes back, and endless cuts."""
    run = Simulated()
    good = run.states
    for number in range(1, 6):
        (decision,) = run.see("diverged", trouble="exploded", trouble_step=7)
        assert decision.new == pytest.approx(0.01 / 10**number)
        run.states = controllers.returned(run.states, good)
        assert run.states["recovery"].repeats == number
    (decision,) = run.see("diverged", trouble="exploded", trouble_step=7)
    assert (decision.knob, decision.new) == ("stop", "diverged")
    run = Simulated(instruments=Planted(rows=(3,)))
    assert run.see("diverged", trouble="not finite", trouble_step=1)[0].new == "diverged"
    assert run.see("diverged", trouble="exploded", trouble_step=1)[0].new != "diverged"


def test_a_return_keeps_what_must_not_be_forgotten():
    """Catches evaluations that still count after they were undone, and starts that do not."""
    run = Simulated()
    run.evaluate(3.0)
    good = run.states
    run.evaluate(*[3.0] * 2)
    run.states = run.states | {
        "temperature": dataclasses.replace(run.temperature, starts=2, first_rate=0.003)
    }
    back = controllers.returned(run.states, good)["temperature"]
    assert back.evaluations_without_gain == 0 and len(back.path) == 1
    assert (back.starts, back.first_rate) == (2, 0.003)
