"""Ends of a symmetric operator's spectrum, and its trace, from products with vectors alone.

NumPy around any product: a jitted Hessian (`downslope.noise.curvature.hessian`), a matrix, PyTorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, special

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature.lanczos import Product, Run, generator, lanczos, product
from downslope.noise.statistics.ranges import Floats, array, count

UNIT = "loss / parameter^2"
BIASED_UP = "upper: the largest curvature of a mini-batch is biased up"
CONSTANT = 1.648  # Kuczynski and Wozniakowski 1992


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The two ends of a spectrum, with the leading eigenvectors.

    Attributes:
        lambda_max, lambda_min: both ends. The value of lambda_max is a lower bound by itself (but
            for rounding); its `hi` is the bound that holds at 97.5 % over the random start, so
            that both ends hold together at 95 %. lambda_min is the mirror image.
        eigenvalues: [k], largest first.
        eigenvectors: [k, dim], unit rows.
        residuals: [k], |H v - theta v|: some eigenvalue lies within it of theta.
        num_products: products spent.
        is_exhausted: whether the Krylov space was used up, so that both ends are exact.
    """

    lambda_max: Estimate
    lambda_min: Estimate
    eigenvalues: Floats
    eigenvectors: Floats
    residuals: Floats
    num_products: int
    is_exhausted: bool


def num_products_needed(dim: int, relative_error: float, failure_probability: float) -> int:
    """Products that find the largest eigenvalue to a relative error, from a random start.

    k >= 1/2 + ln(1.648 sqrt(d) / p) / (2 sqrt(eps)), at most d. It holds for an operator without
    negative eigenvalues; otherwise the error is relative to lambda_max - lambda_min.

    Args:
        dim: d, number of parameters.
        relative_error: eps, between 0 and 1.
        failure_probability: p, between 0 and 1.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> num_products_needed(1_000_000, 0.05, 0.01)
        28

    Source: Kuczynski and Wozniakowski 1992.
    """
    count("dim", dim)
    for name, value in (
        ("relative_error", relative_error),
        ("failure_probability", failure_probability),
    ):
        if not 0 < value < 1:
            raise UsageError(f"{name} must lie between 0 and 1; got {value}")
    log = math.log(CONSTANT * math.sqrt(dim) / failure_probability)
    return min(dim, max(1, math.ceil(0.5 + log / (2 * math.sqrt(relative_error)))))


def relative_error_bound(dim: int, num_products: int, failure_probability: float) -> float:
    """Relative error not exceeded but with that probability; the formula above, turned round.

    Example:
        >>> round(relative_error_bound(1_000_000, 28, 0.01), 3)
        0.048
    """
    log = math.log(CONSTANT * math.sqrt(dim) / failure_probability)
    return (log / (2 * num_products - 1)) ** 2


