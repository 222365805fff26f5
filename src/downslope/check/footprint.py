"""What a run will hold in memory, from shapes and from the compiled program's own account."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from downslope.check.findings import Finding, Severity
from downslope.errors import UsageError

ROOM = 0.8  # share of the free memory that a run may fill; the rest is for what is not counted
GIB = 1 << 30


class ProgramMemory(NamedTuple):
    """Bytes of a compiled program, by its own account.

    Attributes:
        arguments: what it is given.
        outputs: what it gives back, beside arguments used again in place.
        temporary: what it needs meanwhile: activations, gradients.
        code: the program itself.
    """

    arguments: int
    outputs: int
    temporary: int
    code: int


class FreeMemory(NamedTuple):
    """Bytes that are free, None where that cannot be asked, and of what: "host", "device"."""

    bytes: int | None
    of: str


def tree_bytes(shapes: Any) -> int:
    """Bytes of a tree of arrays, or of their shapes; random keys count as their data.

    Example:
        >>> tree_bytes({"w": jax.ShapeDtypeStruct((10, 3), np.float32), "none": None})
        120
    """
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes)
    )


def program_memory(compiled: Any) -> ProgramMemory | None:
    """What a compiled program (`jax.jit(f).lower(shapes).compile()`) says that it needs.

    Returns:
        None where the device does not say.

    Example:
        >>> shape = jax.ShapeDtypeStruct((1024, 1024), np.float32)
        >>> program = jax.jit(lambda a: jax.numpy.tanh(a @ a) @ a)
        >>> found = program_memory(program.lower(shape).compile())
        >>> found.arguments, found.temporary >= 4 * 1024**2  # the first product is held
        (4194304, True)
    """
    try:
        told = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    if told is None:
        return None
    return ProgramMemory(
        arguments=told.argument_size_in_bytes,
        outputs=max(0, told.output_size_in_bytes - told.alias_size_in_bytes),
        temporary=told.temp_size_in_bytes,
        code=told.generated_code_size_in_bytes,
    )


def free_memory(device: Any = None) -> FreeMemory:
    """Memory that is free for a run: of the device where it tells, else MemAvailable of Linux.

    Args:
        device: a device of JAX; by default the first.

    Example:
        >>> free_memory().of
        'host'
    """
    device = jax.devices()[0] if device is None else device
    told = device.memory_stats() if device.platform != "cpu" else None
    if told and "bytes_limit" in told:
        return FreeMemory(told["bytes_limit"] - told.get("bytes_in_use", 0), "device")
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return FreeMemory(1024 * int(fields["MemAvailable"].split()[0]), "host")
    except (OSError, KeyError, ValueError):
        return FreeMemory(None, "host")


def largest_microbatch(
    temporary: Callable[[int], int], free: int, *, tried: int, most: int
) -> int | None:
    """Rows that the device can take at once: the largest whose temporary memory is free.

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
    if tried < 1 or most < 1:
        raise UsageError(f"tried, most must be 1 or more; got {tried}, {most}")
    low, high = temporary(tried), temporary(4 * tried)
    a_row = max((high - low) / (3 * tried), 0.0)
    fixed = max(low - a_row * tried, 0.0)
    if fixed + a_row > free:
        return None
    rows = most if a_row == 0 else int(min(most, (free - fixed) / a_row))
    return rows if rows == most else 1 << (rows.bit_length() - 1)


def memory(
    parts: Mapping[str, int],
    free: FreeMemory,
    *,
    microbatch_size: int,
    largest: int | None = None,
) -> Finding:
    """Whether a run fits into memory, part by part.

    Args:
        parts: bytes by what they are for.
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
    order = sorted((p for p in parts.items() if p[1]), key=lambda part: -part[1])
    told = ", ".join(f"{in_words(size)} {name}" for name, size in order)
    severity: Severity = "fine"
    remedy = None
    if free.bytes is None:
        text = f"a run needs about {in_words(total)}; how much is free is not known: {told}"
    else:
        text = (
            f"a run needs about {in_words(total)} of the {in_words(free.bytes)} of {free.of} "
            f"memory that are free: {told}"
        )
        if total > free.bytes:
            severity = "error"
        elif total > ROOM * free.bytes:
            severity = "warning"
    if severity != "fine":
        remedy = "use a smaller model, batch or --microbatch-size"
    if largest is not None:
        if largest < microbatch_size:
            remedy = f"--microbatch-size {largest} would fit"
        elif largest > microbatch_size:
            text += f"; a micro-batch may have {largest:,} rows instead of {microbatch_size:,}"
    return Finding(
        name="memory", severity=severity, sentence=text, remedy=remedy,
        values={
            "bytes": dict(parts), "total_bytes": total, "free_bytes": free.bytes,
            "free_of": free.of, "microbatch_size": microbatch_size,
            "largest_microbatch_size": largest,
        },
    )  # fmt: skip


def in_words(size: int) -> str:
    """Bytes for a reader.

    Example:
        >>> in_words(1536), in_words(3 << 30), in_words(12)
        ('1.5 KiB', '3 GiB', '12 B')
    """
    for unit, step in (("GiB", GIB), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step:
            return (
                f"{size / step:,.3g} {unit}" if size < 1000 * step else f"{size / step:,.0f} {unit}"
            )
    return f"{size} B"
