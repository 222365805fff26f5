"""Several targets of one table: a model for each, and predictions side by side.

Each target has a run of its own, on the rows that hold a value of it; no target is an input of the
others' models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downslope import (
    DataError,
    ModelOptions,
    RunReader,
    StopReason,
    TableOptions,
    Training,
    UsageError,
)
from downslope.storage import atomic_folder, read_signed, signed, write_json
from downslope.table.fit import TableResult, fit
from downslope.table.model import choose_model
from downslope.table.run import PLAIN, opened
from downslope.train.run_folder import check_free

TARGETS, FORMAT = "targets.json", "downslope targets 1"
ROLES = ("number", "categorical", "text", "ignore")


@dataclass(frozen=True, kw_only=True)
class TargetRuns:
    """Folder with a run for each of several targets.

    Attributes:
        folder: holds the runs `target-1`, `target-2` and so on, and `targets.json`.
        targets: the columns to predict, in the order of the runs.
        options: by part ("path", "table", "model", "training", "fingerprints"), what the runs begin
            with, as plain values.
    """

    folder: Path
    targets: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folder: str | os.PathLike[str],
        targets: Sequence[str],
        path: Any,
        table: TableOptions,
        model: ModelOptions,
        training: Training,
        fingerprints: Sequence[str] = (),
    ) -> TargetRuns:
        """Runs that are not begun.

        Args:
            training: of each run.
            fingerprints: of the training rows of each target.
        """
        is_path = isinstance(path, (str, os.PathLike))
        parts = {"table": table, "model": model, "training": training}
        options: dict[str, Any] = {name: _plain_values(part) for name, part in parts.items()}
        options["path"] = str(Path(path).resolve()) if is_path else None
        options["fingerprints"] = list(fingerprints)
        return cls(folder=Path(folder), targets=tuple(targets), options=options)

    @property
    def runs(self) -> dict[str, Path]:
        """Folder of the run of each target."""
        numbered = enumerate(self.targets, start=1)
        return {name: self.folder / f"target-{number}" for number, name in numbered}

    def is_finished(self, target: str) -> bool:
        """True if the run of a target was trained to its end."""
        run = self.runs[target]
        summary = RunReader(run).summary if run.exists() else None
        return summary is not None and summary.get("stop_reason") != str(StopReason.INTERRUPTED)

    def begin(self) -> None:
        """Make the folder.

        Raises:
            DataError: it exists, or cannot be created.
        """
        if (self.folder / TARGETS).is_file():
            remedy = f"choose another --out, or go on with --resume {self.folder}"
            raise DataError("already exists", path=self.folder, remedy=remedy)
        check_free(self.folder)
        values = {"format": FORMAT, "targets": list(self.targets), "options": self.options}
        with atomic_folder(self.folder, manifest=False) as scratch:
            write_json(scratch / TARGETS, signed(values))

    def discard_if_empty(self) -> None:
        """Remove the folder that `begin` made if it holds no run; nothing else is removed."""
        if not any(run.exists() for run in self.runs.values()):
            with contextlib.suppress(OSError):
                (self.folder / TARGETS).unlink()
                self.folder.rmdir()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> TargetRuns | None:
        """The runs in a folder; None if it is not one of several targets.

        Raises:
            DataError: `targets.json` is damaged, was edited, or has another format.
        """
        path = Path(folder) / TARGETS
        if not path.is_file():
            return None
        values = read_signed(path)
        if values.get("format") != FORMAT:
            raise DataError(f"not in the format {FORMAT!r}", path=path, remedy="restore it")
        return cls(folder=Path(folder), targets=tuple(values["targets"]), options=values["options"])


def _plain_values(options: Any) -> dict[str, Any]:
    """Fields as JSON keeps them; an optimizer that is an object is "optax"."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(options).items()}
    return {k: v if isinstance(v, (*PLAIN, list)) else "optax" for k, v in values.items()}


def check_target_columns(targets: Sequence[str], table: TableOptions) -> None:
    """Raise UsageError unless the targets are several, different, and named as nothing else."""
    twice = [name for name, count in Counter(targets).items() if count > 1]
    if twice:
        raise UsageError(f"target {twice[0]!r} is named twice")
    if len(targets) < 2:
        raise UsageError(f"targets must be two columns or more; got {list(targets)}")
    for role in ROLES:
        for name in targets:
            if name in getattr(table, role):
                raise UsageError(f"column {name!r} is named as target and as {role}")


def options_of(target: str, targets: Sequence[str], table: TableOptions) -> TableOptions:
    """Options of the run of one target, which leave out the columns of the others.

    Example:
        >>> found = options_of("a", ["a", "b"], TableOptions(ignore=("id",)))
        >>> found.target, found.ignore
        ('a', ('id', 'b'))
    """
    others = tuple(name for name in targets if name != target)
    return dataclasses.replace(table, target=target, ignore=(*table.ignore, *others))


def check_each(path: Any, tables: Iterable[TableOptions], model: ModelOptions) -> list[str]:
    """Convert the table for every target and choose its model, before the first is trained.

    Returns:
        The fingerprints of the training rows.

    Raises:
        DataError: the table is missing, corrupt or unusable.
        UsageError: options that do not fit the table, a target or each other.
    """
    found = []
    for table in tables:
        with opened(path, table) as stored:
            found.append(stored.train.fingerprint)
            try:
                choose_model(stored, model)
            except UsageError as error:
                raise UsageError(f"target {table.target!r}: {error}") from error
    return found


def check_rows(path: Any, table: TableOptions, fingerprint: str) -> None:
    """Raise MismatchError if the training rows of a target are not those of the fingerprint."""
    with opened(path, table, fingerprint):
        pass


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
    multi-label problem. A row without a value of one target still counts for the others. The table
    is converted for each of them. Model, loss and settings are the same for all.

    Args:
        path, model, training: as for `downslope.table.fit.fit`; of `training.seconds` every target
            gets an equal share.
        targets: two columns or more.
        table: how to read the other columns, without a target.
        out: new folder of the runs `target-1` and so on, which `predict` takes; None keeps none.
        say: called with one sentence each about what was left out or assumed.

    Returns:
        The result of each target. After an interruption, those that were begun;
        `downslope fit --resume` goes on with a table from a file.

    Raises:
        DataError: the table is missing, corrupt or unusable, or `out` exists.
        UsageError: options that do not fit the table, a target or each other; a target named twice.

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
    table, model = table or TableOptions(), model or ModelOptions()
    if table.target is not None:
        raise UsageError("table must have no target; targets are the second argument")
    check_target_columns(targets, table)
    training = share_of(training or Training(seed=table.seed), len(targets))
    tables = {name: options_of(name, targets, table) for name in targets}
    if out is not None:
        check_free(Path(out))
    prints = check_each(path, tables.values(), model)
    runs = None
    if out is not None:
        runs = TargetRuns.of(out, targets, path, table, model, training, prints)
        runs.begin()
    found = {}
    try:
        for name, options in tables.items():
            run = None if runs is None else runs.runs[name]

            def tell(sentence: str, name: str = name) -> None:
                say(f"{name}: {sentence}")

            found[name] = fit(path, options, model, training, out=run, say=tell)
            if found[name].result.stop_reason is StopReason.INTERRUPTED:
                break
    finally:
        if runs is not None:
            runs.discard_if_empty()
    return found