def extreme_eigenvalues(
    matvec: Product,
    dim: int,
    *,
    num_products: int | None = None,
    relative_error: float = 0.01,
    failure_probability: float = 0.01,
    num_vectors: int = 1,
    no_negative: bool = False,
    from_batch: bool = False,
    unit: str = UNIT,
    key: Any,
) -> Spectrum:
    """Largest and smallest eigenvalue of a symmetric operator, by Lanczos from a random start.

    Every new vector is made orthogonal to all before it, twice. Where the Krylov space is used up
    (few distinct eigenvalues), the iteration goes on from a fresh random vector.

    Args:
        matvec: takes a flat vector [dim], returns [dim]; NumPy's or JAX's.
        dim: number of parameters.
        num_products: products to spend, at most dim; by default `num_products_needed`.
        relative_error, failure_probability: for that default.
        num_vectors: leading eigenvectors to return.
        no_negative: the operator is known to have no negative eigenvalue: a tighter bound.
        from_batch: the operator is a mini-batch's Hessian: lambda_max is flagged as biased up.
        unit: of the eigenvalues.
        key: an integer seed or a JAX key.

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
    count("dim", dim)
    count("num_vectors", num_vectors)
    if num_products is None:
        num_products = num_products_needed(dim, relative_error, failure_probability)
    steps = min(dim, max(count("num_products", num_products), min(num_vectors, dim)))
    run = lanczos(matvec, dim, steps, generator(key))
    if isinstance(run, str):
        none = not_estimable(run, unit=unit, method="Lanczos")
        empty = np.zeros(0)
        return Spectrum(
            lambda_max=none, lambda_min=none, eigenvalues=empty, eigenvectors=np.zeros((0, dim)),
            residuals=empty, num_products=steps, is_exhausted=False,
        )  # fmt: skip
    ritz, vectors = linalg.eigh_tridiagonal(run.diagonal, run.off_diagonal)
    order = np.argsort(ritz)[::-1][:num_vectors]
    eigenvectors = vectors[:, order].T @ run.basis
    residuals = np.abs(run.last * vectors[-1, order]) + run.rounding
    largest, smallest = _ends(ritz, run, dim, no_negative, unit)
    if from_batch:
        largest = largest.flagged(BIASED_UP)
    return Spectrum(
        lambda_max=largest, lambda_min=smallest, eigenvalues=ritz[order],
        eigenvectors=eigenvectors.astype(np.float64), residuals=residuals,
        num_products=len(ritz), is_exhausted=run.exhausted,
    )  # fmt: skip


def trace(matvec: Product, dim: int, num_probes: int, key: Any, *, unit: str = UNIT) -> Estimate:
    """Trace of a symmetric operator from products with random signs.

    mean of z'Hz over probes z of independent signs: unbiased, with variance
    2 (sum of squares off the diagonal) a probe. The interval is Student's over the probes. Where
    num_probes >= dim the trace is taken exactly, one product a coordinate.

    Args:
        matvec: takes a flat vector [dim], returns [dim].
        dim: number of parameters.
        num_probes: products to spend.
        unit: of the trace.
        key: an integer seed or a JAX key.

    Example:
        >>> print(trace(lambda v: 2 * v + v.sum() / 100, 100, 20, key=0))
        201.33 (200.65 to 202.00) loss / parameter^2

    Source: Hutchinson 1990.
    """
    count("dim", dim)
    num = min(count("num_probes", num_probes), dim)
    rng, exact = generator(key), num == dim
    values = np.empty(num)
    for i in range(num):
        probe = np.zeros(dim) if exact else rng.choice((-1.0, 1.0), size=dim)
        if exact:
            probe[i] = 1.0
        image = product(matvec, probe).astype(np.float64)
        if not np.isfinite(image).all():
            return not_estimable("a product is not finite", unit=unit)
        values[i] = probe @ image
    if exact:
        total = float(values.sum())
        return Estimate(
            value=total, lo=total, hi=total, unit=unit, method="exact: one product a coordinate"
        )
    return _probe_mean(values, unit)


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


def _ends(
    ritz: Floats, run: Run, dim: int, no_negative: bool, unit: str
) -> tuple[Estimate, Estimate]:
    high, low = float(ritz.max()), float(ritz.min())
    error = 0.0 if run.exhausted else relative_error_bound(dim, len(ritz), 0.025)
    flags = () if run.symmetric else ("the operator does not look symmetric",)
    method = f"Lanczos, {len(ritz)} products; "
    if run.exhausted:
        method += "Krylov space used up: exact but for rounding"
    else:
        method += "bound of Kuczynski and Wozniakowski over the random start"
    reach = error * (high - low) / (1 - 2 * error) if error < 0.5 else None
    above = below = reach
    if no_negative and error < 1:
        above = min(error * high / (1 - error), math.inf if reach is None else reach)
        below = high + above if below is None else below
        below = max(0.0, min(low, below))
    few = "too few products for a bound"

    def end(value: float, up: float | None, down: float | None) -> Estimate:
        if up is None or down is None:
            return Estimate(value=value, unit=unit, method=method, flags=(*flags, few))
        lo, hi = value - down - run.rounding, value + up + run.rounding
        return Estimate(value=value, lo=lo, hi=hi, unit=unit, method=method, flags=flags)

    largest = end(high, above, None if above is None else 0.0)
    return largest, end(low, None if below is None else 0.0, below)


def _probe_mean(values: Floats, unit: str) -> Estimate:
    num, mean = len(values), float(values.mean())
    method = f"Hutchinson, {num} probes of random signs, Student's t"
    deviation = values - mean
    error = math.sqrt(float(deviation @ deviation) / num / max(num - 1, 1))
    if error <= 1e-12 * abs(mean) or num == 1:
        told = "one probe" if num == 1 else "the probes show no spread (exact if H is diagonal)"
        return Estimate(value=mean, unit=unit, method=method, flags=(f"{told}: no interval",))
    reach = float(special.stdtrit(num - 1, 0.975)) * error
    return Estimate(value=mean, lo=mean - reach, hi=mean + reach, unit=unit, method=method)
