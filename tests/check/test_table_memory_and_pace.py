"""Memory from shapes and from the compiled program; the time of an epoch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import UsageError
from downslope.check import (
    FreeMemory,
    epoch_time,
    free_memory,
    largest_microbatch,
    median_seconds,
    memory,
    temporary_bytes,
    tree_bytes,
)

MIB = 1 << 20


def test_bytes_of_a_tree():
    tree = {
        "a": np.zeros((3, 4), np.float32),
        "b": [np.zeros(5, np.int16), None],
        "c": jnp.zeros(()),
    }
    assert tree_bytes(tree) == 48 + 10 + 4
    assert tree_bytes(jax.eval_shape(lambda: jnp.zeros((10**6, 10**5), jnp.bfloat16))) == 2 * 10**11


def test_a_program_says_what_it_needs_meanwhile():
    """Catches inputs or outputs that are counted as temporary."""
    shape = jax.ShapeDtypeStruct((MIB,), np.float32)
    assert temporary_bytes(jax.jit(lambda a: a + 1).lower(shape).compile()) < MIB


def test_a_device_that_does_not_say():
    class Silent:
        def memory_analysis(self):
            return None

    assert temporary_bytes(Silent()) is None


def test_free_memory_of_a_device_that_tells():
    class Card:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 100, "bytes_in_use": 30}

    assert free_memory(Card()) == FreeMemory(70, "device")
    with open("/proc/meminfo") as file:
        total = next(int(line.split()[1]) for line in file if line.startswith("MemTotal"))
    assert 0 < (free_memory().bytes or 0) <= 1024 * total


@pytest.mark.parametrize(
    ("fixed", "a_row", "free", "most", "answer"),
    [
        (0, 10, 10_240, 10**6, 1024),
        (0, 10, 10_239, 10**6, 512),  # a power of two that fits, not the next one up
        (5000, 10, 15_240, 10**6, 1024),
        (0, 10, 10**9, 777, 777),  # all rows there are
        (0, 0, 1, 777, 777),
        (0, 10, 9, 777, None),  # not even one
        (5000, 10, 4000, 777, None),
    ],
)
def test_the_largest_microbatch_that_fits(fixed, a_row, free, most, answer):
    told = largest_microbatch(lambda m: fixed + a_row * m, free, tried=8, most=most)
    assert told == answer


def test_memory_is_judged_by_what_is_free():
    parts = {"parameters": 60 * MIB, "rows": 40 * MIB, "nothing": 0}
    kinds = {
        free: memory(parts, FreeMemory(free, "host"), microbatch_size=8).severity
        for free in (99 * MIB, 110 * MIB, 200 * MIB, None)
    }
    assert list(kinds.values()) == ["error", "warning", "fine", "fine"]
    found = memory(parts, FreeMemory(99 * MIB, "device"), microbatch_size=64, largest=16)
    assert found.remedy == "--microbatch-size 16 would fit"
    assert "100 MiB of the 99 MiB of device memory" in found.sentence
    assert "nothing" not in found.sentence and found.values["total_bytes"] == 100 * MIB


def test_the_interval_holds_the_median_of_any_law():
    """Of 400 samples of 15 lognormal times at least 93 % hold the median, 1."""
    rng = np.random.default_rng(0)
    told = [median_seconds(np.exp(rng.normal(size=15))) for _ in range(400)]
    assert np.mean([m.lo <= 1 <= m.hi for m in told]) > 0.93
    assert np.mean([m.hi - m.lo for m in told]) < 1.8  # and is not the whole range


def test_few_times_have_no_interval():
    assert median_seconds([1.0] * 5).lo is None
    told = median_seconds(np.arange(1, 7))  # 1 - 2/64 = 97 %
    assert (told.lo, told.hi) == (1, 6)
    assert not median_seconds([]).is_measured


def test_the_slower_of_reading_and_computing_sets_the_pace():
    computing = epoch_time([1e-3] * 9, 1000, num_steps=500, reading_seconds=0.2)
    assert (
        computing.values["epoch_seconds"] == pytest.approx(1) and "2 ms each" in computing.sentence
    )
    reading = epoch_time([1e-3] * 9, 1000, num_steps=500, reading_seconds=20)
    assert reading.values["epoch_seconds"] == 20 and "sets the pace" in reading.sentence
    assert "not estimable" in epoch_time([], 10, num_steps=10).sentence
    with pytest.raises(UsageError, match="num_windows"):
        epoch_time([1.0], 0, num_steps=1)
