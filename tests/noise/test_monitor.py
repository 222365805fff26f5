"""What a run's measured steps say: which of them are read, when, and when nothing can be said."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from downslope.estimate import Estimate
from downslope.noise.online.monitor import (
    MAX_PROBES_KEPT,
    MAX_UPDATES_READ,
    MIN_UPDATES_READ,
    MonitorSettings,
    NoiseMonitor,
)
from downslope.noise.online.probes import Probe
from downslope.noise.scale.steps import from_halves

SGD = MonitorSettings(
    is_plain=True, momentum=0.0, momentum_kind=None, has_metric=False, dim=6, batch_size=16,
    num_rows=None, interacts=False, clips=True, gradients_only=True,
)  # fmt: skip
RATE = 0.1


def numbered(count, seed=0, **columns):
    """Probes of an ordinary run; columns given take the place of those drawn."""
    rng = np.random.default_rng(seed)
    g = 0.5 + rng.normal(size=(2, count, 6)) / 8**0.5
    u = RATE * g.mean(0)
    made = {
        "rows_first": 8, "rows_second": 8, "dot": (g[0] * g[1]).sum(1),
        "square_distance": ((g[0] - g[1]) ** 2).sum(1),
        "preconditioned_dot": (g[0] * g[1])[:, :3].sum(1),
        "preconditioned_square_distance": ((g[0] - g[1]) ** 2)[:, :3].sum(1),
        "square_gradient": (u / RATE**2 * u).sum(1),
        "clipped": 0, "learning_rate": RATE, "position_dot_gradient": rng.normal(3, 1, count),
        "position_dot_update": rng.normal(0.3, 0.1, count), "square_update": (u * u).sum(1),
        "update_dot_before": rng.normal(size=count), "square_before": rng.uniform(1, 2, count),
    }  # fmt: skip
    made |= columns
    return np.stack([np.broadcast_to(made[k], count) for k in Probe._fields], 1).astype(float)


def column(probes, name):
    return probes[:, Probe._fields.index(name)]


def watched(steps, probes, setting=SGD, parts=1):
    watch = NoiseMonitor(setting)
    for chunk in np.array_split(np.arange(len(steps)), parts):
        watch.add(np.asarray(steps)[chunk], probes[chunk])
    return watch


def marked(steps, **columns):
    """Number of the earliest probe behind the noise: each has a dot of its own."""
    probes = numbered(len(steps), dot=np.arange(len(steps)) + 1.0, **columns)
    noise = watched(steps, probes).read().noise
    first = 2 * noise.signal.value - len(steps) - 1  # the mean of first + 1 ... len
    return round(first), noise.scale.num_steps


@pytest.mark.parametrize(
    ("steps", "first"),
    [
        (np.arange(10), 0),  # fewer than the fewest
        (np.arange(30), 6),  # an octave of 15: extended to 24
        (np.arange(100), 50),  # steps from 49.5 on
        (np.arange(99), 49),  # steps from 49 on: the half itself belongs to them
        (np.arange(1000), 744),  # at most 256
        (np.arange(0, 6400, 128), 25),  # by steps, not by probes
        (np.repeat(np.arange(50), 3), 75),  # several windows to an update
    ],
)
def test_the_noise_is_that_of_the_last_octave(steps, first):
    """Catches a window by probes instead of steps, bounds forgotten, the oldest read."""
    assert marked(steps) == (first, len(steps) - first)
    assert (
        MIN_UPDATES_READ <= len(steps) - first <= MAX_UPDATES_READ or len(steps) < MIN_UPDATES_READ
    )


def test_windows_that_saw_nothing_are_passed_over():
    """Catches one short batch, whose second half is empty, taking all numbers away."""
    dots = np.where(np.arange(100) % 7 == 6, np.nan, np.arange(100.0))
    probes = numbered(100, dot=dots, rows_second=np.where(np.isnan(dots), 0, 8))
    noise = watched(np.arange(100), probes).read().noise
    assert noise.signal.value == pytest.approx(np.nanmean(dots[50:]))
    assert noise.scale.num_steps == 43


def test_noise_is_what_the_halves_say():
    """Catches sizes mixed up and signal taken for noise: against the estimator itself."""
    probes = numbered(64, rows_first=5, rows_second=11)
    found = watched(np.arange(64), probes).read().noise
    part = probes[32:]
    assert found == from_halves(column(part, "dot"), column(part, "square_distance"), 5, 11)
    batches = dataclasses.replace(SGD, interacts=True)
    found = watched(np.arange(64), probes, batches).read().noise
    assert any("interact" in flag for flag in found.scale.flags)


def test_the_scale_in_the_optimizers_metric():
    """Catches Euclidean products in it, a window that saw none of it counted, a scale to decide on
    in the wrong metric, and a temperature from preconditioned noise.
    """
    unknown = np.where(np.arange(64) < 40, np.nan, column(numbered(64), "preconditioned_dot"))
    probes = numbered(64, preconditioned_dot=unknown, rows_first=5, rows_second=11)
    adam = dataclasses.replace(SGD, has_metric=True)
    found, plain = (watched(np.arange(64), probes, each).read() for each in (adam, SGD))
    part = probes[40:]
    names = ("preconditioned_dot", "preconditioned_square_distance")
    expected = from_halves(*(column(part, k) for k in names), 5, 11, preconditioned=True)
    assert found.scale == found.preconditioned_scale == expected.scale
    assert found.measurements()["preconditioned_noise_scale"] == expected.scale
    assert found.noise == plain.noise and plain.scale == plain.noise.scale
    assert found.temperature == plain.temperature
    assert plain.preconditioned_scale is None
    assert found.measurements().keys() - plain.measurements().keys() == {
        "preconditioned_noise_scale"
    }
    lost = watched(np.arange(64), numbered(64, preconditioned_dot=np.nan), adam).read()
    assert lost.scale.value is None and lost.noise.scale.is_measured


def test_memory_is_bounded_and_division_plays_no_part():
    """Catches a list that grows for days, and one that forgets the newest."""
    steps = np.arange(0, 40_000, 8)
    probes = numbered(len(steps))
    whole, parts = watched(steps, probes), watched(steps, probes, parts=61)
    assert whole.read() == parts.read()
    assert [len(parts.arrays()[k]) for k in ("steps", "probes")] == [MAX_PROBES_KEPT] * 2
    assert_array_equal(parts.arrays()["steps"], steps[-MAX_PROBES_KEPT:])
    assert_array_equal(parts.arrays()["probes"], probes[-MAX_PROBES_KEPT:])
    assert parts.read().step == steps[-1]
    assert parts.read().noise.scale.num_steps == MAX_UPDATES_READ


def test_arrays_and_restore():
    """Catches a copy that shares memory with what goes on, and fields lost on the way."""
    steps, probes = np.arange(90), numbered(90)
    watch = watched(steps[:50], probes[:50])
    kept, before = watch.arrays(), watch.read()
    watch.add(steps[50:], probes[50:])
    other = NoiseMonitor(SGD)
    other.restore(kept)
    assert other.read() == before
    other.add(steps[50:], probes[50:])
    assert other.read() == watch.read() != before
    for a, b in zip(other.arrays().values(), watch.arrays().values(), strict=True):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())
    assert [len(kept[k]) for k in ("steps", "probes")] == [50, 50]


def test_nothing_was_measured():
    """Catches numbers, or an error, before the first measured update."""
    found = NoiseMonitor(SGD).read()
    assert found.step is None
    assert all(m.value is None and m.lo is None for m in found.measurements().values())


def reading(setting=SGD, **columns):
    return watched(np.arange(200), numbered(200, **columns), setting).read()


def test_temperatures_by_hand():
    """Catches a factor of 2, the rate or the dimension left out, momentum's factors mixed up."""
    found, probes = reading(), numbered(200)
    trace, square = found.noise.trace.value, column(probes[100:], "square_update").mean()
    assert found.temperature.value == pytest.approx(RATE * trace / (2 * 16 * 6))
    assert found.measured_temperature.value == pytest.approx(square / (2 * RATE * 6))
    heavy = dataclasses.replace(SGD, momentum=0.9, momentum_kind="heavy_ball")
    found = reading(heavy)
    assert found.temperature.value == pytest.approx(RATE / 0.1 * trace / (2 * 16 * 6))
    assert found.measured_temperature.value == pytest.approx(1.9 * square / (2 * RATE * 6))
    table = dataclasses.replace(SGD, num_rows=61)
    factor = 45 / 60
    assert reading(table).temperature.value == pytest.approx(factor * RATE * trace / (2 * 16 * 6))
    late = probes[np.r_[95:127, 191:200]]  # updates past the middle of their octaves
    position = column(late, "position_dot_gradient").mean()
    square = column(late, "square_update").mean()
    expected = 2 * RATE * position / square
    assert reading().equilibrium.value == pytest.approx(expected)
    expected = 2 * RATE * position / (1.9 * square)
    assert found.equilibrium.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "columns", "words"),
    [
        ({}, {"learning_rate": np.linspace(0.1, 0.09, 200)}, "the learning rate changed"),
        ({}, {"learning_rate": np.repeat([np.nan, RATE], [150, 50])}, "the learning rate changed"),
        ({"is_plain": False}, {}, "preconditioned"),
        ({"is_plain": False}, {"learning_rate": 0.0}, "preconditioned"),
        ({"momentum": 0.9, "momentum_kind": "nesterov"}, {}, "ahead"),
        ({"gradients_only": False}, {}, "weight decay"),
        ({}, {"learning_rate": 0.0}, "its own learning rate"),
        ({}, {"learning_rate": np.nan}, "its own learning rate"),
    ],
)
def test_why_there_is_no_temperature(changes, columns, words):
    """Catches a temperature by formulas that do not hold, and a silent None."""
    found = reading(dataclasses.replace(SGD, **changes), **columns)
    m = found.measured_temperature
    assert (m.value, m.lo) == (None, None) and words in m.reason
    if "changed" not in words:  # the temperature that is prescribed now has a rate
        assert words in found.temperature.reason
    else:
        assert found.temperature.is_measured
    # what holds for any rule: 2 E<theta - c, u> / E|u|^2
    late = np.r_[95:127, 191:200]
    probes = numbered(200, **columns)[late]
    if "changed" not in words:
        of_update, square = (
            column(probes, k).mean() for k in ("position_dot_update", "square_update")
        )
        assert_allclose(found.equilibrium.value, 2 * of_update / square, rtol=1e-12)
    assert found.noise.scale.is_measured and found.step_correlation.is_measured


