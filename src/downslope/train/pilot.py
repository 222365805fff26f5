"""Turns what a run measures into the knobs that were left to choose.

Every choice is a decision of `downslope.choose`, written to the journal with its reason and
its inputs; what is done about it is here.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from downslope.choose.anneal import cool_down, next_temperature, start_again
from downslope.choose.clipping import FEWEST, next_clip_norm
from downslope.choose.decision import Decision
from downslope.choose.learning_rate import trial_steps
from downslope.choose.rescale import follow_batch
from downslope.choose.stop import has_converged
from downslope.choose.trouble import after_trouble
from downslope.config import Training
from downslope.errors import StopReason
from downslope.metrics import Results
from downslope.noise.tails import hill
from downslope.step.state import Knobs
from downslope.train.batches import Batches
from downslope.train.calls import Call
from downslope.train.checkpoint import Snapshot
from downslope.train.flight import Flight
from downslope.train.gains import Gains
from downslope.train.logbook import UNDONE, Progress
from downslope.train.rate_search import OF_THE_LOSS, race, search_begins_at
from downslope.train.setup import PILOT, Engine

LATE = 0.5  # of the run, after which no new start would come far
TEMPERATURE = ("next_temperature", "cool_down")  # policies that change it
CLIPPED_FROM = 0.9  # quantile of the norms at which clipping would begin
FEWEST_UPDATES = 16  # between evaluations that decide: an epoch of a small table may have fewer


class Pilot:
    """Chooses while a run trains.

    Args:
        engine: of the run.
        asked: the configuration as it was given, where "auto" marks what is left to choose.
        flight: the run in the air.
    """

    def __init__(self, engine: Engine, asked: Training, flight: Flight):
        self.engine, self.flight, self.free = engine, flight, asked.free
        limits = (asked.steps, asked.epochs, asked.seconds)
        self._is_limited = any(limit is not None for limit in limits)
        before = flight.run.last.document.get("pilot") if flight.run.last else None
        self.now = Progress(**before) if before else self._beginning()
        self.batches = Batches(engine, flight)
        self.gains = Gains(flight, self.now)
        self._recut = False  # the blocks are to be cut anew
        if self.now.batch_size != flight.gear.batch_rows:
            self.batches.go_on_with(self.now.batch_size, self.knobs)
        if self.now.clip_norm is not None and not flight.gear.clips:
            self.batches.clip()  # begun by the sitting before
        if flight.run.last:
            self.gains.best_losses = flight.run.last.tensors.get(f"{PILOT}/losses")
        flight.remembers = self._remembers

    def _remembers(self) -> tuple[dict[str, Any], dict[str, Any]]:
        losses = self.gains.best_losses
        arrays = {} if losses is None else {f"{PILOT}/losses": losses}
        return {"pilot": dataclasses.asdict(self.now)}, arrays

    def _beginning(self) -> Progress:
        training = self.engine.training
        return Progress(
            learning_rate=self.engine.optimizer.learning_rate,
            batch_size=self.engine.gear.batch_rows,
            clip_norm=training.clip_norm,  # type: ignore[arg-type]
            average_from=training.average_from_step,
        )

    @property
    def knobs(self) -> Knobs:
        """The knobs as they stand."""
        now = self.now
        return Knobs(
            learning_rate=np.float32(now.learning_rate or 0.0),
            clip_norm=np.float32(math.inf if now.clip_norm is None else now.clip_norm),
            batch_size=np.float32(now.batch_size),
            average_from=np.int32(now.average_from),
        )

    def begin(self, interrupted: Callable[[], bool]) -> None:
        """Looks for the first learning rate, where one is to be found and time to look."""
        if self.now.searched or "learning_rate" not in self.free:
            return
        if self.engine.training.warmup_steps:  # trials would run at a part of their rates
            return
        self.now.searched = True
        steps = self._trial_steps()
        first = search_begins_at(self.engine) if steps else None
        if first is None:
            return
        decision = race(self.flight, self.knobs, first, steps, interrupted)
        self.now.searched = not interrupted()
        if decision is not None:
            self._take(decision)

    def _trial_steps(self) -> int:
        engine = self.engine
        epoch = None if engine.num_rows is None else engine.num_rows / engine.gear.batch_rows
        return trial_steps(epoch_steps=epoch, run_steps=run_steps(engine))

    def evaluates(self, call: Call) -> bool:
        """Whether to look at the held-out rows after this call."""
        if "patience" not in self.free:
            return call.ends_epoch
        made = self.flight.tally.num_steps + call.num_steps - self.now.evaluated_step
        return call.ends_epoch and made >= FEWEST_UPDATES

    def consider(self, results: Results | None) -> StopReason | None:
        """Takes in an evaluation; gives a reason to stop, or None."""
        flight, now = self.flight, self.now
        flight.land()
        if not flight.healthy:
            return None
        now.evaluated_step = flight.tally.num_steps
        if not self.gains.take_in(results):
            return self._out_of_patience()
        flight.remember()
        if self._out_of_patience():
            return StopReason.CONVERGED
        self._consider_clipping()
        decision = self._cooling() if "schedule" in self.free else None
        if decision is None and self.free & {"schedule", "patience"}:
            decision = self._temperature()
        if decision is None:
            return None
        if decision.knob == "stop":
            again = self._start_again()
            if again is not None:
                self._take(again)
                return None
        self._take(decision)
        return StopReason.CONVERGED if decision.knob == "stop" else None

    def _out_of_patience(self) -> StopReason | None:
        """The end of a run whose patience is given, and used up."""
        if "patience" in self.free:
            return None
        waited = self.flight.tally.evaluations_since_gain
        done = has_converged(waited, self.engine.training.patience)  # type: ignore[arg-type]
        return StopReason.CONVERGED if done else None

    def _consider_clipping(self) -> None:
        """Looks at the tail of the gradients' norms, and clips where it is heavy."""
        if "clip_norm" not in self.free or self.now.clip_norm is not None:
            return
        norms = np.zeros(0) if self.flight.watch is None else self.flight.watch.norms()
        if len(norms) < FEWEST:
            return
        threshold = float(np.quantile(norms, CLIPPED_FROM))
        if not threshold > 0:
            return
        decision = next_clip_norm(
            clip_norm=None,
            num_norms=len(norms),
            threshold=threshold,
            largest=float(np.max(norms)),
            tail_index_upper=hill(norms, num_tail=max(8, len(norms) // 10)).hi,
            clipped_share=float(np.mean(norms > threshold)),
            length_lost=float(1 - np.minimum(norms, threshold).sum() / norms.sum()),
        )
        if decision is not None:
            self._take(decision)

    def _cooling(self) -> Decision | None:
        """The end of a run whose length was given is foreseen."""
        done = self.flight.fraction if self._is_limited else None
        now = self.now
        return cool_down(learning_rate=now.learning_rate, done=done, coolings=now.coolings)

    def _start_again(self) -> Decision | None:
        now = self.now
        rate = now.first_rate
        if rate is None or not {"learning_rate", "schedule", "patience"} <= self.free:
            return None
        if self._is_limited and (self.flight.fraction or 0.0) > LATE:
            return None
        lowest = now.best_loss if self.engine.evaluate is not None else None
        if lowest is not None and self.gains.little_is_left(lowest):
            return None
        gain = None
        if now.lowest_before is not None and lowest is not None:
            gain = now.lowest_before - lowest
        return start_again(
            learning_rate=rate,
            starts=now.starts,
            train_loss=self.flight.tally.last_epoch_loss,
            held_out_loss=lowest,
            gain=gain,
            tolerance=self.engine.training.tolerance,
        )

    def _temperature(self) -> Decision | None:
        now, flight = self.now, self.flight
        larger = self.batches.larger()
        return next_temperature(
            learning_rate=now.learning_rate,
            batch_size=now.batch_size,
            may_lower="schedule" in self.free and now.learning_rate is not None,
            may_stop="patience" in self.free and self.engine.training.schedule != "cosine",
            evaluations_without_gain=now.without_gain,
            updates_without_gain=flight.tally.num_steps - now.gained_step,
            share_without_gain=self.gains.share_without(),
            recent_gain=self.gains.recent(),
            anneals_without_gain=now.anneals,
            fitted_share=self.gains.fitted_share(),
            equilibrium_ratio=_value(flight, "equilibrium"),
            seconds_per_example=self.batches.seconds_per_example(now.batch_size),
            larger_batch_size=larger,
            larger_seconds_per_example=larger and self.batches.seconds_per_example(larger),
        )

    def turn(self) -> bool:
        """Between calls: whether to go on in another gear, for which blocks are cut anew."""
        if self._recut:
            self._recut = False
            return True
        if not self.engine.can_change:
            return False
        decision = self.batches.turn(self.knobs)
        if decision is None:
            return False
        self._take(decision)
        self._recut = False
        return True

    def recover(self) -> bool:
        """After a step that went wrong: goes on from the last good state if that may help."""
        flight, now = self.flight, self.now
        what = flight.trouble or "not finite"
        decision = after_trouble(
            learning_rate=now.learning_rate,
            repeats=now.repeats,
            step=flight.bad_step or 0,
            what=what,
            rows=flight.bad_rows() if what == "not finite" else (),
            given="learning_rate" not in self.free,
        )
        assert decision is not None
        if decision.knob != "stop":
            assert flight.run.last is not None
            flight.return_to(flight.run.last)
            flight.run.journal.write("undone", step=flight.tally.num_steps, what=what)
            self._remember(flight.run.last)
            now.repeats += 1
        self._take(decision)
        return decision.knob != "stop"

    def _remember(self, mark: Snapshot) -> None:
        """Goes back to what was known of the losses when the state was kept."""
        before = mark.document.get("pilot")
        if before is None:
            return
        for name in UNDONE:
            setattr(self.now, name, copy.deepcopy(before[name]))
        self.gains.best_losses = mark.tensors.get(f"{PILOT}/losses")

    def _take(self, decision: Decision) -> None:
        """Writes a decision down and turns the knob."""
        now, step = self.now, self.flight.tally.num_steps
        self.flight.run.journal.write(
            "decided", step=step, seconds=self.flight.seconds, **decision.to_json()
        )
        if decision.knob == "learning_rate":
            now.learning_rate = decision.new
        elif decision.knob == "clip_norm":
            now.clip_norm = decision.new
            self.batches.clip()
            self._recut = True
        elif decision.knob == "batch_size":
            self._change_batch(int(decision.new), scale=decision.policy != "next_temperature")
        if decision.policy == "settle_rate":
            now.first_rate = decision.new
        elif decision.policy in TEMPERATURE and decision.knob != "stop":
            now.coolings += decision.policy == "cool_down"
            now.anneals, now.without_gain = now.anneals + 1, 0
            now.gained_step, now.path = step, now.path[-1:]
            self._average_anew(step)
        elif decision.policy == "start_again":
            self.flight.start_again()
            before = (now.lowest_before, now.best_loss)
            now.lowest_before = min(loss for loss in before if loss is not None)
            now.starts, now.started_step, now.first_rate = now.starts + 1, step, decision.new
            now.best_loss, self.gains.best_losses, now.path = None, None, []
            now.anneals, now.without_gain, now.gained_step = 0, 0, step
            self._average_anew(step)

    def _average_anew(self, step: int) -> None:
        if "average" in self.free:
            self.now.average_from = step

    def _change_batch(self, batch_size: int, *, scale: bool) -> None:
        """Goes on with another batch; at the same temperature, the rate follows the batch."""
        now = self.now
        old, now.batch_size = now.batch_size, batch_size
        follows = scale and "learning_rate" in self.free and self.engine.optimizer.name != "prodigy"
        if follows and now.learning_rate is not None:
            decision = follow_batch(
                learning_rate=now.learning_rate,
                batch_size=old,
                new_batch_size=batch_size,
                noise_scale=_value(self.flight, "noise_scale"),
                saturates=self.engine.optimizer.name in OF_THE_LOSS,
            )
            if decision is not None:
                self._take(decision)
        self.batches.go_on_with(batch_size, self.knobs)
        self._recut = True

    def close(self) -> None:
        """Ends what works in the background."""
        self.batches.close()


def run_steps(engine: Engine) -> float | None:
    """Updates of the whole run, as far as its limits tell."""
    limits = [] if engine.num_steps is None else [float(engine.num_steps)]
    if engine.training.epochs is not None and engine.num_rows is not None:
        limits.append(engine.training.epochs * engine.num_rows / engine.gear.batch_rows)
    return min(limits, default=None)


def _value(flight: Flight, name: str) -> float | None:
    if flight.watch is None:
        return None
    readings = flight.watch.read()
    found = readings.equilibrium if name == "equilibrium" else readings.noise.scale
    value = found.value
    # not stationary at all: then it says nothing about a noise floor
    return value if value is not None and value > 0 else None
