"""Controllers: policies with a state, called after every call to the device.

A controller turns measurements into orders. It is pure: the same state and observation give the
same orders and the same next state, so a run's decisions can be repeated from numbers alone.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from downslope.choose.decision import Decision
from downslope.config import KnobSettings, Training
from downslope.estimate import Estimate

# Nothing is decided in a trial, nor in trouble: blocks are closed before "diverged" is observed.
Moment = Literal[
    "begun", "in_trial", "trial_ended", "collected", "evaluated", "in_trouble", "diverged"
]
MIN_CALLS_TIMED = 3  # calls needed for the time of an update; assumed
SURVIVES = {"survives": True}  # metadata of a field that survives a return to an earlier state


@dataclass(frozen=True, kw_only=True)
class Context:
    """Facts about a run that are known before its first update.

    Attributes:
        training: the configuration, with an initial value where it was "auto".
        free: the settings left to choose.
        has_end: its steps, epochs or seconds were given, or a schedule that needs an end.
        has_held_out: decisions use a held-out loss, else the training loss of an epoch.
        epoch_steps: updates of an epoch at the first batch size; None without epochs.
        run_steps: updates of the whole run, if its limits say so.
        is_plain: the optimizer's rate has the scale of the loss; see `step.optimizers.Traits`.
        finds_rate: the optimizer finds its own step length.
        default_rate: learning rate without a search; None if the optimizer holds its own.
        can_change_batch: the batch size may change while training.
        max_batch_size: the largest batch that the device takes at once.
        has_clock: times are measured; else they are counted from operations, so that the same seed
            gives the same run.
    """

    training: Training
    free: frozenset[str]
    has_end: bool
    has_held_out: bool
    epoch_steps: float | None
    run_steps: float | None
    is_plain: bool
    finds_rate: bool
    can_change_batch: bool
    max_batch_size: int
    has_clock: bool = True
    default_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class NoiseReading:
    """Noise scale with the ends of its interval, in examples, and R_eq; None if unknown.

    The scale is in the metric that the optimizer steps in: preconditioned, or else Euclidean.
    """

    scale: float | None = None
    lo: float | None = None
    hi: float | None = None
    equilibrium_ratio: float | None = None
    is_preconditioned: bool = False


@dataclass(frozen=True, kw_only=True)
class NormReading:
    """Tail of the measured gradients' norms; fields as for `next_clip_norm`."""

    num_norms: int
    threshold: float
    largest: float
    tail_index_upper: float | None
    clipped_share: float
    length_lost: float


class Instruments(Protocol):
    """Costly readings, made on demand and the same throughout one observation."""

    def noise(self) -> NoiseReading:
        """Noise scale from the measured updates, in the optimizer's metric."""
        ...

    def norms(self) -> NormReading | None:
        """Tail of the gradient norms; None if there are too few or all are zero."""
        ...

    def start_rate(self) -> float | None:
        """Learning rate at which the search begins, or None without a search."""
        ...

    def nonfinite_rows(self) -> tuple[int, ...]:
        """Numbers of the rows whose loss is not finite at the last good state."""
        ...


@dataclass(frozen=True, kw_only=True)
class CompiledSizes:
    """Batch sizes that a run could use, and how far they are compiled.

    Attributes:
        known: sizes whose compiled step was requested.
        usable: those of them that are ready.
        failed: those of them that do not compile.
        compile_seconds: by size, the time that compiling in the background took.
        first_compile_seconds: compile time of the run's first step, None before.
        step_seconds: by size, the time of an update in each of the latest calls.
    """

    known: frozenset[int] = frozenset()
    usable: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    compile_seconds: Mapping[int, float] = dataclasses.field(default_factory=dict)
    first_compile_seconds: float | None = None
    step_seconds: Mapping[int, Sequence[float]] = dataclasses.field(default_factory=dict)

    def seconds_per_example(self, batch_size: int) -> float | None:
        """Median time of an update over its examples; None without enough timings."""
        times = self.step_seconds.get(batch_size, ())
        return statistics.median(times) / batch_size if len(times) >= MIN_CALLS_TIMED else None


