"""Learning rates that keep the mean square of the error bounded under mini-batches.

Rows that disagree about the curvature multiply the error by a random matrix at every step, which
lowers the largest stable rate below that of the full batch. Above the bound the mean square
grows, carried by rare large excursions; the median run can still shrink. Additive noise never
moves the bound. Plain SGD throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, special

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ranges import Floats, array, count
from downslope.noise.statistics.series import ratio_of_series
from downslope.noise.temperature.dynamics import Sampling, population_factor

MOST_DIMENSIONS = 40  # the exact operator has d^4 entries
UNIT = "parameter^2 / loss"
ABOVE = "above it: rare large excursions, not steady divergence"


@dataclass(frozen=True, kw_only=True)
class MeanSquareLimits:
    """Largest learning rates by four standards: sufficient <= exact <= necessary <= full batch.

    Attributes:
        sufficient: below it the mean square shrinks (Wu, Ma and E 2018).
        exact: where the mean square turns from shrinking to growing (Mulayoff and Michaeli 2024).
        necessary: above it the mean square grows, seen along the eigenvectors of H alone.
        full_batch: 2 / lambda_max, without noise.
    """

    sufficient: float
    exact: float
    necessary: float
    full_batch: float


def mean_square_limits(
    hessians: ArrayLike,
    batch_size: int,
    *,
    sampling: Sampling = "reshuffled",
) -> MeanSquareLimits:
    """All four limits from every row's Hessian, for small problems.

    With H the mean, E over rows and f = (N - B)/(B (N - 1)) (1/B with replacement), the exact
    limit is the largest eta for which I - eta (I x H + H x I) + eta^2 [H x H + f (E H_i x H_i -
    H x H)] has no eigenvalue above 1 on symmetric matrices; the sufficient one keeps
    (I - eta H)^2 + eta^2 f (E H_i^2 - H^2) below 1.

    Args:
        hessians: [N, d, d], the whole population, symmetric; d <= 40.
        batch_size: B, at most N.
        sampling: "reshuffled" (without replacement inside a batch) or "replacement".

    Returns:
        The limits; infinite where nothing curves, 0 where no rate is stable.

    Raises:
        UsageError: shapes that do not fit, or too many dimensions.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6))
        >>> limits = mean_square_limits(x[:, :, None] * x[:, None, :], 4)
        >>> print(f"{limits.exact:.3f} of {limits.full_batch:.3f} without noise")
        0.656 of 1.189 without noise

    Source: Mulayoff and Michaeli 2024; Wu, Ma and E 2018.
    """
    each = array("hessians", hessians, 3)
    num, dim = each.shape[:2]
    if num == 0 or each.shape[2] != dim or dim == 0:
        raise UsageError(f"hessians must have shape [N, d, d]; got {each.shape}")
    if dim > MOST_DIMENSIONS:
        raise UsageError(f"hessians must have at most {MOST_DIMENSIONS} dimensions; got {dim}")
    if not np.isfinite(each).all():
        raise UsageError("hessians must be finite; got an entry that is not")
    noise = population_factor(batch_size, num, sampling) / batch_size
    mean = each.mean(axis=0)
    deviation = each - mean
    spread = np.einsum("nij,njk->ik", deviation, deviation) / num
    values, vectors = np.linalg.eigh(mean)
    along = np.einsum("ik,nij,jk->nk", vectors, deviation, vectors)
    second = values**2 + noise * (along**2).mean(axis=0)
    tiny = 1e-12 * max(float(np.abs(values).max()), float(np.sqrt(second.max())))
    necessary = [_limit_1d(2 * a, q, tiny) for a, q in zip(values, second, strict=True)]
    return MeanSquareLimits(
        sufficient=_limit(2 * mean, mean @ mean + noise * spread),
        exact=_limit(*_operators(mean, deviation, noise)),
        necessary=min(necessary),
        full_batch=_limit(2 * mean, mean @ mean),
    )


def necessary_limit(
    curvatures: ArrayLike,
    batch_size: int,
    *,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
) -> Estimate:
    """A learning rate above which the mean square of the error grows, from a sample of rows.

    min over directions u of 2a / (a^2 + f Var_i(u' H_i u)), a = u' H u; f Var is S^2 (1/B - 1/N)
    for reshuffled epochs, S^2 / B for streams, S^2 the sample variance. One side only: stability
    below it is not promised.

    Args:
        curvatures: u' H_i u, [n >= 3 rows, k directions]
            (`downslope.noise.curvature.directional_curvatures`), u the top eigenvectors of H.
        batch_size: B.
        num_rows: N, for reshuffled epochs and for drawing with replacement.
        sampling: how mini-batches are drawn.

    Returns:
        The limit of the binding direction, with a delete-one jackknife interval on the log scale;
        exact where the sample is the whole data set.

    Raises:
        UsageError: shapes or sizes that do not fit.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 1))
        >>> print(necessary_limit(x**2, 4))  # 2 / (1 + 2/4) for Gaussian inputs
        1.355 (1.289 to 1.424) parameter^2 / loss

    Source: Rayleigh quotient at u u' of the operator in Mulayoff and Michaeli 2024.
    """
    values = array("curvatures", curvatures, 2)
    num, factor = len(values), _variance_factor(batch_size, num_rows, sampling)
    if num_rows is not None and num > num_rows:
        raise UsageError(f"curvatures must have at most num_rows ({num_rows}) rows; got {num}")
    if values.shape[1] == 0:
        raise UsageError("curvatures must have at least one direction; got none")
    if num < 3:
        return not_estimable("fewer than 3 rows", unit=UNIT, num_examples=num)
    if not np.isfinite(values).all():
        return not_estimable("a curvature is not finite", unit=UNIT, num_examples=num)
    mean = values.mean(axis=0)
    rising = mean > 0
    if not rising.any():
        return not_estimable("no direction curves up", unit=UNIT, num_examples=num)
    flags = (ABOVE,)
    if not rising.all():
        flags += (f"{int((~rising).sum())} directions that curve down were left out",)
    limits = np.where(rising, _necessary(values, factor), math.inf)
    best = int(np.argmin(limits))
    limit, row = float(limits[best]), values[:, best]
    method = f"necessary bound, binding direction {best + 1} of {values.shape[1]}"
    if num == num_rows:
        lo = hi = limit
        method += "; every row was used"
    else:
        lo, hi = _jackknife(row, factor, limit)
        method += "; delete-one jackknife on the log scale"
    return Estimate(
        value=limit, lo=lo, hi=hi, unit=UNIT, num_examples=num, method=method, flags=flags
    )


def gaussian_least_squares_limit(dim: int, batch_size: int) -> float:
    """The exact limit for least squares on inputs N(0, I): 2 / (1 + (d + 1)/B).

    The mean square of the error multiplies by 1 - 2 eta + eta^2 (1 + (d + 1)/B) at every step.

    Args:
        dim: d, number of inputs.
        batch_size: B, drawn with replacement or from a stream.

    Example:
        >>> round(gaussian_least_squares_limit(10, 4), 8)
        0.53333333
    """
    return 2 / (1 + (count("dim", dim) + 1) / count("batch_size", batch_size))


def batch_sharpness(quadratic_forms: ArrayLike, gradient_squares: ArrayLike) -> Estimate:
    """Curvature of each mini-batch's own loss along its own gradient: E[g' H_B g] / E|g|^2.

    Claimed to settle at 2 / learning_rate where the full batch's sharpness stays below; in a
    small net it scattered between .6 and 1.0 times that, so it is reported, not asserted.

    Args:
        quadratic_forms: g' H_B g of K steps, the Hessian on the batch that gave the gradient.
        gradient_squares: |g|^2 of the same steps.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> squares = rng.exponential(size=500)
        >>> print(batch_sharpness(3 * squares, squares).value.__round__(6))
        3.0

    Source: Andreyev and Beneventano 2024.
    """
    return ratio_of_series(
        quadratic_forms, gradient_squares, unit="loss / parameter^2", what="batch sharpness"
    )


def _variance_factor(batch_size: int, num_rows: int | None, sampling: Sampling) -> float:
    """What multiplies the sample variance S^2 of the rows to give f Var_i of the population."""
    factor = population_factor(batch_size, num_rows, sampling) / batch_size
    if sampling == "streaming" or num_rows is None:
        return factor
    return factor * (num_rows - 1) / num_rows


def _necessary(values: Floats, factor: float) -> Floats:
    mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * mean / (mean**2 + factor * variance)


def _jackknife(row: Floats, factor: float, limit: float) -> tuple[float | None, float | None]:
    num, mean = len(row), row.mean()
    deviation = row - mean
    means = mean - deviation / (num - 1)
    scatter = deviation @ deviation - deviation**2 * num / (num - 1)
    left_out = 2 * means / (means**2 + factor * scatter / (num - 2))
    if (left_out <= 0).any() or not np.isfinite(left_out).all():
        return None, None
    logs = np.log(left_out)
    logs = logs - logs.mean()
    error = math.sqrt(float(logs @ logs) * (num - 1) / num)
    reach = math.exp(min(float(special.stdtrit(num - 1, 0.975)) * error, 700.0))
    return limit / reach, limit * reach


def _limit_1d(linear: float, quadratic: float, tiny: float) -> float:
    """Largest eta with eta^2 quadratic <= eta linear; `tiny` is rounding of a curvature."""
    if abs(linear) <= tiny and quadratic <= tiny**2:
        return math.inf
    return max(0.0, float(linear / quadratic))


def _limit(linear: Floats, quadratic: Floats) -> float:
    """Largest eta with eta^2 quadratic <= eta linear in every direction."""
    values, vectors = np.linalg.eigh(linear)
    size = np.abs(values).max()
    tolerance = 1e-10 * size
    if values.min() < -tolerance:
        return 0.0
    flat = vectors[:, values <= tolerance]
    if np.abs(quadratic @ flat).max(initial=0.0) > 1e-10 * max(np.abs(quadratic).max(), 1e-300):
        return 0.0  # rows that disagree along a direction that is flat on average
    steep = values > tolerance
    if not steep.any():
        return math.inf
    root = vectors[:, steep] / np.sqrt(values[steep])
    largest = float(linalg.eigvalsh(root.T @ quadratic @ root)[-1])
    return 1 / largest if largest > 0 else math.inf


def _operators(mean: Floats, deviation: Floats, noise: float) -> tuple[Floats, Floats]:
    """The linear and the quadratic operator of the exact condition, on symmetric matrices."""
    dim = len(mean)
    one = np.eye(dim)
    pairs = [(i, j) for i in range(dim) for j in range(i, dim)]
    basis = np.zeros((dim * dim, len(pairs)))
    for column, (i, j) in enumerate(pairs):
        weight = 1.0 if i == j else math.sqrt(0.5)
        basis[i * dim + j, column] = basis[j * dim + i, column] = weight
    linear = np.kron(one, mean) + np.kron(mean, one)
    rows = deviation.reshape(len(deviation), -1)
    # sum of outer products, rearranged from (ij, kl) to the Kronecker order (ik, jl)
    products = (rows.T @ rows / len(rows)).reshape(dim, dim, dim, dim).transpose(0, 2, 1, 3)
    quadratic = np.kron(mean, mean) + noise * products.reshape(dim * dim, dim * dim)
    return basis.T @ linear @ basis, basis.T @ quadratic @ basis
