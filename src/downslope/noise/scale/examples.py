"""Gradient noise scale from the gradients of single examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import one_of
from downslope.errors import UsageError
from downslope.noise.scale.steps import SIGNAL, Noise, no_noise, of_part
from downslope.noise.statistics.ratios import Part, ratio
from downslope.noise.statistics.sample import read_sample

Target = Literal["population", "dataset"]
METHOD = "per-example gradients"


def from_examples(
    gradients: ArrayLike, *, target: Target = "population", num_rows: int | None = None
) -> Noise:
    """Noise at one point from the gradients of n examples.

    With the mean m and c_i = g_i - m: tr Sigma = sum |c_i|^2/(n - 1), and
    |G|^2 = |m|^2 - tr Sigma/n, the mean of all g_i . g_j with i != j. Both are unbiased.

    The error of |G|^2 is sqrt((4 G^T Sigma G + 2 tr(Sigma^2)/n)/n), exact for Gaussian noise. In
    simulation the intervals covered 94 to 97 % from n = 100 on, at effective ranks of 2 to
    600 and any resolved signal. They are too wide (99 %) where the signal lies in a direction
    almost free of noise, and too narrow at any n if single examples carry most of the
    variance. Time and memory: n d, and n^2 d (or d^2 n if smaller) for tr(Sigma^2).

    Args:
        gradients: [n, d], n >= 3, independent draws of one example's gradient.
        target: whose gradient G is: of the population that the rows are a sample of, or of the
            data set itself, whose rows were drawn without replacement. For the latter
            tr Sigma/N is added to |G|^2 and the errors shrink by sqrt(1 - n/N).
        num_rows: N, rows of the data set; needed for target="dataset".

    Returns:
        `trace` has the divisor N - 1 for either target.

    Raises:
        UsageError: gradients that are not [n, d], an unknown target, n > num_rows.

    Example:
        >>> rng = np.random.default_rng(0)  # |G|^2 = 4, tr Sigma = 100: B_simple = 25
        >>> noise = from_examples(0.2 + rng.normal(size=(400, 100)))
        >>> print(noise.scale, "|", noise.trace)
        24.4 (22.0 to 27.2) examples | 100.4 (99.0 to 101.8) (loss/parameter)^2

    Source: Cochran (1977), Sampling Techniques, sections 2.4 to 2.6; Chen and Qin (2010), A two-
    sample test for high-dimensional data, equation 2.1, for the error of |G|^2.
    """
    one_of("target", target, ("population", "dataset"))
    if target == "dataset" and num_rows is None:
        raise UsageError("num_rows must be given for target='dataset'; got None")
    sample = read_sample(gradients)
    if isinstance(sample, str):
        return no_noise(sample)
    if num_rows is not None and sample.num > num_rows:
        raise UsageError(f"num_rows must be at least the {sample.num} rows given; got {num_rows}")
    above, below, covariance = sample.trace_part(), sample.signal_part(), sample.covariance()
    method = METHOD
    if target == "dataset" and num_rows is not None:
        shrink = math.sqrt(1 - sample.num / num_rows)
        above = _shifted(above, 0.0, shrink)
        below = _shifted(below, sample.trace / num_rows, shrink)
        covariance *= shrink**2
        method = f"{METHOD}; data set of {num_rows} rows"
    scale = ratio(
        above, below, covariance=covariance, unit="examples", denominator=SIGNAL,
        method=f"{method}; intervals of both parts joined on the log scale",
        num_examples=sample.num,
    )  # fmt: skip
    return Noise(
        signal=of_part(below, method, num_examples=sample.num),
        trace=of_part(above, method, num_examples=sample.num),
        scale=scale,
    )


def _shifted(part: Part, shift: float, shrink: float) -> Part:
    value = part.value + shift
    return Part(
        value=value,
        error=part.error * shrink,
        lo=value - (part.value - part.lo) * shrink,
        hi=value + (part.hi - part.value) * shrink,
    )


def from_examples_by_group(
    groups: Mapping[str, ArrayLike],
    *,
    target: Target = "population",
    num_rows: int | None = None,
) -> dict[str, Noise]:
    """Noise of each group of parameters, such as a layer, by name.

    Args:
        groups: arrays [n, ...], the same n examples in each; trailing axes are flattened.
        target, num_rows: as for `from_examples`.

    Raises:
        UsageError: groups of different n.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> groups = {"first": 1 + rng.normal(size=(400, 5, 4)), "last": rng.normal(size=(400, 9))}
        >>> for name, noise in from_examples_by_group(groups).items():
        ...     print(name, noise.scale)
        first 1.006 (0.951 to 1.064) examples
        last at least 171 examples (|G|^2 cannot be told from 0)
    """
    found: dict[str, Noise] = {}
    lengths = set()
    for name, group in groups.items():
        array = np.asarray(group, dtype=np.float64)
        if array.ndim == 0:
            raise UsageError(f"groups[{name!r}] must have shape [n, ...]; got a single number")
        lengths.add(len(array))
        if len(lengths) > 1:
            raise UsageError(f"groups must have the same n; got {sorted(lengths)}")
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        found[name] = from_examples(flat, target=target, num_rows=num_rows)
    return found