@dataclass(frozen=True, kw_only=True)
class ArmEnd:
    """End of an arm of a branch, on held-out rows.

    Attributes:
        batch_size: size that the arm trained with.
        num_steps: updates that it made.
        loss: mean held-out loss at its end; None if it diverged.
        difference: of the second arm: the mean over the rows of the first arm's loss minus its own.
            Infinite if one of them diverged; None if both did, and for the first arm.
        error: standard error of that mean; None if unknown.
        num_rows: held-out rows.
        gain, gain_error: mean over the rows of the loss at the branch minus that at the arm's end,
            both at the last parameters without an average, and its standard error; None if unknown.
        gains_error: of the second arm: standard error of the difference of the two gains.
    """

    batch_size: int
    num_steps: int
    loss: float | None
    difference: float | None
    error: float | None
    num_rows: int
    gain: float | None = None
    gain_error: float | None = None
    gains_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Measurements of a run at one moment, in numbers.

    Attributes:
        moment: the event that gave rise to the observation.
        context: facts known before the first update.
        step: updates made.
        seconds: time spent training.
        done: share of the run that is done, by whichever limit comes first; None without a limit.
        run_steps: updates of the whole run at its present pace; of 20 epochs where its end is not
            known, and None without epochs either or before updates were timed.
        knobs: current values.
        sizes: compiled batch sizes.
        instruments: readings made on demand.
        loss: loss of an evaluation: held out, or of the last epoch; None if unknown.
        held_out_loss: held-out loss of the evaluation; None if there is none or it is not finite.
        epochs: passes over the rows so far, with a fraction; None for a generator.
        ends_epoch: the latest update is the last one of an epoch.
        metrics: metrics to hold against a target; None if none were measured, or no target given.
        higher_is_better: names of those of which a higher value is better.
        gained: `loss` is below the reference by more than its noise and the tolerance.
        reference_loss: the loss that the next gain is measured from.
        first_loss: of the run's first batch, or None.
        epoch_loss: training loss of the last whole epoch, or None.
        trial_loss: mean loss of a trial's last updates, infinite if it diverged.
        arm: end of an arm of a branch; None for a trial of a learning-rate search.
        is_cut_short: a trial ended early, or the time for trials is used up.
        is_interrupted: a signal asks the run to end.
        trouble, trouble_step: what went wrong, "not finite" or "exploded", and at which update.
    """

    moment: Moment
    context: Context
    step: int
    seconds: float
    done: float | None
    knobs: KnobSettings
    sizes: CompiledSizes
    instruments: Instruments
    run_steps: float | None = None
    loss: float | None = None
    held_out_loss: float | None = None
    epochs: float | None = None
    ends_epoch: bool = True
    metrics: Mapping[str, Estimate] | None = None
    higher_is_better: frozenset[str] = frozenset()
    gained: bool = False
    reference_loss: float | None = None
    first_loss: float | None = None
    epoch_loss: float | None = None
    trial_loss: float | None = None
    arm: ArmEnd | None = None
    is_cut_short: bool = False
    is_interrupted: bool = False
    trouble: str | None = None
    trouble_step: int | None = None


@dataclass(frozen=True)
class Trial:
    """Order: train this many updates from a common start, which later ones return to.

    A trial of a learning-rate search is the run in miniature: its schedule warms up and cools down
    over its own updates. An arm of a branch keeps the point of the run's schedule where it began.

    Attributes:
        learning_rate: its peak; None if the optimizer holds its own.
        num_steps: updates.
        seconds: time of updates after which it is over; None for no limit. A trial of a
            learning-rate search that has one only times updates: it is not compared or kept.
        batch_size: that of an arm; None for a trial of a learning-rate search.
    """

    learning_rate: float | None
    num_steps: int
    seconds: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class EndTrials:
    """Order: continue from the end of a trial, or from the start if none is to be kept.

    Attributes:
        keep_best: continue from the best trial, or from the arm of `batch_size`.
        batch_size: of the arm to keep; None after a learning-rate search.
    """

    keep_best: bool
    batch_size: int | None = None


@dataclass(frozen=True)
class Prepare:
    """Order: compile a step of another batch size in the background."""

    batch_size: int


Order = Decision | Trial | EndTrials | Prepare
S = TypeVar("S")


class Controller(Protocol[S]):
    """Protocol of a policy that turns knobs during training."""

    def init(self, context: Context) -> S:
        """State before the first update: a frozen record of plain values."""
        ...

    def update(
        self, state: S, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[S, tuple[Order, ...]]:
        """Next state, and orders.

        Args:
            decided: orders of earlier controllers for the same observation.
        """
        ...


def decision_on(orders: Iterable[Order], *knobs: str) -> Decision | None:
    """First decision among the orders that turns one of these knobs."""
    return next((o for o in orders if isinstance(o, Decision) and o.knob in knobs), None)


def survivors(now: Any, before: Any) -> Any:
    """State `before`, with the fields of `now` that survive a return to an earlier state."""
    kept = [f.name for f in dataclasses.fields(now) if f.metadata == SURVIVES]
    return dataclasses.replace(before, **{name: getattr(now, name) for name in kept})
