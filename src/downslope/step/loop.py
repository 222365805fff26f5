"""Many updates in one compiled call, over the windows of a block.

The number of windows to run is an argument, not a shape: a short block, a time budget or
an interruption never compile anew, and the result does not depend on how an epoch was
divided into calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from downslope.objective import Objective
from downslope.step.state import Knobs, State

Update = Callable[[State, Any, Knobs], State]


class Seen(NamedTuple):
    """What a call only looks at; it is never carried on.

    Attributes:
        loss_sums: sum of the losses of each window, float [M]; zero where none was run.
        done: windows whose loss was finite; fewer than asked when one was not.
        healthy: every loss was finite, and so are the parameters at the call's end.
    """

    loss_sums: Array
    done: Array
    healthy: Array


def compile_steps(
    objective: Objective, update: Update, step_rows: int, *, accumulates: bool
) -> Callable[..., tuple[State, Seen]]:
    """`steps(state, rows, windows, knobs) -> (state, seen)`; `state` is donated.

    A window whose loss is not finite ends the call and leaves a state to be thrown away: the
    run goes back to its last good one. Undoing the window here, by choosing between the old
    and the new state, would cost a third of a small net's time, since XLA could no longer
    update in place (measured).

    With `accumulates` a window is a part of an update, made when its `ends` is set.
    """

    def gradient(state: State, rows: Any, windows: Any, i: Array) -> tuple[Array, Any]:
        start = windows.starts[i]
        part = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, step_rows), rows)
        place = start + jnp.arange(step_rows)
        counted = (place >= windows.lows[i]) & (place < windows.highs[i])
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        if accumulates:
            key = jax.random.fold_in(key, windows.offsets[i])  # wherever the buffer begins
        return jax.value_and_grad(objective.loss_sum)(state.params, part, counted, key)

    def finish(state: State, knobs: Knobs) -> State:
        zeros = jax.tree.map(jnp.zeros_like, state.gradient)
        return update(state, state.gradient, knobs)._replace(gradient=zeros)

    def advance(state: State, grad: Any, ends: Array, knobs: Knobs) -> State:
        if not accumulates:
            return update(state, grad, knobs)
        state = state._replace(gradient=jax.tree.map(jnp.add, state.gradient, grad))
        return lax.cond(ends, lambda s: finish(s, knobs), lambda s: s, state)

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state: State, rows: Any, windows: Any, knobs: Knobs) -> tuple[State, Seen]:
        stop = windows.first + windows.count

        def unfinished(carry: Any) -> Array:
            i, _, seen = carry
            return (i < stop) & seen.healthy

        def body(carry: Any) -> Any:
            i, state, seen = carry
            loss, grad = gradient(state, rows, windows, i)
            healthy = jnp.isfinite(loss)
            state = advance(state, grad, windows.ends[i], knobs)
            seen = Seen(
                seen.loss_sums.at[i].set(loss), seen.done + healthy.astype(jnp.int32), healthy
            )
            return i + 1, state, seen

        dtype = jax.eval_shape(lambda: gradient(state, rows, windows, windows.first)[0]).dtype
        seen = Seen(
            jnp.zeros(windows.starts.shape, dtype), jnp.zeros((), jnp.int32), jnp.array(True)
        )
        _, state, seen = lax.while_loop(unfinished, body, (windows.first, state, seen))
        return state, _checked(seen, state.params)

    return steps


def _checked(seen: Seen, params: Any) -> Seen:
    """Counts the last window as not done where it left parameters that are not finite.

    An update can break them after a finite loss: a gradient of NaN, a step too long. The
    next loss would show it, but a checkpoint or the run's end may come before.
    """
    finite = jnp.all(jnp.stack([jnp.isfinite(p).all() for p in jax.tree.leaves(params)]))
    broken = seen.healthy & ~finite
    return seen._replace(done=seen.done - broken.astype(jnp.int32), healthy=seen.healthy & finite)
