"""Where a run begins before anything was measured: floats only."""

from __future__ import annotations

FIRST = (
    128  # an example costs 1.0 to 1.7 times the cheapest from 16 to 2048, on five tasks (measured)
)
FEWEST_STEPS = 8  # updates of an epoch, at least


def first_batch_size(*, num_rows: int | None, most: int) -> int:
    """The batch size that a run begins with: 128, less for a small table or little memory.

    A power of two, since those are what the ladder of larger batches is made of.

    Args:
        num_rows: rows of the table; None for a generator.
        most: what memory allows.

    Example:
        >>> first_batch_size(num_rows=1_000_000, most=8192), first_batch_size(num_rows=300, most=64)
        (128, 32)
    """
    bound = min(FIRST, most) if num_rows is None else min(FIRST, most, num_rows // FEWEST_STEPS)
    return 1 << max(0, bound.bit_length() - 1) if bound > 0 else 1
