"""Parts that the training loop holds, and its stopping conditions."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from downslope.choose.controller import MIN_CALLS_TIMED, Context
from downslope.choose.learning_rate import OPEN_EPOCHS
from downslope.data.stream import Replay, Stream
from downslope.errors import StopReason
from downslope.launch.interrupts import Interrupts
from downslope.metrics import Results
from downslope.train.checkpoint import Checkpoint
from downslope.train.compiled_step import CompiledStep, CompiledSteps
from downslope.train.dispatch import Dispatcher
from downslope.train.evaluate import Evaluations
from downslope.train.horizon import MAX_DEVIATION, horizon_of
from downslope.train.progress_writer import ProgressWriter
from downslope.train.run_folder import RunFolder
from downslope.train.setup import TrainSetup
from downslope.train.spending import SEARCH, UPDATES, Spending
from downslope.train.state import TrainState
from downslope.train.trials import BUDGET_SHARE, Trials

if TYPE_CHECKING:
    from downslope.train.diagnostics import Diagnostics
    from downslope.train.observer import ObserverCalls


@dataclass(kw_only=True)
class Loop:
    """Parts that the training loop holds while a run trains.

    The session began at `begun` by `time.perf_counter`; `seconds_before` were in earlier ones.
    """

    setup: TrainSetup
    context: Context  # of controllers
    run: RunFolder  # its folder and journal, and the last good state
    state: TrainState  # everything that a checkpoint holds
    interrupts: Interrupts
    dispatcher: Dispatcher
    steps: CompiledSteps  # by batch size
    writer: ProgressWriter
    diagnostics: Diagnostics | None
    begun: float
    seconds_before: float
    # by batch size, the time of an update in each of the latest calls
    step_seconds: dict[int, deque[float]] = field(default_factory=dict)
    observer: ObserverCalls | None = None
    trials: Trials | None = None  # the learning-rate search or the branch in progress
    trouble: tuple[str, int] | None = None  # "not finite" or "exploded", and at which update
    reopens: bool = False  # blocks, for another batch size or another state
    stop_reason: StopReason | None = None  # None while the run continues
    results: tuple[int, Results] | None = None  # of the latest evaluation, with its update
    evaluations: Evaluations = field(default_factory=Evaluations)
    good_at: float = float("-inf")  # when the last good state was copied
    good_copy_seconds: float = 0.0
    saved_at: float = field(default_factory=time.perf_counter)  # the latest checkpoint
    saved_moment: tuple[int, int | None] | None = None  # its update and evaluation
    failures_told: set[int] = field(default_factory=set)  # batch sizes in the journal
    spending: Spending = field(init=False)  # of the time

    def __post_init__(self):
        self.spending = Spending(self.state.progress.spent_seconds)

    @property
    def seconds(self) -> float:
        """Time spent training, over all sessions."""
        return self.seconds_before + time.perf_counter() - self.begun

    @property
    def counted_seconds(self) -> float:
        """Time for the updates made, from counts of operations."""
        costs, progress = self.setup.costs, self.state.progress
        assert costs is not None
        fixed, each = costs.fixed_seconds, costs.seconds_per_example
        return fixed * progress.num_steps + each * progress.num_examples

    @property
    def seconds_limit(self) -> float | None:
        """Time at which training ends under a time budget, so that the last evaluation is in it."""
        budget = self.setup.training.seconds
        return None if budget is None else budget - self.evaluations.final_seconds

    @property
    def good(self) -> Checkpoint:
        """The last good state, to return to."""
        assert self.run.last is not None  # `begin` keeps a first one
        return self.run.last

    @property
    def steps_left(self) -> int | None:
        """Updates left of the current trial or the run; None if unknown."""
        if self.trials is not None:
            return self.trials.trial.num_steps
        total = self.setup.num_steps
        return None if total is None else max(0, total - self.state.progress.num_steps)

    @property
    def run_steps(self) -> float | None:
        """Updates of the whole run at its present pace; of 20 epochs without a known end.

        None without epochs either, or before updates were timed.
        """
        horizon = (self.state if self.trials is None else self.trials.start).horizon
        if horizon.per_step:
            return 1 / horizon.per_step
        if self.context.has_end or self.setup.num_rows is None:
            return None
        return OPEN_EPOCHS * self.setup.num_rows / self.steps.current.batch_rows

    @property
    def epochs(self) -> float | None:
        """Passes over the rows so far, with a fraction; None for a generator."""
        num_rows, position = self.setup.num_rows, self.state.progress.position
        return None if num_rows is None else position.epoch + position.row / num_rows

    @property
    def fraction(self) -> float | None:
        """Share of the run that is done, by whichever limit comes first; None without a limit."""
        setup, progress, training = self.setup, self.state.progress, self.setup.training
        if setup.open_ended:
            return None
        shares = []
        if setup.num_steps:
            shares.append(progress.num_steps / setup.num_steps)
        elif training.epochs and self.epochs is not None:
            shares.append(self.epochs / training.epochs)
        if self.seconds_limit is not None:
            shares.append(progress.seconds / self.seconds_limit)
        return max(shares, default=None)

    @contextlib.contextmanager
    def open_blocks(self) -> Iterator[Stream | Replay]:
        """Blocks of rows from the current position on, for the current batch size."""
        kept = None if self.trials is None else self.trials.rows
        self.reopens = False
        self.writer.opened()
        kind = UPDATES if self.trials is None else SEARCH
        opened = self.dispatcher.open(self.steps.current, self.state.progress.position, kept)
        with self.spending.on(kind), opened as blocks:
            yield blocks

    def close(self) -> None:
        """Wait for background work."""
        if self.trials is not None:
            self.trials.close()
        self.steps.close()


def follow_horizon(loop: Loop, within: float = MAX_DEVIATION) -> None:
    """Draw the line of the share done anew where it no longer agrees with the run."""
    setup, state = loop.setup, loop.state
    step = state.progress.num_steps
    now = horizon_of(
        setup.training,
        num_steps=setup.num_steps,
        num_rows=setup.num_rows,
        has_end=setup.has_end,
        batch_rows=loop.steps.current.batch_rows,
        step=step,
        position=state.progress.position,
        update_seconds=state.progress.update_seconds,
        seconds=loop.seconds,
        seconds_limit=loop.seconds_limit,
        step_seconds=loop.step_seconds,
    )
    if now != state.horizon and not now.agrees_with(state.horizon, step, within=within):
        state.horizon = now
        loop.run.journal.write("horizon", **dataclasses.asdict(now))


def change_step(loop: Loop, step: CompiledStep) -> None:
    """Switch to another compiled step, for which blocks are reopened."""
    loop.reopens = True
    monitor = loop.state.monitor
    if monitor is not None:
        monitor.settings = dataclasses.replace(
            monitor.settings, batch_size=step.batch_rows, clips=step.clips
        )


def goes_on(loop: Loop) -> bool:
    """True if the run continues; a signal that arrives between blocks ends it."""
    if loop.trials is None and loop.interrupts.received is not None:
        loop.stop_reason = loop.stop_reason or StopReason.INTERRUPTED
    return loop.stop_reason is None


def is_over(loop: Loop) -> bool:
    """True if the run or the current trial is over; sets `stop_reason`."""
    if loop.trials is not None:
        return loop.trouble is not None or is_trial_over(loop) or is_timed(loop)
    if loop.trouble is not None:
        return True
    limit = loop.seconds_limit
    if loop.interrupts.received is not None:
        loop.stop_reason = StopReason.INTERRUPTED
    elif limit is not None and loop.seconds >= limit:
        loop.stop_reason = loop.stop_reason or StopReason.TIME_UP
    return loop.stop_reason is not None


def is_trial_over(loop: Loop) -> bool:
    """True if trials must end early: interrupted, or out of time; compiling is not counted."""
    trials, budget = loop.trials, loop.seconds_limit
    assert trials is not None
    if loop.interrupts.received is not None or (budget is not None and loop.seconds >= budget):
        return True
    updates = loop.state.progress.update_seconds - trials.start.progress.update_seconds
    return budget is not None and trials.seconds + updates > BUDGET_SHARE * budget


def is_timed(loop: Loop) -> bool:
    """True if the current trial ends by the clock, and has timed enough updates."""
    assert loop.trials is not None
    since = loop.trials.start.progress.update_seconds
    limit = loop.trials.trial.seconds
    times = loop.step_seconds.get(loop.steps.current.batch_rows, ())
    # the first call of a program pays for more than its updates
    return (
        limit is not None
        and len(times) >= MIN_CALLS_TIMED
        and loop.state.progress.update_seconds - since >= limit
    )


def end_of_data(loop: Loop) -> None:
    """Finish the run after its last update, unless a trial made it."""
    if loop.trials is None:
        loop.stop_reason = StopReason.FINISHED
