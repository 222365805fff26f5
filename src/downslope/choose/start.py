"""Initial choices, before anything is measured."""

from __future__ import annotations

import math

from downslope.arguments import number

MOST = 128  # from 16 to 2048 an example costs 1.0 to 1.7 times the cheapest (five tasks, measured)
LEAST = 16
EARLY_NOISE_SCALE = 100.0  # examples; between 10 and 1000 early in most runs (measured)
MIN_ECONOMICAL = 4


def first_batch_size(*, num_rows: int | None, most: int) -> int:
    """Initial batch size: the square root of the table's rows, from 16 to 128.

    An epoch then has about as many updates as an update has examples. A power of two, like all
    sizes that may follow.

    Args:
        num_rows: rows of the table; None for a generator.
        most: largest size that fits in memory.

    Example:
        >>> [first_batch_size(num_rows=rows, most=8192) for rows in (1_000_000, 1000, 30)]
        [128, 32, 16]
    """
    root = MOST if num_rows is None else 2 ** round(math.log2(max(1, num_rows)) / 2)
    bound = min(max(LEAST, root), MOST, most, num_rows or MOST)
    return 1 << max(0, bound.bit_length() - 1) if bound > 0 else 1


def economical_batch_size(half_size: float) -> int:
    """Batch size beyond which examples cost more time than the noise they average out is worth.

    sqrt(B_noise n_half), the least of (1 + B_noise/b) t(b) for a step time on a line, at an early
    noise scale of 100 examples; rounded up to a power of two, 4 at least.

    Args:
        half_size: n_half in examples, at which the fixed cost of an update equals that of its
            examples.

    Example:
        >>> [economical_batch_size(size) for size in (0.5, 30, 1000)]
        [8, 64, 512]

    Source: McCandlish et al. (2018), section 2; see `sweet_spot`.
    """
    number("half_size", half_size, least=0)
    best = max(MIN_ECONOMICAL, math.sqrt(EARLY_NOISE_SCALE * half_size))
    return 1 << math.ceil(math.log2(best))
