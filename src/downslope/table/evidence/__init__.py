"""What only the trained model can tell of a run on a table, written to its journal for a report.

How it compares with doing without it, which columns it needs, whether its probabilities hold, how
the loss lies around it. A report reads these records and needs neither the model nor the rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import downslope
from downslope import DataError, DownslopeError, MismatchError, TableOptions
from downslope.check.findings import Finding
from downslope.data.stored import StoredTable
from downslope.report.journal import Journal, Record
from downslope.table.check import quick_checks
from downslope.table.evidence.baselines import baselines
from downslope.table.evidence.importance import importance
from downslope.table.evidence.landscape import around, noisy_rows
from downslope.table.evidence.landscape import path as way
from downslope.table.evidence.origin import origin
from downslope.table.evidence.predictions import calibration, confusion, residuals
from downslope.table.evidence.scene import Budget, LeftOut, Scene, make_scene
from downslope.table.fit import TableModel
from downslope.train.run_folder import JOURNAL, load_model, read_metadata, read_request

__all__ = ["gather"]

SUBJECTS: dict[str, Callable[[Scene], Record]] = {  # the most useful first
    "baselines": baselines,
    "calibration": calibration,
    "residuals": residuals,
    "confusion": confusion,
    "path": way,  # costs next to nothing
    "importance": importance,
    "slice": around,
    "noisy_rows": noisy_rows,
}
NOT_FOR = {"classify": {"residuals"}, "regress": {"calibration", "confusion"}}
NO_TIME = "there was no time left for it; ask for more seconds"


def gather(
    run: str | os.PathLike[str],
    *,
    seconds: float = 1.5,
    command: str | None = None,
    stored: StoredTable | None = None,
    findings: Iterable[Finding] | None = None,
) -> None:
    """Appends to a finished run's journal what a report needs and only the model can tell.

    One record each of the events `record`, `baselines`, `calibration` and `confusion` or
    `residuals`, `path`, `importance`, `slice`, `noisy_rows` and, where there is none yet, `checks`;
    each holds what was found, or the `reason` why it was not. Nothing but the journal changes.
    Gathered again, the later record of an event takes the place of the earlier one for readers.

    At most 4,096 held-out and 4,096 training rows are looked at.

    Args:
        run: folder of a finished run on a table; the table must still be where it was.
        seconds: begin no further subject after so long, compiling aside.
        command: what the user typed; by default a command that asks for the same.
        stored: the run's converted table, where it is open; it stays open.
        findings: what was found of the table before training; by default it is looked at now.

    Raises:
        DataError: the folder is no run on a table, or has no model yet.

    Example:
        >>> import numpy as np, tempfile
        >>> from downslope import TableOptions, Training
        >>> from downslope.table.fit import fit
        >>> from downslope.report.journal import read_journal
        >>> folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
        >>> x = rng.normal(size=(4000, 2))
        >>> y = 3 * x[:, 0] + 0.5 * rng.normal(size=4000)  # the second column says nothing
        >>> np.savez(folder / "t.npz", needed=x[:, 0], useless=x[:, 1], y=y)
        >>> run = fit(folder / "t.npz", TableOptions(target="y"), out=folder / "run").result.run
        >>> gather(run)
        >>> found = {record["event"]: record for record in read_journal(run / "journal.jsonl")}
        >>> [column["name"] for column in found["importance"]["columns"]]
        ['needed', 'useless']
        >>> found["slice"]["reason"] is None, found["path"]["reason"]
        (True, 'the run was solved without a step')
    """
    run, metadata = Path(run), read_metadata(run)
    asked = _asked(run)
    with contextlib.closing(Journal(run / JOURNAL)) as journal:
        before = list(journal.records)
        step = max((record.get("step") or 0 for record in before), default=0)

        def write(event: str, found: Record) -> None:
            # a step, so that going on from an earlier checkpoint forgets them
            journal.write(event, step=step, **{"reason": None, **found})

        write("record", origin(run, asked, command, before))
        try:
            with _opened(run, asked, stored) as table:
                scene = _scene(run, asked["path"], metadata, table, before, Budget(seconds))
                for event, found in _subjects(scene):
                    write(event, found)
                if findings is not None or not _has_checks(before):
                    in_time = findings is not None or scene.budget.left > 0
                    look = lambda: _checks(table, asked, findings)  # noqa: E731
                    write("checks", _tried(look) if in_time else {"reason": NO_TIME})
        except LeftOut as why:
            for event in _events(metadata["task"]):
                write(event, {"reason": str(why)})


def _asked(run: Path) -> dict[str, Any]:
    """What the run was asked; its path is None where the table was a data frame."""
    request = read_request(run)
    metadata = request["metadata"]
    if metadata.get("recipe") != "table":
        raise DataError("was not trained on a table", path=run, remedy="look at it in Python")
    names = {"path": "path", "table": "table", "model": "options"}
    asked = {name: metadata.get(there) for name, there in names.items()}
    return {**asked, "training": request["training"]}


def _subjects(scene: Scene) -> Iterable[tuple[str, Record]]:
    for event in _events(scene.model.encoding.task):
        if scene.budget.left <= 0:
            yield event, {"reason": NO_TIME}
        else:
            subject = SUBJECTS[event]
            yield event, _tried(lambda subject=subject: subject(scene))


def _events(task: str) -> list[str]:
    return [name for name in SUBJECTS if name not in NOT_FOR[task]]


def _tried(look: Callable[[], Record]) -> Record:
    """What was found, or the reason why not: a report does not fail for want of a part."""
    try:
        return look()
    except LeftOut as why:
        return {"reason": str(why)}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}"}


def _has_checks(records: list[Record]) -> bool:
    return any(r["event"] == "checks" and r.get("findings") is not None for r in records)


def _checks(
    stored: StoredTable, asked: dict[str, Any], findings: Iterable[Finding] | None
) -> Record:
    if findings is None:
        findings = quick_checks(stored, _options(asked))
    return {"findings": [{**f.to_json(), "statement": f.sentence} for f in findings]}


@contextlib.contextmanager
def _opened(run: Path, asked: dict[str, Any], stored: StoredTable | None) -> Any:
    """The run's table, converted as for training."""
    if stored is not None:
        yield stored
        return
    if asked["path"] is None:
        raise LeftOut("the table was a data frame, which cannot be read again")
    try:
        found = downslope.open(asked["path"], _options(asked))
        assert isinstance(found, StoredTable)
        if read_request(run)["data"] != found.train.fingerprint:
            found.close()
            raise MismatchError(f"{asked['path']} was changed since the run began")
    except (DownslopeError, OSError, TypeError) as error:
        raise LeftOut(f"the table cannot be read again: {error}") from error
    with contextlib.closing(found):
        yield found


def _options(asked: dict[str, Any]) -> TableOptions:
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in asked["table"].items()
    }
    return TableOptions(**values)


def _scene(
    run: Path,
    path: Any,
    metadata: dict[str, Any],
    stored: StoredTable,
    records: list[Record],
    budget: Budget,
) -> Scene:
    model = TableModel.from_json(metadata)
    try:
        params = load_model(run, model.init(0))
    except (DataError, MismatchError) as error:
        raise LeftOut(f"the model cannot be read: {error}") from error
    return make_scene(
        run, path, model, params, stored, metadata.get("calibration"), budget,
        was_solved=any(r["event"] == "solved" and r["is_solved"] for r in records),
    )  # fmt: skip
