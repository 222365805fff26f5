"""Normalisation of a layer's inputs by a mini-batch, by parts of it, or by frozen statistics.

A net is a function `net(model, inputs, norm)` that hands its layers' inputs to `norm`, each under
a name of its own:

    def net(model, x, norm):
        hidden = jax.nn.relu(norm("hidden", x @ model["into"], model["norm"]))
        return hidden @ model["out"]

Which statistics are taken is the caller's choice of `norm`, so one function serves training, the
exact pass at the end, and prediction. Inputs have the shape [rows, ..., features]; statistics are
taken over everything but the features, and variances divide by the number of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from downslope.arguments import number, whole
from downslope.errors import UsageError

EPSILON = 1e-5  # added to variances, in squared units of the inputs; the usual choice
Layer = Mapping[str, Any]  # learned "scale" and "shift" [features], either or both


class Statistics(NamedTuple):
    """Mean and variance of a layer's inputs.

    Attributes:
        mean, variance: [features], or [laboratories, features].
        weight: rows behind them, or their weights summed: one number, or [laboratories].
    """

    mean: Any
    variance: Any
    weight: Any


class Norm(Protocol):
    """What a net is given to normalise with: one of `by_batch`, `by_ghost`, `by_lab`, `frozen`."""

    def __call__(self, name: str, h: Any, layer: Layer | None = None) -> Array:
        """The normalised inputs `h` of the layer called `name`, with its scale and shift."""
        ...


def init(width: int, *, scale: bool = True, shift: bool = True) -> dict[str, np.ndarray]:
    """The learned part of a layer, a plain dict of arrays: scale of ones, shift of zeros.

    Args:
        width: features.
        scale, shift: whether there is one. Without either, call `norm(name, h)`.

    Example:
        >>> init(2)
        {'scale': array([1., 1.], dtype=float32), 'shift': array([0., 0.], dtype=float32)}
    """
    whole("width", width)
    parts = {"scale": np.ones(width, np.float32), "shift": np.zeros(width, np.float32)}
    return {name: parts[name] for name, on in (("scale", scale), ("shift", shift)) if on}


def by_batch(*, epsilon: float = EPSILON) -> Norm:
    """Normalises by the mini-batch: the loss of a row then depends on the rows beside it.

    Where rows of several laboratories are in it, the gap between them stays as it is.

    Args:
        epsilon: added to variances.

    Example:
        >>> by_batch()("h", jnp.array([[1.0], [3.0]])).round(3).ravel().tolist()
        [-1.0, 1.0]

    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    check_epsilon(epsilon)

    def norm(name: str, h: Any, layer: Layer | None = None) -> Array:
        check_shape(name, h)
        return learned(_normalised(h, epsilon), layer)

    return norm


