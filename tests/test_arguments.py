"""One form of error for every argument."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from downslope import UsageError
from downslope.arguments import number, one_of, whole

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "value", "found"),
    [
        (lambda v: whole("n", v), np.int64(3), 3),
        (lambda v: whole("n", v, least=0), np.array(0), 0),
        (lambda v: whole("n", v, optional=True), None, None),
        (lambda v: number("a", v, above=0, below=1), np.float32(0.5), 0.5),
        (lambda v: number("a", v, least=0, most=1), jnp.float32(1), 1.0),
        (lambda v: number("a", v, optional=True), None, None),
        (lambda v: number("a", v), 2, 2),
        (lambda v: one_of("k", v, ("x", None)), None, None),
    ],
)
def test_allowed_values_come_back_as_pythons_own(check, value, found):
    """Catches an end that is refused, and a scalar of NumPy in a configuration or a file."""
    got = check(value)
    assert got == found and type(got) is type(found)


@pytest.mark.parametrize(
    ("check", "values", "rule"),
    [
        (
            lambda v: whole("n", v),
            [True, 0, 1.5, 1.0, "a", None, NAN, np.bool_(True), np.arange(2)],
            "n must be a whole number of at least 1; got ",
        ),
        (
            lambda v: whole("n", v, most=5, optional=True),
            [0, 6, "a"],
            "n must be a whole number from 1 to 5, or None; got ",
        ),
        (
            lambda v: number("a", v, above=0, below=1),
            [True, 0, 1, "a", None, NAN, np.float64(2)],
            "a must be a number above 0 and below 1; got ",
        ),
        (lambda v: number("a", v, least=0), [-1, INF], "a must be a finite number of at least 0; "),
        (lambda v: number("a", v), [INF, [1.0]], "a must be a finite number; got "),
        (lambda v: one_of("k", v, ("x", None)), [1, "y", True], "k must be one of x, None; got "),
    ],
)
def test_other_values_are_refused(check, values, rule):
    """Catches a range that lets its ends, NaN, bools, arrays or strings through."""
    for value in values:
        with pytest.raises(UsageError) as caught:
            check(value)
        assert str(caught.value).startswith(rule)
        assert "np." not in str(caught.value)
