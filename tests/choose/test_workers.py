"""Sharing a step among workers, and waiting for the slowest.

Each test's comment names the wrong implementation that it catches.
"""

import math
import random
import statistics

import pytest

from downslope.choose import (
    Link,
    best_workers,
    best_workers_scaled,
    exchange_seconds,
    exponential_wait,
    fit_step_times,
    line_times,
    measured_wait,
    normal_wait,
    step_cost,
    workers_batch_size,
)
from downslope.errors import UsageError

TIMES = line_times(fixed_seconds=5e-3, seconds_per_example=1e-3)
RING = Link(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8)  # n s/W = 0.1 s


def link(exchange="ring", **named):
    given = dict(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8, exchange=exchange)
    return Link(**{**given, **named})


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


def test_other_exchanges():
    assert exchange_seconds(5, link("tree")) == pytest.approx(6 * 0.1001)
    assert exchange_seconds(8, link("tree")) == pytest.approx(6 * 0.1001)  # catches: log of p + 1
    assert exchange_seconds(9, link("tree")) == pytest.approx(8 * 0.1001)
    assert exchange_seconds(4, link("server")) == pytest.approx(2e-4 + 0.8)
    assert exchange_seconds(4, link("server", num_servers=4)) == pytest.approx(2e-4 + 0.2)
    for kind in ("ring", "tree", "server"):
        assert exchange_seconds(1, link(kind)) == 0  # catches: one worker that pays


# closed forms, and the whole number beside them
def test_best_numbers():
    ring = best_workers(4096, times=TIMES, link=RING)
    assert ring.closed_form == pytest.approx(139.57077, rel=1e-7)
    assert ring.num_workers == ring.slower_beyond == 140
    server = best_workers(4096, times=TIMES, link=link("server"))
    assert server.closed_form == pytest.approx(math.sqrt(4.096 / 0.2), rel=1e-12)
    assert server.num_workers == 5
    four = best_workers(4096, times=TIMES, link=link("server", num_servers=4))
    assert four.closed_form == pytest.approx(2 * server.closed_form)
    assert four.num_workers == 9
    assert best_workers(4096, times=TIMES, link=link("tree")).closed_form is None


# catches: the closed form believed where one worker, which pays nothing, is faster
def test_one_worker():
    slow = link(num_bytes=3e8)  # 2 n s/W = 6 s against 4.1 s of computing
    alone = best_workers(4096, times=TIMES, link=slow)
    assert alone.num_workers == 1 and alone.closed_form is None and alone.slower_beyond == 1
    assert alone.speedup == 1 and "one worker" in alone.because
    late = link("server", num_bytes=2e7, latency_seconds=1.2)  # two lose to one, three lose less
    found = best_workers(4096, times=TIMES, link=late)
    assert found.num_workers == 1 and found.closed_form > 3 and found.slower_beyond == 3
    assert best_workers(1, times=TIMES, link=RING).num_workers == 1  # an example is not shared
    assert best_workers(4096, times=TIMES, link=RING, most=20).num_workers == 20


def test_each_further_one_is_slower():
    found = best_workers(512, times=TIMES, link=RING)
    seconds = [
        step_cost(p, 512, times=TIMES, link=RING).seconds for p in range(found.slower_beyond, 513)
    ]
    assert seconds == sorted(seconds) and len(seconds) > 100


def test_parts_add_up_and_the_largest_is_named():
    cost = step_cost(4, 400, times=TIMES, link=RING, waiting=lambda p: p * 0.01)
    assert (cost.fixed, cost.computing, cost.waiting) == pytest.approx((5e-3, 0.1, 0.04))
    assert cost.exchanging == pytest.approx(6e-4 + 0.15)
    assert cost.seconds == pytest.approx(5e-3 + 0.1 + 6e-4 + 0.15 + 0.04)
    assert cost.dominant == "exchanging gradients"
    assert step_cost(1, 400, times=TIMES, link=RING, waiting=lambda p: 9.0).waiting == 0
    late = step_cost(2, 400, times=TIMES, link=RING, waiting=lambda p: 9.0)
    assert late.dominant == "waiting for the slowest worker"


# catches: hiding more than there is, or behind the fixed cost too
def test_overlap():
    half, whole = link(overlap=0.5), link(overlap=1.0)
    shown = step_cost(4, 400, times=TIMES, link=half).exchanging
    assert shown == pytest.approx(6e-4 + 0.15 - 0.05)
    assert step_cost(2, 4000, times=TIMES, link=whole).exchanging == 0
    assert best_workers(4096, times=TIMES, link=half).closed_form is None


