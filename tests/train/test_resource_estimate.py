"""Estimated resources of a run, compared with those that it needs."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import downslope
from downslope import Arrays, Generator, Training, UsageError
from downslope.check import FreeMemory
from downslope.data import blocks, order
from downslope.data.stream import Position, Ring
from downslope.train import resource_estimate
from downslope.train.assemble import assemble
from downslope.train.resource_estimate import COMPILER_BYTES, estimate_resources
from downslope.tree import empty_rows

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, WIDTH = 4000, 20


def loss(model, batch, key):
    return 0.5 * (jnp.tanh(batch["x"] @ model["a"]) @ model["b"] - batch["y"]) ** 2


def model(hidden=64):
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(WIDTH, hidden)).astype(np.float32),
        "b": np.zeros(hidden, np.float32),
    }


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(rows, WIDTH)).astype(np.float32),
        "y": rng.normal(size=rows).astype(np.float32),
    }


def look(training=None, **options):
    training = training or Training(batch_size=64, optimizer="adam", learning_rate=1e-3)
    return estimate_resources(loss, model(options.pop("hidden", 64)), data(), training, **options)


@pytest.mark.slow
def test_the_state_is_added_up_by_hand():
    (found,) = look(subjects=("memory",))
    parameters = 4 * (WIDTH * 64 + 64)
    told = found.values["bytes"]
    assert told["parameters"] == 2 * parameters
    assert told["optimizer state"] == 2 * parameters + 4  # two moments and a count
    assert told["the compiler"] == COMPILER_BYTES
    assert found.severity == "fine" and found.values["largest_microbatch_size"] == ROWS


class Stored:
    """Rows that are read, as from a file."""

    def __init__(self, tree, shuffled):
        self._rows = Arrays(tree, shuffled=shuffled)

    def __getattr__(self, name):
        return getattr(self._rows, name)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("fits", [False, True])
def test_rows_read_ahead_are_those_that_the_stream_holds(shuffled, in_memory, fits, monkeypatch):
    """Catches buffers left out: those of rows in memory, whose last buffer is copied even where
    others are views, and that of a file whose rows are mixed.
    """
    if not fits:  # into one buffer whose rows are mixed
        monkeypatch.setattr(order, "MIXED_BYTES", 1 << 10)
    nothing_compiled = SimpleNamespace(memory_analysis=lambda: None)
    monkeypatch.setattr(resource_estimate, "_compiled", lambda *_: nothing_compiled)
    source = (Arrays if in_memory else Stored)(data(), shuffled=shuffled)
    training = Training(batch_size=64, optimizer="sgd", learning_rate=0.1, epochs=9)
    asked = {"subjects": ("memory",), "free": FreeMemory(1 << 30, "host")}
    (found,) = estimate_resources(loss, model(), source, training, **asked)
    made = []
    monkeypatch.setattr(blocks, "empty_rows", lambda *args: made.append(1) or empty_rows(*args))
    with assemble(loss, model(), source, training).first_step.open_stream(Position()) as stream:
        held = list(itertools.islice(stream, Ring.SIZE))  # and none given back
    size = max(sum(part.nbytes for part in block.rows.values()) for block in held)
    assert found.values["bytes"]["rows read ahead"] == len(made) * size


@pytest.mark.slow
def test_activations_grow_with_the_batch_and_the_optimizer_counts():
    def told(batch_size, optimizer):
        training = Training(batch_size=batch_size, optimizer=optimizer, learning_rate=1e-3)
        return look(training, subjects=("memory",))[0].values["bytes"]

    small, large = told(64, "sgd"), told(2048, "sgd")
    part = "activations and gradients"
    # of one row tanh has 64 numbers, kept for the way back
    assert large[part] - small[part] > 0.5 * (2048 - 64) * 64 * 4
    assert small["optimizer state"] < told(64, "momentum")["optimizer state"]


@pytest.mark.slow
def test_what_does_not_fit_is_an_error_with_a_microbatch_that_would():
    free = FreeMemory(COMPILER_BYTES + (8 << 20), "host")
    training = Training(batch_size=4000, microbatch_size=4000, optimizer="sgd", learning_rate=0.1)
    (found,) = look(training, hidden=1024, subjects=("memory",), free=free)
    assert found.severity == "error"
    fits = found.values["largest_microbatch_size"]
    assert fits is not None and 1 < fits < 4000 and f"--microbatch-size {fits}" in found.remedy
    again = Training(batch_size=4000, microbatch_size=fits, optimizer="sgd", learning_rate=0.1)
    (found,) = look(again, hidden=1024, subjects=("memory",), free=free)
    assert found.severity != "error"


@pytest.mark.slow
def test_the_time_of_an_epoch_is_that_of_the_run():
    """Within a factor of 4, since other work shares the cores."""
    options = {"batch_size": 8, "optimizer": "sgd", "learning_rate": 1e-4, "schedule": "constant"}
    rows = data(20_000)
    (found,) = estimate_resources(
        loss, model(), rows, Training(epochs=1, **options), subjects=("pace",)
    )
    assert found.values["num_steps"] == found.values["num_windows"] == 2500

    def seconds(epochs):
        return downslope.fit(loss, model(), rows, epochs=epochs, **options).seconds

    an_epoch = (seconds(22) - seconds(2)) / 20  # without compiling
    assert an_epoch / 4 < found.values["epoch_seconds"] < 4 * an_epoch


def test_other_subjects_and_generators_are_refused():
    with pytest.raises(UsageError, match="subjects must be"):
        look(subjects=("speed",))
    source = Generator(lambda rng, num_rows: data(num_rows))
    with pytest.raises(UsageError, match="generator"):
        estimate_resources(
            loss, model(), source, Training(steps=10, batch_size=8, learning_rate=0.1)
        )


CHILD = """
import numpy as np, jax, jax.numpy as jnp, downslope, sys
from downslope.train.resource_estimate import estimate_resources
from downslope import Training
H, B, N, P = 1500, 2048, 8192, 100
rng = np.random.default_rng(0)
model = {"a": rng.normal(size=(P, H)), "b": rng.normal(size=(H, H)) / H, "c": np.zeros(H)}
model = {k: v.astype("float32") for k, v in model.items()}
data = {"x": rng.normal(size=(N, P)).astype("float32"), "y": rng.normal(size=N).astype("float32")}
def loss(model, batch, key):
    h = jnp.tanh(jnp.tanh(batch["x"] @ model["a"]) @ model["b"])
    return (h @ model["c"] - batch["y"]) ** 2
options = dict(batch_size=B, optimizer="adam", learning_rate=1e-4, schedule="constant", epochs=1)
def status(name):
    return next(int(l.split()[1]) << 10 for l in open("/proc/self/status") if l.startswith(name))
jax.jit(lambda a: (a @ a).sum())(jnp.ones((8, 8))).block_until_ready()
if sys.argv[1] == "told":
    asked = {"subjects": ("memory",), "holds_out": False}
    found, = estimate_resources(loss, model, data, Training(**options), **asked)
    print(found.values["total_bytes"])
else:
    before = status("VmRSS")
    downslope.fit(loss, model, data, **options)
    print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_within_a_third_of_what_a_run_takes():
    told, seen = (
        int(subprocess.run([sys.executable, "-c", CHILD, what], capture_output=True, text=True,
                           check=True, timeout=120).stdout)
        for what in ("told", "seen")
    )  # fmt: skip
    assert 0.67 < told / seen < 1.5, (told / 2**20, seen / 2**20)
