"""Learning rate for a changed batch size."""

from __future__ import annotations

import math

from downslope.arguments import number
from downslope.choose.decision import Decision, policy


def rescale_sgd(
    learning_rate: float, *, batch_size: float, new_batch_size: float, noise_scale: float
) -> float:
    """Learning rate for another batch size: proportional at first, then saturating.

    rate' = rate (1 + B_noise/B)/(1 + B_noise/B'). Far below the noise scale this is the linear
    rule; far above it the rate no longer changes.

    Args:
        learning_rate: best rate at `batch_size`.
        batch_size, new_batch_size: B and B', in examples.
        noise_scale: B_noise, or B_simple instead, in examples.

    Raises:
        UsageError: an argument that is not finite and above 0.

    Example:
        >>> round(rescale_sgd(0.1, batch_size=32, new_batch_size=64, noise_scale=3200), 4)
        0.198
        >>> round(rescale_sgd(0.1, batch_size=32, new_batch_size=64, noise_scale=3.2), 4)
        0.1048

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.6.
    """
    number("learning_rate", learning_rate, above=0)
    number("batch_size", batch_size, above=0)
    number("new_batch_size", new_batch_size, above=0)
    number("noise_scale", noise_scale, above=0)
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
    """Adapt the learning rate to another batch size so that the temperature stays the same.

    Args:
        learning_rate: rate in use at `batch_size`.
        batch_size, new_batch_size: in examples.
        noise_scale: in examples; if unknown, the old batch size is used instead.
        saturates: scale like `rescale_sgd`, for plain and momentum descent; else by the square
            root of the ratio of the sizes, as for Adam.

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
