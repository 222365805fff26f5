"""What becomes of the learning rate when the batch size changes: floats only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope.choose.decision import Decision, policy
from downslope.errors import UsageError


def rescale_sgd(
    learning_rate: float, *, batch_size: float, new_batch_size: float, noise_scale: float
) -> float:
    """The learning rate for another batch size: proportional to it at first, then saturating.

    rate' = rate (1 + B_noise/B)/(1 + B_noise/B'). Far below the noise scale this is the linear
    rule; far above it the rate no longer changes.

    Args:
        learning_rate: best rate at `batch_size`.
        batch_size, new_batch_size: B and B', in examples.
        noise_scale: B_noise, or B_simple in its place, in examples.

    Raises:
        UsageError: an argument that is not finite and above 0.

    Example:
        >>> round(rescale_sgd(0.1, batch_size=32, new_batch_size=64, noise_scale=3200), 4)
        0.198
        >>> round(rescale_sgd(0.1, batch_size=32, new_batch_size=64, noise_scale=3.2), 4)
        0.1048

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.6.
    """
    for name, number in (
        ("learning_rate", learning_rate), ("batch_size", batch_size),
        ("new_batch_size", new_batch_size), ("noise_scale", noise_scale),
    ):  # fmt: skip
        _above_zero(name, number)
    return learning_rate * (1 + noise_scale / batch_size) / (1 + noise_scale / new_batch_size)


@policy
def follow_batch(
    *,
    learning_rate: float,
    batch_size: int,
    new_batch_size: int,
    noise_scale: float | None,
    saturates: bool,
) -> Decision | None:
    """The learning rate that goes with another batch size, so that the temperature stays.

    Args:
        learning_rate: in use at `batch_size`.
        batch_size, new_batch_size: in examples.
        noise_scale: in examples; where it is not known, the old batch size stands for it.
        saturates: as for `rescale_sgd`, plain and momentum descent; else by the square root of the
            ratio of the sizes, as for Adam.

    Example:
        >>> print(follow_batch(learning_rate=0.01, batch_size=128, new_batch_size=512,
        ...                    noise_scale=900, saturates=False))
        learning_rate 0.01 -> 0.02: it follows the batch size from 128 to 512 by the square root
    """
    if saturates:
        scale = max(noise_scale or batch_size, 1e-6)
        new = rescale_sgd(
            learning_rate,
            batch_size=batch_size,
            new_batch_size=new_batch_size,
            noise_scale=scale,
        )
        rule = f"in proportion, up to the noise scale of {scale:,.3g} examples"
    else:
        new, rule = learning_rate * math.sqrt(new_batch_size / batch_size), "by the square root"
    because = f"it follows the batch size from {batch_size:,} to {new_batch_size:,} {rule}"
    return Decision(knob="learning_rate", old=learning_rate, new=new, because=because)


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """Adam's knobs, named as in optax."""

    learning_rate: float
    b1: float
    b2: float
    eps: float


def rescale_adam(
    *, learning_rate: float, b1: float, b2: float, eps: float, factor: float
) -> AdamSettings:
    """Adam's settings for a batch `factor` times as large, by the square-root rule.

    With f the factor: rate sqrt(f), 1 - b becomes f (1 - b) for both, eps/sqrt(f); the number of
    steps falls by f. It holds while noise dominates the gradient, so for batches below the
    noise scale.

    Args:
        learning_rate, b1, b2, eps: best settings now; 0 <= b < 1.
        factor: new batch size over the old one, above 0.

    Raises:
        UsageError: factor (1 - b1) or factor (1 - b2) at or above 1: the memory would be less
            than a step; an argument outside its range.

    Example:
        >>> new = rescale_adam(learning_rate=0.002, b1=0.98, b2=0.998, eps=1e-8, factor=4)
        >>> new.learning_rate, round(new.b1, 6), round(new.b2, 6), new.eps
        (0.004, 0.92, 0.992, 5e-09)

    Source: Malladi, Lyu, Panigrahi and Arora (2022), On the SDEs and scaling rules for adaptive
    gradient algorithms, definition 5.2.
    """
    _above_zero("learning_rate", learning_rate)
    _above_zero("factor", factor)
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and at least 0; got {eps}")
    scaled = []
    for name, b in (("b1", b1), ("b2", b2)):
        if not 0 <= b < 1:
            raise UsageError(f"{name} must be at least 0 and below 1; got {b}")
        if b > 0 and factor * (1 - b) >= 1:
            raise UsageError(
                f"factor must be below 1/(1 - {name}) = {1 / (1 - b):.4g}, or no memory is left; "
                f"got {factor:g}"
            )
        scaled.append(1 - factor * (1 - b) if b > 0 else 0.0)
    root = math.sqrt(factor)
    return AdamSettings(
        learning_rate=learning_rate * root, b1=scaled[0], b2=scaled[1], eps=eps / root
    )


def _above_zero(name: str, number: float) -> None:
    if not (math.isfinite(number) and number > 0):
        raise UsageError(f"{name} must be finite and above 0; got {number}")
