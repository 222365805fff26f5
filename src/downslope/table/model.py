"""Models of a table: its encoding, the parameters' function and the loss of a row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope import ModelOptions, UsageError
from downslope.data.ingest.encoding import Encoding
from downslope.losses import NAMED
from downslope.models import Lookup, linear_apply, linear_init, mlp_apply, mlp_init

MARGINS = ("hinge", "squared_hinge")  # losses whose outputs are margins, not log-odds
FOR_TASK = {
    "classify": ("logistic", "softmax", *MARGINS),
    "regress": ("squared", "absolute", "huber"),
}


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """The function from a table's rows to predictions, without its parameters.

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
        """Outputs of the model: one, or one per class."""
        if self.encoding.task == "regress" or (self.num_classes == 2 and self.loss != "softmax"):
            return 1
        return self.num_classes

    @property
    def has_margins(self) -> bool:
        """True if outputs are margins, which only a calibration turns into probabilities."""
        return self.loss in MARGINS

    @property
    def target_unit(self) -> str:
        """Unit of a numeric target, for metrics and reports."""
        return f"unit of {self.encoding.target.name}"

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
        if self.has_margins and out.ndim == 2:  # one against the rest
            target = target[:, None] == jnp.arange(self.num_classes)
            return NAMED[self.loss](out, target.astype(out.dtype)).sum(-1)
        return NAMED[self.loss](out, target)

    def loss_fn(self, params: Any, batch: Any, key: Array) -> Array:
        """Weighted loss of every row [B]: what is minimised."""
        return batch.weight * self.losses(params, batch)

    def in_target_unit(self, standardised: Any) -> np.ndarray:
        """Outputs or targets of a regression in the target's own unit, float64."""
        # a large mean would swallow the digits of a float32
        target = self.encoding.target
        return target.mean + target.scale * np.asarray(standardised, np.float64)

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
        return cls(
            encoding=Encoding.from_json(values["encoding"]),
            options=ModelOptions(**values["options"]),
            loss=values["loss"],
        )


def choose_model(encoding: Encoding, options: ModelOptions) -> TableModel:
    """The model with its loss, after a check that they suit the task.

    Raises:
        UsageError: a model or a loss that is not for this task.
    """
    task, count, loss = encoding.task, len(encoding.classes), options.loss
    if options.model == "svm" and task == "regress":
        raise UsageError("model svm separates classes; use linear or mlp to predict numbers")
    if loss is None:
        of_classes = "hinge" if options.model == "svm" else "logistic" if count == 2 else "softmax"
        loss = "squared" if task == "regress" else of_classes
    if loss not in FOR_TASK[task]:
        raise UsageError(f"loss for {task} must be one of {', '.join(FOR_TASK[task])}; got {loss}")
    if loss == "logistic" and count > 2:
        raise UsageError(f"loss logistic is for two classes, the target has {count}; use softmax")
    if options.model == "svm" and loss not in MARGINS:
        raise UsageError(f"model svm takes hinge or squared_hinge; got {loss}")
    return TableModel(encoding=encoding, options=options, loss=loss)
