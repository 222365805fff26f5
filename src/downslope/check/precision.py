"""Computing in float64 for one check, and finding out whether a loss allows it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from downslope.objective import Objective

# Equations whose inner program takes the same inputs, one for one.
CALLS = frozenset({"pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2"})


def wide() -> AbstractContextManager[Any]:
    """A context in which JAX has 64-bit numbers; nothing outside it changes."""
    return jax.enable_x64(True)


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays as `dtype`, everything else as it is."""

    def one(leaf: Any) -> Any:
        kind = getattr(leaf, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating) or kind == dtype:
            return leaf
        return leaf.astype(dtype)

    return jax.tree.map(one, tree)


def flatten(params: Any, dtype: Any) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """The trained leaves as one vector of `dtype`, and the way back; call it inside `wide`."""
    flat, unravel = ravel_pytree(cast(jax.tree.map(np.asarray, params), dtype))
    return np.asarray(flat), unravel


def make_losses(objective: Objective, dtype: Any) -> Callable[[Any, Any, Array], Array]:
    """`losses(params, rows, key)`, [B] or a scalar, computed on a batch of that type."""

    def losses(params: Any, rows: Any, key: Array) -> Array:
        batch = cast(objective.unpack(rows), dtype)
        return objective.loss(objective.model(params), batch, key)

    return losses


def narrowest(program: Any, num_params: int = 1) -> Any:
    """The narrowest floating type through which results depend on the first inputs.

    Args:
        program: a closed program of JAX (`jax.make_jaxpr` or the `jaxpr` of a traced function).
        num_params: leading inputs whose influence is followed.

    Example:
        >>> with wide():
        ...     program = jax.make_jaxpr(lambda x: x.astype("float32").sum())(np.zeros(2))
        >>> print(narrowest(program))
        float32
    """
    inner = program.jaxpr
    marked = [i < num_params for i in range(len(inner.invars))]
    found = {v.aval.dtype for v in inner.invars[:num_params]}
    found |= _types(inner, marked)[0]
    floats = [np.dtype(t) for t in found if jnp.issubdtype(t, jnp.floating)]
    return max(floats, key=lambda t: float(jnp.finfo(t).eps), default=np.dtype(np.float64))


def _types(program: Any, marked: list[bool]) -> tuple[set[Any], list[bool]]:
    """Types of all values that depend on the marked inputs, and which outputs do."""
    reached = {v for v, on in zip(program.invars, marked, strict=True) if on}
    found: set[Any] = set()
    for equation in program.eqns:
        inputs = [_is_variable(v) and v in reached for v in equation.invars]
        if not any(inputs):
            continue
        outputs = [True] * len(equation.outvars)
        loop = _loop_types(equation, inputs)
        if loop is not None:
            found |= loop[0]
            outputs = loop[1]
        for part in [] if loop is not None else _programs(equation.params):
            same = equation.primitive.name in CALLS and len(part.invars) == len(inputs)
            types, outs = _types(part, inputs if same else [True] * len(part.invars))
            found |= types
            outputs = outs if same and len(outs) == len(outputs) else outputs
        reached |= {v for v, on in zip(equation.outvars, outputs, strict=True) if on}
        found |= {v.aval.dtype for v in equation.outvars if v in reached and _has_type(v)}
    return found, [_is_variable(v) and v in reached for v in program.outvars]


def _loop_types(equation: Any, inputs: list[bool]) -> tuple[set[Any], list[bool]] | None:
    """The same for a loop, whose body sees constants, what is carried, and slices; else None."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        body, first = params["jaxpr"].jaxpr, params["num_consts"]
        num_carried, marked = params["num_carry"], list(inputs)
    elif name == "while":
        body, first = params["body_jaxpr"].jaxpr, params["body_nconsts"]
        num_carried, marked = len(equation.outvars), inputs[params["cond_nconsts"] :]
    else:
        return None
    while True:  # what is carried on depends on more inputs from one turn to the next
        found, outs = _types(body, marked)
        grown = [
            on or (first <= i < first + num_carried and outs[i - first])
            for i, on in enumerate(marked)
        ]
        if grown == marked:
            return found, outs
        marked = grown


def _is_variable(v: Any) -> bool:
    return not hasattr(v, "val")  # a literal has one


def _has_type(v: Any) -> bool:
    return hasattr(v.aval, "dtype")


def _programs(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation: bodies of loops, branches, calls."""
    found = []
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                found.append(each)
    return found
