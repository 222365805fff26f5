"""Models of a table: its encoding, the parameters' function and the loss of a row."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope import ModelOptions, UsageError
from downslope.data.ingest.encoding import Encoding
from downslope.data.stored import RowFile, StoredTable
from downslope.losses import NAMED, quantile
from downslope.models import (
    Lookup,
    linear_apply,
    linear_init,
    mlp_apply,
    mlp_init,
    weights_only,
)
from downslope.table.net import Net, Scaling, mean_logits

FIRST_BYTES, MIN_FIRST_ROWS = 16 << 20, 4096  # of training rows, to scale a net's numbers by
# Four members cost twice one's time, and took 2.7 % off the mean loss of six tables of up to 4,400
# rows (measured); on many rows one member is limited by time.
MEMBERS, FEW_ROWS = 4, 20_000
HIDDEN = {"mlp": (64, 64), "net": (128, 128, 128)}  # widths, where none are given
MARGINS = ("hinge", "squared_hinge")  # losses whose outputs are margins, not log-odds
FOR_TASK = {
    "classify": ("logistic", "softmax", *MARGINS),
    "regress": ("squared", "absolute", "huber", "poisson", "gamma"),
}
LOG_LINKS = ("poisson", "gamma")  # losses whose outputs are logarithms, of multiples of the mean


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """The function from a table's rows to predictions, without its parameters.

    Attributes:
        encoding: how columns become numbers.
        options: which model, and which loss.
        loss: the loss's name, resolved.
        parts: what predicts: "linear", "mlp" or "net", or two, whose predictions are averaged.
        scaling: of the numbers, for a net.
        members: nets that train side by side and whose predictions are averaged.
        class_weights: weight of each class in the loss that is minimised; empty without any.
    """

    encoding: Encoding
    options: ModelOptions
    loss: str
    parts: tuple[str, ...] = ("linear",)
    scaling: Scaling | None = None
    members: int = 1
    class_weights: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The model's name for people: where it was left to choose, that of what was chosen."""
        return self.options.model if self.options.model != "auto" else " and ".join(self.parts)

    @property
    def num_classes(self) -> int:
        """Classes, 0 for numbers."""
        return len(self.encoding.classes)

    @property
    def num_outputs(self) -> int:
        """Outputs of the model: one, or one per class or quantile."""
        if self.options.quantile:
            return len(self.options.quantile)
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
        """The parameters before training; with several parts a dict of theirs."""
        if len(self.parts) > 1:
            return {part: self.only(part).init(seed) for part in self.parts}
        if self.parts == ("net",):
            return self.net.init(seed)
        numbers, outputs = self.encoding.num_numeric, self.num_outputs
        if self.parts == ("mlp",):
            return mlp_init(numbers, self.lookups, self.options.hidden, outputs, seed)
        return linear_init(numbers, self.lookups, outputs)

    def penalized(self, params: Any) -> Any:
        """True for every leaf that L1 and L2 act on: biases, and a net's scales, are left alone."""
        return self.net.penalized(params) if self.parts == ("net",) else weights_only(params)

    def outputs(self, params: Any, batch: Any) -> Array:
        """Outputs [B, K], or [B] for a single one."""
        if len(self.parts) > 1:
            found = [self.only(part).outputs(params[part], batch) for part in self.parts]
            return self._mean(jnp.stack(found), clamps=False)
        if self.parts == ("net",):
            return self._in_order(self._mean(self._members(params, batch)))
        apply = mlp_apply if self.parts == ("mlp",) else linear_apply
        out = apply(params, self.lookups, batch)
        return out[:, 0] if self.num_outputs == 1 else self._in_order(out)

    def _in_order(self, outputs: Array) -> Array:
        """Quantiles that rise with their levels; sorted ones are never worse.

        Source: Chernozhukov, Fernandez-Val and Galichon (2010), theorem 1.
        """
        return jnp.sort(outputs) if self.options.quantile and outputs.ndim > 1 else outputs

    def point(self, outputs: Any) -> Any:
        """Outputs [n] that stand for a number: of several quantiles the one nearest the median."""
        levels = self.options.quantile
        if len(levels) < 2:
            return outputs
        return outputs[:, min(range(len(levels)), key=lambda place: abs(levels[place] - 0.5))]

    def outputs_and_spread(self, params: Any, batch: Any) -> tuple[Array, Array]:
        """Outputs [B] of a model of numbers, and how far its members or parts scatter, [B]."""
        if len(self.parts) > 1:
            each = [self.only(part).outputs(params[part], batch) for part in self.parts]
            found = jnp.stack(each)
        elif self.parts == ("net",):
            found = self._members(params, batch)
        else:
            out = self.outputs(params, batch)
            return out, jnp.zeros_like(out)
        return self._mean(found, clamps=self.parts == ("net",)), found.std(0)

    def only(self, part: str) -> TableModel:
        """The model with one part alone."""
        return dataclasses.replace(self, parts=(part,))

    def losses(self, params: Any, batch: Any) -> Array:
        """Loss of every row [B], without its weight."""
        return self._losses(self.outputs(params, batch), batch.y)

    def _losses(self, out: Array, target: Any) -> Array:
        if self.loss in LOG_LINKS:
            scaled = self.encoding.target
            target = 1 + target * np.float32(scaled.scale / scaled.mean)
        if self.options.quantile:
            return quantile(out, target, self.options.quantile)
        if self.has_margins and out.ndim == 2:  # one against the rest
            target = target[:, None] == jnp.arange(self.num_classes)
            return NAMED[self.loss](out, target.astype(out.dtype)).sum(-1)
        return NAMED[self.loss](out, target)

    def loss_fn(self, params: Any, batch: Any, key: Array) -> Array:
        """Weighted loss of every row [B]: what is minimised."""
        if self.parts != ("net",):
            return self.evaluated_loss_fn(params, batch, key)
        found = jax.vmap(self._losses, (0, None))(self._members(params, batch, key), batch.y)
        return self._weight(batch) * found.mean(0)

    def evaluated_loss_fn(self, params: Any, batch: Any, key: Array) -> Array:
        """Weighted loss of every row [B] as predictions have it: without dropout."""
        return self._weight(batch) * self.losses(params, batch)

    def _weight(self, batch: Any) -> Array:
        if not self.class_weights:
            return batch.weight
        return batch.weight * jnp.take(jnp.array(self.class_weights), batch.y.astype("int32"))

    @functools.cached_property
    def net(self) -> Net:
        """The net's function of rows and parameters."""
        assert self.scaling is not None
        return Net(
            scaling=self.scaling,
            lookups=self.lookups,
            hidden=self.options.hidden,
            num_outputs=self.num_outputs,
            members=self.members,
        )

    def _members(self, params: Any, batch: Any, key: Array | None = None) -> Array:
        out = self.net.outputs(params, batch, key)
        return out[..., 0] if self.num_outputs == 1 else out

    def _mean(self, members: Array, *, clamps: bool = True) -> Array:
        """Outputs of the mean prediction, from those of each member or part."""
        if self.loss in LOG_LINKS:
            return jax.nn.logsumexp(members, axis=0) - math.log(len(members))
        if self.encoding.task == "regress":
            return self.net.clamped(members.mean(0)) if clamps else members.mean(0)
        return members.mean(0) if self.has_margins else mean_logits(members)

    def in_target_unit(self, outputs: Any) -> np.ndarray:
        """Outputs of a regression as predictions in the target's own unit, float64."""
        if self.loss in LOG_LINKS:
            return self.encoding.target.mean * np.exp(np.asarray(outputs, np.float64))
        return self.encoding.target.in_own_unit(outputs)

    def spread_in_target_unit(self, predicted: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Spread of outputs as one of predictions, to first order."""
        if self.loss in LOG_LINKS:
            return predicted * spread
        return self.encoding.target.scale * spread

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes an equal model."""
        return {
            "recipe": "table",
            "task": self.encoding.task,
            "loss": self.loss,
            "options": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self.options).items()
            },
            "encoding": self.encoding.to_json(),
            "parts": list(self.parts),
            "members": self.members,
            "class_weights": list(self.class_weights),
            "scaling": self.scaling and self.scaling.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TableModel:
        """The model that `to_json` described."""
        return cls(
            encoding=Encoding.from_json(values["encoding"]),
            options=ModelOptions(**values["options"]),
            loss=values["loss"],
            parts=tuple(values["parts"]),
            members=values["members"],
            class_weights=tuple(values.get("class_weights", ())),
            scaling=values.get("scaling") and Scaling.from_json(values["scaling"]),
        )