def test_measured_curve_is_used():
    def cliff(b):
        return 5e-3 + 1e-3 * b + (1.0 if b > 300 else 0)

    sizes = [16, 64, 128, 256, 300, 301, 512, 1024]
    times = fit_step_times(sizes, [cliff(b) for b in sizes])
    fast = link(num_bytes=1e5)
    cost = step_cost(2, 600, times=times, link=fast)
    assert cost.fixed + cost.computing == pytest.approx(cliff(300), rel=1e-6)
    assert best_workers(600, times=times, link=fast).speedup > 2.5  # below the cliff


def test_weak_scaling():
    def time(p, scale, m, waiting):
        return (1 + scale / (p * m)) * (5e-3 + 1e-3 * m + (p > 1) * waiting(p))

    for scale, m in ((30, 64), (3000, 64), (1e5, 8)):

        def exchange(p):
            return 2 * (p - 1) * 1e-4 + 2 * (p - 1) / p * 0.1

        best = min(range(1, 513), key=lambda p: time(p, scale, m, exchange))
        found = best_workers_scaled(m, noise_scale=scale, times=TIMES, link=RING, most=512)
        assert found.num_workers == best
    assert best_workers_scaled(64, noise_scale=30, times=TIMES, link=RING).num_workers == 1


# the least of (1 + B/b) t(p, b) by trying
@pytest.mark.parametrize("p", [1, 2, 16])
def test_batch_size_for_workers(p):
    found = workers_batch_size(p, noise_scale=2000, times=TIMES, link=RING)

    def time(b):
        return (1 + 2000 / b) * step_cost(p, b, times=TIMES, link=RING).seconds

    best = min((found * 2 ** (i / 200) for i in range(-400, 401)), key=time)
    assert found == pytest.approx(best, rel=0.004)


def test_exponential_stragglers():
    assert 1 + exponential_wait(1, 16, wait_for=14) == pytest.approx(1.880729, rel=1e-6)
    assert 1 + exponential_wait(1, 16) == pytest.approx(3.380729, rel=1e-6)
    assert exponential_wait(2.0, 1) == 0
    draw = random.Random(1)
    for k in (3, 8):  # k = 3 of 8: below the mean
        waits = [sorted(draw.expovariate(2) for _ in range(8))[k - 1] for _ in range(20_000)]
        seen = statistics.fmean(waits) - 0.5
        assert exponential_wait(0.5, 8, wait_for=k) == pytest.approx(seen, abs=0.01)


def test_normal_stragglers():
    assert normal_wait(1, 16) == pytest.approx(1.766, rel=3e-3)  # not sqrt(2 ln 16) = 2.355
    assert normal_wait(1, 1) == 0 and normal_wait(0, 9) == 0
    assert normal_wait(3, 16) == pytest.approx(3 * normal_wait(1, 16))
    draw = random.Random(1)
    waits = [sorted(draw.gauss(0, 1) for _ in range(16))[12] for _ in range(10_000)]
    assert normal_wait(1, 16, wait_for=13) == pytest.approx(statistics.fmean(waits), abs=0.02)


# catches: (i/n)^p summed unsorted, the maximum of the sample, p and k swapped
def test_measured_stragglers():
    draw = random.Random(5)
    times = [1 + draw.expovariate(1) for _ in range(2000)]
    for k, truth in ((16, 2.380729), (14, 0.880729)):
        found = measured_wait(times, 16, wait_for=k)
        assert found.value == pytest.approx(truth, abs=0.3)
        assert found.lo <= truth <= found.hi
    assert measured_wait([1.0, 2.0] * 200, 2).value == pytest.approx(0.25)
    assert measured_wait([3.0] * 400, 7).value == pytest.approx(0)
    few = measured_wait(times[:319], 16)
    assert few.value is None and "320" in few.reason


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: link("mesh"), "exchange"),
        (lambda: link(overlap=1.5), "overlap"),
        (lambda: link(num_bytes=-1), "num_bytes"),
        (lambda: link(bytes_per_second=0), "bytes_per_second"),
        (lambda: link(num_servers=0), "num_servers"),
        (lambda: exchange_seconds(0, RING), "num_workers"),
        (lambda: best_workers(0, times=TIMES, link=RING), "batch_size"),
        (lambda: best_workers_scaled(8, noise_scale=0, times=TIMES, link=RING), "noise_scale"),
        (lambda: best_workers_scaled(0, noise_scale=9, times=TIMES, link=RING), "rows_per_worker"),
        (lambda: workers_batch_size(0, noise_scale=9, times=TIMES, link=RING), "num_workers"),
        (lambda: step_cost(0, 9, times=TIMES, link=RING), "num_workers"),
        (lambda: exponential_wait(-1, 4), "spread"),
        (lambda: normal_wait(1, 4, wait_for=5), "wait_for"),
        (lambda: normal_wait(1, 0), "num_workers"),
        (lambda: measured_wait([1.0, 0.0], 1), "seconds"),
    ],
)
def test_refuses(call, words):
    with pytest.raises(UsageError, match=words):
        call()
