"""The compiled loop: accumulation, batch sizes, a state of constant structure, one compilation."""

from __future__ import annotations

import functools
import itertools
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plain
from downslope.data.stream import Position
from downslope.step.loop import compile_steps
from downslope.step.optimizers import RULES
from downslope.train.assemble import assemble
from downslope.train.calls import CallLength, calls

ROWS = 100
pytestmark = pytest.mark.usefixtures("quick_compilation")


def loss(model, batch, key):
    return jax.nn.softplus(batch[0] @ model["w"] + model["b"]) - batch[1] * (
        batch[0] @ model["w"] + model["b"]
    )


def noisy(model, batch, key):
    return loss(model, batch, key) * jax.random.exponential(key)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    return x, (rng.random(ROWS) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype("float32")


def model(dtype="float32"):
    return {"w": np.zeros(4, dtype), "b": np.zeros((), dtype)}


def gradient(params, x, y):
    """Sum over rows of the logistic loss's gradient, in float64 NumPy."""
    residual = 1 / (1 + np.exp(-(x @ params["w"] + params["b"]))) - y
    return {"w": x.T @ residual, "b": residual.sum()}


def by_hand(batches, rate, batch_rows):
    params = model("float64")
    for x, y in batches:
        g = gradient(params, x.astype(float), y.astype(float))
        params = {k: params[k] - rate * g[k] / batch_rows for k in g}
    return params


def in_order(data, steps, batch_rows):
    """Batches of the first steps, cut by hand from the rows as the stream orders them."""
    setup = assemble(loss, model(), data, plain.training(batch_size=batch_rows, steps=steps))
    per_epoch, found = -(-ROWS // batch_rows), []
    with setup.first_step.open_stream(Position()) as stream:
        for block in stream:  # a small table is one block an epoch
            x, y = (np.array(a[:ROWS]) for a in block.rows)
            stream.release(block)
            parts = range(0, ROWS, batch_rows)
            found += [(x[i : i + batch_rows], y[i : i + batch_rows]) for i in parts]
            if len(found) >= steps:
                break
    assert len(found) % per_epoch == 0
    return found[:steps]


def run(setup, num_windows=None, num_steps=None):
    """The state after the whole run, in calls of a fixed number of windows."""
    state, pace = setup.start(), CallLength()
    pace.windows = num_windows or 10**6
    seen = []
    with setup.first_step.open_stream(Position()) as stream:
        for call in calls(stream, pace, num_steps or setup.num_steps):
            state, found = setup.first_step.run(state, call.block.rows, call.windows, setup.knobs())
            assert bool(found.healthy)
            seen.append(np.asarray(found.loss_sums)[call.windows.first :][: call.windows.count])
            if call.ends_block:
                stream.release(call.block)
    return jax.device_get(state), np.concatenate(seen)


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1, 16, 99, "full"])
def test_each_batch_size_is_the_same_loop_by_hand(batch_rows, data):
    """Catches a short last batch that is dropped, wrapped, or divided by its own rows."""
    size = ROWS if batch_rows == "full" else batch_rows
    steps = min(150, 3 * -(-ROWS // size))
    result = plain.fit(
        loss, model(), data, optimizer="sgd", learning_rate=0.25, batch_size=batch_rows, steps=steps
    )
    expected = by_hand(in_order(data, steps, size), 0.25, size)
    for k in expected:
        assert_allclose(result.params[k], expected[k], rtol=1e-5, atol=1e-6)


def test_full_batch_is_gradient_descent_whatever_the_order(data):
    """Catches a full batch that leaves rows out: this truth knows no stream."""
    found = plain.fit(
        loss, model(), data, optimizer="sgd", learning_rate=0.25, batch_size="full", steps=20
    ).params
    expected = by_hand([data] * 20, 0.25, ROWS)
    for k in expected:
        assert_allclose(found[k], expected[k], rtol=1e-5, atol=1e-6)


CLIPPED = {"optimizer": "adam", "learning_rate": 0.05, "steps": 12, "clip_norm": 0.2}


@pytest.fixture(scope="module")
def in_one_pass(data):
    """Runs without micro-batches, by batch size."""

    @functools.cache
    def train(batch_rows):
        return plain.fit(loss, model(), data, batch_size=batch_rows, **CLIPPED)

    return train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_rows", "micro"), [(32, 8), (32, 7), (32, 1), ("full", 33), ("full", 50)]
)
def test_accumulation_equals_the_gradient_in_one_pass(batch_rows, micro, data, in_one_pass):
    """Catches a mean of micro-batch means, a part counted twice where sizes do not divide,
    a sum that is not set back to zero, clipping of parts, batches that follow the parts.
    """
    whole = in_one_pass(batch_rows)
    parts = plain.fit(loss, model(), data, batch_size=batch_rows, microbatch_size=micro, **CLIPPED)
    assert parts.num_steps == whole.num_steps == 12
    assert parts.num_examples == whole.num_examples
    for k in whole.params:
        assert_allclose(parts.params[k], whole.params[k], rtol=2e-5, atol=2e-6)
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-5)


