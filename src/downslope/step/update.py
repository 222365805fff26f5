"""One update: from the sum of a batch's gradients to new parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from downslope.config import Training
from downslope.noise.online.probes import dot
from downslope.step.optimizers import Optimizer, evaluation_params
from downslope.step.state import Knobs, State

TAIL = 10.0  # power of the weights of a tail average; 4 was a little worse (measured)


class Move(NamedTuple):
    """Details of an update; free if they are not used."""

    gradient: Any  # that the optimizer got
    square_gradient: Array  # its squared norm before clipping
    clipped: Array  # clipping shortened it
    learning_rate: Array  # with the schedule's factor


def make_update(
    optimizer: Optimizer,
    factor: Callable[[Array, Array, Array], Array],
    training: Training,
    penalized: Any,
    regularizer: Callable[[Any], Any],
    *,
    clips: bool,
) -> Callable[[State, Any, Knobs], tuple[State, Move]]:
    """`update(state, gradient_sum, knobs) -> (state, move)`, one step of the optimizer.

    The sum is divided by the batch size even if a last batch is short, so that every example
    has the same weight in every epoch.

    `penalized` is a tree of bools: the parameters that L1 acts on. `regularizer` gives the gradient
    of what is added to the mean loss. With `clips`, gradients are shortened to the knob's norm.
    """
    l1 = training.l1

    def update(state: State, gradient_sum: Any, knobs: Knobs) -> tuple[State, Move]:
        params = state.params
        done = knobs.done_at_start + state.step * knobs.done_per_step
        rate = knobs.learning_rate * factor(state.step, done, knobs.done_per_step)
        gradient = jax.tree.map(lambda g: g / knobs.batch_size.astype(g.dtype), gradient_sum)
        extra = regularizer(params)
        if extra is not None:
            gradient = jax.tree.map(jnp.add, gradient, extra)
        square, clipped = dot(gradient, gradient), jnp.array(False)
        if clips:
            clipped = square > knobs.clip_norm**2
            gradient = clip(gradient, knobs.clip_norm)
        updates, opt_state = optimizer.build(rate).update(gradient, state.opt_state, params)
        if optimizer.weight_decay is not None:
            share = rate * knobs.weight_decay
            updates = jax.tree.map(
                lambda u, p: u - share * p if optimizer.is_decayed(p) else u, updates, params
            )
        params = optax.apply_updates(params, updates)
        if l1 and optimizer.l1_scale is not None:
            scale = optimizer.l1_scale(opt_state, rate, params)
            params = jax.tree.map(
                lambda p, s, on: soft_threshold(p, l1 * s) if on else p, params, scale, penalized
            )
        average = state.average
        if average is not None:
            kept = evaluation_params(opt_state, params)
            share = _average_share(state.step, knobs.average_from, training)
            average = jax.tree.map(lambda a, p: a + share.astype(p.dtype) * (p - a), average, kept)
        after = state._replace(
            params=params, opt_state=opt_state, average=average, step=state.step + 1
        )
        return after, Move(gradient, square, clipped, rate)

    return update


def clip(gradient: Any, norm: Array) -> Any:
    """Gradient, scaled down to `norm` if its global norm is larger."""
    scale = jnp.minimum(1.0, norm / jnp.maximum(optax.tree.norm(gradient), 1e-30))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)


def soft_threshold(p: Array, threshold: Array) -> Array:
    """Proximal step of `threshold * |p|`: smaller values become exactly 0.

    Example:
        >>> import jax.numpy as jnp
        >>> soft_threshold(jnp.array([-3.0, 0.5, 2.0]), jnp.float32(1.0)).tolist()
        [-2.0, 0.0, 1.0]
    """
    return jnp.sign(p) * jnp.maximum(jnp.abs(p) - threshold, 0.0)


def _average_share(step: Array, first: Array, training: Training) -> Array:
    """Weight of the newest parameters in the average after update number `step`.

    With n the number of averaged steps, from `first` on:
    polyak: 1/n, the plain mean. tail: (g + 1)/(g + n), a mean whose weights rise as the g-th power
    of the step, about that of the last 1/g of the steps whatever their number (Shamir & Zhang
    2013, section 4). ema: (1-d)/(1-d^n), which is an exponential average started from zero and
    corrected for it (Kingma & Ba 2015, 3). Before averaging begins the share is 1: the average
    follows the parameters.
    """
    n = jnp.maximum(step - first + 1, 1).astype(jnp.float32)
    if training.average == "tail":
        return (TAIL + 1.0) / (TAIL + n)
    if training.average == "polyak":
        return 1.0 / n
    decay = training.ema_decay
    # 1 - d^n in float32 would lose all digits of a d near 1
    return (1.0 - decay) / -jnp.expm1(n * math.log(decay))


def evaluated_params(state: State) -> Any:
    """Parameters that a run evaluates and keeps: averaged ones if there are any."""
    if state.average is not None:
        return state.average
    return evaluation_params(state.opt_state, state.params)
