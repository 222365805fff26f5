"""Setup of a run: what `assemble` puts together before the training loop begins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.config import KnobSettings, Training
from downslope.data.arrays import Arrays
from downslope.metrics import Results
from downslope.noise.online.monitor import MonitorSettings
from downslope.objective import Model, Objective, Params, merge
from downslope.step.optimizers import Optimizer
from downslope.step.state import OFF, Knobs, State, to_device
from downslope.step.update import evaluated_params
from downslope.train.compiled_step import CompiledStep
from downslope.train.interaction import interact
from downslope.train.sources import PART_ROWS, example

SAMPLE_ROWS = 1024  # sample on which two states are compared


@dataclass(frozen=True, kw_only=True)
class TrainSetup:
    """Inputs of the training loop, compiled or ready to be.

    Attributes:
        objective: what is minimised.
        optimizer: the update rule.
        training: the configuration, with a first value where it was "auto".
        first_step: the compiled step of the batch size that a run begins with.
        make_step: `make_step(batch_rows, clips, step_rows=None)` gives that of another size.
        can_change: the batch size is left to choose and may change while training.
        evaluate: held-out evaluation, or None without held-out rows.
        num_rows: rows of an epoch; None for a generator.
        num_steps: updates of the whole run; None where epochs, time or the loss decide.
        open_ended: no limit was given: its epochs are a bound that is not meant to be reached.
        most_rows: the largest batch that the device can take at once.
        fingerprint: identifies the data.
        params: the given trained leaves.
        initial_state: `initial_state(params)` gives the state before the first step; traceable.
        setting: settings for reading measured updates, or None if none is measured.
        regularizer: gradient of the smooth terms beside the mean loss, or None for none.
        source: where the training rows come from, in their own order.
        kind: key of the compiled programs that other runs may share, or None.
        row_losses: `losses(params, rows)` with penalties, for measuring; a random loss is
            evaluated with one fixed key.
    """

    objective: Objective
    optimizer: Optimizer
    training: Training
    first_step: CompiledStep
    make_step: Callable[..., CompiledStep]
    can_change: bool
    evaluate: Callable[[Params], Results] | None
    num_rows: int | None
    num_steps: int | None
    open_ended: bool
    most_rows: int
    fingerprint: str
    params: Params
    initial_state: Callable[[Params], State]
    setting: MonitorSettings | None
    regularizer: Callable[[Params], Any]
    source: Any
    row_losses: Callable[[Params, Any], Any]
    kind: Any = None

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

    def bad_rows(self, params: Params, most: int = 100) -> tuple[int, ...]:
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
            if len(found) >= most:
                break
        numbers = getattr(self.source, "row_numbers", None)
        return tuple(int(i) if numbers is None else int(numbers[i]) for i in found[:most])

    @functools.cached_property
    def interacts(self) -> bool:
        """Whether examples interact; checked here if steps are not measured."""
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
        known = {"learning_rate": self.optimizer.learning_rate, "batch_size": self.batch_rows}
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
        return evaluated_params(state, self.optimizer)

    def model(self, params: Params) -> Model:
        """Whole model with these parameters."""
        return merge(params, self.objective.fixed)


def device_knobs(settings: KnobSettings, average_from: int) -> Knobs:
    """Knobs as arguments of a compiled step."""
    values = dataclasses.asdict(settings)
    floats = {k: np.float32(OFF[k] if v is None else v) for k, v in values.items()}
    return Knobs(**floats, average_from=np.int32(average_from))
