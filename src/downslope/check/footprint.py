"""Memory of a run, from shapes and from the compiled program's own account."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from downslope.arguments import whole
from downslope.check.findings import Finding, Severity
from downslope.estimate import bytes_in_words

USABLE_SHARE = 0.8  # of the free memory that a run may fill; the rest is for what is not counted


class FreeMemory(NamedTuple):
    """Free bytes, None where that cannot be asked, and of which memory."""

    bytes: int | None
    of: Literal["host", "device"]


def tree_bytes(shapes: Any) -> int:
    """Bytes of a tree of arrays, or of their shapes; random keys count as their data.

    Example:
        >>> tree_bytes({"w": jax.ShapeDtypeStruct((10, 3), np.float32), "none": None})
        120
    """
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes)
    )


def temporary_bytes(compiled: Any) -> int | None:
    """Bytes that a compiled program needs beside its inputs and outputs, by its own account.

    Args:
        compiled: `jax.jit(f).lower(shapes).compile()`.

    Returns:
        None where the device does not say.

    Example:
        >>> shape = jax.ShapeDtypeStruct((1024, 1024), np.float32)
        >>> program = jax.jit(lambda a: jax.numpy.tanh(a @ a) @ a)
        >>> temporary_bytes(program.lower(shape).compile()) >= 4 * 1024**2  # the first product
        True
    """
    try:
        analysis = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    return None if analysis is None else analysis.temp_size_in_bytes


def free_memory(device: Any = None) -> FreeMemory:
    """Memory that is free for a run: of the device where it says, else MemAvailable of Linux.

    Args:
        device: a device of JAX; by default the first.

    Example:
        >>> free_memory().of
        'host'
    """
    device = jax.devices()[0] if device is None else device
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return FreeMemory(stats["bytes_limit"] - stats.get("bytes_in_use", 0), "device")
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return FreeMemory(1024 * int(fields["MemAvailable"].split()[0]), "host")
    except (OSError, KeyError, ValueError):
        return FreeMemory(None, "host")


def largest_microbatch(
    temporary: Callable[[int], int], free: int, *, tried: int, most: int
) -> int | None:
    """Largest number of rows that the device can take at once.

    temporary(m) = a + c m, from two sizes; the answer is a power of two, or `most`.

    Args:
        temporary: bytes that a program for m rows needs meanwhile.
        free: bytes left beside everything else.
        tried: one of the two sizes m; the other is 4 times it.
        most: rows there are.

    Returns:
        None where not even one row fits.

    Raises:
        UsageError: tried or most below 1.

    Example:
        >>> largest_microbatch(lambda m: 1000 + 40 * m, 45_000, tried=32, most=10**6)
        1024
    """
    tried, most = whole("tried", tried), whole("most", most)
    low, high = temporary(tried), temporary(4 * tried)
    per_row = max((high - low) / (3 * tried), 0.0)
    fixed = max(low - per_row * tried, 0.0)
    if fixed + per_row > free:
        return None
    rows = most if per_row == 0 else int(min(most, (free - fixed) / per_row))
    return rows if rows == most else 1 << (rows.bit_length() - 1)


def memory(
    parts: Mapping[str, int],
    free: FreeMemory,
    *,
    microbatch_size: int,
    largest: int | None = None,
) -> Finding:
    """Memory that a run needs, part by part, beside what is free.

    Args:
        parts: bytes by purpose.
        free: memory that is free.
        microbatch_size: rows that the device takes at once.
        largest: rows that would fit, or None where not known.

    Returns:
        A `Finding` "memory": an error where the run needs more than is free, a warning above 80 %.

    Example:
        >>> parts = {"parameters": 4 << 20, "rows": 96 << 20}
        >>> print(memory(parts, FreeMemory(8 << 30, "host"), microbatch_size=128, largest=65536))
        fine     memory       a run needs about 100 MiB of the 8 GiB of host memory that are
        free: 96 MiB rows, 4 MiB parameters; a micro-batch may have 65,536 rows instead of
        128
    """
    total = sum(parts.values())
    listed = ", ".join(
        f"{bytes_in_words(size)} {name}"
        for name, size in sorted(parts.items(), key=lambda part: -part[1])
        if size
    )
    severity: Severity = "fine"
    remedy = None
    if free.bytes is None:
        text = f"a run needs about {bytes_in_words(total)}; how much is free is not known: {listed}"
    else:
        text = (
            f"a run needs about {bytes_in_words(total)} of the {bytes_in_words(free.bytes)} of "
            f"{free.of} memory that are free: {listed}"
        )
        if total > USABLE_SHARE * free.bytes:
            severity = "error" if total > free.bytes else "warning"
            remedy = "use a smaller model, batch or --microbatch-size"
    if largest is not None and largest < microbatch_size:
        remedy = f"--microbatch-size {largest} would fit"
    elif largest is not None and largest > microbatch_size:
        text += f"; a micro-batch may have {largest:,} rows instead of {microbatch_size:,}"
    return Finding(
        name="memory", severity=severity, sentence=text, remedy=remedy,
        values={
            "bytes": dict(parts), "total_bytes": total, "free_bytes": free.bytes,
            "free_of": free.of, "microbatch_size": microbatch_size,
            "largest_microbatch_size": largest,
        },
    )  # fmt: skip
