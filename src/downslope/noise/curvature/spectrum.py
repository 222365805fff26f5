"""Extreme eigenvalues and trace of a symmetric operator, from products with vectors alone.

NumPy around any product: a jitted Hessian (`downslope.noise.curvature.hessian`), a matrix, PyTorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature.lanczos import Product, Tridiagonal, lanczos, product
from downslope.noise.statistics.arrays import Floats, array
from downslope.noise.statistics.intervals import linear_interval

UNIT = "loss / parameter^2"
BIASED_UP = "upper: the largest curvature of a mini-batch is biased up"
CONSTANT = 1.648  # Kuczynski and Wozniakowski 1992
RELATIVE_ERROR, FAILURE_PROBABILITY = 0.01, 0.01  # for the default number of products


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Both ends of a spectrum, with the leading eigenvectors.

    Attributes:
        lambda_max, lambda_min: both ends. The value of lambda_max is a lower bound by itself (but
            for rounding); its `hi` is the bound that holds at 97.5 % over the random start, so
            that both ends hold together at 95 %. lambda_min is the mirror image.
        eigenvalues: [k], largest first.
        eigenvectors: [k, dim], unit rows.
        residuals: [k], |H v - theta v|: some eigenvalue lies within it of theta.
        num_products: products spent.
    """

    lambda_max: Estimate
    lambda_min: Estimate
    eigenvalues: Floats
    eigenvectors: Floats
    residuals: Floats
    num_products: int


def extreme_eigenvalues(
    matvec: Product,
    dim: int,
    *,
    num_products: int | None = None,
    num_vectors: int = 1,
    from_batch: bool = False,
    unit: str = UNIT,
    key: int,
) -> Spectrum:
    """Largest and smallest eigenvalue of a symmetric operator, by Lanczos from a random start.

    Args:
        matvec: takes a flat vector [dim], returns [dim]; NumPy's or JAX's.
        dim: number of parameters.
        num_products: products to spend, at most dim; by default as many as find the largest
            eigenvalue to 1 % of lambda_max - lambda_min in 99 of 100 random starts.
        num_vectors: leading eigenvectors to return.
        from_batch: the operator is a mini-batch's Hessian: lambda_max is flagged as biased up.
        unit: of the eigenvalues.
        key: seed of the random start.

    Returns:
        The ends with bounds, leading eigenvectors, residuals and the number of products. Memory:
        num_products * dim numbers of the product's type.

    Raises:
        UsageError: a value outside its range, or a product of another shape.

    Example:
        >>> eigenvalues = np.linspace(0, 5, 400)
        >>> found = extreme_eigenvalues(lambda v: eigenvalues * v, 400, key=0)
        >>> print(found.lambda_max, "after", found.num_products, "products")
        4.999 (4.999 to 5.037) loss / parameter^2 after 42 products

    Source: Golub and Van Loan, Matrix Computations; for the bound Kuczynski and
    Wozniakowski 1992, shifted by lambda_min for indefinite operators.
    """
    whole("dim", dim)
    whole("num_vectors", num_vectors)
    if num_products is None:
        num_products = _num_products(dim)
    steps = min(dim, max(whole("num_products", num_products), num_vectors))
    run = lanczos(matvec, dim, steps, np.random.default_rng(key))
    if isinstance(run, str):
        none, empty = not_estimable(run, unit=unit, method="Lanczos"), np.zeros(0)
        return Spectrum(
            lambda_max=none, lambda_min=none, eigenvalues=empty, eigenvectors=np.zeros((0, dim)),
            residuals=empty, num_products=steps,
        )  # fmt: skip
    ritz, vectors = linalg.eigh_tridiagonal(run.diagonal, run.off_diagonal)
    order = np.argsort(ritz)[::-1][:num_vectors]
    eigenvectors = vectors[:, order].T @ run.basis
    residuals = np.abs(run.last * vectors[-1, order]) + run.rounding
    largest, smallest = _ends(ritz, run, dim, unit)
    if from_batch:
        largest = largest.flagged(BIASED_UP)
    return Spectrum(
        lambda_max=largest, lambda_min=smallest, eigenvalues=ritz[order],
        eigenvectors=eigenvectors.astype(np.float64), residuals=residuals,
        num_products=len(ritz),
    )  # fmt: skip