def test_a_rate_that_changes_by_rounding_only_has_not_changed():
    """Catches exact comparison of float32 rates."""
    rates = np.where(np.arange(200) % 2, RATE, np.float32(RATE))
    assert reading(learning_rate=rates).measured_temperature.is_measured


def test_clipping_is_counted_or_said_to_be_off():
    """Catches a share of 0 where nothing clips, and one over all probes ever seen."""
    clipped = (np.arange(200) >= 175).astype(float)
    found = reading(clipped=clipped)
    assert found.clip_fraction.value == pytest.approx(0.25)
    assert (found.clip_fraction.num_steps, found.clip_fraction.num_examples) == (100, None)
    assert any("clipped" in flag for flag in found.temperature.flags)
    assert reading().clip_fraction.value == 0
    assert not any("clipped" in flag for flag in reading().temperature.flags)
    off = reading(dataclasses.replace(SGD, clips=False), clipped=clipped).clip_fraction
    assert off.value is None and "off" in off.reason


@pytest.mark.parametrize("is_plain", [True, False])
def test_neighbouring_updates(is_plain):
    """Catches pairs that were not seen counted as 0, and words of another sign."""
    dots = np.where(np.arange(200) % 8 == 0, np.nan, -0.9)
    columns = {"update_dot_before": dots, "square_before": np.where(np.isnan(dots), 0, 1.0)}
    found = reading(dataclasses.replace(SGD, is_plain=is_plain), **columns)
    assert found.step_correlation.value == pytest.approx(-0.9)
    assert found.step_correlation.num_steps == 88
    assert (
        found.stability
        == {
            True: reading(**columns).stability,
            False: "neighbouring updates undo each other: the learning rate is near its limit",
        }[is_plain]
    )
    assert "oscillating" in reading(**columns).stability


