"""Trials from a common start: of a learning-rate search, or the two arms of a branch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.choose.controller import ArmEnd, Trial
from downslope.choose.learning_rate import first_rate
from downslope.data.stream import Replay
from downslope.step.state import State
from downslope.step.update import TAIL
from downslope.train.held_out import error_of_difference
from downslope.train.setup import TrainSetup
from downslope.train.sources import sample
from downslope.train.state import TrainState

MAX_REPLAYED_BYTES = 32 << 20  # rows kept for the next trial
BUDGET_SHARE = 0.2  # of the time budget, for the updates of all trials
CURVATURE_ROWS = 1024  # of a sample, for lambda_max
CURVATURE_PRODUCTS = 12  # enough for a rough estimate, which is all that a start needs


class Trials:
    """Search or branch in progress: all trials train on the same rows from the same start.

    Args:
        start: a copy of the state that every trial begins with.
        start_losses: of the held-out rows there, at the last parameters, [n]; None if unknown.

    Attributes:
        trial: the current trial.
        rows: its rows, kept for the next one where they are few, else None.
        best: a copy of the state at the end of the best trial so far, or None.
        arms: by batch size, a copy of the state at the end of each arm of a branch.
    """

    def __init__(self, start: TrainState, start_losses: np.ndarray | None = None):
        self.start, self.trial = start, Trial(0.0, 0)
        self._start_losses = start_losses
        self.rows: Replay | None = None
        self.best: TrainState | None = None
        self.arms: dict[int, TrainState] = {}
        self.seconds = 0.0  # that earlier trials spent on updates
        self._lowest, self._count = math.inf, 0
        self._losses: list[np.ndarray | None] = []  # of the held-out rows, by arm
        self._last_losses: np.ndarray | None = None
        self._open = contextlib.ExitStack()

    def begin(self, trial: Trial, open_rows: Callable[[], Replay], *, keeps: bool) -> None:
        """Begin a trial; `keeps` if its rows are few enough to be kept for the next one."""
        if self.trial.num_steps != trial.num_steps:
            self._open.close()
            self.rows = self._open.enter_context(open_rows()) if keeps else None
        self.trial = trial

    def ended(self, loss: float, state: TrainState, *, is_cut_short: bool) -> None:
        """Keep the state of a trial that ended if its loss is the lowest so far."""
        self.seconds += state.progress.update_seconds - self.start.progress.update_seconds
        if self.trial.seconds is not None or (is_cut_short and self._count):
            return  # not compared
        self._count += 1
        if math.isfinite(loss) and loss <= self._lowest:
            self._lowest, self.best = loss, state.copy_to_host()

    def arm_ended(
        self, losses: np.ndarray | None, last_losses: np.ndarray | None, state: TrainState
    ) -> ArmEnd:
        """Keep the state of an arm that ended, and compare it with the one before.

        Args:
            losses: of the held-out rows at its end, [n]; None if it diverged.
            last_losses: the same at the last parameters, without an average.
        """
        self.seconds += state.progress.update_seconds - self.start.progress.update_seconds
        size = state.knobs.batch_size
        self.arms[size] = state.copy_to_host()
        if state.arm_from is not None:
            self.arms[size].device = _with_average(self.arms[size], self.start)
        gains_error = None
        if self._losses:  # of the first arm
            gains_error = error_of_difference(self._last_losses, last_losses)
        self._last_losses = last_losses
        self._losses.append(losses)
        first, difference, error = self._losses[0], None, None
        if len(self._losses) > 1 and first is not None and losses is not None:
            difference = float(np.mean(first - losses, dtype=np.float64))
            error = error_of_difference(first, losses)
        elif len(self._losses) > 1 and (first is None) != (losses is None):
            difference = math.inf if first is None else -math.inf
        return ArmEnd(
            batch_size=size,
            num_steps=state.progress.num_steps - self.start.progress.num_steps,
            loss=None if losses is None else float(np.mean(losses, dtype=np.float64)),
            difference=difference,
            error=error,
            num_rows=0 if losses is None else len(losses),
            gain=_mean_difference(self._start_losses, last_losses),
            gain_error=error_of_difference(self._start_losses, last_losses),
            gains_error=gains_error,
        )

    def close(self) -> None:
        """Release the rows."""
        self._open.close()


def _mean_difference(before: np.ndarray | None, after: np.ndarray | None) -> float | None:
    if before is None or after is None or len(before) != len(after):
        return None
    return float(np.mean(before - after, dtype=np.float64))


def _with_average(end: TrainState, start: TrainState) -> State:
    """Device state at the end of an arm, its own average merged into that of the run.

    With k updates in the arm and n before it, its weight (g + 1) k / (n + (g + 1) k) makes the sum
    lag behind a straight path exactly as far as a tail average over all of them.
    """
    before = max(0, int(start.device.step) - start.average_from)
    made = (TAIL + 1) * max(1, int(end.device.step) - int(start.device.step))
    share = made / (before + made)
    average = jax.tree.map(
        lambda old, own: old + np.asarray(share, old.dtype) * (own - old),
        start.device.average,
        end.device.average,
    )
    return end.device._replace(average=average)


def kept_rows(setup: TrainSetup, batch_rows: int, num_steps: int) -> bool:
    """True if the rows of a trial are few enough to be kept for the next one."""
    if setup.num_rows is None:
        return False
    return num_steps * batch_rows * setup.source.row_bytes <= MAX_REPLAYED_BYTES


def trial_loss(state: TrainState, *, diverged: bool) -> float:
    """Mean training loss of a trial's last updates, infinite if it diverged."""
    losses = list(state.progress.last_losses)
    mean = float(np.mean(losses)) if losses and not diverged else math.inf
    return mean if math.isfinite(mean) else math.inf


def start_rate(setup: TrainSetup) -> float | None:
    """First learning rate to try; None if the optimizer holds or finds its own.

    For plain and momentum descent, whose rates have the scale of the loss, it comes from the
    curvature at the start. Without curvature there, as with the hinge loss, it is the
    optimizer's default rate.
    """
    optimizer = setup.optimizer
    if optimizer.learning_rate is None or optimizer.traits.finds_rate:
        return None
    eigenvalue = _largest_eigenvalue(setup) if optimizer.traits.is_plain else None
    if eigenvalue is None:
        return optimizer.learning_rate
    return first_rate(
        largest_eigenvalue=eigenvalue,
        momentum=setup.training.momentum if optimizer.traits.momentum_kind else 0.0,
        noise_scale=0.0,  # small at the start, and no guide to later values
        batch_size=setup.batch_rows,
    )


def _largest_eigenvalue(setup: TrainSetup) -> float | None:
    """lambda_max of the loss at the start on a sample of rows; None if it has none."""
    from downslope.noise.curvature import extreme_eigenvalues, hessian_product

    rows, _ = sample(setup.source, CURVATURE_ROWS, setup.training.seed)

    def mean_loss(params: Any, rows: Any) -> Any:
        return setup.row_losses(params, rows).mean()

    product = hessian_product(mean_loss, setup.params, rows)
    dim = sum(leaf.size for leaf in jax.tree.leaves(setup.params))
    try:
        spectrum = extreme_eigenvalues(
            product, dim, num_products=min(dim, CURVATURE_PRODUCTS), key=setup.training.seed
        )
    except Exception:  # a loss may have a gradient and no second derivative: that is no fault
        return None
    value = spectrum.lambda_max.value
    return value if value is not None and math.isfinite(value) and value > 0 else None
