"""Tables: predict one column from the others, on data of any size."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import downslope
from downslope import (
    DataError,
    ModelOptions,
    Result,
    StopReason,
    TableOptions,
    Training,
    UsageError,
)
from downslope.data.ingest.encoding import Encoding
from downslope.data.stored import StoredTable
from downslope.losses import NAMED
from downslope.metrics import ClassificationMetrics, RegressionMetrics, Results
from downslope.models import (
    Lookup,
    linear_apply,
    linear_init,
    mlp_apply,
    mlp_init,
    weights_only,
)
from downslope.table.calibration import calibrate
from downslope.train.run_folder import check_free

MARGINS = {"hinge", "squared_hinge"}
FOR_TASK = {
    "classify": ("logistic", "softmax", "hinge", "squared_hinge"),
    "regress": ("squared", "absolute", "huber"),
}
CALIBRATION_ROWS = 50_000  # training rows whose margins calibrate an SVM's probabilities


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """What maps a table's rows to predictions, but for its parameters.

    Attributes:
        encoding: how columns become numbers.
        options: which model, and which loss.
        loss: the loss's name, resolved.
    """

    encoding: Encoding
    options: ModelOptions
    loss: str

    @property
    def num_classes(self) -> int:
        """Classes, 0 for numbers."""
        return len(self.encoding.classes)

    @property
    def num_outputs(self) -> int:
        """Outputs of the model: one, or one a class."""
        if self.encoding.task == "regress" or (self.num_classes == 2 and self.loss != "softmax"):
            return 1
        return self.num_classes

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The tables of parameters for coded columns."""
        return tuple(Lookup(*table) for table in self.encoding.tables)

    def init(self, seed: int) -> Any:
        """The parameters before training."""
        numbers, outputs = self.encoding.num_numeric, self.num_outputs
        if self.options.model == "mlp":
            return mlp_init(numbers, self.lookups, self.options.hidden, outputs, seed)
        return linear_init(numbers, self.lookups, outputs)

    def outputs(self, params: Any, batch: Any) -> Array:
        """Outputs [B, K], or [B] for a single one."""
        apply = mlp_apply if self.options.model == "mlp" else linear_apply
        out = apply(params, self.lookups, batch)
        return out[:, 0] if self.num_outputs == 1 else out

    def losses(self, params: Any, batch: Any) -> Array:
        """Loss of every row [B], without its weight."""
        out, target = self.outputs(params, batch), batch.y
        if self.loss in MARGINS and out.ndim == 2:  # one against the rest
            target = target[:, None] == jnp.arange(self.num_classes)
            return NAMED[self.loss](out, target.astype(out.dtype)).sum(-1)
        return NAMED[self.loss](out, target)

    def loss_fn(self, params: Any, batch: Any, key: Array) -> Array:
        """Weighted loss of every row [B]: what is minimised."""
        return batch.weight * self.losses(params, batch)

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes an equal model."""
        return {
            "recipe": "table",
            "task": self.encoding.task,
            "loss": self.loss,
            "options": dataclasses.asdict(self.options) | {"hidden": list(self.options.hidden)},
            "encoding": self.encoding.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TableModel:
        """The model that `to_json` described."""
        options = values["options"] | {"hidden": tuple(values["options"]["hidden"])}
        return cls(
            encoding=Encoding.from_json(values["encoding"]),
            options=ModelOptions(**options),
            loss=values["loss"],
        )


class TableScorer:
    """Loss and task metrics of a table model on held-out rows, weighted as the rows are."""

    def __init__(self, model: TableModel):
        self.table_model = model

    def score(self, model: Any, batch: Any, losses: Array) -> dict[str, Array]:
        """Per-row arrays for the accumulator."""
        out = self.table_model.outputs(model, batch)
        found = {
            "losses": self.table_model.losses(model, batch),
            "targets": batch.y,
            "weight": batch.weight,
            "outputs": out,
        }
        if self.table_model.encoding.task == "classify" and self.table_model.loss not in MARGINS:
            found["probabilities"] = jax.nn.sigmoid(out) if out.ndim == 1 else jax.nn.softmax(out)
        return found

    def accumulator(self) -> Any:
        """Metrics of the model's task."""
        encoding = self.table_model.encoding
        if encoding.task == "regress":
            return _Numbers(encoding)
        margins = self.table_model.loss in MARGINS
        return _Classes(ClassificationMetrics(len(encoding.classes), probabilities=not margins))


