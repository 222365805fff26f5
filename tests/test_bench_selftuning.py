"""The benchmark of self-tuning has sound workloads, counts correctly and resumes."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("pima mlp", "poisson", "demand gru")  # to load and to trace
COSTLY = (
    "flights linear", "digits mixer", "stops mlp", "movielens factors", "words",
    "pulse autoencoder", "diamonds mlp", "mnist cnn", "flights mlp", "transformer",
    "transformer 3M",
)  # fmt: skip


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def loaded(name):
    from benchmarks.selftuning.workloads import load, missing

    if missing(name):
        pytest.skip(f"{name} needs {missing(name)}")
    try:
        return load(name)
    except ModuleNotFoundError as error:  # pandas, of an optional package
        pytest.skip(str(error))


def check(name):
    """Losses of one row each, gradients in every parameter, and three parts that share no row."""
    from benchmarks.selftuning.workloads.workload import num_rows, take

    import downslope

    workload = loaded(name)
    assert workload.name == name
    generates = isinstance(workload.train, downslope.Generator)
    rows = (
        workload.train.batch(seed=0, number=0, num_rows=8)
        if generates
        else take(workload.train, slice(0, 8))
    )
    key, model = jax.random.key(0), jax.tree.map(jnp.asarray, workload.model(0))

    def mean(model, rows):
        losses = workload.loss(model, rows, key)
        assert losses.shape == (8,)
        return losses.mean()

    gradient = jax.jit(jax.grad(mean))(model, rows)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    for part in (workload.validation, workload.test):
        assert num_rows(part) >= 100
        loss = workload.test_loss or workload.loss
        assert jax.eval_shape(loss, model, take(part, slice(0, 8)), key).shape == (8,)
    parts = [workload.validation, workload.test] + ([] if generates else [workload.train])
    seen = [first_column(part) for part in parts]
    if name in CHEAP[1:]:  # rows of the others may be the same by chance
        assert not np.intersect1d(seen[0], seen[1]).size


def first_column(rows):
    first = rows[0] if isinstance(rows, tuple) else rows
    return np.asarray(first, float).reshape(len(first), -1) @ np.sqrt(
        np.arange(1, first[0].size + 1)
    )


@pytest.mark.parametrize("name", CHEAP)
def test_a_workload_has_a_loss_a_row_and_parts_of_their_own(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_every_other_workload_has_too(name):
    check(name)


def test_all_workloads_are_tested():
    from benchmarks.selftuning.workloads import WORKLOADS

    assert set(WORKLOADS) == {*CHEAP, *COSTLY}
