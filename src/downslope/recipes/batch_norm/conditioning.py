"""How well each layer's inputs are conditioned before and after normalising."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from downslope.arguments import whole
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature import condition_number
from downslope.recipes.batch_norm.layer import Statistics
from downslope.recipes.batch_norm.passes import (
    SAMPLE_ROWS,
    Net,
    divided,
    inputs_of_layers,
    layer_shapes,
    rows_of,
)
from downslope.recipes.batch_norm.population import Population

MOST_FEATURES = 1024  # beyond it the eigenvalues of 20 groups of rows take minutes; assumed
MOST_JACOBIANS = 64  # rows
JACOBIAN_NUMBERS = 1 << 23  # of all rows' Jacobians: 32 MiB
RANK = 1e-6  # of the largest singular value, in float32
ROUNDING = 1e-6  # of a mean: what is left of a constant's spread in float32
WHITENING = (
    "Normalising divides by each feature's spread, so what is left is the condition number of the "
    "correlations; only whitening, not batch normalisation, makes it 1 for any inputs."
)


@dataclass(frozen=True, kw_only=True)
class LayerConditioning:
    """Condition numbers at one layer: largest over smallest.

    Attributes:
        name: of the layer.
        num_features: of its inputs.
        constant: features that never change; they are left out.
        before: of its inputs' covariance (eigenvalues).
        after: of the normalised inputs' covariance, which are correlations.
        jacobian_before: of the Jacobian [features, net's inputs] of what the layer is given, one
            row of data at a time (singular values), the median over rows.
        jacobian_after: of the same, normalised by the frozen statistics.
    """

    name: str
    num_features: int
    constant: tuple[int, ...]
    before: Estimate
    after: Estimate
    jacobian_before: Estimate
    jacobian_after: Estimate

    def __str__(self) -> str:
        constant = f"; {len(self.constant)} constant features left out" if self.constant else ""
        return (
            f"layer {self.name!r}, {self.num_features} features{constant}\n"
            f"  covariance  before {self.before}, after {self.after}\n"
            f"  Jacobian    before {self.jacobian_before}, after {self.jacobian_after}"
        )


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Condition numbers of every layer.

    Attributes:
        layers: one for each, in the order of the net.
    """

    layers: tuple[LayerConditioning, ...]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.layers), WHITENING])


