"""scikit-learn's own checks of an estimator, each of them held to."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from downslope.sklearn import (
    LinearClassifier,
    LinearRegressor,
    LinearSVC,
    MLPClassifier,
    MLPRegressor,
)

# Repeated rows make other batches than rows with weights. The one that is solved passes it too.
WEIGHTS = {"check_sample_weight_equivalence_on_dense_data": "repeated rows make other batches"}

# Passes are bounded, as in scikit-learn's own tests of its networks; two of them are not.
FAST: list[Any] = [LinearRegressor()]
SLOW: list[Any] = [
    LinearClassifier(),
    LinearSVC(max_iter=10),
    MLPClassifier(max_iter=10, hidden_layer_sizes=16),
    MLPRegressor(max_iter=10, hidden_layer_sizes=16),
]
NEEDS_AN_ENVIRONMENT = "check_array_api_input"  # skips itself where SCIPY_ARRAY_API is not set


def _checks() -> Any:
    for estimator, marks in [(e, ()) for e in FAST] + [(e, pytest.mark.slow) for e in SLOW]:
        solved = isinstance(estimator, LinearRegressor)
        pairs = estimator_checks_generator(
            estimator, expected_failed_checks={} if solved else WEIGHTS, mark=None
        )
        for each, check in pairs:
            name = check.func.__name__
            if name == NEEDS_AN_ENVIRONMENT:
                continue
            fails = not solved and name in WEIGHTS
            more = [pytest.mark.xfail(strict=True, reason=WEIGHTS[name])] if fails else []
            marked = [marks] if marks else []
            options = ",".join(f"{k}={v}" for k, v in check.keywords.items())
            yield pytest.param(
                each, check, marks=[*marked, *more], id=f"{estimator}-{name}({options})"
            )


@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
def test_check(estimator: Any, check: Any) -> None:
    check(estimator)
