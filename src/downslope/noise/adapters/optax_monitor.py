"""Gradient noise of an optax training loop, measured by a link of its chain (JAX)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.noise.scale.steps import Noise, from_terms


class NoiseState(NamedTuple):
    """State of the link: estimates of the last `window` steps, oldest overwritten first.

    Attributes:
        signal, trace: [window] float32, unbiased for |G|^2 and tr Sigma of each step.
        num_steps: int32, steps so far.
        num_examples: [window] float32, examples of each step.
    """

    signal: jax.Array
    trace: jax.Array
    num_examples: jax.Array
    num_steps: jax.Array


def measure_noise(
    microbatch_size: int = 1, *, window: int = 100
) -> optax.GradientTransformationExtraArgs:
    """First link of an optax chain that averages gradients over a leading axis and measures noise.

    Its updates are gradients [m, ...] of m >= 2 examples, microbatches or devices; it passes on
    their mean [...], so that the rest of the chain stays as it was. With b examples in each of the
    m gradients g_k and m_ their mean: tr Sigma = b sum |g_k - m_|^2/(m - 1),
    |G|^2 = |m_|^2 - tr Sigma/(b m), in float32 or wider. The state keeps its shapes and types under
    `jax.jit` and `jax.lax.scan`.

    Args:
        microbatch_size: b, examples behind each gradient, the same in all.
        window: steps behind `read_noise`, at least 2.

    Raises:
        UsageError: a number below its least; in `update`, fewer than 2 gradients.

    Example:
        >>> optimizer = optax.chain(measure_noise(), optax.sgd(0.01))
        >>> def loss(w, x): return 0.5 * ((w - x) ** 2).sum()  # G = w, Sigma = variance of x
        >>> w = jnp.ones(100)
        >>> opt_state = optimizer.init(w)
        >>> for step in range(20):
        ...     x = jax.random.normal(jax.random.key(step), (16, 100))
        ...     grads = jax.vmap(jax.grad(loss), in_axes=(None, 0))(w, x)
        ...     updates, opt_state = optimizer.update(grads, opt_state, w)
        >>> print(read_noise(opt_state).trace)
        100.5 (99.1 to 102.0) (loss/parameter)^2

    Source: McCandlish et al. (2018), An empirical model of large-batch training, appendix A.1.
    """
    whole("microbatch_size", microbatch_size)
    whole("window", window, least=2)

    def init(params: optax.Params) -> NoiseState:
        del params
        # three arrays, not one thrice: a state whose buffers are donated must not share them
        return NoiseState(
            signal=jnp.zeros(window, jnp.float32),
            trace=jnp.zeros(window, jnp.float32),
            num_examples=jnp.zeros(window, jnp.float32),
            num_steps=jnp.zeros((), jnp.int32),
        )

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, NoiseState)
        del params, extra_args
        count = _leading_axis(updates)
        mean, signal, trace = _moments(updates, count, microbatch_size)
        place = state.num_steps % window
        new = NoiseState(
            signal=state.signal.at[place].set(signal.astype(jnp.float32)),
            trace=state.trace.at[place].set(trace.astype(jnp.float32)),
            num_examples=state.num_examples.at[place].set(float(count * microbatch_size)),
            num_steps=jnp.asarray(optax.safe_increment(state.num_steps)),
        )
        return mean, new

    return optax.GradientTransformationExtraArgs(init, update)


def _leading_axis(updates: optax.Updates) -> int:
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(updates)}
    if len(counts) != 1 or min(counts) < 2:
        raise UsageError(
            "updates must be gradients [m, ...] with the same m >= 2, before they are averaged; "
            f"got leading axes {sorted(counts)}"
        )
    return counts.pop()


def _moments(
    updates: optax.Updates, count: int, microbatch_size: int
) -> tuple[optax.Updates, jax.Array, jax.Array]:
    """Mean gradient and the unbiased estimates of |G|^2 and tr Sigma."""
    square_mean = square_gap = jnp.zeros((), jnp.float32)
    means = []
    leaves, structure = jax.tree.flatten(updates)
    for leaf in leaves:
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        mean = wide.mean(axis=0)
        means.append(mean.astype(leaf.dtype))
        square_mean = square_mean + jnp.sum(mean * mean)
        square_gap = square_gap + jnp.sum((wide - mean) ** 2)
    trace = microbatch_size * square_gap / (count - 1)
    signal = square_mean - trace / (microbatch_size * count)
    return jax.tree.unflatten(structure, means), signal, trace


def read_noise(opt_state: optax.OptState, *, interacting: bool = False) -> Noise:
    """Noise over the last `window` steps, from an optimizer state that holds the link's state.

    Call it outside `jax.jit`; it waits for the device.

    Args:
        opt_state: state of a chain with one `measure_noise` in it, at any depth.
        interacting: the loss of one example depends on the others of its microbatch.

    Raises:
        UsageError: no such link in the state, or several.
    """
    is_link = lambda node: isinstance(node, NoiseState)  # noqa: E731
    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_link) if is_link(node)]
    if len(found) != 1:
        raise UsageError(f"opt_state must hold one `measure_noise`; got {len(found)}")
    state: NoiseState = jax.device_get(found[0])
    kept = min(int(state.num_steps), len(state.signal))
    signal, trace = (np.asarray(x[:kept], np.float64) for x in (state.signal, state.trace))
    examples = int(state.num_examples[:kept].sum())
    return from_terms(signal, trace, num_examples=examples, interacting=interacting)
