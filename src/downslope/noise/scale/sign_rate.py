"""The best learning rate of sign-type updates by batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import positive

SMALL = 0.3  # |mean| sqrt(B)/sd below this: erf is within 2 % of its tangent
LARGE = 3.0  # above it the sign is known


@dataclass(frozen=True, kw_only=True)
class SignRate:
    """Best learning rate of sign descent on the local quadratic.

    Attributes:
        rate: exact for Gaussian noise that is independent between the parameters; None where the
            quadratic does not curve up along the mean update.
        small_signal_rate: the closed form for noise that drowns every single mean; None where
            the off-diagonal curvature does not add up to more than 0.
        peak_batch: batch size at which the closed form is largest, in examples; None likewise.
        regime: which of both holds here.
    """

    rate: float | None
    small_signal_rate: float | None
    peak_batch: float | None
    regime: str


def sign_update_rate(
    mean: ArrayLike, deviation: ArrayLike, hessian: ArrayLike, batch_size: float
) -> SignRate:
    """The learning rate at which one step of theta - rate sign(g_B) lowers the loss most.

    rate = sum E_i m_i/(tr H + sum_{i != j} E_i E_j H_ij), E_i = erf(m_i sqrt(B/2)/s_i). With a
    diagonal H it rises as sqrt(B), then levels off; with positive off-diagonal terms it rises,
    peaks and falls. The closed form, for |m_i| sqrt(B)/s_i well below 1, is
    r/((sqrt(b/B) + sqrt(B/b))/2) with its peak r at B = b = pi tr H/(2 sum_{i != j}
    m_i m_j H_ij/(s_i s_j)).

    Args:
        mean: [d], full gradient.
        deviation: [d], standard deviation of one example's gradient, above 0.
        hessian: [d, d], of the full loss.
        batch_size: B, above 0.

    Raises:
        UsageError: shapes that do not match, numbers out of range or not finite.

    Example:
        >>> h = np.array([[1.0, 0.5], [0.5, 1.0]])
        >>> [round(sign_update_rate([0.1, 0.1], [1.0, 1.0], h, b).rate, 4) for b in (4, 64, 1024)]
        [0.0157, 0.0494, 0.0666]

    Source: Li, Zhao et al. (2024), Surge phenomenon in optimal learning rate and batch size
    scaling, equations 14 to 20; the closed form is derived anew.
    """
    m, s = np.asarray(mean, dtype=np.float64), np.asarray(deviation, dtype=np.float64)
    h = np.asarray(hessian, dtype=np.float64)
    if m.ndim != 1 or s.shape != m.shape or h.shape != (m.size, m.size):
        raise UsageError(
            "mean, deviation, hessian must have shapes [d], [d], [d, d]; "
            f"got {m.shape}, {s.shape}, {h.shape}"
        )
    if not (np.isfinite(m).all() and np.isfinite(h).all()):
        raise UsageError("mean, hessian must be finite; got an entry that is not")
    if not (np.isfinite(s).all() and (s > 0).all()):
        raise UsageError("deviation must be finite and above 0; got an entry that is not")
    positive("batch_size", batch_size)
    known = erf(m * math.sqrt(batch_size / 2) / s)
    trace, off = float(np.trace(h)), h - np.diag(np.diag(h))
    bend = trace + float(known @ off @ known)
    small, peak = _small_signal(m / s, float(m @ (m / s)), trace, off, batch_size)
    return SignRate(
        rate=float(known @ m) / bend if bend > 0 else None,
        small_signal_rate=small,
        peak_batch=peak,
        regime=_regime(abs(m) * math.sqrt(batch_size) / s),
    )


def _small_signal(
    ratios: np.ndarray, slope: float, trace: float, off: np.ndarray, batch_size: float
) -> tuple[float | None, float | None]:
    """erf(x) = 2 x/sqrt(pi): rate = sqrt(2 B/pi) slope/(tr H + (2 B/pi) pairs)."""
    pairs = float(ratios @ off @ ratios)
    if trace <= 0 or pairs <= 0:
        return None, None
    peak = math.pi * trace / (2 * pairs)
    highest = math.sqrt(2 * peak / math.pi) * slope / (2 * trace)
    spread = (math.sqrt(peak / batch_size) + math.sqrt(batch_size / peak)) / 2
    return highest / spread, peak


def _regime(strengths: np.ndarray) -> str:
    if float(strengths.max()) < SMALL:
        return "noise drowns every mean: the closed form holds"
    if float(strengths.min()) > LARGE:
        return "every sign is known: the batch size no longer matters"
    return "between: the closed form does not hold"
