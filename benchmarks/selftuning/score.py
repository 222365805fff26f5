"""Scores: performance profiles, ratios to the oracle, and paired tests.

The time to target of a rival on a workload is the median over its seeds, a miss being infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

MOST = 4.0  # times the fastest; beyond it a profile ends, as AlgoPerf's does
Times = Mapping[str, Mapping[str, Sequence[float]]]  # seconds by rival, workload and seed


def medians(times: Times) -> dict[str, dict[str, float]]:
    """Median seconds by rival and workload."""
    return {
        rival: {workload: median(seconds) for workload, seconds in found.items() if seconds}
        for rival, found in times.items()
    }


def ratios(times: Times, workloads: Sequence[str]) -> dict[str, dict[str, float]]:
    """Median times over those of the fastest rival, infinite for a miss or a missing run.

    A workload that nobody solves is infinite for all.
    """
    found = medians(times)
    fastest = {w: min((found[r].get(w, math.inf) for r in found), default=math.inf)
               for w in workloads}  # fmt: skip
    return {
        rival: {
            w: seconds.get(w, math.inf) / fastest[w] if math.isfinite(fastest[w]) else math.inf
            for w in workloads
        }
        for rival, seconds in found.items()
    }


def profile_score(values: Sequence[float]) -> float:
    """Share of the area under a performance profile from 1 to `MOST` times the fastest.

    The profile at t is the share of workloads with a ratio of at most t, so that a workload with
    the ratio r adds (MOST - r) / (MOST - 1), or nothing beyond.

    Source: Dolan and More 2002; scored as by AlgoPerf (Dahl et al. 2023, section 4.5).
    """
    if not values:
        return 0.0
    return float(np.mean([max(0.0, MOST - value) / (MOST - 1) for value in values]))


def scores(times: Times, workloads: Sequence[str]) -> dict[str, float]:
    """Score of every rival on these workloads."""
    return {rival: profile_score(list(r.values())) for rival, r in ratios(times, workloads).items()}


def misses(seconds: Sequence[float]) -> int:
    """Seeds on which the target was missed."""
    return sum(not math.isfinite(s) for s in seconds)


def above(
    times: Times, rival: str, other: str, workloads: Sequence[str], seed: int = 0
) -> tuple[float, float]:
    """p-values that one rival is no faster than another, by a signed-rank and a sign-flip test.

    Both are one-sided and paired by workload: the differences are those of what the workload adds
    to the score, so that a miss counts as `MOST` times the fastest. The ratios are those among all
    rivals. A test without a difference gives 1.
    """
    from scipy.stats import wilcoxon

    found = ratios(times, workloads)
    gain = np.array(
        [profile_score([found[rival][w]]) - profile_score([found[other][w]]) for w in workloads]
    )
    if not gain.any():
        return 1.0, 1.0
    ranked: Any = wilcoxon(gain, alternative="greater", zero_method="zsplit")
    return float(ranked.pvalue), flipped(gain, seed)


def flipped(gain: np.ndarray, seed: int = 0, draws: int = 20_000) -> float:
    """p-value that the mean of paired differences is not above 0, by flips of their signs."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(gain)))
    beyond = (signs @ gain) >= gain.sum() - 1e-12
    return float((beyond.sum() + 1) / (draws + 1))


def screened(
    times: Times, workloads: Sequence[str], *, always: Sequence[str], count: int
) -> list[str]:
    """Rivals to carry on: those always wanted and the best others, `count` in all or more."""
    order = scores(times, workloads)
    best = sorted(order, key=lambda rival: -order[rival])
    chosen = [rival for rival in always if rival in order]
    for rival in best:
        if len(chosen) >= max(count, len(always)):
            break
        if rival not in chosen:
            chosen.append(rival)
    return chosen
