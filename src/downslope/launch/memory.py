"""Out-of-memory errors, on the host or on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from downslope.errors import CapacityError


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn "out of memory" into a CapacityError with a remedy."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise CapacityError(
                "memory ran out; set a smaller microbatch_size, which leaves the result the same"
            ) from error
        raise
