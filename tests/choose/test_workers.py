"""Sharing a step among workers; each test's comment names the wrong implementation it catches."""

import math

import pytest

from downslope.choose import (
    Link,
    best_workers,
    exchange_seconds,
    fit_step_times,
    line_times,
    step_cost,
)
from downslope.errors import UsageError

TIMES = line_times(fixed_seconds=5e-3, seconds_per_example=1e-3)
RING = Link(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8)  # n s/W = 0.1 s


def ring_by_hand(p, n):
    """Messages and numbers sent by one worker, by playing the ring: scatter, then gather."""
    sums, messages, sent = [[1.0] * p for _ in range(p)], 0, 0.0
    for turn in range(p - 1):
        moved = [sums[w][(w - turn) % p] for w in range(p)]
        for w in range(p):
            sums[(w + 1) % p][(w - turn) % p] += moved[w]
        messages, sent = messages + 1, sent + n / p
    for turn in range(p - 1):
        moved = [sums[w][(w + 1 - turn) % p] for w in range(p)]
        for w in range(p):
            sums[(w + 1) % p][(w + 1 - turn) % p] = moved[w]
        messages, sent = messages + 1, sent + n / p
    assert all(each == p for worker in sums for each in worker)
    return messages, sent


# catches: p for p - 1; the whole gradient sent at each turn
def test_ring_is_what_a_ring_does():
    assert ring_by_hand(8, 800) == (14, 1400)
    for p in (2, 3, 8):
        messages, sent = ring_by_hand(p, 800)
        given = Link(num_bytes=800 * 4, latency_seconds=0.5, bytes_per_second=16)
        assert exchange_seconds(p, given) == pytest.approx(messages * 0.5 + sent * 4 / 16)


def test_one_worker_exchanges_nothing():
    assert exchange_seconds(1, RING) == 0


# catches: a factor of 2 lost: the closed form sqrt((tau_d b - 2 n s/W)/(2 alpha))
def test_the_best_number_lies_beside_the_closed_form():
    ring = best_workers(4096, times=TIMES, link=RING)
    assert ring.num_workers == ring.slower_beyond == 140
    assert math.sqrt((4.096 - 0.2) / 2e-4) == pytest.approx(ring.num_workers, abs=1)


# catches: the closed form believed where one worker, which pays nothing, is faster
def test_one_worker():
    slow = Link(num_bytes=3e8, latency_seconds=1e-4, bytes_per_second=1e8)
    alone = best_workers(4096, times=TIMES, link=slow)
    assert alone.num_workers == 1 and alone.slower_beyond == 1 and "one worker" in alone.because
    late = Link(num_bytes=4e8, latency_seconds=1e-4, bytes_per_second=1e8)
    few = best_workers(4096, times=TIMES, link=late)
    assert few.num_workers == 1
    assert best_workers(1, times=TIMES, link=RING).num_workers == 1  # an example is not shared
    assert best_workers(4096, times=TIMES, link=RING, most=20).num_workers == 20
    limited = best_workers(4096, times=TIMES, link=RING, most=2).because
    assert limited.endswith("; no more than 2 were tried")


def test_each_further_one_is_slower():
    found = best_workers(512, times=TIMES, link=RING)
    seconds = [
        step_cost(p, 512, times=TIMES, link=RING).seconds for p in range(found.slower_beyond, 513)
    ]
    assert seconds == sorted(seconds) and len(seconds) > 100


def test_parts_add_up_and_the_largest_is_named():
    cost = step_cost(4, 400, times=TIMES, link=RING)
    assert (cost.fixed, cost.computing) == pytest.approx((5e-3, 0.1))
    assert cost.exchanging == pytest.approx(6e-4 + 0.15)
    assert cost.seconds == pytest.approx(5e-3 + 0.1 + 6e-4 + 0.15)
    assert cost.dominant == "exchanging gradients"
    assert step_cost(1, 400, times=TIMES, link=RING).dominant == "computing"


# catches: the line believed where the measured curve leaves it
def test_measured_curve_is_used():
    def cliff(b):
        return 5e-3 + 1e-3 * b + (1.0 if b > 300 else 0)

    sizes = [1, 4, 16, 64, 256, 301, 1024, 4096]
    times = fit_step_times(sizes, [cliff(b) for b in sizes])
    found = best_workers(1024, times=times, link=RING)
    assert 1024 / found.num_workers <= 300


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Link(num_bytes=-1, latency_seconds=0, bytes_per_second=1), "num_bytes"),
        (lambda: Link(num_bytes=1, latency_seconds=math.nan, bytes_per_second=1), "latency"),
        (lambda: Link(num_bytes=1, latency_seconds=0, bytes_per_second=0), "bytes_per_second"),
        (lambda: exchange_seconds(0, RING), "num_workers"),
        (lambda: best_workers(0, times=TIMES, link=RING), "batch_size"),
        (lambda: best_workers(8, times=TIMES, link=RING, most=0), "most"),
    ],
)
def test_refuses(make, words):
    with pytest.raises(UsageError, match=words):
        make()