NUMBERS = st.one_of(
    st.sampled_from([0.0, np.nan, np.inf, 1e-45, 3.4e38, 1.0, 8.0]),
    st.floats(0, float(np.float32(3.4e38)), width=32),
)
SIGNED = st.one_of(NUMBERS, st.floats(width=32))
SETTINGS = [
    dataclasses.replace(
        SGD, is_plain=plain, momentum=beta, momentum_kind=kind, has_metric=not plain, **more
    )
    for (plain, beta, kind), more in itertools.product(
        [(True, 0.0, None), (True, 0.99, "heavy_ball"), (False, 0.0, None)],
        [{}, {"num_rows": 16, "interacts": True}],
    )
]
CAN_BE_NEGATIVE = [k for k in Probe._fields if "dot" in k]


@st.composite
def any_probes(draw):
    num = draw(st.integers(0, 40))
    columns = []
    for name in Probe._fields:
        values = SIGNED if name in CAN_BE_NEGATIVE else NUMBERS
        if draw(st.booleans()):
            columns.append(np.full(num, draw(values)))
        else:
            columns.append(draw(arrays(np.float64, num, elements=values)))
    steps = np.cumsum(draw(arrays(np.int32, num, elements=st.integers(0, 1000))))
    return steps, np.stack(columns, 1)


@given(any_probes(), st.sampled_from(SETTINGS))
def test_whatever_was_seen_there_is_an_answer(probes, setting):
    """Catches an error, a warning or a number that is not finite: a run must not end of it."""
    watch = watched(*probes, setting)
    for m in watch.read().measurements().values():
        assert isinstance(m, Estimate)  # which refuses what is not finite


@pytest.mark.parametrize("field", Probe._fields)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.4e38])
@pytest.mark.parametrize("last", [1, 30])
def test_one_field_gone_wrong(field, value, last):
    """Catches what random content finds rarely: an ordinary run with a single bad field."""
    values = column(numbered(200), field).copy()
    values[-last:] = value
    for setting in SETTINGS:
        reading(setting, **{field: values}).measurements()
