"""Metrics by name: those with a value, and why others have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from downslope.estimate import Estimate


class Results(dict[str, Estimate]):
    """Estimates by metric name; `.reasons` says by name why others are missing.

    `.losses` holds what is minimised for every held-out row [n], where an evaluation left it:
    two evaluations of the same rows differ by much less than either is uncertain.

    Args:
        found: by name an estimate, or the reason for none; those without a value go into
            `.reasons`.
        higher_is_better: names of the metrics of which a higher value is better; a lower one is
            of all others.

    >>> results = Results({"auc": "only class 1 is present"})
    >>> results.get("auc"), results.reasons["auc"]
    (None, 'only class 1 is present')
    >>> print(results)
    auc: not estimable: only class 1 is present
    """

    def __init__(self, found: Mapping[str, Estimate | str], higher_is_better: Iterable[str] = ()):
        super().__init__(
            {n: e for n, e in found.items() if isinstance(e, Estimate) and e.is_measured}
        )
        missing = {n: e for n, e in found.items() if n not in self}
        self.reasons = {n: e if isinstance(e, str) else e.reason or "" for n, e in missing.items()}
        self.losses: Any = None
        self.higher_is_better = frozenset(higher_is_better)

    def __str__(self) -> str:
        lines = [f"{name}: {found}" for name, found in self.items()]
        lines += [f"{name}: not estimable: {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines)