def conditioning(
    net: Net,
    model: Any,
    data: Any,
    population: Population,
    *,
    lab: Any = None,
    inputs: Callable[[Any], Any] | None = None,
    num_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> Conditioning:
    """Condition numbers of each layer's inputs and of their Jacobian, before and after.

    From a random sample of rows, with 95 % intervals: a jackknife over groups of rows for
    covariances, order statistics over rows for Jacobians. Few rows a feature bias the covariances'
    up, which is flagged.

    Args:
        net, model, data, lab, inputs: as for `population_statistics`.
        population: what that found.
        num_rows: of the sample, at most.
        seed: of the sample.

    Example:
        >>> x = np.float32(np.random.default_rng(0).normal(size=(4096, 2)))
        >>> net = lambda model, x, norm: norm("stretched", x @ model)
        >>> stretch = np.diag(np.float32([10, 1]))
        >>> from downslope.recipes.batch_norm import population_statistics
        >>> found = conditioning(net, stretch, x, population_statistics(net, stretch, x))
        >>> print(found.layers[0].jacobian_before, "to", found.layers[0].jacobian_after)
        10 to 1.02

    Source: LeCun, Bottou, Orr and Mueller 1998, section 4.3, for standardised inputs.
    """
    whole("num_rows", num_rows)
    whole("seed", seed, least=0)
    rows = rows_of(data, lab=lab, weight=None, inputs=inputs, block_rows=SAMPLE_ROWS)
    places, sample = rows.sample(num_rows, seed)
    codes = None
    if population.labs is not None:
        of_rows = None if rows.labs is None else [rows.labs[i] for i in rows.codes[places]]
        codes = population.codes(of_rows)
    order = layer_shapes(net, model, sample)
    arrays, with_arrays = divided(model)

    @jax.jit
    def given(arrays: Any, sample: Any, codes: Any) -> Any:
        found = inputs_of_layers(net, with_arrays(arrays), population.epsilon)
        return found(sample, codes, population.layers)

    found = given(arrays, sample, codes)
    jacobian_of = _jacobians(net, model, population, sample, codes)
    return Conditioning(
        layers=tuple(
            _of_layer(name, np.asarray(found[name]), population.layers[name], codes, jacobian_of)
            for name in order
        )
    )


Jacobian = tuple[np.ndarray, np.ndarray] | str  # places of rows and [rows, features, inputs]


def _of_layer(
    name: str,
    h: np.ndarray,
    known: Statistics,
    codes: np.ndarray | None,
    jacobian_of: Callable[[str], Jacobian],
) -> LayerConditioning:
    mean, sd = np.asarray(known.mean, np.float64), np.sqrt(np.asarray(known.variance, np.float64))
    alive = np.atleast_2d(sd > ROUNDING * np.abs(mean)).all(axis=0)
    size = mean.shape[-1]
    constant = tuple(np.flatnonzero(~alive).tolist())
    if h.ndim > 2 or size > MOST_FEATURES or not alive.any():
        reason = (
            "places of an image are rows here; look at the layer's flattened inputs"
            if h.ndim > 2
            else f"{size:,} features, more than {MOST_FEATURES:,}"
            if size > MOST_FEATURES
            else "every feature is constant"
        )
        none = not_estimable(reason, unit="", num_examples=len(h))
        return LayerConditioning(
            name=name, num_features=size, constant=constant, before=none, after=none,
            jacobian_before=none, jacobian_after=none,
        )  # fmt: skip
    if codes is not None:
        mean, sd = mean[codes], sd[codes]
    h = h.astype(np.float64)
    normal = ((h - mean) / np.where(sd > 0, sd, 1))[:, alive]
    jacobian = jacobian_of(name)
    if isinstance(jacobian, str):
        first = second = not_estimable(jacobian, unit="", num_examples=len(h))
    else:
        places, slopes = jacobian
        slopes = slopes[:, alive]
        spread = np.broadcast_to(sd, h.shape)[places][:, alive, None]
        first, second = _median_condition(slopes), _median_condition(slopes / spread)
    return LayerConditioning(
        name=name,
        num_features=size,
        constant=constant,
        before=condition_number(h[:, alive]).before,
        after=condition_number(normal).after,
        jacobian_before=first,
        jacobian_after=second,
    )


def _jacobians(
    net: Net, model: Any, population: Population, sample: Any, codes: np.ndarray | None
) -> Callable[[str], Jacobian]:
    """Jacobians at some rows of what a layer is given, or why there are none."""

    def of(name: str) -> Jacobian:
        flat = getattr(sample, "ndim", 0) == 2 and jnp.issubdtype(sample.dtype, jnp.floating)
        if not flat:
            return "the net's inputs are not one array [rows, numbers]"
        size = np.shape(population.layers[name].mean)[-1] * sample.shape[1]
        count = min(MOST_JACOBIANS, len(sample), JACOBIAN_NUMBERS // size)
        if count < 1:
            return f"a Jacobian of {size:,} numbers is too large"
        places = np.linspace(0, len(sample) - 1, count).astype(int)

        def one(row: Any, code: Any) -> Any:
            layers = inputs_of_layers(net, model, population.epsilon)
            own = None if code is None else code[None]
            return layers(row[None], own, population.layers)[name][0]

        own = None if codes is None else jnp.asarray(codes[places])
        found = jax.jit(jax.vmap(jax.jacrev(one)))(jnp.asarray(sample[places]), own)
        return places, np.asarray(found, np.float64)

    return of


def _median_condition(jacobians: np.ndarray) -> Estimate:
    """Median over rows of largest over smallest singular value, with its order statistics."""
    values = np.linalg.svd(jacobians, compute_uv=False)
    num = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(values[:, -1] > RANK * values[:, 0], values[:, 0] / values[:, -1], np.inf)
    found = np.sort(found)
    low = int(stats.binom.ppf(0.025, num, 0.5))
    median, ends = found[(num - 1) // 2], found[[max(low - 1, 0), min(num - low, num - 1)]]
    if not np.isfinite(median):
        ranks = (values > RANK * values[:, :1]).sum(axis=1)
        reason = (
            f"rank {int(np.median(ranks))} of {values.shape[1]}, so some directions of the inputs "
            "do not reach the layer"
        )
        return not_estimable(reason, unit="", num_examples=num)
    lo, hi = map(float, ends)
    flags = () if np.isfinite(hi) else ("without full rank at some rows: no interval",)
    return Estimate(
        value=float(median),
        lo=lo if np.isfinite(hi) else None,
        hi=hi if np.isfinite(hi) else None,
        unit="",
        num_examples=num,
        method="singular values; the median row, its interval by order statistics",
        flags=flags,
    )
