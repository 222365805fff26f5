"""Initial choices, before anything is measured."""

from __future__ import annotations

import math

MOST = 128  # from 16 to 2048 an example costs 1.0 to 1.7 times the cheapest (five tasks, measured)
LEAST = 16


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
