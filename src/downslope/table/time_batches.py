"""Time of an update by batch size, measured for a run on a table."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from downslope.choose import StepTimes
from downslope.report.journal import Journal
from downslope.table.model import choose_model
from downslope.table.run import opened, request_of
from downslope.train.run_folder import JOURNAL, training_of
from downslope.train.timing import time_steps


def time_batches(run: str | os.PathLike[str]) -> StepTimes:
    """Time updates of several batch sizes on this machine, and keep them in the run's journal.

    The model, the table and the settings are the run's; nothing is trained. Every size costs a
    compilation. A `plan` of the run then knows the time of an update of any batch size.

    Args:
        run: the folder of a run on a table, which must still be where it was.

    Raises:
        DataError: the folder is no run on a table, or the table cannot be read.
        UsageError: its rows cannot be taken in batches of another size.
    """
    asked, training = request_of(run), training_of(run)
    with opened(asked.path, asked.table) as stored:
        model = choose_model(stored, asked.model)
        times = time_steps(
            model.loss_fn, model.init(training.seed), stored.train, training=training
        )
    with contextlib.closing(Journal(Path(run) / JOURNAL)) as journal:
        last = max((int(r.get("step") or 0) for r in journal.records), default=0)
        seconds = [list(each) for each in times.repeats]
        journal.write("timed", step=last, batch_sizes=list(times.batch_sizes), step_seconds=seconds)
    return times