def by_ghost(rows: int, *, epsilon: float = EPSILON) -> Norm:
    """Normalises by groups of so many neighbouring rows, whatever the mini-batch's size.

    What a row's loss is on average then depends on `rows` alone, so mini-batches of any size from
    `rows` on estimate one loss without bias; and where a micro-batch is a multiple of `rows`,
    dividing a batch into micro-batches changes nothing. If the size of a batch is no multiple, its
    last rows are normalised by the last `rows` of them, some of which stand in the group before.

    Args:
        rows: of a group, 2 or more. A batch with fewer is one group.
        epsilon: added to variances.

    Example:
        >>> h = jnp.array([[1.0], [3.0], [10.0], [30.0]])
        >>> by_ghost(2)("h", h).round(3).ravel().tolist()
        [-1.0, 1.0, -1.0, 1.0]

    Source: Hoffer, Hubara and Soudry 2017, algorithm 1.
    """
    check_epsilon(epsilon)
    whole("rows", rows, least=2)

    def norm(name: str, h: Any, layer: Layer | None = None) -> Array:
        check_shape(name, h)
        num, whole = h.shape[0], h.shape[0] - h.shape[0] % rows
        if num <= rows:
            return learned(_normalised(h, epsilon), layer)
        groups = h[:whole].reshape(whole // rows, rows, *h.shape[1:])
        found = jax.vmap(lambda g: _normalised(g, epsilon))(groups).reshape(whole, *h.shape[1:])
        if whole < num:
            last = _normalised(h[num - rows :], epsilon)[rows - (num - whole) :]
            found = jnp.concatenate([found, last])
        return learned(found, layer)

    return norm


def frozen(layers: Mapping[str, Statistics], lab: Any = None, *, epsilon: float = EPSILON) -> Norm:
    """Normalises by given statistics, so that rows do not depend on each other.

    Args:
        layers: the statistics of each layer by name, as `population_statistics` finds them.
        lab: whole numbers [rows], where the statistics are those of laboratories. One that they
            do not have gives NaN inside a compiled function, and an error outside.
        epsilon: added to variances.

    Raises:
        UsageError: a number of a laboratory that the statistics do not have.

    Example:
        >>> norm = frozen({"h": Statistics(np.array([10.0]), np.array([4.0]), 100)})
        >>> norm("h", jnp.array([[12.0]])).round(3).ravel().tolist()
        [1.0]
    """
    check_epsilon(epsilon)

    def norm(name: str, h: Any, layer: Layer | None = None) -> Array:
        check_shape(name, h)
        if name not in layers:
            raise UsageError(f"norm has statistics of {', '.join(layers)}; got a layer {name!r}")
        mean, variance = (jnp.asarray(v, h.dtype) for v in layers[name][:2])
        if mean.ndim == 2:
            codes = _codes(lab, len(mean))
            middle = (1,) * (h.ndim - 2)
            mean, variance = (
                jnp.take(v, codes, axis=0, mode="fill", fill_value=jnp.nan).reshape(
                    -1, *middle, v.shape[1]
                )
                for v in (mean, variance)
            )
        return learned((h - mean) * jax.lax.rsqrt(variance + epsilon), layer)

    return norm


def near_zero(h: Any) -> Array:
    """Inputs less some of them: a mean far from 0 then costs no digits, a constant gives 0."""
    return h - jax.lax.stop_gradient(h.reshape(-1, h.shape[-1])[0])


def _normalised(h: Any, epsilon: float) -> Array:
    axes = tuple(range(h.ndim - 1))
    d = near_zero(h)
    d = d - d.mean(axis=axes, keepdims=True)
    return d * jax.lax.rsqrt((d * d).mean(axis=axes, keepdims=True) + epsilon)


def learned(h: Any, layer: Layer | None) -> Array:
    """Normalised inputs with the learned scale and shift.

    Raises:
        UsageError: a layer of other parts.
    """
    for name in layer or {}:
        if name not in ("scale", "shift"):
            raise UsageError(f"layer must have scale and shift, either or both; got {name!r}")
    if layer and "scale" in layer:
        h = h * layer["scale"]
    return h + layer["shift"] if layer and "shift" in layer else h


def _codes(lab: Any, num_labs: int) -> Array:
    if lab is None:
        raise UsageError("lab must be given where the statistics are those of laboratories")
    if not isinstance(lab, Tracer):
        known = np.asarray(lab)
        wrong = known[(known < 0) | (known >= num_labs)]
        if wrong.size:
            raise UsageError(
                f"lab must be a number from 0 to {num_labs - 1}, one of those with statistics; "
                f"got {wrong.flat[0]}"
            )
    lab = jnp.asarray(lab)
    return jnp.where(lab < 0, num_labs, lab)  # a negative place would count from the end


def check_shape(name: str, h: Any) -> None:
    """Raises UsageError where a layer's inputs are no rows of numbers."""
    if h.ndim < 2 or not jnp.issubdtype(h.dtype, jnp.floating):
        raise UsageError(
            f"inputs of layer {name!r} must be floating-point numbers [rows, ..., features]; "
            f"got {h.dtype} of shape {list(h.shape)}"
        )


def check_epsilon(epsilon: float) -> None:
    """Raises UsageError where variances cannot be divided by."""
    number("epsilon", epsilon, above=0)
