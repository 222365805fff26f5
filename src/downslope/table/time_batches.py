"""How long an update of other batch sizes would take, measured for a run on a table."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import downslope
from downslope import ModelOptions, TableOptions
from downslope.choose import StepTimes
from downslope.data.stored import StoredTable
from downslope.report.journal import Journal
from downslope.table.fit import choose_model, request_of
from downslope.train.run_folder import JOURNAL, training_of
from downslope.train.timing import time_steps


def time_batches(run: str | os.PathLike[str]) -> StepTimes:
    """Times updates of several batch sizes on this machine, and keeps them in the run's journal.

    The model, the table and the settings are the run's; nothing is trained. Every size costs a
    compilation. A `plan` of the run then knows what an update of any batch size takes.

    Args:
        run: the folder of a run on a table, which must still be where it was.

    Raises:
        DataError: the folder is no run on a table, or the table cannot be read.
        UsageError: its rows cannot be taken in batches of another size.
    """
    asked = request_of(run)
    table, model = TableOptions(**_tuples(asked["table"])), ModelOptions(**_tuples(asked["model"]))
    training = training_of(run)
    stored = downslope.open(asked["path"], table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        chosen = choose_model(stored.encoding, model)
        times = time_steps(
            chosen.loss_fn, chosen.init(training.seed), stored.train, training=training
        )
    journal = Journal(Path(run) / JOURNAL)
    last = max((int(r.get("step") or 0) for r in journal.records), default=0)
    repeats = [list(seconds) for seconds in times.repeats]
    journal.write("timed", step=last, batch_sizes=list(times.batch_sizes), step_seconds=repeats)
    journal.close()
    return times


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
