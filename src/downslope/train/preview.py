"""First choices of a run, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from downslope.choose.decision import Decision
from downslope.choose.learning_rate import trial_steps
from downslope.config import Training
from downslope.objective import Loss, Model
from downslope.train.assemble import assemble
from downslope.train.begin import context_of
from downslope.train.solve import can_solve
from downslope.train.trials import start_rate


def preview(
    loss: Loss,
    model: Model,
    data: Any,
    training: Training,
    *,
    penalize: Callable[[Model], Any] | None = None,
) -> tuple[Decision, ...]:
    """First choices of a run as `downslope.fit` would make it; nothing is trained.

    Args:
        loss, model, data, training, penalize: as for `downslope.fit`.

    Returns:
        One decision for each setting that was left to choose and is known in advance.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(5000, 3)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return np.abs(1) * (batch @ model["w"] - 1) ** 2
        >>> print(preview(loss, {"w": np.zeros(3, "float32")}, x, Training())[0])
        optimizer auto -> solve: the loss is an exact convex quadratic of 3 parameters over 5,000
        rows, so its minimum is computed directly
    """
    setup = assemble(loss, model, data, training, penalize=penalize)
    solving = can_solve(setup, training)
    if solving is not None:
        return (solving.decision,)
    found = []
    rows, context = setup.batch_rows, context_of(setup, training)
    if "optimizer" in training.free:
        because = "no closed form; training iteratively"
        found.append(_first("optimizer", setup.optimizer.name, because))
    if "batch_size" in training.free:
        because = "the noise scale and the time of an update are not known yet"
        if setup.can_change:
            because += f"; it may grow up to {setup.most_rows:,}"
        found.append(_first("batch_size", rows, because))
    first = start_rate(setup) if "learning_rate" in training.free else None
    if first is not None:
        steps = trial_steps(epoch_steps=context.epoch_steps, run_steps=context.run_steps)
        because = f"trials of {steps} updates begin here" if steps else "too few updates for trials"
        found.append(_first("learning_rate", first, because))
    return tuple(found)


def _first(knob: str, value: Any, because: str) -> Decision:
    return Decision(knob=knob, old="auto", new=value, because=because)
