"""How much must be measured for a noise scale of a given accuracy: formulas, floats only."""

from __future__ import annotations

import math

from downslope.errors import UsageError


def relative_variance(
    *,
    noise_scale: float,
    batch_size: float,
    num_microbatches: int,
    effective_rank: float,
    alignment: float,
    num_steps: int = 1,
) -> float:
    """Relative variance of the noise scale from K steps of m microbatches each.

    (1/K)[4 q B_s/B + (2/r)(B_s/B)^2 m/(m-1) + 2/(r(m-1)) (1 + 2 B_s/B)], for Gaussian noise.

    Args:
        noise_scale: B_s = tr Sigma/|G|^2 in examples.
        batch_size: B, examples of one step over all its microbatches.
        num_microbatches: m >= 2.
        effective_rank: r = (tr Sigma)^2/tr(Sigma^2), at least 1.
        alignment: q = G^T Sigma G/(|G|^2 tr Sigma), 0 to 1.
        num_steps: K.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> v = relative_variance(noise_scale=45, batch_size=128, num_microbatches=8,
        ...                       effective_rank=12.5, alignment=0.1, num_steps=50)
        >>> print(f"{v**0.5:.1%}")
        6.4%
    """
    _check(noise_scale, effective_rank, alignment)
    if not batch_size > 0:
        raise UsageError(f"batch_size must be above 0; got {batch_size}")
    if num_microbatches < 2:
        raise UsageError(f"num_microbatches must be at least 2; got {num_microbatches}")
    if num_steps < 1:
        raise UsageError(f"num_steps must be at least 1; got {num_steps}")
    x, m, r = noise_scale / batch_size, num_microbatches, effective_rank
    signal = 4 * alignment * x + 2 / r * x * x * m / (m - 1)
    return (signal + 2 / (r * (m - 1)) * (1 + 2 * x)) / num_steps


def steps_for_accuracy(
    relative_error: float,
    *,
    noise_scale: float,
    batch_size: float,
    num_microbatches: int,
    effective_rank: float,
    alignment: float,
) -> int:
    """Steps after which the noise scale's relative standard error is at most `relative_error`.

    Arguments as for `relative_variance`.

    Example:
        >>> steps_for_accuracy(0.1, noise_scale=45, batch_size=128, num_microbatches=8,
        ...                    effective_rank=12.5, alignment=0.1)
        21
    """
    one = relative_variance(
        noise_scale=noise_scale, batch_size=batch_size, num_microbatches=num_microbatches,
        effective_rank=effective_rank, alignment=alignment,
    )  # fmt: skip
    return max(1, math.ceil(one / _accuracy(relative_error) ** 2))


def examples_for_accuracy(
    relative_error: float, *, noise_scale: float, effective_rank: float, alignment: float
) -> int:
    """Per-example gradients after which |G|^2 has at most this relative standard error.

    n = B_s/u, where (2/r) u^2 + 4 q u = x^2, for Gaussian noise.

    Args:
        relative_error: x, above 0.
        noise_scale: B_s = tr Sigma/|G|^2 in examples.
        effective_rank: r = (tr Sigma)^2/tr(Sigma^2), at least 1.
        alignment: q = G^T Sigma G/(|G|^2 tr Sigma), 0 to 1.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> [examples_for_accuracy(x, noise_scale=45, effective_rank=12.5, alignment=0.08)
        ...  for x in (0.5, 0.1)]
        [75, 1463]
    """
    _check(noise_scale, effective_rank, alignment)
    x, r, q = _accuracy(relative_error), effective_rank, alignment
    # the positive root, written without the difference of two near numbers
    u = 2 * x * x / (math.sqrt(16 * q * q + 8 * x * x / r) + 4 * q)
    return max(1, math.ceil(noise_scale / u))


def _check(noise_scale: float, effective_rank: float, alignment: float) -> None:
    if not noise_scale > 0:
        raise UsageError(f"noise_scale must be above 0; got {noise_scale}")
    if not effective_rank >= 1:
        raise UsageError(f"effective_rank must be at least 1; got {effective_rank}")
    if not 0 <= alignment <= 1:
        raise UsageError(f"alignment must be 0 to 1; got {alignment}")


def _accuracy(relative_error: float) -> float:
    if not relative_error > 0:
        raise UsageError(f"relative_error must be above 0; got {relative_error}")
    return relative_error