def choose_model(stored: StoredTable, options: ModelOptions) -> TableModel:
    """The model that is trained, with its loss, after a check that they suit the task.

    That of `auto` is the net: the linear one comes from `downslope.table.auto`.

    Raises:
        UsageError: a model or a loss that is not for this task.
    """
    encoding = stored.encoding
    task, count, loss = encoding.task, len(encoding.classes), options.loss
    if options.model == "svm" and task == "regress":
        raise UsageError("model svm separates classes; use linear or net to predict numbers")
    if options.quantile:
        if task == "classify":
            raise UsageError(
                "quantiles are of numbers; the target has classes, or give task regress"
            )
        loss = "quantile"
    if loss is None:
        of_classes = "hinge" if options.model == "svm" else "logistic" if count == 2 else "softmax"
        loss = "squared" if task == "regress" else of_classes
    if loss not in (*FOR_TASK[task], "quantile"):
        raise UsageError(f"loss for {task} must be one of {', '.join(FOR_TASK[task])}; got {loss}")
    if loss == "logistic" and count > 2:
        raise UsageError(f"loss logistic is for two classes, the target has {count}; use softmax")
    if options.model == "svm" and loss not in MARGINS:
        raise UsageError(f"model svm takes hinge or squared_hinge; got {loss}")
    if loss in LOG_LINKS and not encoding.target.mean > 0:
        mean = encoding.target.mean
        raise UsageError(f"loss {loss} is for targets above 0; their mean is {mean:g}")
    if options.class_weight is not None and task == "regress":
        raise UsageError("class_weight is for classes, and the target is a number")
    part = {"auto": "net", "mlp": "mlp", "net": "net"}.get(options.model, "linear")
    # kept with the model: a later default must not change one that is trained
    options = dataclasses.replace(options, hidden=options.hidden or HIDDEN.get(part, ()))
    return TableModel(
        encoding=encoding,
        options=options,
        loss=loss,
        parts=(part,),
        scaling=scaling_of(stored.train, encoding) if part == "net" else None,
        members=MEMBERS if stored.num_train <= FEW_ROWS else 1,
        class_weights=balance_of(stored.train, count) if options.class_weight else (),
    )


def balance_of(train: RowFile, num_classes: int) -> tuple[float, ...]:
    """Weights that give every class the same sum, from the first training rows."""
    batch = _first_rows(train)
    counts = np.bincount(batch.y.astype(int), batch.weight, minlength=num_classes)
    return tuple((counts.sum() / num_classes / np.maximum(counts, 1)).tolist())


def scaling_of(train: RowFile, encoding: Encoding) -> Scaling:
    """Scaling of a net's numbers, from the first training rows: they are in random order."""
    batch = _first_rows(train)
    num_indicators = sum(column.indicator for column in encoding.dense)
    return Scaling.of(batch.x, batch.y, num_indicators)


def _first_rows(train: RowFile) -> Any:
    most = max(MIN_FIRST_ROWS, FIRST_BYTES // train.row_bytes)
    return train.unpack(train.read(0, min(most, train.num_rows)))
