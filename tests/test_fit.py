"""Whole runs: compared with optima found otherwise, for all kinds of models and data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.svm import LinearSVC

import downslope
import plain
from downslope import UsageError, losses
from loops import line

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _standard(a):
    return (a - a.mean(0)) / a.std(0)


def _zeros(width=3):
    return {"w": np.zeros(width, "float32")}


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    return x, x @ np.float32([1, -2, 3]) + 0.1 * rng.normal(size=200).astype("float32")


@pytest.mark.slow
def test_ridge_by_averaged_sgd_reaches_the_closed_form():
    """Catches an average of the wrong iterates, an L2 off by a factor, unequal weights of rows.

    Tolerance: 3e-3 of the weights' norm, where the last iterate alone is 1e-2 away.
    """
    x, y = (_standard(a) for a in load_diabetes(return_X_y=True))
    truth = np.linalg.solve(x.T @ x / len(y) + 0.1 * np.eye(10), x.T @ y / len(y))
    options = {"optimizer": "sgd", "learning_rate": 0.03, "batch_size": 16, "epochs": 200}
    error = {}
    for average in ("polyak", None):
        result = plain.fit(
            line, _zeros(10), (x, y), l2=0.1, average=average, average_from_step=1000, **options
        )
        error[average] = np.linalg.norm(result.params["w"] - truth) / np.linalg.norm(truth)
    assert error["polyak"] < 3e-3
    assert error[None] > 2 * error["polyak"]


@pytest.mark.slow
def test_hinge_svm_reaches_the_objective_of_liblinear():
    """Catches a wrong hinge or L2: the objective has to come within 0.1 % of the optimum."""
    x, y = load_breast_cancer(return_X_y=True)
    x = np.c_[_standard(x), np.ones(len(y))]  # the constant is penalized like the rest, in both
    l2, sign = 0.01, 2 * y - 1

    def objective(w):
        return np.maximum(0, 1 - sign * (x @ w)).mean() + l2 / 2 * w @ w

    machine = LinearSVC(
        loss="hinge", C=1 / (len(y) * l2), fit_intercept=False, tol=1e-9, max_iter=10**7
    )
    best = objective(machine.fit(x, y).coef_[0])
    result = plain.fit(
        lambda m, b, k: losses.hinge(b[0] @ m["w"], b[1]), _zeros(31), (x, y), l2=l2,
        optimizer="sgd", learning_rate=0.1, schedule="cosine", batch_size=16, epochs=400,
    )  # fmt: skip
    assert -1e-6 < objective(result.params["w"].astype(float)) / best - 1 < 1e-3


@pytest.mark.slow
def test_sorted_by_label_trains_as_well_as_shuffled():
    """Catches batches of one class, and a held-out share that is cut from the end."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    model = {"w": np.zeros((64, 10), "float32"), "b": np.zeros(10, "float32")}

    def loss(model, batch, key):
        return losses.softmax(batch[0] @ model["w"] + model["b"], batch[1])

    accuracy = {}
    mixed = rng.permutation(len(y))
    test, train = mixed[:400], mixed[400:]
    for name, rows in {
        "shuffled": train, "sorted": train[np.argsort(y[train], kind="stable")],
    }.items():  # fmt: skip
        fitted = plain.fit(
            loss, model, (x[rows], y[rows]), learning_rate=0.01, batch_size=32, epochs=6,
            validation=0.1,
        )  # fmt: skip
        scores = x[test] @ fitted.params["w"] + fitted.params["b"]
        accuracy[name] = (scores.argmax(1) == y[test]).mean()
        assert fitted.validation["loss"].value < 0.35
    assert accuracy["shuffled"] > 0.93
    assert abs(accuracy["sorted"] - accuracy["shuffled"]) < 0.02  # about 2 standard errors


class Pair(NamedTuple):
    w: Any
    rest: Any


MODELS = {
    "dict": ({"w": np.zeros(3, "float32"), "n": 3, "name": "x"}, lambda m: m["w"]),
    "list": ([np.zeros(3, "float32"), np.arange(4), None], lambda m: m[0]),
    "named tuple": (Pair(np.zeros(3, "float32"), ("a", np.array([True]))), lambda m: m.w),
    "array": (np.zeros(3, "float32"), lambda m: m),
    "jax array": ((jnp.zeros(3),), lambda m: m[0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_any_tree_of_arrays_is_trained_and_the_rest_kept(name, small):
    """Catches a model that comes back as another type, or without its static leaves."""
    model, weights = MODELS[name]

    def loss(model, batch, key):
        return line({"w": weights(model)}, batch, key)

    options = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 20}
    result = plain.fit(loss, model, small, epochs=10, validation=0.1, **options)
    assert_allclose(weights(result.params), [1, -2, 3], atol=0.1)
    assert type(result.params) is type(model) or name == "array"
    assert jax.tree.structure(result.params) == jax.tree.structure(model)
    kept = [
        (a, b)
        for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(model), strict=True)
        if getattr(b, "dtype", None) != np.float32
    ]
    for a, b in kept:
        assert_array_equal(a, b)
    assert not np.any(weights(model))  # the caller's own arrays are left alone


@pytest.mark.slow
def test_equinox_modules_are_trained(small):
    """Catches a module whose functions and integers are lost on the way."""
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, "scalar", 8, 1, key=jax.random.key(0))

    def loss(model, batch, key):
        return 0.5 * (jax.vmap(model)(batch[0]) - batch[1]) ** 2

    result = plain.fit(loss, model, small, learning_rate=0.01, epochs=30, batch_size=20)
    assert isinstance(result.params, eqx.nn.MLP)
    assert result.params.activation is model.activation
    before = float(loss(model, small, None).mean())
    after = float(loss(result.params, small, None).mean())
    assert after < before / 5
    assert result.train_loss == pytest.approx(after, rel=0.5)


