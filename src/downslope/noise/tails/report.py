"""Heavy tails of the gradient noise: concentration, tail index and a verdict in three steps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import array
from downslope.noise.tails.index import HillCurve, Indices, hill, hill_curve, unusable
from downslope.noise.tails.models import ONE_SIDED, num_vuong, power_law_or_lognormal

LARGE_SHARE = 0.1  # of the largest square in the sum; assumed
FINITE = "a finite data set always has finite covariance"


class TailVerdict(enum.Enum):
    """Outcome of the three steps of `tail_report`."""

    HEAVY = "like a power law with alpha below 2"
    WIDE = "very wide, but log-normal-like"
    NOT_HEAVY = "no sign of infinite variance"
    OPEN = "cannot be told"
    NOT_ESTIMABLE = "not estimable"


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """Shares of the noise, sum |g_i - mean|^2, that a few examples carry.

    Attributes:
        top_share: of the largest example.
        top_percent_share: of the largest 1 % of examples, at least one.
        rows: those examples' row numbers from 0, largest first.
    """

    top_share: Estimate
    top_percent_share: Estimate
    rows: Indices


@dataclass(frozen=True, kw_only=True)
class TailReport:
    """Tail of one set of norms, with the numbers behind the verdict.

    Attributes:
        verdict: outcome of the three steps.
        sentence: the verdict in words, with its numbers.
        alpha: Hill's estimate at the chosen k.
        curve: Hill's estimate against k, or None.
        vuong: z of power law against truncated log-normal at `num_vuong(n)` tail points.
        concentration: shares of the largest examples.
    """

    verdict: TailVerdict
    sentence: str
    alpha: Estimate
    curve: HillCurve | None
    vuong: Estimate
    concentration: Concentration


def concentration(norms: ArrayLike) -> Concentration:
    """Shares of the noise carried by the largest example and by the largest 1 %.

    Exact for these rows, so there is no interval.

    Args:
        norms: |g_i - mean| [n], from `deviation_norms`.

    Returns:
        A `Concentration`; with equal shares the largest of n carries 1/n.

    Raises:
        UsageError: norms are not [n].

    Example:
        >>> found = concentration(np.r_[np.ones(99), 10.0])
        >>> print(found.top_share, found.rows.tolist())
        0.503 share [99]
    """
    x = array("norms", norms, 1)
    fields = {"unit": "share", "num_examples": len(x)}
    if reason := unusable(x):
        none = not_estimable(reason, **fields)
        return Concentration(
            top_share=none, top_percent_share=none, rows=np.zeros(0, dtype=np.int64)
        )
    num = max(1, len(x) // 100)
    squares = (x / x.max()) ** 2
    rows = np.argsort(-squares, kind="stable")[:num]
    shares = squares[rows[0]] / squares.sum(), squares[rows].sum() / squares.sum()
    first, percent = (
        Estimate(value=float(share), method="exact for these rows", flags=(FINITE,), **fields)
        for share in shares
    )
    return Concentration(top_share=first, top_percent_share=percent, rows=rows)


def tail_report(norms: ArrayLike) -> TailReport:
    """Three-step verdict on whether the tail looks like one without variance.

    1. Upper limit of Hill's index at the k of least Kolmogorov-Smirnov distance:
       alpha (1 + 1.645/sqrt(k)) < 2.
    2. The largest square is more than a tenth of their sum. As n grows its share goes to 0 if and
       only if the second moment is finite.
    3. Vuong's test on the min(n/4, 2.5 n^(2/3)) largest values does not prefer a truncated
       log-normal (z >= -1.645).

    Args:
        norms: [n], n >= 300: |g_i - mean| by example, or absolute projections of batch gradients.

    Raises:
        UsageError: norms are not [n].

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(tail_report(abs(rng.standard_t(1.5, 5000))).sentence)
        At this sample size the tail behaves like alpha ~ 1.4 (1.3 to 1.5, k = 500): the source may
        have no variance; a finite data set always has finite covariance.
        >>> print(tail_report(abs(rng.normal(size=5000))).verdict.value)
        no sign of infinite variance

    Source: Clauset, Shalizi and Newman 2009, sections 3 and 5; Vuong 1989; for the share of the
    largest Maller and Resnick 1984.
    """
    x = array("norms", norms, 1)
    curve, shares = hill_curve(x), concentration(x)
    if isinstance(curve, str):
        none = not_estimable(curve, unit="", num_examples=len(x))
        return TailReport(
            verdict=TailVerdict.NOT_ESTIMABLE, sentence=f"The tail is not estimable: {curve}.",
            alpha=none, curve=None, vuong=none, concentration=shares,
        )  # fmt: skip
    alpha = hill(x)
    vuong = power_law_or_lognormal(x, num_vuong(len(x)))
    verdict = _verdict(alpha, curve.best, shares.top_share, vuong)
    return TailReport(
        verdict=verdict, sentence=_sentence(verdict, alpha, curve.best, shares.top_share),
        alpha=alpha, curve=curve, vuong=vuong, concentration=shares,
    )  # fmt: skip


def _verdict(alpha: Estimate, k: int, largest: Estimate, vuong: Estimate) -> TailVerdict:
    if alpha.value is None or largest.value is None:
        return TailVerdict.NOT_ESTIMABLE
    if not largest.value > LARGE_SHARE:
        return TailVerdict.NOT_HEAVY
    reach = ONE_SIDED / math.sqrt(k)
    if not alpha.value * (1 + reach) < 2:
        return TailVerdict.OPEN if alpha.value * (1 - reach) < 2 else TailVerdict.NOT_HEAVY
    if vuong.value is not None and vuong.value < -ONE_SIDED:
        return TailVerdict.WIDE
    return TailVerdict.HEAVY


def _sentence(verdict: TailVerdict, alpha: Estimate, k: int, largest: Estimate) -> str:
    if alpha.value is None or alpha.lo is None or alpha.hi is None or largest.value is None:
        return f"The tail is not estimable: {alpha.reason or largest.reason}."
    index = f"alpha ~ {alpha.value:.2g} ({alpha.lo:.2g} to {alpha.hi:.2g}, k = {k})"
    text = {
        TailVerdict.HEAVY: (
            f"At this sample size the tail behaves like {index}: the source may have no variance"
        ),
        TailVerdict.WIDE: (
            f"The spread is very wide ({index}) but log-normal-like: all moments of the source "
            "may exist"
        ),
        TailVerdict.OPEN: (
            f"At this sample size it cannot be told whether the source has a variance: {index}"
        ),
        TailVerdict.NOT_HEAVY: (
            f"No sign of infinite variance at this sample size: {index}, the largest square is "
            f"{largest.value:.2g} of their sum"
        ),
    }[verdict]
    return f"{text}; {FINITE}."
