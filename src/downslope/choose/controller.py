"""Controllers: policies with a state of their own, asked after every call to the device.

A controller turns measurements into orders. It is pure: the same state and observation give the
same orders and the same next state, so a run's decisions can be made again from numbers alone.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from downslope.choose.decision import Decision
from downslope.config import KnobSettings, Training

Moment = Literal["begun", "in_trial", "collected", "evaluated", "trial_ended", "diverged"]
MIN_CALLS_TIMED = 3  # calls behind the time of an update; assumed
SURVIVES = {"survives": True}  # metadata of a state's field that a return to an earlier state keeps


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known of a run before its first update.

    Attributes:
        training: the configuration, with a first value where it was "auto".
        free: the settings left to choose.
        has_end: its steps, epochs or seconds were given.
        has_held_out: a held-out loss decides, else the training loss of an epoch.
        epoch_steps: updates of an epoch at the first batch size; None without epochs.
        run_steps: updates of the whole run, as far as its limits tell.
        is_plain: the optimizer's rate has the scale of the loss; see `step.optimizers.Traits`.
        finds_rate: the optimizer finds its own step length.
        can_change_batch: the batch size may change while training.
        max_batch_size: the largest batch that the device takes at once.
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


@dataclass(frozen=True, kw_only=True)
class NoiseReading:
    """The noise scale with the ends of its interval, in examples, and R_eq; None where unknown."""

    scale: float | None = None
    lo: float | None = None
    hi: float | None = None
    equilibrium_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class NormReading:
    """The tail of the measured gradients' norms; fields as for `next_clip_norm`."""

    num_norms: int
    threshold: float
    largest: float
    tail_index_upper: float | None
    clipped_share: float
    length_lost: float


class Instruments(Protocol):
    """Numbers that take time to read: read when asked for, the same for one observation."""

    def noise(self) -> NoiseReading:
        """What the measured updates say of the noise scale."""
        ...

    def norms(self) -> NormReading | None:
        """The tail of the gradients' norms, or None where there are too few or all are zero."""
        ...

    def start_rate(self) -> float | None:
        """The rate that the search begins at, or None where none is searched."""
        ...

    def nonfinite_rows(self) -> tuple[int, ...]:
        """Numbers of the rows whose loss is not finite at the last good state."""
        ...


@dataclass(frozen=True, kw_only=True)
class CompiledSizes:
    """The batch sizes that a run could use, as far as they are compiled.

    Attributes:
        known: sizes whose compiled step was asked for.
        usable: of those, the ones that can be used at once.
        failed: of those, the ones that do not compile.
        compile_seconds: by size, the time that compiling in the background took.
        first_compile_seconds: time that the run's first step took to compile, None before.
        step_seconds: by size, the time of an update in each of the latest calls.
    """

    known: frozenset[int] = frozenset()
    usable: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    compile_seconds: Mapping[int, float] = dataclasses.field(default_factory=dict)
    first_compile_seconds: float | None = None
    step_seconds: Mapping[int, Sequence[float]] = dataclasses.field(default_factory=dict)

    def seconds_per_example(self, batch_size: int) -> float | None:
        """Median time of an update over its examples, None where it was not timed often enough."""
        times = self.step_seconds.get(batch_size, ())
        return statistics.median(times) / batch_size if len(times) >= MIN_CALLS_TIMED else None


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a run has seen at one moment, in numbers.

    Attributes:
        moment: what has just happened.
        context: what was known before the first update.
        step: updates made.
        seconds: time spent training.
        done: share of the run that is over, by whichever limit comes first; None without an end.
        knobs: as they stand.
        sizes: compiled batch sizes.
        instruments: numbers read when asked for.
        loss: that decides, at an evaluation: held out, or of the last epoch; None where unknown.
        held_out_loss: of the evaluation; None without held-out rows or where it is not finite.
        gained: it is below the reference by more than its noise and the tolerance.
        reference_loss: the loss that the next gain is measured from.
        first_loss: of the run's first batch, or None.
        epoch_loss: training loss of the last whole epoch, or None.
        trial_loss: mean loss of a trial's last updates, infinite where it diverged.
        is_cut_short: a trial ended before its updates were made, or the time for trials is over.
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
    loss: float | None = None
    held_out_loss: float | None = None
    gained: bool = False
    reference_loss: float | None = None
    first_loss: float | None = None
    epoch_loss: float | None = None
    trial_loss: float | None = None
    is_cut_short: bool = False
    is_interrupted: bool = False
    trouble: str | None = None
    trouble_step: int | None = None


@dataclass(frozen=True)
class Trial:
    """Order: train this many updates at a learning rate, from where the search began."""

    learning_rate: float
    num_steps: int


@dataclass(frozen=True)
class EndTrials:
    """Order: go on from the end of the best trial, or from the start where none is to be kept."""

    keep_best: bool


@dataclass(frozen=True)
class Prepare:
    """Order: compile a step of another batch size in the background."""

    batch_size: int


Order = Decision | Trial | EndTrials | Prepare
S = TypeVar("S")


class Controller(Protocol[S]):
    """A policy that turns knobs."""

    def init(self, context: Context) -> S:
        """The state before the first update: a frozen record of plain values."""
        ...

    def update(
        self, state: S, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[S, tuple[Order, ...]]:
        """The next state, and what is to be done.

        Args:
            decided: orders that earlier controllers gave for the same observation.
        """
        ...


def decision_on(orders: Iterable[Order], *knobs: str) -> Decision | None:
    """The first decision among the orders that turns one of these knobs."""
    return next((o for o in orders if isinstance(o, Decision) and o.knob in knobs), None)


def survivors(now: Any, before: Any) -> Any:
    """The state `before`, with the fields of `now` that outlive a return to an earlier state."""
    kept = [f.name for f in dataclasses.fields(now) if f.metadata == SURVIVES]
    return dataclasses.replace(before, **{name: getattr(now, name) for name in kept})
