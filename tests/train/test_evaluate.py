"""Evaluation: every held-out row once, whatever the windows, and none that is padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import downslope
import plain
from downslope.choose.evaluations import SAMPLE_ROWS
from downslope.data import order
from downslope.data.arrays import Arrays
from downslope.data.stream import Position
from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.metrics import Results
from downslope.objective import build
from downslope.train import evaluate
from downslope.train.assemble import assemble
from downslope.train.evaluate import (
    SHARED_ROWS,
    WINDOW_ROWS,
    LossScorer,
    make_evaluator,
    make_evaluators,
)

PARAMS = {"w": np.float32([1, -2, 0.5])}


def loss(model, batch, key):
    return jnp.square(batch[0] @ model["w"] - batch[1])


def _data(num_rows):
    rng = np.random.default_rng(num_rows)
    x = rng.normal(size=(num_rows, 3)).astype("float32")
    return x, rng.normal(size=num_rows).astype("float32") + np.arange(num_rows, dtype="float32")


def _losses(x, y):
    return (x.astype(float) @ PARAMS["w"] - y) ** 2


def _evaluator(rows, function=loss, *, step_rows=None, scorer=None):
    source = Arrays(rows)
    objective, _ = build(function, PARAMS, source.read(0, 1), source.unpack)
    return make_evaluator(objective, scorer or LossScorer(), source, step_rows)


@pytest.fixture
def small_buffers(monkeypatch):
    """Buffers of 48 rows of 16 bytes, so that a few rows make several blocks."""
    monkeypatch.setattr(order, "BUFFER_BYTES", 48 * 16)


@pytest.mark.parametrize(
    ("num_rows", "step_rows"),
    [*((n, 16) for n in (1, 15, 16, 17, 48, 49, 100)), (WINDOW_ROWS + 1, None), (10, None)],
)
def test_the_loss_is_the_mean_over_every_row_once(num_rows, step_rows, small_buffers):
    """Catches a mean of window means, rows of padding that count, a last window left out, and one
    longer than the table.
    """
    x, y = _data(num_rows)
    found = _evaluator((x, y), step_rows=step_rows)(PARAMS)
    assert found["loss"].value == pytest.approx(_losses(x, y).mean(), rel=1e-5)
    assert found["loss"].num_examples == num_rows
    assert found.losses == pytest.approx(_losses(x, y), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("num_rows", [200, 600, 768, SHARED_ROWS + 1])
def test_few_held_out_rows_share_the_program_of_their_samples(num_rows):
    """Catches a program compiled at the end for the rows that a sample's would do for, its
    padding counted, and a million rows in small calls.
    """
    x, y = _data(num_rows)
    source = Arrays((x, y))
    objective, _ = build(loss, PARAMS, source.read(0, 1), source.unpack)
    every_row, of_sample = make_evaluators(objective, LossScorer(), source, seed=0)
    if num_rows > SAMPLE_ROWS:
        of_sample(SAMPLE_ROWS)(PARAMS)
    compiled = every_row.compile_seconds
    assert bool(compiled) is (SAMPLE_ROWS < num_rows <= SHARED_ROWS)
    assert every_row(PARAMS).losses == pytest.approx(_losses(x, y), rel=1e-4, abs=1e-4)
    assert (every_row.compile_seconds == compiled) is bool(compiled)


@pytest.mark.parametrize("num_rows", [10, 16, 40, 100])
def test_a_loss_of_whole_windows_is_averaged_over_whole_windows(num_rows, small_buffers):
    """Catches a short window's loss, of examples that interact with rows of padding."""

    def spread(model, batch, key):
        return jnp.var(batch[1])

    x, y = _data(num_rows)
    size = min(16, num_rows)
    found = _evaluator((x, y), spread, step_rows=16)(PARAMS)
    windows = [y[i : i + size] for i in range(0, num_rows - size + 1, size)]
    assert found["loss"].value == pytest.approx(np.mean([w.var() for w in windows]), rel=1e-5)
    assert found["loss"].num_examples == len(windows)


class Largest:
    """A scorer of our own: the largest residual, and the rows it saw."""

    def score(self, model, batch, losses):
        return {"residual": batch[0] @ model["w"] - batch[1], "losses": losses, "rows": batch[1]}

    def accumulator(self):
        return self

    def __init__(self):
        self.rows, self.largest = [], 0.0

    def add(self, residual, losses, rows):
        assert_allclose(losses, residual**2, rtol=1e-5)
        self.rows += rows.tolist()
        self.largest = max(self.largest, float(np.abs(residual).max()))

    def result(self):
        return Results({"largest": Estimate(value=self.largest, unit="", method="max")})


def test_a_scorer_sees_every_row_in_order(small_buffers):
    """Catches outputs of several windows that are stacked the wrong way round, or padded."""
    x, y = _data(100)
    scorer = Largest()
    found = _evaluator((x, y), step_rows=16, scorer=scorer)(PARAMS)
    assert scorer.rows == y.tolist()
    assert found["largest"].value == pytest.approx(np.sqrt(_losses(x, y).max()), rel=1e-5)