def trace(matvec: Product, dim: int, num_probes: int, key: int) -> Estimate:
    """Trace of a symmetric operator from products with random signs.

    mean of z'Hz over probes z of independent signs: unbiased, with variance
    2 (sum of squares off the diagonal) a probe. The interval is Student's over the probes. Where
    num_probes >= dim the trace is taken exactly, one product a coordinate.

    Args:
        matvec: takes a flat vector [dim], returns [dim].
        dim: number of parameters.
        num_probes: products to spend.
        key: seed of the signs.

    Example:
        >>> print(trace(lambda v: 2 * v + v.sum() / 100, 100, 20, key=0))
        201.33 (200.65 to 202.00) loss / parameter^2

    Source: Hutchinson 1990.
    """
    whole("dim", dim)
    num = min(whole("num_probes", num_probes), dim)
    rng, exact = np.random.default_rng(key), num == dim
    values = np.empty(num)
    for i in range(num):
        probe = np.eye(1, dim, i)[0] if exact else rng.choice((-1.0, 1.0), size=dim)
        image = product(matvec, probe).astype(np.float64)
        if not np.isfinite(image).all():
            return not_estimable("a product is not finite", unit=UNIT)
        values[i] = probe @ image
    if exact:
        total, method = float(values.sum()), "exact: one product a coordinate"
        return Estimate(value=total, lo=total, hi=total, unit=UNIT, method=method)
    mean, method = float(values.mean()), f"Hutchinson, {num} probes of random signs, Student's t"
    error = float(values.std(ddof=1)) / math.sqrt(num) if num > 1 else 0.0
    if error <= 1e-12 * abs(mean):
        why = "one probe" if num == 1 else "the probes show no spread (exact if H is diagonal)"
        return Estimate(value=mean, unit=UNIT, method=method, flags=(f"{why}: no interval",))
    lo, hi = linear_interval(mean, error, num - 1)
    return Estimate(value=mean, lo=lo, hi=hi, unit=UNIT, method=method)


def preconditioned(matvec: Product, preconditioner: ArrayLike) -> Product:
    """The product with P^(-1/2) H P^(-1/2), whose spectrum is that of P^-1 H.

    Args:
        matvec: product with H.
        preconditioner: [dim], all above 0, infinite for a coordinate that stays where it is; for
            Adam sqrt(v) + epsilon, bias-corrected.

    Example:
        >>> product = preconditioned(lambda v: np.array([8.0, 2.0]) * v, [4.0, 0.5])
        >>> round(extreme_eigenvalues(product, 2, key=0).lambda_max.value, 9)
        4.0
    """
    root = np.sqrt(array("preconditioner", preconditioner, 1))
    if not (root > 0).all():  # NaN fails too
        raise UsageError("preconditioner must be above 0; got an entry that is not")
    return lambda v: np.asarray(matvec(np.asarray(v) / root), dtype=np.float64) / root


def _num_products(dim: int) -> int:
    """k >= 1/2 + ln(1.648 sqrt(d) / p) / (2 sqrt(eps)), at most d."""
    log = math.log(CONSTANT * math.sqrt(dim) / FAILURE_PROBABILITY)
    return min(dim, math.ceil(0.5 + log / (2 * math.sqrt(RELATIVE_ERROR))))


def _relative_error(dim: int, num_products: int, failure_probability: float) -> float:
    """Relative error exceeded with that probability only: the formula above solved for eps."""
    log = math.log(CONSTANT * math.sqrt(dim) / failure_probability)
    return (log / (2 * num_products - 1)) ** 2


def _ends(ritz: Floats, run: Tridiagonal, dim: int, unit: str) -> tuple[Estimate, Estimate]:
    high, low = float(ritz.max()), float(ritz.min())
    error = 0.0 if run.exhausted else _relative_error(dim, len(ritz), 0.025)
    flags = () if run.symmetric else ("the operator does not look symmetric",)
    method = f"Lanczos, {len(ritz)} products; "
    if run.exhausted:
        method += "Krylov space used up: exact but for rounding"
    else:
        method += "bound of Kuczynski and Wozniakowski over the random start"
    if error >= 0.5:
        flags += ("too few products for a bound",)
        shared = {"unit": unit, "method": method, "flags": flags}
        return Estimate(value=high, **shared), Estimate(value=low, **shared)
    reach = error * (high - low) / (1 - 2 * error)

    def end(value: float, up: float, down: float) -> Estimate:
        lo, hi = value - down - run.rounding, value + up + run.rounding
        return Estimate(value=value, lo=lo, hi=hi, unit=unit, method=method, flags=flags)

    return end(high, reach, 0.0), end(low, 0.0, reach)
