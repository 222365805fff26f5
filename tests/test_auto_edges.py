"""Automatic runs with unusual losses, rows, settings and commands."""

from __future__ import annotations

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import downslope
from downslope import StopReason, Training
from downslope.cli import main
from downslope.config import EPOCHS
from downslope.data.stream import Position
from downslope.train.assemble import assemble
from downslope.train.defaults import begin_with
from downslope.train.horizon import Horizon
from downslope.train.preview import preview
from loops import Shared, line

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(1200, 4)).astype("float32")
Y = (X @ np.float32([1, -2, 0, 0]) > 0).astype("float32")
ZERO = {"w": np.zeros(4, "float32")}

LINEAR = ["--model", "linear"]


@Shared
def logistic(model, batch, key):
    score = batch[0] @ model["w"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


def decisions(result):
    return [r for r in result.history if r["event"] == "decided"]


@pytest.mark.slow
def test_l1_gives_exact_zeros_with_nothing_else_said():
    """Catches an average of the parameters, in which a weight that once moved is never 0."""
    assert begin_with(Training(l1=0.05), downslope.Arrays((X, Y))).average is None
    result = downslope.fit(logistic, ZERO, (X, Y), l1=0.05, steps=400)
    assert np.count_nonzero(result.params["w"]) == 2


@pytest.mark.slow
def test_a_loss_without_a_second_derivative_is_searched():
    """Catches a look for a quadratic that fails where training does not."""

    @jax.custom_vjp
    def score(x, w):
        shape = jax.ShapeDtypeStruct((x.shape[0],), jnp.float32)
        return jax.pure_callback(lambda a, b: np.asarray(a) @ np.asarray(b), shape, x, w)

    score.defvjp(lambda x, w: (score(x, w), x), lambda x, g: (None, x.T @ g))

    def loss(model, batch, key):
        return 0.5 * (score(batch[0], model["w"]) - batch[1]) ** 2

    for optimizer in ("auto", "sgd"):
        result = downslope.fit(loss, ZERO, (X, Y), optimizer=optimizer, steps=400)
        assert result.optimizer in ("nadam", "sgd")
        assert result.train_loss < 0.25


def test_buffers_of_wide_rows_hold_whole_batches():
    """Catches an order made for a size that the batch sizes do not divide."""
    wide = np.zeros((5000, 2500), "float32")
    training = Training(seed=1)
    setup = assemble(lambda m, b, k: (b @ m) ** 2, np.zeros(2500, "float32"), wide, training)
    assert setup.most_rows & (setup.most_rows - 1) == 0
    with setup.first_step.open_stream(Position()) as stream:
        seen = 0
        for block in stream:
            part = slice(block.windows.first, block.windows.first + block.windows.count)
            assert block.windows.ends[part].all()
            seen += int(block.windows.sizes[part].sum())
            stream.release(block)
            if block.ends_epoch:
                break
    assert seen == 5000


@pytest.mark.slow
def test_a_held_out_loss_that_is_not_finite_does_not_make_a_run_endless():
    """Catches a controller that waits for a held-out loss that never comes."""
    held_out = X[:50].copy()
    held_out[3, 0] = np.nan
    result = downslope.fit(logistic, ZERO, (X, Y), validation=(held_out, Y[:50]))
    assert result.stop_reason is StopReason.CONVERGED


@pytest.mark.slow
def test_a_cosine_comes_to_its_end():
    """Catches a cosine over a thousand epochs, and an end while its rate is still high."""
    plain = begin_with(Training(schedule="cosine"), downslope.Arrays((X, Y)))
    assert plain.epochs == EPOCHS
    options = {"learning_rate": 0.1, "batch_size": 300, "schedule": "cosine", "epochs": 30}
    result = downslope.fit(logistic, ZERO, (X, Y), validation=0.2, tolerance=0.5, **options)
    assert result.stop_reason is StopReason.FINISHED


@pytest.mark.slow
def test_rows_are_not_blamed_for_what_examples_do_together():
    """Catches naming the first rows of every batch that one row has spoilt."""
    x = X.copy()
    x[250, 1] = np.nan

    def loss(model, batch, key):
        centred = batch[0] - batch[0].mean(axis=0)
        return (centred @ model["w"] - batch[1]) ** 2

    result = downslope.fit(loss, ZERO, (x, Y), epochs=2, learning_rate=0.01, batch_size=64)
    assert result.stop_reason is StopReason.DIVERGED
    assert "250" not in decisions(result)[0]["because"]
    assert "row" not in decisions(result)[0]["because"]


@pytest.mark.parametrize("seed", [0, 4])
def test_claims_are_no_explosion(seed):
    """Catches a jump told from one quiet first batch: most targets are 0, a few are large."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20_000, 3)).astype("float32")
    y = ((rng.random(20_000) < 0.01) * rng.lognormal(0, 1, 20_000)).astype("float32")
    model = {"w": np.zeros(3, "float32")}
    result = downslope.fit(
        line, model, (x, y), optimizer="sgd", learning_rate=1e-6, steps=1500, patience=None,
        measure_every=None,
    )  # fmt: skip
    assert all(d["policy"] != "after_trouble" for d in decisions(result))


@pytest.mark.slow
def test_with_a_given_batch_an_interrupted_run_ends_where_the_whole_one_does(tmp_path):
    """Catches choices that a resumed run makes otherwise: counters or row losses left behind."""

    def fit(stop_at=None, **where):
        seen = []

        def read(record):
            seen.append(record["event"])
            if record["event"] == "evaluated" and seen.count("evaluated") == stop_at:
                os.kill(os.getpid(), signal.SIGINT)

        given = {"validation": 0.2, "batch_size": 64, "readers": (read,)}
        return downslope.fit(logistic, ZERO, (X, Y), **given, **where)

    whole = fit()
    for stop_at in (2, 5):
        run = tmp_path / f"run-{stop_at}"
        assert fit(stop_at, out=run).stop_reason is StopReason.INTERRUPTED
        again = fit(resume=run)
        assert again.num_steps == whole.num_steps
        np.testing.assert_array_equal(again.params["w"], whole.params["w"])


@pytest.mark.slow
def test_the_end_is_foreseen_where_it_is_given():
    """Catches a run of given length that ends at its full rate."""
    result = downslope.fit(logistic, ZERO, (X, Y), learning_rate=0.1, batch_size=64, epochs=20)
    (line,) = [r for r in result.history if r["event"] == "horizon"]
    horizon = Horizon(**{name: line[name] for name in ("step", "done", "per_step")})
    assert horizon.at(result.num_steps) == pytest.approx(1.0) and horizon.at(0) == 0


def test_the_preview_tells_where_the_search_begins():
    """Catches a rate that is not the first one of the search."""
    told = {d.knob: d.new for d in preview(logistic, ZERO, (X, Y), Training(optimizer="momentum"))}
    hessian = 0.25 * np.linalg.eigvalsh(X.T @ X / len(X))[-1]  # of the logistic loss at 0
    assert told["learning_rate"] == pytest.approx(2 * 0.1 / hessian, rel=0.2)
    assert preview(line, ZERO, (X, Y), Training())[0].new == "solve"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {f"x{i}": X[:, i] for i in range(4)}
    pq.write_table(pa.table({**columns, "y": np.where(Y > 0, "yes", "no")}), path)
    return str(path)


@pytest.mark.slow
def test_a_dry_run_trains_nothing(table, tmp_path, capsys, monkeypatch):
    """Catches a run folder that is made, and a plan without batch, rate, memory or time."""
    monkeypatch.chdir(tmp_path)
    assert main(["fit", table, "--target", "y", "--dry-run", "--json", *LINEAR]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {d["knob"] for d in found["decisions"]} == {"optimizer", "batch_size", "learning_rate"}
    assert {f["name"] for f in found["findings"]} == {"memory", "pace"}
    assert found["num_train"] + found["num_held_out"] == 1200
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_explain_says_every_decision(table, tmp_path, capsys):
    """Catches decisions that only the journal tells."""
    run = tmp_path / "run"
    assert main(["fit", table, "--target", "y", "--explain", "--out", str(run), *LINEAR]) == 0
    said = " ".join(capsys.readouterr().err.split())
    records = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    reasons = [r["because"] for r in records if r["event"] == "decided"]
    assert reasons and all(" ".join(reason.split()) in said for reason in reasons)


@pytest.mark.slow
def test_a_plan_measures_what_the_journal_lacks(table, tmp_path, capsys):
    """Catches answers that stay out although the steps could be timed."""
    run = tmp_path / "run"
    asked = ["fit", table, "--target", "y", "--model", "mlp", "--out", str(run), "--epochs", "5"]
    assert main(asked) == 0
    capsys.readouterr()
    assert main(["plan", str(run), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert answers["batch_size"]["value"]["value"] is None
    assert main(["plan", str(run), "--measure", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert "were timed" not in json.dumps(answers["batch_size"])  # of one size only, said before


@pytest.mark.slow
def test_a_solved_run_says_that_there_are_no_steps(tmp_path, capsys):
    """Catches advice to let a run make steps that never will."""
    path = tmp_path / "table.npz"
    np.savez(path, x=X, y=X @ np.float32([1, 2, 3, 4]))
    run = tmp_path / "run"
    assert main(["fit", str(path), "--target", "y", "--out", str(run), *LINEAR]) == 0
    for command in ("plan", "measure"):
        assert main([command, str(run)]) == 3
        assert "was solved" in capsys.readouterr().err
    assert main(["fit", "--resume", str(run)]) == 0
    assert "solved" in capsys.readouterr().out
    shutil.rmtree(run)
