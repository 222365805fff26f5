"""Several targets of one table: a model for each, and predictions side by side.

Each target has a run of its own, on the rows that hold a value of it; no target is an input of the
others' models.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downslope import ModelOptions, StopReason, TableOptions, Training, UsageError
from downslope.storage import atomic_folder, read_json, write_json
from downslope.table.fit import TableResult, fit
from downslope.train.run_folder import RESULT, check_free

TARGETS = "targets.json"
ROLES = ("number", "categorical", "text")  # lists of columns that may name a target of another run


@dataclass(frozen=True, kw_only=True)
class TargetRuns:
    """Folder with a run for each of several targets.

    Attributes:
        folder: holds the runs `target-1`, `target-2` and so on, and `targets.json`.
        targets: the columns to predict, in the order of the runs.
        table: options of all of them; its target is None.
    """

    folder: Path
    targets: tuple[str, ...]
    table: TableOptions

    @property
    def runs(self) -> dict[str, Path]:
        """Folder of the run of each target."""
        numbered = enumerate(self.targets, start=1)
        return {name: self.folder / f"target-{number}" for number, name in numbered}

    def is_finished(self, target: str) -> bool:
        """True if the run of a target was trained to its end."""
        path = self.runs[target] / RESULT
        return path.is_file() and read_json(path)["stop_reason"] != StopReason.INTERRUPTED

    def begin(self) -> None:
        """Make the folder, unless it is one of these targets already.

        Raises:
            DataError: it exists and holds something else, or cannot be created.
        """
        if self == TargetRuns.open(self.folder):
            return
        check_free(self.folder)
        values = {"targets": self.targets, "table": dataclasses.asdict(self.table)}
        with atomic_folder(self.folder, manifest=False) as scratch:
            write_json(scratch / TARGETS, values)

    def discard_if_empty(self) -> None:
        """Remove the folder if it holds no run."""
        if not any(run.exists() for run in self.runs.values()):
            shutil.rmtree(self.folder, ignore_errors=True)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> TargetRuns | None:
        """The runs in a folder; None if it is not one of several targets.

        Raises:
            DataError: `targets.json` is damaged.
        """
        path = Path(folder) / TARGETS
        if not path.is_file():
            return None
        values = read_json(path)
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values["table"].items()
        }
        table = TableOptions(**options)
        return cls(folder=Path(folder), targets=tuple(values["targets"]), table=table)


def check_targets(targets: Sequence[str]) -> None:
    """Raise UsageError unless the targets are several and different."""
    twice = [name for name, count in Counter(targets).items() if count > 1]
    if twice:
        raise UsageError(f"target {twice[0]!r} is named twice")
    if len(targets) < 2:
        raise UsageError(f"targets must be two columns or more; got {list(targets)}")


def options_of(target: str, targets: Sequence[str], table: TableOptions) -> TableOptions:
    """Options of the run of one target, which leave out the columns of the others.

    Example:
        >>> table = TableOptions(ignore=("id",), categorical=("b", "c"))
        >>> found = options_of("a", ["a", "b"], table)
        >>> found.target, found.ignore, found.categorical
        ('a', ('id', 'b'), ('c',))
    """
    others = [name for name in targets if name != target]
    kept = {role: tuple(n for n in getattr(table, role) if n not in others) for role in ROLES}
    ignored = dict.fromkeys((*table.ignore, *others))
    return dataclasses.replace(table, target=target, ignore=tuple(ignored), **kept)


def share_of(training: Training, count: int) -> Training:
    """Settings of one of `count` runs: of a time budget an equal share."""
    if training.seconds is None:
        return training
    return dataclasses.replace(training, seconds=training.seconds / count)


def fit_targets(
    path: str | os.PathLike[str] | Any,
    targets: Sequence[str],
    table: TableOptions | None = None,
    model: ModelOptions | None = None,
    training: Training | None = None,
    *,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, TableResult]:
    """Train a model for each of several columns of a table, from the columns that are no target.

    Targets may be numbers and classes together; those of two classes each are the labels of a
    multi-label problem. A row without a value of one target still counts for the others.

    Args:
        path, model, training: as for `downslope.table.fit.fit`; of `training.seconds` every target
            gets an equal share.
        targets: two columns or more.
        table: how to read the other columns; its target is left out.
        out: new folder of the runs `target-1` and so on, which `predict` takes; None keeps none.
        say: called with one sentence each about what was left out or assumed.

    Returns:
        The result of each target. After an interruption, those that were begun.

    Raises:
        DataError: the table is missing, corrupt or unusable, or `out` exists.
        UsageError: options that do not fit the table or each other; a target named twice.

    Example:
        >>> import numpy as np, pyarrow as pa
        >>> x = np.random.default_rng(0).normal(size=500)
        >>> frame = pa.table({"x": x, "double": 2 * x, "is_positive": x > 0})
        >>> linear = ModelOptions(model="linear")
        >>> found = fit_targets(frame, ["double", "is_positive"], model=linear)
        >>> found["double"].result.validation["r2"].value > 0.99
        True
        >>> found["is_positive"].result.validation["accuracy"].value > 0.9
        True
    """
    check_targets(targets)
    table = table or TableOptions()
    training = training or Training(seed=table.seed)
    runs = None
    if out is not None:
        check_free(Path(out))
        runs = TargetRuns(folder=Path(out), targets=tuple(targets), table=table)
        runs.begin()
    found = {}
    try:
        for name in targets:
            found[name] = fit(
                path,
                options_of(name, targets, table),
                model,
                share_of(training, len(targets)),
                out=None if runs is None else runs.runs[name],
                say=lambda sentence, name=name: say(f"{name}: {sentence}"),
            )
            if found[name].result.stop_reason is StopReason.INTERRUPTED:
                break
    finally:
        if runs is not None:
            runs.discard_if_empty()
    return found
