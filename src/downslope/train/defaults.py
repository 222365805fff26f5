"""Initial values of settings left to choose."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from downslope.choose.start import first_batch_size
from downslope.config import (
    AUTO,
    EPOCHS,
    FULL_BATCH,
    MOST_EPOCHS,
    NEED_AN_END,
    STEPS,
    Training,
    is_auto,
)
from downslope.data.generator import Generator
from downslope.step.optimizers import RULES
from downslope.train.sources import STEP_BYTES

DEFAULT_OPTIMIZER = "nadam"
PATIENCE = 5  # evaluations, if no controller stops the run; assumed


def begin_with(training: Training, source: Any) -> Training:
    """Configuration with an initial value for every setting left to choose.

    Parameters are averaged only if the schedule is left to choose too, and the optimizer has no
    parameters of its own to keep.
    """
    optimizer = DEFAULT_OPTIMIZER if is_auto(training.optimizer) else training.optimizer
    rule = RULES.get(optimizer) if isinstance(optimizer, str) else None
    holds_rate = hasattr(optimizer, "update")  # a finished optax transformation
    holds_average = holds_rate or bool(rule and rule.traits.keeps_params)
    # an average of weights that were 0 only at times is not 0, but l1 promises exact zeros
    averages = "schedule" in training.free and not holds_average and not training.l1
    num_rows = None if isinstance(source, Generator) else source.num_rows
    most = max(1, STEP_BYTES // row_bytes(source))
    each = getattr(source, "examples_per_row", 1)  # more if a row is a batch of its own
    batch_size = first_batch_size(
        num_rows=num_rows and num_rows * each,
        most=min(most, training.microbatch_size or most) * each,
    )
    batch_size = max(1, batch_size // each)
    # without an end both are constant; trials, which have one, then keep their rate longer too
    schedule = "flat_cosine" if has_end(training) else "wsd"
    plain = training.resolved(
        optimizer=optimizer,
        batch_size=batch_size,
        schedule="constant" if holds_rate else schedule,
        warmup_steps=AUTO if "schedule" in training.free and not holds_rate else 0,
        clip_norm=None,
        average="tail" if averages else None,
        patience=PATIENCE,
    )
    if plain.epochs is None and plain.steps is None and plain.seconds is None and num_rows:
        rows = num_rows if plain.batch_size == FULL_BATCH else int(plain.batch_size)
        epochs = EPOCHS
        if "patience" in training.free and training.schedule not in NEED_AN_END:
            epochs = max(MOST_EPOCHS, math.ceil(STEPS * rows / num_rows))
        plain = dataclasses.replace(plain, epochs=epochs)
    return plain


def has_end(asked: Training) -> bool:
    """True if the end of a run is given, or a schedule that needs one."""
    limits = (asked.steps, asked.epochs, asked.seconds)
    return asked.schedule in NEED_AN_END or any(limit is not None for limit in limits)


def row_bytes(source: Any) -> int:
    """Bytes per row; 1 for a generator, whose rows are not known in advance."""
    return 1 if isinstance(source, Generator) else max(1, source.row_bytes)
