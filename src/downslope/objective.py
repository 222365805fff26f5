"""Objective of training: the mean of a loss over independent examples, plus a penalty."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope.errors import UsageError

Model = Any  # a pytree
Params = Any  # the model with None in place of every leaf that is not trained
Loss = Callable[[Model, Any, Array], Array]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss over examples and a penalty on the model, ready to be differentiated.

    `loss(model, batch, key)` gives losses [B], or a scalar. If examples interact, the loss of one
    depends on the others of its batch, and a gradient per example does not exist.
    """

    loss: Loss
    unpack: Callable[[Any], Any]  # turns stored rows into the batch that `loss` takes
    fixed: Any  # the model's leaves that are not trained, None elsewhere
    penalty: Callable[[Model], Array] | None
    separable: bool  # the loss has one value per example
    interacts: bool

    def model(self, params: Params) -> Model:
        """Whole model, trained leaves and fixed ones."""
        return merge(params, self.fixed)

    def losses(self, params: Params, rows: Any, key: Array) -> Array:
        """Loss of every row, [B]; a scalar loss is repeated for every row."""
        batch = self.unpack(rows)
        value = self.loss(self.model(params), batch, key)
        if self.separable:
            return value
        return jnp.broadcast_to(value, (jax.tree.leaves(rows)[0].shape[0],))

    def loss_sum(self, params: Params, rows: Any, counted: Array, key: Array) -> Array:
        """Sum of the losses of the rows that `counted` [B] selects."""
        losses = self.losses(params, rows, key)
        # Not a product: an uncounted row's infinite loss would turn into a NaN.
        return jnp.where(counted, losses, 0.0).sum()

    def penalty_gradient(self, params: Params) -> Params | None:
        """Gradient of the penalty, or None without one."""
        penalty = self.penalty
        return penalty and jax.grad(lambda p: penalty(self.model(p)))(params)


def make_regularizer(
    objective: Objective, l2: float, penalized: Any
) -> Callable[[Params], Params | None]:
    """`regularizer(params)`: gradient of the smooth terms beside the mean loss, or None.

    They are the objective's penalty, and `l2 / 2 * |w|^2` where `penalized` is true.
    """

    def of_l2(params: Params) -> Params:
        return jax.tree.map(lambda p, on: l2 * p if on else jnp.zeros_like(p), params, penalized)

    def regularizer(params: Params) -> Params | None:
        extra = objective.penalty_gradient(params)
        if not l2:
            return extra
        return of_l2(params) if extra is None else jax.tree.map(jnp.add, extra, of_l2(params))

    return regularizer


def penalized_mask(penalize: Callable[[Model], Any] | None, model: Model, params: Params) -> Any:
    """Tree of bools over exactly the trained leaves, from `penalize(model)`; all without it."""

    def chosen(p: Any, on: Any) -> bool | None:
        if p is not None and not isinstance(on, (bool, np.bool_)):
            raise ValueError(f"{on!r} is not a bool")
        return None if p is None else bool(on)

    if penalize is None:
        return jax.tree.map(lambda _: True, params)
    mask = penalize(model)
    try:
        return jax.tree.map(chosen, params, mask, is_leaf=lambda p: p is None)
    except ValueError as error:
        rule = "penalize must give a tree of bools like the model, one for every array"
        raise UsageError(f"{rule}; {str(error).splitlines()[0]}") from error


def build(
    loss: Loss,
    model: Model,
    example_rows: Any,
    unpack: Callable[[Any], Any],
    penalty: Callable[[Model], Array] | None = None,
    *,
    num_rows: int = 2,
) -> tuple[Objective, Params]:
    """Objective and trained part of the model, with the loss's shape checked.

    Args:
        example_rows: a few rows, to trace the loss with.
        num_rows: rows that the loss takes at once.

    Raises:
        UsageError: the model has nothing to train, or the loss has a wrong shape or type.
    """
    params, fixed = split(model)
    if not jax.tree.leaves(params):
        raise UsageError("model has no floating-point array to train; give a pytree of arrays")
    objective = Objective(
        loss=loss, unpack=unpack, fixed=fixed, penalty=penalty, separable=True, interacts=False
    )
    separable = _is_separable("loss", objective, params, example_rows, num_rows)
    term = penalty and jax.eval_shape(lambda p: penalty(merge(p, fixed)), params)
    if term is not None and _shape(term) != ():
        raise UsageError(
            f"penalty must return a scalar; it returned {jax.tree.map(lambda s: s.shape, term)}"
        )
    return dataclasses.replace(objective, separable=separable, interacts=not separable), params


def of_held_out(
    objective: Objective, loss: Loss, params: Params, example_rows: Any, num_rows: int
) -> Objective:
    """The objective with another loss, for held-out rows; arguments as for `build`.

    Raises:
        UsageError: the loss has a wrong shape or type, or not the one of the training loss.
    """
    found = dataclasses.replace(objective, loss=loss)
    if _is_separable("validation_loss", found, params, example_rows, num_rows) != found.separable:
        raise UsageError(
            "validation_loss and loss must both return one number per example, or both a scalar"
        )
    return found


def _is_separable(
    name: str, objective: Objective, params: Params, example_rows: Any, num_rows: int
) -> bool:
    """True for a loss with a value per example, False for a scalar; others are refused."""

    def traced(num: int) -> Any:
        rows = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((num, *a.shape[1:]), jnp.result_type(a)), example_rows
        )
        return jax.eval_shape(
            lambda p, r: objective.loss(objective.model(p), objective.unpack(r), jax.random.key(0)),
            params,
            rows,
        )

    out, num = traced(num_rows), num_rows
    if _shape(out) == (num,):  # of the batch's length, or of a length that happens to equal it?
        out, num = traced(2 * num), 2 * num
    if _shape(out) not in ((), (num,)):
        raise UsageError(
            f"{name} must return one number per example, shape (B,), or a scalar; "
            f"for B = {num} it returned {jax.tree.map(lambda s: s.shape, out)}"
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise UsageError(f"{name} must return floating-point numbers; got {out.dtype}")
    return out.shape != ()


def _shape(out: Any) -> tuple[int, ...] | None:
    return out.shape if isinstance(out, jax.ShapeDtypeStruct) else None


def split(model: Model) -> tuple[Params, Any]:
    """Trained leaves (floating-point arrays) and the others, None where the other part has one."""
    if type(model) in (dict, list, tuple) and any(
        isinstance(leaf, float) for leaf in jax.tree.leaves(model)
    ):
        warnings.warn(
            "the model holds plain Python numbers; only arrays are trained, so write "
            "numpy.float32(0) instead of 0.0 where a number is meant to be learned",
            stacklevel=3,
        )
    params = jax.tree.map(lambda leaf: leaf if _is_trained(leaf) else None, model)
    fixed = jax.tree.map(lambda leaf: None if _is_trained(leaf) else leaf, model)
    return params, fixed


def merge(params: Params, fixed: Any) -> Model:
    """Inverse of `split`."""
    return jax.tree.map(
        lambda p, f: f if p is None else p, params, fixed, is_leaf=lambda leaf: leaf is None
    )


def _is_trained(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.floating)) and jnp.issubdtype(
        leaf.dtype, jnp.floating
    )
