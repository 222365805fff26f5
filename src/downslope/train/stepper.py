"""Training on rows that the caller supplies, for data that come in pieces."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.config import NEED_AN_END, KnobSettings, Training
from downslope.data.arrays import Arrays
from downslope.data.windows import split_buffer
from downslope.errors import DataError, UsageError
from downslope.objective import Loss, Model, build, make_regularizer, penalized_mask
from downslope.step.loop import compile_steps
from downslope.step.optimizers import make_optimizer, rate_factor
from downslope.step.state import initial_state, to_device
from downslope.step.update import evaluated_params, make_update
from downslope.train.program_cache import as_they_are, kept, kind_of
from downslope.train.setup import device_knobs
from downslope.train.sources import example
from downslope.tree import empty_rows, map_arrays, pad

COPY = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class Stepper:
    """Train on rows as they come: each `step` makes one or several updates on the rows it gets.

    Rows are padded to a power of two with rows that are not counted, so that a few programs,
    each compiled once, serve pieces of any length. Nothing is searched or measured: "auto" means
    Adam at its default rate, held constant, without averaging or clipping. Limits of
    `training` (epochs, steps, seconds, patience) do not apply.

    Args:
        loss, model: as for `downslope.fit`.
        training: configuration of an update. With a number as `batch_size`, a step on more rows
            makes several updates, in the order of the rows; else all its rows are one update.
        penalize: as for `downslope.fit`.

    Raises:
        UsageError: an argument out of range, or a schedule that needs a known end.

    Example:
        >>> def loss(model, batch, key):
        ...     x, y = batch
        ...     return 0.5 * (x @ model["w"] - y) ** 2
        >>> stepper = Stepper(loss, {"w": np.zeros(2, "float32")}, Training(learning_rate=0.1))
        >>> draw = np.random.default_rng(0)
        >>> for _ in range(200):
        ...     x = draw.normal(size=(draw.integers(1, 32), 2))
        ...     last = stepper.step((x, x @ [1.0, -2.0]))
        >>> stepper.num_steps, [round(float(w), 1) for w in stepper.params["w"]]
        (200, [1.0, -2.0])
    """

    def __init__(
        self,
        loss: Loss,
        model: Model,
        training: Training | None = None,
        *,
        penalize: Any = None,
    ):
        asked = training or Training()
        if asked.microbatch_size is not None or asked.schedule in NEED_AN_END:
            raise UsageError(
                "a stepper has no microbatch_size, and no schedule that needs an end: "
                f"{', '.join(sorted(NEED_AN_END))}"
            )
        self._batch_size = asked.batch_size if isinstance(asked.batch_size, int) else None
        self.training = asked.resolved(
            optimizer="adam",
            schedule="constant",
            warmup_steps=0,
            clip_norm=None,
            weight_decay=None,
            average=None,
            batch_size="full",
        )
        self._optimizer = make_optimizer(self.training)
        self._loss, self._model, self._penalize = loss, model, penalize
        self._objective: Any = None
        self._state: Any = None
        self._programs: dict[int, Any] = {}
        self.num_steps = 0

    @property
    def params(self) -> Model:
        """Current model, its trained leaves as NumPy arrays."""
        if self._objective is None:
            return self._model
        params = evaluated_params(self._state)
        return self._objective.model(jax.device_get(params))

    def step(self, rows: Any) -> float:
        """Train on rows; returns their mean loss before their updates.

        Args:
            rows: an array, or tuples and dicts of arrays with the same number of rows.

        Raises:
            DataError: a loss or a gradient is not finite; the parameters stay as they were.
        """
        source = Arrays(rows, wide=bool(jax.config.read("jax_enable_x64")))
        if self._objective is None:
            self._begin(source)
        count = source.num_rows
        batch_rows = min(count, self._batch_size or count)
        step_rows = _power(count) if batch_rows == count else batch_rows
        buffer_rows = step_rows * _power(-(-count // step_rows))
        buffer = empty_rows(source.tree, buffer_rows)
        source.read(0, count, map_arrays(lambda a: a[:count], buffer))
        pad(buffer, count)
        windows = split_buffer(
            0, count, count, batch_rows=step_rows, step_rows=step_rows, buffer_rows=buffer_rows
        )
        knobs = KnobSettings(
            learning_rate=self._optimizer.learning_rate,
            batch_size=batch_rows,
            clip_norm=self.training.clip_norm,  # type: ignore[arg-type]
            weight_decay=self._optimizer.weight_decay,
        )
        knobs = device_knobs(knobs, self.training.average_from_step)
        before = COPY(self._state)  # the program reuses the state's memory
        self._state, metrics = self._program(step_rows)(self._state, buffer, windows, knobs)
        if not metrics.healthy:  # host sync
            self._state = before
            raise DataError(
                "the loss of these rows, or its gradient, is not finite",
                remedy="leave them out, or take a lower learning_rate",
            )
        self.num_steps += int(windows.count)
        return float(np.asarray(metrics.loss_sums, np.float64).sum() / count)

    def _begin(self, source: Arrays) -> None:
        """Build the objective, from the shapes of the first rows."""
        objective, params = build(self._loss, self._model, example(source, 2), as_they_are)
        if not objective.separable:
            raise UsageError("a stepper needs a loss with one value per example, shape (B,)")
        self._mask, self._objective = penalized_mask(self._penalize, self._model, params), objective
        if self._state is None:
            state = initial_state(
                params,
                self._optimizer,
                averages=self.training.average is not None,
                accumulates=False,
                measures=False,
                seed=self.training.seed,
            )
            self._state = to_device(state)

    def _program(self, step_rows: int) -> Any:
        if step_rows not in self._programs:
            kind = kind_of(self._objective, self.training, self._mask)
            self._programs[step_rows] = kept(
                kind and ("steps of a stepper", kind, step_rows, self.training.clip_norm is None),
                lambda: self._compile(step_rows),
            )
        return self._programs[step_rows]

    def _compile(self, step_rows: int) -> Any:
        training, objective = self.training, self._objective
        regularizer = make_regularizer(objective, training.l2, self._mask)
        update = make_update(
            self._optimizer,
            rate_factor(training),
            training,
            self._mask,
            regularizer,
            clips=training.clip_norm is not None,
        )
        return compile_steps(objective, update, step_rows, accumulates=False)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the programs, as NumPy arrays."""
        kept_state = {k: v for k, v in vars(self).items() if k not in ("_programs", "_optimizer")}
        if self._state is not None:
            kept_state["_state"] = jax.device_get(self._state)
        return kept_state

    def __setstate__(self, values: dict[str, Any]) -> None:
        vars(self).update(values, _programs={}, _optimizer=make_optimizer(values["training"]))
        if self._state is not None:
            self._state = to_device(self._state)


def _power(count: int) -> int:
    """Next power of two."""
    return 1 << max(0, count - 1).bit_length()
