"""Measured steps: they train like plain ones, and each field they measure is right."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope
import plain
from downslope.data.stream import Position
from downslope.data.windows import split_buffer
from downslope.noise.online.probes import Probe
from downslope.objective import build
from downslope.step.gradient import make_gradients
from downslope.step.state import State
from downslope.train.assemble import assemble
from downslope.train.calls import CallLength, calls

WIDTH = 4


pytestmark = pytest.mark.usefixtures("quick_compilation")


def line(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] + model["b"] - batch[1]) ** 2


def mean_line(model, batch, key):
    return line(model, batch, key).mean()


def model():
    return {"b": np.zeros((), "float32"), "w": np.zeros(WIDTH, "float32")}


def table(num_rows=100, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, WIDTH)).astype("float32")
    y = x @ np.float32([1, -1, 0.5, 0]) + 0.3 + rng.normal(size=num_rows).astype("float32")
    return x, y


def penalty(model):
    return 0.15 * (model["w"] ** 2).sum()


class Case(NamedTuple):
    """A run; `every` is how often it measures."""

    options: dict
    every: int
    num_rows: int = 100
    loss: object = line
    penalty: object = None

    def setup(self, every):
        training = plain.training(**self.options, measure_every=every)
        data = table(self.num_rows)
        return assemble(self.loss, model(), data, training, penalty=self.penalty), training


CASES = {
    "sgd with a schedule and penalties, 7 rows, 2 in the last": Case(
        {
            "optimizer": "sgd", "learning_rate": 0.2, "batch_size": 7, "l2": 0.1, "steps": 40,
            "schedule": "inverse_time", "decay_steps": 20, "warmup_steps": 3,
        },
        1, penalty=penalty,
    ),
    "momentum, clipped and averaged, 33 rows, 1 in the last": Case(
        {
            "optimizer": "momentum", "learning_rate": 0.05, "batch_size": 33, "steps": 60,
            "clip_norm": 0.5, "average": "polyak",
        },
        4,
    ),
    "adam on parts of 40 and 10 rows": Case(
        {
            "optimizer": "adam", "learning_rate": 0.03, "batch_size": 50, "microbatch_size": 40,
            "steps": 42, "clip_norm": 1.0, "l2": 0.05,
        },
        4,
    ),
    "sgd on single rows": Case(
        {"optimizer": "sgd", "learning_rate": 0.03, "batch_size": 1, "steps": 110}, 4
    ),
    "momentum on examples that interact": Case(
        {"optimizer": "momentum", "learning_rate": 0.02, "batch_size": 7, "steps": 30},
        1, 98, mean_line,
    ),
    "adam on pairs": Case(
        {"optimizer": "adam", "learning_rate": 0.02, "batch_size": 2, "steps": 110}, 128
    ),
    "sgd on all rows": Case(
        {"optimizer": "sgd", "learning_rate": 0.2, "batch_size": "full", "steps": 20}, 1
    ),
    "sgd on parts of single rows": Case(
        {
            "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 6, "microbatch_size": 1,
            "steps": 36,
        },
        4,
    ),
}  # fmt: skip


class Seen(NamedTuple):
    state: object
    losses: np.ndarray
    steps: np.ndarray
    probes: np.ndarray
    firsts: np.ndarray  # numbers of the probes that are the first of a call


def follow(setup, num_windows=10**6):
    """A whole run, in calls of so many windows."""
    state, pace = setup.start(), CallLength()
    pace.windows = num_windows
    losses, steps, probes, firsts = [], [], [], []
    with setup.first_step.open_stream(Position()) as stream:
        for call in calls(stream, pace, setup.num_steps):
            rows, windows = call.block.rows, call.windows
            state, seen = setup.first_step.run(state, rows, windows, setup.knobs())
            assert bool(seen.healthy)
            losses += np.asarray(seen.loss_sums)[windows.first :][: windows.count].tolist()
            num = int(seen.num_probes)
            assert num <= len(seen.probes)
            firsts.append(len(steps))
            steps += np.asarray(seen.probe_steps)[:num].tolist()
            probes += np.asarray(seen.probes)[:num].tolist()
            if call.ends_block:
                stream.release(call.block)
    width = len(Probe._fields)
    return Seen(
        jax.device_get(state), np.array(losses), np.array(steps),
        np.array(probes).reshape(-1, width), np.array(firsts),
    )  # fmt: skip


def blocks_of(setup, training):
    """Rows and windows of a whole run, as the device gets them."""
    found, left = [], training.steps
    with setup.first_step.open_stream(Position()) as stream:
        for block in stream:
            x, y = (np.array(a, np.float64) for a in block.rows)
            found.append((x, y, jax.tree.map(np.copy, block.windows)))
            stream.release(block)
            left -= int(block.windows.ends[: block.windows.count].sum())
            if left <= 0:
                return found
    return found


@functools.cache
def ran(name):
    """The run of a case, measured."""
    case = CASES[name]
    setup, training = case.setup(case.every)
    return setup, training, follow(setup)


def gradient_sum(p, x, y):
    residual = x @ p[1:] + p[0] - y
    return np.r_[residual.sum(), x.T @ residual]


class Rule:
    """The optimizers, in float64 NumPy."""

    def __init__(self, training):
        self.name, self.momentum = training.optimizer, training.momentum
        self.m, self.v, self.t = np.zeros(1 + WIDTH), np.zeros(1 + WIDTH), 0

    def metric(self):
        """P = 1 / (sqrt(v_hat) + eps) before the update; None for plain rules and a new state."""
        if self.name != "adam" or self.t < 4:
            return None
        return 1 / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)

    def update(self, g, rate):
        self.t += 1
        if self.name == "sgd":
            return rate * g
        if self.name == "momentum":
            self.v = self.momentum * self.v + g
            return rate * self.v
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g * g
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return rate * m / (np.sqrt(v) + 1e-8)


def factor(training, step):
    if training.schedule == "constant":
        return 1.0
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    return 1 / (1 + (step - training.warmup_steps) / training.decay_steps)


def is_measured(step, every):
    """As documented, for runs of fewer than 128 steps."""
    return step % min(16 if step < 64 else 32, 4 * every) < 4


def moves_anchor(step, every):
    return step + 1 in ((4, 8, 16, 32, 64) if every == 1 else (4, 20, 36, 68))


def by_hand(case, setup, training):
    """Parameters, averages and probes by a loop over rows in float64."""
    p = np.zeros(1 + WIDTH)
    rule, anchor, average, total, step = Rule(training), p, np.zeros_like(p), 0.0, 0
    size = case.num_rows if training.batch_size == "full" else training.batch_size
    part = training.microbatch_size or size
    halves = case.loss is line and part > 1
    probes, steps = [], []
    for x, y, w in blocks_of(setup, training):
        before = None
        for i in range(w.count):
            if step == training.steps:
                break
            lo, hi, mid = w.lows[i], w.highs[i], w.starts[i] + part // 2
            if halves:
                parts = (lo, min(hi, mid)), (max(lo, mid), hi)
            else:
                parts = (lo, hi), (w.lows[i + 1], w.highs[i + 1]) if i + 1 < w.count else (0, 0)
            seen = dict.fromkeys(Probe._fields, np.nan)
            added = training.l2 * p + (0.3 * np.r_[0, p[1:]] if case.penalty else 0)
            rows = [max(0, b - a) for a, b in parts]
            seen["rows_first"], seen["rows_second"] = rows
            if all(rows):
                g, h = (gradient_sum(p, x[a:b], y[a:b]) / (b - a) for a, b in parts)
                # each part is a gradient of the whole objective, what is added included
                seen["dot"] = (g + added) @ (h + added)
                seen["square_distance"] = ((g - h) ** 2).sum()
                if (metric := rule.metric()) is not None:
                    seen["preconditioned_dot"] = (g + added) * metric @ (h + added)
                    seen["preconditioned_square_distance"] = (metric * (g - h) ** 2).sum()
            total = total + gradient_sum(p, x[lo:hi], y[lo:hi])
            now = step
            if w.ends[i]:
                gradient = total / size + added
                length = np.linalg.norm(gradient)
                seen["square_gradient"] = length**2
                seen["clipped"] = bool(training.clip_norm and length > training.clip_norm)
                if seen["clipped"]:
                    gradient = gradient * training.clip_norm / length
                rate = training.learning_rate * factor(training, step)
                u = rule.update(gradient, rate)
                seen["learning_rate"] = rate
                seen["position_dot_gradient"] = (p - anchor) @ gradient
                seen["position_dot_update"], seen["square_update"] = (p - anchor) @ u, u @ u
                seen["square_before"] = 0.0 if before is None else before @ before
                if before is not None:
                    seen["update_dot_before"] = u @ before
                p, total, step = p - u, 0.0, step + 1
                average = average + (p - average) / step
                before = u if is_measured(now, case.every) else None
                anchor = p if moves_anchor(now, case.every) else anchor
            if is_measured(now, case.every):
                probes.append(seen)
                steps.append(now)
    columns = {k: np.array([probe[k] for probe in probes], float) for k in Probe._fields}
    return p, average, anchor, np.array(steps), columns


def vector(params):
    return np.r_[params["b"], params["w"]].astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_field_is_that_of_a_loop_by_hand(name):
    """Catches parts of other rows, wrong divisors, a part that weighs in twice, clipping or
    penalties at the wrong place, Adam's metric after the update, a rate without its factor, an
    anchor that lags or leads, an update compared with another than the one before, and parameters
    that measuring has moved.
    """
    case, (setup, training, seen) = CASES[name], ran(name)
    p, average, anchor, steps, columns = by_hand(case, setup, training)
    assert_array_equal(seen.steps, steps)
    assert_allclose(vector(seen.state.params), p, rtol=2e-5, atol=1e-6)
    assert_allclose(vector(seen.state.anchor), anchor, rtol=2e-5, atol=1e-6)
    if training.average:
        assert_allclose(vector(seen.state.average), average, rtol=2e-5, atol=1e-6)
    for field, expected in columns.items():
        found = seen.probes[:, Probe._fields.index(field)]
        assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=field)
        size = np.nanmax(np.abs(expected), initial=0)
        assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * size, err_msg=field)


def test_the_cases_reach_what_they_are_for():
    """Catches a table of cases in which nothing is clipped, empty, or compared with a neighbour."""
    fields = {name: i for i, name in enumerate(Probe._fields)}
    column = lambda name, field: ran(name)[2].probes[:, fields[field]]  # noqa: E731
    names = list(CASES)
    assert {(2, 0), (3, 4)} == set(
        zip(column(names[0], "rows_first"), column(names[0], "rows_second"), strict=True)
    )
    for name in (names[1], names[2]):
        assert set(column(name, "clipped")[~np.isnan(column(name, "clipped"))]) == {0, 1}
    assert {(20, 20), (10, 0)} == set(
        zip(column(names[2], "rows_first"), column(names[2], "rows_second"), strict=True)
    )
    for name, rows in ((names[3], 1), (names[4], 7), (names[7], 1)):
        assert set(column(name, "rows_first")) == {rows}
        assert np.mean(column(name, "rows_second") == rows) > 0.9
    for name in names:
        assert np.isfinite(column(name, "update_dot_before")).any() or name == names[6]
    ends = ~np.isnan(column(names[7], "square_update"))
    assert ends.mean() == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_measuring_changes_nothing_but_rounding(name):
    """Catches a measured step that skips, repeats or reweighs rows, and a program without
    measuring that carries it all the same.
    """
    case, measured = CASES[name], ran(name)[2]
    setup, _ = case.setup(None)
    without = follow(setup)
    assert setup.setting is None and without.state.anchor is None
    assert len(without.steps) == 0
    assert_allclose(measured.losses, without.losses, rtol=1e-4, atol=1e-6)
    for kept in ("params", "opt_state", "average", "gradient"):
        some, other = (jax.tree.leaves(getattr(s.state, kept)) for s in (measured, without))
        for a, b in zip(some, other, strict=True):
            assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", [list(CASES)[i] for i in (1, 2, 3)])
def test_probes_do_not_depend_on_how_an_epoch_is_divided_into_calls(name):
    """Catches a neighbour or an anchor that a call's end takes away; equal to the bit.

    Only the update before a call's first one is not known.
    """
    setup, training, whole = ran(name)
    before = [Probe._fields.index(k) for k in ("update_dot_before", "square_before")]
    others = np.delete(np.arange(len(Probe._fields)), before)
    for num_windows in (1, 5):
        parts = follow(setup, num_windows)
        for a, b in zip(jax.tree.leaves(parts.state), jax.tree.leaves(whole.state), strict=True):
            assert_array_equal(a, b)
        assert_array_equal(parts.steps, whole.steps)
        assert_array_equal(parts.losses, whole.losses)
        assert_array_equal(parts.probes[:, others], whole.probes[:, others])
        known = parts.probes[:, before[1]] > 0
        assert_array_equal(parts.probes[known][:, before], whole.probes[known][:, before])
        lost = np.flatnonzero(~known & (whole.probes[:, before[1]] > 0))
        begun = {whole.steps[i] for i in parts.firsts if i < len(whole.steps)}
        assert {whole.steps[i] for i in lost} <= begun
        assert num_windows == 1 or known.any() or training.microbatch_size


@pytest.mark.parametrize(("step_rows", "batch_rows"), [(8, 8), (1, 1), (4, 8), (1, 8)], ids=str)
def test_what_is_compared_has_keys_of_its_own(step_rows, batch_rows):
    """Catches dropout with one mask for both halves, which would pass for a signal, and a key
    that comes back in the next part, in the next window or at another step.
    """

    def drawn(model, batch, key):
        return jax.random.normal(key) * model["w"] + 0 * batch

    rows = np.zeros(96, "float32")
    accumulates = step_rows < batch_rows
    objective, params = build(drawn, {"w": np.float32(0)}, rows, lambda r: r, num_rows=step_rows)
    gradients = make_gradients(objective, step_rows, accumulates=accumulates)
    windows = split_buffer(0, 96, 96, batch_rows=batch_rows, step_rows=step_rows, buffer_rows=96)
    rows, windows = jax.tree.map(jnp.asarray, (rows, windows))
    state = State(params, None, None, None, None, jnp.int32(0), jnp.array([0, 1], "uint32"))

    @jax.jit
    def both(step, i):
        found = gradients.parts(state._replace(step=step), rows, windows, i)
        return found.first["w"] / found.rows_first, found.second["w"] / found.rows_second

    drawn_ones = np.array([
        both(np.int32(step), i) for step in range(32) for i in range(batch_rows // step_rows)
    ])  # fmt: skip
    assert len(set(drawn_ones.ravel())) == drawn_ones.size
    first, second = drawn_ones.T
    assert abs(np.mean(first * second)) < 4 / math.sqrt(len(first))  # the product has variance 1


def loops(every, **options):
    training = plain.training(batch_size=8, steps=30, measure_every=every, **options)
    setup = assemble(line, model(), table(), training)
    with setup.first_step.open_stream(Position()) as stream:
        block = next(iter(stream))
        state = jax.eval_shape(setup.initial_state, setup.params)
        program = jax.make_jaxpr(setup.first_step.run)(
            state, block.rows, block.windows, setup.knobs()
        )
    return str(program).count("while["), str(program)


@pytest.mark.parametrize("options", [{}, {"microbatch_size": 3}], ids=["plain", "parts"])
def test_without_measuring_the_program_has_one_loop(options):
    """Catches code for measuring that is compiled, or run, where it was turned off."""
    num, program = loops(None, **options)
    assert num == 1 and "optimization_barrier" not in program
    num, program = loops(128, **options)
    assert num == 3 and "optimization_barrier" in program
    assert "callback" not in program


def closed_form(width, noise, target):
    """tr Sigma / |G|^2 at w = 0 of y = x.a + noise, x standard normal: with the fourth moments
    E|x|^2 (x.a)^2 = (d + 2)|a|^2.
    """
    signal = float(target @ target)
    return ((width + 1) * signal + width * noise**2) / signal


def at_rest(data, loss=None, **options):
    """Measurements of a run whose parameters do not move."""

    def linear(model, batch, key):
        return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2

    options = {"optimizer": "sgd", "learning_rate": 1e-12, "measure_every": 1} | options
    width = 3
    result = plain.fit(
        loss or linear, {"w": np.zeros(width, "float32")}, data, patience=None, **options
    )
    assert np.abs(result.params["w"]).max() < 1e-6
    return result.measurements


TARGET, NOISE = np.array([1.0, -2.0, 2.0]) / 3, 0.5


def draw(rng, num):
    x = rng.normal(size=(num, 3))
    return x, x @ TARGET + NOISE * rng.normal(size=num)


@pytest.fixture(scope="module")
def rows():
    """A table, and tr Sigma and |G|^2 of the population that it is a sample of, seen from it."""
    x, y = draw(np.random.default_rng(2), 1200)
    g = -x * y[:, None]
    mean = g.mean(0)
    trace = ((g - mean) ** 2).sum() / (len(g) - 1)
    return (x, y), trace, mean @ mean - trace / len(g)


def assert_covers(m, truth, widest):
    assert m.lo < truth < m.hi, (str(m), truth)
    assert m.hi / m.lo < widest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "widest"),
    [
        ({"batch_size": 1, "epochs": 1}, 5),
        ({"batch_size": 2, "epochs": 1}, 5),
        ({"batch_size": 7, "epochs": 4}, 3),
        ({"batch_size": 64, "epochs": 20}, 2),
        ({"batch_size": "full", "epochs": 100}, 2),
        ({"batch_size": 60, "microbatch_size": 25, "epochs": 10, "seed": 1}, 2),
    ],
    ids=str,
)
def test_the_noise_scale_of_a_known_problem(options, widest, rows):
    """Catches every factor on the way from a window of rows to the result."""
    data, trace, signal = rows
    found = at_rest(data, **options)
    assert_covers(found["noise_scale"], trace / signal, widest)
    assert_covers(found["gradient_noise"], trace, widest)
    assert found["gradient_signal"].lo < signal < found["gradient_signal"].hi
    assert found["noise_scale"].unit == "examples"


@pytest.mark.slow
def test_the_noise_scale_of_drawn_rows_is_that_of_the_formula():
    """Catches what data and code may share: this truth knows neither."""
    found = at_rest(downslope.Generator(draw), batch_size=32, steps=512)
    assert_covers(found["noise_scale"], closed_form(3, NOISE, TARGET), 1.5)


@pytest.mark.slow
def test_examples_that_interact_are_measured_by_whole_batches(rows):
    """Catches a mean over a half taken for the loss of a batch, and a silent assumption."""

    def mean_linear(model, batch, key):
        return (0.5 * (batch[0] @ model["w"] - batch[1]) ** 2).mean()

    data, trace, signal = rows
    scale = at_rest(data, mean_linear, batch_size=20, epochs=8)["noise_scale"]
    assert_covers(scale, trace / 20 / signal, 3)  # in batches of 20
    assert scale.unit == "batches"
    assert any("interact" in flag for flag in scale.flags)


def jitter(rng, num):
    return rng.normal(size=(num, 10))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"optimizer": "sgd", "learning_rate": 0.04}, {"optimizer": "momentum", "momentum": 0.5,
     "learning_rate": 0.02}],
    ids=["sgd", "momentum"],
)  # fmt: skip
def test_a_quadratic_at_rest_has_the_temperature_that_was_prescribed(options):
    """Catches a factor in either temperature, and an equilibrium that is never found.

    Additive noise of variance 1 per example: T = eta / (2 B (1 - beta)).
    """

    def bowl(model, batch, key):
        return 0.5 * (model["w"] ** 2).sum() + batch @ model["w"]

    result = plain.fit(
        bowl, {"w": np.zeros(10, "float32")}, downslope.Generator(jitter), batch_size=4,
        steps=3000, measure_every=4, patience=None, **options,
    )  # fmt: skip
    found, rate = result.measurements, options["learning_rate"]
    truth = rate / (1 - options.get("momentum", 0)) / (2 * 4)
    assert_covers(found["temperature"], truth, 1.5)
    # a step that is not small heats by 1 / (1 - s), s its share of the largest stable one
    heat = 1 / (1 - rate / (2 * (1 + options.get("momentum", 0))))
    assert_covers(found["measured_temperature"], truth * heat, 1.5)
    ratio = found["equilibrium_ratio"]
    assert ratio.lo < 1 < ratio.hi
    assert ratio.value == pytest.approx(1, abs=0.3) and ratio.hi - ratio.lo < 1.4
    memory = options.get("momentum", -rate / 2)
    assert found["step_correlation"].value == pytest.approx(memory, abs=0.1)


def test_far_from_rest_the_equilibrium_ratio_says_so():
    """Catches a ratio of 1 for a run that is still on its way."""

    def slope(model, batch, key):
        return 0.05 * (model["w"] - 10.0) ** 2 + 0.01 * batch * model["w"]

    result = plain.fit(
        slope, {"w": np.float32(0)}, np.random.default_rng(0).normal(size=640), optimizer="sgd",
        learning_rate=0.02, batch_size=8, epochs=2, measure_every=1, patience=None,
    )  # fmt: skip
    ratio = result.measurements["equilibrium_ratio"]
    assert ratio.hi < 0.5 or ratio.lo > 1.5
    assert any("not equilibrated" in flag for flag in ratio.flags)
    assert jnp.isfinite(result.params["w"])
