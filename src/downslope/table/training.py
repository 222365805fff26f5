"""Settings with which the model of a table is trained, where they are left to choose."""

from __future__ import annotations

import dataclasses
import math

from downslope import Training
from downslope.table.model import TableModel

# Inputs and weights of a net are scaled, so that one rate serves all tables, and trials for it
# would take longer than training. The rate of a longer run is lower, as that of trials is.
LEARNING_RATE, LENGTH_POWER = 0.03, 0.25
BATCH_SIZE, LARGE_BATCH_SIZE = 128, 256  # 32 and 64 rows were worse on nine of ten tables
# Updates on up to so many rows; on more they grow with the root of the rows.
UPDATES, UPDATES_ROWS = 2000, 4000
# Power of e by which weights without a gradient would shrink in a run. With 16 instead of 2, a net
# of 6,000 updates ended 9 % higher; on small tables there was no difference.
SHRINKAGE = 2.0
# Training rows from which the noise is measured: on fewer, compiling for it takes longer than
# training (two thirds of 17 s on 1,500 rows, measured).
MANY_ROWS = 10_000


def settings_of(model: TableModel, training: Training, num_rows: int) -> Training:
    """Settings with which a model is trained: what is given stays.

    Args:
        model: with the part that is trained.
        training: as asked for.
        num_rows: training rows.
    """
    if model.parts == ("linear",):  # its categories have matrices, side by side
        return training.resolved(weight_decay=None)
    return net_training(training, num_rows) if model.parts == ("net",) else training


def net_training(training: Training, num_rows: int) -> Training:
    """Settings with which a net is trained.

    Without an end of its own the run has 2,000 updates, or more on a long table; the rate falls
    along a cosine, and the last tenth of the updates is averaged. Weight decay is such that it
    works over the run as a whole, whatever its length (Wang and Aitchison 2024); where time or a
    target ends the run, over as many updates as it would have without. A given optimizer keeps its
    own rate, schedule and decay.

    Args:
        training: as asked for; what is given stays.
        num_rows: training rows.

    Example:
        >>> found = net_training(Training(), 1600)
        >>> found.steps, found.batch_size, found.learning_rate, round(found.weight_decay, 3)
        (2000, 128, 0.03, 0.033)
        >>> net_training(Training(epochs=3), 40_000).steps is None
        True
    """
    is_long = num_rows >= MANY_ROWS
    training = training.resolved(batch_size=LARGE_BATCH_SIZE if is_long else BATCH_SIZE)
    updates = UPDATES * math.sqrt(max(1.0, num_rows / UPDATES_ROWS))
    ends = (training.epochs, training.steps, training.seconds, training.until)
    if all(end is None for end in ends):
        training = dataclasses.replace(training, steps=round(updates))
    elif training.steps is not None:
        updates = training.steps
    elif training.epochs is not None and isinstance(training.batch_size, int):
        updates = max(1.0, training.epochs * num_rows / training.batch_size)
    if "optimizer" in training.free:
        rate = LEARNING_RATE * min(1.0, UPDATES / updates) ** LENGTH_POWER
        training = training.resolved(learning_rate=rate)
        rate = training.learning_rate
        assert not isinstance(rate, str)  # "auto" was resolved
        if training.until is None and not training.l1:
            training = training.resolved(schedule="cosine", average="tail")
        if not (training.l1 or training.l2):
            decay = min(1.0, SHRINKAGE / (rate * updates))
            training = training.resolved(weight_decay=decay)
    if not is_long and training.measure_every == Training.measure_every:
        training = dataclasses.replace(training, measure_every=None)
    return training