def test_an_epoch_at_fixed_parameters_sums_to_the_full_gradient(data):
    """Catches short batches that weigh more a row: 4 rows in the last of 7 batches."""
    rate = 2.0**-14
    found = plain.fit(
        loss, model(), data, optimizer="sgd", learning_rate=rate, batch_size=16, epochs=1
    ).params
    full = gradient(model("float64"), *(a.astype(float) for a in data))
    for k in full:
        assert_allclose(found[k] / -rate * 16, full[k], rtol=2e-3)


@pytest.mark.parametrize("name", RULES)
def test_a_step_keeps_structure_shapes_and_types(name, data):
    """Catches state that changes its form after the first step, which breaks scan and resume."""
    training = plain.training(
        optimizer=name, steps=3, batch_size=16, microbatch_size=8, average="ema",
        schedule="cosine", warmup_steps=2, clip_norm=1.0,
    )  # fmt: skip
    setup = assemble(loss, {"w": np.zeros(4, "float16"), "b": jnp.float32(0)}, data, training)
    before = jax.eval_shape(setup.initial_state, setup.params)
    block = next(iter(setup.first_step.open_stream(Position()).__enter__()))
    after, _ = jax.eval_shape(
        setup.first_step.run, before, block.rows, block.windows, setup.knobs()
    )
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for (path, a), b in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"batch_size": 8}, {"batch_size": 24, "microbatch_size": 7}], ids=["plain", "parts"]
)
def test_the_result_does_not_depend_on_how_an_epoch_is_divided_into_calls(options, data):
    """Catches a key, a sum or a schedule that begins anew with every call; equal to the bit."""
    training = plain.training(
        optimizer="adam", steps=40, average="polyak", schedule="cosine", l1=1e-3, **options
    )
    setup = assemble(noisy, model(), data, training)
    one, losses = run(setup)
    for num_windows in (1, 3):
        other, other_losses = run(setup, num_windows)
        assert_array_equal(other_losses, losses)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert_array_equal(a, b)
    assert int(one.step) == 40


@pytest.mark.slow
def test_every_step_and_every_part_has_a_key_of_its_own(data):
    """Catches a key folded by window instead of by step, or the same key for all parts."""
    for options in ({"batch_size": 50}, {"batch_size": 100, "microbatch_size": 50}):
        training = plain.training(optimizer="sgd", learning_rate=1e-6, epochs=3, **options)
        setup = assemble(
            lambda m, b, k: 0 * loss(m, b, k) + jax.random.uniform(k), model(), data, training
        )
        _, drawn = run(setup)
        assert len(drawn) == len(set(drawn.tolist())) == 6
        other = assemble(
            lambda m, b, k: 0 * loss(m, b, k) + jax.random.uniform(k), model(), data,
            plain.training(optimizer="sgd", epochs=3, seed=1, **options),
        )  # fmt: skip
        assert not set(drawn.tolist()) & set(run(other)[1].tolist())


def _compiled(caplog):
    names = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    return {name: names.count(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"microbatch_size": 5}], ids=["plain", "parts"])
def test_a_whole_run_compiles_its_step_once(options, data, caplog):
    """Catches shapes that follow the block, the epoch's last batch, or the call's length."""
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        result = plain.fit(
            loss, model(), data, batch_size=8, steps=77, seconds=60, validation=0.2,
            schedule="cosine", clip_norm=1.0, average="ema", **options,
        )  # fmt: skip
    assert result.num_steps == 77
    assert _compiled(caplog)["steps"] == 1
    assert _compiled(caplog)["outputs"] == 1  # evaluation


