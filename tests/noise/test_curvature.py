"""Hessian products and spectra against matrices formed in full.

Each test's comment names the wrong implementation that it catches.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from downslope.errors import UsageError
from downslope.noise.curvature import (
    chunked_hessian_product,
    directional_curvatures,
    extreme_eigenvalues,
    hessian,
    hessian_product,
    preconditioned,
    trace,
)
from downslope.noise.curvature.spectrum import BIASED_UP


def net(seed=0, num=37):
    rng = np.random.default_rng(seed)
    params = {
        "w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=4), jnp.float32),
        "out": jnp.asarray(rng.normal(size=4), jnp.float32),
    }
    rows = {
        "x": jnp.asarray(rng.normal(size=(num, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=num), jnp.float32),
    }

    def losses(p, rows):
        return (jnp.tanh(rows["x"] @ p["w"] + p["b"]) @ p["out"] - rows["y"]) ** 2

    return params, rows, losses


def full_hessian(losses, params, rows):
    flat, unravel = ravel_pytree(params)
    return np.asarray(jax.hessian(lambda v: losses(unravel(v), rows).mean())(flat), np.float64)


# catches: gradient instead of its derivative; params flattened in another order; data ignored
@pytest.mark.slow
def test_product_equals_the_hessian():
    params, rows, losses = net()
    product = hessian_product(lambda p, rows: losses(p, rows).mean(), params, rows)
    truth = full_hessian(losses, params, rows)
    found = np.stack([product(e) for e in np.eye(len(truth))])
    np.testing.assert_allclose(found, truth, atol=2e-5 * np.abs(truth).max())


# catches: a last chunk counted twice, dropped, or averaged as if full; the sum not divided by N
@pytest.mark.parametrize("chunk_size", [1, 5, 20, 37, 100])
def test_chunks_give_the_full_data_hessian(chunk_size):
    params, rows, losses = net()
    product = chunked_hessian_product(losses, params, rows, chunk_size=chunk_size)
    truth = full_hessian(losses, params, rows)
    v = np.random.default_rng(1).normal(size=len(truth))
    np.testing.assert_allclose(product(v), truth @ v, atol=5e-5 * np.abs(truth @ v).max())


# catches: squared first derivatives (Gauss-Newton) in place of the curvature; a mean over rows
@pytest.mark.slow
def test_directional_curvatures_are_those_of_single_rows(monkeypatch):
    monkeypatch.setattr(hessian, "ROWS_AT_ONCE", 10)
    params, rows, losses = net()
    u = np.random.default_rng(2).normal(size=(2, 20))
    found = directional_curvatures(losses, params, rows, u)
    for i in (0, 9, 10, 36):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], rows)
        h = full_hessian(losses, params, one)
        np.testing.assert_allclose(
            found[i], np.einsum("ki,ij,kj->k", u, h, u), rtol=1e-3, atol=1e-3
        )


def spectra(rng, dim):
    """Hard for power iteration, hard for Lanczos (uniform edge), indefinite, one outlier."""
    yield np.linspace(0, 1, dim)
    yield rng.normal(size=dim)
    yield np.concatenate([[10.0], rng.uniform(0, 1, dim - 1)])
    yield 1 - np.linspace(0, 1, dim) ** 2


# catches: too few steps, no orthogonalisation (ghost copies), power iteration, an upper bound
# that does not hold, eigenvectors or residuals of another eigenvalue
def test_largest_eigenvalue_within_one_percent_in_the_products_promised():
    rng = np.random.default_rng(0)
    dim, worst, missed = 600, 0.0, 0
    for seed in range(10):
        for values in spectra(rng, dim):
            found = extreme_eigenvalues(lambda v, d=values: d * v, dim, key=seed, num_vectors=3)
            width, top = np.ptp(values), values.max()
            assert found.num_products == 43  # 1/2 + ln(1.648 sqrt(600) / 0.01) / 0.2
            worst = max(worst, abs(found.lambda_max.value - top) / width)
            missed += not found.lambda_max.lo <= top <= found.lambda_max.hi
            missed += not found.lambda_min.lo <= values.min() <= found.lambda_min.hi
            v = found.eigenvectors
            np.testing.assert_allclose(v @ v.T, np.eye(3), atol=1e-10)
            true = np.linalg.norm(values * v - found.eigenvalues[:, None] * v, axis=1)
            np.testing.assert_allclose(found.residuals, true, atol=1e-9 * width)
    assert worst < 0.01 and missed == 0


# catches: going on after the Krylov space is used up (4.48 for 3), 0/0 on a zero operator,
# multiplicities lost, more products than dimensions
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_distinct_eigenvalues(dtype):
    for values in ([1, 2, 3, 3, 3, 3], [0] * 6, [5], [-2, -2], [1] * 300 + [7, 7]):
        d = np.array(values, dtype)
        found = extreme_eigenvalues(
            lambda v, d=d: d * v.astype(dtype), len(d), key=1, num_vectors=2
        )
        assert found.lambda_max.value == pytest.approx(max(values), rel=1e-5, abs=1e-9)
        assert found.lambda_min.value == pytest.approx(min(values), rel=1e-4, abs=1e-5)
        expected = sorted(values, reverse=True)[:2]
        np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-5, atol=1e-9)


# catches: float32 products losing orthogonality; JAX arrays refused
@pytest.mark.slow
def test_jax_products_in_single_precision():
    params, rows, losses = net(num=200)
    product = chunked_hessian_product(losses, params, rows, chunk_size=64)
    truth = np.linalg.eigvalsh(full_hessian(losses, params, rows))
    for key in (0, 1):
        found = extreme_eigenvalues(product, 20, key=key, from_batch=True)
        assert found.lambda_max.value == pytest.approx(truth[-1], rel=1e-4)
        assert found.lambda_min.value == pytest.approx(truth[0], rel=1e-3)
        assert BIASED_UP in found.lambda_max.flags


# catches: P in place of its root, P H for P^-1 H
def test_preconditioned_spectrum():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 30))
    h, p = a @ a.T, rng.uniform(0.1, 3, 30)
    found = extreme_eigenvalues(preconditioned(lambda v: h @ v, p), 30, key=0)
    truth = np.linalg.eigvals(h / p[:, None]).real.max()
    assert found.lambda_max.value == pytest.approx(truth, rel=1e-9)


# catches: probes of unit length, a standard deviation for a standard error, z for t
def test_trace_interval_covers():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 60))
    h = a @ a.T
    found = [trace(lambda v: h @ v, 60, 12, seed) for seed in range(400)]
    covered = np.mean([m.lo <= np.trace(h) <= m.hi for m in found])
    assert 0.92 < covered < 0.98
    off = h - np.diag(np.diag(h))
    error = math.sqrt(2 * (off**2).sum() / 12)
    assert np.std([m.value for m in found]) == pytest.approx(error, rel=0.15)
    assert np.mean([m.value for m in found]) == pytest.approx(np.trace(h), abs=4 * error / 20)
    exact = trace(lambda v: h @ v, 60, 60, 0)
    assert exact.value == pytest.approx(np.trace(h), rel=1e-12) and exact.lo == exact.hi
    diagonal = trace(lambda v: 2 * v, 60, 5, 0)
    assert diagonal.value == 120 and diagonal.lo is None and diagonal.flags
    assert trace(lambda v: h @ v, 60, 1, 0).lo is None


# catches: NaN as a value, an asymmetric operator passed over, an interval from too few products
def test_degenerate_operators():
    bad = extreme_eigenvalues(lambda v: v * np.nan, 5, key=0)
    assert not bad.lambda_max.is_measured and "finite" in str(bad.lambda_max.reason)
    assert not trace(lambda v: v * np.inf, 9, 3, 0).is_measured
    skew = np.triu(np.random.default_rng(0).normal(size=(50, 50)))
    found = extreme_eigenvalues(lambda v: skew @ v, 50, key=0)
    assert any("symmetric" in flag for flag in found.lambda_max.flags)
    few = extreme_eigenvalues(lambda v: np.arange(500.0) * v, 500, num_products=3, key=0)
    assert few.lambda_max.value and few.lambda_max.lo is None and few.lambda_max.flags
    with pytest.raises(UsageError, match="shape"):
        extreme_eigenvalues(lambda v: v[:3], 5, key=0)
    with pytest.raises(UsageError, match="floating"):
        hessian_product(lambda p: 0.0, {"w": jnp.arange(3)})
    with pytest.raises(UsageError, match="first axis"):
        chunked_hessian_product(
            lambda p, r: r, jnp.ones(2), (jnp.ones(3), jnp.ones(4)), chunk_size=2
        )
