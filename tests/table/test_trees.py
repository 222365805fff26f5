"""Trees beside the model: on the same rows, in the time allowed, and told when they are better."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import downslope
import plain
from downslope.report.run import RunReader
from downslope.report.sections.verdict import advice, comparison
from downslope.table import fit as table
from downslope.table.evidence import gather

ROWS = 3000
# its function has the same name
trees = importlib.import_module("downslope.table.evidence.trees")


@pytest.fixture
def gathered(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))

    def gathered(columns, seconds=5.0, **options):
        """The record of trees that may take these seconds, and the run."""
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table(columns), path)
        run = tmp_path / "run"
        found = table.fit(
            path, downslope.TableOptions(target="y", **options), plain.LINEAR,
            training=plain.training(steps=200, learning_rate=0.1, batch_size=64), out=run,
        )  # fmt: skip
        monkeypatch.setattr(trees, "RUN_SHARE", seconds / found.result.seconds)
        gather(run)
        lines = (run / "journal.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return next(r for r in records if r["event"] == "trees"), run, found

    return gathered


def _steps(rng):
    """A step function of a number and a category, which no linear model can follow."""
    x, kind = rng.uniform(-1, 1, ROWS), rng.integers(0, 5, ROWS)
    y = np.sign(np.sin(6 * x)) * (kind % 2 * 2 - 1) + 0.1 * rng.normal(size=ROWS)
    return {"x": x, "kind": np.array(list("abcde"))[kind]}, y


def test_trees_that_are_better_come_first_in_the_advice(gathered):
    """Catches trees without the categories, and a comparison on other rows."""
    columns, y = _steps(np.random.default_rng(0))
    record, run, found = gathered({**columns, "y": y + columns["x"]})
    assert record["reason"] is None and record["metric"] == "rmse"
    assert record["model"]["value"] == pytest.approx(
        found.result.validation["rmse"].value, rel=1e-4
    )
    assert record["trees"]["value"] < 0.3 < 0.8 < record["model"]["value"]
    assert record["gain_over_trees"]["hi"] < 0
    reader = RunReader(run)
    assert "gradient-boosted trees" in advice(reader).items[0][1]
    assert comparison(reader).rows[1][0] == "Gradient-boosted trees"


def test_classes_are_matched_by_name(gathered):
    """Catches probabilities in another order, and a class that training rows lack."""
    columns, y = _steps(np.random.default_rng(1))
    names = np.array(["zero", "plus", "minus"])[np.sign(np.round(y)).astype(int)]
    record, _, _ = gathered({**columns, "y": names}, task="classify")
    assert record["metric"] == "log_loss"
    assert record["trees"]["value"] < 0.2 < record["model"]["value"]


def test_trees_take_no_more_than_their_share(gathered, monkeypatch):
    """Catches a fit that is not stopped, and a run too short for it that waits all the same."""
    columns, y = _steps(np.random.default_rng(2))
    record, _, _ = gathered({**columns, "y": y}, seconds=0.1)
    assert "too short" in record["reason"]
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(trees.time, "perf_counter", lambda: next(clock))

    class Slow:
        n_iter_ = 0

        def set_params(self, max_iter):
            self.asked = max_iter
            return self

        def fit(self, *_, **__):
            self.n_iter_ = self.asked

    class Nothing:
        lookups = ()

    batch = downslope.data.stored.TableBatch(np.zeros((2, 1)), None, np.zeros(2), np.ones(2))
    assert (
        trees._fit(Slow(), batch, Nothing(), end=4) == 10 + 20
    )  # a tenth of a second each, 2 s left
    assert trees._fit(Slow(), batch, Nothing(), end=0) == 10
