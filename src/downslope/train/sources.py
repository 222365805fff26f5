"""Rows that a run trains on, how many at once, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.arguments import number
from downslope.config import FULL_BATCH, Training
from downslope.data.arrays import Arrays, random_generator, shuffled_copy
from downslope.data.blocks import table_stream
from downslope.data.generator import ENDLESS, Generator, generator_stream
from downslope.data.order import MIXED_BYTES, plan_order
from downslope.data.source import Source
from downslope.data.stream import Position, Ring, Stream
from downslope.errors import UsageError
from downslope.tree import arrays, map_arrays

STEP_BYTES = 64 << 20  # rows beyond this are accumulated: a batch must fit a buffer
STEP_ROWS = 8192  # assumed: larger ones gain little on a device, and activations cost memory
PART_ROWS = 4096  # rows at once when accumulating


def sources(data: Any, validation: Any, seed: int) -> tuple[Any, Source | None]:
    """Training and held-out source, from sources, arrays, or a share of the rows."""
    source = _source(data)
    if validation is None:
        return source, None
    if not isinstance(validation, float):
        return source, _source(validation)
    if not isinstance(source, Arrays):
        raise UsageError("validation as a share needs data in arrays; give a source instead")
    number("validation", validation, above=0, below=1)
    rows = random_generator(seed, "validation").permutation(source.num_rows)
    count = min(max(1, round(validation * source.num_rows)), source.num_rows - 1)
    if count < 1:
        raise UsageError("validation needs at least two rows of data; got one")
    return _part(source, rows[count:]), _part(source, rows[:count])


def _source(data: Any) -> Any:
    wide = jax.config.read("jax_enable_x64")
    return data if hasattr(data, "unpack") else Arrays(data, wide=wide)


def _part(source: Arrays, rows: np.ndarray) -> Arrays:
    rows = np.sort(rows)
    part = Arrays(map_arrays(lambda a: a[rows], source.tree), wide=True)
    part.row_numbers = rows if source.row_numbers is None else source.row_numbers[rows]
    return part


def check_alike(source: Any, held_out: Source) -> None:
    """Raise UsageError if the held-out rows have another shape."""
    shapes = [map_arrays(lambda a: a.shape[1:], example(s, 2)) for s in (source, held_out)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"validation must be like data, with rows of shape {shapes[0]}; got {shapes[1]}"
        )


def sizes(source: Any, training: Training) -> tuple[int, int]:
    """Rows per update, and rows the device takes at once."""
    asked = training.batch_size
    if isinstance(source, Generator):
        if not isinstance(asked, int):
            raise UsageError("a generator has no full batch; give batch_size a number")
        return asked, min(asked, training.microbatch_size or STEP_ROWS)
    batch = source.num_rows if asked == FULL_BATCH else min(int(asked), source.num_rows)
    if training.microbatch_size is not None:
        return batch, min(batch, training.microbatch_size)
    fits = batch <= STEP_ROWS and batch * source.row_bytes <= STEP_BYTES
    return batch, batch if fits else max(1, min(PART_ROWS, STEP_BYTES // source.row_bytes))


def in_random_order(source: Arrays, seed: int) -> Arrays:
    """Put rows into random order once, if they are many and memory allows a copy.

    A memory map stays on disk: its rows are drawn in windows, in bounded memory.
    """
    size = source.num_rows * source.row_bytes
    mapped = any(isinstance(a, np.memmap) for a in arrays(source.tree))
    if source.shuffled or mapped or size <= MIXED_BYTES or size > _free_bytes() / 2:
        return source
    return shuffled_copy(source, seed)


def _free_bytes() -> float:
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf  # not Linux: trust that arrays in memory leave room for a copy


def example(source: Any, count: int) -> Any:
    """A few rows to learn shapes from, repeated if there are fewer."""
    if isinstance(source, Generator):
        return source.batch(seed=0, number=0, num_rows=count)
    rows = source.read(0, min(count, source.num_rows))
    return map_arrays(lambda a: np.resize(a, (count, *a.shape[1:])), rows)


def sample(source: Any, count: int, seed: int) -> tuple[Any, np.ndarray | None]:
    """Random sample of rows without replacement, and their numbers if they have any."""
    if isinstance(source, Generator):
        # a batch of its own, which training does not use
        return source.batch(seed=seed, number=ENDLESS, num_rows=count), None
    count = min(count, source.num_rows)
    draw = random_generator(seed, "sample")
    if isinstance(source, Arrays):
        places = np.sort(draw.choice(source.num_rows, count, replace=False))
        names = places if source.row_numbers is None else source.row_numbers[places]
        return map_arrays(lambda a: np.array(a[places]), source.tree), names
    if source.shuffled:
        start = int(draw.integers(source.num_rows - count + 1))
        return map_arrays(np.array, source.read(start, start + count)), None
    places = np.sort(draw.choice(source.num_rows, count, replace=False)).tolist()
    parts = [map_arrays(np.array, source.read(place, place + 1)) for place in places]
    return jax.tree.map(lambda *a: np.concatenate(a), *parts), np.asarray(places)


def held_out_sample(source: Source, count: int, seed: int) -> Arrays:
    """Random rows of a held-out source, copied; fewer of them are the first of more."""
    places = random_generator(seed, "held-out sample").permutation(source.num_rows)[:count]
    if isinstance(source, Arrays):
        return Arrays(map_arrays(lambda a: np.asarray(a[places]), source.tree), wide=True)
    if source.shuffled:
        return Arrays(map_arrays(np.array, source.read(0, count)), wide=True)
    parts = [map_arrays(np.array, source.read(place, place + 1)) for place in places.tolist()]
    return Arrays(jax.tree.map(lambda *a: np.concatenate(a), *parts), wide=True)


def open_streams(
    source: Any,
    training: Training,
    batch_rows: int,
    step_rows: int,
    plan_rows: int,
    spare: list[Ring] | None = None,
) -> tuple[Callable[[Position], Stream], str]:
    """Function that opens the stream at a position, and how well the stream is shuffled.

    Args:
        plan_rows: batch size that the order is made for, at least `batch_rows`; runs that
            change their batch size keep one order.
        spare: buffers of closed streams to reuse; for one `plan_rows` only.
    """
    seed = training.seed
    if isinstance(source, Generator):
        if training.epochs is not None or (training.steps is None and training.seconds is None):
            raise UsageError("a generator has no epochs; give steps or seconds")
        return lambda start: generator_stream(
            source, batch_rows=batch_rows, step_rows=step_rows, seed=seed, start=start
        ), "every batch is drawn anew"
    order = plan_order(
        source.num_rows,
        source.row_bytes,
        step_rows=plan_rows,
        batch_size=max(batch_rows, plan_rows),
        shuffled=source.shuffled,
        seed=seed,
    )
    return lambda start: table_stream(
        source,
        order,
        batch_rows=batch_rows,
        step_rows=step_rows,
        start=start,
        num_epochs=training.epochs,
        spare=spare,
    ), order.describe(batch_rows)
