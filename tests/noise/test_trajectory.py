"""The projected path: unbiased lengths, bounded memory, known processes, resume.

Each comment names the wrong implementation that the test catches.
"""

import json
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import signal

from downslope.errors import UsageError
from downslope.noise.trajectory import (
    Trajectory,
    autocorrelation_time,
    displacement_exponent,
    principal_path,
    square_displacement,
)
from downslope.noise.trajectory.record import BLOCK


def autoregressive(seed, rho, num, dim):
    noise = np.random.default_rng(seed).normal(size=(num, dim))
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def walk(seed, num, dim):
    return np.random.default_rng(seed).normal(size=(num, dim)).cumsum(axis=0)


# catches: no random signs (cross terms add up); buckets left unused; bits shared by sign and bucket
def test_projection_keeps_inner_products():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000) + 1
    y = x + rng.normal(size=3000)
    got = []
    for seed in range(400):
        path = Trajectory(3000, 50, seed=seed)
        a, b = path.project(x), path.project(y)
        got.append([a @ a, a @ b, a @ path.project(3 * x + y)])
    got, truth = np.array(got), np.array([x @ x, x @ y, x @ (3 * x + y)])
    assert np.allclose(got.mean(0), truth, rtol=0.04)
    assert got[:, 0].std() / truth[0] == pytest.approx(np.sqrt(2 / 50), rel=0.15)


# catches: blocks that use the same signs (a constant vector over two blocks would cancel or double)
def test_blocks_are_independent():
    dots = []
    for seed in range(60):
        path = Trajectory(2 * BLOCK, 30, seed=seed)
        first, second = np.zeros(2 * BLOCK), np.zeros(2 * BLOCK)
        first[:BLOCK] = second[BLOCK:] = BLOCK**-0.5
        dots.append(path.project(first) @ path.project(second))
    assert np.mean(dots) == pytest.approx(0, abs=4 / np.sqrt(30 * 60))
    assert np.std(dots) == pytest.approx(1 / np.sqrt(30), rel=0.4)


# catches: every second point dropped without doubling the stride; the phase lost at a thinning
def test_thinning():
    path = Trajectory(2, 8, capacity=16)
    for step in range(1000):
        path.add([float(step), 0.0], 10 * step)
        assert len(path.points) <= 16
    assert path.stride == 64 and path.count == 1000
    assert path.steps.tolist() == list(range(0, 10000, 640))[: len(path.steps)]
    assert len(path.steps) == 16
    lengths = np.abs(path.points).max(1)
    assert np.allclose(lengths, path.steps / 10)


# catches: moments of the kept points only; sums of squares without centring
def test_running_moments():
    path = Trajectory(5, 5, capacity=4, seed=3)
    rows = np.random.default_rng(1).normal(1e6, 1, (500, 5))
    projected = np.array([path.project(row) for row in rows])
    for step, row in enumerate(rows):
        path.add(row, step)
    assert np.allclose(path.mean, projected.mean(0), rtol=1e-12)
    assert np.allclose(path.variance, projected.var(0, ddof=1), rtol=1e-6, atol=1e-6)
    assert Trajectory(5).variance is None


# catches: half the integrated time (sum without the 2); stride left out; interval's width
@pytest.mark.parametrize(("rho", "num", "dim"), [(0.8, 400, 16), (0.8, 800, 3), (0.0, 300, 5)])
def test_autocorrelation_time(rho, num, dim):
    truth, hits, values = (1 + rho) / (1 - rho), [], []
    for seed in range(150):
        found = autocorrelation_time(autoregressive(seed, rho, num, dim), 7 * np.arange(num))
        hits.append(found.lo <= 7 * truth <= found.hi)
        values.append(found.value)
    assert np.mean(values) == pytest.approx(7 * truth, rel=0.06)
    assert np.mean(hits) > 0.88


# catches: a number read off a path that never forgets; thinned times below the stride
def test_autocorrelation_time_not_resolved():
    drift = autocorrelation_time(walk(2, 500, 10), np.arange(500))
    assert drift.value is None and drift.lo > 5
    short = autocorrelation_time(autoregressive(3, 0.1, 400, 10), 8 * np.arange(400), stride=8)
    assert short.value is None and short.hi >= 16
    assert autocorrelation_time(walk(2, 19, 2), np.arange(19)).lo is None
    uneven = autocorrelation_time(autoregressive(4, 0.5, 400, 4), np.arange(400) ** 2)
    assert "not evenly spaced" in uneven.flags[0]


# catches: exponent of distance and not of its square; lag in points for lag in steps
def test_displacement():
    for seed in range(5):
        free = walk(seed, 3000, 20)
        found = square_displacement(free, 3 * np.arange(3000), 30)
        assert found.lo * 0.93 <= 200 <= found.hi * 1.07
        slope = displacement_exponent(free, 3 * np.arange(3000), 30)
        assert slope.value == pytest.approx(1, abs=0.06)
        assert slope.lo - 0.03 < 1 < slope.hi + 0.03
    line = np.outer(np.arange(100.0), [3, 4])
    assert square_displacement(line, np.arange(100), 7).value == pytest.approx(49 * 25)
    assert displacement_exponent(line, np.arange(100)).value == pytest.approx(2)
    bounded = autoregressive(1, 0.5, 3000, 20)
    assert abs(displacement_exponent(bounded, np.arange(3000), 50).value) < 0.02
    rounded = square_displacement(line, 10 * np.arange(100), 13)
    assert rounded.value == pytest.approx(25) and "nearest lag" in rounded.flags[0]
    assert square_displacement(line, np.arange(100), 100).value is None
    assert "no interval" in square_displacement(line, np.arange(100), 60).flags[-1]


