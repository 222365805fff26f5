"""Many updates in one compiled call, over the windows of a block.

The number of windows to run is an argument, not a shape: a short block, a time budget or
an interruption never recompiles, and the result does not depend on how an epoch was
divided into calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from downslope.noise.online.probes import (
    GROUP,
    Probe,
    compare,
    compare_updates,
    is_measured,
    most_measured,
    moves_anchor,
)
from downslope.objective import Objective
from downslope.step.gradient import make_gradients
from downslope.step.state import Knobs, State
from downslope.step.update import Move

Update = Callable[[State, Any, Knobs], tuple[State, Move]]


class CallMetrics(NamedTuple):
    """Per-call metrics, separate from the carry."""

    loss_sums: Array  # of each window, float [M]; zero for windows that were not run
    done: Array  # windows whose loss was finite; fewer than requested if one was not
    healthy: Array  # every loss was finite, and so are the parameters at the call's end
    probes: Array  # of the measured windows, float [K, F] in the order of `Probe`
    probe_steps: Array  # the updates they belong to, int32 [K]
    num_probes: Array  # number of those rows that are filled


def compile_steps(
    objective: Objective,
    update: Update,
    step_rows: int,
    *,
    accumulates: bool,
    measure_every: int | None = None,
    regularizer: Callable[[Any], Any] = lambda _: None,
    metric: Callable[[Any], Any] | None = None,
) -> Callable[..., tuple[State, CallMetrics]]:
    """`steps(state, rows, windows, knobs) -> (state, metrics)`; `state` is donated.

    A window whose loss is not finite ends the call and leaves a state to be discarded: the
    run returns to its last good one. Undoing the window here, by choosing between the old
    and the new state, would cost a third of a small net's time, since XLA could no longer
    update in place (measured).

    With `accumulates` a window is a part of an update, which is made once `ends` is set.

    With `measure_every`, one in this many updates is measured. Plain and measured windows have
    separate loops, one after the other inside a third: a branch inside a single loop would
    copy the state at every step. The branch around the second loop avoids a copy of the
    parameters in calls without measured windows. `regularizer(params)` is the gradient of
    what is added to the mean loss, or None: the same for both parts of a measured window.
    `metric(opt_state)` is that of `Optimizer`: the parts are compared in it too.
    """
    gradients = make_gradients(objective, step_rows, accumulates=accumulates)

    def finish(state: State, knobs: Knobs) -> tuple[State, Move]:
        after, move = update(state, state.gradient, knobs)
        return after._replace(gradient=jax.tree.map(jnp.zeros_like, state.gradient)), move

    def advance(state: State, grad: Any, ends: Array, knobs: Knobs) -> State:
        if not accumulates:
            return update(state, grad, knobs)[0]
        state = state._replace(gradient=jax.tree.map(jnp.add, state.gradient, grad))
        return lax.cond(ends, lambda s: finish(s, knobs)[0], lambda s: s, state)

    def weights(state: State) -> Any:
        if metric is None:
            return None
        # 1/sqrt of a mean of fewer than three squares has no finite variance
        known = state.step >= GROUP
        return jax.tree.map(lambda w: jnp.where(known, w, 0), metric(state.opt_state))

    def advance_measured(
        state: State, grad: Any, ends: Array, knobs: Knobs, before: Any
    ) -> tuple[State, dict[str, Array]]:
        if not accumulates:
            return _watched(state, *update(state, grad, knobs), before, measure_every or 1)
        state = state._replace(gradient=jax.tree.map(jnp.add, state.gradient, grad))
        unseen = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), _shapes(state, knobs))
        return lax.cond(
            ends,
            lambda s: _watched(s, *finish(s, knobs), before, measure_every or 1),
            lambda s: (s, unseen),
            state,
        )

    def _shapes(state: State, knobs: Knobs) -> Any:
        return jax.eval_shape(lambda s: _watched(s, *finish(s, knobs), s.params, 1)[1], state)

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state: State, rows: Any, windows: Any, knobs: Knobs) -> tuple[State, CallMetrics]:
        stop = windows.first + windows.count

        def goes_on(i: Array, metrics: CallMetrics) -> Array:
            return (i < stop) & metrics.healthy

        def plain(carry: Any) -> Any:
            i, state, metrics = carry
            loss, grad = gradients.whole(state, rows, windows, i)
            state = advance(state, grad, windows.ends[i], knobs)
            return i + 1, state, _note(metrics, i, loss)

        def measured(carry: Any) -> Any:
            i, state, metrics, before = carry
            parts = gradients.parts(state, rows, windows, i)
            found = compare(*parts[2:], regularizer(state.params), weights(state))
            step, params = state.step, state.params
            state, moved = advance_measured(state, parts.total, windows.ends[i], knobs, before)
            ended = windows.ends[i] if accumulates else True
            before = jax.tree.map(lambda b, p: jnp.where(ended, p, b), before, params)
            metrics = _note(metrics, i, parts.loss)
            return i + 1, state, _note_probe(metrics, Probe(**found, **moved), step), before

        every = measure_every or 1

        def measures_now(carry: Any) -> Array:
            return goes_on(carry[0], carry[2]) & is_measured(carry[1].step, every)

        def group(carry: Any) -> Any:
            carry = lax.while_loop(measures_now, measured, (*carry, carry[1].params))
            return carry[:3]

        def stretch(carry: Any) -> Any:
            carry = lax.while_loop(
                lambda c: goes_on(c[0], c[2]) & ~is_measured(c[1].step, every), plain, carry
            )
            return lax.cond(measures_now(carry), group, lambda c: c, carry)

        body = plain if measure_every is None else stretch
        loss = jax.eval_shape(lambda: gradients.whole(state, rows, windows, windows.first)[0])
        num_probes = len(windows.starts)
        if not accumulates:
            num_probes = min(num_probes, most_measured(num_probes, measure_every))
        carry = windows.first, state, _nothing(windows, loss.dtype, num_probes)
        _, state, metrics = lax.while_loop(lambda c: goes_on(c[0], c[2]), body, carry)
        return state, _checked(metrics, state.params)

    return steps


def _nothing(windows: Any, dtype: Any, num_probes: int) -> CallMetrics:
    wide = jnp.promote_types(dtype, jnp.float32)
    zero = jnp.zeros((), jnp.int32)
    return CallMetrics(
        loss_sums=jnp.zeros(windows.starts.shape, dtype),
        done=zero,
        healthy=jnp.array(True),
        probes=jnp.zeros((num_probes, len(Probe._fields)), wide),
        probe_steps=jnp.zeros((num_probes,), jnp.int32),
        num_probes=zero,
    )


def _note(metrics: CallMetrics, i: Array, loss: Array) -> CallMetrics:
    healthy = jnp.isfinite(loss)
    return metrics._replace(
        loss_sums=metrics.loss_sums.at[i].set(loss),
        done=metrics.done + healthy.astype(jnp.int32),
        healthy=healthy,
    )


def _note_probe(metrics: CallMetrics, probe: Probe, step: Array) -> CallMetrics:
    row = jnp.stack([jnp.asarray(value, metrics.probes.dtype) for value in probe])
    return metrics._replace(
        probes=metrics.probes.at[metrics.num_probes].set(row),
        probe_steps=metrics.probe_steps.at[metrics.num_probes].set(step),
        num_probes=metrics.num_probes + 1,
    )


def _watched(
    state: State, after: State, move: Move, before: Any, every: int
) -> tuple[State, dict[str, Array]]:
    """State after an update with its anchor moved when due, and the update's part of a probe.

    Args:
        state, after: before the update and after it.
        before: parameters one update earlier, or those of `state` if these are unknown.
    """
    found = {
        "square_gradient": move.square_gradient,
        "clipped": move.clipped.astype(jnp.float32),
        "learning_rate": move.learning_rate,
        **compare_updates(
            state.params,
            after.params,
            before=before,
            anchor=state.anchor,
            gradient=move.gradient,
        ),
    }
    now = moves_anchor(state.step, every)
    anchor = jax.tree.map(lambda a, p: jnp.where(now, p, a), state.anchor, after.params)
    return after._replace(anchor=anchor), found


def _checked(metrics: CallMetrics, params: Any) -> CallMetrics:
    """Count the last window as not done if it left parameters that are not finite.

    An update can break them after a finite loss, by a NaN gradient or a step too long. The next
    loss would show it, but a checkpoint or the end of the run may come first.
    """
    finite = jnp.all(jnp.stack([jnp.isfinite(p).all() for p in jax.tree.leaves(params)]))
    broken = metrics.healthy & ~finite
    return metrics._replace(
        done=metrics.done - broken.astype(jnp.int32), healthy=metrics.healthy & finite
    )
