"""Evidence for the report of a run on a table, from its trained model and its rows.

How the model compares with simpler ones, which columns it needs, whether its probabilities hold,
the loss around it. The records go to the run's journal; a report needs neither model nor rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from downslope import DataError, DownslopeError, MismatchError, read_metadata
from downslope.check.findings import Finding
from downslope.data.stored import StoredTable
from downslope.report.journal import Journal, Record
from downslope.table.check import quick_checks
from downslope.table.evidence.baselines import baselines
from downslope.table.evidence.context import Budget, Context, Skipped, make_context
from downslope.table.evidence.importance import importance
from downslope.table.evidence.landscape import line_scans, noisy_rows, trajectory
from downslope.table.evidence.origin import origin
from downslope.table.evidence.predictions import calibration, confusion, residuals
from downslope.table.evidence.trees import trees
from downslope.table.run import TableRequest, opened, request_of, trained_model
from downslope.train.run_folder import JOURNAL

__all__ = ["gather"]

SUBJECTS: dict[str, Callable[[Context], Record]] = {  # the most useful first
    "baselines": baselines,
    "calibration": calibration,
    "residuals": residuals,
    "confusion": confusion,
    "path": trajectory,  # costs next to nothing
    "importance": importance,
    "slice": line_scans,
    "noisy_rows": noisy_rows,
}
NOT_FOR = {"classify": {"residuals"}, "regress": {"calibration", "confusion"}}
COMPILED = ("slice", "noisy_rows")  # gradients of the model: over a second to compile
MIN_COMPILED_SECONDS = 1.0  # of the time given, from which they are gathered
MOMENT = {"event", "step", "time"}  # that every record of the journal may have
NO_TIME = "left out to save time: downslope report RUN --evidence 10 gathers it"


def gather(
    run: str | os.PathLike[str],
    *,
    seconds: float = 1.5,
    command: str | None = None,
    stored: StoredTable | None = None,
    findings: Iterable[Finding] | None = None,
) -> None:
    """Append to a finished run's journal what a report needs of its model and its rows.

    One record of each event; `checks` where there is none yet. Nothing but the journal changes.
    Where records were gathered before, readers use the later ones.

    At most 4,096 held-out and 4,096 training rows are used.

    Args:
        run: folder of a finished run on a table; the table must still be where it was.
        seconds: begin no further subject after this time, compiling aside. With less than a second
            the loss around the end point and the noisiest rows, which take longer to compile, are
            left out. Gradient-boosted trees, where scikit-learn is installed, take up to a fifth of
            the run's time besides.
        command: what the user typed; by default a command that asks for the same.
        stored: the run's converted table, where it is open; it stays open.
        findings: findings on the table before training; by default it is checked now.

    Raises:
        DataError: the folder is no run on a table, or has no model yet.

    Example:
        >>> import downslope, numpy as np, tempfile
        >>> from downslope import TableOptions, Training
        >>> from downslope.table.fit import fit
        >>> from downslope.report.journal import read_journal
        >>> folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
        >>> x = rng.normal(size=(4000, 2))
        >>> y = 3 * x[:, 0] + 0.5 * rng.normal(size=4000)  # the second column says nothing
        >>> np.savez(folder / "t.npz", needed=x[:, 0], useless=x[:, 1], y=y)
        >>> linear = downslope.ModelOptions(model="linear")
        >>> options = TableOptions(target="y")
        >>> run = fit(folder / "t.npz", options, linear, out=folder / "run").result.run
        >>> gather(run)
        >>> found = {record["event"]: record for record in read_journal(run / "journal.jsonl")}
        >>> [column["name"] for column in found["importance"]["columns"]]
        ['needed', 'useless']
        >>> found["slice"]["reason"] is None, found["path"]["reason"]
        (True, 'the run was solved without a step')
    """
    run, task = Path(run), read_metadata(run).get("task")
    asked = request_of(run, needs_path=False)
    with contextlib.closing(Journal(run / JOURNAL)) as journal:
        before = list(journal.records)
        checked = [r for r in before if r["event"] == "checks" and r.get("findings") is not None]
        step = max((record.get("step") or 0 for record in before), default=0)

        known = {r["event"] for r in before if r.keys() - MOMENT - {"reason"}}

        def write(event: str, found: Record) -> None:
            if event in known and found.keys() == {"reason"}:
                return  # what was gathered before stays
            # with a step, so that a run resumed from an earlier checkpoint drops them
            journal.write(event, step=step, **{"reason": None, **found})

        write("record", origin(asked, command, before))
        events = [name for name in SUBJECTS if name not in NOT_FOR[str(task)]]
        left_out = COMPILED if seconds < MIN_COMPILED_SECONDS else ()
        try:
            with _opened(asked, stored) as table:
                context = _context(run, asked, table, before, Budget(seconds))
                for event in events:
                    budget = Budget(0.0) if event in left_out else context.budget
                    write(event, _in_time(budget, lambda e=event: SUBJECTS[e](context)))
                write("trees", _in_time(None, lambda: trees(context)))
                if findings is not None:
                    write("checks", _checks(findings))
                elif not checked:
                    checks = lambda: _checks(quick_checks(table, asked.table))  # noqa: E731
                    write("checks", _in_time(context.budget, checks))
        except Skipped as why:
            for event in (*events, "trees"):
                write(event, {"reason": str(why)})


def _in_time(budget: Budget | None, subject: Callable[[], Record]) -> Record:
    """A record, or the reason for none: a report does not fail because a part is missing."""
    if budget is not None and budget.left <= 0:
        return {"reason": NO_TIME}
    try:
        return subject()
    except Skipped as why:
        return {"reason": str(why)}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}"}


def _checks(findings: Iterable[Finding]) -> Record:
    return {"findings": [{**f.to_json(), "statement": f.sentence} for f in findings]}


@contextlib.contextmanager
def _opened(asked: TableRequest, stored: StoredTable | None) -> Iterator[StoredTable]:
    """The run's table, converted as for training."""
    if stored is not None:
        yield stored
        return
    if asked.path is None:
        raise Skipped("the table was a data frame, which cannot be read again")
    with contextlib.ExitStack() as stack:
        try:
            table = stack.enter_context(opened(asked.path, asked.table, asked.fingerprint))
        except (DownslopeError, OSError, TypeError) as error:
            raise Skipped(f"the table cannot be read again: {error}") from error
        yield table


def _context(
    run: Path, asked: TableRequest, stored: StoredTable, records: list[Record], budget: Budget
) -> Context:
    try:
        trained = trained_model(run)
    except (DataError, MismatchError) as error:
        raise Skipped(f"the model cannot be read: {error}") from error
    was_solved = any(r["event"] == "solved" and r["is_solved"] for r in records)
    run_seconds = max((float(r["seconds"]) for r in records if r.get("seconds")), default=0.0)
    return make_context(
        run, asked.path, trained, stored, budget, was_solved=was_solved, run_seconds=run_seconds
    )
