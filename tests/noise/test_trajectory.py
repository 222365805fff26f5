"""The path of the parameters: bounded memory, known processes, resume.

Each comment names the wrong implementation that the test catches.
"""

import warnings

import numpy as np
import pytest
from scipy import signal

from downslope.errors import UsageError
from downslope.noise.trajectory import (
    CAPACITY,
    Trajectory,
    autocorrelation_time,
    displacement_exponent,
    principal_path,
)


def autoregressive(seed, rho, num, dim):
    noise = np.random.default_rng(seed).normal(size=(num, dim))
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def walk(seed, num, dim):
    return np.random.default_rng(seed).normal(size=(num, dim)).cumsum(axis=0)


# catches: every second point dropped without doubling the stride; the phase lost at a thinning
def test_thinning():
    path, num = Trajectory(2), 10 * CAPACITY
    for step in range(num):
        path.add([float(step), 0.0], 10 * step)
        assert len(path.steps) <= CAPACITY
    assert path.stride == 16
    assert path.steps.tolist() == list(range(0, 10 * num, 160))
    assert np.allclose(path.points[:, 0], path.steps / 10)


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


# catches: exponent of distance and not of its square
def test_displacement():
    hits = []
    for seed in range(40):
        slope = displacement_exponent(walk(seed, 1000, 20), 3 * np.arange(1000))
        hits.append(slope.lo <= 1 <= slope.hi)
    assert np.mean(hits) > 0.85
    line = np.outer(np.arange(100.0), [3, 4])
    assert displacement_exponent(line, np.arange(100)).value == pytest.approx(2)
    bounded = autoregressive(1, 0.5, 3000, 20)
    assert abs(displacement_exponent(bounded, np.arange(3000)).value) < 0.02


# catches: principal directions of raw, uncentred points; shares of singular values unsquared
@pytest.mark.slow
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


# catches: arrays without the counters; a stride that starts anew
def test_resume():
    rows = walk(7, 3 * CAPACITY, 4)
    whole, first = Trajectory(4), Trajectory(4)
    for step, row in enumerate(rows):
        whole.add(row, step)
    for step in range(CAPACITY + 7):
        first.add(rows[step], step)
    second = Trajectory(4)
    second.restore(first.arrays())
    for step in range(CAPACITY + 7, len(rows)):
        second.add(rows[step], step)
    assert np.array_equal(whole.points, second.points)
    assert np.array_equal(whole.steps, second.steps) and whole.stride == second.stride
    empty = Trajectory(4)
    empty.restore(Trajectory(4).arrays())
    empty.add(np.ones(4), 0)
    assert empty.steps.tolist() == [0]


def test_degenerate():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Trajectory(3)
        path.add([1.0, np.nan, 0.0], 0)
        path.add([np.inf, 1.0, -np.inf], 1)
        assert not len(path.steps)
        for step in (*range(2, 40), 5):  # the last is a run taken back
            path.add(np.ones(3), step)
        assert path.steps.tolist() == list(range(2, 40))
        for points, steps in ((path.points, path.steps), (np.zeros((0, 3)), np.zeros(0, int))):
            assert autocorrelation_time(points, steps).value is None
            assert displacement_exponent(points, steps).value is None
            assert principal_path(points, steps).coordinates.shape[1] == 0
    with pytest.raises(UsageError):
        path.add(np.ones(4), 60)
    with pytest.raises(UsageError):
        Trajectory(0)
