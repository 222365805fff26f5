"""Time and memory of an update of Adam at a batch size, without `downslope.fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.selftuning.workloads.workload import Workload, take

LEAST_SECONDS = 0.2  # of a timed call
MOST_UPDATES = 1 << 14


class Updates:
    """Compiled updates of Adam on one batch size, each with a rate of its own.

    Args:
        workload: where the rows come from; a batch is drawn with replacement.
    """

    def __init__(self, workload: Workload, batch_size: int):
        self._workload, self._batch_size = workload, batch_size
        rule = optax.scale_by_adam()

        def update(state: Any, rows: Any, rate: Any, number: Any) -> tuple[Any, Any]:
            model, opt_state = state
            key = jax.random.fold_in(jax.random.key(0), number)
            loss, gradient = jax.value_and_grad(
                lambda model: workload.loss(model, rows, key).mean()
            )(model)
            steps, opt_state = rule.update(gradient, opt_state, model)
            return (jax.tree.map(lambda p, s: p - rate * s, model, steps), opt_state), loss

        model = jax.tree.map(jnp.asarray, workload.model(0))
        self.start = model, rule.init(model)
        given = self.start, self.rows(0), jnp.float32(0), jnp.int32(0)
        self._update: Any = jax.jit(update).lower(*given).compile()
        analysis = self._update.memory_analysis()
        self.memory_bytes = 0 if analysis is None else int(analysis.temp_size_in_bytes)

    def rows(self, number: int) -> Any:
        """Batch of that number."""
        workload, size = self._workload, self._batch_size
        if workload.num_rows is None:
            return workload.train.batch(seed=0, number=number, num_rows=size)  # type: ignore[union-attr]
        places = np.random.default_rng(number).integers(workload.num_rows, size=size)
        return take(workload.train, places)

    def make(self, state: Any, rate: float, number: int) -> tuple[Any, float]:
        """State after an update, and the loss before it."""
        state, loss = self._update(state, self.rows(number), jnp.float32(rate), jnp.int32(number))
        return state, float(loss)


def update_seconds(workload: Workload, batch_size: int) -> float:
    """Seconds of an update inside a compiled loop over one batch."""
    rule, model = optax.adam(1e-3), jax.tree.map(jnp.asarray, workload.model(0))
    if workload.num_rows is None:
        rows = workload.train.batch(seed=0, number=0, num_rows=batch_size)  # type: ignore[union-attr]
    else:
        rows = take(workload.train, np.arange(batch_size) % workload.num_rows)
    key = jax.random.key(0)

    @jax.jit
    def updates(state: Any, count: Any) -> Any:
        def update(i: Any, state: Any) -> Any:
            model, opt_state = state
            gradient = jax.grad(
                lambda model: workload.loss(model, rows, jax.random.fold_in(key, i)).mean()
            )(model)
            changes, opt_state = rule.update(gradient, opt_state, model)
            return optax.apply_updates(model, changes), opt_state

        return jax.lax.fori_loop(0, count, update, state)

    state = model, rule.init(model)
    jax.block_until_ready(updates(state, 1))
    return _timed(lambda count: jax.block_until_ready(updates(state, count)))


def _timed(make: Callable[[int], Any]) -> float:
    """Seconds of one of many, from the first call that is long enough."""
    count = 1
    while True:
        begin = time.perf_counter()
        make(count)
        seconds = time.perf_counter() - begin
        if seconds >= LEAST_SECONDS or count >= MOST_UPDATES:
            return seconds / count
        count *= 4
