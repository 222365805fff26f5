"""A point of training: settings, facts, parameters and a sample of rows, with its gradients."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope.estimate import Estimate
from downslope.noise.curvature.hessian import chunked_hessian_product, hessian_product
from downslope.noise.curvature.spectrum import Spectrum, extreme_eigenvalues, trace
from downslope.noise.survey.record import NotMeasured
from downslope.noise.temperature.dynamics import MomentumKind, unit_draws
from downslope.noise.trajectory import Trajectory

Losses = Callable[[Any, Any], Any]
NUM_DIRECTIONS = 10  # leading eigenvectors of the noise and of the Hessian that are used
PRODUCT_ROWS = 128  # gradients that meet the Hessian: each costs a product with all rows
GRADIENT_BYTES = 256 << 20  # of the matrix of gradients
CHUNK_BYTES = 16 << 20  # of the gradients made at once
PRODUCTS_AT_ONCE = 8
TRACE_PROBES = 32


@dataclass(frozen=True, kw_only=True)
class PointSettings:
    """Settings under which a point is trained.

    Attributes:
        batch_size: B, examples per update.
        num_rows: N, rows of the data set; None for a stream.
        learning_rate: eta, or None where it is not known.
        optimizer: its name, for messages.
        is_plain: a step is the gradient or its momentum times the rate; else the optimizer
            preconditions, and temperatures and saddle escapes have no formula.
        momentum: beta, 0 without.
        momentum_kind: None without momentum.
        interacts: a row's loss depends on the other rows of its batch, so that the batch is
            the unit.
        relative_error, miss_probability: the accuracy for which a batch size is asked.
        seed: of every random choice.
    """

    batch_size: int
    num_rows: int | None = None
    learning_rate: float | None = None
    optimizer: str = "sgd"
    is_plain: bool = True
    momentum: float = 0.0
    momentum_kind: MomentumKind | None = None
    interacts: bool = False
    relative_error: float = 0.5
    miss_probability: float = 0.1
    seed: int = 0

    @property
    def dynamics(self) -> dict[str, Any]:
        """Momentum, as the instruments take it."""
        return {"momentum": self.momentum, "momentum_kind": self.momentum_kind}

    @property
    def draws(self) -> dict[str, Any]:
        """Draws of an update's units, as the instruments take them."""
        return unit_draws(self.batch_size, self.num_rows, self.interacts)

    @property
    def unit_batch(self) -> int:
        """Units per update: examples, or one batch."""
        return self.draws["batch_size"]

    @property
    def num_units(self) -> int | None:
        """Units in the data set."""
        return self.draws["num_rows"]


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Facts beside the point; each opens a subject or a part of one.

    Attributes:
        row_numbers: [n], what to call the rows of the sample, or a function that gives the numbers
            of some places in it; by default their place.
        inputs: [n, p], the numbers that the model sees of the sample's rows.
        columns: columns of the stored table in its own order, for the order tests.
        labels: [N], its labels.
        visited: the same columns as training visits them.
        preconditioner: [d], the optimizer's sqrt(v) + epsilon, flat.
        accumulator: mean of the squares summed by AdaGrad, and the steps left.
        decays: decay of every moving average of the optimizer, by name.
        readings: what the run measured of itself, by name.
        losses: the latest training losses, for the edge of stability.
        trajectory: the path so far.
    """

    row_numbers: Any = None
    inputs: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = None
    visited: Mapping[str, Any] = field(default_factory=dict)
    preconditioner: Any = None
    accumulator: tuple[float, int] | None = None
    decays: Mapping[str, float] = field(default_factory=dict)
    readings: Mapping[str, Estimate] = field(default_factory=dict)
    losses: Any = None
    trajectory: Trajectory | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """Parameters and rows, with the gradients and products that the instruments take.

    Attributes:
        losses: `losses(params, rows) -> [n]`.
        params: a pytree of floating arrays.
        rows: a pytree of arrays [n, ...], a random sample.
        settings: under which it is trained.
    """

    losses: Losses
    params: Any
    rows: Any
    settings: PointSettings

    @functools.cached_property
    def dim(self) -> int:
        """d, the number of parameters."""
        return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(self.params))

    @functools.cached_property
    def num_rows(self) -> int:
        """n, rows of the sample."""
        return jax.tree.leaves(self.rows)[0].shape[0]

    @functools.cached_property
    def units(self) -> Any:
        """The rows by unit: [n, 1, ...], or [m, B, ...] where the examples of a batch interact."""
        size = self.settings.batch_size if self.settings.interacts else 1
        count = self.num_rows // size
        if count < 2:
            unit = f"batches of {size} rows, which interact" if self.settings.interacts else "rows"
            raise NotMeasured(f"needs at least two {unit}; got {self.num_rows} rows")
        return jax.tree.map(
            lambda a: a[: count * size].reshape(count, size, *a.shape[1:]), self.rows
        )

    @property
    def max_gradients(self) -> int:
        """Gradients [d] that fit into memory at once."""
        return max(32, GRADIENT_BYTES // (self._type.itemsize * self.dim))

    @functools.cached_property
    def _type(self) -> np.dtype:
        """Of gradients: float64 for parameters of float64, otherwise float32."""
        return jnp.result_type(jnp.float32, *jax.tree.leaves(self.params))

    @functools.cached_property
    def gradients(self) -> np.ndarray:
        """Gradients of the units [n, d], as many of them as fit into memory."""
        units = jax.tree.map(lambda a: a[: self.max_gradients], self.units)
        return np.asarray(_gradients(self.losses, self.params, units, self._type.name))

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """Both ends of the Hessian's spectrum and its leading eigenvectors."""
        num_rows = self.settings.num_rows
        return extreme_eigenvalues(
            self.matvec,
            self.dim,
            num_vectors=min(NUM_DIRECTIONS, self.dim),
            from_batch=num_rows is None or self.num_rows < num_rows,
            key=self.settings.seed,
        )

    @functools.cached_property
    def hessian_trace(self) -> Estimate:
        """Trace of the Hessian of the sample."""
        return trace(self.matvec, self.dim, TRACE_PROBES, self.settings.seed)

    @functools.cached_property
    def matvec(self) -> Callable[[Any], Any]:
        """v [d] -> H v [d] for the mean loss of the sample."""
        if self.settings.interacts:
            return hessian_product(_mean_over_units(self.losses), self.params, self.units)
        chunk = max(1, min(self.num_rows, 1024))
        return chunked_hessian_product(self.losses, self.params, self.rows, chunk_size=chunk)

    def products(self, vectors: Any) -> np.ndarray:
        """Hessian products of many vectors [k, d], some at once."""
        return np.asarray(self._many(jnp.asarray(vectors, self._type)))

    @functools.cached_property
    def _many(self) -> Callable[[Any], Any]:
        matvec = self.matvec  # made outside of the trace
        return jax.jit(lambda v: jax.lax.map(matvec, v, batch_size=PRODUCTS_AT_ONCE))

    def group_slices(self) -> dict[str, slice]:
        """The columns of each leaf of the parameters in `gradients`, by its path."""
        found, start = {}, 0
        for path, leaf in jax.tree_util.tree_flatten_with_path(self.params)[0]:
            size = math.prod(np.shape(leaf))
            found[jax.tree_util.keystr(path, simple=True, separator="/")] = slice(
                start, start + size
            )
            start += size
        return found


def _mean_over_units(losses: Losses) -> Callable[[Any, Any], Any]:
    return lambda params, units: jax.vmap(lambda rows: losses(params, rows).mean())(units).mean()


@functools.partial(jax.jit, static_argnums=(0, 3))
def _gradients(losses: Losses, params: Any, units: Any, dtype: str) -> Any:
    """Flat gradients of the mean loss of every unit, a chunk at a time."""
    dim = sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(params))

    def of_unit(rows: Any) -> Any:
        grad = jax.grad(lambda p: losses(p, rows).mean())(params)
        return ravel_pytree(grad)[0].astype(dtype)

    return jax.lax.map(of_unit, units, batch_size=max(1, CHUNK_BYTES // (4 * dim)))