class _Numbers:
    def __init__(self, encoding: Encoding):
        self.metrics = RegressionMetrics(f"unit of {encoding.target.name}")
        self.mean, self.scale = encoding.target_mean, encoding.target_scale

    def add(self, losses: Any, targets: Any, weight: Any, outputs: Any) -> None:
        # in float64: a large mean would swallow the digits of a float32
        predictions = self.mean + self.scale * outputs.astype("float64")
        truth = self.mean + self.scale * targets.astype("float64")
        self.metrics.add(losses, predictions, truth, weight)

    def result(self) -> Results:
        return self.metrics.result()


class _Classes:
    def __init__(self, metrics: ClassificationMetrics):
        self.metrics = metrics

    def add(
        self, losses: Any, targets: Any, weight: Any, outputs: Any, probabilities: Any = None
    ) -> None:
        classes = targets.astype("int32")
        # Log-odds rank rows whose probability rounds to 1; logits of several classes cannot be
        # compared between rows, their probabilities can.
        ranks = outputs if probabilities is None or outputs.ndim == 1 else None
        self.metrics.add(losses, probabilities, classes, weight, scores=ranks)

    def result(self) -> Results:
        return self.metrics.result()


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """A trained table model: the run's `result`, the `model`, and `notes` on the table."""

    result: Result
    model: TableModel
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values, for JSON."""
        first = {"task": self.model.encoding.task, "model": self.model.options.model}
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
    look: Callable[[StoredTable, TableOptions], Iterable[Any]] = lambda *_: (),
) -> TableResult:
    """A model that predicts one column of a table from the others.

    The table is converted once (`downslope.open`), then trained on and evaluated block by
    block, so it may be larger than memory.

    Args:
        path: Parquet file or folder of them, Arrow IPC, CSV, `.npy` or `.npz`; or a data frame
            (pandas, polars, Arrow), whose index, if it has one, is no column.
        table: the target, and how to read the columns.
        model: which model and loss; by default a linear one.
        training: how to descend.
        out, resume, readers: as for `downslope.fit`.
        say: called with one sentence each about what was left out or assumed.
        look: gives what there is to say about the converted table, such as
            `downslope.table.check.worries`.

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
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    for note in stored.notes:
        say(note)
    with contextlib.closing(stored):
        for finding in look(stored, table):
            say(str(finding))
        chosen = choose_model(stored.encoding, model or ModelOptions())
        training = training or Training(seed=table.seed)
        result = downslope.fit(
            chosen.loss_fn,
            chosen.init(training.seed),
            stored.train,
            validation=stored.held_out,
            scorer=TableScorer(chosen),
            penalize=weights_only,
            metadata=chosen.to_json() | _request(path, table),
            describe=lambda params: _calibration(chosen, params, stored),
            out=out,
            resume=resume,
            readers=readers,
            **{f.name: getattr(training, f.name) for f in dataclasses.fields(training)},
        )
    return TableResult(result=result, model=chosen, notes=stored.notes)


def _request(path: str | os.PathLike[str] | Any, table: TableOptions) -> dict[str, Any]:
    """What was asked of this recipe, to be asked again by a resumed run; a frame has no path."""
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(table).items()}
    is_path = isinstance(path, (str, os.PathLike))
    return {"path": str(Path(path).resolve()) if is_path else None, "table": options}