class Stored:
    """Rows that are read, as from a file."""

    def __init__(self, rows):
        self._rows, self.num_reads = Arrays(rows), 0

    def __getattr__(self, name):
        return getattr(self._rows, name)

    def read(self, *place):
        self.num_reads += 1
        return self._rows.read(*place)


@pytest.mark.parametrize("kept_bytes", [0, evaluate.KEPT_BYTES])
def test_rows_of_a_file_are_the_same_at_every_evaluation(kept_bytes, small_buffers, monkeypatch):
    """Catches rows kept in buffers that others are read into, a small file read anew each time,
    and a large one kept.
    """
    monkeypatch.setattr(evaluate, "KEPT_BYTES", kept_bytes)
    x, y = _data(500)
    source = Stored((x, y))
    objective, _ = build(loss, PARAMS, source.read(0, 1), source.unpack)
    found = make_evaluator(objective, LossScorer(), source, 16)
    reads = []
    for _ in range(3):
        assert found(PARAMS).losses == pytest.approx(_losses(x, y), rel=1e-4, abs=1e-4)
        reads.append(source.num_reads)
    assert (reads[1] == reads[0]) is (reads[2] == reads[1]) is bool(kept_bytes)


def test_evaluations_differ_by_the_model_only():
    """Catches a fresh key for every evaluation, whose noise would pass for a better model."""

    def noisy(model, batch, key):
        return loss(model, batch, key) * jax.random.exponential(key)

    evaluate = _evaluator(_data(40), noisy)
    assert evaluate(PARAMS)["loss"].value == evaluate(PARAMS)["loss"].value
    other = {"w": PARAMS["w"] + 1}
    assert evaluate(PARAMS)["loss"].value != evaluate(other)["loss"].value


def test_a_row_of_no_finite_loss_gives_a_reason_and_no_number():
    """Catches a mean over the rows that happen to be finite."""
    x, y = _data(40)
    y[7] = np.inf
    found = _evaluator((x, y))(PARAMS)
    assert "loss" not in found
    assert "1 of 40 rows" in found.reasons["loss"]


def test_a_share_held_out_is_not_trained_on():
    """Catches rows on both sides, rows on neither, and a split that ignores the seed."""
    x, y = _data(50)  # no two targets are equal: they name the rows
    held_out = {}
    for seed in (0, 1):
        scorer = Largest()
        training = plain.training(epochs=1, batch_size=8, seed=seed)
        setup = assemble(loss, PARAMS, (x, y), training, validation=0.3, scorer=scorer)
        with setup.first_step.open_stream(Position()) as stream:
            trained = [v for block in stream for v in block.rows[1][: setup.num_rows].tolist()]
        setup.evaluate(PARAMS)
        assert len(scorer.rows) == 15
        assert sorted(trained + scorer.rows) == sorted(y.tolist())
        held_out[seed] = set(scorer.rows)
    assert held_out[0] != held_out[1]


@pytest.mark.parametrize(
    "validation", [(np.zeros((5, 2)), np.zeros(5)), (np.zeros((5, 3)),), 0.0, 1.0, 1, -0.5]
)
def test_held_out_rows_unlike_the_data_are_refused(validation):
    """Catches an error from the middle of a trace, after the first epoch was paid for."""
    with pytest.raises(UsageError, match=r"validation|data must be arrays"):
        downslope.fit(loss, PARAMS, _data(20), validation=validation)


def test_an_array_without_columns():
    """Catches a division by the nothing that a row holds: a table may have text and no numbers."""
    x = np.arange(40, dtype="float32")

    def loss(model, batch, key):
        return (batch["y"] - model["a"]) ** 2 + batch["none"].sum(-1)

    data = {"y": x, "none": np.zeros((40, 0), "float32")}
    found = plain.fit(
        loss, {"a": np.float32(0)}, data, optimizer="sgd", learning_rate=0.1, batch_size=10,
        epochs=5, validation=0.25,
    )  # fmt: skip
    assert found.validation["loss"].value > 0


def test_held_out_rows_have_a_loss_of_their_own() -> None:
    """Catches dropout, or labels that are smoothed, in the loss that decides."""
    rows = _data(300)

    def noisy(model, batch, key):
        return loss(model, batch, key) + jax.random.uniform(key, batch[1].shape) * 100

    seen = {}
    for name, own in (("as trained", None), ("own", loss)):
        result = downslope.fit(
            noisy, PARAMS, rows, validation=rows, validation_loss=own, steps=1,
            learning_rate=1e-9, batch_size=10,
        )  # fmt: skip
        seen[name] = float(result.validation["loss"])
    assert seen["own"] == pytest.approx(_losses(*rows).mean(), rel=1e-4)
    assert seen["as trained"] > seen["own"] + 40


@pytest.mark.parametrize(("own", "words"), [
    (lambda m, b, k: loss(m, b, k)[:, None], "validation_loss must return one number per example"),
    (lambda m, b, k: loss(m, b, k).mean(), "both return one number per example, or both a scalar"),
])  # fmt: skip
def test_a_held_out_loss_has_the_shape_of_the_loss(own, words) -> None:
    with pytest.raises(UsageError, match=words):
        downslope.fit(loss, PARAMS, _data(20), validation=_data(10), validation_loss=own, steps=1)
