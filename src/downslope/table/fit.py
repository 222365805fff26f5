"""Tables: predict one column from the others, on data of any size."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

import downslope
from downslope import ModelOptions, Result, StopReason, TableOptions, Training
from downslope.data.stored import StoredTable
from downslope.table.auto import Choice
from downslope.table.calibration import calibrate
from downslope.table.intervals import calibrated
from downslope.table.model import TableModel, choose_model
from downslope.table.run import opened, request_metadata
from downslope.table.scores import TableScorer
from downslope.table.training import settings_of
from downslope.train.run_folder import check_free

CALIBRATION_ROWS = 50_000  # training rows whose margins calibrate an SVM's probabilities


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """A trained table model: the run's `result`, the `model`, and `notes` on the table."""

    result: Result
    model: TableModel
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values, for JSON."""
        first = {"task": self.model.encoding.task, "model": self.model.name}
        return {**first, "loss": self.model.loss, **self.result.summary()}


def fit(
    path: str | os.PathLike[str] | Any,
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    readers: tuple[Callable[[dict[str, Any]], None], ...] = (),
    say: Callable[[str], None] = lambda _: None,
    check: Callable[[StoredTable, TableOptions], Iterable[Any]] = lambda *_: (),
) -> TableResult:
    """Train a model that predicts one column of a table from the others.

    The table is converted once (`downslope.open`), then trained on and evaluated block by
    block, so it may be larger than memory.

    Args:
        path: Parquet file or folder of them, Arrow IPC, CSV, `.npy` or `.npz`; or a data frame
            (pandas, polars, Arrow), whose index, if it has one, is no column.
        table: the target, and how to read the columns.
        model: which model and loss; by default linear, a net, or both, as held-out rows say.
        training: how to train.
        out, resume, readers: as for `downslope.fit`.
        say: called with one sentence each about what was left out or assumed.
        check: returns findings on the converted table to say before training, such as
            `downslope.table.check.quick_checks`.

    Raises:
        DataError: the table is missing, corrupt or unusable.
        UsageError: options that do not fit the table or each other.

    Example:
        >>> import numpy as np, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "table.npz")
        >>> x = np.random.default_rng(0).normal(size=(2000, 3))
        >>> np.savez(path, x=x, y=x @ [1.0, -2.0, 0.5])
        >>> found = fit(path, TableOptions(target="y"), training=Training(batch_size=32))
        >>> found.result.validation["r2"].value > 0.99
        True
    """
    if out is not None:
        check_free(Path(out))
    with opened(path, table) as stored:
        for sentence in (*stored.notes, *map(str, check(stored, table))):
            say(sentence)
        chosen = choose_model(stored, model or ModelOptions())
        training = training or Training(seed=table.seed)
        asked, conclude = training, None
        if chosen.options.model == "auto":
            conclude = Choice(chosen, stored, training, resumes=resume is not None)
            training = conclude.training
        training = settings_of(chosen, training, stored.num_train)
        result = downslope.fit(
            chosen.loss_fn,
            chosen.init(training.seed),
            stored.train,
            validation=stored.held_out,
            validation_loss=chosen.evaluated_loss_fn,
            scorer=TableScorer(chosen),
            penalize=chosen.penalized,
            metadata=chosen.to_json() | request_metadata(path, table, asked),
            conclude=conclude,
            describe=lambda params: _final(conclude.model if conclude else chosen, params, stored),
            out=out,
            resume=resume,
            readers=readers,
            **{f.name: getattr(training, f.name) for f in dataclasses.fields(training)},
        )
    final = conclude.model if conclude else chosen
    return TableResult(result=result, model=final, notes=stored.notes)


def describe(
    found: TableResult,
    path: str | os.PathLike[str],
    *,
    report: str | Path | None = None,
    proposes: bool = True,
) -> str:
    """The score, the model and the next command, in lines for a person.

    Args:
        found: what training returned.
        path: the table.
        report: the page written about the run.
        proposes: end with the next command.
    """
    result, lines = found.result, []
    if result.validation is not None:
        scores = [
            "; ".join((f"{name} {estimate}", *(estimate.flags if name == "accuracy" else ())))
            for name, estimate in result.validation.items()
            # said twice, or in no unit that people know
            if name != "loss"
            or found.model.loss not in ("logistic", "softmax", "squared", "quantile")
        ]
        scores += [f"{name}: {reason}" for name, reason in result.validation.reasons.items()]
        lines += [f"held out   {score}" for score in scores]
    count = f"{result.num_epochs or 0:.3g}"
    epochs = "" if result.num_epochs is None else f"{count} epoch{'s' * (count != '1')}, "
    lines.append(
        f"trained    {epochs}{result.num_steps:,} steps of {result.batch_size:,} examples "
        f"in {result.seconds:.1f} s"
    )
    own = result.measurements.get("preconditioned_noise_scale")
    scale = result.measurements.get("noise_scale") if own is None else own
    if scale is not None and (scale.is_measured or scale.lo is not None):
        metric = "" if own is None else " in the optimizer's metric"
        lines.append(f"noise      as large as the gradient{metric} at a batch of {scale}")
    at = f" at step {result.diverged_at_step:,}" if result.diverged_at_step else ""
    lines.append(f"stopped    {result.stop_reason}{at}: {result.stop_reason.advice}")
    if result.run is not None:
        lines.append(f"model      {result.run}")
        if report is not None:
            lines.append(f"report     {report}")
        if proposes:
            lines.append(f"next       {_next_command(result, path)}")
    return "\n".join(lines)


def _next_command(result: Result, path: str | os.PathLike[str]) -> str:
    if result.stop_reason is StopReason.INTERRUPTED:
        return shlex.join(["downslope", "fit", "--resume", str(result.run)])
    return predict_command(result.run, path)


def predict_command(run: Any, path: str | os.PathLike[str]) -> str:
    """Command that predicts rows like those of a table with a run."""
    suffixes = Path(path).suffixes
    ending = "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:]) or ".parquet"
    words = ["downslope", "predict", str(run), f"NEW{ending}"]
    return shlex.join([*words, "--out", "predictions.parquet"])


def _final(model: TableModel, params: Any, stored: StoredTable) -> dict[str, Any]:
    """The model that was trained, with what maps margins to probabilities, and to intervals."""
    if not model.has_margins:
        found = calibrated(model, params, stored)
        return model.to_json() | {"intervals": found and dataclasses.asdict(found)}
    batch = stored.train.unpack(stored.train.read(0, min(CALIBRATION_ROWS, stored.num_train)))
    margins = jax.device_get(jax.jit(model.outputs)(params, batch))
    calibration = calibrate(margins, batch.y.astype(int), batch.weight)
    return model.to_json() | {"calibration": calibration}
