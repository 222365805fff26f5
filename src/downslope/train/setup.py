"""Setup of a run: what `assemble` puts together before the training loop begins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.choose.decision import Decision
from downslope.choose.step_time import StepTimes
from downslope.config import KnobSettings, Training
from downslope.data.arrays import Arrays
from downslope.noise.online.monitor import MonitorSettings
from downslope.objective import Model, Objective, Params, merge
from downslope.step.optimizers import Optimizer
from downslope.step.state import OFF, Knobs, State, to_device
from downslope.step.update import evaluated_params
from downslope.train.compiled_step import CompiledStep
from downslope.train.evaluate import Evaluate
from downslope.train.horizon import NO_HORIZON, Horizon
from downslope.train.interaction import interact
from downslope.train.sources import PART_ROWS, example

SAMPLE_ROWS = 1024  # sample on which two states are compared
MAX_BAD_ROWS = 100  # whose numbers are looked for


@dataclass(frozen=True, kw_only=True)
class TrainSetup:
    """Inputs of the training loop, compiled or ready to be."""

    objective: Objective
    optimizer: Optimizer
    training: Training  # with a first value where it was "auto"
    first_step: CompiledStep  # of the batch size that a run begins with
    # `make_step(batch_rows, clips, step_rows=None)` gives that of another size
    make_step: Callable[..., CompiledStep]
    # counted time of an update, if the batch size is left to choose
    costs: StepTimes | None
    can_change: bool  # the batch size is left to choose and may change while training
    evaluate: Evaluate | None  # on all held-out rows; None without any
    num_rows: int | None  # of an epoch; None for a generator
    num_steps: int | None  # of the whole run; None where epochs, time or the loss decide
    has_end: bool  # steps, epochs or seconds were given, or a schedule that needs an end
    open_ended: bool  # no limit was given: the epochs are a bound not meant to be reached
    most_rows: int  # the largest batch that the device can take at once
    fingerprint: str  # of the data
    params: Params  # the given trained leaves
    initial_state: Callable[[Params], State]  # before the first step; traceable
    setting: MonitorSettings | None  # for reading measured updates; None if none is measured
    regularizer: Callable[[Params], Any]  # gradient of the smooth terms beside the mean loss
    source: Any  # of the training rows, in their own order
    # `losses(params, rows)` with penalties, for measuring; one fixed key for a random loss
    row_losses: Callable[[Params, Any], Any]
    num_held_out: int | None = None  # rows
    first_decisions: tuple[Decision, ...] = ()  # made before the first update, for the journal
    # `sample_evaluator(num_rows)` evaluates a random sample; None where all rows must be used
    sample_evaluator: Callable[[int], Evaluate] | None = None
    kind: Any = None  # key of the compiled programs that other runs may share

    @property
    def batch_rows(self) -> int:
        """Examples per update that a run begins with."""
        return self.first_step.batch_rows

    def sample_loss(self, params: Params) -> float:
        """Mean loss of a fixed sample of rows."""
        rows, mean = self._sample_loss
        return float(mean(params, rows))

    @functools.cached_property
    def _sample_loss(self) -> tuple[Any, Callable[..., Any]]:
        rows = example(self.source, SAMPLE_ROWS)
        return rows, jax.jit(lambda params, rows: self.row_losses(params, rows).mean())

    def bad_rows(self, params: Params) -> tuple[int, ...]:
        """Numbers of the first rows, in the caller's order, whose own loss is not finite.

        One pass over the arrays. Empty for a generator, for a table on disk, whose rows were
        checked and shuffled by the conversion, or if examples interact.
        """
        if not isinstance(self.source, Arrays) or not self.objective.separable or self.interacts:
            return ()
        losses, found = jax.jit(self.row_losses), []
        part = min(self.source.num_rows, PART_ROWS)
        for start in range(0, self.source.num_rows, part):
            rows = self.source.read(start, min(start + part, self.source.num_rows))
            found += (start + np.flatnonzero(~np.isfinite(losses(params, rows)))).tolist()
            if len(found) >= MAX_BAD_ROWS:
                break
        numbers = getattr(self.source, "row_numbers", None)
        return tuple(int(i) if numbers is None else int(numbers[i]) for i in found[:MAX_BAD_ROWS])

    @functools.cached_property
    def interacts(self) -> bool:
        """True if examples interact; checked here if steps are not measured."""
        if self.setting is not None or self.objective.interacts:
            return self.objective.interacts
        return interact(self.objective, self.params, self.source, self.kind)

    def knobs(self) -> Knobs:
        """Knobs of the first step, as arguments of a compiled step."""
        return device_knobs(self.first_settings(), self.training.average_from_step)

    def first_settings(self) -> KnobSettings:
        """Knobs as configured, or as a run begins with them."""
        names = [f.name for f in dataclasses.fields(KnobSettings)]
        values = {name: getattr(self.training, name) for name in names}
        known: dict[str, Any] = {
            "learning_rate": self.optimizer.learning_rate,
            "batch_size": self.batch_rows,
            "weight_decay": self.optimizer.weight_decay,
        }
        return KnobSettings(**values | known)

    @functools.cached_property
    def state_shapes(self) -> State:
        """Shapes and dtypes of the state, kept because tracing takes milliseconds."""
        return jax.eval_shape(self.initial_state, self.params)

    def start(self) -> State:
        """State before the first update, on the device."""
        return to_device(self.initial_state(self.params))

    def kept_params(self, state: State) -> Params:
        """Parameters to evaluate and keep: averaged ones if there are any."""
        return evaluated_params(state)

    def model(self, params: Params) -> Model:
        """Whole model with these parameters."""
        return merge(params, self.objective.fixed)


def device_knobs(settings: KnobSettings, average_from: int, horizon: Horizon = NO_HORIZON) -> Knobs:
    """Knobs as arguments of a compiled step."""
    values = dataclasses.asdict(settings)
    floats = {k: np.float32(OFF[k] if v is None else v) for k, v in values.items()}
    return Knobs(
        **floats,
        average_from=np.int32(average_from),
        done_at_start=np.float32(horizon.offset),
        done_per_step=np.float32(horizon.per_step),
    )
