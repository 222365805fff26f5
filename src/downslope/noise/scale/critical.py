"""Critical batch size from runs at several batch sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.scale.steps import columns_of
from downslope.noise.statistics.intervals import plain_part, ratio

NUM_REWEIGHTS = 5  # converges to 1e-6 in three on the data it was tried on
BEND_P_VALUE = 0.01
RETUNED = "holds only if the learning rate was retuned at every batch size"


@dataclass(frozen=True, kw_only=True)
class CriticalBatch:
    """Steps and examples that a target costs by batch size: S(B) = S_min (1 + B_crit/B).

    Attributes:
        min_steps: S_min, steps at a very large batch.
        min_examples: E_min, examples at a very small batch.
        batch_size: B_crit = E_min/S_min, where both are twice their least.
        largest_residual: largest relative distance of a run from the law.
    """

    min_steps: Estimate
    min_examples: Estimate
    batch_size: Estimate
    largest_residual: float | None


def fit_critical_batch(batch_sizes: ArrayLike, num_steps: ArrayLike) -> CriticalBatch:
    """Trade-off between steps and examples, fitted to runs that reached the same target.

    S = S_min + E_min/B, by iterated least squares of the relative residuals (weights 1/fit^2;
    1/S^2 would favour runs that were short by chance). Intervals follow from the residuals with
    Student's t, so they need three runs.

    Args:
        batch_sizes: [k], examples per update of each run; sizes may repeat.
        num_steps: [k], updates until the target, with the learning rate retuned for each batch
            size. Leave out runs that never reached it.

    Returns:
        `batch_size` is unresolved where S_min cannot be told from 0: all batches tried were far
        below it.

    Raises:
        UsageError: shapes that differ, numbers that are not positive.

    Example:
        >>> found = fit_critical_batch([16, 64, 256, 1024], [2600, 800, 345, 231])
        >>> print(found.batch_size, "|", found.min_steps)
        199.5 (194.3 to 204.8) examples | 193.6 (190.4 to 196.9) steps

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.11.
    """
    b, s = columns_of(batch_sizes=batch_sizes, num_steps=num_steps)
    for name, values in (("batch_sizes", b), ("num_steps", s)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise UsageError(f"{name} must be finite and above 0; got one that is not")
    different = len(np.unique(b))
    if different < 2:
        return _nothing(f"{different} batch size(s): at least 2 are needed, better 5")
    best, covariance, residuals = _fit(b, s)
    if best is None:
        return _nothing("the fitted steps are not positive at every batch size")
    freedom = len(b) - 2
    covariance = covariance * float(residuals @ residuals) / max(freedom, 1)
    flags = (RETUNED,)
    if different < 3:
        flags = (f"{different} batch sizes; at least 3 show a bend", *flags)
    if _bends(b, s, residuals):
        flags = ("the steps bend away from the law S_min + E_min/B", *flags)
    min_steps, min_examples, scale = _measure(best, covariance, freedom, flags)
    return CriticalBatch(
        min_steps=min_steps,
        min_examples=min_examples,
        batch_size=scale,
        largest_residual=float(abs(residuals).max()),
    )


def _fit(b: np.ndarray, s: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """(S_min, E_min), their covariance per unit of residual variance, relative residuals."""
    columns = np.stack([np.ones_like(b), 1 / b], axis=1)
    fitted = s
    for _ in range(NUM_REWEIGHTS):
        design = columns / fitted[:, None]
        lengths = np.linalg.norm(design, axis=0)  # steps and examples differ by orders
        best = np.linalg.lstsq(design / lengths, s / fitted, rcond=None)[0] / lengths
        fitted = columns @ best
        if (fitted <= 0).any():
            return None, np.zeros((2, 2)), np.zeros(len(b))
    design = columns / fitted[:, None] / lengths
    inverse = np.linalg.inv(design.T @ design) / np.outer(lengths, lengths)
    return best, inverse, s / fitted - 1


def _bends(b: np.ndarray, s: np.ndarray, residuals: np.ndarray) -> bool:
    """F test of a third term in B^(-1/2), between the two of the law."""
    freedom = len(b) - 3
    if freedom < 1 or len(np.unique(b)) < 3:
        return False
    fitted = s / (1 + residuals)
    design = np.stack([np.ones_like(b), 1 / b, b**-0.5], axis=1) / fitted[:, None]
    design /= np.linalg.norm(design, axis=0)
    target = s / fitted
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    rest, before = float(left @ left), float(residuals @ residuals)
    if before <= 1e-20 * len(b):
        return False
    return rest <= 0 or float(fdtrc(1, freedom, (before - rest) / (rest / freedom))) < BEND_P_VALUE


def _measure(
    best: np.ndarray, covariance: np.ndarray, freedom: int, flags: tuple[str, ...]
) -> tuple[Estimate, Estimate, Estimate]:
    method = "relative least squares of S = S_min + E_min/B"
    named: dict[str, Any] = dict(method=method, flags=flags)
    if freedom < 1:
        named["flags"] = ("two runs: no interval", *flags)
        return (
            Estimate(value=float(best[0]), unit="steps", **named),
            Estimate(value=float(best[1]), unit="examples", **named),
            not_estimable("two runs do not tell S_min from 0", unit="examples", method=method),
        )
    errors = np.sqrt(np.diag(covariance))
    steps = plain_part(float(best[0]), float(errors[0]), freedom)
    examples = plain_part(float(best[1]), float(errors[1]), freedom)
    scale = ratio(
        examples, steps, covariance=float(covariance[0, 1]), unit="examples",
        denominator="S_min", method=f"{method}; joined on the log scale",
    )  # fmt: skip
    return (
        Estimate(value=steps.value, lo=steps.lo, hi=steps.hi, unit="steps", **named),
        Estimate(value=examples.value, lo=examples.lo, hi=examples.hi, unit="examples", **named),
        scale.flagged(*flags),
    )


def _nothing(reason: str) -> CriticalBatch:
    return CriticalBatch(
        min_steps=not_estimable(reason, unit="steps"),
        min_examples=not_estimable(reason, unit="examples"),
        batch_size=not_estimable(reason, unit="examples"),
        largest_residual=None,
    )