def request_of(run: str | os.PathLike[str]) -> dict[str, Any]:
    """What a run on a table was asked: `path`, and the `table`, `model`, `training` options.

    Raises:
        DataError: the folder is no run on a table.
    """
    asked = downslope.read_request(run)
    metadata = asked["metadata"]
    if metadata.get("recipe") != "table":
        raise DataError("was not trained on a table", path=run, remedy="resume it in Python")
    if metadata["path"] is None:
        raise DataError("was trained on a data frame", path=run, remedy="resume it in Python")
    return {
        "path": metadata["path"],
        "table": metadata["table"],
        "model": metadata["options"],
        "training": asked["training"],
    }


def describe(
    found: TableResult, path: str | os.PathLike[str], *, report: str | Path | None = None
) -> str:
    """What a person wants to know at the end: the score, the model, what to type next.

    Args:
        found: what training gave.
        path: the table.
        report: the page that was written about the run.
    """
    result = found.result
    lines = []
    if result.validation is not None:
        lines += [f"held out   {name} {found}" for name, found in result.validation.items()]
        lines += [f"held out   {name}: {why}" for name, why in result.validation.reasons.items()]
    count = f"{result.num_epochs or 0:.3g}"
    epochs = "" if result.num_epochs is None else f"{count} epoch{'s' * (count != '1')}, "
    lines.append(
        f"trained    {epochs}{result.num_steps:,} steps of {result.batch_size:,} examples "
        f"in {result.seconds:.1f} s"
    )
    scale = result.measurements.get("noise_scale")
    if scale is not None and (scale.is_measured or scale.lo is not None):
        lines.append(f"noise      as large as the gradient at a batch of {scale}")
    at = f" at step {result.diverged_at_step:,}" if result.diverged_at_step else ""
    lines.append(f"stopped    {result.stop_reason}{at}: {result.stop_reason.advice}")
    if result.run is not None:
        lines.append(f"model      {result.run}")
        if report is not None:
            lines.append(f"report     {report}")
        lines.append(f"next       {_next_command(result, path)}")
    return "\n".join(lines)


def _next_command(result: Result, path: str | os.PathLike[str]) -> str:
    if result.stop_reason is StopReason.INTERRUPTED:
        return shlex.join(["downslope", "fit", "--resume", str(result.run)])
    words = ["downslope", "predict", str(result.run), str(path), "--out", "predictions.parquet"]
    return shlex.join(words)


def choose_model(encoding: Encoding, options: ModelOptions) -> TableModel:
    """The model with its loss, after checking that they suit the task."""
    task, count = encoding.task, len(encoding.classes)
    if options.model == "svm" and task == "regress":
        raise UsageError("model svm separates classes; use linear or mlp to predict numbers")
    default = "squared" if task == "regress" else "logistic" if count == 2 else "softmax"
    loss = options.loss or ("hinge" if options.model == "svm" else default)
    if loss not in FOR_TASK[task]:
        raise UsageError(f"loss for {task} must be one of {', '.join(FOR_TASK[task])}; got {loss}")
    if loss == "logistic" and count > 2:
        raise UsageError(f"loss logistic is for two classes, the target has {count}; use softmax")
    if options.model == "svm" and loss not in MARGINS:
        raise UsageError(f"model svm takes hinge or squared_hinge; got {loss}")
    return TableModel(encoding=encoding, options=options, loss=loss)


def _calibration(model: TableModel, params: Any, stored: StoredTable) -> dict[str, Any]:
    """For margins: the maps to probabilities, learned on training rows."""
    if model.loss not in MARGINS:
        return {}
    rows = stored.train.read(0, min(CALIBRATION_ROWS, stored.num_train))
    batch = stored.train.unpack(rows)
    margins = jax.device_get(jax.jit(model.outputs)(params, batch))
    return {"calibration": calibrate(margins, batch.y.astype(int), batch.weight)}