@pytest.mark.slow
def test_intervals_of_displacement():
    hits = []
    for seed in range(300):
        free, steps = walk(seed, 1000, 5), np.arange(1000)
        d, s = square_displacement(free, steps, 10), displacement_exponent(free, steps, 10)
        hits.append([d.lo <= 50 <= d.hi, s.lo <= 1 <= s.hi])
    assert (np.mean(hits, axis=0) > 0.88).all()


# catches: principal directions of raw, uncentred points; shares of singular values unsquared
def test_principal_path():
    t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    path = principal_path(
        np.c_[3 * np.cos(t) + 50, 2 * np.sin(t), np.zeros(200)], np.arange(200), 2
    )
    assert np.allclose(path.shares, [9 / 13, 4 / 13])
    assert np.allclose(np.abs(path.coordinates[:, 0]).max(), 3, rtol=1e-3)
    random = principal_path(walk(5, 500, 400), np.arange(500), 2)
    assert random.shares[0] == pytest.approx(0.6, abs=0.06)
    assert principal_path(np.ones((5, 3)), np.arange(5)).coordinates.shape == (5, 0)


# catches: a projection other than of the parameters' own distances
def test_end_to_end_through_the_projection():
    path, theta = Trajectory(20000, 256, capacity=256), walk(6, 200, 20000)
    for step, row in enumerate(theta):
        path.add(row.astype(np.float32), step)
    found = path.square_displacement(10)
    assert found.value == pytest.approx(10 * 20000, rel=0.15)
    assert path.displacement_exponent(5).value == pytest.approx(1, abs=0.1)
    assert path.principal_path(2).coordinates.shape == (200, 2)
    assert path.autocorrelation_time().value is None


# catches: state without the counters; a stride that starts anew
@pytest.mark.parametrize("through_json", [False, True])
def test_resume(through_json):
    rows = walk(7, 300, 40)
    whole, first = (Trajectory(40, 16, capacity=32, seed=5) for _ in range(2))
    for step, row in enumerate(rows):
        whole.add(row, step)
    for step in range(131):
        first.add(rows[step], step)
    state = first.state()
    if through_json:
        lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}
        state = json.loads(json.dumps(lists))
    second = Trajectory.from_state(state)
    for step in range(131, 300):
        second.add(rows[step], step)
    assert np.array_equal(whole.points, second.points)
    assert np.array_equal(whole.steps, second.steps)
    assert np.array_equal(whole.variance, second.variance)
    assert (whole.count, whole.stride) == (second.count, second.stride)
    empty = Trajectory.from_state(Trajectory(3, 4).state())
    empty.add([1.0, 2, 3], 0)
    assert empty.count == 1


PINNED = [1099.0, 0.0, -10.0]


# catches: the projection drawn otherwise by another version: old states would not fit
def test_projection_is_pinned():
    assert Trajectory(4, 3, seed=1).project([1.0, 10.0, 100.0, 1000.0]).tolist() == PINNED


# catches: a d x k matrix; a store that grows; seconds an addition
def test_memory_and_time():
    vector, path = np.ones(1_000_000, np.float32), Trajectory(1_000_000, 128, capacity=64)
    path.add(vector, 0)
    tracemalloc.start()
    times = []
    for step in range(1, 12):
        start = time.perf_counter()
        path.add(vector, step)
        times.append(time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    assert min(times) < 0.05
    small = Trajectory(10, 16, capacity=64)
    for step in range(2000):
        small.add(np.full(10, step), step)
    assert len(json.dumps(small.points.tolist())) < 64 * 16 * 25


def test_degenerate():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Trajectory(3, 4)
        for found in (path.autocorrelation_time(), path.square_displacement(1),
                      path.displacement_exponent()):  # fmt: skip
            assert found.value is None
        path.add([1.0, np.nan, 0.0], 0)
        path.add([np.inf, 1.0, -np.inf], 1)
        assert (path.num_bad, path.count) == (2, 0)
        for step in range(2, 40):
            path.add(np.ones(3), step)
        assert path.autocorrelation_time().value is None
        assert path.displacement_exponent().value is None
        assert path.square_displacement(2).value == 0
        assert path.principal_path().coordinates.shape[1] == 0


def test_wrong_use():
    path = Trajectory(3)
    path.add(np.ones(3), 5)
    for wrong in (lambda: path.add(np.ones(3), 5), lambda: path.add(np.ones(4), 6),
                  lambda: Trajectory(0), lambda: Trajectory(3, capacity=5),
                  lambda: path.square_displacement(0),
                  lambda: Trajectory.from_state({"version": 0})):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