@pytest.mark.slow
def test_data_may_be_any_tree_and_of_any_number_type(small):
    """Catches rows of integers turned into floats, or dicts whose columns change places."""
    x, y = small
    data = {"x": x.astype("float64"), "part": (y.astype("float16"), np.arange(200))}

    def loss(model, batch, key):
        assert batch["x"].dtype == jnp.float32
        assert batch["part"][0].dtype == jnp.float16
        assert batch["part"][1].dtype == jnp.int32
        return line(model, (batch["x"], batch["part"][0]), key)

    result = plain.fit(
        loss, _zeros(), data, optimizer="sgd", learning_rate=0.1, epochs=10, batch_size=20
    )
    assert_allclose(result.params["w"], [1, -2, 3], atol=0.1)


@pytest.mark.slow
def test_a_generator_of_batches_is_trained_for_the_steps_asked():
    """Catches the same batch drawn again and again, and epochs where there are none."""

    def draw(rng, num):
        x = rng.normal(size=(num, 3))
        return x, x @ [1, -2, 3]

    source = downslope.Generator(draw)
    result = plain.fit(
        line, _zeros(), source, optimizer="sgd", learning_rate=0.1, batch_size=16, steps=200
    )
    assert_allclose(result.params["w"], [1, -2, 3], atol=1e-3)
    assert (result.num_steps, result.num_examples, result.num_epochs) == (200, 3200, None)
    with pytest.raises(UsageError, match="no epochs"):
        downslope.fit(line, _zeros(), source, epochs=1)
    with pytest.raises(UsageError, match="no full batch"):
        downslope.fit(line, _zeros(), source, steps=1, batch_size="full")


@pytest.mark.slow
def test_a_scalar_loss_is_trained_but_not_accumulated(small):
    """Catches the sum of a scalar over rows, B times too steep, and parts of a batch loss."""

    def loss(model, batch, key):
        return line(model, batch, key).mean()

    options = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 20, "steps": 25}
    whole = plain.fit(loss, _zeros(), small, **options)
    rows = plain.fit(line, _zeros(), small, **options)
    assert_allclose(whole.params["w"], rows.params["w"], rtol=1e-5)
    with pytest.raises(UsageError, match="cannot be accumulated"):
        downslope.fit(loss, _zeros(), small, microbatch_size=5, **options)


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        (lambda m, b, k: line(m, b, k)[:, None], {}, "one number per example"),
        (lambda m, b, k: jnp.zeros((5,)), {}, "one number per example"),
        (line, {"steps": 0}, "steps must be at least 1; got 0"),
        (line, {"learning_rate": -1.0}, "learning_rate must be"),
        (line, {"batch_size": 8, "microbatch_size": 9}, "microbatch_size must be at most"),
        (line, {"out": "a", "resume": "b"}, "out and resume exclude each other"),
    ],
)
def test_wrong_arguments_are_refused_in_oneline(loss, options, words, small, tmp_path):
    """Catches an error after costly work, from the middle of a trace, or over many lines."""
    with pytest.raises(UsageError, match=words) as caught:
        downslope.fit(loss, _zeros(), small, **options)
    assert "\n" not in str(caught.value)


def test_a_failed_start_leaves_no_folder(tmp_path, small):
    """Catches a half-made run that the next attempt finds in its way."""

    def failing(model, batch, key):
        if batch[0].shape[0] == 16:
            raise RuntimeError("no such thing")
        return line(model, batch, key)

    with pytest.raises(RuntimeError, match="no such thing"):
        downslope.fit(failing, _zeros(), small, batch_size=16, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _noisy(model, batch, key):
    return line(model, batch, key) * (1 + jax.random.uniform(key))


def _noisy_run():
    """Number of devices, weights, updates and held-out loss of a run whose key matters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ [1, -2, 3] + 0.1 * rng.normal(size=200)
    result = plain.fit(
        _noisy, {"w": np.zeros(3)}, (x, y), epochs=4, validation=0.2, batch_size=16, average="ema"
    )
    weights, loss = result.params["w"], result.validation["loss"].value
    return [len(jax.devices()), str(weights.dtype), weights.tolist(), result.num_steps, loss]


@pytest.mark.slow
def test_four_devices_give_the_same_result():
    """Catches state spread over devices that were never asked for, or a key for each of them."""
    code = "import json, test_fit; print(json.dumps(test_fit._noisy_run()))"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    variables = {"XLA_FLAGS": flags, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, alone = json.loads(done.stdout), _noisy_run()
    assert (alone[0], found[0]) == (1, 4)
    assert found[1] == alone[1] == "float32" and found[3] == alone[3] == 40
    assert_allclose(found[2], alone[2], rtol=1e-6)
    assert found[4] == pytest.approx(alone[4], rel=1e-6)


@pytest.mark.slow
def test_float64_is_kept_where_jax_has_it():
    """Catches float32 knobs that drag parameters down with them, or data narrowed before."""
    with jax.enable_x64(True):
        found = _noisy_run()
    assert found[1] == "float64"
    assert_allclose(found[2], _noisy_run()[2], rtol=0.2)  # other random numbers, the same road
    assert float(np.float32(found[2][0])) != found[2][0]


@pytest.mark.slow
def test_a_printed_result_is_short(small):
    """Catches the parameters of a large model on the screen."""
    limits = {"epochs": 2, "learning_rate": 0.01, "validation": 0.2}
    found = downslope.fit(line, _zeros(), small, **limits)
    told = str(found)
    assert told.startswith("finished after ") and "held out:\n  loss: " in told
    assert len(told.splitlines()) < 8 and "array" not in told
    assert repr(found) == f"<Result: finished after {found.num_steps:,} updates>"