@pytest.mark.slow
def test_changed_knobs_do_not_compile_anew_and_are_obeyed(data):
    """Catches a learning rate baked into the program, whose change would do nothing."""
    training = plain.training(optimizer="momentum", batch_size=8, steps=13, clip_norm=1.0)
    setup = assemble(loss, model(), data, training)
    moved = []
    for rate, clip in itertools.product((0.0, 0.01, 0.02), (1e-3, 1e3)):
        knobs = setup.knobs()._replace(learning_rate=np.float32(rate), clip_norm=np.float32(clip))
        state = setup.start()
        with setup.first_step.open_stream(Position()) as stream:
            block = next(iter(stream))
            state, _ = setup.first_step.run(
                state, block.rows, block.windows._replace(count=1), knobs
            )
        moved.append(float(np.linalg.norm(state.params["w"])))
    assert setup.first_step.run._cache_size() == 1
    assert moved[0] == moved[1] == 0
    assert moved[4] == pytest.approx(2 * moved[2], rel=1e-5)
    assert moved[5] == pytest.approx(2 * moved[3], rel=1e-5)
    assert moved[2] < 1.1e-5 < moved[3]


@pytest.mark.slow
def test_the_loop_never_calls_the_host(data):
    """Catches a print, a callback or a check inside the loop, and inputs it cannot donate."""
    training = plain.training(batch_size=8, steps=30, average="ema")
    setup = assemble(loss, model(), data, training)
    with setup.first_step.open_stream(Position()) as stream:
        block = next(iter(stream))
        state, knobs = setup.start(), setup.knobs()
        program = str(jax.make_jaxpr(setup.first_step.run)(state, block.rows, block.windows, knobs))
        assert "while" in program
        assert "callback" not in program
        with jax.transfer_guard_device_to_host("disallow"):  # obeyed by accelerators only
            after, _ = setup.first_step.run(state, block.rows, block.windows, knobs)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))  # donated
        assert int(after.step) == len(block.windows.starts)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, {"microbatch_size": 3}], ids=["plain", "parts"])
def test_a_bad_window_ends_the_call(parts, data):
    """Catches windows that are run after a loss of NaN, and one that counts as done."""
    x, y = (a.copy() for a in data)
    training = plain.training(optimizer="adam", batch_size=6, epochs=1, **parts)
    setup = assemble(loss, model(), (x, y), training)
    with setup.first_step.open_stream(Position()) as stream:
        block = next(iter(stream))
        rows = tuple(a.copy() for a in block.rows)
        rows[0][31] = np.inf  # in the sixth batch
        _, seen = setup.first_step.run(setup.start(), rows, block.windows, setup.knobs())
    done = 5 * (2 if parts else 1)
    assert (bool(seen.healthy), int(seen.done)) == (False, done)
    assert np.isfinite(seen.loss_sums[:done]).all()
    assert not np.asarray(seen.loss_sums)[done + 1 :].any()  # never run


@pytest.mark.slow
def test_an_update_that_breaks_the_parameters_is_seen_at_the_call_s_end(data):
    """Catches a run that ends, or is saved, between a gradient of NaN and the next loss."""
    training = plain.training(optimizer="sgd", batch_size=10, steps=10)

    def breaking(model, batch, key):  # the square root's slope at 0 is infinite
        bad = batch[0][:, 0] > 50
        root = jnp.where(bad, jnp.sqrt(jnp.where(bad, 0 * model["b"], 1.0)), 0.0)
        return loss(model, batch, key) + root

    setup = assemble(breaking, model(), data, training)
    with setup.first_step.open_stream(Position()) as stream:
        block = next(iter(stream))
        rows = tuple(a.copy() for a in block.rows)
        rows[0][33, 0] = 60  # in the fourth batch: its loss is finite, its gradient is not
        windows = block.windows._replace(count=4)
        state, seen = setup.first_step.run(setup.start(), rows, windows, setup.knobs())
    assert np.isfinite(seen.loss_sums).all()
    assert not np.isfinite(state.params["b"])
    assert (bool(seen.healthy), int(seen.done)) == (False, 3)


def test_compile_steps_is_what_the_engine_runs():
    """Catches these tests looking at another loop than the one that trains."""
    assert compile_steps.__module__ == "downslope.step.loop"
    assert assemble.__globals__["compile_steps"] is compile_steps
